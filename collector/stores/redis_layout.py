"""How records look in Redis: cryptofeed's own keys, fields and JSON, with every digit kept.

A number is plain text (0.00000001, never 1E-8), a time the shortest text that reads back as the same
float, and a missing value the text ``None``, as cryptofeed writes it.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any

from collector.records import (
    AnyRecord,
    Candle,
    Funding,
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
}

#: The fields between ``symbol`` and ``timestamp``; a book has one of two.
FIELDS: dict[type[AnyRecord], tuple[str, ...]] = {
    kind: kind.__struct_fields__[4:]
    for kind in (Trade, Ticker, L1Book, Funding, OpenInterest, Liquidation, Index, Candle)
}
BOOK_FIELD = {False: "book", True: "delta"}

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
    if isinstance(record, L2Book | L3Book):
        return [book_json(record)]
    return [_text(getattr(record, field)) for field in FIELDS[type(record)]]


def members(record: AnyRecord) -> str:
    """The same as the inside of a JSON object, without exchange, symbol and times."""
    if type(record) is Trade:
        return (
            f'"side":{quoted(record.side)},"amount":{plain(record.amount)},"price":{plain(record.price)},'
            f'"id":{quoted(str(record.id))},"type":{quoted(str(record.type))}'
        )
    if isinstance(record, L2Book | L3Book):
        return f'"{BOOK_FIELD[record.delta]}":{book_json(record)}'
    return ",".join(f'"{field}":{_json(getattr(record, field))}' for field in FIELDS[type(record)])


def book_json(book: L2Book | L3Book) -> str:
    """A complete book by price, or the changes as a list; numbers are JSON numbers with every digit."""
    side = _SIDES[type(book), book.delta]
    return f'{{"bid":{side(book.bid)},"ask":{side(book.ask)}}}'


def _levels(levels: Sequence[Level]) -> str:
    return "{" + ",".join([f'"{plain(price)}":{plain(size)}' for price, size in levels]) + "}"


def _changes(levels: Sequence[Level]) -> str:
    return "[" + ",".join([f"[{plain(price)},{plain(size)}]" for price, size in levels]) + "]"


def _orders(orders: Sequence[Order]) -> str:
    prices: dict[str, list[str]] = {}
    for order, price, size in orders:
        prices.setdefault(plain(price), []).append(f"{quoted(order)}:{plain(size)}")
    return "{" + ",".join([f'"{price}":{{{",".join(at)}}}' for price, at in prices.items()]) + "}"


def _order_changes(orders: Sequence[Order]) -> str:
    return (
        "["
        + ",".join([f"[{quoted(order)},{plain(price)},{plain(size)}]" for order, price, size in orders])
        + "]"
    )


_SIDES: dict[tuple[type[AnyRecord], bool], Callable[[Any], str]] = {
    (L2Book, False): _levels,
    (L2Book, True): _changes,
    (L3Book, False): _orders,
    (L3Book, True): _order_changes,
}
