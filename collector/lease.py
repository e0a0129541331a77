"""A collector's lease on its place in the store: the position that it expects, and its signs of life.

If two writers have the same name, the second waits until it is clear whether the first is alive, then stops
with an error or takes over. Each commit, even an empty one, is a sign of life by the store's own clock.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence

from collector.batch import Batch, Position, Refusal
from collector.spool.spool import Spool
from collector.stores import GONE, Holder, SharedStore, Store, StoreUnavailableError

PATIENCE = 30.0  # seconds for one answer of a store
BEAT = 5.0  # seconds without a commit after which an empty one shows that we are alive
ALMOST_GONE = 0.8 * GONE  # seconds without a sign of life after which others may soon take over


class AnotherWriterError(Exception):
    """Another collector writes under the same name: one of them has to stop, or get another NAME."""


async def answer[T](asked: Awaitable[T]) -> T:
    """Return the store's answer. Raises StoreUnavailableError if there is none within PATIENCE."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await asked
    except TimeoutError as error:
        raise StoreUnavailableError(f"no answer within {PATIENCE:.0f} s") from error


class Lease:
    """The hold of one collector, ``name``, on a store.

    Attributes:
        after: the position in the spool after which the next batch begins; None before the first ``begin``.
    """

    def __init__(self, name: str, store: Store, spool: Spool) -> None:
        self.after: Position | None = None
        self._name, self._store, self._spool = name, store, spool
        self._expected: Position | None = None  # what the store has, as far as we know
        self._renewed = 0.0  # the last sign of life to the store, by time.monotonic()
        self._was_late = False  # a commit took so long that others may have considered us gone meanwhile

    async def open(self) -> Position | None:
        """Return the position that the store has. Raises AnotherWriterError."""
        stored = await answer(self._store.open(self._name))
        await self._see_that_nobody_else_writes(stored)
        return stored

    def begin(self, stored: Position | None, after: Position) -> None:
        """Expect the position ``stored``; the next batch begins ``after``. Call ``renew`` next."""
        self._expected, self.after = stored, after

    async def renew(self) -> None:
        """Give a sign of life, or make the first claim, by committing an empty batch."""
        self._renewed = time.monotonic()
        if isinstance(self._store, SharedStore) and self.after:
            nothing = Batch(self.after.incarnation, self.after.sequence, ())
            await self._commit(nothing, self.after)
            self._expected = self.after

    @property
    def is_due(self) -> bool:
        """Whether a sign of life is due."""
        return time.monotonic() - self._renewed >= BEAT

    async def may_be_lost(self) -> bool:
        """Return whether others may consider us gone, and take over."""
        if not isinstance(self._store, SharedStore) or time.monotonic() - self._renewed < ALMOST_GONE:
            was_late, self._was_late = self._was_late, False
            return was_late
        holder = await answer(self._store.holder(self._name))
        return holder is not None and holder.idle >= ALMOST_GONE

    async def commit(self, batch: Batch) -> Sequence[Refusal]:
        """Commit a batch with the position after it, and acknowledge it to the spool.

        Returns the refusals: if there are any, nothing is stored.
        """
        after = Position(self._spool.owner, batch.incarnation, batch.end)
        refusals = await self._commit(batch, after)
        if not refusals:
            self._expected = self.after = after
            self._renewed = time.monotonic()
            await self._spool.acknowledge(after)
        return refusals

    async def _commit(self, batch: Batch, after: Position) -> Sequence[Refusal]:
        begun = time.monotonic()
        refusals = await answer(self._store.commit(self._name, batch, self._expected, after))
        if time.monotonic() - begun >= ALMOST_GONE - BEAT:  # the last sign was up to BEAT seconds ago
            self._was_late = True
        return refusals

    @property
    def is_held(self) -> bool:
        """Whether the store has our position."""
        return self._expected is not None

    async def release(self) -> None:
        """Let a successor take over immediately."""
        if self._expected and isinstance(self._store, SharedStore):
            await self._store.release(self._name, self._expected)

    @property
    def sequence(self) -> int:
        """The sequence with which the next batch begins."""
        return self.after.sequence if self.after else 0

    async def _see_that_nobody_else_writes(self, stored: Position | None) -> None:
        """Check the holder: with a recent sign of life it is alive; without one for long it is gone.

        It may have a copy of our spool. Then the position has our owner but an incarnation that we do not
        know; or we are the copy.
        """
        if not isinstance(self._store, SharedStore) or stored is None:
            return
        if self._spool.knows(stored) and (self._spool.exact or self.after):
            return
        last: Holder | None = None
        begun = 0.0
        while True:
            holder = await answer(self._store.holder(self._name))
            if holder is None or holder.is_gone:
                return
            if last is None:
                begun = time.monotonic()
            if last and (holder.owner != last.owner or holder.idle < last.idle + 0.5):
                copy = " with a copy of our spool" if holder.owner == self._spool.owner else ""
                raise AnotherWriterError(
                    f"{holder.who} writes to this store under the name {self._name!r} too{copy}: "
                    "stop it, or give this collector another NAME"
                )
            if time.monotonic() - begun >= GONE:  # its sign is in the future: the store's clock was set back
                return
            last = holder
            await asyncio.sleep(1.0)
