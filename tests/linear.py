"""Whether the time that something takes grows with the size of its input, and no faster."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

#: How much longer the long input is, and how much longer it may take: a square would take 64 times as long.
LONGER, SLOWER = 8, 24
_WORTH_A_LOOK = 0.004  # seconds of CPU


def grows_with_its_square(work: Callable[[str], Any], text: Callable[[int], str], size: int = 4000) -> bool:
    """Whether ``work`` takes more than proportionally longer with ``text`` of ``LONGER`` times the size."""
    short = _seconds(work, text(size))
    if short < _WORTH_A_LOOK / LONGER:  # even its square would be nothing
        return False
    return min(_seconds(work, text(size * LONGER)) for _ in range(2)) > SLOWER * min(
        short, _seconds(work, text(size))
    )


def _seconds(work: Callable[[str], Any], text: str) -> float:
    """Seconds of this thread's CPU, so that what else runs on the machine has no part in it."""
    began = time.thread_time()
    with contextlib.suppress(ValueError):
        work(text)
    return time.thread_time() - began
