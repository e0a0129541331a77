"""Parquet files as the first version wrote them: numbers were decimal128(38, 18), books had no texts."""

from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import structs

from collector.records import Level, Number, Time, channel_of
from collector.times import MICROSECOND, SECOND

NUMBER = pa.decimal128(38, 18)
_LEVELS = pa.list_(pa.struct([("price", NUMBER), ("size", NUMBER)]))
_TYPES = {
    Time: pa.timestamp("us", tz="UTC"),
    Number: NUMBER,
    str: pa.string(),
    str | None: pa.string(),
    int | None: pa.int64(),
    bool: pa.bool_(),
    list[Level]: _LEVELS,
}


def write(root, name, records, first=0, incarnation="incarnation"):
    """Write records of one channel, symbol and day; return the file."""
    columns = {"sequence": pa.array(range(first, first + len(records)), pa.int64())}
    for field in structs.fields(type(records[0])):
        if field.name not in ("exchange", "symbol"):
            values = [_value(getattr(record, field.name), field.type) for record in records]
            columns[field.name] = pa.array(values, _TYPES[field.type])
    record = records[0]
    day = datetime.fromtimestamp(record.receipt_timestamp / SECOND, UTC).date()
    place = f"channel={channel_of(record)}/exchange={record.exchange}/symbol={record.symbol}/date={day}"
    file = root / place / f"{name}-{incarnation}-{first:012}-{first + len(records):012}.parquet"
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), file, compression="zstd")
    return file


def _value(value, kind):
    if kind is Time:
        return value // MICROSECOND
    if isinstance(value, list):
        return [{"price": Decimal(price), "size": Decimal(size)} for price, size in value]
    return Decimal(value) if kind is Number else value
