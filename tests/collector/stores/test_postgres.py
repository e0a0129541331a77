import asyncio
import hashlib
import itertools
import json
import logging
import socket
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import asyncpg
import pytest
from databases import settings
from every_kind import EVERY_KIND, records
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import fields, replace
from requests.certs import where
from servers import Pgbouncer, PostgresServer

from collector.batch import Batch, Position
from collector.records import L2Book, L3Book, Trade, number_fields, time_fields
from collector.stores import (
    PositionLostError,
    StoreRefusedError,
    StoreUnavailableError,
    postgres,
    postgres_tables,
)
from collector.stores.postgres import PostgresStore
from collector.stores.postgres_tables import TABLES
from collector.times import SECOND

NAME = "collector"
D = Decimal

#: The tables of cryptofeed's example schema, as its users have them.
CRYPTOFEED_TABLES = {
    "trades": "side VARCHAR(8), amount NUMERIC(64, 32), price NUMERIC(64, 32), trade_id VARCHAR(64),"
    " order_type VARCHAR(32)",
    "ticker": "bid NUMERIC(64, 32), ask NUMERIC(64, 32)",
    "funding": "mark_price DOUBLE PRECISION, rate DOUBLE PRECISION, next_funding_time TIMESTAMP,"
    " predicted_rate DOUBLE PRECISION",
    "open_interest": "open_interest INTEGER",
    "index": "open_interest DOUBLE PRECISION",
    "liquidations": "side VARCHAR(8), quantity NUMERIC(64, 32), price NUMERIC(64, 32), trade_id VARCHAR(64),"
    " status VARCHAR(16)",
    "book": "data JSONB",
    "candles": "candle_start TIMESTAMP, candle_stop TIMESTAMP, interval VARCHAR(4), trades INTEGER,"
    " open NUMERIC(64, 32), close NUMERIC(64, 32), high NUMERIC(64, 32), low NUMERIC(64, 32),"
    " volume NUMERIC(64, 32), closed BOOLEAN",
}


@pytest.fixture(scope="module")
def server():
    with PostgresServer() as server:
        yield server


@pytest.fixture
async def database(server):
    """A database of the test's own, as an address for ``store_of`` and ``client``."""
    name = f"test_{next(_numbers)}"
    admin = await asyncpg.connect(server.url)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    return address_of(server, name)


_numbers = itertools.count()


def store_of(address, **more):
    return PostgresStore(settings("POSTGRES", **vars(address), **more))


def address_of(server, database):
    return SimpleNamespace(
        host=server.host, port=server.port, user=server.name, password=server.password, database=database
    )


def but(address, **changes):
    return SimpleNamespace(**vars(address) | changes)


@asynccontextmanager
async def client(address):
    connection = await asyncpg.connect(**vars(address))
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=lambda text: json.loads(text, parse_float=D)
    )
    yield connection
    await connection.close()


@pytest.fixture
async def store(database):
    store = store_of(database)
    yield store
    await store.close()


def batch(records, first=0):
    return Batch("incarnation", first, records)


def at(sequence):
    return Position("owner", "incarnation", sequence)


def naive(time):
    return datetime.fromtimestamp(time / SECOND, UTC).replace(tzinfo=None)


def expected_row(record):
    """What a reader is to see of a record, but its id."""
    row = [naive(record.timestamp), naive(record.receipt_timestamp), record.exchange, record.symbol]
    if isinstance(record, L2Book | L3Book):
        sides = {"bid": record.bid, "ask": record.ask}
        side = _delta if record.delta else _full_l2 if isinstance(record, L2Book) else _full_l3
        return [*row, {"delta" if record.delta else "snapshot": {name: side(sides[name]) for name in sides}}]
    times = time_fields(type(record))
    for field in fields(record)[4:]:
        value = getattr(record, field.name)
        is_number = field.name in number_fields(type(record)) and value is not None
        row.append(
            naive(value) if field.name in times and value is not None else D(value) if is_number else value
        )
    return row


def _delta(levels):
    return [[*order, D(price), D(size)] for *order, price, size in levels]


def _full_l2(levels):
    return {price: D(size) for price, size in levels}


