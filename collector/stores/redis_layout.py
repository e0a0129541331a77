"""The layout of records in Redis: cryptofeed's keys, fields and JSON, with every digit kept.

A number is plain text (0.00000001, never 1E-8), a time is the shortest text that reads back as the same
float, and a missing value is the text ``None``, as cryptofeed writes it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any

import msgspec

from collector.gap_records import StoredGap
from collector.records import (
    AnyRecord,
    Candle,
    Funding,
    Gap,
    Index,
    L1Book,
    L2Book,
    L3Book,
    Liquidation,
    OpenInterest,
    Ticker,
    Trade,
    channel_of,
    number_fields,
    time_fields,
)
from collector.stores import book_json
from collector.times import SECOND

#: The first part of a key, by channel; a key is ``{this}-{exchange}-{symbol}``.
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

#: The kinds that are either complete books or changes.
BOOKS = (L2Book, L3Book)


@dataclass(frozen=True, eq=False)
class Shape:
    """What all entries of one kind share.

    Attributes:
        key: the first part of their key.
        fields: the names of the fields between ``symbol`` and ``timestamp``.
        numbers: the fields that hold numbers as text.
        times: the indices of the fields that hold times.
    """

    key: str
    fields: tuple[str, ...]
    numbers: frozenset[str] = frozenset()
    times: tuple[int, ...] = ()

    def values(self, record: AnyRecord) -> list[Any]:
        """Return the values of a record's fields; times in seconds."""
        values = [getattr(record, field) for field in self.fields]
        for place in self.times:
            if values[place] is not None:
                values[place] /= SECOND
        return values


def _shape(kind: type[AnyRecord]) -> Shape:
    fields = kind.__struct_fields__[4:]
    times = tuple(fields.index(name) for name in time_fields(kind) if name in fields)
    return Shape(KEYS[channel_of(kind)], fields, frozenset(number_fields(kind)), times)


_SHAPES: dict[type[AnyRecord], Shape] = {
    kind: _shape(kind)
    for kind in (Trade, Ticker, L1Book, Funding, OpenInterest, Liquidation, Index, Candle, Gap)
}
TRADE = _SHAPES[Trade]
#: By kind, and whether the record is changes.
BOOK: dict[tuple[type[AnyRecord], bool], Shape] = {
    (kind, delta): Shape(KEYS[channel_of(kind)], (field,))
    for kind in BOOKS
    for delta, field in ((False, "book"), (True, "delta"))
}
CHANGES = BOOK[L2Book, True]

_NONE = str(None)

_encode = msgspec.json.Encoder().encode

#: Return a text as a JSON string.
quoted: Callable[[str], str] = encode_basestring


def _text(value: Any) -> str:
    """Return a value as it is written to a stream."""
    return repr(value) if isinstance(value, float) else str(value)


def _json(value: Any, *, number: bool) -> str:
    """Return a value as it is written into a JSON object."""
    if number and value is not None:
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float | int):
        return repr(value)
    return quoted(str(value))


def entries(records: Sequence[AnyRecord]) -> Iterator[tuple[Shape, Sequence[str]]]:
    """Yield each record's shape and, as texts for a stream, its fields and both times."""
    changes = _changes(records)
    moments = times(records)
    for record, timestamp, receipt in zip(records, moments[::2], moments[1::2], strict=True):
        if type(record) is Trade:  # half of all records
            identity, kind = str(record.id), str(record.type)
            yield TRADE, (record.side, record.amount, record.price, identity, kind, timestamp, receipt)
        elif type(record) is L2Book and record.delta:  # the other half
            yield CHANGES, (next(changes), timestamp, receipt)
        elif isinstance(record, BOOKS):
            yield BOOK[type(record), record.delta], (book_json.text(record), timestamp, receipt)
        else:
            shape = _SHAPES[type(record)]
            yield shape, (*map(_text, shape.values(record)), timestamp, receipt)


def members(records: Sequence[AnyRecord]) -> Iterator[tuple[Shape, str, str, str]]:
    """Yield each record's shape, its fields as the inside of a JSON object, and both times as texts."""
    changes = _changes(records)
    moments = times(records)
    for record, timestamp, receipt in zip(records, moments[::2], moments[1::2], strict=True):
        if type(record) is Trade:
            inside = (
                f'"side":{quoted(record.side)},"amount":{record.amount},"price":{record.price},'
                f'"id":{quoted(str(record.id))},"type":{quoted(str(record.type))}'
            )
            yield TRADE, inside, timestamp, receipt
        elif type(record) is L2Book and record.delta:
            yield CHANGES, f'"delta":{next(changes)}', timestamp, receipt
        elif isinstance(record, BOOKS):
            shape = BOOK[type(record), record.delta]
            yield shape, f'"{shape.fields[0]}":{book_json.text(record)}', timestamp, receipt
        else:
            shape = _SHAPES[type(record)]
            inside = ",".join(
                f'"{field}":{_json(value, number=field in shape.numbers)}'
                for field, value in zip(shape.fields, shape.values(record), strict=True)
            )
            yield shape, inside, timestamp, receipt


def times(records: Iterable[AnyRecord]) -> list[str]:
    """Return ``timestamp`` and ``receipt_timestamp`` of each record, one after the other, as texts.

    The texts are those of ``repr``, but made many times faster; for a number that is not finite, ``null``.
    """
    floats = [time / SECOND for record in records for time in (record.timestamp, record.receipt_timestamp)]
    return _encode(floats).decode()[1:-1].split(",") if floats else []


def _changes(records: Iterable[AnyRecord]) -> Iterator[str]:
    """Yield the text of each record that changes a book by price; all are made in one go."""
    return iter(book_json.changed_books([it for it in records if type(it) is L2Book and it.delta]))


def gap(fields: Mapping[str, Any]) -> StoredGap:
    """Return the gap that the fields of an entry or member describe. Raises ValueError or KeyError."""
    count = fields["count"]
    return StoredGap(
        symbol=fields["symbol"],
        missed=fields["missed"],
        start=float(fields["start"]),
        end=float(fields["end"]),
        reason=fields["reason"],
        count=None if count == _NONE else int(count),
    )
