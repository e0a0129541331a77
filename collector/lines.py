"""Files of lines that somebody reads when something went wrong: each line is whole, whatever the disk."""

import os
from pathlib import Path


def add(path: Path, lines: bytes, *, synced: bool = False) -> None:
    """Append ``lines``, all or none. Raises OSError.

    A half line would take the next one with it, and what is whole would be there twice after the next try.
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
