"""What tests need of the machine and may not find there."""

import os
import shutil
from pathlib import Path


class Missing(Exception):  # noqa: N818 - not an error: the machine just lacks a part
    """Something that a test needs is not on this machine. ``command`` would add it."""

    def __init__(self, what: str, why: str, command: str) -> None:
        self.what, self.why, self.command = what, why, command
        super().__init__(f"{what}: {why}; `{command}` adds it")


def program(name: str) -> str | None:
    """The path of a program: on PATH, or where Debian has servers.

    With CRYPTOSTORE_TEST_PATH it is looked for there alone: a test tries what happens where it is missing.
    """
    if path := os.environ.get("CRYPTOSTORE_TEST_PATH"):
        return shutil.which(name, path=path)
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    places = [os.environ.get("PATH", ""), "/usr/bin", "/usr/sbin", "/sbin", *map(str, reversed(versions))]
    return shutil.which(name, path=os.pathsep.join(places))
