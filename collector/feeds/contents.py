"""The content of the last record of what has no numbers: by it a record that is sent again is known.

An exchange may begin a subscription with what it sent last, also to the next process. So the contents are
marked now and then; what was recorded since is in the spool.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from collector.exchanges.quotes import stored
from collector.gaps import marks
from collector.gaps.marks import LastContent, Marks
from collector.records import AnyRecord, Key, channel_of, fields
from collector.times import SECOND

#: Channels whose records have no numbers.
UNNUMBERED = frozenset({"ticker", "l1_book", "funding", "open_interest", "index", "liquidations"})
#: Nanoseconds after which the contents are marked again.
MARKED = 10 * SECOND


class Contents:
    """The contents of one exchange's last records."""

    def __init__(self, exchange: str, remembered: Marks) -> None:
        self._exchange, self._marks = exchange, remembered
        self._recalled: dict[str, dict[str, str]] = defaultdict(dict)  # of earlier processes
        self._marked: dict[Key, Any] = {}  # records whose content is marked
        self._when = 0  # when that was

    def recall(self, recorded: Iterable[AnyRecord]) -> None:
        """Take up what earlier processes recorded last; ``recorded`` is the newest of it, oldest first."""
        for (channel, symbol), mark in self._marks.of_pairs(self._exchange, LastContent):
            self._recalled[channel][symbol] = mark.content
        for record in recorded:
            if (channel := channel_of(record)) in UNNUMBERED:
                self._recalled[channel][record.symbol] = content(record)

    def are_recalled(self, key: Key) -> bool:
        """Return whether an earlier process recorded something of ``key``, and this one nothing yet."""
        return key[1] in self._recalled[key[0]]

    def is_recalled(self, channel: str, it: Any) -> bool:
        """Return whether the first record of this process is the last one of an earlier process."""
        recalled = self._recalled[channel]
        known = recalled.pop(it.symbol, None) if recalled else None
        return known is not None and it.timestamp != it.receipt_timestamp and known == content(it)

    def forget(self, key: Key) -> None:
        """Nothing of ``key`` is taken in any more."""
        self._recalled[key[0]].pop(key[1], None)
        if self._marked.pop(key, None):
            self._marks.drop(marks.last_content(self._exchange, key))

    def mark(self, now: int, *kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember the last records, by channel and symbol, that the exchange gave a time.

        Without one, none is known again. It is done now and then.
        """
        if 0 <= now - self._when < MARKED:
            return
        self._when = now
        for each in kept:
            for channel, by_symbol in each.items():
                for symbol, it in by_symbol.items():
                    key = channel, symbol
                    if it.timestamp != it.receipt_timestamp and self._marked.get(key) is not it:
                        self._marked[key] = it
                        place = marks.last_content(self._exchange, key)
                        self._marks.put(place, LastContent(content(it)))


def content(record: AnyRecord) -> str:
    """Return what a record says, whoever receives it whenever."""
    _, _, timestamp, _, *said = fields(stored(record)).values()
    return msgspec.json.encode((timestamp, *said)).decode()
