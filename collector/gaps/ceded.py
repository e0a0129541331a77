"""What was received while another collector stored it: it is in the spool, and not for the store.

The spool remembers it beside the records, so that a process that starts again does not store what the one
before it had left out, and had not got to yet.
"""

import time
from collections import defaultdict

from collector.gaps import marks
from collector.gaps.marks import Marks
from collector.records import AnyRecord, Gap, Key, channel_of
from collector.times import SECOND

_KEPT = 8  # spans of a channel and symbol that are remembered: the spool rarely goes back to two of them
_NEVER = float("inf")


class Ceded:
    """Spans of receipts (seconds, UTC), each from its start to before its end, of channels of symbols."""

    def __init__(self, exchange: str, remembered: Marks) -> None:
        """Read what is remembered of an earlier process, which left out nothing after now.

        What it received last is not what was recorded last, where another collector stored it to the end.
        A mark that is damaged says nothing: rather a record twice than one never.
        """
        self._exchange, self._marks = exchange, remembered
        self._spans: dict[Key, list[tuple[float, float]]] = defaultdict(list)
        now = time.time()
        for key, mark in remembered.of_pairs(exchange, marks.Ceded):
            self._spans[key] = [(start, min(end, now)) for start, end in mark.spans]
            if mark.spans[-1][1] == _NEVER:
                remembered.drop(marks.last_recorded(exchange, key))

    def __bool__(self) -> bool:
        return bool(self._spans)

    def begin(self, key: Key, start: float) -> None:
        """Take note that another collector stores ``key`` from ``start`` on."""
        self._spans[key].append((start, _NEVER))
        self._remember(key)

    def end(self, key: Key, end: float) -> None:
        """Take note that what is received from ``end`` on is ours again."""
        start, _ = self._spans[key].pop()
        self._spans[key].append((start, end))
        self._remember(key)

    def has(self, record: AnyRecord) -> bool:
        """Return whether a record is left to another collector."""
        if isinstance(record, Gap) and record.reason == "overlap":
            return False  # it says what nobody stores
        channel = record.missed if isinstance(record, Gap) else channel_of(record)
        spans = self._spans.get((channel, record.symbol), ())
        receipt = record.receipt_timestamp / SECOND
        return any(start <= receipt < end for start, end in spans)

    def _remember(self, key: Key) -> None:
        del self._spans[key][:-_KEPT]
        self._marks.put(marks.ceded(self._exchange, key), marks.Ceded(tuple(self._spans[key])))
