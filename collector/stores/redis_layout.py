"""How records look in Redis: cryptofeed's own keys, fields and JSON, with every digit kept.

A number is plain text (0.00000001, never 1E-8), a time the shortest text that reads back as the same
float, and a missing value the text ``None``, as cryptofeed writes it.
"""

from collections.abc import Callable, Iterable, Sequence
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

#: The fields between ``symbol`` and ``timestamp``; a book has one of two.
FIELDS: dict[type[AnyRecord], tuple[str, ...]] = {
    kind: kind.__struct_fields__[4:]
    for kind in (Trade, Ticker, L1Book, Funding, OpenInterest, Liquidation, Index, Candle, Gap)
}
BOOK_FIELD = {False: "book", True: "delta"}

#: Those whose records are complete or changes.
BOOKS = (L2Book, L3Book)

_encode = msgspec.json.Encoder(decimal_format="number").encode

#: A text as JSON.
quoted: Callable[[str], str] = encode_basestring


def key(record: AnyRecord) -> str:
    """The key that a record is stored under."""
    channel = type(record).__struct_config__.tag
    return f"{KEYS[str(channel)]}-{record.exchange}-{record.symbol}"


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


def values(record: AnyRecord) -> list[str]:
    """The values of FIELDS, or the JSON of a book, as texts."""
    if type(record) is Trade:  # half of all records
        amount, price, trade_id, kind = record.amount, record.price, record.id, record.type
        return [record.side, plain(amount), plain(price), str(trade_id), str(kind)]
    if isinstance(record, BOOKS):
        return [book_json(record)]
    return [_text(getattr(record, field)) for field in FIELDS[type(record)]]


def members(record: AnyRecord) -> str:
    """The same as the inside of a JSON object, without exchange, symbol and times."""
    if type(record) is Trade:
        return (
            f'"side":{quoted(record.side)},"amount":{plain(record.amount)},"price":{plain(record.price)},'
            f'"id":{quoted(str(record.id))},"type":{quoted(str(record.type))}'
        )
    if isinstance(record, BOOKS):
        return f'"{BOOK_FIELD[record.delta]}":{book_json(record)}'
    return ",".join(f'"{field}":{_json(getattr(record, field))}' for field in FIELDS[type(record)])


def times(records: Iterable[AnyRecord]) -> list[str]:
    """``timestamp`` and ``receipt_timestamp`` of each record, one after the other, as texts.

    The texts are those of ``repr``, made many times as fast; of what is no finite number it is ``null``.
    """
    floats = [time for record in records for time in (record.timestamp, record.receipt_timestamp)]
    return _encode(floats).decode()[1:-1].split(",") if floats else []


def book_json(book: L2Book | L3Book) -> str:
    """A complete book by price, or the changes as a list; numbers are JSON numbers with every digit."""
    bid, ask = (book.bid, book.ask) if book.delta else (_by_price(book.bid), _by_price(book.ask))
    text = _encode({"bid": bid, "ask": ask}).decode()
    if type(book) is L2Book:
        text = text.replace(",0E-8]", ",0.00000000]")  # a level that is gone: deltas are full of them
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
