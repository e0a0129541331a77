"""The newest records of a spool, in memory: a writer that keeps up never reads from disk."""

from collections import deque
from collections.abc import Sequence

from collector.spool.database import Blob
from collector.spool.losses import Loss
from collector.times import SECOND


class Recent:
    """Consecutive blobs: first those that are also on disk, then those that are not saved yet.

    Attributes:
        end: the sequence after the last record.
    """

    def __init__(self, end: int) -> None:
        self.end = end
        self._blobs: deque[Blob] = deque()
        self._bytes = 0
        self._unsaved = 0  # number of blobs at the end that are not on disk

    def add(self, blob: Blob) -> None:
        """Add the next blob, which is not saved yet."""
        self._blobs.append(blob)
        self.end = blob.end
        self._bytes += len(blob.data)
        self._unsaved += 1

    @property
    def blobs(self) -> Sequence[Blob]:
        """All blobs, oldest first."""
        return self._blobs

    @property
    def unsaved(self) -> list[Blob]:
        """The blobs that are in memory only, oldest first."""
        return [self._blobs[index] for index in range(len(self._blobs) - self._unsaved, len(self._blobs))]

    def begin_before(self, sequence: int) -> bool:
        """Return whether memory holds everything that is left from ``sequence`` on."""
        return bool(self._blobs) and self._blobs[0].first <= sequence

    def receipt_of(self, sequence: int) -> float | None:
        """Return the receipt (seconds) of the first record from ``sequence`` on; None if not in memory."""
        if self.begin_before(sequence):
            for blob in self._blobs:
                if blob.end > sequence:
                    return blob.records[max(0, sequence - blob.first)].receipt_timestamp / SECOND
        return None

    def saved(self, count: int) -> None:
        """Note that the oldest ``count`` unsaved blobs are on disk now."""
        self._unsaved -= count

    def shrink(self, most_bytes: int) -> None:
        """Forget the oldest saved blobs until all take at most ``most_bytes``."""
        while self._bytes > most_bytes and len(self._blobs) > self._unsaved:
            self._bytes -= len(self._blobs.popleft().data)

    def forget_before(self, sequence: int) -> None:
        """Forget the saved blobs whose records are all before ``sequence``."""
        while len(self._blobs) > self._unsaved and self._blobs[0].end <= sequence:
            self._bytes -= len(self._blobs.popleft().data)

    def take_out(self, loss: Loss) -> None:
        """Forget the blobs that are lost."""
        if not self._blobs or loss.end <= self._blobs[0].first:
            return
        gone = [loss.first <= blob.first < loss.end for blob in self._blobs]
        self._unsaved -= sum(gone[len(gone) - self._unsaved :])
        self._blobs = deque(blob for blob, out in zip(self._blobs, gone, strict=True) if not out)
        self._bytes = sum(len(blob.data) for blob in self._blobs)
