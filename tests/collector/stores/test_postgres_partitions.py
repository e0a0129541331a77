"""Tables in parts, and tables that the collector is not to make."""

import asyncio
import os
import subprocess
import sys
import time

import asyncpg
import pytest
from databases import WHAT, PostgresHarness, settings
from every_kind import EVERY_KIND
from msgspec.structs import replace
from servers import PostgresServer

from collector.batch import Batch, Position
from collector.stores import StoreRefusedError
from collector.stores.postgres import PostgresStore
from collector.stores.postgres_tables import TABLES
from collector.times import SECOND

NAME = "collector"
DAY = 86400 * SECOND
AT = EVERY_KIND[0].receipt_timestamp  # 2025-01-15, a Wednesday
CLOCK_GONE_MAD = (2**32 - 1) * SECOND  # in the year 2106: all bits of a clock that has lost its battery
PARTS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'trades'::regclass ORDER BY 1"


@pytest.fixture
def server():
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def client(server):
    client = await asyncpg.connect(server.url)
    yield client
    await client.close()


def of(server, **given):
    return settings("POSTGRES", url=server.url, **given)


def at(sequence):
    return Position("owner", "incarnation", sequence)


def received(*receipts):
    return [replace(EVERY_KIND[0], receipt_timestamp=receipt) for receipt in receipts]


async def parts(client):
    return [row[0] for row in await client.fetch(PARTS)]


def init(server, **given):
    """The command, on a server."""
    return subprocess.run(
        [sys.executable, "-m", "collector", "db", "init"],
        env=os.environ | WHAT | {"BACKEND": "POSTGRES", "URL": server.url} | given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("period", "made"),
    [
        ("day", ["trades_20250114", "trades_20250115", "trades_20250120", "trades_21060207"]),
        ("week", ["trades_20250113", "trades_20250120", "trades_21060201"]),
        ("month", ["trades_20250101", "trades_21060201"]),
    ],
)
async def test_partitions_are_made_when_their_records_come(server, client, period, made):
    store = PostgresStore(of(server, partition=period))
    await store.open(NAME)
    sent = received(AT, AT - DAY, AT + 5 * DAY, 10**21, AT, CLOCK_GONE_MAD)
    batch = Batch("incarnation", 0, sent)
    refusals = await store.commit(NAME, batch, None, at(6))
    assert [refusal.sequence for refusal in refusals] == [3]
    assert not await store.commit(NAME, batch.without(refusals), None, at(6))
    await store.close()
    assert await parts(client) == made
    assert await client.fetchval("SELECT count(*) FROM trades") == 5
    assert await client.fetchval("SELECT count(DISTINCT id) FROM trades") == 5


async def test_every_kind_goes_into_partitions(server):
    store = PostgresStore(of(server, partition="day"))
    await store.open(NAME)
    assert not await store.commit(NAME, Batch("incarnation", 0, EVERY_KIND), None, at(len(EVERY_KIND)))
    await store.close()
    assert len(PostgresHarness().stored(server)) == len(EVERY_KIND)


async def test_collectors_that_need_one_partition_at_once_create_it_once(server, client):
    stores = [PostgresStore(of(server, partition="day")) for _ in range(6)]
    await asyncio.gather(*(store.open(str(number)) for number, store in enumerate(stores)))
    batch = Batch("incarnation", 0, received(AT))
    await asyncio.gather(*(store.commit(str(n), batch, None, at(1)) for n, store in enumerate(stores)))
    await asyncio.gather(*(store.close() for store in stores))
    assert await parts(client) == ["trades_20250115"]
    assert await client.fetchval("SELECT count(*) FROM trades") == 6


async def test_a_partition_created_by_others_is_used(server, client):
    store = PostgresStore(of(server, partition="day"))
    await store.open(NAME)
    await client.execute(
        "CREATE TABLE mine PARTITION OF trades FOR VALUES FROM ('2025-01-01') TO ('2025-02-01')"
    )
    assert not await store.commit(NAME, Batch("incarnation", 0, received(AT)), None, at(1))
    await store.close()
    assert await parts(client) == ["mine"]


async def test_existing_tables_stay_as_they_are(server, client):
    for partition in ("none", "day"):
        store = PostgresStore(of(server, partition=partition))
        await store.open(partition)
        assert not await store.commit(partition, Batch("incarnation", 0, received(AT)), None, at(1))
        await store.close()
    assert await parts(client) == []


async def test_nobody_waits_for_a_new_partition(server, client):
    """Who reads the table holds a lock on it."""
    store = PostgresStore(of(server, partition="day"))
    await store.open(NAME)
    async with client.transaction():
        await client.fetch("SELECT * FROM trades")
        assert not await store.commit(NAME, Batch("incarnation", 0, received(AT)), None, at(1))
    await store.close()


async def test_the_command_creates_partitions_that_the_collector_may_not(server, client):
    store = PostgresStore(of(server, create_tables="false", partition="day"))
    with pytest.raises(StoreRefusedError, match=r"table .*trades.* does not exist.* run `collector db init`"):
        await store.open(NAME)
    ended = init(server, PARTITION="day")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert {f"created table {table.name}" for table in TABLES.values()} < set(ended.stdout.splitlines())
    assert ended.stdout.count("created partition trades_") == 8
    assert init(server, PARTITION="day").stdout == "everything exists already\n"
    await store.open(NAME)
    assert not await store.commit(NAME, Batch("incarnation", 0, received(time.time_ns())), None, at(1))
    with pytest.raises(StoreRefusedError, match="no partition of relation"):
        await store.commit(NAME, Batch("incarnation", 1, received(AT)), at(1), at(2))
    await store.close()
    assert await client.fetchval("SELECT count(*) FROM trades") == 1


def test_the_command_tells_why_it_cannot(server):
    ended = init(server, URL=server.url.replace(server.password, "canary"))
    assert ended.returncode == 78
    assert "password authentication failed" in ended.stderr
    assert "canary" not in ended.stderr + ended.stdout


async def test_tables_are_hypertables_with_timescaledb(server, client):
    """The extension cannot be had here; what we would ask of it is looked at."""
    await client.execute(
        "CREATE TABLE asked (hypertable regclass, by name, interval interval);"
        "CREATE FUNCTION create_hypertable(regclass, name, chunk_time_interval interval) RETURNS void"
        " LANGUAGE sql AS 'INSERT INTO asked VALUES ($1, $2, $3)'"
    )
    await client.execute(
        "SET allow_system_table_mods = on; INSERT INTO pg_extension"
        " (oid, extname, extowner, extnamespace, extrelocatable, extversion)"
        " VALUES (99999, 'timescaledb', 10, 2200, false, '2.0')"
    )
    store = PostgresStore(of(server, partition="week"))
    await store.open(NAME)
    assert not await store.commit(NAME, Batch("incarnation", 0, EVERY_KIND), None, at(len(EVERY_KIND)))
    await store.close()
    asked = await client.fetch("SELECT hypertable::text, by, interval::text FROM asked")
    assert {tuple(row) for row in asked} == {
        (table.name, "receipt_timestamp", "7 days") for table in TABLES.values()
    }
