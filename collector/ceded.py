"""What was received while another collector stored it: it is in the spool, and not for the store.

The spool remembers it beside the records, so that a process that starts again does not store what the one
before it had left out, and had not got to yet.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping

from collector.gaps import Key
from collector.records import AnyRecord, Gap, channel_of

_MARK = "ceded"
_KEPT = 8  # spans of a channel and symbol that are remembered: the spool rarely goes back to two of them
_NEVER = float("inf")


class Ceded:
    """Spans of receipts (seconds, UTC), each from its start to before its end, of channels of symbols."""

    def __init__(self, exchange: str, marks: Mapping[str, str], mark: Callable[[str, str], None]) -> None:
        """Reads what ``marks`` say of an earlier process, which left out nothing after now."""
        self._exchange, self._mark = exchange, mark
        self._spans: dict[Key, list[tuple[float, float]]] = defaultdict(list)
        now = time.time()
        for name, text in marks.items():
            kind, _, rest = name.partition(" ")
            if kind == _MARK and rest.startswith(f"{exchange} ") and rest.count(" ") >= 2:
                _, channel, symbol = rest.split(" ", 2)
                spans = _read(text)
                if spans:
                    self._spans[channel, symbol] = [(start, min(end, now)) for start, end in spans]

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
        """Whether a record is left to another collector."""
        if isinstance(record, Gap) and record.reason == "overlap":
            return False  # it says what nobody stores
        channel = record.missed if isinstance(record, Gap) else channel_of(record)
        spans = self._spans.get((channel, record.symbol), ())
        return any(start <= record.receipt_timestamp < end for start, end in spans)

    def _remember(self, key: Key) -> None:
        del self._spans[key][:-_KEPT]
        text = " ".join(f"{start!r},{end!r}" for start, end in self._spans[key])
        self._mark(f"{_MARK} {self._exchange} {key[0]} {key[1]}", text)


def _read(text: str) -> list[tuple[float, float]]:
    """Return the spans of a mark; none where it is damaged: rather a record twice than one never."""
    try:
        spans = [tuple(map(float, each.split(","))) for each in text.split()]
        return [(start, end) for start, end in spans]
    except ValueError:
        return []
