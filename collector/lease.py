"""A collector's lease on its place in the store: the position that it expects, and its signs of life.

Two writers of one name: the second waits until it is clear whether the first is alive, then stops with an
error or takes over. Each commit is a sign of life by the store's own clock, also an empty one.
"""

import asyncio
import time
from collections.abc import Awaitable, Sequence

from collector.batch import Batch, Position, Refusal
from collector.spool.spool import Spool
from collector.stores import GONE, Holder, SharedStore, Store, StoreUnavailableError

PATIENCE = 30.0  # seconds that a store has for one answer
BEAT = 5.0  # seconds without a commit after which an empty one says that we are alive
ALMOST_GONE = 0.8 * GONE  # seconds without a sign of life after which others may soon take over


class AnotherWriterError(Exception):
    """Another collector writes under the same name: one of the two must get another NAME, or stop."""


async def answer[T](asked: Awaitable[T]) -> T:
    """Return what the store answers. Raises StoreUnavailableError if it does not within PATIENCE."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await asked
    except TimeoutError as error:
        raise StoreUnavailableError(f"no answer within {PATIENCE:.0f} s") from error


class Lease:
    """The hold of one collector, ``name``, on a store.

    Attributes:
        after: where the next batch begins, in the spool's terms; None before the first ``begin``.
    """

    def __init__(self, name: str, store: Store, spool: Spool) -> None:
        self.after: Position | None = None
        self._name, self._store, self._spool = name, store, spool
        self._expected: Position | None = None  # what the store has, as far as we know
        self._renewed = 0.0  # when the store had a sign of life last, by time.monotonic()

    async def open(self) -> Position | None:
        """Return the position that the store has. Raises AnotherWriterError."""
        stored = await answer(self._store.open(self._name))
        await self._see_that_nobody_else_writes(stored)
        return stored

    def begin(self, stored: Position | None, after: Position) -> None:
        """Expect the position ``stored``; the next batch begins ``after``. What follows is to ``renew``."""
        self._expected, self.after = stored, after

    async def renew(self) -> None:
        """Give a sign of life, or make the first claim: an empty batch on the expected position."""
        self._renewed = time.monotonic()
        if isinstance(self._store, SharedStore) and self.after:
            nothing = Batch(self.after.incarnation, self.after.sequence, ())
            await answer(self._store.commit(self._name, nothing, self._expected, self.after))
            self._expected = self.after

    @property
    def is_due(self) -> bool:
        """Whether a sign of life is."""
        return time.monotonic() - self._renewed >= BEAT

    async def may_be_lost(self) -> bool:
        """Return whether others may count us as gone, and take over."""
        if not isinstance(self._store, SharedStore) or time.monotonic() - self._renewed < ALMOST_GONE:
            return False
        holder = await answer(self._store.holder(self._name))
        return holder is not None and holder.idle >= ALMOST_GONE

    async def commit(self, batch: Batch) -> Sequence[Refusal]:
        """Commit a batch with the position after it, and acknowledge it to the spool.

        Returns what is refused: then nothing is stored.
        """
        after = Position(self._spool.owner, batch.incarnation, batch.end)
        refusals = await answer(self._store.commit(self._name, batch, self._expected, after))
        if not refusals:
            self._expected = self.after = after
            self._renewed = time.monotonic()
            await self._spool.acknowledge(after)
        return refusals

    @property
    def is_held(self) -> bool:
        """Whether the store has a position of ours."""
        return self._expected is not None

    async def release(self) -> None:
        """Let a successor take over at once."""
        if self._expected and isinstance(self._store, SharedStore):
            await self._store.release(self._name, self._expected)

    @property
    def sequence(self) -> int:
        """The sequence with which the next batch begins."""
        return self.after.sequence if self.after else 0

    async def _see_that_nobody_else_writes(self, stored: Position | None) -> None:
        """A holder that gives a sign of life is alive; one that has given none for long is gone.

        It may have a copy of our spool. Then the position has our owner, but an incarnation that we do not
        know; or we are the copy.
        """
        if not isinstance(self._store, SharedStore) or stored is None:
            return
        if self._spool.knows(stored) and (self._spool.exact or self.after):
            return
        last: Holder | None = None
        while True:
            holder = await answer(self._store.holder(self._name))
            if holder is None or holder.is_gone:
                return
            if last and (holder.owner != last.owner or holder.idle < last.idle + 0.5):
                copy = " with a copy of our spool" if holder.owner == self._spool.owner else ""
                raise AnotherWriterError(
                    f"{holder.who} writes to this store under the name {self._name!r} too{copy}: "
                    "stop it, or give this collector another NAME"
                )
            last = holder
            await asyncio.sleep(1.0)
