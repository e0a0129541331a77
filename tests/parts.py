"""What tests need of the machine and may not find there."""

import os
import shutil
from pathlib import Path


class Missing(Exception):  # noqa: N818 - not an error: the machine just lacks a part
    """Something that a test needs is not on this machine. ``command`` would add it."""

    def __init__(self, what: str, why: str, command: str) -> None:
        self.what, self.why, self.command = what, why, command
        super().__init__(f"{what}: {why}; `{command}` adds it")


#: The only place of programs and libraries where it is set; servers come from nowhere else then. `make check`
#: has none.
ONLY = os.environ.get("CRYPTOSTORE_TEST_PATH")


def program(name: str) -> str | None:
    """The path of a program: on PATH, or where Debian has servers."""
    if ONLY:
        return shutil.which(name, path=ONLY)
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    places = [os.environ.get("PATH", ""), "/usr/bin", "/usr/sbin", "/sbin", *map(str, reversed(versions))]
    return shutil.which(name, path=os.pathsep.join(places))


def library(name: str) -> Path | None:
    """The path of a library in a folder of /usr/lib, or in one that is named after the machine's kind."""
    places = (
        [Path(ONLY) / Path(name).name]
        if ONLY
        else [*Path("/usr/lib").glob(f"*/{name}"), Path("/usr/lib", name)]
    )
    return next(filter(Path.exists, places), None)
