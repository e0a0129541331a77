"""What is stored: one small typed record per public channel.

Fields have cryptofeed's names. Numbers are the texts that the exchange sent, so that every digit survives:
plain decimals, without an exponent, which ``exchanges.numbers`` or ``bounds`` has checked. Times are float
seconds since 1970, UTC. ``timestamp`` is the exchange's own time of the event, or the receipt where the
exchange gives none; ``receipt_timestamp`` is when the message arrived.

Records are encoded as arrays that begin with the channel, so a blob of them can be read back
without knowing what is in it: ``decode(encode(records)) == records``. Versions whose numbers were Decimals
encoded them as texts too, some of them with an exponent: they read what this one writes, and the other way
round.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import Annotated

import msgspec

#: What records are about: channel and symbol, both in cryptofeed's words.
type Key = tuple[str, str]
#: Channels of books.
BOOKS = frozenset({"l2_book", "l3_book"})
#: A number as text.
Number = Annotated[str, msgspec.Meta(description="a plain decimal")]
#: One level of an aggregated book: price and size. In a delta, size 0 removes the level.
Level = tuple[Number, Number]
#: One order of a book by order: order id, price, size. In a delta, size 0 removes the order.
Order = tuple[str, Number, Number]


class Record(msgspec.Struct, array_like=True, tag_field="channel", gc=False):
    """What every record has."""

    exchange: str
    symbol: str
    timestamp: float
    receipt_timestamp: float


class Trade(Record, array_like=True, tag="trades", gc=False):
    """One trade; ``side`` (buy, sell) is the taker's."""

    side: str
    amount: Number
    price: Number
    id: str | None
    type: str | None


class Ticker(Record, array_like=True, tag="ticker", gc=False):
    """The best prices."""

    bid: Number
    ask: Number


class L1Book(Record, array_like=True, tag="l1_book", gc=False):
    """The best prices with their sizes."""

    bid_price: Number
    bid_size: Number
    ask_price: Number
    ask_size: Number


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

    mark_price: Number | None
    rate: Number | None
    next_funding_time: float | None
    predicted_rate: Number | None


class OpenInterest(Record, array_like=True, tag="open_interest", gc=False):
    """Open contracts, in the exchange's unit."""

    open_interest: Number


class Liquidation(Record, array_like=True, tag="liquidations", gc=False):
    """One forced order."""

    side: str
    quantity: Number
    price: Number
    id: str | None
    status: str | None


class Index(Record, array_like=True, tag="index", gc=False):
    """The price of an index."""

    price: Number


class Candle(Record, array_like=True, tag="candles", gc=False):
    """One candle from ``start`` to ``stop``; ``closed`` is None where the exchange does not tell."""

    start: float
    stop: float
    interval: str
    trades: int | None
    open: Number
    close: Number
    high: Number
    low: Number
    volume: Number
    closed: bool | None


class Gap(Record, array_like=True, tag="gaps", gc=False):
    """From ``start`` to ``end`` (receipts) records of one channel of one symbol are missing, or may be.

    ``missed`` is that channel; ``timestamp`` is ``end``, ``receipt_timestamp`` when the gap was noticed.
    ``count`` is how many records are missing, None where nobody knows. With the reasons ``forgotten`` and
    ``corrupt`` it counts all that was lost at once, of whatever channel and symbol. gaps/ has the reasons.
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

#: What a number with an exponent looks like; so may an id, which is left as it is.
_exponent = re.compile(rb"[0-9]E[+-][0-9]").search
#: An exponent that is written out.
_short_exponent = re.compile(r"-?[0-9]+(?:\.[0-9]+)?E[+-][0-9]{1,2}").fullmatch


def channel_of(record: Record | type[Record]) -> str:
    """Return the channel that a record belongs to, in cryptofeed's spelling."""
    return str(record.__struct_config__.tag)


def counts(records: Iterable[Record]) -> dict[str, int]:
    """Return how many records there are of each channel."""
    return {channel_of(kind): count for kind, count in Counter(map(type, records)).items()}


def encode(records: Sequence[Record]) -> bytes:
    """Return many records as one msgpack array."""
    return _encoder.encode(records)


def decode(blob: bytes) -> list[AnyRecord]:
    """Return the records of ``encode``. Raises msgspec.DecodeError when the blob is not one."""
    try:
        records = _decoder.decode(blob)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
    if _exponent(blob):
        for record in records:
            _write_out(record)
    return records


def decode_gaps(blob: bytes) -> list[Gap]:
    """Return the gaps of ``encode``, where there is nothing else.

    Raises msgspec.DecodeError when they are none.
    """
    try:
        return _gap_decoder.decode(blob)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error


def numbers(record: Record) -> Iterator[str]:
    """Yield the numbers of a record."""
    for name in number_fields(type(record)):
        if (value := getattr(record, name)) is not None:
            yield value
    if isinstance(record, L2Book | L3Book):
        for side in (record.bid, record.ask):
            for *_, price, size in side:
                yield price
                yield size


@cache
def number_fields(kind: type[Record]) -> tuple[str, ...]:
    """Return the names of the fields that are numbers."""
    fields = msgspec.structs.fields(kind)
    return tuple(field.name for field in fields if field.type in (Number, Number | None))


def _write_out(record: Record) -> None:
    """Write numbers out that a version before this one wrote with an exponent."""
    for name in number_fields(type(record)):
        if (value := getattr(record, name)) is not None:
            setattr(record, name, _plain(value))
    if isinstance(record, L2Book | L3Book):
        for side in (record.bid, record.ask):
            side[:] = [(*order, _plain(price), _plain(size)) for *order, price, size in side]  # type: ignore[misc]


def _plain(number: str) -> str:
    return format(Decimal(number), "f") if _short_exponent(number) else number
