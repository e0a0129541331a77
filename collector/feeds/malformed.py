"""Messages that could not be handled are kept aside, raw: nothing that an exchange sent is thrown away."""

import base64
import logging
import time
from pathlib import Path

import msgspec

from collector import lines
from collector.printable import LONGEST_ERROR, printable, shortened, worth_reading

LOG = logging.getLogger(__name__)

FILE = "malformed.jsonl"
#: Bytes; the file before it is kept too, so the disk holds twice that at the most.
LARGEST_FILE, LARGEST_MESSAGE = 8 * 2**20, 2**20
#: Seconds between two log lines.
QUIET = 60.0


class Malformed:
    """The file of messages that could not be handled: time, connection, error and the message."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._count = 0
        self._told = 0
        self._next_line = 0.0

    def keep(self, connection: str, message: str | bytes, error: Exception) -> None:
        """Put ``message`` aside. A full disk costs the message, and says so."""
        self._count += 1
        said = ""
        try:
            self._write(connection, message, error)
        except OSError as failure:
            said = f" (not kept: {failure})"
        self._tell(connection, message, error, said)

    def _write(self, connection: str, message: str | bytes, error: Exception) -> None:
        if isinstance(message, bytes):
            content = {"base64": base64.b64encode(message[:LARGEST_MESSAGE]).decode()}
        else:
            content = {"message": message[:LARGEST_MESSAGE]}
        entry = {"time": time.time(), "connection": connection, "error": describe(error), **content}
        if self._path.exists() and self._path.stat().st_size >= LARGEST_FILE:
            self._path.replace(self._path.with_suffix(".old.jsonl"))
        lines.add(self._path, msgspec.json.encode(entry) + b"\n")

    def _tell(self, connection: str, message: str | bytes, error: Exception, said: str) -> None:
        now = time.monotonic()
        if now < self._next_line:
            return
        more = f" (and {self._count - self._told - 1} before it)" if self._count - self._told > 1 else ""
        self._next_line, self._told = now + QUIET, self._count
        LOG.warning(
            "%s: a message could not be handled%s and is kept in %s%s: %s: %.200r",
            connection,
            more,
            self._path.name,
            said,
            describe(error),
            message,
        )


def describe(error: BaseException) -> str:
    """One line about an error, for a person."""
    said = str(error)
    text = shortened(printable(" ".join(worth_reading(said).split())), LONGEST_ERROR, of=len(said))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
