"""What is stored: one small typed record per public channel.

Fields have cryptofeed's names. Numbers that an exchange sends stay ``Decimal``, so that every digit
survives; times are float seconds since 1970, UTC. ``timestamp`` is the exchange's own time of the
event, or the receipt where the exchange gives none; ``receipt_timestamp`` is when the message arrived.

Records are encoded as arrays that begin with the channel, so a blob of them can be read back
without knowing what is in it: ``decode(encode(records)) == records``.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

#: One level of an aggregated book: price and size. In a delta, size 0 removes the level.
Level = tuple[Decimal, Decimal]
#: One order of a book by order: order id, price, size. In a delta, size 0 removes the order.
Order = tuple[str, Decimal, Decimal]


class Record(msgspec.Struct, array_like=True, tag_field="channel", gc=False):
    """What every record has."""

    exchange: str
    symbol: str
    timestamp: float
    receipt_timestamp: float


class Trade(Record, array_like=True, tag="trades", gc=False):
    """One trade; ``side`` (buy, sell) is the taker's."""

    side: str
    amount: Decimal
    price: Decimal
    id: str | None
    type: str | None


class Ticker(Record, array_like=True, tag="ticker", gc=False):
    """The best prices."""

    bid: Decimal
    ask: Decimal


class L1Book(Record, array_like=True, tag="l1_book", gc=False):
    """The best prices with their sizes."""

    bid_price: Decimal
    bid_size: Decimal
    ask_price: Decimal
    ask_size: Decimal


class L2Book(Record, array_like=True, tag="l2_book", gc=False):
    """A book by price: complete, or (``delta``) the levels that changed."""

    delta: bool
    bid: list[Level]
    ask: list[Level]


class L3Book(Record, array_like=True, tag="l3_book", gc=False):
    """A book by order: complete, or (``delta``) the orders that changed."""

    delta: bool
    bid: list[Order]
    ask: list[Order]


class Funding(Record, array_like=True, tag="funding", gc=False):
    """The funding of a perpetual; ``rate`` is a fraction per funding period."""

    mark_price: Decimal | None
    rate: Decimal | None
    next_funding_time: float | None
    predicted_rate: Decimal | None


class OpenInterest(Record, array_like=True, tag="open_interest", gc=False):
    """Open contracts, in the exchange's unit."""

    open_interest: Decimal


class Liquidation(Record, array_like=True, tag="liquidations", gc=False):
    """One forced order."""

    side: str
    quantity: Decimal
    price: Decimal
    id: str | None
    status: str | None


class Index(Record, array_like=True, tag="index", gc=False):
    """The price of an index."""

    price: Decimal


class Candle(Record, array_like=True, tag="candles", gc=False):
    """One candle from ``start`` to ``stop``; ``closed`` is None where the exchange does not tell."""

    start: float
    stop: float
    interval: str
    trades: int | None
    open: Decimal
    close: Decimal
    high: Decimal
    low: Decimal
    volume: Decimal
    closed: bool | None


class Gap(Record, array_like=True, tag="gaps", gc=False):
    """From ``start`` to ``end`` (receipts) records of one channel of one symbol are missing, or may be.

    ``missed`` is that channel; ``timestamp`` is ``end``, ``receipt_timestamp`` when the gap was noticed.
    ``count`` is how many records are missing, None where nobody knows. With the reasons ``forgotten`` and
    ``corrupt`` it counts all that was lost at once, of whatever channel and symbol. gaps.py has the reasons.
    """

    missed: str
    start: float
    end: float
    reason: str
    count: int | None


AnyRecord = (
    Trade | Ticker | L1Book | L2Book | L3Book | Funding | OpenInterest | Liquidation | Index | Candle | Gap
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[AnyRecord])
_gap_decoder = msgspec.msgpack.Decoder(list[Gap])


def channel_of(record: Record | type[Record]) -> str:
    """The channel that a record belongs to, in cryptofeed's spelling."""
    return str(record.__struct_config__.tag)


def encode(records: Sequence[Record]) -> bytes:
    """Many records as one msgpack array; Decimals are strings in it."""
    return _encoder.encode(records)


def decode(blob: bytes) -> list[AnyRecord]:
    """The records of ``encode``. Raises msgspec.DecodeError when the blob is not one."""
    try:
        return _decoder.decode(blob)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error


def decode_gaps(blob: bytes) -> list[Gap]:
    """The gaps of ``encode``, where there is nothing else. Raises msgspec.DecodeError when they are none."""
    try:
        return _gap_decoder.decode(blob)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
