"""Order books as they are stored: what changed, and every now and then all of it.

The first record of a symbol is a complete book, and so is the first one after anything that may have been
missed; deltas follow, and after every SNAPSHOT_INTERVAL of them a complete book follows the delta. With
SNAPSHOT_ONLY every record is complete. With MAX_DEPTH a record is about the best levels alone: a delta then
says how these changed, levels that come into sight or fall out of it included, so that it applies to the book
before.

cryptofeed hands out its own, living OrderBook: everything is copied before ``take`` returns. A book's numbers
are checked when they come: all of a new one, and then what changes. They are compared as Decimals, and become
texts with the record.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

from collector.bounds import decimal, levels, moment, text, written
from collector.records import L2Book, L3Book
from collector.times import nanoseconds

_ZERO = Decimal()


class _Progress:
    """How far the records of one symbol have got."""

    __slots__ = ("book", "deltas", "followed", "last", "view")

    def __init__(self, book: Any, last: float) -> None:
        self.book = book  # the OrderBook that the last record was made from
        self.deltas = 0  # since the last complete book
        self.followed = (
            False  # whether there ever was a delta: such books need no new start unless something broke
        )
        self.last = last  # receipt of the last record
        self.view: tuple[list[Any], list[Any]] | None = None  # with MAX_DEPTH: the sides as they are stored


class Books:
    """The books of one channel: ``record`` is L2Book or L3Book."""

    def __init__(
        self, record: type[L2Book] | type[L3Book], *, snapshot_only: bool, interval: int, depth: int
    ) -> None:
        self._record: Callable[..., L2Book | L3Book] = record
        self._levels: Callable[[Iterable[Any]], list[Any]] = levels if record is L2Book else _orders
        self._checked: Callable[[list[Any]], object] = levels if record is L2Book else _full_orders
        self._full_side: Callable[[Any], list[Any]] = _full_levels if record is L2Book else _full_orders
        self._snapshot_only = snapshot_only
        self._interval = interval
        self._depth = depth
        self._symbols: dict[str, _Progress] = {}

    def forget(self, symbol: str) -> float | None:
        """Something may have been missed: the next record of the symbol is a complete book.

        Returns the receipt of its last record, if any.
        """
        progress = self._symbols.pop(symbol, None)
        return progress.last if progress else None

    def renew(self, symbol: str) -> None:
        """A complete book follows the next change of the symbol."""
        if progress := self._symbols.get(symbol):
            progress.deltas = self._interval

    def take(self, book: Any, receipt: float) -> tuple[list[L2Book | L3Book], float | None]:
        """Return the records that cryptofeed's ``book``, received at ``receipt``, is to be stored as.

        With them comes the receipt of the last record before, when the book had to start over without a
        word from the exchange's connection: what came in between was missed. Otherwise None.
        """
        symbol, delta = book.symbol, book.delta
        progress = self._symbols.get(symbol)
        empty = delta is not None and not delta["bid"] and not delta["ask"]
        if progress is None or delta is None or (empty and progress.book is not book):
            broken = progress.last if progress is not None and progress.followed else None
            self._symbols.pop(symbol, None)  # a book that cannot be taken is none
            for side in (book.book.bids, book.book.asks):
                self._checked(side.to_list())
            begun = _Progress(book, receipt)
            full = self._full(book, receipt, begun)
            self._symbols[symbol] = begun
            return [full], broken
        bids, asks = self._levels(delta["bid"]), self._levels(delta["ask"])
        progress.book, progress.last = book, receipt
        if empty:
            return [], None
        progress.followed = True
        if self._snapshot_only:
            return [self._full(book, receipt, progress)], None
        if progress.view is not None:
            bids, asks = self._difference(book, progress, progress.view)
        return self._changes(book, receipt, progress, bids, asks), None

    def _changes(
        self, book: Any, receipt: float, progress: _Progress, bids: list[Any], asks: list[Any]
    ) -> list[L2Book | L3Book]:
        if not bids and not asks:
            return []
        when = times(book.timestamp, receipt)
        records = [self._record(book.exchange, book.symbol, *when, True, _written(bids), _written(asks))]
        progress.deltas += 1
        if progress.deltas >= self._interval:
            records.append(self._full(book, receipt, progress))
        return records

    def _difference(
        self, book: Any, progress: _Progress, before: tuple[list[Any], list[Any]]
    ) -> tuple[list[Any], list[Any]]:
        bids, asks = progress.view = self._sides(book)
        return _difference(before[0], bids), _difference(before[1], asks)

    def _full(self, book: Any, receipt: float, progress: _Progress) -> L2Book | L3Book:
        progress.deltas = 0
        bids, asks = self._sides(book)
        if self._depth:
            progress.view = bids, asks
        when = times(book.timestamp, receipt)
        return self._record(book.exchange, book.symbol, *when, False, _written(bids), _written(asks))

    def _sides(self, book: Any) -> tuple[list[Any], list[Any]]:
        bids, asks = book.book.bids.to_list(), book.book.asks.to_list()
        if self._depth:
            bids, asks = bids[: self._depth], asks[: self._depth]
        return self._full_side(bids), self._full_side(asks)


def times(value: Any, receipt: float) -> tuple[int, int]:
    """Return the exchange's time, or the receipt where there is none, and the receipt."""
    received = nanoseconds(receipt)
    return moment(value) if value else received, received


def _written(side: Iterable[Any]) -> list[Any]:
    """Return the levels, or orders, of a side with their numbers as records have them."""
    return [(*order, written(price), written(size)) for *order, price, size in side]


def _orders(orders: Iterable[Any]) -> list[tuple[str, Decimal, Decimal]]:
    return [(text(order), decimal(price), decimal(size)) for order, price, size in orders]


def _full_levels(side: list[Any]) -> list[tuple[Decimal, Decimal]]:
    """A side of a book is a list of pairs already; copied level by level only where that is needed.

    What is in it was checked when it came.
    """
    plain = all(type(size) is Decimal and type(price) is Decimal for price, size in side[:1])
    return side if plain else levels(side)


def _full_orders(side: list[Any]) -> list[tuple[str, Decimal, Decimal]]:
    return _orders((order, price, size) for price, orders in side for order, size in orders.items())


def _difference(before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    """Return the levels (or orders) that lead from one side to another; the last part of each is its size."""
    sizes = {level[:-1]: level[-1] for level in before}
    changed = [level for level in after if sizes.pop(level[:-1], None) != level[-1]]
    return [(*place, _ZERO) for place in sizes] + changed
