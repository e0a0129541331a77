"""Inputs for as long as it is wished, from a seed that is told; what fails is kept."""

import collections
import faulthandler
import logging
import sys
import threading
import time
import traceback
from pathlib import Path
from random import Random

from fuzz.kinds import KINDS
from fuzz.trials import FuzzError, attempt

STUCK = 120.0  # seconds after which one input, whatever it waits for, ends it all
TELL_EVERY = 60.0


def run(minutes: float, seed: int, folder: Path) -> bool:
    """Try inputs; return whether all were borne. What was not is in ``folder``, one of each fault."""
    tell(f"fuzz: seed {seed}, {minutes:g} minutes")
    draw, counts, found = Random(seed), collections.Counter[str](), {}
    end, told = time.monotonic() + minutes * 60, time.monotonic()
    logging.disable()
    threading.excepthook, told_by = lambda _: None, threading.excepthook  # of those that are a driver's own
    try:
        while time.monotonic() < end:
            (name,) = draw.choices(list(KINDS), [kind.share for kind in KINDS.values()])
            faulthandler.dump_traceback_later(STUCK, exit=True, file=sys.__stderr__)
            try:
                attempt(KINDS[name], seed, counts[name])
            except FuzzError as error:
                if (place := _place(error)) not in found:
                    found[place] = _keep(error, folder, f"{name}-{seed}-{counts[name]}".replace(" ", "-"))
            counts[name] += 1
            if time.monotonic() - told > TELL_EVERY:
                told = time.monotonic()
                tell(f"fuzz: {sum(counts.values()):,} inputs, {len(found)} faults")
    finally:
        faulthandler.cancel_dump_traceback_later()
        logging.disable(logging.NOTSET)
        threading.excepthook = told_by
    tried = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    tell(f"fuzz: seed {seed}: {tried}; {len(found)} faults")
    return not found


def _place(error: FuzzError) -> tuple[object, ...]:
    """Return what is the same for two inputs that fail in one way."""
    cause = error.__cause__
    frames = traceback.extract_tb(cause.__traceback__)
    ours = [frame for frame in frames if "/fuzz/" not in frame.filename] or frames
    return type(cause), ours[-1].filename, ours[-1].name


def _keep(error: FuzzError, folder: Path, name: str) -> Path:
    path = folder / f"fuzz-{name}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(traceback.format_exception(error)) + f"\ninput: {error.case!r}\n", errors="backslashreplace"
    )
    tell(f"fuzz: {shown(error)}: kept in {path}")
    return path


def shown(error: FuzzError) -> str:
    return f"{str(error)[:100]}: {type(error.__cause__).__name__}"


def tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
