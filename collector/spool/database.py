"""The spool on disk: one SQLite database. Everything here blocks; spool.py calls it on one thread.

``sync`` has a thread and a connection of its own: with a write-ahead log, syncing does not block writing.
"""

import contextlib
import logging
import os
import secrets
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import msgspec

from collector import records as codec
from collector.file_identity import identity
from collector.gap_records import missing
from collector.records import AnyRecord, Gap, Record
from collector.spool.incarnations import Incarnation, Incarnations, next_first
from collector.spool.losses import DELIVERED, Loss, merged
from collector.spool.recovery import SpoolFolder, transaction
from collector.spool.repair import SEAL, decoded, repair, seal
from collector.spool.schema import (
    BROKEN,
    FORMAT,
    SpoolError,
    connect,
    encoder,
    is_broken,
    log_ahead,
    store_losses,
    stored_losses,
)

RESERVE_BYTES = 8 * 2**20  # of the disk are left free: deleting records needs space in the write-ahead log
INCARNATIONS_KEPT = 10_000
LOG_BYTES = 32 * 2**20  # of the write-ahead log; beyond that, writing waits until the log can restart
_CHECKPOINTS, _CHECKPOINT_PAUSE = 1000, 0.01  # attempts and seconds, while the other connection syncs
BATCH_BYTES = 4 * 2**20  # a read stops after that much, however few records it has

_INSERT = "INSERT INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?)"

SAID = 5  # damaged values that a log line names

LOG = logging.getLogger(__name__)


class NoRoomError(Exception):
    """The disk accepts nothing at the moment."""


class Blob(msgspec.Struct, frozen=True):
    """The records of one append, from sequence ``first`` on, and their encoding."""

    first: int
    records: Sequence[AnyRecord]
    data: bytes

    @property
    def end(self) -> int:
        """The sequence after the last record."""
        return self.first + len(self.records)

    @property
    def span(self) -> tuple[float, float]:
        """The receipts (seconds) of the first and of the last record."""
        return codec.span(self.records)


class Opening(msgspec.Struct, frozen=True):
    """What the database contained when it was opened.

    Attributes:
        owner: the random id that the spool got when it was created.
        clean: whether the last opening ended with ``finish``; None if there was none.
        mended: whether the database was broken, and now holds what could be recovered; it stays so until
            a record follows.
        marks_whole: whether no mark was lost, likewise.
        exact: whether nothing appended earlier can be missing: it is the same file, and the machine did not
            fail, since the store's position was last located in it.
        acknowledged: the sequence before which the store has everything.
    """

    owner: str
    clean: bool | None
    mended: bool
    marks_whole: bool
    exact: bool
    acknowledged: int


