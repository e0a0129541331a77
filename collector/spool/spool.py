"""The durable queue between the exchange and the store, in a folder of its own.

It is a SQLite database, because SQLite's write-ahead log survives SIGKILL without an fsync per append,
repairs by itself what a crash left half-written, and is in the standard library.

A record has a sequence number from the moment it enters. With the *incarnation*, a random id that is
new at every opening, the number never names two records: not after a power failure that took back the
last second, not after the folder was deleted or restored from a backup. An incarnation's sequences begin
at its opening's time in microseconds: they order all records of a collector, whatever became of its folder.

All disk work happens on one thread, never on the event loop's, and syncing on another: an fsync holds up no
append. What came last stays in memory as well, so that a writer that keeps up never reads from disk.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import msgspec

from collector.batch import Batch, Position
from collector.gap_records import missing
from collector.records import AnyRecord
from collector.spool.backlog import Arrivals, Backlog, Delivered
from collector.spool.database import Blob, NoRoomError, SpoolFile
from collector.spool.losses import Loss, forgotten
from collector.spool.recent import Recent
from collector.spool.schema import SpoolError, SpoolInUseError
from collector.spool.threads import DiskThreads

__all__ = ["Loss", "NoRoomError", "Spool", "SpoolError", "SpoolInUseError", "Start"]

BLOB_BYTES = 2**20  # an append of more is split, so that a batch of huge records stays small
MEMORY_BYTES = 2 * 2**20  # of encoded records kept in memory too; as objects they take a dozen times that
UNSAVED_BYTES = 16 * 2**20  # of records kept in memory only, while the disk takes none
READ_AHEAD = 4000  # records that are read from disk at once
SAY_EVERY = 60.0  # seconds between two log lines about the same trouble

LOG = logging.getLogger(__name__)


class Start(msgspec.Struct, frozen=True):
    """Where a writer goes on: ``after`` is its position, ``forgotten`` what neither side has any more."""

    after: Position
    forgotten: Loss | None


class Spool:
    """See the module. ``await Spool.open(...)`` makes one, ``await spool.close()`` is the clean stop.

    Attributes:
        dropped: records dropped or found corrupt since this opening.
    """

    def __init__(self, folder: Path, *, max_bytes: int, keep: float) -> None:
        self._file = SpoolFile(folder)
        self._threads = DiskThreads(self._file)
        self._max_bytes = max_bytes
        self._lock = asyncio.Lock()  # one piece of disk work at a time
        self._unsaved_marks: dict[str, str] = {}
        self._dropping = False  # the disk work under way may drop what a read would give
        self._ahead: Sequence[Blob] = ()  # what was read from disk last
        self._delivered = Delivered(keep)
        self._said: dict[str, float] = {}

    @classmethod
    async def open(
        cls, folder: Path, *, max_bytes: int = 2 * 2**30, keep: float = 60.0, sync: float = 1.0
    ) -> "Spool":
        """Open the spool of ``folder``, or make one there.

        Args:
            folder: on a disk that outlives the process.
            max_bytes: most bytes of records on disk; beyond it the oldest go.
            keep: seconds that delivered records are kept, to send again what a store forgot.
            sync: seconds between two fsyncs: the most that a power failure may cost.

        Raises SpoolError if the folder cannot be used, or has another version's format, and
        SpoolInUseError where another process has it.
        """
        spool = cls(folder, max_bytes=max_bytes, keep=keep)
        try:
            await spool._on_disk(spool._file.open)
            waiting = await spool._on_disk(spool._file.waiting, spool._file.opening.acknowledged)
        except BaseException:
            await spool.let_go()
            raise
        spool._begin(sync, *waiting)
        return spool

    def _begin(self, sync: float, records: int, size: int) -> None:
        file = self._file
        end = file.incarnations.present.first
        self._recent = Recent(end)
        self._arrivals = Arrivals(end)
        self._backlog = Backlog(min(file.opening.acknowledged, end), records, size)
        self.dropped = 0
        self._tending = asyncio.create_task(self._tend_for_ever(sync), name="spool")

    async def close(self) -> None:
        """Save what is not yet saved, and stop cleanly."""
        self._tending.cancel()
        await asyncio.wait([self._tending])
        with contextlib.suppress(SpoolError):
            await self._saved()
        async with self._lock:
            await self._on_disk(self._file.finish, self.acknowledged)
        await self.let_go()

    async def let_go(self) -> None:
        """Close the files, as a crash would."""
        await self._threads.end()

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._file.folder

    @property
    def owner(self) -> str:
        """Random id, made with the spool."""
        return self._file.opening.owner

    @property
    def incarnation(self) -> str:
        """Random id of this opening."""
        return self._file.incarnations.present.id

    @property
    def clean(self) -> bool | None:
        """Whether the last opening ended with ``close``; None if there was none."""
        return self._file.opening.clean

    @property
    def mended(self) -> bool:
        """Whether it was broken, and now has what could be recovered."""
        return self._file.opening.mended

    @property
    def marks_whole(self) -> bool:
        """Whether all marks that were made are there."""
        return self._file.opening.marks_whole

    @property
    def exact(self) -> bool:
        """Whether it surely has all that was appended before: no power failed, no backup was restored."""
        return self._file.opening.exact

    @property
    def begun(self) -> float:
        """When the oldest opening that is known began, in seconds."""
        return self._file.incarnations.begun / 1e6

    @property
    def marks(self) -> Mapping[str, str]:
        """Small facts that survive with the records; ``append`` writes them."""
        return MappingProxyType(self._file.marks)

    @property
    def end(self) -> int:
        """The sequence of the next record to come."""
        return self._recent.end

    @property
    def acknowledged(self) -> int:
        """The store has all before this sequence."""
        return self._backlog.acknowledged

    @property
    def undelivered(self) -> tuple[int, int]:
        """How many records the store has not got yet, and their bytes."""
        return self._backlog.records, self._backlog.bytes

    async def oldest(self) -> float | None:
        """Return the receipt of the oldest record that the store has not got, float seconds; None: no record.

        It is read from disk, by its index, where memory holds newer ones alone. Raises SpoolError.
        """
        if not self._backlog.records:
            return None
        recent = self._recent.receipt_of(self.acknowledged)
        return recent if recent is not None else await self._on_disk(self._file.since, self.acknowledged)

    @property
    def losses(self) -> Sequence[Loss]:
        """What was lost, oldest first; the last one grows in place. They survive with the records."""
        return self._file.losses

    # -- in ------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[AnyRecord], marks: Mapping[str, str] | None = None) -> None:
        """Take ``records`` and ``marks``, all or none; on return they survive SIGKILL.

        While the disk takes nothing, records stay in memory, as many as fit, and the log says so.
        Raises SpoolError if the database broke; opening it again recovers what can be.
        """
        self._threads.see_that_it_is_well()
        for blob in _blobs(self.end, records, self._file.encode):
            self._recent.add(blob)
            self._backlog.add(blob)
        if marks:
            for key, value in marks.items():
                self.mark(key, value)
        await asyncio.shield(self._saved())  # whoever gives up waiting does not stop the disk half-way

    def mark(self, key: str, value: str) -> None:
        """Take a mark that is saved with whatever is saved next, at the latest when the spool is closed.

        An empty one is none.
        """
        self._unsaved_marks[key] = value
        if value:
            self._file.marks[key] = value
        else:
            self._file.marks.pop(key, None)

    async def _saved(self) -> None:
        async with self._lock:  # who waits here is saved together with the first that does
            await self._save()

    async def _save(self) -> None:
        blobs = self._recent.unsaved
        if not blobs and not self._unsaved_marks:
            return
        marks, self._unsaved_marks = self._unsaved_marks, {}
        self._dropping = not self._file.room_for(sum(len(blob.data) for blob in blobs), self._max_bytes)
        try:
            await self._on_disk(self._file.write, blobs, marks, self._max_bytes, self._kept())
            self._recent.saved(len(blobs))
        except NoRoomError as error:
            self._unsaved_marks = marks | self._unsaved_marks
            self._say("room", f"the spool {self._file.path} is in memory only: {error}")
            self._forget_unsaved()
        finally:
            self._dropping = False
            self._count_dropped()
        if blobs:
            self._recent.shrink(MEMORY_BYTES)  # what is on disk need not be in memory as well
            self._arrivals.reach(blobs[-1].end)

    def _kept(self) -> tuple[int, int]:
        """Return what is in flight: delivered up to the first number, nothing before the second may go."""
        return self._backlog.in_flight(self._file.bounds.values())

    def _forget_unsaved(self) -> None:
        """Drop the oldest that are in memory only, when there are too many."""
        delivered, in_flight = self._kept()
        unsaved = self._recent.unsaved
        excess = sum(len(blob.data) for blob in unsaved) - UNSAVED_BYTES
        for blob in unsaved:
            if excess <= 0:
                break
            if delivered < blob.end and blob.first < in_flight:
                continue
            excess -= len(blob.data)
            gone = missing(blob.records, "dropped")
            loss = Loss("dropped", blob.first, blob.end, len(blob.records), *blob.span, gone)
            self._file.lose(loss, len(blob.data))

    def _count_dropped(self) -> None:
        """Take what the file dropped out of memory and out of the counts."""
        gone, self._file.dropped = self._file.dropped, []
        for loss, size in gone:
            self._recent.take_out(loss)
            self.dropped += self._backlog.lose(loss.first, loss.end, size)
        if gone:
            self._ahead = ()
            self._say("lost", f"the spool {self._file.path} lost {self.losses[-1]}")

    # -- out -----------------------------------------------------------------------------------------

    async def resume(self, stored: Position | None) -> Start:
        """Where a writer goes on whose store is at ``stored``: the store's position is the truth.

        It may be behind what was acknowledged (the store forgot: the tail is sent again), ahead of it (an
        acknowledgement was lost), or in an incarnation that a power failure or a backup took from us. A
        position of another spool says nothing about our records: we go on from what we know.
        """
        async with self._lock:
            oldest = await self._on_disk(self._file.oldest)
            wanted = self._meaning(stored)
            start = self._file.incarnations.start(wanted, oldest=oldest, end=self._arrivals.end)
            until = await self._on_disk(self._file.since, start) or time.time()
            loss, self._file.losses = forgotten(self.losses, self._file.incarnations, wanted, start, until)
            self._recent.forget_before(start)
            self._arrivals.restart()
            self._delivered.take_back(start)
            records, size = await self._on_disk(self._file.waiting, start)
            unsaved = self._recent.unsaved
            records += sum(blob.end - max(blob.first, min(start, blob.end)) for blob in unsaved)
            size += sum(len(blob.data) for blob in unsaved if blob.end > start)
            self._backlog = Backlog(start, records, size)
        return Start(Position(self.owner, self._file.incarnations.of(start), start), loss)

    def knows(self, stored: Position) -> bool:
        """Return whether ``stored`` is a position of this spool, and not of a copy that went its own way."""
        return stored.owner == self.owner and self._file.incarnations.have(stored.incarnation)

    def _meaning(self, stored: Position | None) -> int:
        """Return the sequence before which the store has all, as far as its position tells."""
        if stored and stored.owner != self.owner:
            return self.acknowledged
        return self._file.incarnations.meaning(
            stored, end=self.end, acknowledged=self.acknowledged, exact=self.exact
        )

    async def read(self, after: Position | None, limit: int) -> Batch | None:
        """Return the next records after ``after``, at most ``limit``; None if there are none. Does not wait.

        A batch has one incarnation, and the bounds that ``fix`` gave it, if any.
        Raises SpoolError if the database broke.
        """
        sequence = after.sequence if after else 0
        if sequence >= self._arrivals.end:
            return None
        limit = self._file.bounds.get(sequence, sequence + limit) - sequence
        batch = self._batch(await self._blobs_with(sequence, limit), sequence, limit)
        if batch is None:
            self._arrivals.exhaust()
        return batch

    async def _blobs_with(self, sequence: int, limit: int) -> Sequence[Blob]:
        """Blobs with the ``limit`` records from ``sequence`` on: from memory or from disk.

        Reading and decoding a blob takes long, so more than one batch is read from disk at once.
        """
        if not self._dropping:
            if self._recent.begin_before(sequence):
                self._ahead = ()
                return self._recent.blobs
            if self._ahead and self._ahead[0].first <= sequence <= self._ahead[-1].end - limit:
                return self._ahead
        async with self._lock:
            blobs = await self._on_disk(self._file.read, sequence, max(limit, READ_AHEAD))
            self._count_dropped()
            self._ahead = blobs
        return blobs or self._recent.blobs

    def _batch(self, blobs: Sequence[Blob], sequence: int, limit: int) -> Batch | None:
        records: list[AnyRecord] = []
        first, size = sequence, 0
        for blob in blobs:
            if blob.end <= sequence:
                continue
            if blob.first >= self._arrivals.end:
                break
            if records and (
                blob.first != first + len(records) or blob.first in self._file.incarnations.beginnings
            ):
                break
            if not records:
                first = max(sequence, blob.first)
            records += blob.records[max(0, sequence - blob.first) :] if blob.first < first else blob.records
            size += len(blob.data) if blob.end <= first + limit else 0
            if len(records) >= limit:
                break
        del records[limit:]
        if not records:
            return None
        batch = Batch(self._file.incarnations.of(first), first, records)
        self._backlog.read(batch.end, len(records), size)
        return batch

    async def tail(self, sequence: int) -> list[AnyRecord]:
        """What came from ``sequence`` on and is still on disk; for a look before anything else happens."""
        blobs: list[Blob] = []
        while found := await self._on_disk(self._file.read, sequence, 1000):
            blobs += found
            sequence = found[-1].end
        return [record for blob in blobs for record in blob.records]

    async def newest(self, count: int) -> list[AnyRecord]:
        """Return the newest records on disk, about ``count`` of them, oldest first."""
        return await self._on_disk(self._file.newest, count)

    async def wait(self, after: Position | None, count: int = 1) -> None:
        """Return when there are ``count`` records after ``after``, roughly: dropped ones count too."""
        sequence = after.sequence if after else 0
        await self._arrivals.wait(sequence, count)

    async def fix(self, batch: Batch) -> None:
        """Make the bounds of ``batch`` last: whenever it is read again, it has the same.

        Raises NoRoomError if the disk takes nothing.
        """
        if batch.first in self._file.bounds:
            return
        async with self._lock:
            await self._on_disk(self._file.fix, batch.first, batch.end)
        await self._synced()
        self._file.bounds[batch.first] = batch.end

    async def loosen(self, position: Position) -> None:
        """Forget the bounds of the batch after ``position``: it is to be tried in parts."""
        if self._file.bounds.pop(position.sequence, None):
            async with self._lock:
                await self._on_disk(self._file.loosen, position.sequence)

    async def acknowledge(self, position: Position) -> None:
        """The store has all before ``position``. It is kept ``keep`` seconds longer, as far as fits."""
        self._backlog.acknowledge(position.sequence)
        self._recent.forget_before(self.acknowledged)

    # -- care ----------------------------------------------------------------------------------------

    async def tend(self) -> None:
        """Save, sync, and delete what was delivered long enough ago; happens every ``sync`` seconds."""
        try:
            await asyncio.shield(self._saved())
            async with self._lock:
                trim = self._delivered.trim(time.monotonic(), self.acknowledged)
                await self._on_disk(self._file.tend, self.acknowledged, trim)
            await self._synced()
        except NoRoomError as error:
            self._say("room", f"the spool {self._file.path} cannot be synced: {error}")

    async def _tend_for_ever(self, pause: float) -> None:
        with contextlib.suppress(SpoolError):  # the next append tells
            while True:
                await asyncio.sleep(pause)
                await self.tend()

    async def _synced(self) -> None:
        if await self._threads.sync():
            async with self._lock:
                await self._on_disk(self._file.shorten_log)

    async def _on_disk[**P, T](self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        return await self._threads.work(work, *arguments, **named)

    def _say(self, what: str, line: str) -> None:
        """A log line about a trouble that lasts, now and then."""
        now = time.monotonic()
        if now - self._said.get(what, -SAY_EVERY) >= SAY_EVERY:
            self._said[what] = now
            LOG.error("%s", line)


def _blobs(
    first: int, records: Sequence[AnyRecord], encode: Callable[[Sequence[AnyRecord]], bytes]
) -> Iterator[Blob]:
    if not records:
        return
    data = encode(records)
    if len(data) <= BLOB_BYTES or len(records) == 1:
        yield Blob(first, records, data)
        return
    middle = len(records) // 2
    yield from _blobs(first, records[:middle], encode)
    yield from _blobs(first + middle, records[middle:], encode)