def _full_l3(orders):
    side = {}
    for order_id, price, size in orders:
        side.setdefault(price, {})[order_id] = D(size)
    return side


async def assert_stored(connection, sent):
    by_type = {record_type: [] for record_type in TABLES}
    for record in sent:
        by_type[type(record)].append(expected_row(record))
    for record_type, table in TABLES.items():
        rows = await connection.fetch(f'SELECT * FROM "{table.name}" ORDER BY id')
        stored = [[row[name] for name in table.columns] for row in rows]
        assert stored == by_type[record_type]


async def test_every_kind_of_record_comes_back_as_it_was(store, database):
    assert await store.open(NAME) is None
    assert not await store.commit(NAME, batch(EVERY_KIND), None, at(len(EVERY_KIND)))
    async with client(database) as connection:
        await assert_stored(connection, EVERY_KIND)


@hypothesis_settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(records, max_size=20))
async def test_any_record_comes_back_as_it_was(database, sent):
    sent = [record for record in sent if not _has_one_price_twice(record)]
    store = store_of(database)
    position = await store.open(NAME)
    after = at(position.sequence + 1 if position else 0)
    assert not await store.commit(NAME, batch(sent), position, after)
    await store.close()
    async with client(database) as connection:
        await assert_stored(connection, sent)
        for table in TABLES.values():
            await connection.execute(f'DELETE FROM "{table.name}"')


def _has_one_price_twice(record):
    """No book has; its sides are JSON objects then."""
    if not isinstance(record, L2Book | L3Book):
        return False
    place = slice(0, -1) if isinstance(record, L3Book) else slice(0, 1)
    return any(len({level[place] for level in side}) < len(side) for side in (record.bid, record.ask))


@pytest.mark.parametrize(
    "wrong",
    [
        replace(EVERY_KIND[0], price="sNaN"),
        replace(EVERY_KIND[0], price="1E+200000"),
        replace(EVERY_KIND[0], side="\0"),
        replace(EVERY_KIND[0], side="\ud800"),
        replace(EVERY_KIND[0], timestamp=10**21),
        replace(EVERY_KIND[4], bid=[("NaN", "1")], delta=True),
        replace(EVERY_KIND[14], trades=2**63),
    ],
    ids=lambda record: str(record)[:150],
)
async def test_a_record_that_does_not_fit_is_refused_and_the_rest_is_stored(store, database, wrong):
    sent = [*EVERY_KIND, *EVERY_KIND]
    sent.insert(13, wrong)
    await store.open(NAME)
    after = at(100 + len(sent))
    refusals = await store.commit(NAME, batch(sent, 100), None, after)
    assert [refusal.sequence for refusal in refusals] == [113]
    assert refusals[0].record is wrong
    assert refusals[0].reason
    assert not await store.commit(NAME, batch(sent, 100).without(refusals), None, after)
    del sent[13]
    async with client(database) as connection:
        await assert_stored(connection, sent)
    assert await store.open(NAME) == at(100 + len(sent) + 1)


async def test_the_position_moves_with_the_data_or_neither_does(store, database):
    await store.open(NAME)
    await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))
    for wrong in (None, at(2), Position("other", "incarnation", 1), Position("owner", "other", 1)):
        with pytest.raises(PositionLostError):
            await store.commit(NAME, batch([EVERY_KIND[0]], 1), wrong, at(2))
        assert await store.open(NAME) == at(1)
    await store.commit(NAME, batch([EVERY_KIND[0]], 1), at(1), at(2))
    assert await store.open(NAME) == at(2)
    assert await store.open("another") is None
    async with client(database) as connection:
        await assert_stored(connection, [EVERY_KIND[0]] * 2)


async def test_collectors_that_start_at_once_create_the_tables_once(database):
    stores = [store_of(database) for _ in range(8)]
    assert await asyncio.gather(*(store.open(NAME) for store in stores)) == [None] * 8
    await asyncio.gather(*(store.close() for store in stores))


