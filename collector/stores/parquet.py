"""Parquet: a folder of files that pyarrow, pandas, polars and duckdb read as tables, one per channel.

Layout, below PARQUET_DIR::

    v2/channel=trades/exchange=COINBASE/symbol=BTC-USD/date=2025-01-31/NAME-INCARNATION-FIRST-END.parquet
    _positions/NAME.json      how far collector NAME has got, and who it is; NAME.lock is held while it lives
    _positions/NAME.note      what it had seen when, for the collectors that share the dataset
    _tmp/NAME/                files that are not complete yet
    _compaction/              a day whose files are becoming one (parquet_compaction.py)

Columns differ by channel (parquet_columns.py), so a channel is read at a time: ``v2/channel=trades`` with
partitions in hive's form. ``v2`` is the version of the columns: readers refuse a folder of mixed types, or
cast it to what they find first. Files of the first version, whose numbers were decimal128(38, 18), lie in
``channel=trades`` beside ``v2``, and are left as they are.

Values of the partitions are percent-encoded, as hive readers expect; the date is the receipt's, UTC. Each
channel of the collector has a file without rows from the start (``symbol=none``), so that a query for gaps,
or for data that has not come yet, finds nothing instead of failing because there is no file.

A file appears under its name once it is complete and on disk, and the position moves once all files of a
batch are there. So retrying the same batch completes an interrupted commit: a file that exists is not written
twice, because its name says exactly which records are in it. An hour after midnight (UTC), the files of the
day are merged.
"""

import asyncio
import contextlib
import errno
import fcntl
import math
import os
import shutil
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta
from functools import partial
from glob import escape
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, get_args
from urllib.parse import quote, unquote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from collector import typed_json
from collector.batch import UNKNOWN, Batch, Position, Refusal
from collector.gap_records import StoredGap
from collector.records import AnyRecord, channel_of
from collector.settings import Settings
from collector.stores import (
    Holder,
    NothingStoredError,
    PositionLostError,
    StoreRefusedError,
    StoreUnavailableError,
    notes,
    tell_damage,
)
from collector.stores.parquet_columns import gap, table
from collector.stores.parquet_compaction import Compaction, sync
from collector.times import SECOND

#: Folder of the datasets with this version's columns.
VERSION = "v2"
_EMPTY = "empty.parquet"
_LISTINGS = 5

_DAY = 86400 * SECOND
_LONGEST_NAME = 255
#: The first files come soon, for someone watching; the interval then doubles up to this.
_FIRST_SECONDS, _LATER_SECONDS = 2.0, 30.0
#: A day is closed so long after its end; for some days after that, late records are merged too.
_CLOSED_SECONDS, _LATE_DAYS = 3600, 7

#: One record with its sequence.
_Row = tuple[int, AnyRecord]
#: What one file contains: records of one type, exchange, symbol and day of receipt (days since 1970).
_Partition = tuple[type[AnyRecord], str, str, int]


class _Position(msgspec.Struct):
    """The position file: the position, who moved it, and when (seconds since 1970)."""

    owner: str
    incarnation: str
    sequence: int
    who: str
    seen: float

    @property
    def position(self) -> Position:
        return Position(owner=self.owner, incarnation=self.incarnation, sequence=self.sequence)


