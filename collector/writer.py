"""Spool -> store: reads batches, commits each on the expected position, and survives whatever the store does.

At every (re)connection the store's position is the truth: the writer goes on from there, back or forward. It
waits for a store that is away for ever, with a back-off. Two writers of one name: the second waits until it
is clear whether the first is alive, then stops with an error or takes over.

A refused record goes to the dead letters, and the rest of its batch is stored, only where the record is what
is wrong: nobody could write it, or the store takes others of the same place (table, collection, key) together
with it. Where the store takes none of them, the place is what is wrong: a column that somebody added, a
trigger, a right that is gone. Then nothing is put aside. What comes before the first such record is stored,
and then the writer waits, in the state refused, until the store takes it, or takes a later record of that
place. Other channels wait as well: there is one position for all, and records are stored in their order.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from collector.batch import Batch, Position, Refusal
from collector.bounds import excess
from collector.dead_letters import DeadLetters
from collector.gaps.continuity import Continuity
from collector.gaps.marks import LETTERS_GONE, LettersGone, recall
from collector.gaps.overlap import STEPS, Overlap
from collector.metrics import Metrics
from collector.records import counts
from collector.spool.spool import NoRoomError, Spool, SpoolError
from collector.stores import (
    GONE,
    FixedStore,
    Holder,
    PositionLostError,
    SharedStore,
    Store,
    StoreRefusedError,
    StoreUnavailableError,
)
from collector.stores import notes as codec
from collector.stores.notes import Note
from collector.stores.terminal import ClosedOutputError
from collector.watch import Watch

PATIENCE = 30.0  # seconds that a store has for one answer
MOST_PAUSE = 30.0  # seconds between two attempts
REFUSED_PAUSE = 10.0  # seconds before asking again a store that would not have us
TELL = 1.0  # seconds between two notes
ALMOST_GONE = 0.8 * GONE  # seconds without a sign of life after which others may soon take over
BEAT = 5.0  # seconds without a commit after which an empty one says that we are alive
SAY_EVERY = 60.0  # seconds between two log lines about a store that stays away
LEAVE = 2.0  # seconds for saying goodbye
SEARCH = 4  # so many usual batches are looked at for a record of the same place that the store takes

#: What may end a commit, and is about the store or the spool: no batch is suspected because of it.
FORESEEN = (StoreUnavailableError, StoreRefusedError, PositionLostError, SpoolError, ClosedOutputError)

LOG = logging.getLogger(__name__)


class AnotherWriterError(Exception):
    """Another collector writes under the same name: one of the two must get another NAME, or stop."""


@dataclass
class State:
    """How the store is: connecting, connected, away or refused; ``since`` is float seconds, UTC."""

    state: str = "connecting"
    since: float = field(default_factory=time.time)
    error: str | None = None


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
        self.state = State()
        self._name, self._store, self._spool, self._metrics = name, store, spool, metrics
        self._letters = DeadLetters(spool.folder / "dead-letters.jsonl")
        self._expected: Position | None = None  # what the store has, as far as we know
        self._after: Position | None = None  # where the next batch begins, in the spool's terms
        self._continuity, self._overlap = continuity, overlap
        self._told = self._beaten = 0.0  # when we last did, by time.monotonic()
        self._failures = 0
        self._unproven = False  # the last batch failed: only one that is stored shows that all is well
        self._searching = False  # the last batch was refused: the next one is larger, for more to compare
        self._said: tuple[float, str | None] = (0.0, None)  # when the log was told of which trouble
        self._watch = Watch(spool)
        self._hurried = False
        self._gathering: asyncio.Timeout | None = None
        self._progress = asyncio.Event()

    async def run(self) -> None:
        """Stores for ever.

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
        """Waits until all that is in the spool is stored, ``timeout`` seconds at most."""
        self._hurried = True
        if self._gathering and not self._gathering.expired():
            self._gathering.reschedule(asyncio.get_running_loop().time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._spool.undelivered[0]:
                    self._progress.clear()
                    await self._progress.wait()

    async def _until_it_fails(self) -> float:
        """Connects and delivers; the seconds to wait before the next attempt."""
        backoff = min(MOST_PAUSE, 0.1 * 2.0 ** min(self._failures, 10))
        try:
            await self._connect()
            await self._deliver()
        except StoreUnavailableError as error:
            self._enter("away", str(error))
        except StoreRefusedError as error:
            self._enter("refused", str(error))
            return max(REFUSED_PAUSE, backoff)
        except PositionLostError as error:
            LOG.warning("%s; looking again", error)
        return backoff

    async def _connect(self) -> None:
        stored = await _answer(self._store.open(self._name))
        await self._see_that_nobody_else_writes(stored)
        if self._continuity:
            self._continuity.meet(self._name, await _answer(self._store.notes()))
        if self._overlap:
            self._overlap.reconnect()
        start = await self._spool.resume(stored)
        self._progress.set()  # the store may have all there is
        if start.forgotten:
            LOG.error("the store lacks what the spool no longer has: %s", start.forgotten)
        self._expected, self._after = stored, start.after
        await self._see_what_ended_us(start.after)
        await self._beat()
        if not self._unproven:
            self._enter("connected")

    async def _see_that_nobody_else_writes(self, stored: Position | None) -> None:
        """A holder that gives a sign of life is alive; one that has given none for long is gone.

        It may have a copy of our spool. Then the position has our owner, but an incarnation that we do not
        know; or we are the copy.
        """
        if not isinstance(self._store, SharedStore) or stored is None:
            return
        if self._spool.knows(stored) and (self._spool.exact or self._after):
            return
        last: Holder | None = None
        while True:
            holder = await _answer(self._store.holder(self._name))
            if holder is None or holder.is_gone:
                return
            if last and (holder.owner != last.owner or holder.idle < last.idle + 0.5):
                copy = " with a copy of our spool" if holder.owner == self._spool.owner else ""
                raise AnotherWriterError(
                    f"{holder.who} writes into this store under the name {self._name!r} too{copy}: "
                    "stop it, or give this collector another NAME"
                )
            last = holder
            await asyncio.sleep(1.0)

    async def _beat(self) -> None:
        """A sign of life, and the first claim: an empty batch on the expected position."""
        self._beaten = time.monotonic()
        if isinstance(self._store, SharedStore) and self._after:
            nothing = Batch(self._after.incarnation, self._after.sequence, ())
            await _answer(self._store.commit(self._name, nothing, self._expected, self._after))
            self._expected = self._after

    async def _deliver(self) -> None:
        while True:
            await self._gather()
            await self._tell()
            await self._decide_what_is_ours()
            usual = self._store.batch_records * (SEARCH if self._searching else 1)
            batch = await self._spool.read(self._after, self._watch.size or usual)
            if batch:
                await self._commit(self._overlap.without(batch) if self._overlap else batch)

    async def _gather(self) -> None:
        """Waits until there is something, and then for more, as long as the store likes."""
        while True:
            try:
                async with asyncio.timeout(min(TELL, BEAT)):
                    await self._spool.wait(self._after)
                break
            except TimeoutError:
                await self._tell()
                await self._decide_what_is_ours()
                await self._beat_when_due()
        if self._store.batch_seconds and not self._hurried:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._store.batch_seconds) as self._gathering:
                    await self._spool.wait(self._after, self._store.batch_records)
            self._gathering = None

    async def _beat_when_due(self) -> None:
        if time.monotonic() - self._beaten >= BEAT:
            await self._beat()
            self._is_well()

    async def _decide_what_is_ours(self) -> None:
        """Return when it is clear what of our subscriptions other collectors store."""
        store = self._store
        if not self._overlap or not self._continuity or not isinstance(store, SharedStore):
            return
        if time.monotonic() - self._beaten >= ALMOST_GONE:
            holder = await _answer(store.holder(self._name))
            if holder and holder.idle >= ALMOST_GONE:  # others may count us as gone, and take over
                self._overlap.reconnect()
        looks = 0
        while self._overlap.is_due:
            looks += 1
            await self._beat_when_due()
            self._continuity.hear(await _answer(store.notes()))
            before = self._overlap.claims, self._overlap.choosing
            await self._overlap.look(self._continuity.notes, lambda name: _answer(store.holder(name)))
            if (self._overlap.claims, self._overlap.choosing) != before or self._overlap.undecided:
                await self._note(self._continuity.noted)
            if not self._overlap.undecided:
                return
            if self._overlap.waits or looks >= STEPS:
                await asyncio.sleep(TELL)

    async def _see_what_ended_us(self, position: Position) -> None:
        self._watch.begin(position.sequence)
        if self._watch.suspect and isinstance(self._store, FixedStore):
            await _answer(self._store.discard(self._name, position))
            await self._spool.loosen(position)

    async def _commit(self, batch: Batch) -> None:
        if self._watch.is_proven(batch):
            record = batch.records[0]
            reason = f"it ended the collector each of {self._watch.deaths} times that it was written"
            refusal = Refusal(batch.first, record, reason, unwritable=True)
            await self._keep(batch, [refusal])
            batch = batch.without([refusal])
        if batch.incarnation != self._spool.incarnation:
            batch = await self._without_excess(batch)
        if self._store.fixed_batches:
            await self._fix(batch)
        position = self._sequence
        await self._watch.note(position, batch, on_the_loop=not self._store.fixed_batches)
        try:
            await self._store_but_what_is_refused(batch)
        except FORESEEN:
            await self._watch.over(None)
            raise
        except asyncio.CancelledError:
            self._watch.forget()
            raise
        except Exception:
            self._watch.failed(position, batch)
            raise
        await self._watch.over(self._sequence)

    @property
    def _sequence(self) -> int:
        return self._after.sequence if self._after else 0

    async def _without_excess(self, batch: Batch) -> Batch:
        """Put aside what an earlier version took from the exchange, which knew no bounds."""
        found = [
            Refusal(sequence, record, reason, unwritable=True)
            for sequence, record in zip(*batch.kept, strict=True)
            if (reason := excess(record))
        ]
        if found:
            await self._keep(batch, found)
        return batch.without(found) if found else batch

    async def _store_but_what_is_refused(self, batch: Batch) -> None:
        self._unproven = True
        while True:
            after = Position(self._spool.owner, batch.incarnation, batch.end)
            refusals = await _answer(self._store.commit(self._name, batch, self._expected, after))
            if not refusals:
                break
            batch = await self._without(refusals, batch)
        self._expected = self._after = after
        self._beaten = time.monotonic()
        await self._spool.acknowledge(after)
        self._count(batch)
        self._is_well()
        self._progress.set()

    def _is_well(self) -> None:
        self._failures = 0
        self._unproven = self._searching = False
        if self.state.state != "connected":
            self._enter("connected")

    async def _without(self, refusals: Sequence[Refusal], batch: Batch) -> Batch:
        """Put aside the records that are what is wrong; return the rest, up to the first place that is.

        Raises StoreRefusedError where the batch begins with such a place.
        """
        if doubtful := self._doubtful(refusals, batch):
            first = doubtful[0]
            if first.sequence == batch.first:
                self._searching = True
                place = self._store.place(first.record)
                alike = sum(self._store.place(each.record) == place for each in doubtful)
                raise StoreRefusedError(_words(place, alike, first.reason))
            batch = batch.before(first.sequence)
        if own := [each for each in refusals if each.sequence < batch.end]:
            await self._keep(batch, own)
        return batch.without(own)

    def _doubtful(self, refusals: Sequence[Refusal], batch: Batch) -> list[Refusal]:
        """Return the refusals in places of which the store takes no record of the batch, in their order."""
        doubtful = [each for each in refusals if not each.unwritable]
        if not doubtful:
            return []
        _, others = batch.without(refusals).kept
        taken = set(map(self._store.place, others))
        return [each for each in doubtful if self._store.place(each.record) not in taken]

    async def _fix(self, batch: Batch) -> None:
        """A batch whose bounds nobody would know after a crash is not tried: room is waited for."""
        try:
            await self._spool.fix(batch)
        except NoRoomError as error:
            raise StoreUnavailableError(f"no room in the spool for the bounds of a batch: {error}") from error

    async def _keep(self, batch: Batch, refusals: Sequence[Refusal]) -> None:
        """Before the position moves over them: whoever is killed in between finds them again, or there."""
        try:
            if await asyncio.to_thread(lambda: self._letters.full):
                await self._rotate_letters()
            await asyncio.to_thread(self._letters.add, batch, refusals)
        except OSError as error:
            raise StoreUnavailableError(f"no place for what it refuses: {error}") from error
        self._metrics.put_aside += len(refusals)
        if self._continuity:
            self._continuity.is_put_aside(each.record for each in refusals)

    async def _rotate_letters(self) -> None:
        """Put on record what goes, before it goes; who is killed in between knows that it is on record."""
        leaving = await asyncio.to_thread(self._letters.leaving)
        if leaving and recall(self._spool.marks, LETTERS_GONE) != (gone := LettersGone(leaving.identity)):
            count = sum(gap.count or 0 for gap in leaving.gaps)
            LOG.error("the dead letters are full: the oldest %d records go, and are a gap now", count)
            await self._spool.append(leaving.gaps, {LETTERS_GONE.name: gone.text})
            await self._spool.tend()
        await asyncio.to_thread(self._letters.rotate)

    async def _tell(self, *, last: bool = False) -> None:
        """Leaves a note in the store, and reads those of others while there is a question."""
        period = max(TELL, self._store.batch_seconds)
        if not self._continuity or not self._after or (time.monotonic() - self._told < period and not last):
            return
        self._told = time.monotonic()
        if self._continuity.asking:
            self._continuity.hear(await _answer(self._store.notes()))
        if note := self._continuity.note(self._after.sequence, good_for=3 * period):
            await self._note(note)

    async def _note(self, note: Note) -> None:
        if self._overlap:
            note = structs.replace(note, claims=self._overlap.claims, choosing=self._overlap.choosing)
        await _answer(self._store.note(self._name, codec.encode(note)))

    def _count(self, batch: Batch) -> None:
        _, records = batch.kept
        if not records:
            return
        self._metrics.stored.update(counts(records))
        self._metrics.last_stored = time.time()

    async def _leave(self) -> None:
        """Lets a successor take over at once."""
        with contextlib.suppress(Exception):
            async with asyncio.timeout(LEAVE):
                if self._expected and self.state.state == "connected":
                    await self._tell(last=True)
                    if isinstance(self._store, SharedStore):
                        await self._store.release(self._name, self._expected)
        await self._store.close()

    def _enter(self, state: str, error: str | None = None) -> None:
        before = self.state
        if state == before.state:
            self._goes_on(error)
            return
        self.state = State(state, error=error)
        if state == "connected":
            lasted = time.time() - before.since
            LOG.info("the store is connected%s", f" again after {lasted:.1f} s" if before.error else "")
        else:
            LOG.error("the store %s: %s", "refuses" if state == "refused" else "is away", error)
            self._said = time.monotonic(), error

    def _goes_on(self, error: str | None) -> None:
        """The state is as it was: a refusal is logged again and again, an absence when its reason changes."""
        when, said = self._said
        refused = self.state.state == "refused"
        if error and (refused or error != said) and time.monotonic() - when >= SAY_EVERY:
            LOG.error("the store still refuses: %s" if refused else "the store is still away: %s", error)
            self._said = time.monotonic(), error
        self.state.error = error


def _words(place: str, count: int, reason: str) -> str:
    """Tell what is wrong with a place, and what would help."""
    if count > 1:
        return f"{place} takes none of {count} records: {reason}; correct that: they wait in the spool"
    return (
        f"{place} does not take a record: {reason}; correct that, or wait for another record of it, which "
        "shows whether it takes any: they wait in the spool"
    )


async def _answer[T](asked: Awaitable[T]) -> T:
    """What the store says, if it says it in time."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await asked
    except TimeoutError as error:
        raise StoreUnavailableError(f"no answer within {PATIENCE:.0f} s") from error
