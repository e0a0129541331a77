"""Records that were not stored and never will be, beside the spool: a JSON object a line, with the reason.

There are two files of bounded size, the present one and the one before. When the older one has to go, what
was in it is lost: ``leaving`` returns the gaps that this makes, to be recorded before that.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from collector import lines, typed_json
from collector.batch import Batch, Refusal
from collector.gap_records import in_microseconds, joined
from collector.records import Gap, channel_of, fields
from collector.times import nanoseconds

LETTERS_BYTES = 64 * 2**20  # in one file
_FILE, _FILE_BEFORE = "dead-letters.jsonl", "dead-letters.1.jsonl"

LOG = logging.getLogger(__name__)


def letters_in(folder: Path) -> int:
    """Return how many bytes of dead letters there are beside a spool."""
    found = 0
    for name in (_FILE, _FILE_BEFORE):
        with contextlib.suppress(OSError):
            found += (folder / name).stat().st_size
    return found


class Leaving(NamedTuple):
    """What the next rotation takes away: an identity of the file, and the gaps that there are without it."""

    identity: str
    gaps: tuple[Gap, ...]


class _Key(msgspec.Struct, frozen=True):
    """What tells one letter from another."""

    incarnation: str
    sequence: int


class _Letter(msgspec.Struct):
    """A letter as it is read back; numbers that JSON does not have are null."""

    time: float
    incarnation: str
    sequence: int
    channel: str
    record: dict[str, Any]


class DeadLetters:
    """The files. Everything here blocks; one batch at a time is added, in the order of the sequence."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE
        self._before = folder / _FILE_BEFORE
        self._known: set[_Key] = set()  # from the sequence ``_since`` on
        self._since: int | None = None  # None: nothing was read yet

    def add(self, batch: Batch, refusals: Sequence[Refusal]) -> None:
        """Write the records with the reason, synced; not those that are there already. Raises OSError."""
        known = self._known_of(batch)
        keys = {_Key(batch.incarnation, refusal.sequence): refusal for refusal in refusals}
        if new := [refusal for key, refusal in keys.items() if key not in known]:
            self._write(batch.incarnation, new)
            known.update(keys)

    @property
    def full(self) -> bool:
        """Whether ``rotate`` is due before more is added. Raises OSError."""
        return self.path.exists() and self.path.stat().st_size > LETTERS_BYTES

    def leaving(self) -> Leaving | None:
        """Return what ``rotate`` takes away, if anything. Raises OSError."""
        letters = _read(self._before, _Letter)
        first = next(letters, None)
        if first is None:
            return None
        gaps = joined(map(_gap, chain([first], letters)))
        size = self._before.stat().st_size
        return Leaving(f"{first.incarnation} {first.sequence} {size}", gaps)

    def rotate(self) -> None:
        """Begin a new file; the one before the present one goes. Raises OSError."""
        self.path.replace(self._before)

    def _known_of(self, batch: Batch) -> set[_Key]:
        """Return the letters from the beginning of the batch on: it may have been tried before.

        So may all that comes after it, if the store was set back.
        """
        if self._since is None:
            _cut_torn_line(self.path)
        is_read = self._since is not None and self._since <= batch.first
        known = self._known if is_read else self._read_keys()
        self._known = {key for key in known if key.sequence >= batch.first}
        self._since = batch.first
        return self._known

    def _read_keys(self) -> Iterator[_Key]:
        for path in (self._before, self.path):
            yield from _read(path, _Key)

    def _write(self, incarnation: str, refusals: Sequence[Refusal]) -> None:
        first = refusals[0]
        LOG.error(
            "%d records refused, kept in %s; the first: %s: %s",
            *(len(refusals), self.path, channel_of(first.record), first.reason),
        )
        letters = [msgspec.json.encode(_letter(incarnation, refusal)) + b"\n" for refusal in refusals]
        # synced, because the spool may forget them as soon as they are acknowledged
        lines.add(self.path, b"".join(letters), synced=True)


def _read[T](path: Path, kind: type[T]) -> Iterator[T]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with contextlib.suppress(typed_json.DecodeError):
                yield typed_json.decode(line, kind)


def _cut_torn_line(path: Path) -> None:
    """Take off what a killed process had begun to write."""
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        torn = 0
        for line in file:
            torn = 0 if line.endswith(b"\n") else len(line)
        file.truncate(file.seek(0, os.SEEK_END) - torn)


def _letter(incarnation: str, refusal: Refusal) -> dict[str, object]:
    return {
        "time": time.time(),
        "incarnation": incarnation,
        "sequence": refusal.sequence,
        "reason": refusal.reason,
        "channel": channel_of(refusal.record),
        "record": fields(refusal.record),
    }


def _gap(letter: _Letter) -> Gap:
    """Return the gap that one record leaves; a gap leaves itself."""
    record = letter.record
    receipt = _moment(record.get("receipt_timestamp"), letter.time)
    start = end = receipt
    missed, reason = letter.channel, "refused"
    count: int | None = 1
    if letter.channel == "gaps":
        start, end = _moment(record.get("start"), receipt), _moment(record.get("end"), receipt)
        missed, reason, count = str(record.get("missed")), str(record.get("reason")), record.get("count")
    exchange, symbol = str(record.get("exchange")), str(record.get("symbol"))
    begun, ended = nanoseconds(start), nanoseconds(end)
    now = time.time_ns()
    return in_microseconds(Gap(exchange, symbol, ended, now, missed, begun, ended, reason, count))


def _moment(value: object, otherwise: float) -> float:
    return value if isinstance(value, float) else otherwise