@pytest.fixture
async def cryptofeed_database(database):
    """A database with cryptofeed's tables, and a row in each."""
    place = "DEFAULT,'2024-01-01 00:00:00.5','2024-01-01 00:00:01','KRAKEN','ETH-USD'"
    rows = {
        "trades": "'buy',0.1,2300.25,'77','limit'",
        "ticker": "2300.1,2300.2",
        "funding": "2300.1,0.1234567890123456,NULL,NULL",
        "open_interest": "1234",
        "index": "2300.123456789012",
        "liquidations": "'sell',3,2299,'5','filled'",
        "book": "'{\"delta\": {}}'",
        "candles": "'2024-01-01','2024-01-01','1m',NULL,1,2,3,4,5,NULL",
    }
    common = "id serial PRIMARY KEY, timestamp TIMESTAMP, receipt_timestamp TIMESTAMP, exchange VARCHAR(32)"
    async with client(database) as connection:
        for table, columns in CRYPTOFEED_TABLES.items():
            await connection.execute(f"CREATE TABLE {table} ({common}, symbol VARCHAR(32), {columns})")
            await connection.execute(f"INSERT INTO {table} VALUES ({place},{rows[table]})")
    return database


async def test_tables_of_cryptofeed_are_adopted_with_their_data(cryptofeed_database):
    store = store_of(cryptofeed_database)
    await store.open(NAME)
    long = replace(EVERY_KIND[14], interval="one quarter", symbol="S" * 200, trades=2**40)
    await store.commit(NAME, batch([*EVERY_KIND, long]), None, at(1))
    await store.close()
    async with client(cryptofeed_database) as connection:
        for table in CRYPTOFEED_TABLES:
            ids = [row["id"] for row in await connection.fetch(f"SELECT id FROM {table} ORDER BY id")]
            assert ids == list(range(1, len(ids) + 1))
            assert len(ids) >= 2
        assert await connection.fetchval("SELECT price FROM trades WHERE id = 1") == D("2300.25")
        assert await connection.fetchval("SELECT rate FROM funding WHERE id = 1") == D("0.1234567890123456")
        assert await connection.fetchval("SELECT price FROM index WHERE id = 1") == D("2300.123456789012")
        assert await connection.fetchval("SELECT open_interest FROM open_interest WHERE id = 2") == D(
            "1234567.891"
        )
        await connection.execute("DELETE FROM trades WHERE exchange = 'KRAKEN'")
        trades = await connection.fetch("SELECT * FROM trades ORDER BY id")
        assert [list(row)[1:] for row in trades] == [expected_row(record) for record in EVERY_KIND[:2]]
        # cryptofeed, still running beside us, writes by place
        await connection.execute(
            "INSERT INTO trades VALUES (DEFAULT,'2024-01-01','2024-01-01','X','Y','buy',1,1,NULL,NULL)"
        )


async def test_large_tables_are_rewritten_only_on_request(cryptofeed_database, caplog, monkeypatch):
    monkeypatch.setattr(postgres_tables, "_REWRITABLE_BYTES", 0)
    store = store_of(cryptofeed_database)
    with caplog.at_level(logging.WARNING, "collector"):
        await store.open(NAME)
    assert 'table funding is large; when its readers can wait, run: ALTER TABLE "funding"' in caplog.text
    assert not await store.commit(NAME, batch(EVERY_KIND[:10]), None, at(10))  # as its columns are
    caplog.clear()
    await store.initialise()
    with caplog.at_level(logging.WARNING, "collector"):
        assert await store.open(NAME) == at(10)
    assert not caplog.text
    await store.close()


async def test_adopted_ids_do_not_run_out(cryptofeed_database):
    async with client(cryptofeed_database) as connection:
        await connection.execute("SELECT setval('trades_id_seq', 2147483647)")
        await connection.execute("UPDATE trades SET id = 2147483647")
    store = store_of(cryptofeed_database)
    await store.open(NAME)
    assert not await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))
    await store.close()
    async with client(cryptofeed_database) as connection:
        assert await connection.fetchval("SELECT max(id) FROM trades") == 2**31


async def test_changes_that_only_the_owner_may_make_are_reported_and_skipped(cryptofeed_database, caplog):
    async with client(cryptofeed_database) as connection:
        await connection.execute("CREATE VIEW prices AS SELECT price, symbol FROM trades")
    store = store_of(cryptofeed_database)
    with caplog.at_level(logging.WARNING, "collector"):
        await store.open(NAME)
    assert 'ALTER TABLE "trades" ALTER "price" TYPE numeric' in caplog.text
    assert not await store.commit(NAME, batch(EVERY_KIND), None, at(1))
    await store.close()


