"""TTY: one JSON object a line on standard output, numbers as text.

A pipe keeps no position, so a small file in the spool's folder does. It is written after the lines: after a
crash between the two, the lines of one batch are printed again, which cannot be noticed with a pipe. If the
file cannot be written, printing continues.

Whoever reads the pipe may pause for longer than the writer waits for an answer. What has begun to be printed
is printed to its end all the same, and only then does the store answer again.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from collector import typed_json
from collector.batch import UNKNOWN, Batch, Position, Refusal
from collector.printable import printable_json
from collector.records import AnyRecord, channel_of, fields
from collector.settings import Settings
from collector.stores import PositionLostError, StoreRefusedError, tell_damage

_log = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()


class ClosedOutputError(Exception):
    """Standard output is closed: there is nothing left to do."""


class TerminalStore:
    """Standard output. Writing to it may block, so it happens on a thread, one batch after the other."""

    batch_records = 256
    batch_seconds = 0.0
    fixed_batches = False

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home
        self._thread = ThreadPoolExecutor(1, "terminal")
        self._position: Position | None = None
        self._behind = False  # whether the file is out of date, because it could not be written

    async def open(self, name: str) -> Position | None:
        """Return the position, from its file the first time: later we may know more than the file."""
        return await self._on_thread(lambda: self._position or self._read(self._path(name)))

    async def commit(
        self, name: str, batch: Batch, expected: Position | None, after: Position
    ) -> Sequence[Refusal]:
        """Print a batch, then write the position. Raises ClosedOutputError."""
        _, records = batch.kept
        lines = b"".join(_encoder.encode(_fields(record)) + b"\n" for record in records)
        await self._on_thread(lambda: self._commit(self._path(name), lines, expected, after))
        return ()

    def place(self, _record: AnyRecord) -> str:
        """Return the place of all records: standard output."""
        return "standard output"

    async def note(self, name: str, text: str) -> None:
        """Do nothing: no other collector could read a note."""

    async def notes(self) -> Mapping[str, str]:
        """Return nothing: there are no notes."""
        return {}

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""

    async def _on_thread[T](self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _read(self, path: Path) -> Position | None:
        try:
            self._position = typed_json.decode(path.read_bytes(), Position)
        except FileNotFoundError:
            self._position = None
        except typed_json.DecodeError as error:
            tell_damage(str(path), error)
            self._position = UNKNOWN
        except OSError as error:
            raise StoreRefusedError(f"{path} cannot be read: {error}") from error
        return self._position

    def _commit(self, path: Path, lines: bytes, expected: Position | None, after: Position) -> None:
        if self._position != expected:
            raise PositionLostError(f"{path} was changed by another process")
        _print(lines)
        self._position = after
        self._keep(path, after)

    def _keep(self, path: Path, after: Position) -> None:
        try:
            _replace(path, msgspec.json.encode(after))
        except OSError as error:
            if not self._behind:
                _log.error("%s is not written: %s; a restart would print again", path, error.strerror)
            self._behind = True
        else:
            self._behind = False

    def _path(self, name: str) -> Path:
        return self._home / f"printed-{name}.json"


def _fields(record: AnyRecord) -> dict[str, object]:
    return {"channel": channel_of(record)} | fields(record)


def _print(lines: bytes) -> None:
    if sys.stdout.isatty():  # a terminal would act on control characters from an exchange
        lines = printable_json(lines.decode()).encode()
    try:
        while lines:
            lines = lines[os.write(sys.stdout.fileno(), lines) :]
    except OSError as error:
        raise ClosedOutputError(f"standard output cannot be written: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")
    aside.write_bytes(content)
    aside.replace(path)
