"""Best prices, and small books, that an exchange numbers. The number puts them in order; it is not stored."""

from typing import Any

from collector.records import L1Book, L2Book, Ticker


class NumberedTicker(Ticker, array_like=True, tag="ticker", gc=False):
    """The best prices, as of an update of the book."""

    number: int

    @property
    def stored(self) -> Ticker:
        """The record without its number."""
        return Ticker(self.exchange, self.symbol, self.timestamp, self.receipt_timestamp, self.bid, self.ask)


class NumberedL1Book(L1Book, array_like=True, tag="l1_book", gc=False):
    """The best prices with their sizes, as of an update of the book."""

    number: int

    @property
    def stored(self) -> L1Book:
        """The record without its number."""
        return L1Book(
            *(self.exchange, self.symbol, self.timestamp, self.receipt_timestamp),
            *(self.bid_price, self.bid_size, self.ask_price, self.ask_size),
        )


class NumberedBook(L2Book, array_like=True, tag="l2_book", gc=False):
    """A book, or what changed of it, as of an update of the whole one."""

    number: int

    @classmethod
    def of(cls, book: L2Book, number: int) -> "NumberedBook":
        """Return a book with its number."""
        start = book.exchange, book.symbol, book.timestamp, book.receipt_timestamp
        return cls(*start, book.delta, book.bid, book.ask, number)

    @property
    def stored(self) -> L2Book:
        """The record without its number."""
        return L2Book(
            *(self.exchange, self.symbol, self.timestamp, self.receipt_timestamp),
            *(self.delta, self.bid, self.ask),
        )


def stored(record: Any) -> Any:
    """Return a record as it is stored."""
    return record.stored if isinstance(record, NumberedTicker | NumberedL1Book | NumberedBook) else record


def place(record: Any) -> int:
    """Return what puts a symbol's records in order, on whichever connection: their number, or their time."""
    return int(getattr(record, "number", record.timestamp))
