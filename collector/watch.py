"""A batch that ends its collector is found out: it is taken apart until the record that does it is alone.

A record may end whoever writes it: by a signal of a library, by the memory that it takes, by an error that
nobody foresaw. The next process would read the same batch and crash as well, forever. So a process that
follows one which did not stop cleanly notes in the spool which batch it is about to write, and takes the note
back when that is over, well or not. Whoever finds such a note at the store's position knows that the batch
ended its collector, and tries half of it; at last one record is tried alone, and is put aside when that ends
the collector too.

Where nothing of the kind has happened, no note is made: it costs nothing.
"""

import asyncio
import logging

import msgspec

from collector.batch import Batch
from collector.gaps.marks import WRITING, Suspicion, recall
from collector.spool.spool import Spool

#: So often a record has to end its collector, in a batch or alone, before it is put aside.
ENOUGH = 2
#: Seconds after which a store that encodes on the event loop has done so, if the loop is free.
ENCODED = 1.0

LOG = logging.getLogger(__name__)


class Watch:
    """One writer's. ``begin`` comes when the store's position is known, ``over`` after every attempt.

    Attributes:
        suspect: what has ended collectors before; None if nothing has.
    """

    def __init__(self, spool: Spool) -> None:
        self.suspect: Suspicion | None = None
        self._spool = spool
        self._watching: bool | None = None  # None: not begun
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, position: int) -> None:
        """Look at what the process before left; only at first."""
        if self._watching is not None:
            return
        noted = recall(self._spool.marks, WRITING)
        if noted and noted.first == position:
            self.suspect = Suspicion(
                *(noted.first, max(1, noted.size // 2), noted.until, noted.deaths + 1, noted.size == 1)
            )
            LOG.error(
                "the %d records from sequence %d on have crashed the collector: trying them %d at a time",
                *(noted.size, noted.first, self.suspect.size),
            )
        self._watching = self._spool.clean is False or self.suspect is not None
        self.forget()

    @property
    def size(self) -> int | None:
        """How many records to try at once; None for as many as usual."""
        return self.suspect.size if self.suspect else None

    def is_proven(self, batch: Batch) -> bool:
        """Return whether ``batch`` is a record that is to be put aside."""
        suspect = self.suspect
        return suspect is not None and suspect.alone and suspect.deaths >= ENOUGH and len(batch.records) == 1

    async def note(self, position: int, batch: Batch, *, on_the_loop: bool) -> None:
        """``batch`` is about to be written; ``on_the_loop`` tells that the event loop is busy with that."""
        if self._watching:
            await self._spool.append((), {WRITING.name: self._noted(position, batch).text})
            if on_the_loop:
                self._timer = asyncio.get_running_loop().call_later(ENCODED, self.forget)

    async def over(self, position: int | None) -> None:
        """Nobody died of it; ``position`` is the one after what was stored, None if the store failed."""
        if not self._watching:
            return
        suspect = self.suspect
        if suspect is None or (position is not None and position >= suspect.until):
            self._watching, self.suspect = False, None
        elif position is not None:
            self.suspect = msgspec.structs.replace(suspect, first=position, alone=False)
        self.forget()
        await self._spool.append(())

    def failed(self, position: int, batch: Batch) -> None:
        """An error that ends the collector came of it, instead of ``over``."""
        self._cancel()
        self._spool.mark(WRITING.name, self._noted(position, batch).text)

    @property
    def deaths(self) -> int:
        """How often what is suspected has ended a collector."""
        return self.suspect.deaths if self.suspect else 0

    def _noted(self, position: int, batch: Batch) -> Suspicion:
        until, deaths = (self.suspect.until, self.suspect.deaths) if self.suspect else (batch.end, 0)
        return Suspicion(position, len(batch.records), until, deaths)

    def forget(self) -> None:
        """Take the note back, without waiting until that is saved."""
        self._cancel()
        if self._spool.marks.get(WRITING.name):
            self._spool.mark(WRITING.name, "")

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
