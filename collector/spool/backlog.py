"""How far a spool's store has got: what it has not got yet, and what it was given and may forget."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from collector.spool.database import Blob


class _Read(NamedTuple):
    """A batch that was read and is not acknowledged."""

    end: int
    records: int
    bytes: int


class Backlog:
    """What the store has not got yet.

    Attributes:
        records, bytes: how much that is.
        acknowledged: the store has all before this sequence.
    """

    def __init__(self, acknowledged: int, records: int, size: int) -> None:
        self.acknowledged, self.records, self.bytes = acknowledged, records, size
        self._reads: deque[_Read] = deque()

    def add(self, blob: Blob) -> None:
        """Take note of records that came in."""
        self.records += len(blob.records)
        self.bytes += len(blob.data)

    def read(self, end: int, records: int, size: int) -> None:
        """Take note of a batch that was read, up to before ``end``."""
        self._reads.append(_Read(end, records, size))

    def acknowledge(self, sequence: int) -> None:
        """Take note that the store has all before ``sequence``."""
        self.acknowledged = max(self.acknowledged, sequence)
        while self._reads and self._reads[0].end <= self.acknowledged:
            read = self._reads.popleft()
            self.records -= read.records
            self.bytes -= read.bytes

    def lose(self, first: int, end: int, size: int) -> int:
        """Take out the records from ``first`` to before ``end``; return how many were not delivered."""
        count = end - max(first, self.acknowledged)
        self.records -= count
        self.bytes -= size
        return count

    def in_flight(self, fixed: Iterable[int]) -> tuple[int, int]:
        """Return up to where all is delivered, and before which nothing may go; ``fixed`` ends batches."""
        ends = [end for end in fixed if end > self.acknowledged]
        read = [self._reads[-1].end] if self._reads else []
        return self.acknowledged, max([self.acknowledged, *ends, *read])


class Arrivals:
    """Up to where records can be read, and who waits for more.

    Attributes:
        end: the sequence after the last record that can be read.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        self._empty = 0  # before this sequence there is nothing left to read
        self._news = asyncio.Event()

    def reach(self, end: int) -> None:
        """Take note of more, and wake up who waits."""
        self.end = end
        self._news.set()

    def exhaust(self) -> None:
        """Take note that nothing is left to read of what there is."""
        self._empty = self.end

    def restart(self) -> None:
        """Take note that there may be something to read again."""
        self._empty = 0

    async def wait(self, sequence: int, count: int) -> None:
        """Return when there are ``count`` records from ``sequence`` on, roughly."""
        while self.end - max(sequence, self._empty) < count:
            self._news.clear()
            await self._news.wait()


class Delivered:
    """What was delivered how long ago: it is kept ``keep`` seconds, for a store that forgets it."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._reached: deque[tuple[float, int]] = deque()  # at which time which sequence had been

    def trim(self, now: float, acknowledged: int) -> int:
        """Return the sequence up to which all was delivered long enough ago, by time.monotonic()."""
        self._reached.append((now, acknowledged))
        trim = 0
        while self._reached and self._reached[0][0] <= now - self._keep:
            trim = self._reached.popleft()[1]
        return trim

    def take_back(self, sequence: int) -> None:
        """Take note that the store has nothing from ``sequence`` on any more."""
        while self._reached and self._reached[-1][1] > sequence:
            self._reached.pop()
