import itertools
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import bson
import pymongo
import pytest
from databases import settings
from every_kind import EVERY_KIND, records
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import replace
from servers import MongoServer

from collector.batch import Batch, Position
from collector.records import L2Book, L3Book, channel_of, fields
from collector.stores import PositionLostError, StoreRefusedError, StoreUnavailableError, mongo
from collector.stores.mongo import MongoStore

NAME = "collector"
COLLECTIONS = [
    "trades",
    "ticker",
    "l1_book",
    "book",
    "l3_book",
    "funding",
    "open_interest",
    "liquidations",
    "index",
    "candles",
    "gaps",
]
D = Decimal


class Commands(pymongo.monitoring.CommandListener):
    """Notes in which collections something is looked for."""

    def __init__(self):
        self.searched = []

    def started(self, event):
        if event.command_name == "find":
            self.searched.append(event.command["find"])

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


@pytest.fixture(scope="module")
def server():
    with MongoServer() as server:
        yield server


@pytest.fixture
def address(server):
    """A database of the test's own."""
    return SimpleNamespace(
        host=server.host, port=server.port, user=None, password=None, database=f"test_{next(_numbers)}"
    )


_numbers = itertools.count()


def store_of(address, **more):
    return MongoStore(settings("MONGO", **vars(address), **more))


@pytest.fixture
def database(address):
    with pymongo.MongoClient(address.host, address.port) as client:
        yield client[address.database]


@pytest.fixture
async def store(address):
    store = store_of(address)
    yield store
    await store.close()


def batch(records, first=0):
    return Batch("incarnation", first, records)


def at(sequence):
    return Position("owner", "incarnation", sequence)


def expected_document(record):
    """What a reader is to see of a record, but its id."""
    document = {name: str(value) if isinstance(value, D) else value for name, value in fields(record).items()}
    for name in ("timestamp", "receipt_timestamp"):
        exact = datetime.fromtimestamp(document[name], UTC).replace(tzinfo=None)
        document[f"{name}_seconds"] = document[name]
        document[name] = exact.replace(microsecond=exact.microsecond // 1000 * 1000)
    for side in ("bid", "ask"):
        if isinstance(record, L2Book):
            document[side] = {str(price): str(size) for price, size in document[side]}
        elif isinstance(record, L3Book):
            prices = {}
            for order_id, price, size in document[side]:
                prices.setdefault(str(price), {})[order_id] = str(size)
            document[side] = prices
    return document


def stored(database):
    """All documents by collection, in the order of their ids, without these."""
    found = {}
    for name in COLLECTIONS:
        documents = list(database[name].find(sort=[("_id", 1)]))
        for document in documents:
            del document["_id"], document["sequence"]
            if name in ("book", "l3_book"):
                document |= {side: bson.decode(document[side]) for side in ("bid", "ask")}
        found[name] = documents
    return found


def expected(sent):
    found = {name: [] for name in COLLECTIONS}
    for record in sent:
        channel = channel_of(record)
        found["book" if channel == "l2_book" else channel].append(expected_document(record))
    return found


async def test_every_kind_of_record_comes_back_as_it_was(store, database):
    assert await store.open(NAME) is None
    assert not await store.commit(NAME, batch(EVERY_KIND), None, at(len(EVERY_KIND)))
    assert stored(database) == expected(EVERY_KIND)


@hypothesis_settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(records, max_size=20))
async def test_any_record_comes_back_as_it_was(address, database, sent):
    store = store_of(address)
    position = await store.open(NAME)
    after = at(position.sequence + 1 if position else 0)
    second = 1_700_000_000_500_000_000
    sent = [replace(record, receipt_timestamp=second) for record in sent]  # ids in the order of sequence
    assert not await store.commit(NAME, batch(sent), position, after)
    await store.close()
    assert stored(database) == expected(sent)
    for name in COLLECTIONS:
        database[name].delete_many({})


async def test_an_id_tells_when_a_record_was_received_and_sorts_as_it_was_received(store, database):
    await store.open(NAME)
    await store.commit(NAME, batch([EVERY_KIND[0]] * 3, 255), None, at(258))
    found = list(database["trades"].find(sort=[("_id", 1)]))
    assert {document["_id"].generation_time.timestamp() for document in found} == {1736899200}
    assert [document["sequence"] for document in found] == [255, 256, 257]


