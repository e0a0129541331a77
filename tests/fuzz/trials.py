"""Carries out what the kinds of input draw, each input within its bounds of time and memory."""

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import FrameType
from typing import Protocol

#: Of CPU, for one input; the longest takes a tenth of that.
SECONDS = 2.0
#: More than the process had before, for one input.
BYTES = 256 * 2**20


class Kind(Protocol):
    """One kind of input.

    Attributes:
        name: a word for it.
        share: how large a part of all inputs it is.
    """

    name: str
    share: float

    def draw(self, draw: Random) -> object:
        """Return an input, as Python's literals can write it."""

    def attempt(self, case: object) -> bool:
        """Feed it; return whether it was taken for sound. Whatever it raises is a failure."""


class FuzzError(AssertionError):
    """An input that was not borne; the text says how to see it again."""

    def __init__(self, text: str, case: object) -> None:
        super().__init__(text)
        self.case = case


class TooLongError(BaseException):
    """One input took too long; no ``except Exception`` takes it for something else."""


def attempt(kind: Kind, seed: int, number: int) -> bool:
    """Draw one input and feed it; the same numbers are the same input. Raises FuzzError."""
    case = kind.draw(Random(f"{kind.name} {seed} {number}"))
    try:
        with bounded():
            return kind.attempt(case)
    except (Exception, TooLongError) as error:
        said = f"{kind.name}, seed {seed}, number {number}: {shortened(case)}"
        raise FuzzError(said, case) from error


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """End what takes too much time or memory by an exception."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    before = signal.signal(signal.SIGVTALRM, _too_long)
    resource.setrlimit(resource.RLIMIT_DATA, (pages * os.sysconf("SC_PAGE_SIZE") + BYTES, hard))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TooLongError(f"more than {SECONDS} s of CPU")


def shortened(case: object) -> str:
    text = repr(case)
    return text if len(text) <= 2000 else f"{text[:1000]} ... {text[-900:]}"
