"""The durable queue between the exchange and the store, in a folder of its own.

It is a SQLite database, because SQLite's write-ahead log survives SIGKILL without an fsync per append,
repairs by itself what a crash left half-written, and is in the standard library.

Each record gets a sequence number when it enters. Together with the *incarnation*, a random id that is new at
every opening, that number never names two records: not after a power failure that lost the last second, nor
after the folder was deleted or restored from a backup. An incarnation's sequences begin at the time of its
opening in microseconds, so they order all records of a collector, whatever happened to its folder.

All disk work runs on one thread, never on the event loop's, and syncing on another, so an fsync delays no
append. The newest records are kept in memory too, so a writer that keeps up never reads from disk.
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
from collector.spool.losses import DELIVERED, Loss, forgotten
from collector.spool.recent import Recent
from collector.spool.schema import SpoolError, SpoolInUseError
from collector.spool.threads import DiskThreads

__all__ = ["Loss", "NoRoomError", "Spool", "SpoolError", "SpoolInUseError", "Start"]

BLOB_BYTES = 2**20  # larger appends are split, which bounds a batch of huge records
MEMORY_BYTES = 2 * 2**20  # of encoded records also kept in memory; objects take about 12 times that
UNSAVED_BYTES = 16 * 2**20  # of records kept in memory only, while the disk accepts none
READ_AHEAD = 4000  # records read from disk at once
SAY_EVERY = 60.0  # seconds between log lines about the same problem

LOG = logging.getLogger(__name__)


class Start(msgspec.Struct, frozen=True):
    """Where a writer resumes: ``after`` is its position, ``forgotten`` what neither side still has."""

    after: Position
    forgotten: Loss | None


class Spool:
    """The queue of one folder. ``await Spool.open(...)`` opens it, ``await spool.close()`` stops it cleanly.

    Attributes:
        dropped: number of records dropped or found corrupt since this opening.
    """

    def __init__(self, folder: Path, *, max_bytes: int, keep: float) -> None:
        self._file = SpoolFile(folder)
        self._threads = DiskThreads(self._file)
        self._max_bytes = max_bytes
        self._lock = asyncio.Lock()  # one piece of disk work at a time
        self._unsaved_marks: dict[str, str] = {}
        self._dropping = False  # the disk work in progress may drop what a read would return
        self._ahead: Sequence[Blob] = ()  # what the last read from disk returned
        self._delivered = Delivered(keep)
        self._said: dict[str, float] = {}

    @classmethod
    async def open(
        cls, folder: Path, *, max_bytes: int = 2 * 2**30, keep: float = 60.0, sync: float = 1.0
    ) -> "Spool":
        """Open the spool in ``folder``, or create one there.

        Args:
            folder: must be on a disk that outlives the process.
            max_bytes: maximum size of the records on disk; beyond it the oldest are dropped.
            keep: seconds for which delivered records are kept, to resend what a store forgot.
            sync: seconds between fsyncs: the most that a power failure can lose.

        Raises SpoolError if the folder cannot be used or has the format of another version, and
        SpoolInUseError if another process has it open.
        """
        spool = cls(folder, max_bytes=max_bytes, keep=keep)
        try:
            await spool._on_disk(spool._file.open)
            waiting = await spool._on_disk(spool._file.waiting, spool._file.opening.acknowledged)
        except BaseException:
            await spool.abort()
            raise
        spool._begin(sync, *waiting)
        return spool

    def _begin(self, sync: float, records: int, size: int) -> None:
        file = self._file
        end = file.incarnations.present.first
        self._recent = Recent(end)
        self._arrivals = Arrivals(end)
        self._backlog = Backlog(min(file.opening.acknowledged, end), records, size)
        self._backlog.lost = bool(self.losses)  # not synced, if the disk was full
        self.dropped = 0
        self._tending = asyncio.create_task(self._tend_for_ever(sync), name="spool")

    async def close(self) -> None:
        """Save what is unsaved, and stop cleanly."""
        self._tending.cancel()
        await asyncio.wait([self._tending])
        with contextlib.suppress(SpoolError):
            await self._saved()
        async with self._lock:
            await self._on_disk(self._file.finish, self.acknowledged)
        await self.abort()

    async def abort(self) -> None:
        """Close the files without a clean stop, as a crash would."""
        await self._threads.end()

    @property
    def folder(self) -> Path:
        """The folder that the spool is in."""
        return self._file.folder

    @property
    def owner(self) -> str:
        """The random id that the spool got when it was created."""
        return self._file.opening.owner

    @property
    def incarnation(self) -> str:
        """The random id of this opening."""
        return self._file.incarnations.present.id

    @property
    def clean(self) -> bool | None:
        """Whether the last opening ended with ``close``; None if there was none."""
        return self._file.opening.clean

    @property
    def mended(self) -> bool:
        """Whether the database was broken, and now holds what could be recovered."""
        return self._file.opening.mended

    @property
    def marks_whole(self) -> bool:
        """Whether no mark was lost."""
        return self._file.opening.marks_whole

    @property
    def exact(self) -> bool:
        """Whether nothing appended earlier can be missing: no power failure, no restored backup."""
        return self._file.opening.exact

    @property
    def begun(self) -> float:
        """When the oldest known opening began, in seconds (UTC)."""
        return self._file.incarnations.begun / 1e6

    @property
    def marks(self) -> Mapping[str, str]:
        """Small facts that are saved with the records; ``append`` writes them."""
        return MappingProxyType(self._file.marks)

    @property
    def end(self) -> int:
        """The sequence of the next record."""
        return self._recent.end

    @property
    def acknowledged(self) -> int:
        """The sequence before which the store has everything."""
        return self._backlog.acknowledged

    @property
    def undelivered(self) -> tuple[int, int]:
        """The number and the bytes of the records that the store does not have yet."""
        return self._backlog.records, self._backlog.bytes

    async def oldest(self) -> float | None:
        """Return the receipt (float seconds) of the oldest undelivered record; None if there is none.

        Reads the disk, through an index, if memory holds only newer records. Raises SpoolError.
        """
        if not self._backlog.records:
            return None
        recent = self._recent.receipt_of(self.acknowledged)
        return recent if recent is not None else await self._on_disk(self._file.since, self.acknowledged)

    @property
    def losses(self) -> Sequence[Loss]:
        """What was lost, oldest first; the last one grows in place. Saved with the records."""
        return self._file.losses

    @property
    def losses_are_saved(self) -> bool:
        """Whether the losses are on disk: they are not while it accepts nothing."""
        return self._file.losses_are_saved

    # -- in ------------------------------------------------------------------------------------------

    async def append(self, records: Sequence[AnyRecord], marks: Mapping[str, str] | None = None) -> None:
        """Append ``records`` and ``marks``, all or none; once this returns they survive SIGKILL.

        While the disk accepts nothing, records stay in memory, as many as fit, and the log says so.
        Raises SpoolError if the database broke; the next opening recovers what it can.
        """
        self._threads.see_that_it_is_well()
        for blob in _blobs(self.end, records, self._file.encode):
            self._recent.add(blob)
            self._backlog.add(blob)
        if marks:
            for key, value in marks.items():
                self.mark(key, value)
        await asyncio.shield(self._saved())  # a cancelled caller must not interrupt the disk work

    def mark(self, key: str, value: str) -> None:
        """Set a mark, which is saved with whatever is saved next, at the latest when the spool is closed.

        An empty value removes it.
        """
        self._unsaved_marks[key] = value
        if value:
            self._file.marks[key] = value
        else:
            self._file.marks.pop(key, None)

    async def _saved(self) -> None:
        async with self._lock:  # everyone who waits here is saved together
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
            self._recent.shrink(MEMORY_BYTES)  # what is on disk can be read from there
            self._arrivals.reach(blobs[-1].end)

    def _kept(self) -> tuple[int, int]:
        """Return two sequences: all before the first is delivered; from there to the second, keep all."""
        return self._backlog.in_flight(self._file.bounds.values())

    def _forget_unsaved(self) -> None:
        """Drop the oldest records that are in memory only, if there are too many.

        Those that the store has are noted, too: on disk they will be a hole.
        """
        delivered, in_flight = self._kept()
        unsaved = self._recent.unsaved
        excess = sum(len(blob.data) for blob in unsaved) - UNSAVED_BYTES
        for blob in unsaved:
            if excess <= 0:
                break
            if delivered < blob.end and blob.first < in_flight:
                continue
            excess -= len(blob.data)
            reason = DELIVERED if blob.end <= delivered else "dropped"
            gone = missing(blob.records, "forgotten" if reason == DELIVERED else "dropped")
            loss = Loss(reason, blob.first, blob.end, len(blob.records), *blob.span, gone)
            self._file.lose(loss, len(blob.data))

    def _count_dropped(self) -> None:
        """Remove from memory and from the counts what the file dropped."""
        gone, self._file.dropped = self._file.dropped, []
        for loss, _ in gone:
            self._recent.take_out(loss)
        lost = [(loss, size) for loss, size in gone if loss.reason != DELIVERED]
        for loss, size in lost:
            self.dropped += self._backlog.lose(loss.first, loss.end, size)
        if gone:
            self._ahead = ()
        if lost:
            newest = next(loss for loss in reversed(self.losses) if loss.reason != DELIVERED)
            self._say("lost", f"the spool {self._file.path} lost {newest}")

    # -- out -----------------------------------------------------------------------------------------

    async def resume(self, stored: Position | None) -> Start:
        """Return where to resume writing to a store whose position is ``stored``; that position is decisive.

        It may be behind what was acknowledged (the store forgot: the tail is sent again), ahead of it (an
        acknowledgement was lost), or in an incarnation that a power failure or a restored backup removed
        here. A position of another spool says nothing about our records, so we resume from what we know.
        """
        async with self._lock:
            oldest = await self._on_disk(self._file.oldest)
            wanted = self._meaning(stored)
            start = self._file.incarnations.start(wanted, oldest=oldest, end=self._arrivals.end)
            until = await self._on_disk(self._file.since, start) or time.time()
            before = self.losses
            loss, self._file.losses = forgotten(before, self._file.incarnations, wanted, start, until)
            self._recent.forget_before(start)
            self._arrivals.restart()
            self._delivered.take_back(start)
            records, size = await self._on_disk(self._file.waiting, start)
            unsaved = self._recent.unsaved
            records += sum(blob.end - max(blob.first, min(start, blob.end)) for blob in unsaved)
            size += sum(len(blob.data) for blob in unsaved if blob.end > start)
            lost = self._backlog.lost or self.losses != before
            self._backlog = Backlog(start, records, size)
            self._backlog.lost = lost
            if not self.exact:
                with contextlib.suppress(NoRoomError):  # then the next opening is not exact either
                    await self._on_disk(self._file.locate, start)
        await self._keep_losses()
        return Start(Position(self.owner, self._file.incarnations.of(start), start), loss)

    async def _keep_losses(self) -> None:
        """Sync what was lost: once the store has what comes after that, its position no longer shows it."""
        if not self._backlog.lost:
            return
        self._backlog.lost = False
        try:
            async with self._lock:
                await self._on_disk(self._file.save_losses)
            await self._synced()
        except NoRoomError as error:
            self._backlog.lost = True
            self._say("room", f"the spool {self._file.path} cannot note what was lost: {error}")

    def knows(self, stored: Position) -> bool:
        """Return whether ``stored`` is a position of this spool, not of a copy that was used elsewhere."""
        return stored.owner == self.owner and self._file.incarnations.have(stored.incarnation)

    def lacks(self, stored: Position) -> bool:
        """Return whether a store at this position has records that an earlier opening could not save."""
        return self._file.incarnations.lack(stored)

    def _meaning(self, stored: Position | None) -> int:
        """Return the sequence before which the store has everything, judging by its position."""
        if stored and stored.owner != self.owner:
            return self.acknowledged
        return self._file.incarnations.meaning(
            stored, end=self.end, acknowledged=self.acknowledged, exact=self.exact
        )

    async def read(self, after: Position | None, limit: int) -> Batch | None:
        """Return the next records after ``after``, at most ``limit``; None if there are none. Does not wait.

        All records of a batch have one incarnation. A batch that ``fix`` bounded keeps those bounds.
        Raises SpoolError if the database broke.
        """
        sequence = after.sequence if after else 0
        if sequence >= self._arrivals.end:
            return None
        batch = self._batch(await self._blobs_with(sequence, self._reach(sequence, limit)), sequence, limit)
        if batch is None:
            self._arrivals.exhaust()
        await self._keep_losses()
        return batch

    def _reach(self, sequence: int, limit: int) -> int:
        """Return how many records to read: up to the end of a fixed batch, if those before it are lost."""
        first = self._first_fixed(sequence)
        return limit if first is None else max(limit, self._file.bounds[first] - sequence)

    def _first_fixed(self, sequence: int) -> int | None:
        return min((first for first in self._file.bounds if first >= sequence), default=None)

    async def _blobs_with(self, sequence: int, limit: int) -> Sequence[Blob]:
        """Return blobs that contain the ``limit`` records from ``sequence`` on, from memory or from disk.

        Reading and decoding a blob is slow, so more than one batch is read from disk at once.
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
                limit = self._file.bounds.get(first, first + limit) - first
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
        """Return the records on disk from ``sequence`` on; to be called before anything is appended."""
        blobs: list[Blob] = []
        while found := await self._on_disk(self._file.read, sequence, 1000):
            blobs += found
            sequence = found[-1].end
        return [record for blob in blobs for record in blob.records]

    async def newest(self, count: int) -> list[AnyRecord]:
        """Return the newest records on disk, about ``count`` of them, oldest first."""
        return await self._on_disk(self._file.newest, count)

    async def wait(self, after: Position | None, count: int = 1) -> None:
        """Wait until there are about ``count`` records after ``after``; dropped ones count too."""
        sequence = after.sequence if after else 0
        await self._arrivals.wait(sequence, count)

    async def fix(self, batch: Batch) -> None:
        """Save the bounds of ``batch``, so that every later read returns the same batch.

        Raises NoRoomError if the disk accepts nothing.
        """
        if batch.first in self._file.bounds:
            return
        async with self._lock:
            await self._on_disk(self._file.fix, batch.first, batch.end)
        await self._synced()
        self._file.bounds[batch.first] = batch.end

    def fixed_after(self, position: Position) -> Position:
        """Return where the bounded batch after ``position`` begins: records before it may have been lost.

        Return ``position`` if no batch has bounds.
        """
        first = self._first_fixed(position.sequence)
        return position if first is None else Position(self.owner, self._file.incarnations.of(first), first)

    async def loosen(self, start: Position) -> None:
        """Forget the bounds of the batch that begins at ``start``, so that it can be tried in parts."""
        if self._file.bounds.pop(start.sequence, None):
            async with self._lock:
                await self._on_disk(self._file.loosen, start.sequence)

    async def acknowledge(self, position: Position) -> None:
        """Note that the store has all before ``position``; it is kept ``keep`` seconds longer, if it fits."""
        self._backlog.acknowledge(position.sequence)
        self._recent.forget_before(self.acknowledged)

    # -- care ----------------------------------------------------------------------------------------

    async def tend(self) -> bool:
        """Save, sync, and delete what was delivered long enough ago; runs every ``sync`` seconds.

        Return whether the disk had room for that.
        """
        try:
            await asyncio.shield(self._saved())
            async with self._lock:
                trim = self._delivered.trim(time.monotonic(), self.acknowledged)
                await self._on_disk(self._file.tend, self.acknowledged, trim)
                self._file.bounds = {first: end for first, end in self._file.bounds.items() if end > trim}
            await self._synced()
        except NoRoomError as error:
            self._say("room", f"the spool {self._file.path} cannot be synced: {error}")
            return False
        return True

    async def _tend_for_ever(self, pause: float) -> None:
        with contextlib.suppress(SpoolError):  # the next append raises it
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
        """Log a persistent problem, at most every SAY_EVERY seconds."""
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
