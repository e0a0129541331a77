"""How far the store has got: what it does not have yet, and what it has and may still forget."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from collector.spool.database import Blob


class _Read(NamedTuple):
    """A batch that was read and is not acknowledged yet."""

    end: int
    records: int
    bytes: int


class Backlog:
    """What the store does not have yet.

    Attributes:
        records, bytes: how much that is.
        acknowledged: the sequence before which the store has everything.
        lost: whether something was lost that is not synced yet.
    """

    lost = False

    def __init__(self, acknowledged: int, records: int, size: int) -> None:
        self.acknowledged, self.records, self.bytes = acknowledged, records, size
        self._reads: deque[_Read] = deque()

    def add(self, blob: Blob) -> None:
        """Count the records of a new blob."""
        self.records += len(blob.records)
        self.bytes += len(blob.data)

    def read(self, end: int, records: int, size: int) -> None:
        """Note that a batch was read, up to before ``end``."""
        self._reads.append(_Read(end, records, size))

    def acknowledge(self, sequence: int) -> None:
        """Note that the store has everything before ``sequence``."""
        self.acknowledged = max(self.acknowledged, sequence)
        while self._reads and self._reads[0].end <= self.acknowledged:
            read = self._reads.popleft()
            self.records -= read.records
            self.bytes -= read.bytes

    def lose(self, first: int, end: int, size: int) -> int:
        """Subtract the lost records from ``first`` to before ``end``; return how many were undelivered."""
        count = end - max(first, self.acknowledged)
        self.records -= count
        self.bytes -= size
        self.lost = True
        return count

    def in_flight(self, fixed: Iterable[int]) -> tuple[int, int]:
        """Return two sequences: everything before the first is delivered; from there to the second, keep all.

        Args:
            fixed: the ends of batches whose bounds are fixed.
        """
        ends = [end for end in fixed if end > self.acknowledged]
        read = [self._reads[-1].end] if self._reads else []
        return self.acknowledged, max([self.acknowledged, *ends, *read])


class Arrivals:
    """How far records can be read, and a way to wait for more.

    Attributes:
        end: the sequence after the last record that can be read.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        self._empty = 0  # nothing before this sequence is left to read
        self._news = asyncio.Event()

    def reach(self, end: int) -> None:
        """Note that records before ``end`` can be read, and wake whoever waits for them."""
        self.end = end
        self._news.set()

    def exhaust(self) -> None:
        """Note that everything that exists has been read."""
        self._empty = self.end

    def restart(self) -> None:
        """Note that there may be something left to read after all."""
        self._empty = 0

    async def wait(self, sequence: int, count: int) -> None:
        """Wait until there are about ``count`` records from ``sequence`` on."""
        while self.end - max(sequence, self._empty) < count:
            self._news.clear()
            await self._news.wait()


class Delivered:
    """When records were delivered: they are kept ``keep`` seconds, in case the store forgets them."""

    def __init__(self, keep: float) -> None:
        self._keep = keep
        self._reached: deque[tuple[float, int]] = deque()  # time, and the sequence delivered by then

    def trim(self, now: float, acknowledged: int) -> int:
        """Return the sequence before which everything was delivered at least ``keep`` seconds ago.

        ``now`` is from time.monotonic().
        """
        self._reached.append((now, acknowledged))
        trim = 0
        while self._reached and self._reached[0][0] <= now - self._keep:
            trim = self._reached.popleft()[1]
        return trim

    def take_back(self, sequence: int) -> None:
        """Note that the store has nothing from ``sequence`` on, after all."""
        while self._reached and self._reached[-1][1] > sequence:
            self._reached.pop()
