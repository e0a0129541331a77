"""What an exchange's messages become: one small typed record per channel.

Fields have cryptofeed's names. Numbers are the texts that the exchange sent (``numbers``); times are integer
nanoseconds since 1970, UTC. ``timestamp`` is the exchange's own time of the event, or the receipt where the
exchange gives none; ``receipt_timestamp`` is when the message arrived.
"""

from typing import override

import msgspec

from collector.exchanges.numbers import Level

#: One order of a book by order: order id, price, size. In a delta, size 0 removes the order.
type Order = tuple[str, str, str]


class Record(msgspec.Struct, tag_field="channel", gc=False):
    """What every record has."""

    exchange: str
    symbol: str
    timestamp: int
    receipt_timestamp: int

    @property
    def place(self) -> int:
        """What puts a symbol's records in order, on whichever connection they come: a time, or a number."""
        return self.timestamp


class Trade(Record, tag="trades", gc=False):
    """One trade; ``side`` (buy, sell) is the taker's."""

    side: str
    amount: str
    price: str
    id: str | None
    type: str | None = None


class Ticker(Record, tag="ticker", gc=False, omit_defaults=True):
    """The best prices."""

    bid: str
    ask: str
    number: int | None = None  # where the exchange numbers them; it is not stored

    @property
    @override
    def place(self) -> int:
        return self.timestamp if self.number is None else self.number


class L1Book(Record, tag="l1_book", gc=False, omit_defaults=True):
    """The best prices with their sizes."""

    bid_price: str
    bid_size: str
    ask_price: str
    ask_size: str
    number: int | None = None  # where the exchange numbers them; it is not stored

    @property
    @override
    def place(self) -> int:
        return self.timestamp if self.number is None else self.number


class L2Book(Record, tag="l2_book", gc=False):
    """A book by price: complete, or (``delta``) the levels that changed; size 0 removes a level."""

    delta: bool
    bid: list[Level]
    ask: list[Level]


class L3Book(Record, tag="l3_book", gc=False):
    """A book by order: complete, or (``delta``) the orders that changed."""

    delta: bool
    bid: list[Order]
    ask: list[Order]


class Funding(Record, tag="funding", gc=False):
    """The funding of a perpetual; ``rate`` is a fraction per funding period."""

    mark_price: str | None
    rate: str | None
    next_funding_time: int | None
    predicted_rate: str | None


class OpenInterest(Record, tag="open_interest", gc=False):
    """Open contracts, in the exchange's unit."""

    open_interest: str


class Liquidation(Record, tag="liquidations", gc=False):
    """One forced order; ``side`` is the order's."""

    side: str
    quantity: str
    price: str
    id: str | None
    status: str | None


class Index(Record, tag="index", gc=False):
    """The price of the index that an instrument follows."""

    price: str


class Candle(Record, tag="candles", gc=False):
    """One candle from ``start`` to ``stop``; ``closed`` is None where the exchange does not tell."""

    start: int
    stop: int
    interval: str
    trades: int | None
    open: str
    close: str
    high: str
    low: str
    volume: str
    closed: bool | None


type AnyRecord = (
    Trade | Ticker | L1Book | L2Book | L3Book | Funding | OpenInterest | Liquidation | Index | Candle
)
