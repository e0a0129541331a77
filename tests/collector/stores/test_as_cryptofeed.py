"""The same objects through cryptofeed's own backends and through ours: what a reader sees is the same."""

import asyncio
from decimal import Decimal

import asyncpg
import bson
import pymongo
import pytest
from cryptofeed import types as theirs
from cryptofeed.backends import mongo as their_mongo
from cryptofeed.backends import postgres as their_postgres
from databases import settings
from servers import MongoServer, PostgresServer
from streams import written
from test_postgres import CRYPTOFEED_TABLES

from collector import records as ours
from collector.batch import Batch, Position
from collector.stores.mongo import MongoStore
from collector.stores.postgres import PostgresStore

D = Decimal
AT, RECEIPT = 1736899200.123456, 1736899200.234567
WHO = ("COINBASE", "BTC-USD")
PLACE = (*WHO, AT, RECEIPT)
BIDS, ASKS = {D("97123.4"): D("0.5"), D("97123.25"): D(2)}, {D("97123.5"): D("1.25")}


def _book(delta):
    book = theirs.OrderBook(*WHO, bids=BIDS, asks=ASKS)
    book.timestamp = AT
    book.delta = delta
    return book


#: By table and collection: cryptofeed's object, and our record of it.
SAME = {
    "trades": (
        theirs.Trade(*WHO, "buy", D("0.5"), D("97123.25"), AT, id="77", type="limit"),
        ours.Trade(*PLACE, "buy", D("0.5"), D("97123.25"), "77", "limit"),
    ),
    "ticker": (
        theirs.Ticker(*WHO, D("97123.25"), D("97123.5"), AT),
        ours.Ticker(*PLACE, D("97123.25"), D("97123.5")),
    ),
    "funding": (
        theirs.Funding(*WHO, D("97123.25"), D("0.0001"), 1736928000.0, AT, predicted_rate=D("0.0002")),
        ours.Funding(*PLACE, D("97123.25"), D("0.0001"), 1736928000.0, D("0.0002")),
    ),
    "open_interest": (
        theirs.OpenInterest(*WHO, D(1234), AT),
        ours.OpenInterest(*PLACE, D(1234)),
    ),
    "liquidations": (
        theirs.Liquidation(*WHO, "sell", D("0.5"), D(97000), "9", "filled", AT),
        ours.Liquidation(*PLACE, "sell", D("0.5"), D(97000), "9", "filled"),
    ),
    "candles": (
        theirs.Candle(*WHO, AT - 60, AT, "1m", 42, D(1), D(2), D(3), D("0.5"), D("7.5"), True, AT),
        ours.Candle(*PLACE, AT - 60, AT, "1m", 42, D(1), D(2), D(3), D("0.5"), D("7.5"), True),
    ),
    "book": (
        _book(None),
        ours.L2Book(*PLACE, False, list(BIDS.items()), list(ASKS.items())),
    ),
}
DELTA = (
    _book({"bid": [(D("97123.4"), D(0))], "ask": []}),
    ours.L2Book(*PLACE, True, [(D("97123.4"), D(0))], []),
)


async def theirs_stores(callback, thing):
    """Runs a backend of cryptofeed's until it has written one object."""
    callback.start(asyncio.get_running_loop())
    await callback(thing, RECEIPT)
    await asyncio.sleep(0)
    await callback.stop()
    await callback.worker


async def ours_stores(store, record):
    await store.open("collector")
    await store.commit("collector", Batch("run", 0, [written(record)]), None, Position("owner", "run", 1))
    await store.close()


@pytest.fixture(scope="module")
def postgres():
    with PostgresServer() as server:
        yield server


POSTGRES_CALLBACKS = {
    "trades": their_postgres.TradePostgres,
    "ticker": their_postgres.TickerPostgres,
    "funding": their_postgres.FundingPostgres,
    "open_interest": their_postgres.OpenInterestPostgres,
    "liquidations": their_postgres.LiquidationsPostgres,
    "candles": their_postgres.CandlesPostgres,
    "book": their_postgres.BookPostgres,
}


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcfromtimestamp")
@pytest.mark.parametrize("table", [*SAME, "delta"])
async def test_postgres(postgres, table):
    thing, record = DELTA if table == "delta" else SAME[table]
    name = "book" if table == "delta" else table
    rows = []
    for database in (f"theirs_{table}", f"ours_{table}"):
        admin = await asyncpg.connect(postgres.url)
        await admin.execute(f"CREATE DATABASE {database}")
        await admin.close()
        address = {"host": postgres.host, "port": postgres.port, "user": postgres.name}
        connection = await asyncpg.connect(**address, password=postgres.password, database=database)
        if database.startswith("theirs"):
            await connection.execute(
                f"CREATE TABLE {name} (id serial PRIMARY KEY, timestamp TIMESTAMP,"
                " receipt_timestamp TIMESTAMP, exchange VARCHAR(32), symbol VARCHAR(32),"
                f" {CRYPTOFEED_TABLES[name]})"
            )
            await theirs_stores(POSTGRES_CALLBACKS[name](**address, pw=postgres.password, db=database), thing)
        else:
            options = {**address, "password": postgres.password, "database": database}
            await ours_stores(PostgresStore(settings("POSTGRES", **options)), record)
        rows.append(dict(await connection.fetchrow(f"SELECT * FROM {name}")))
        await connection.close()
    theirs_row, ours_row = rows
    assert list(ours_row) == list(theirs_row)
    assert ours_row == {name: _exact(value) for name, value in theirs_row.items()}


def _exact(value):
    """Intended: NUMERIC where the example schema has DOUBLE PRECISION."""
    return D(repr(value)) if isinstance(value, float) else value


@pytest.fixture(scope="module")
def mongo():
    with MongoServer() as server:
        yield server


MONGO_CALLBACKS = {
    "trades": their_mongo.TradeMongo,
    "ticker": their_mongo.TickerMongo,
    "funding": their_mongo.FundingMongo,
    "open_interest": their_mongo.OpenInterestMongo,
    "liquidations": their_mongo.LiquidationsMongo,
    "candles": their_mongo.CandlesMongo,
    "book": their_mongo.BookMongo,
}


@pytest.mark.parametrize("collection", SAME)  # deltas as cryptofeed writes them, FerretDB refuses
async def test_mongo(mongo, collection):
    thing, record = SAME[collection]
    await theirs_stores(MONGO_CALLBACKS[collection]("theirs", host=mongo.host, port=mongo.port), thing)
    options = {"host": mongo.host, "port": mongo.port, "user": None, "password": None}
    await ours_stores(MongoStore(settings("MONGO", **options, database=f"ours_{collection}")), record)
    with pymongo.MongoClient(mongo.host, mongo.port) as client:
        theirs_document = client["theirs"][collection].find_one()
        ours_document = client[f"ours_{collection}"][collection].find_one()
    # intended: our sequence, and the microseconds that a date lacks
    for name in ("sequence", "timestamp_seconds", "receipt_timestamp_seconds"):
        del ours_document[name]
    if collection == "book":
        for side in ("bid", "ask"):
            theirs_document[side] = bson.decode(theirs_document[side])
            ours_document[side] = bson.decode(ours_document[side])
    del theirs_document["_id"], ours_document["_id"]
    assert ours_document == theirs_document
