"""What was received while another collector stored it: it is in the spool, but must not be stored.

The spool remembers these spans beside the records, so that a restarted process does not store records that
the previous one would have left out but had not reached yet.
"""

import time
from collections import defaultdict

from collector.gaps import marks
from collector.gaps.marks import Marks
from collector.records import AnyRecord, Gap, Key, channel_of
from collector.times import SECOND

#: Spans that are remembered for each channel and symbol though all that is to be stored is newer: a store may
#: be set back.
_KEPT = 8
_NEVER = float("inf")


class Ceded:
    """Spans of receipts (seconds, UTC), each excluding its end, for each channel and symbol."""

    def __init__(self, exchange: str, remembered: Marks) -> None:
        """Read the spans of an earlier process; an open one ends now, for later processes too.

        If another collector stored a subscription to the end, what the process received last was not
        recorded, so the mark of the last record is dropped. A damaged mark is ignored: storing a record twice
        is better than not at all.
        """
        self._exchange, self._marks = exchange, remembered
        self._spans: dict[Key, list[tuple[float, float]]] = defaultdict(list)
        self._reached = 0.0
        now = time.time()
        for key, mark in list(remembered.of_pairs(exchange, marks.Ceded)):
            self._spans[key] = [(start, min(end, now)) for start, end in mark.spans]
            if mark.spans[-1][1] == _NEVER:
                remembered.drop(marks.last_recorded(exchange, key))
                self._remember(key)

    def __bool__(self) -> bool:
        return bool(self._spans)

    def begin(self, key: Key, start: float) -> None:
        """Note that another collector stores ``key`` from ``start`` on."""
        self._spans[key] = [span for span in self._spans[key] if span[0] < start] + [(start, _NEVER)]
        self._remember(key)

    def end(self, key: Key, end: float) -> None:
        """Note that this collector stores ``key`` again from ``end`` on."""
        start, _ = self._spans[key].pop()
        self._spans[key].append((start, end))
        self._remember(key)

    def reach(self, receipt: float) -> None:
        """Note that nothing received before ``receipt`` is left to store, unless the store is set back."""
        begins, self._reached = not self._reached, receipt
        for key in self._spans if begins else ():  # those of earlier processes
            self._remember(key)

    def has(self, record: AnyRecord) -> bool:
        """Return whether another collector stores this record."""
        if isinstance(record, Gap) and record.reason == "overlap":
            return False  # it records what no collector stored
        channel = record.missed if isinstance(record, Gap) else channel_of(record)
        spans = self._spans.get((channel, record.symbol), ())
        receipt = record.receipt_timestamp / SECOND
        return any(start <= receipt < end for start, end in spans)

    def _remember(self, key: Key) -> None:
        spans = self._spans[key]
        while len(spans) > _KEPT and spans[0][1] < self._reached:
            del spans[0]
        self._marks.put(marks.ceded(self._exchange, key), marks.Ceded(tuple(spans)))
