"""Parquet: the columns of each channel, and how records are converted to them.

The columns of a channel are the fields of its records, except those in the folders' names, and:

- ``sequence`` (int64): the record's number in the collector's spool; records in a file are in this order.
- times are ``timestamp[us, UTC]``: in this century, seconds as a float are precise to microseconds, so this
  loses none of their digits and invents none.
- a number is two columns. ``price`` is a double, which every reader can multiply, resample and join.
  ``price_text`` is exact: the exchange's digits, without an exponent.
- a side of a book is two columns, too: ``bid`` is ``list<struct<price, size>>`` of doubles, ``bid_text``
  the same levels in the same places as texts. For a book by order, ``order_id`` comes first in ``bid``.
  Reading only ``bid`` reads no text from the disk.

Decimal types are unsuitable: pandas cannot resample any, and the largest that all readers can multiply is
too small for some amounts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from collector.gap_records import StoredGap
from collector.records import AnyRecord, Level, Number, Order, Record, Time
from collector.times import SECOND

#: The suffix of columns that hold the exchange's digits.
TEXT = "_text"
TIME = pa.timestamp("us", tz="UTC")

#: The columns made from the values of one field, each with the suffix of its name.
type _Columns = Iterator[tuple[str, pa.Array]]


def table(record_type: type[AnyRecord], sequences: Sequence[int], records: Sequence[AnyRecord]) -> pa.Table:
    """Return records of one channel as a table.

    Raises ValueError, TypeError or OverflowError for a record that does not fit.
    """
    columns = {"sequence": pa.array(sequences, pa.int64())}
    for field, convert in _fields(record_type):
        for ending, array in convert(list(map(attrgetter(field), records))):
            columns[field + ending] = array
    return pa.table(columns)


def gap(symbol: str, row: Mapping[str, Any]) -> StoredGap:
    """Return the gap that a row describes."""
    start, end = row["start"].timestamp(), row["end"].timestamp()
    return StoredGap(symbol, row["missed"], start, end, row["reason"], row["count"])


@cache
def _fields(record_type: type[Record]) -> list[tuple[str, Callable[[list[Any]], _Columns]]]:
    return [
        (field.name, _CONVERTERS[field.type])
        for field in msgspec.structs.fields(record_type)
        if field.name not in ("exchange", "symbol")
    ]


def _plain(type_: pa.DataType) -> Callable[[list[Any]], _Columns]:
    def convert(values: list[Any]) -> _Columns:
        yield "", pa.array(values, type_)

    return convert


def _times(values: list[int | None]) -> _Columns:
    seconds = [None if value is None else value / SECOND for value in values]
    microseconds = pc.round(pc.multiply(pa.array(seconds, pa.float64()), 1e6))
    yield "", microseconds.cast(pa.int64()).cast(TIME)


def _numbers(values: list[Number | None]) -> _Columns:
    texts = pa.array(values, pa.string())
    yield "", _doubles(texts)
    yield TEXT, texts


def _doubles(texts: pa.Array) -> pa.Array:
    """Return the doubles nearest to the numbers. Raises ValueError for infinity and what is not a number."""
    doubles = texts.cast(pa.float64())
    if pc.all(pc.is_finite(doubles)).as_py() is False:
        raise ValueError("a number is infinite or NaN")
    return doubles


def _levels(values: list[list[Level]]) -> _Columns:
    prices, sizes = _apart(values, 2)
    yield from _sides(values, {}, prices, sizes)


def _orders(values: list[list[Order]]) -> _Columns:
    ids, prices, sizes = _apart(values, 3)
    yield from _sides(values, {"order_id": pa.array(ids, pa.string())}, prices, sizes)


def _apart(values: list[Any], places: int) -> Sequence[Sequence[Any]]:
    """Return, for each place in a level, its values in all levels."""
    levels = list(chain.from_iterable(values))
    return list(zip(*levels, strict=True)) if levels else [()] * places


def _sides(
    values: list[Any], first: dict[str, pa.Array], prices: Sequence[Number], sizes: Sequence[Number]
) -> _Columns:
    offsets = pa.array(list(accumulate(map(len, values), initial=0)), pa.int32())
    texts = {"price": pa.array(prices, pa.string()), "size": pa.array(sizes, pa.string())}
    doubles = {name: _doubles(array) for name, array in texts.items()}
    for ending, arrays in (("", first | doubles), (TEXT, texts)):
        structs = pa.StructArray.from_arrays(list(arrays.values()), names=list(arrays))
        yield ending, pa.ListArray.from_arrays(offsets, structs)


_CONVERTERS: dict[Any, Callable[[list[Any]], _Columns]] = {
    Time: _times,
    Time | None: _times,
    Number: _numbers,
    Number | None: _numbers,
    str: _plain(pa.string()),
    str | None: _plain(pa.string()),
    int | None: _plain(pa.int64()),
    bool: _plain(pa.bool_()),
    bool | None: _plain(pa.bool_()),
    list[Level]: _levels,
    list[Order]: _orders,
}
