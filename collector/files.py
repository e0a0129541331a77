"""Files that the user names, read within bounds: one may be a pipe without a writer, or /dev/zero."""

import errno
import os
import select
import time
from pathlib import Path

#: Most bytes of a file with settings; a fleet of ten thousand collectors takes about two million.
LARGEST = 8 * 2**20
#: Seconds to wait for a file that is still being written, as in `launcher validate <(envsubst < fleet.yaml)`.
PATIENCE = 10.0


def read_bounded(path: Path, largest: int = LARGEST) -> bytes:
    """Return the content of a file of at most ``largest`` bytes.

    Raises OSError, whose ``strerror`` says why not.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _read(descriptor, str(path), largest)
    finally:
        os.close(descriptor)


def _read(descriptor: int, path: str, largest: int) -> bytes:
    content = bytearray()
    end = time.monotonic() + PATIENCE
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    while len(content) <= largest:
        if not waiting.poll(max(0.0, end - time.monotonic()) * 1000):
            raise OSError(errno.ETIMEDOUT, f"it does not end within {PATIENCE:.0f} s", path)
        chunk = os.read(descriptor, largest + 1 - len(content))
        if not chunk:
            return bytes(content)
        content += chunk
    raise OSError(errno.EFBIG, f"it has more than {largest:,} bytes", path)
