"""What a store refuses: whether the record or its place is what is wrong, and where such a record goes.

A refused record goes to the dead letters, and the rest of its batch is stored, only where the record is what
is wrong: nobody could write it, or the store takes others of the same place (table, collection, key) together
with it. Where the store takes none of them, the place is what is wrong: a column that somebody added, a
trigger, a right that is gone. Then nothing is put aside.
"""

import asyncio
import logging
from collections.abc import Sequence

from collector.batch import Batch, Refusal
from collector.bounds import excess
from collector.dead_letters import DeadLetters
from collector.gaps.continuity import Continuity
from collector.metrics import Metrics
from collector.spool.spool import Spool
from collector.stores import Store, StoreRefusedError, StoreUnavailableError

LOG = logging.getLogger(__name__)


class Refusals:
    """Puts aside what one collector's store does not take."""

    def __init__(self, store: Store, spool: Spool, metrics: Metrics, continuity: Continuity | None) -> None:
        self._store, self._spool, self._metrics = store, spool, metrics
        self._continuity = continuity
        self._letters = DeadLetters(spool.folder)

    async def without(self, refusals: Sequence[Refusal], batch: Batch) -> Batch:
        """Put aside the records that are what is wrong; return the rest, up to the first place that is.

        Raises StoreRefusedError if the batch begins with such a place.
        """
        if doubtful := self._doubtful(refusals, batch):
            first = doubtful[0]
            if first.sequence == batch.first:
                place = self._store.place(first.record)
                alike = sum(self._store.place(each.record) == place for each in doubtful)
                raise StoreRefusedError(_words(place, alike, first.reason))
            batch = batch.before(first.sequence)
        if own := [each for each in refusals if each.sequence < batch.end]:
            await self.put_aside(batch, own)
        return batch.without(own)

    async def without_excess(self, batch: Batch) -> Batch:
        """Put aside what an earlier version took from the exchange, which knew no bounds."""
        found = [
            Refusal(sequence, record, reason, unwritable=True)
            for sequence, record in zip(*batch.kept, strict=True)
            if (reason := excess(record))
        ]
        if found:
            await self.put_aside(batch, found)
        return batch.without(found) if found else batch

    async def put_aside(self, batch: Batch, refusals: Sequence[Refusal]) -> None:
        """Keep the records as dead letters.

        That comes before the position moves over them: who is killed in between finds them again, or there.
        """
        try:
            if await asyncio.to_thread(lambda: self._letters.full):
                await self._rotate_letters()
            await asyncio.to_thread(self._letters.add, batch, refusals)
        except OSError as error:
            raise StoreUnavailableError(f"no space for the records it refuses: {error}") from error
        self._metrics.put_aside += len(refusals)
        if self._continuity:
            self._continuity.is_put_aside(each.record for each in refusals)

    def _doubtful(self, refusals: Sequence[Refusal], batch: Batch) -> list[Refusal]:
        """Return the refusals in places of which the store takes no record of the batch, in their order."""
        doubtful = [each for each in refusals if not each.unwritable]
        if not doubtful:
            return []
        _, others = batch.without(refusals).kept
        taken = set(map(self._store.place, others))
        return [each for each in doubtful if self._store.place(each.record) not in taken]

    async def _rotate_letters(self) -> None:
        """Record what is dropped before it is dropped; the mark says so, in case of a kill in between."""
        leaving = await asyncio.to_thread(self._letters.leaving)
        if leaving and self._continuity:
            if await self._continuity.give_up(leaving):
                count = sum(gap.count or 0 for gap in leaving.gaps)
                LOG.error(
                    "the dead letters are full: the oldest %d records were dropped, and are now a gap", count
                )
            if not await self._spool.tend():
                raise StoreUnavailableError("no space in the spool for the gap that dead letters leave")
        await asyncio.to_thread(self._letters.rotate)


def _words(place: str, count: int, reason: str) -> str:
    """Tell what is wrong with a place, and what would help."""
    if count > 1:
        return f"{place} accepts none of {count} records: {reason}; fix that: they wait in the spool"
    return (
        f"{place} does not accept a record: {reason}; fix that, or wait until another record for it shows "
        "whether it accepts any: they wait in the spool"
    )
