"""Find a record that crashes the collector, by halving its batch until the record is alone.

Writing a record may crash the process: a library is killed by a signal, memory runs out, an unforeseen error
is raised. The next process would read the same batch and crash too, for ever. So after an unclean stop, a
process notes in the spool which batch it is about to write, and removes the note when the attempt is over,
successful or not. A process that finds such a note at the store's position knows that this batch crashed its
predecessor, and tries half of it. In the end one record is tried alone, and is put aside if that crashes the
collector too.

After a clean stop no note is written, so this costs nothing.
"""

import asyncio
import logging

import msgspec

from collector.batch import Batch
from collector.gaps.marks import WRITING, Suspicion, recall
from collector.spool.spool import Spool

#: A record is put aside after crashing the collector this many times, in a batch or alone.
ENOUGH = 2
#: Seconds after which a store that encodes on the event loop has finished, if the loop runs.
ENCODED = 1.0

LOG = logging.getLogger(__name__)


class CrashWatch:
    """Watches one writer: ``begin`` once the store's position is known, ``over`` after every attempt.

    Attributes:
        suspect: the records that have crashed a collector; None if none have.
    """

    def __init__(self, spool: Spool) -> None:
        self.suspect: Suspicion | None = None
        self._spool = spool
        self._watching: bool | None = None  # None: ``begin`` was not called yet
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, position: int) -> None:
        """Read the note of the previous process; does nothing after the first call."""
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
        """The number of records to try at once; None for as many as usual."""
        return self.suspect.size if self.suspect else None

    def is_proven(self, batch: Batch) -> bool:
        """Return whether ``batch`` is the one record to put aside."""
        return self._is_found and len(batch.records) == 1

    @property
    def _is_found(self) -> bool:
        """Whether it is known which record crashes the collector."""
        return self.suspect is not None and self.suspect.alone and self.suspect.deaths >= ENOUGH

    async def note(self, position: int, batch: Batch, *, on_the_loop: bool) -> None:
        """Note that ``batch`` is about to be written; ``on_the_loop``: that will block the loop."""
        if self._watching:
            await self._spool.append((), {WRITING.name: self._noted(position, batch).text})
            if on_the_loop:
                self._timer = asyncio.get_running_loop().call_later(ENCODED, self.forget)

    async def over(self, position: int | None) -> None:
        """End an attempt without a crash; ``position`` follows what was stored, None if the store failed."""
        if not self._watching:
            return
        suspect = self.suspect
        if suspect is None or (position is not None and position >= suspect.until):
            self._watching, self.suspect = False, None
        elif position is not None and self._is_found:
            self.suspect = None  # what follows is tried together: alone, a refused record is waited for
        elif position is not None:
            self.suspect = msgspec.structs.replace(suspect, first=position, alone=False)
        self.forget()
        await self._spool.append(())

    def failed(self, position: int, batch: Batch) -> None:
        """End an attempt with an error that stops the collector; called instead of ``over``."""
        self._cancel()
        self._spool.mark(WRITING.name, self._noted(position, batch).text)

    @property
    def deaths(self) -> int:
        """How often the suspected records have crashed a collector."""
        return self.suspect.deaths if self.suspect else 0

    def _noted(self, position: int, batch: Batch) -> Suspicion:
        until, deaths = (self.suspect.until, self.suspect.deaths) if self.suspect else (batch.end, 0)
        return Suspicion(position, len(batch.records), until, deaths)

    def forget(self) -> None:
        """Remove the note, without waiting until that is saved."""
        self._cancel()
        if self._spool.marks.get(WRITING.name):
            self._spool.mark(WRITING.name, "")

    def _cancel(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
