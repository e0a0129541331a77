"""Spool -> store: reads batches, commits each on the expected position, and survives whatever the store does.

At every (re)connection the store's position is the truth: the writer goes on from there, back or forward. It
waits for a store that is away as long as it takes, with a back-off.

Where a place of the store takes no record, nothing is put aside (``refusals``). What comes before the first
such record is stored, and then the writer waits, in the state refused, until the store takes it, or takes a
later record of that place. Other channels wait as well: there is one position for all, and records are stored
in their order.
"""

import asyncio
import contextlib
import logging
import random
import time

from collector import lease
from collector.batch import Batch, Position, Refusal
from collector.crash_watch import CrashWatch
from collector.gaps.continuity import Continuity
from collector.gaps.overlap import Overlap
from collector.lease import Lease, answer
from collector.metrics import Metrics
from collector.neighbours import TELL, Neighbours
from collector.records import counts
from collector.refusals import Refusals
from collector.spool.spool import NoRoomError, Spool, SpoolError
from collector.store_state import StoreState
from collector.stores import (
    FixedStore,
    PositionLostError,
    Store,
    StoreRefusedError,
    StoreUnavailableError,
)
from collector.stores.terminal import ClosedOutputError

MOST_PAUSE = 30.0  # seconds between two attempts
REFUSED_PAUSE = 10.0  # seconds before asking again a store that would not have us
LEAVE = 2.0  # seconds for saying goodbye
SEARCH = 4  # so many usual batches are looked at for a record of the same place that the store takes

#: What may end a commit, and is about the store or the spool: no batch is suspected because of it.
FORESEEN = (StoreUnavailableError, StoreRefusedError, PositionLostError, SpoolError, ClosedOutputError)

LOG = logging.getLogger(__name__)


