"""Files of lines for people to read when something has gone wrong; lines are whole even on a full disk."""

import os
from pathlib import Path


def add(path: Path, lines: bytes, *, synced: bool = False) -> None:
    """Append all of ``lines``, or none. Raises OSError.

    Half a line would spoil the next one, and complete lines would be duplicated by the next attempt.
    """
    with path.open("ab", buffering=0) as file:
        begun = file.tell()
        try:
            while lines:
                lines = lines[file.write(lines) :]
            if synced:
                os.fsync(file.fileno())
        except OSError:
            file.truncate(begun)
            raise