class ParquetStore:
    """Writes each batch as one file per partition. All file work runs on one thread."""

    batch_records = 15_000  # the spool still has them in memory: rereading costs as much as writing
    fixed_batches = True

    def __init__(self, settings: Settings) -> None:
        self.batch_seconds = _FIRST_SECONDS
        self._settings = settings
        self._root = settings.parquet_dir
        self._thread = ThreadPoolExecutor(1, "parquet")
        self._who = f"process {os.getpid()} on {socket.gethostname()}"
        self._name = ""  # the collector whose lock we hold
        self._lock: int | None = None  # None: not open, or another process holds it
        self._durable: set[Path] = set()  # folders that are synced, with all their parents
        self._publishing = Lock()
        self._background = ThreadPoolExecutor(1, "compaction")
        self._compaction: Compaction | None = None
        self._compacting: Future[None] | None = None  # the last one that was started
        self._compacted = -1  # days up to this one, since 1970
        self._can_be_read = False  # each channel has a file

    async def open(self, name: str) -> Position | None:
        """Take the collector's lock, unless another process has it, and read the position.

        Raises StoreUnavailableError if the folder cannot be written to; StoreRefusedError if only a person
        can change that, or if the position file is damaged while another process holds the lock.
        """
        return await self._on_thread(partial(self._open, name))

    async def commit(
        self, name: str, batch: Batch, expected: Position | None, after: Position
    ) -> Sequence[Refusal]:
        """Write the batch's files, then move the position; see Store.commit."""
        refusals = await self._on_thread(partial(self._commit, name, batch, expected, after))
        if batch.records:
            self.batch_seconds = min(2 * self.batch_seconds, _LATER_SECONDS)
            self._compact_closed_days()
        return refusals

    async def discard(self, name: str, position: Position) -> None:
        """Remove the files of an unfinished batch."""
        await self._on_thread(partial(self._discard, name, position))

    def place(self, record: AnyRecord) -> str:
        """Return the record's dataset."""
        return f"the folder {VERSION}/channel={channel_of(record)}"

    async def note(self, name: str, text: str) -> None:
        """Store a note, as a file of its own."""
        await self._on_thread(partial(self._note, name, text))

    async def notes(self) -> Mapping[str, str]:
        """Return the notes of this exchange."""
        files = await self._on_thread(lambda: list((self._root / "_positions").glob("*.note")), "read")
        texts = {
            file.stem: await self._on_thread(partial(file.read_text, errors="replace"), "read")
            for file in files
        }
        return notes.of_exchange(self._settings.exchange, texts)

    async def open_to_read(self) -> None:
        """Check that the folder exists; see ReadableStore.open_to_read."""
        if not await self._on_thread((self._root / "_positions").is_dir, "read"):
            raise NothingStoredError

    async def gaps(self, exchange: str, symbols: Collection[str]) -> Sequence[StoredGap]:
        """Return the gaps of an exchange's symbols, from files of both versions."""
        return await self._on_thread(
            lambda: [gap for symbol in symbols for gap in self._gaps(exchange, symbol)], "read"
        )

    def _gaps(self, exchange: str, symbol: str) -> Iterator[StoredGap]:
        for root in self._roots:
            place = root / "channel=gaps" / _part("exchange", exchange) / _part("symbol", symbol)
            for day in sorted(place.glob("date=*")):
                for row in _rows_of(day):
                    yield gap(symbol, row)

    async def holder(self, name: str) -> Holder | None:
        """Return who last moved the position; a process that does not hold its lock is gone."""
        return await self._on_thread(partial(self._holder, name))

    async def release(self, name: str, position: Position) -> None:
        """Do nothing: the lock is released by ``close``, or when its process ends."""

    async def close(self) -> None:
        """Release the lock once pending writes are done; a compaction stops at its next file."""
        if self._compaction:
            self._compaction.stop()
        if self._compacting:
            await asyncio.wrap_future(self._compacting)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._unlock)

    async def _on_thread[T](self, work: Callable[[], T], doing: str = "write to") -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as error:
            where = error.filename or self._root
            what = f"cannot {doing} {where}: {error.strerror or error}"
            if advice := _advice(error, doing):
                raise StoreRefusedError(f"{what}; {advice}") from error
            raise StoreUnavailableError(what) from error

    def _open(self, name: str) -> Position | None:
        self._unlock()
        self._durable.clear()
        self._can_be_read = False
        self._make_durable(self._root / "_positions")
        self._name = name
        self._take_lock(name)
        return self._position(name)

    def _position(self, name: str) -> Position | None:
        """Return the position; one that is damaged starts over, unless another process holds it."""
        try:
            found = self._read_position(name)
        except StoreRefusedError as error:
            if self._lock is None:
                raise
            tell_damage(str(self._root), error)
            self._move(name, UNKNOWN)
            return UNKNOWN
        return found.position if found else None

    def _holder(self, name: str) -> Holder | None:
        if name != self._name:
            is_free = self._is_free(name)
        else:
            if self._lock is None:
                self._take_lock(name)
            is_free = self._lock is not None
        found = self._read_position(name)
        return Holder(found.owner, found.who, math.inf if is_free else 0.0) if found else None

    def _commit(
        self, name: str, batch: Batch, expected: Position | None, after: Position
    ) -> Sequence[Refusal]:
        self._check_position(name, expected)
        file_name = f"{name}-{batch.incarnation}-{batch.first:012}-{batch.end:012}.parquet"
        made = {partition: _tables(partition, rows) for partition, rows in _by_partition(batch).items()}
        if refusals := list(chain.from_iterable(refused for _, refused in made.values())):
            return sorted(refusals, key=lambda refusal: refusal.sequence)
        folders = set()
        for partition, (tables, _) in made.items():
            places = [root / _folder(partition) for root in self._roots]
            # A collector of the first version may have begun this batch.
            folder = next((place for place in places if (place / file_name).exists()), None)
            if folder is None:
                folder = places[0]
                self._make_durable(folder)
                self._write(name, pa.concat_tables(tables), folder / file_name)
            folders.add(folder)
        for folder in folders:
            sync(folder)
        self._make_readable(name)
        self._move(name, after)
        return ()

    def _discard(self, name: str, position: Position) -> None:
        files = f"{escape(name)}-{position.incarnation}-{position.sequence:012}-*.parquet"
        for root in self._roots:
            for file in root.glob(f"channel=*/*/*/*/{files}"):
                file.unlink()
                sync(file.parent)  # parts of the batch are stored elsewhere before this folder is written to

    @property
    def _roots(self) -> tuple[Path, Path]:
        """Return the folders of the datasets, this version's first."""
        return self._root / VERSION, self._root

    def _make_readable(self, name: str) -> None:
        """Create the dataset of each channel that has none yet."""
        if self._can_be_read:
            return
        for record_type in get_args(AnyRecord):
            channel = channel_of(record_type)
            dataset = self._root / VERSION / f"channel={channel}"
            if channel not in (*self._settings.channels, "gaps") or next(dataset.rglob("*.parquet"), None):
                continue
            partition = record_type, self._settings.exchange, "none", time.time_ns() // _DAY
            folder = self._root / VERSION / _folder(partition)
            self._make_durable(folder)
            self._write(name, table(record_type, [], []), folder / _EMPTY)
            sync(folder)
        self._can_be_read = True

    def _write(self, name: str, rows: pa.Table, path: Path) -> None:
        self._publish(name, partial(pq.write_table, rows, compression="zstd"), path)

    def _move(self, name: str, after: Position) -> None:
        moved = _Position(after.owner, after.incarnation, after.sequence, self._who, time.time())
        self._publish(name, lambda file: file.write(msgspec.json.encode(moved)), self._position_file(name))
        sync(self._root / "_positions")

    def _note(self, name: str, text: str) -> None:
        if self._lock is not None:
            path = self._position_file(name).with_suffix(".note")
            self._publish(name, lambda file: file.write(text.encode()), path)

    def _publish(self, name: str, write: Callable[[Any], object], path: Path) -> None:
        """Make ``path`` appear complete and in one step; the caller syncs its folder to make that durable."""
        unfinished = self._root / "_tmp" / name / path.name
        try:
            with unfinished.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            with self._publishing:
                unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)  # a full disk needs the space
            raise

    def _remove_unfinished(self, name: str) -> None:
        folder = self._root / "_tmp" / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)

    def _make_durable(self, folder: Path) -> None:
        if folder in self._durable:
            return
        folder.mkdir(parents=True, exist_ok=True)
        while folder != self._root:
            self._durable.add(folder)
            folder = folder.parent
            sync(folder)

    def _compact_closed_days(self) -> None:
        """Start compacting closed days in the background, once a day."""
        today = (time.time_ns() - _CLOSED_SECONDS * SECOND) // _DAY
        if today <= self._compacted:
            return
        self._compacted = today
        exchange = _part("exchange", self._settings.exchange)
        folders = (
            folder
            for days in range(_LATE_DAYS, 0, -1)
            for channel in (*self._settings.channels, "gaps")
            for root in self._roots
            for folder in root.glob(f"channel={channel}/{exchange}/symbol=*/{_day(today - days)}")
            if self._settings.wants(unquote(folder.parent.name.removeprefix("symbol=")))
        )
        self._compaction = Compaction(self._root, self._acknowledged, self._publishing)
        self._compacting = self._background.submit(self._compaction.run, folders)

    def _acknowledged(self, name: str) -> int | None:
        """Return the sequence up to which a collector's records are stored, counted over all incarnations."""
        try:
            found = self._read_position(name)
        except StoreRefusedError:
            return None
        return found.sequence if found else None

    def _position_file(self, name: str) -> Path:
        return self._root / "_positions" / f"{name}.json"

    def _read_position(self, name: str) -> _Position | None:
        path = self._position_file(name)
        try:
            return typed_json.decode(path.read_bytes(), _Position)
        except FileNotFoundError:
            return None
        except typed_json.DecodeError as error:
            raise StoreRefusedError(f"{path} is not a position file ({error})") from error

    def _check_position(self, name: str, expected: Position | None) -> None:
        if self._lock is None:
            raise StoreRefusedError(f"another collector named {name} is writing to {self._root}")
        found = self._read_position(name)
        if (found.position if found else None) != expected:
            raise PositionLostError(f"{self._position_file(name)} was changed by another process")

    def _take_lock(self, name: str) -> None:
        """Take the lock if it is free."""
        lock = os.open(self._position_file(name).with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        except OSError:
            os.close(lock)
            raise
        else:
            self._lock = lock
            self._remove_unfinished(name)

    def _is_free(self, name: str) -> bool:
        """Return whether no process holds the lock of another collector."""
        try:
            lock = os.open(self._position_file(name).with_suffix(".lock"), os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            os.close(lock)

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _advice(error: OSError, doing: str) -> str | None:
    """Return what a person can do about an error; None if waiting may help."""
    if error.errno == errno.EROFS:
        return "mount it writable"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "a file is where a folder should be; move it away"
    if error.errno in (errno.EACCES, errno.EPERM):
        if doing == "read":
            return f"user {os.geteuid()}, who runs the collector, needs permission to read it"
        return f"it must belong to user {os.geteuid()}, who runs the collector (chown {os.geteuid()} ...)"
    return None


def _rows_of(day: Path) -> list[dict[str, Any]]:
    """Return the rows of a day's files; if they are merged meanwhile, those of the merged file."""
    for _ in range(_LISTINGS):
        with contextlib.suppress(FileNotFoundError):
            files = sorted(day.glob("*.parquet"))
            return [row for file in files for row in _rows_in(file)]
    raise StoreUnavailableError(f"the files in {day} disappear as soon as they are listed")


def _rows_in(file: Path) -> list[dict[str, Any]]:
    try:
        return list(pq.read_table(file, partitioning=None).to_pylist())
    except pa.ArrowInvalid as error:
        raise StoreRefusedError(f"{file} cannot be read: {error}") from error


def _by_partition(batch: Batch) -> dict[_Partition, list[_Row]]:
    rows = defaultdict(list)
    for sequence, record in zip(*batch.kept, strict=True):
        day = record.receipt_timestamp // _DAY
        rows[type(record), record.exchange, record.symbol, day].append((sequence, record))
    return rows


def _folder(partition: _Partition) -> Path:
    record_type, exchange, symbol, day = partition
    return Path(
        f"channel={channel_of(record_type)}",
        _part("exchange", exchange),
        _part("symbol", symbol),
        _day(day),
    )


def _day(day: int) -> str:
    return f"date={date(1970, 1, 1) + timedelta(days=day)}"


def _part(key: str, value: str) -> str:
    part = f"{key}={quote(value, safe='')}"
    if len(part) > _LONGEST_NAME:
        raise ValueError(f"{key} is too long for the name of a folder")
    return part


def _tables(partition: _Partition, rows: list[_Row]) -> tuple[list[pa.Table], list[Refusal]]:
    """Return the rows as tables, and the rows that do not fit, which are found by halving."""
    try:
        return [_table(partition, rows)], []
    except (ValueError, TypeError, OverflowError) as error:
        if len(rows) == 1:
            sequence, record = rows[0]
            return [], [Refusal(sequence, record, str(error), unwritable=True)]
    middle = len(rows) // 2
    left, left_refused = _tables(partition, rows[:middle])
    right, right_refused = _tables(partition, rows[middle:])
    return left + right, left_refused + right_refused


def _table(partition: _Partition, rows: list[_Row]) -> pa.Table:
    _folder(partition)  # a receipt out of the calendar's range has none
    sequences, records = zip(*rows, strict=True)
    return table(partition[0], sequences, records)