async def test_without_the_right_to_change_tables_rows_are_stored(cryptofeed_database):
    owner = store_of(cryptofeed_database)
    await owner.open(NAME)
    await owner.close()
    async with client(cryptofeed_database) as connection:
        await connection.execute("CREATE ROLE writer LOGIN PASSWORD 'w'")
        await connection.execute("GRANT INSERT ON ALL TABLES IN SCHEMA public TO writer")
        await connection.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO writer")
        await connection.execute("GRANT ALL ON cryptostore_position TO writer")
    store = store_of(but(cryptofeed_database, user="writer", password="w"))
    await store.open(NAME)
    assert not await store.commit(NAME, batch(EVERY_KIND), None, at(1))
    await store.close()


async def test_a_column_that_we_cannot_fill_is_refused_at_the_start(store, database):
    async with client(database) as connection:
        await connection.execute("CREATE TABLE trades (id bigserial, desk text NOT NULL)")
    with pytest.raises(
        StoreRefusedError, match=r'requires a value in column desk.*ALTER "desk" DROP NOT NULL'
    ):
        await store.open(NAME)


async def test_a_row_that_breaks_a_constraint_is_refused_alone(store, database):
    await store.open(NAME)
    async with client(database) as connection:
        await connection.execute("CREATE UNIQUE INDEX ON trades (exchange, symbol, trade_id)")
    sent = [replace(EVERY_KIND[0], id=str(number)) for number in (1, 2, 3, 2, 4)]
    refusals = await store.commit(NAME, batch(sent), None, at(5))
    assert [refusal.sequence for refusal in refusals] == [3]
    assert "duplicate key" in refusals[0].reason


@pytest.mark.parametrize("state", ["P0001", "ZX001", "45000"])
async def test_a_trigger_that_refuses_some_rows_names_them_and_one_that_refuses_all_names_all(
    store, database, state
):
    """In whatever state it raises."""
    await store.open(NAME)
    async with client(database) as connection:
        await connection.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF NEW.trade_id >= '4' THEN RAISE 'not this one' USING ERRCODE = '{state}'; END IF;"
            " RETURN NEW; END $$;"
            "CREATE TRIGGER no BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION no()"
        )
    sent = [replace(EVERY_KIND[0], id=str(number)) for number in range(6)]
    refusals = await store.commit(NAME, batch(sent), None, at(6))
    assert [(refusal.sequence, refusal.reason) for refusal in refusals] == [
        (4, "not this one"),
        (5, "not this one"),
    ]
    many = [replace(EVERY_KIND[0], id="9")] * 1000
    begun = time.monotonic()
    refusals = await store.commit(NAME, batch(many), None, at(1000))
    assert [refusal.sequence for refusal in refusals] == list(range(1000))
    assert not refusals[0].unwritable
    assert time.monotonic() - begun < 5, "each was tried alone"


@pytest.mark.parametrize("refuses_at_first", [True, False])
async def test_a_table_may_change_what_it_accepts_in_the_middle_of_a_batch(
    store, database, monkeypatch, refuses_at_first
):
    """No record is to blame for what somebody corrects, or spoils, while the refused ones are looked for."""
    await store.open(NAME)
    refuses, takes = (
        f"CREATE OR REPLACE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$"
        for body in ("RAISE 'closed';", "RETURN NEW;")
    )
    # In either case the last record is not to its liking, so that the search for such records begins.
    first, then = (refuses, takes) if refuses_at_first else (takes, refuses)
    async with client(database) as connection:
        await connection.execute("ALTER TABLE trades ADD CHECK (trade_id <> '5')")
        await connection.execute(first)
        await connection.execute(
            "CREATE TRIGGER no BEFORE INSERT ON trades FOR EACH ROW EXECUTE FUNCTION no()"
        )
        tried = []
        copy = postgres._copy

        async def change(to_store, table, rows):
            """After the first of the records was tried alone."""
            try:
                await copy(to_store, table, rows)
            finally:
                tried.append(len(rows))
                if tried.count(1) == tried[-1] == 1:
                    await connection.execute(then)

        monkeypatch.setattr(postgres, "_copy", change)
        sent = [replace(EVERY_KIND[0], id=str(number)) for number in range(6)]
        with pytest.raises(StoreUnavailableError, match="rules of table trades changed in the middle"):
            await store.commit(NAME, batch(sent), None, at(6))
        await connection.execute(takes)
        assert await store.open(NAME) is None
        refusals = await store.commit(NAME, batch(sent), None, at(6))
        assert [refusal.sequence for refusal in refusals] == [5]
        assert not await store.commit(NAME, batch(sent).without(refusals), None, at(6))
        assert [row[0] for row in await connection.fetch("SELECT trade_id FROM trades ORDER BY id")] == [
            *"01234"
        ]