@pytest.mark.parametrize(
    "wrong",
    [
        replace(EVERY_KIND[0], side="\ud800"),
        replace(EVERY_KIND[7], bid=[("\0", "1", "1")]),
        replace(EVERY_KIND[14], trades=2**63),
        replace(EVERY_KIND[0], id="i" * 48_000_000),
    ],
    ids=["surrogate", "nul in a key", "64 bits", "48 MB"],
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
    assert stored(database) == expected(sent)


async def test_records_inserted_before_the_position_moved_are_not_inserted_twice(store, database):
    await store.open(NAME)
    await store.commit(NAME, batch(EVERY_KIND), None, at(len(EVERY_KIND)))
    database["cryptostore_position"].delete_many({})
    assert await store.open(NAME) is None
    sent = [*EVERY_KIND, EVERY_KIND[0]]
    assert not await store.commit(NAME, batch(sent), None, at(len(sent)))
    assert stored(database) == expected(sent)


async def test_two_incarnations_are_not_mistaken_for_each_other(store, database):
    await store.open(NAME)
    await store.commit(NAME, Batch("one", 0, [EVERY_KIND[0]]), None, Position("owner", "one", 1))
    await store.commit(
        NAME, Batch("two", 0, [EVERY_KIND[0]]), Position("owner", "one", 1), Position("owner", "two", 1)
    )
    assert stored(database) == expected([EVERY_KIND[0]] * 2)


async def test_the_position_moves_and_is_checked(store, database):
    await store.open(NAME)
    await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))
    for wrong in (None, at(2), Position("other", "incarnation", 1), Position("owner", "other", 1)):
        with pytest.raises(PositionLostError):
            await store.commit(NAME, batch([EVERY_KIND[0]], 1), wrong, at(2))
        assert await store.open(NAME) == at(1)
    await store.commit(NAME, batch([EVERY_KIND[0]], 1), at(1), at(2))
    assert await store.open(NAME) == at(2)
    assert await store.open("another") is None
    assert stored(database) == expected([EVERY_KIND[0]] * 2)
    position = database["cryptostore_position"].find_one({"_id": NAME})
    assert abs(position["seen"].replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() < 60


async def test_a_missing_server_is_unavailable(address, monkeypatch):
    monkeypatch.setattr(mongo, "CONNECT_SECONDS", 0.3)
    store = store_of(SimpleNamespace(**vars(address) | {"port": 1}))
    with pytest.raises(StoreUnavailableError, match=r"^127\.0\.0\.1:1: .*Connection refused"):
        await store.open(NAME)
    with pytest.raises(StoreUnavailableError):
        await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))
    await store.close()
    with pytest.raises(StoreUnavailableError, match="not connected"):
        await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))


async def test_a_collection_that_accepts_records_again_mid_batch_refuses_none(store, database, monkeypatch):
    """An index allows one trade an exchange, and goes just when the first trades have been refused."""
    database.trades.create_index("exchange", unique=True)
    failed = mongo._failed

    async def corrected(*arguments):
        found = await failed(*arguments)
        if "exchange_1" in database.trades.index_information():
            assert len(found) == 4
            database.trades.drop_index("exchange_1")
        return found

    monkeypatch.setattr(mongo, "_failed", corrected)
    trade = next(record for record in EVERY_KIND if channel_of(type(record)) == "trades")
    sent = [replace(trade, id=str(number)) for number in range(5)]
    await store.open(NAME)
    assert not await store.commit(NAME, batch(sent), None, at(5))
    assert [each["id"] for each in database.trades.find(sort=[("sequence", 1)])] == list("01234")


async def test_an_index_dropped_right_after_a_refusal_costs_nothing(store, database, monkeypatch):
    """A server that does not say which key is there already is asked when the index is gone."""
    database.trades.create_index("exchange", unique=True)
    there = mongo._there

    async def dropped(collection, documents):
        if "exchange_1" in database.trades.index_information():
            database.trades.drop_index("exchange_1")
        return await there(collection, documents)

    monkeypatch.setattr(mongo, "_there", dropped)
    trade = next(record for record in EVERY_KIND if channel_of(type(record)) == "trades")
    sent = [replace(trade, id=str(number)) for number in range(5)]
    await store.open(NAME)
    await store.commit(NAME, batch(sent), None, at(5))
    if "exchange_1" not in database.trades.index_information():
        assert [each["id"] for each in database.trades.find(sort=[("sequence", 1)])] == list("01234")


async def test_a_batch_that_is_there_already_costs_no_search(store, database, monkeypatch):
    """FerretDB reads the whole collection for one: with many records no batch would ever be done in time."""
    sent = list(EVERY_KIND)
    await store.open(NAME)
    await store.commit(NAME, batch(sent), None, at(len(sent)))
    database["cryptostore_position"].delete_one({"_id": NAME})
    commands, options = Commands(), mongo._options
    monkeypatch.setattr(mongo, "_options", lambda *of: options(*of) | {"event_listeners": [commands]})
    await store.open(NAME)
    await store.commit(NAME, batch(sent), None, at(len(sent)))
    assert stored(database) == expected(sent)
    assert set(commands.searched) == {"cryptostore_position"}


async def test_an_impossible_database_name_is_refused(address):
    with pytest.raises(StoreRefusedError, match="database"):
        await store_of(SimpleNamespace(**vars(address) | {"database": "a b"})).open(NAME)
