"""Reads a store back, a page at a time."""

import asyncio
import itertools
from urllib.parse import unquote

import asyncpg
import bson
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pymongo
from conformance import RedisHarness
from databases import MongoHarness, PostgresHarness
from ledger import Stored, microseconds
from streams import in_seconds

from collector.records import Gap

PAGE = 10_000


def redis(client, backend: str, stored: Stored) -> None:
    """Streams or sorted sets. ``client`` decodes its answers."""
    harness = RedisHarness(backend)
    for key in sorted(client.scan_iter()):
        kind, _, rest = key.partition("-")
        symbol = rest.partition("-")[2]
        rows = _stream(client, key) if backend == "REDISSTREAM" else _sorted_set(client, key)
        if kind == "gaps":
            stored.gaps += [
                in_seconds(harness._record("gaps", fields)) for fields in harness._fields(client, key)
            ]
        elif kind == "trades":
            for order, it in rows:
                times = float(it["receipt_timestamp"]), microseconds(float(it["timestamp"]))
                stored.trade(order, symbol, times[0], *_of(it, "id", "side", "price", "amount"), times[1])
        elif kind == "book":
            for order, it in rows:
                sides = it.get("delta") or it["book"]
                sides = msgspec.json.decode(sides) if isinstance(sides, str) else sides
                bid, ask = (_levels(sides[side]) for side in ("bid", "ask"))
                times = float(it["receipt_timestamp"]), microseconds(float(it["timestamp"]))
                stored.book(order, symbol, times[0], "delta" in it, bid, ask, times[1])


def _stream(client, key):
    start, numbers = "-", itertools.count()
    while page := client.xrange(key, min=start, count=PAGE):
        for _, fields in page:
            yield next(numbers), fields
        start = f"({page[-1][0]}"


def _sorted_set(client, key):
    first = 0
    while page := client.zrange(key, first, first + PAGE - 1):
        for member in page:
            fields = msgspec.json.decode(member)
            yield int(fields["sequence"]), fields
        first += len(page)


def _of(fields, *names):
    return [fields[name] for name in names]


def _levels(side):
    return side.items() if isinstance(side, dict) else side


def postgres(address: dict, stored: Stored) -> None:
    asyncio.run(_postgres(address, stored))


async def _postgres(address, stored):
    connection = await asyncpg.connect(**address)
    async for row in _rows(connection, "trades"):
        order, at, receipt, _, symbol, side, amount, price, name, *_ = row.values()
        stored.trade(order, symbol, receipt.timestamp(), name, side, price, amount, _micro(at))
    async for row in _rows(connection, "book"):
        order, at, receipt, _, symbol, data = row.values()
        (kind, sides), *_ = msgspec.json.decode(data).items()
        bid, ask = _levels(sides["bid"]), _levels(sides["ask"])
        stored.book(order, symbol, receipt.timestamp(), kind == "delta", bid, ask, _micro(at))
    async for row in _rows(connection, "gaps"):
        stored.gaps.append(in_seconds(PostgresHarness._record(Gap, list(row.values())[1:])))
    await connection.close()


async def _rows(connection, table):
    last = 0
    query = f"SELECT * FROM {table} WHERE id > $1 ORDER BY id LIMIT {PAGE}"
    while page := await connection.fetch(query, last):
        for row in page:
            yield row
        last = page[-1]["id"]


def _micro(when) -> int:
    return microseconds(when.timestamp())


def mongo(database: pymongo.database.Database, stored: Stored) -> None:
    for it in database["trades"].find(batch_size=PAGE):
        times = it["receipt_timestamp_seconds"], microseconds(it["timestamp_seconds"])
        names = _of(it, "id", "side", "price", "amount")
        stored.trade(it["sequence"], it["symbol"], times[0], *names, times[1])
    for it in database["book"].find(batch_size=PAGE):
        times = it["receipt_timestamp_seconds"], microseconds(it["timestamp_seconds"])
        bid, ask = (bson.decode(it[side]).items() for side in ("bid", "ask"))
        stored.book(it["sequence"], it["symbol"], times[0], it["delta"], bid, ask, times[1])
    stored.gaps += [in_seconds(MongoHarness._record(Gap, it)) for it in database["gaps"].find()]


def parquet(folder, stored: Stored) -> None:
    for path in folder.glob("v2/channel=*/**/*.parquet"):
        parts = dict(part.split("=", 1) for part in path.relative_to(folder).parts[1:-1])
        table, symbol = pq.ParquetFile(path).read(), unquote(parts["symbol"])
        if parts["channel"] == "gaps":
            stored.gaps += _gaps(table, unquote(parts["exchange"]), symbol)
            continue
        orders = table["sequence"].to_pylist()
        receipts = [time / 1e6 for time in _times(table["receipt_timestamp"])]
        times = _times(table["timestamp"])
        if parts["channel"] == "trades":
            names = [table[name].to_pylist() for name in ("id", "side")]
            numbers = [table[name].to_pylist() for name in ("price_text", "amount_text")]
            for order, receipt, *rest in zip(orders, receipts, *names, *numbers, times, strict=True):
                stored.trade(order, symbol, receipt, *rest)
        elif parts["channel"] == "l2_book":
            sides = [_sides(table[side]) for side in ("bid_text", "ask_text")]
            for order, receipt, *rest in zip(
                orders, receipts, table["delta"].to_pylist(), *sides, times, strict=True
            ):
                stored.book(order, symbol, receipt, *rest)


def _times(column) -> list[int]:
    return column.cast(pa.int64()).to_pylist()


def _sides(column) -> list[list[tuple[str, str]]]:
    lists = column.combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    levels = lists.flatten()
    numbers = (levels.field(index).to_pylist() for index in range(2))
    pairs, ends = list(zip(*numbers, strict=True)), lists.value_lengths().to_pylist()
    found, first = [], 0
    for length in ends:
        found.append(pairs[first : first + length])
        first += length
    return found


def _gaps(table, exchange, symbol):
    seconds = ("timestamp", "receipt_timestamp", "start", "end")
    for row in table.to_pylist():
        times = {name: row[name].timestamp() for name in seconds}
        rest = {name: row[name] for name in ("missed", "reason", "count")}
        yield Gap(exchange=exchange, symbol=symbol, **times, **rest)
