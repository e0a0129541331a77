"""The book of one symbol: it is kept here, and turned into the records that are stored of it.

A level is found by its price's value, and stored as it was sent: one exchange writes 83778.9 and
83778.90000000 in one stream.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from decimal import Decimal
from itertools import islice

import msgspec

from collector.exchanges.numbers import ZEROS, Level
from collector.records import L2Book

#: A price as it is compared: a float where that is exact enough (15 digits are), a Decimal for a longer one.
type Key = float | Decimal

#: A text this long may hold more digits than a float tells apart.
_LONG = 17


class Storing(msgspec.Struct, frozen=True):
    """How books are stored.

    Attributes:
        snapshot_only: every record is a complete book.
        snapshot_interval: a complete book follows after this many deltas.
        max_depth: levels kept per side; 0 keeps all.
    """

    snapshot_only: bool = False
    snapshot_interval: int = 1000
    max_depth: int = 0


class Side:
    """The bids or the asks of a book.

    Args:
        best_is_highest: as it is of bids.
        ordered: keep the prices in order: for who asks for the best ones at each change.
    """

    def __init__(self, *, best_is_highest: bool, ordered: bool = False) -> None:
        self._best_is_highest = best_is_highest
        self._levels: dict[Key, Level] = {}
        self._order: list[Key] | None = [] if ordered else None  # lowest first

    def __len__(self) -> int:
        return len(self._levels)

    def replace(self, levels: Iterable[Level]) -> None:
        """Make ``levels`` all that there is; those of size zero are none."""
        self._levels.clear()
        if self._order:
            self._order.clear()
        self.change(levels)

    def change(self, levels: Iterable[Level]) -> list[Level]:
        """Put the levels in place, remove those of size zero; return the ones that changed something."""
        kept, order, zeros, changed = self._levels, self._order, ZEROS, []
        for level in levels:
            price, size = level
            key = float(price) if len(price) < _LONG else _long_key(price)
            if size not in zeros:
                if order is not None and key not in kept:
                    insort(order, key)
                kept[key] = level
            elif kept.pop(key, None) is None:
                continue
            elif order is not None:
                del order[bisect_left(order, key)]
            changed.append(level)
        return changed

    def truncate(self, count: int) -> list[Level]:
        """Remove all but the best levels; return the removals, for who keeps a book of an ordered side."""
        order = self._order or []
        excess = len(order) - count
        if excess <= 0:
            return []
        worst = order[:excess] if self._best_is_highest else order[count:]
        self._order = order[excess:] if self._best_is_highest else order[:count]
        return [(self._levels.pop(key)[0], "0") for key in worst]

    def best(self, count: int | None = None) -> dict[Key, Level]:
        """Return the best levels, best first; all of them where ``count`` is not given."""
        order = sorted(self._levels) if self._order is None else self._order
        best_first = reversed(order) if self._best_is_highest else order
        return {key: self._levels[key] for key in islice(best_first, count)}


class Book:
    """One symbol's book by price, and how far its records have got.

    Args:
        exchange, symbol: whose book it is.
        storing: how it is stored.
        depth: levels per side that the exchange keeps up to date; others are removed. 0: all.
    """

    def __init__(self, exchange: str, symbol: str, storing: Storing, *, depth: int = 0) -> None:
        ordered = bool(depth or storing.max_depth)
        self.bids = Side(best_is_highest=True, ordered=ordered)
        self.asks = Side(best_is_highest=False, ordered=ordered)
        self._subscribed = depth
        self._exchange, self._symbol = exchange, symbol
        self._snapshot_only, self._interval = storing.snapshot_only, storing.snapshot_interval
        self._depth = storing.max_depth or None
        self._deltas = 0
        self._shown: tuple[dict[Key, Level], dict[Key, Level]] = {}, {}  # with max_depth, what is stored

    def begin(self, bids: list[Level], asks: list[Level], timestamp: int, receipt: int) -> list[L2Book]:
        """Begin with a complete book; return the record of it."""
        self.bids.replace(bids)
        self.asks.replace(asks)
        return [self.complete(timestamp, receipt)]

    def change(self, bids: list[Level], asks: list[Level], timestamp: int, receipt: int) -> list[L2Book]:
        """Change some levels; return the records: the delta, and a complete book where one is due."""
        bids, asks = self.bids.change(bids), self.asks.change(asks)
        if self._subscribed:
            bids += self.bids.truncate(self._subscribed)
            asks += self.asks.truncate(self._subscribed)
        return self._stored(bids, asks, timestamp, receipt)

    def show(self, bids: list[Level], asks: list[Level], timestamp: int, receipt: int) -> list[L2Book]:
        """Take a complete book that follows another; return what changed, as ``change`` does."""
        before = self._best()
        self.bids.replace(bids)
        self.asks.replace(asks)
        after = self._best()
        bids, asks = (_difference(*sides) for sides in zip(before, after, strict=True))
        return self._stored(bids, asks, timestamp, receipt)

    def renew(self) -> None:
        """Have a complete book follow the next change."""
        self._deltas = self._interval

    def _stored(self, bids: list[Level], asks: list[Level], timestamp: int, receipt: int) -> list[L2Book]:
        if self._depth:
            before, self._shown = self._shown, self._best()
            bids, asks = (_difference(*sides) for sides in zip(before, self._shown, strict=True))
        if not bids and not asks:
            return []
        if self._snapshot_only:
            return [self.complete(timestamp, receipt)]
        delta = L2Book(self._exchange, self._symbol, timestamp, receipt, True, bids, asks)
        self._deltas += 1
        if self._deltas >= self._interval:
            return [delta, self.complete(timestamp, receipt)]
        return [delta]

    def complete(self, timestamp: int, receipt: int) -> L2Book:
        """Return the record of the complete book."""
        self._deltas = 0
        bids, asks = self._best()
        if self._depth:
            self._shown = bids, asks
        sides = list(bids.values()), list(asks.values())
        return L2Book(self._exchange, self._symbol, timestamp, receipt, False, *sides)

    def _best(self) -> tuple[dict[Key, Level], dict[Key, Level]]:
        return self.bids.best(self._depth), self.asks.best(self._depth)


def _difference(before: Mapping[Key, Level], after: Mapping[Key, Level]) -> list[Level]:
    """Return the levels that lead from one side to another."""
    gone = [(level[0], "0") for key, level in before.items() if key not in after]
    return gone + [level for key, level in after.items() if before.get(key) != level]


def _long_key(price: str) -> Key:
    """Return the key of a long text: without its trailing zeros it may be a short one."""
    short = price.rstrip("0").rstrip(".") if "." in price else price
    return float(short) if len(short) < _LONG else Decimal(short)
