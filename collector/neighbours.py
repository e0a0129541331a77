"""Notes that the collectors of a store leave for each other: what each has seen, and subscribes to.

This reads and writes them; continuity (what was seen before us?) and overlap (who stores what several
subscribe to?) evaluate them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from msgspec import structs

from collector.batch import Batch, Position
from collector.gaps.continuity import Continuity
from collector.gaps.overlap import STEPS, Overlap
from collector.lease import Lease, answer
from collector.stores import SharedStore, Store
from collector.stores import notes as codec
from collector.stores.notes import Note

TELL = 1.0  # seconds between two notes


class Neighbours:
    """One collector, ``name``, among those that store into the same store."""

    def __init__(
        self, name: str, store: Store, lease: Lease, continuity: Continuity | None, overlap: Overlap | None
    ) -> None:
        self._name, self._store, self._lease = name, store, lease
        self._continuity, self._overlap = continuity, overlap
        self._told = 0.0  # time of our last note, by time.monotonic()

    async def meet(self, stored: Position | None) -> None:
        """Read the notes of a store that was just connected, and has our position ``stored``."""
        if self._continuity:
            self._continuity.meet(self._name, await answer(self._store.notes()), stored)
        if self._overlap:
            self._overlap.reconnect()

    async def tell(self, *, last: bool = False) -> None:
        """Leave a note in the store, and read the others' while a question is open."""
        period = max(TELL, self._store.batch_seconds)
        after = self._lease.after
        if not self._continuity or not after or (time.monotonic() - self._told < period and not last):
            return
        self._told = time.monotonic()
        if self._continuity.asking:
            self._continuity.hear(await answer(self._store.notes()))
        if note := self._continuity.note(after.sequence, good_for=3 * period):
            await self._note(note)

    async def decide(self, beat: Callable[[], Awaitable[None]]) -> None:
        """Return once it is clear which of our subscriptions others store; call ``beat`` meanwhile."""
        store = self._store
        if not self._overlap or not self._continuity or not isinstance(store, SharedStore):
            return
        if await self._lease.may_be_lost():
            self._overlap.reconnect()
        looks = 0
        while self._overlap.is_due:
            looks += 1
            await beat()
            self._continuity.hear(await answer(store.notes()))
            before = self._overlap.claims, self._overlap.choosing
            await self._overlap.look(self._continuity.notes, lambda name: answer(store.holder(name)))
            if (self._overlap.claims, self._overlap.choosing) != before or self._overlap.undecided:
                await self._note(self._continuity.noted)
            if not self._overlap.undecided:
                return
            if self._overlap.waits or looks >= STEPS:
                await asyncio.sleep(TELL)

    def without_theirs(self, batch: Batch) -> Batch:
        """Return the batch without records that another collector stores."""
        return self._overlap.without(batch) if self._overlap else batch

    async def _note(self, note: Note) -> None:
        if self._overlap:
            note = structs.replace(note, claims=self._overlap.claims, choosing=self._overlap.choosing)
        await answer(self._store.note(self._name, codec.encode(note)))
