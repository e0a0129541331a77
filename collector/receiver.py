"""Exchange -> spool: records and marks enter the spool in bursts.

A burst is appended when it is large enough or old enough, whichever comes first. If the process is killed,
the burst is lost, so it is never older than BURST_SECONDS plus one append. If the spool cannot keep up,
receiving waits: the websocket's own bounded queue fills, then TCP's, and memory use stays constant.
"""

import asyncio
import time

from collector.gaps.marks import Marks
from collector.metrics import Metrics
from collector.records import AnyRecord, counts
from collector.spool.spool import Spool

#: A burst is due at this number of records, this weight (records and book levels), or this age (seconds).
BURST_RECORDS, BURST_WEIGHT, BURST_SECONDS = 500, 20_000, 0.01
#: Most weight that may wait for the spool; about 25 MB.
MOST_WAITING = 100_000
#: Records of earlier processes that are read when this one starts.
MOST_RECALLED = 20_000


class Receiver:
    """Takes records and marks, and keeps them until the spool has them.

    Attributes:
        marks: what has to survive together with the records.
    """

    def __init__(self, spool: Spool, metrics: Metrics) -> None:
        self._spool = spool
        self._metrics = metrics
        self._records: list[AnyRecord] = []
        self._weight = 0
        self._next = 1  # the weight at which there is something to be said
        self._something = asyncio.Event()  # there is something to append
        self.marks = Marks(spool.marks, self._something.set)
        self._due = asyncio.Event()  # it is a burst
        self._room = asyncio.Event()  # receiving may continue
        self._room.set()
        self._appending = asyncio.Lock()

    def put(self, record: AnyRecord, weight: int = 1) -> None:
        """Take a record; ``weight`` counts one for it and one for each level of a book.

        The caller checks ``is_due`` soon afterwards.
        """
        self._records.append(record)
        self._weight += weight

    @property
    def is_due(self) -> bool:
        """Whether ``make_room`` has to be called."""
        return self._weight >= self._next

    async def make_room(self) -> None:
        """Have what was put appended; wait while too much is queued."""
        self._something.set()
        missing = BURST_RECORDS - len(self._records)
        if missing > 0 and self._weight < BURST_WEIGHT:
            self._next = self._weight + missing
            return
        self._due.set()
        self._next = MOST_WAITING
        if self._weight >= MOST_WAITING:
            self._room.clear()
            await self._room.wait()

    @property
    def next_sequence(self) -> int:
        """The sequence that the next record will have, or a later one."""
        return self._spool.end

    async def newest(self) -> list[AnyRecord]:
        """Return the spool's newest records, written by earlier processes, oldest first."""
        return await self._spool.newest(MOST_RECALLED)

    async def run(self) -> None:
        """Append bursts to the spool, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._something.wait()
            old_enough = loop.call_later(BURST_SECONDS, self._due.set)
            await self._due.wait()
            old_enough.cancel()
            await self.append()

    async def drain(self) -> None:
        """Return when everything that was put is in the spool."""
        while self._records or not self.marks.are_saved or self._appending.locked():
            await self.append()

    async def append(self) -> None:
        """Append what was put and marked so far."""
        async with self._appending:
            records, self._records = self._records, []
            marks = self.marks.take()
            self._weight, self._next = 0, 1
            self._something.clear()
            self._due.clear()
            if records:
                self._metrics.last_received = time.time()
                self._metrics.received.update(counts(records))
            if records or marks:
                await self._spool.append(records, marks)
            self._room.set()
