"""How records look in Redis: cryptofeed's own keys, fields and JSON, with every digit kept.

A number is plain text (0.00000001, never 1E-8), a time the shortest text that reads back as the same
float, and a missing value the text ``None``, as cryptofeed writes it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

import msgspec

from collector.records import (
    AnyRecord,
    Candle,
    Funding,
    Gap,
    Index,
    L1Book,
    L2Book,
    L3Book,
    Level,
    Liquidation,
    OpenInterest,
    Order,
    Ticker,
    Trade,
    channel_of,
)

#: First part of a key, by channel; ``{this}-{exchange}-{symbol}`` is the key.
KEYS: dict[str, str] = {
    "trades": "trades",
    "ticker": "ticker",
    "l1_book": "l1_book",
    "l2_book": "book",
    "l3_book": "l3_book",
    "funding": "funding",
    "open_interest": "open_interest",
    "liquidations": "liquidations",
    "index": "index",
    "candles": "candles",
    "gaps": "gaps",
}

#: Those whose records are complete or changes.
BOOKS = (L2Book, L3Book)


@dataclass(frozen=True, eq=False)
class Shape:
    """What entries of one kind share.

    Attributes:
        key: the first part of their key.
        fields: their names between ``symbol`` and ``timestamp``.
    """

    key: str
    fields: tuple[str, ...]


_SHAPES: dict[type[AnyRecord], Shape] = {
    kind: Shape(KEYS[channel_of(kind)], kind.__struct_fields__[4:])
    for kind in (Trade, Ticker, L1Book, Funding, OpenInterest, Liquidation, Index, Candle, Gap)
}
TRADE = _SHAPES[Trade]
#: By kind, and whether it is changes.
BOOK: dict[tuple[type[AnyRecord], bool], Shape] = {
    (kind, delta): Shape(KEYS[channel_of(kind)], (field,))
    for kind in BOOKS
    for delta, field in ((False, "book"), (True, "delta"))
}

_NONE = str(None)

_encoder = msgspec.json.Encoder(decimal_format="number")
_encode = _encoder.encode

#: How a level that is gone ends, of which deltas are full; without an exponent.
_GONE = ",0E-8]", ",0.00000000]"

#: A text as JSON.
quoted: Callable[[str], str] = encode_basestring


def plain(number: Decimal) -> str:
    """Every digit, without an exponent."""
    text = str(number)
    return f"{number:f}" if "E" in text else text


def _text(value: Any) -> str:
    """A value in a stream."""
    return (
        plain(value)
        if isinstance(value, Decimal)
        else repr(value)
        if isinstance(value, float)
        else str(value)
    )


def _json(value: Any) -> str:
    """A value in a JSON object."""
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | int):
        return repr(value)
    return quoted(str(value))


def entries(records: Sequence[AnyRecord]) -> Iterator[tuple[Shape, Sequence[str]]]:
    """Of each record its shape and, for a stream, its fields and both times as texts."""
    changes = _changes(records)
    moments = times(records)
    for record, timestamp, receipt in zip(records, moments[::2], moments[1::2], strict=True):
        if type(record) is Trade:  # half of all records
            amount, price = str(record.amount), str(record.price)
            if "E" in amount or "E" in price:
                amount, price = plain(record.amount), plain(record.price)
            yield TRADE, (record.side, amount, price, str(record.id), str(record.type), timestamp, receipt)
        elif isinstance(record, BOOKS):
            text = next(changes) if record.delta else book_json(record)
            yield BOOK[type(record), record.delta], (text, timestamp, receipt)
        else:
            shape = _SHAPES[type(record)]
            yield shape, (*[_text(getattr(record, field)) for field in shape.fields], timestamp, receipt)


def members(records: Sequence[AnyRecord]) -> Iterator[tuple[Shape, str, str, str]]:
    """Of each record its shape, its fields as the inside of a JSON object, and both times as texts."""
    changes = _changes(records)
    moments = times(records)
    for record, timestamp, receipt in zip(records, moments[::2], moments[1::2], strict=True):
        if type(record) is Trade:
            amount, price = str(record.amount), str(record.price)
            if "E" in amount or "E" in price:
                amount, price = plain(record.amount), plain(record.price)
            inside = (
                f'"side":{quoted(record.side)},"amount":{amount},"price":{price},'
                f'"id":{quoted(str(record.id))},"type":{quoted(str(record.type))}'
            )
            yield TRADE, inside, timestamp, receipt
        elif isinstance(record, BOOKS):
            shape = BOOK[type(record), record.delta]
            text = next(changes) if record.delta else book_json(record)
            yield shape, f'"{shape.fields[0]}":{text}', timestamp, receipt
        else:
            shape = _SHAPES[type(record)]
            inside = ",".join(f'"{field}":{_json(getattr(record, field))}' for field in shape.fields)
            yield shape, inside, timestamp, receipt


def times(records: Iterable[AnyRecord]) -> list[str]:
    """``timestamp`` and ``receipt_timestamp`` of each record, one after the other, as texts.

    The texts are those of ``repr``, made many times as fast; of what is no finite number it is ``null``.
    """
    floats = [time for record in records for time in (record.timestamp, record.receipt_timestamp)]
    return _encode(floats).decode()[1:-1].split(",") if floats else []


def _changes(records: Iterable[AnyRecord]) -> Iterator[str]:
    """``book_json`` of each record that is changes; most of them are made in one go."""
    books = [record for record in records if isinstance(record, BOOKS) and record.delta]
    if not all(type(book) is L2Book for book in books):
        return map(book_json, books)
    text = _encoder.encode_lines([{"bid": book.bid, "ask": book.ask} for book in books]).decode()
    lines = text.replace(*_GONE).split("\n")
    if "E" not in text:
        return iter(lines)
    return (book_json(book) if "E" in line else line for book, line in zip(books, lines, strict=False))


def book_json(book: L2Book | L3Book) -> str:
    """A complete book by price, or the changes as a list; numbers are JSON numbers with every digit."""
    bid, ask = (book.bid, book.ask) if book.delta else (_by_price(book.bid), _by_price(book.ask))
    text = _encode({"bid": bid, "ask": ask}).decode()
    if type(book) is L2Book:
        text = text.replace(*_GONE)
    if "E" not in text:
        return text
    # A number has an exponent (or an order an E).
    return _encode({"bid": _without_exponents(bid), "ask": _without_exponents(ask)}).decode()


def _by_price(side: Sequence[Level] | Sequence[Order]) -> dict[str, Any]:
    prices: dict[str, Any] = {}
    for *order, price, size in side:
        if order:
            prices.setdefault(plain(price), {})[order[0]] = size
        else:
            prices[plain(price)] = size
    return prices


def _without_exponents(side: Any) -> Any:
    if isinstance(side, Decimal):
        return msgspec.Raw(plain(side).encode())
    if isinstance(side, dict):
        return {price: _without_exponents(value) for price, value in side.items()}
    return [_without_exponents(each) for each in side] if isinstance(side, list | tuple) else side


def gap(fields: Mapping[str, Any]) -> Gap:
    """Return the gap that an entry's fields, or a member's, were made of. Raises ValueError or KeyError."""
    count = fields["count"]
    return Gap(
        exchange=fields["exchange"],
        symbol=fields["symbol"],
        timestamp=float(fields["timestamp"]),
        receipt_timestamp=float(fields["receipt_timestamp"]),
        missed=fields["missed"],
        start=float(fields["start"]),
        end=float(fields["end"]),
        reason=fields["reason"],
        count=None if count == _NONE else int(count),
    )