class Writer:
    """One collector's way from its spool to its store."""

    def __init__(  # noqa: PLR0917 - the parts of a collector, each of a kind of its own
        self,
        name: str,
        store: Store,
        spool: Spool,
        metrics: Metrics,
        continuity: Continuity | None = None,
        overlap: Overlap | None = None,
    ) -> None:
        self.state = StoreState()
        self._name, self._store, self._spool, self._metrics = name, store, spool, metrics
        self._lease = Lease(name, store, spool)
        self._neighbours = Neighbours(name, store, self._lease, continuity, overlap)
        self._refusals = Refusals(store, spool, metrics, continuity)
        self._watch = CrashWatch(spool)
        self._gathering = Gathering(store, spool)
        self._failures = 0
        self._unproven = False  # the last batch failed: only one that is stored shows that all is well
        self._size = BatchSize(store)
        self._progress = asyncio.Event()

    async def run(self) -> None:
        """Store for ever.

        Raises AnotherWriterError, SpoolError, or what a store raises that must end the collector.
        """
        try:
            while True:
                pause = await self._until_it_fails()
                self._failures += 1
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads, hides nothing
        finally:
            await self._leave()

    async def drain(self, timeout: float) -> None:  # noqa: ASYNC109 - what is left stays in the spool
        """Wait until all that is in the spool is stored, ``timeout`` seconds at most."""
        self._gathering.hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._spool.undelivered[0]:
                    self._progress.clear()
                    await self._progress.wait()

    async def _until_it_fails(self) -> float:
        """Connect and deliver; return the seconds to wait before the next attempt."""
        backoff = min(MOST_PAUSE, 0.1 * 2.0 ** min(self._failures, 10))
        try:
            await self._connect()
            await self._deliver()
        except StoreUnavailableError as error:
            self.state.enter("away", str(error))
        except StoreRefusedError as error:
            self.state.enter("refused", str(error))
            return max(REFUSED_PAUSE, backoff)
        except PositionLostError as error:
            LOG.warning("%s; reading it again", error)
        return backoff

    async def _connect(self) -> None:
        stored = await self._lease.open()
        await self._neighbours.meet(stored)
        start = await self._spool.resume(stored)
        self._progress.set()  # the store may have all there is
        if start.forgotten:
            LOG.error("the store has lost records that the spool no longer has: %s", start.forgotten)
        self._lease.begin(stored, start.after)
        await self._see_what_ended_us(start.after)
        await self._lease.renew()
        if not self._unproven:
            self.state.enter("connected")

    async def _deliver(self) -> None:
        while True:
            await self._gather()
            await self._neighbours.tell()
            await self._neighbours.decide(self._beat_when_due)
            batch = await self._spool.read(self._lease.after, self._watch.size or self._size.most)
            if batch:
                await self._commit(self._neighbours.without_theirs(batch))

    async def _gather(self) -> None:
        """Wait until there is something, and then for more, as long as the store likes."""
        while True:
            try:
                async with asyncio.timeout(min(TELL, lease.BEAT)):
                    await self._spool.wait(self._lease.after)
                break
            except TimeoutError:
                await self._neighbours.tell()
                await self._neighbours.decide(self._beat_when_due)
                await self._beat_when_due()
        await self._gathering.more(self._lease.after)

    async def _beat_when_due(self) -> None:
        if self._lease.is_due:
            await self._lease.renew()
            self._is_well()

    async def _see_what_ended_us(self, position: Position) -> None:
        self._watch.begin(position.sequence)
        if self._watch.suspect and isinstance(self._store, FixedStore):
            start = self._spool.fixed_after(position)
            await answer(self._store.discard(self._name, start))
            await self._spool.loosen(start)

    async def _commit(self, batch: Batch) -> None:
        if self._watch.is_proven(batch):
            record = batch.records[0]
            reason = f"it crashed the collector each of the {self._watch.deaths} times it was written"
            refusal = Refusal(batch.first, record, reason, unwritable=True)
            await self._refusals.put_aside(batch, [refusal])
            batch = batch.without([refusal])
        if batch.incarnation != self._spool.incarnation:
            batch = await self._refusals.without_excess(batch)
        if self._store.fixed_batches:
            await self._fix(batch)
        position = self._lease.sequence
        await self._watch.note(position, batch, on_the_loop=not self._store.fixed_batches)
        try:
            await self._store_but_what_is_refused(batch)
        except FORESEEN as error:
            self._size.failed(len(batch.records), error)
            await self._watch.over(None)
            raise
        except asyncio.CancelledError:
            self._watch.forget()
            raise
        except Exception:
            self._watch.failed(position, batch)
            raise
        await self._watch.over(self._lease.sequence)

    async def _store_but_what_is_refused(self, batch: Batch) -> None:
        self._unproven = True
        begun = time.monotonic()
        while refusals := await self._lease.commit(batch):
            self._size.refused()
            batch = await self._refusals.without(refusals, batch)
        self._count(batch)
        self._size.stored(time.monotonic() - begun)
        self._is_well()
        self._progress.set()

    def _is_well(self) -> None:
        self._failures = 0
        self._unproven = False
        self._size.is_well()
        if self.state.state != "connected":
            self.state.enter("connected")

    async def _fix(self, batch: Batch) -> None:
        """A batch whose bounds nobody would know after a crash is not tried: room is waited for."""
        try:
            await self._spool.fix(batch)
        except NoRoomError as error:
            raise StoreUnavailableError(
                f"no space in the spool for the bounds of a batch: {error}"
            ) from error

    def _count(self, batch: Batch) -> None:
        _, records = batch.kept
        if not records:
            return
        self._metrics.stored.update(counts(records))
        self._metrics.last_stored = time.time()

    async def _leave(self) -> None:
        """Say goodbye, and let a successor take over at once."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(LEAVE):
                if self._lease.is_held and self.state.state == "connected":
                    await self._neighbours.tell(last=True)
                    await self._lease.release()
        await self._store.close()


class BatchSize:
    """How many records the next batch may have, by how the last ones went."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._searching = False  # the last batch was refused: the next one is larger, for more to compare
        self._most: int | None = None  # because a larger batch failed

    @property
    def most(self) -> int:
        """The most records in the next batch."""
        return self._most or self._usual

    @property
    def _usual(self) -> int:
        return self._store.batch_records * (SEARCH if self._searching else 1)

    def refused(self) -> None:
        """Note that the store refused some of a batch."""
        self._searching = True

    def is_well(self) -> None:
        """Note that the store refuses nothing."""
        self._searching = False

    def failed(self, size: int, error: Exception) -> None:
        """Halve the next batch: the way to the store may be too slow for one of that size.

        Not if the store refused: only many records show what it accepts. Fixed batches keep their bounds.
        """
        slow = isinstance(error, StoreUnavailableError) and not self._store.fixed_batches
        self._most = max(1, size // 2) if slow else None

    def stored(self, seconds: float) -> None:
        """Double the next batch if there was time for one of twice the size."""
        if self._most and seconds < lease.PATIENCE / 4:
            self._most = 2 * self._most if 2 * self._most < self._usual else None


class Gathering:
    """Waits until there is enough for a batch, as long as the store likes; not any more, once in a hurry."""

    def __init__(self, store: Store, spool: Spool) -> None:
        self._store, self._spool = store, spool
        self._hurried = False
        self._waiting: asyncio.Timeout | None = None

    async def more(self, after: Position | None) -> None:
        """Return when there is enough after that position, or it has been waited long enough."""
        if not self._store.batch_seconds or self._hurried:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._store.batch_seconds) as self._waiting:
                await self._spool.wait(after, self._store.batch_records)
        self._waiting = None

    def hurry(self) -> None:
        """Wait no more, now and later."""
        self._hurried = True
        if self._waiting and not self._waiting.expired():
            self._waiting.reschedule(asyncio.get_running_loop().time())
