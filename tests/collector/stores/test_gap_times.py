"""Every store says the same of when a gap began and ended."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Batch
from collector.gap_records import in_microseconds
from collector.records import Gap
from collector.stores import mongo, parquet_columns, postgres_tables, redis_layout
from collector.times import MICROSECOND, SECOND

NAMES = ("timestamp", "receipt_timestamp", "start", "end")


def from_redis_streams(gap):
    ((shape, (*fields, timestamp, receipt)),) = redis_layout.entries([gap])
    named = dict(zip(shape.fields, fields, strict=True))
    return [float(text) for text in (timestamp, receipt, named["start"], named["end"])]


def from_redis_sets(gap):
    ((_, inside, timestamp, receipt),) = redis_layout.members([gap])
    named = dict(each.split(":") for each in inside.replace('"', "").split(","))
    return [float(text) for text in (timestamp, receipt, named["start"], named["end"])]


def from_postgres(gap):
    table = postgres_tables.TABLES[Gap]
    row = table.text([gap]).decode()
    named = dict(zip(table.columns, row.rstrip("\n").split("\t"), strict=True))
    return [datetime.fromisoformat(named[name]).timestamp() for name in NAMES]


def from_parquet(gap):
    (row,) = parquet_columns.table(Gap, [1], [gap]).to_pylist()
    return [row[name].timestamp() for name in NAMES]


def from_mongo(gap):
    collections, _ = mongo._documents(Batch("incarnation", 1, (gap,)))
    ((document,),) = (each.values() for each in collections.values())
    return [
        document["timestamp_seconds"],
        document["receipt_timestamp_seconds"],
        document["start"],
        document["end"],
    ]


@given(st.lists(st.integers(SECOND, 4 * 10**18), min_size=4, max_size=4))
def test_every_store_holds_the_same_microsecond(times):
    timestamp, receipt, start, end = times
    gap = in_microseconds(Gap("X", "BTC-USD", timestamp, receipt, "trades", start, end, "disconnect", None))
    held = [getattr(gap, name) for name in NAMES]
    assert all(abs(one - other) <= MICROSECOND for one, other in zip(held, times, strict=True))
    expected = [time / SECOND for time in held]
    for read in (from_redis_streams, from_redis_sets, from_postgres, from_parquet, from_mongo):
        assert read(gap) == expected, read.__name__
