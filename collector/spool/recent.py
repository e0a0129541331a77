"""The newest records of a spool, in memory: a writer that keeps up never reads from disk."""

from collections import deque
from collections.abc import Sequence

from collector.spool.database import Blob
from collector.spool.losses import Loss
from collector.times import SECOND


class Recent:
    """Consecutive blobs: first some that are on disk as well, then those that are yet to be saved.

    Attributes:
        end: the sequence after the last record.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        self._blobs: deque[Blob] = deque()
        self._bytes = 0
        self._unsaved = 0  # how many at the end are not on disk

    def add(self, blob: Blob) -> None:
        """Take the next blob, which is not saved."""
        self._blobs.append(blob)
        self.end = blob.end
        self._bytes += len(blob.data)
        self._unsaved += 1

    @property
    def blobs(self) -> Sequence[Blob]:
        """All of them, oldest first."""
        return self._blobs

    @property
    def unsaved(self) -> list[Blob]:
        """Those that are in memory only."""
        return [self._blobs[index] for index in range(len(self._blobs) - self._unsaved, len(self._blobs))]

    def begin_before(self, sequence: int) -> bool:
        """Return whether all that is left from ``sequence`` on is here."""
        return bool(self._blobs) and self._blobs[0].first <= sequence

    def receipt_of(self, sequence: int) -> float | None:
        """Return the receipt (seconds) of the first record from ``sequence`` on, if that is here."""
        if self.begin_before(sequence):
            for blob in self._blobs:
                if blob.end > sequence:
                    return blob.records[max(0, sequence - blob.first)].receipt_timestamp / SECOND
        return None

    def saved(self, count: int) -> None:
        """Take note that so many, the oldest of the unsaved ones, are on disk."""
        self._unsaved -= count

    def shrink(self, most_bytes: int) -> None:
        """Forget the oldest that are saved, down to so many bytes in all."""
        while self._bytes > most_bytes and len(self._blobs) > self._unsaved:
            self._bytes -= len(self._blobs.popleft().data)

    def forget_before(self, sequence: int) -> None:
        """Forget those that are saved and end before ``sequence``."""
        while len(self._blobs) > self._unsaved and self._blobs[0].end <= sequence:
            self._bytes -= len(self._blobs.popleft().data)

    def take_out(self, loss: Loss) -> None:
        """Forget those that are lost."""
        if not self._blobs or loss.end <= self._blobs[0].first:
            return
        gone = [loss.first <= blob.first < loss.end for blob in self._blobs]
        self._unsaved -= sum(gone[len(gone) - self._unsaved :])
        self._blobs = deque(blob for blob, out in zip(self._blobs, gone, strict=True) if not out)
        self._bytes = sum(len(blob.data) for blob in self._blobs)