async def test_a_deferred_constraint_is_a_refusal_too(store, database):
    await store.open(NAME)
    async with client(database) as connection:
        await connection.execute("ALTER TABLE trades ADD UNIQUE (trade_id) DEFERRABLE INITIALLY DEFERRED")
    with pytest.raises(StoreRefusedError, match="duplicate key"):
        await store.commit(NAME, batch([EVERY_KIND[0]] * 2), None, at(2))


async def test_a_missing_partition_does_not_refuse_the_row(store, database):
    async with client(database) as connection:
        columns = ", ".join(f'"{name}" {type_}' for name, type_ in TABLES[Trade].columns.items())
        await connection.execute(
            f"CREATE TABLE trades (id bigint GENERATED BY DEFAULT AS IDENTITY, {columns})"
            " PARTITION BY RANGE (timestamp)"
        )
    await store.open(NAME)
    with pytest.raises(StoreRefusedError, match="no partition"):
        await store.commit(NAME, batch(EVERY_KIND), None, at(1))
    assert await store.open(NAME) is None


async def test_a_refused_login_is_reported_without_the_password(database):
    for wrong, reason in (
        ({"password": "not-the-secret"}, "password authentication failed"),
        ({"database": "nowhere"}, 'database "nowhere" does not exist'),
    ):
        with pytest.raises(StoreRefusedError, match=reason) as caught:
            await store_of(but(database, **wrong)).open(NAME)
        assert "not-the-secret" not in str(caught.value)


async def test_a_server_with_tls_is_used_with_tls():
    with PostgresServer(tls=True) as server:
        address = address_of(server, "postgres")
        store = store_of(address)
        await store.open(NAME)
        assert not await store.commit(NAME, batch(EVERY_KIND), None, at(1))
        async with client(address) as connection:
            encrypted = await connection.fetch(
                "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE client_port IS NOT NULL"
            )
        assert [row["ssl"] for row in encrypted] == [True, True]
        await store.close()


async def test_a_missing_server_is_unavailable(database):
    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1: .*refused"):
        await store_of(but(database, port=1)).open(NAME)


async def test_a_database_that_is_read_only_is_unavailable(store, database):
    await store.open(NAME)
    async with client(database) as connection:
        await connection.execute(f"ALTER DATABASE {database.database} SET default_transaction_read_only = on")
    await store.open(NAME)
    with pytest.raises(StoreUnavailableError, match="read-only"):
        await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))


async def test_a_cut_connection_is_unavailable_and_reopened(store, database):
    await store.open(NAME)
    async with client(database) as connection:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    with pytest.raises(StoreUnavailableError):
        await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))
    with pytest.raises(StoreUnavailableError, match="not connected"):
        await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))
    assert await store.open(NAME) is None


@pytest.mark.parametrize("copying", [False, True])
async def test_a_collector_that_vanishes_in_the_middle_of_a_commit_holds_up_nobody(
    store, database, monkeypatch, copying
):
    """Its machine has lost its power: nobody tells the server, which has locked the position for it."""
    monkeypatch.setattr(postgres, "_COMMAND_SECONDS", 5.0)
    quick = postgres.BEGIN.replace("'15s'", "'200ms'").replace("idle = 5", "idle = 1")
    monkeypatch.setattr(postgres, "BEGIN", quick)
    vanishing = store_of(database)
    await vanishing.open(NAME)
    await vanishing.commit(NAME, batch([]), None, at(0))
    connection = vanishing._connection
    await vanishing._move(connection, NAME, at(0), at(1))
    if copying:
        copy = asyncio.create_task(connection.copy_to_table("trades", source=unfinished(), timeout=60))
        async with client(database) as observer:
            while not await observer.fetchval(WAITS_FOR_A_ROW):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)  # what came last is acknowledged: else it is sent again, and refused
        vanish(connection)
    assert await store.open(NAME) == at(0)
    await store.commit(NAME, batch(EVERY_KIND), at(0), at(len(EVERY_KIND)))
    await vanishing.close()
    if copying:
        copy.cancel()


