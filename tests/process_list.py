"""The command lines, not the environments, of all processes: what `ps` shows to everybody."""

import contextlib
import threading
from pathlib import Path


@contextlib.contextmanager
def process_list():
    """Looks at them for as long as the block lasts; the set of all that were seen."""
    seen, stop = set(), threading.Event()
    watching = threading.Thread(target=_watch, args=(seen, stop))
    watching.start()
    try:
        yield seen
    finally:
        stop.set()
        watching.join()


def _watch(seen, stop):
    while not stop.wait(0.05):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                seen.add(path.read_text(errors="replace"))