class SpoolFile:
    """The database of one folder.

    Attributes:
        opening, incarnations, marks, bounds: what it contained when it was opened.
        encode: encodes records in its format.
        losses: what was lost, oldest first.
        dropped: what the last writes lost, with its bytes; the caller empties it.
        bytes: size of all records.
        limit: the bytes of records that the disk has room for, when last checked.
    """

    opening: Opening
    encode: Callable[[Sequence[Record]], bytes]
    incarnations: Incarnations
    marks: dict[str, str]
    bounds: dict[int, int]
    bytes: int
    limit: int

    def __init__(self, folder: Path) -> None:
        self._files = SpoolFolder(folder)
        self.losses: tuple[Loss, ...] = ()
        self.dropped: list[tuple[Loss, int]] = []
        self._saved_losses: tuple[Loss, ...] = ()
        self._open = contextlib.ExitStack()

    # -- opening and closing -------------------------------------------------------------------------

    def open(self) -> None:
        """Lock the folder, open or create the database, repair it if needed, begin an incarnation."""
        try:
            self._open.enter_context(self._files.lock())
            self._files.put_in_place()
            self._begin()
            self._open.callback(self.db.close)
            self._syncing = self._open.enter_context(contextlib.closing(connect(self.path)))
            log_ahead(self._syncing)
            self.update_limit()
        except OSError as error:
            raise SpoolError(f"the spool in {self.folder} cannot be used: {error.strerror}") from error
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise SpoolError(f"the spool {self.path} cannot be used: {error}") from error

    def _begin(self) -> None:
        """Begin with the database as it is or, if it turns out to be broken, with what can be recovered."""
        sound = self._files.sound()
        if sound:
            try:
                self._begin_with(sound)
            except BROKEN as error:
                sound.close()
                if not is_broken(error):
                    raise
                LOG.error("the spool %s is broken: %s", self.path, error)  # noqa: TRY400
            else:
                return
        self._begin_with(self._files.mended())

    def suspect(self, error: Exception) -> None:
        """Make the next opening recover the database if it broke: its integrity check may not notice."""
        self._files.suspect(error)

    @property
    def folder(self) -> Path:
        """The folder that the database is in."""
        return self.path.parent

    @property
    def path(self) -> Path:
        """The path of the database."""
        return self._files.path

    def _begin_with(self, db: sqlite3.Connection) -> None:
        """Repair and read the database, and begin an incarnation."""
        self.db, self.encode = db, encoder(db)
        with self._transaction():
            faults = repair(db)
        if faults:
            LOG.error("the spool %s had damaged values: %s", self.path, "; ".join(faults[:SAID]))
        meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        file, boot = identity(self.path), _boot()
        self.losses = self._saved_losses = stored_losses(db)
        (self.bytes, end) = db.execute(
            "SELECT coalesce(sum(size), 0), coalesce(max(first + count), 0) FROM blobs"
        ).fetchone()
        clean = None if "clean" not in meta else bool(meta["clean"])
        self.opening = Opening(
            owner=meta.get("owner") or secrets.token_hex(8),
            clean=clean,
            mended=any(loss.until is None and loss.end >= end for loss in self.losses),
            marks_whole=meta.get("marks_lost", -1) < end,
            exact=meta.get("file") == file
            and (bool(clean) or meta.get("boot") == boot)
            and bool(meta.get("exact", 1)),
            acknowledged=int(meta.get("acknowledged", 0)),
        )
        self.marks = dict(db.execute("SELECT key, value FROM marks").fetchall())
        self.bounds = dict(db.execute("SELECT first, end FROM bounds").fetchall())
        with self._transaction():
            for key, value in ("owner", self.opening.owner), ("clean", 0), ("file", file), ("boot", boot):
                self._set(key, value)
            self._set("exact", int(self.opening.exact or clean is None))  # in a new one nothing is missing
            self._begin_incarnation()
            rows = db.execute("SELECT id, before, first FROM incarnations ORDER BY number").fetchall()
            self._set(SEAL, seal(self.opening.owner, rows))
        self.incarnations = Incarnations([Incarnation(*row) for row in rows])

    def _begin_incarnation(self) -> None:
        """Begin at the time in microseconds: sequences increase even if the last used were forgotten."""
        before = self._next()
        self.db.execute(
            "INSERT INTO incarnations(id, before, first) VALUES (?, ?, ?)",
            (secrets.token_hex(8), before, next_first(before, time.time_ns() // 1000)),
        )
        self.db.execute(
            "DELETE FROM incarnations WHERE number <= (SELECT max(number) FROM incarnations) - ?",
            (INCARNATIONS_KEPT,),
        )

    def _next(self) -> int:
        """Return the next sequence. The newest blob is never deleted, so this continues where it was."""
        row = self.db.execute("SELECT first + count FROM blobs ORDER BY first DESC LIMIT 1").fetchone()
        begun = self.db.execute("SELECT coalesce(max(first), 0) FROM incarnations").fetchone()
        return int(max(row[0] if row else 0, begun[0]))

    def finish(self, acknowledged: int) -> None:
        """Record a clean stop; ``close`` must follow."""
        with contextlib.suppress(sqlite3.Error), self._transaction():
            self._set("acknowledged", acknowledged)
            self._save_losses(self.losses)
            self._set("clean", 1)

    def close(self) -> None:
        """Close the files; without ``finish`` before, that is no clean stop, but as after a crash."""
        self._open.close()

    # -- writing -------------------------------------------------------------------------------------

    def write(
        self, blobs: Sequence[Blob], marks: Mapping[str, str], max_bytes: int, kept: tuple[int, int]
    ) -> None:
        """Write ``blobs`` and ``marks``; at the bound, drop the oldest records, and list them in ``dropped``.

        ``kept`` is the range of sequences in flight: what is before it was delivered, what is in it is kept.
        Raises NoRoomError if the disk accepts nothing.
        """
        size = sum(len(blob.data) for blob in blobs)
        try:
            with _needing_room():
                self._drop(self.bytes + size - min(max_bytes, self.limit), kept)
                self._insert(blobs, marks)
        except NoRoomError:
            with _needing_room():
                self.db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
                self._drop(max(size, RESERVE_BYTES), kept)
                self._insert(blobs, marks)
        self.bytes += size

    def room_for(self, size: int, max_bytes: int) -> bool:
        """Return whether a write of ``size`` bytes would drop nothing."""
        return self.bytes + size <= min(max_bytes, self.limit)

    def _insert(self, blobs: Sequence[Blob], marks: Mapping[str, str]) -> None:
        rows = [
            (blob.first, len(blob.records), len(blob.data), *blob.span, zlib.crc32(blob.data), blob.data)
            for blob in blobs
        ]
        if len(rows) == 1 and not marks and self.losses is self._saved_losses:
            self.db.execute(_INSERT, rows[0])  # a single statement is a transaction, and faster
            return
        with self._transaction():
            self.db.executemany(_INSERT, rows)
            if marks:
                made = [(key, value) for key, value in marks.items() if value]
                self.db.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", made)
                gone = [(key,) for key, value in marks.items() if not value]
                self.db.executemany("DELETE FROM marks WHERE key = ?", gone)
            self._save_losses(self.losses)

    def _drop(self, excess: int, kept: tuple[int, int]) -> None:
        if excess <= 0:
            return
        delivered, in_flight = kept
        rows = self.db.execute(
            "SELECT first, count, size, since, until FROM blobs INDEXED BY sizes"
            " WHERE (first + count <= ? OR first >= ?) AND first < (SELECT max(first) FROM blobs)"
            " ORDER BY first",
            (delivered, in_flight),
        )
        gone = []
        for row in rows:
            gone.append(row)
            excess -= row[2]
            if excess <= 0:
                break
        rows.close()
        lost = [
            (Loss("dropped", first, first + count, count, since, until, self._missing_with(first)), size)
            for first, count, size, since, until in gone
            if first + count > delivered
        ]
        self._take_out([row[0] for row in gone], lost)
        self.bytes -= sum(row[2] for row in gone)

    def _take_out(self, firsts: Sequence[int], lost: Sequence[tuple[Loss, int]]) -> None:
        """Delete blobs, and note and list what is lost by that."""
        losses = self.losses
        for loss, _ in lost:
            losses = merged(losses, loss)
        with self._transaction():  # a crash must not remove records without a loss that says so
            self.db.executemany("DELETE FROM blobs WHERE first = ?", [(first,) for first in firsts])
            self._save_losses(losses)
        self.losses = losses
        self.dropped += lost

    def _missing_with(self, first: int) -> tuple[Gap, ...]:
        """Return the gaps that dropping a blob makes."""
        data, crc = self.db.execute("SELECT data, crc FROM blobs WHERE first = ?", (first,)).fetchone()
        return missing(decoded(data, crc) or (), "dropped")

    def lose(self, loss: Loss, size: int) -> None:
        """Note that records are lost; the next write saves that."""
        self.losses = merged(self.losses, loss)
        self.dropped.append((loss, size))

    @property
    def losses_are_saved(self) -> bool:
        """Whether all losses are on disk."""
        return self.losses is self._saved_losses

    def save_losses(self) -> None:
        """Save what is lost now. Raises NoRoomError."""
        with _needing_room(), self._transaction():
            self._save_losses(self.losses)

    def _save_losses(self, losses: tuple[Loss, ...]) -> None:
        """Write the losses that differ from the saved ones: usually none, or the last."""
        saved = self._saved_losses
        if losses is saved:
            return
        same = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], zip(saved, losses, strict=False)))
        self.db.executemany(
            "DELETE FROM losses WHERE first = ? AND reason = ?",
            [(loss.first, loss.reason) for loss in saved[same:]],
        )
        store_losses(self.db, losses[same:])
        self._saved_losses = losses

    def fix(self, first: int, end: int) -> None:
        """Save the bounds of a batch. Raises NoRoomError."""
        with _needing_room():
            self.db.execute("INSERT OR REPLACE INTO bounds VALUES (?, ?)", (first, end))

    def loosen(self, first: int) -> None:
        """Forget the bounds of a batch."""
        self.db.execute("DELETE FROM bounds WHERE first = ?", (first,))

    # -- reading -------------------------------------------------------------------------------------

    def read(self, sequence: int, limit: int) -> list[Blob]:
        """Return the next blobs with records from ``sequence`` on, enough for about ``limit`` records.

        A blob that is not what was written is deleted and becomes a loss; reading continues with the next.
        """
        cursor = self.db.execute(
            "SELECT first, count, size, since, until, crc, data FROM blobs WHERE first >="
            " coalesce((SELECT max(first) FROM blobs WHERE first <= ?), 0) ORDER BY first",
            (sequence,),
        )
        found: list[Blob] = []
        corrupt: list[tuple[Loss, int]] = []
        enough = sequence + limit
        taken = 0
        for first, count, size, since, until, crc, data in cursor:
            if first + count <= sequence:
                continue
            if (first >= enough or taken > BATCH_BYTES) and found:
                break
            records = decoded(data, crc)
            if records is None:
                LOG.error("the spool has %d records from sequence %d on that cannot be read", count, first)
                corrupt.append((Loss("corrupt", first, first + count, count, since, until), size))
                continue
            found.append(Blob(first, records, data))
            taken += size
        cursor.close()
        if corrupt:
            self._take_out([loss.first for loss, _ in corrupt], corrupt)
            self.bytes -= sum(size for _, size in corrupt)
        return found

    def newest(self, count: int) -> list[AnyRecord]:
        """Return the newest records that can be read, about ``count`` of them, oldest first."""
        blobs: list[list[AnyRecord]] = []
        cursor = self.db.execute("SELECT data, crc FROM blobs ORDER BY first DESC")
        while count > 0 and (row := cursor.fetchone()):
            blobs.append(decoded(*row) or [])
            count -= len(blobs[-1])
        cursor.close()
        return [record for blob in reversed(blobs) for record in blob]

    def since(self, sequence: int) -> float | None:
        """Return roughly the receipt (seconds) of the first record from ``sequence`` on; None without any."""
        row = self.db.execute(
            "SELECT since FROM blobs WHERE first + count > :sequence AND first >="
            " coalesce((SELECT max(first) FROM blobs WHERE first <= :sequence), 0) ORDER BY first LIMIT 1",
            {"sequence": sequence},
        ).fetchone()
        return float(row[0]) if row else None

    def oldest(self) -> int:
        """Return the first sequence that is still here, or the next one to be used if none is."""
        row = self.db.execute("SELECT min(first) FROM blobs").fetchone()
        return self._next() if row[0] is None else int(row[0])

    def waiting(self, sequence: int) -> tuple[int, int]:
        """Return the number and the bytes of the records from ``sequence`` on."""
        rows = self.db.execute(
            "SELECT coalesce(sum(min(count, first + count - :sequence)), 0), coalesce(sum(size), 0)"
            " FROM blobs INDEXED BY sizes WHERE first + count > :sequence",
            {"sequence": sequence},
        )
        count, size = rows.fetchone()
        return count, size

    # -- care ----------------------------------------------------------------------------------------

    def tend(self, acknowledged: int, trim: int) -> None:
        """Delete the delivered records before ``trim``. Raises NoRoomError; OSError if the files are gone."""
        self._see_that_it_is_there()
        with _needing_room(), self._transaction():
            rows = self.db.execute(
                "DELETE FROM blobs WHERE first < :trim AND first + count <= :trim"
                " AND first < (SELECT max(first) FROM blobs) RETURNING size",
                {"trim": trim},
            ).fetchall()
            self.db.execute("DELETE FROM bounds WHERE end <= ?", (trim,))
            self._set("acknowledged", acknowledged)
            losses = self._needed_losses()
            self._save_losses(losses)
            self._raise_format(acknowledged)
        self.losses = losses
        self.encode = encoder(
            self.db
        )  # as committed: what an earlier version may still read, it must read right
        self.bytes -= sum(size for (size,) in rows)
        with _needing_room():
            self._give_back()
        self.update_limit()

    def _needed_losses(self) -> tuple[Loss, ...]:
        """Return the losses without the delivered ones that nothing on disk is older than."""
        oldest = self.oldest()
        needed = tuple(loss for loss in self.losses if loss.reason != DELIVERED or loss.end > oldest)
        return needed if len(needed) < len(self.losses) else self.losses

    def locate(self, acknowledged: int) -> None:
        """Save what the store's position means: until then, each opening must know what may be missing."""
        with _needing_room(), self._transaction():
            self._set("acknowledged", acknowledged)
            self._set("exact", 1)

    def _raise_format(self, acknowledged: int) -> None:
        """Switch to the current format once the store has everything that an earlier version wrote."""
        if self.encode is not codec.encode and acknowledged >= self.incarnations.present.first:
            self.db.execute(f"PRAGMA user_version = {FORMAT}")

    def _see_that_it_is_there(self) -> None:
        """Raise OSError if the files were deleted: writing to them still works, but nobody could read it."""
        for path in (self.path, Path(f"{self.path}-wal")):
            if not path.exists():
                raise OSError(f"{path.name} was deleted while it was in use")

    def sync(self) -> bool:
        """Make what was written so far survive a power failure; runs on a thread of its own.

        Returns whether the write-ahead log has become so long that ``shorten_log`` is due: by itself it
        restarts only if nothing was written during a sync. Raises NoRoomError.
        """
        with _needing_room():
            for _ in range(_CHECKPOINTS):  # one that is under way may have begun before the last write
                busy, pages, _ = self._syncing.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if not busy:
                    return int(pages) * 4096 > LOG_BYTES
                time.sleep(_CHECKPOINT_PAUSE)
        raise NoRoomError("another checkpoint does not end")

    def shorten_log(self) -> None:
        """Sync what was written during the last sync, so that the log restarts. Raises NoRoomError."""
        with _needing_room():
            self.db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()

    def update_limit(self) -> None:
        """Set ``limit`` by the space that the disk has left."""
        disk = os.statvfs(self.folder)
        self.limit = self.bytes + disk.f_bavail * disk.f_frsize + self._free_bytes() - RESERVE_BYTES

    def _free_bytes(self) -> int:
        (pages,) = self.db.execute("PRAGMA freelist_count").fetchone()
        return int(pages) * 4096

    def _give_back(self) -> None:
        """Shrink the file by up to 2048 pages if most of it is empty."""
        if self._free_bytes() > 2 * self.bytes + 2 * RESERVE_BYTES:
            self.db.execute("PRAGMA incremental_vacuum(2048)").fetchall()

    def _set(self, key: str, value: object) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        saved_losses = self._saved_losses
        try:
            with transaction(self.db):
                yield
        except BaseException:
            self._saved_losses = saved_losses
            raise


def _boot() -> str:
    """Return the id of the machine's present boot."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text() if path.exists() else secrets.token_hex(8)


@contextlib.contextmanager
def _needing_room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise
        raise NoRoomError(str(error)) from error