WAITS_FOR_A_ROW = """
    SELECT true FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'COPY%' AND wait_event = 'ClientRead'"""


async def unfinished():
    yield b""
    await asyncio.Event().wait()


def vanish(connection):
    """Ends a connection without a word to the server."""
    repair = 19  # TCP_REPAIR
    try:
        connection._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, repair, 1)
    except OSError as error:
        pytest.skip(f"this takes root: {error}")
    connection._transport.abort()


async def test_through_pgbouncer_in_transaction_mode(server, database):
    with Pgbouncer(server) as bouncer:
        address = but(database, host=bouncer.host, port=bouncer.port)
        stores = [store_of(address) for _ in range(4)]

        async def work(number, store):
            position = await store.open(str(number))
            for done in range(20):
                await store.commit(str(number), batch(EVERY_KIND, done), position, position := at(done + 1))

        await asyncio.gather(*itertools.starmap(work, enumerate(stores)))
        await asyncio.gather(*(store.close() for store in stores))
    async with client(database) as connection:
        assert await connection.fetchval("SELECT count(*) FROM funding") == 4 * 20 * 2


async def test_an_untrusted_certificate_is_named_in_the_error():
    with PostgresServer(tls=True) as server:
        url = f"{server.url.partition('?')[0]}?sslmode=verify-full&sslrootcert={where()}"
        with pytest.raises(StoreUnavailableError, match="certificate verify failed"):
            await PostgresStore(settings("POSTGRES", url=url)).open(NAME)


async def test_a_key_of_the_tables_owner_refuses_a_row_and_ours_the_whole_table(store, database):
    """A trade that is there already is refused for what it is; a sequence of ids that was set back is not."""
    await store.open(NAME)
    async with client(database) as connection:
        await connection.execute("ALTER TABLE trades DROP CONSTRAINT trades_pkey, ADD PRIMARY KEY (trade_id)")
        first, second = (replace(EVERY_KIND[0], id=number) for number in ("1", "2"))
        sent = [first, first, second]
        (refusal,) = await store.commit(NAME, batch(sent), None, at(3))
        assert refusal.sequence == 1
        assert not await store.commit(NAME, batch(sent).without([refusal]), None, at(3))
        await connection.execute("ALTER TABLE trades DROP CONSTRAINT trades_pkey, ADD PRIMARY KEY (id)")
        await connection.execute(
            "SELECT setval(pg_get_serial_sequence('trades', 'id'), min(id), false) FROM trades"
        )
        with pytest.raises(StoreRefusedError, match="duplicate key"):
            await store.commit(NAME, batch([second], 3), at(3), at(4))


async def test_a_record_that_an_index_of_the_tables_owner_rejects_is_refused(store, database):
    """It is about the row's size, under a code that is no data error's."""
    await store.open(NAME)
    async with client(database) as connection:
        await connection.execute("CREATE INDEX ON trades (trade_id)")
    long = replace(EVERY_KIND[0], id="".join(hashlib.sha512(bytes([n])).hexdigest() for n in range(100)))
    (refusal,) = await store.commit(NAME, batch([EVERY_KIND[0], long]), None, at(2))
    assert refusal.sequence == 1
    assert "index row" in refusal.reason


@given(st.lists(st.floats(1e6, 1e10), min_size=1), st.sampled_from([[], [0.25], [-1.5]]))
def test_times_converted_in_bulk_equal_times_converted_singly(times, early):
    times += early  # within the first second of 1970, or before it
    alone = [postgres_tables._time(time) for time in times]
    assert postgres_tables._times(times) == alone
