"""What is stored: one small typed record per public channel.

Fields have cryptofeed's names. Numbers are the texts that the exchange sent, so that every digit survives:
plain decimals, without an exponent, which ``exchanges.numbers`` or ``bounds`` has checked. Times are integer
nanoseconds since 1970, UTC. ``timestamp`` is the exchange's own time of the event, or the receipt where the
exchange gives none; ``receipt_timestamp`` is when the message arrived.

Records are encoded as arrays that begin with the channel, so a blob of them can be read back
without knowing what is in it: ``decode(encode(records)) == records``. Earlier versions encoded times as float
seconds, and some of them numbers with an exponent; ``decode`` reads that as well, and
``encode_for_earlier_versions`` writes what they read.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, get_args

import msgspec

from collector.times import SECOND, nanoseconds

#: What records are about: channel and symbol, both in cryptofeed's words.
type Key = tuple[str, str]
#: Channels of books.
BOOKS = frozenset({"l2_book", "l3_book"})
#: A number as text.
Number = Annotated[str, msgspec.Meta(description="a plain decimal")]
#: When something happened.
Time = Annotated[int, msgspec.Meta(description="nanoseconds since 1970, UTC")]
#: One level of an aggregated book: price and size. In a delta, size 0 removes the level.
Level = tuple[Number, Number]
#: One order of a book by order: order id, price, size. In a delta, size 0 removes the order.
Order = tuple[str, Number, Number]


class Record(msgspec.Struct, array_like=True, tag_field="channel", gc=False):
    """What every record has."""

    exchange: str
    symbol: str
    timestamp: Time
    receipt_timestamp: Time


class Trade(Record, array_like=True, tag="trades", gc=False):
    """One trade; ``side`` (buy, sell) is the taker's."""

    side: str
    amount: Number
    price: Number
    id: str | None
    type: str | None = None


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
    next_funding_time: Time | None
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
    """One candle from ``start`` to ``stop``; ``closed`` is None if the exchange does not tell."""

    start: Time
    stop: Time
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
    ``count`` is how many records are missing, None if nobody knows. With the reasons ``forgotten`` and
    ``corrupt`` it counts all that was lost at once, of whatever channel and symbol. gaps/ has the reasons.
    """

    missed: str
    start: Time
    end: Time
    reason: str
    count: int | None


AnyRecord = (
    Trade | Ticker | L1Book | L2Book | L3Book | Funding | OpenInterest | Liquidation | Index | Candle | Gap
)


def channel_of(record: Record | type[Record]) -> str:
    """Return the channel that a record belongs to, in cryptofeed's spelling."""
    return str(record.__struct_config__.tag)


_KINDS: dict[str, type[Record]] = {channel_of(kind): kind for kind in get_args(AnyRecord)}

_anything = msgspec.msgpack.Decoder()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[AnyRecord])
_gap_decoder = msgspec.msgpack.Decoder(list[Gap])

#: Seconds since 1970, before and after, whose nanoseconds MessagePack has no room for.
_EARLIEST, _LATEST = -(2**63) / SECOND, 2**64 / SECOND

#: What a number with an exponent looks like; so may an id, which is left as it is.
_exponent = re.compile(rb"[0-9]E[+-][0-9]").search
#: An exponent that is written out.
_short_exponent = re.compile(r"-?[0-9]+(?:\.[0-9]+)?E[+-][0-9]{1,2}").fullmatch


def counts(records: Iterable[Record]) -> dict[str, int]:
    """Return how many records there are of each channel."""
    return {channel_of(kind): count for kind, count in Counter(map(type, records)).items()}


def encode(records: Sequence[Record]) -> bytes:
    """Return many records as one msgpack array."""
    return _encoder.encode(records)


def encode_for_earlier_versions(records: Iterable[Record]) -> bytes:
    """Return many records as versions before this one encoded them: times are float seconds."""
    return _encoder.encode([[channel_of(record), *fields(record).values()] for record in records])


def decode(blob: bytes) -> list[AnyRecord]:
    """Return a blob's records, whichever version wrote it. Raises msgspec.DecodeError when it is none."""
    records = _decoded(blob, _decoder)
    if _exponent(blob):
        for record in records:
            _write_out(record)
    return records


def decode_gaps(blob: bytes) -> list[Gap]:
    """Return the gaps of a blob that holds nothing else, as ``decode`` does.

    Raises msgspec.DecodeError when they are none.
    """
    return _decoded(blob, _gap_decoder)


def _decoded[R: Record](blob: bytes, decoder: msgspec.msgpack.Decoder[list[R]]) -> list[R]:
    try:
        try:
            return decoder.decode(blob)
        except msgspec.ValidationError:
            return msgspec.convert(_with_times(_anything.decode(blob)), decoder.type)
    except (UnicodeDecodeError, OverflowError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _with_times(arrays: Any) -> Any:
    """Return the records of an earlier version with times in place of float seconds.

    What is no record is left to be found. Raises msgspec.DecodeError where a time is no finite number.
    """
    for array in arrays if isinstance(arrays, list) else ():
        kind = _KINDS.get(str(array[0])) if isinstance(array, list) and array else None
        for place in _time_places(kind) if kind else ():
            if place < len(array) and type(array[place]) in {float, int}:
                array[place] = _nanoseconds(array[place])
    return arrays


def _nanoseconds(seconds: float) -> int:
    if not _EARLIEST <= seconds < _LATEST:
        raise msgspec.DecodeError(f"{seconds} is no time")
    return nanoseconds(seconds)


def fields(record: Record) -> dict[str, Any]:
    """Return the fields of a record by name, as they are read: times are float seconds since 1970, UTC."""
    found = msgspec.structs.asdict(record)
    for name in time_fields(type(record)):
        if found[name] is not None:
            found[name] /= SECOND
    return found


def span(records: Sequence[Record]) -> tuple[float, float]:
    """Return the receipts of the first record and of the last one, in seconds."""
    return records[0].receipt_timestamp / SECOND, records[-1].receipt_timestamp / SECOND


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
    return tuple(it.name for it in msgspec.structs.fields(kind) if it.type in (Number, Number | None))


@cache
def time_fields(kind: type[Record]) -> tuple[str, ...]:
    """Return the names of the fields that are times."""
    return tuple(it.name for it in msgspec.structs.fields(kind) if it.type in (Time, Time | None))


@cache
def _time_places(kind: type[Record]) -> tuple[int, ...]:
    """Return where in an encoded record, which begins with the channel, the times are."""
    return tuple(1 + kind.__struct_fields__.index(name) for name in time_fields(kind))


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
