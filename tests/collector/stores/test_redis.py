import asyncio
import json
import random
from decimal import Decimal

import pytest
from conformance import NAME, Pipeline, RedisHarness, per_key
from cryptofeed import types
from cryptofeed.backends import redis as theirs
from msgspec.structs import replace
from servers import RedisServer
from streams import AT, one_of_each, stream, trades, written
from waiting import eventually

from collector import lease
from collector import records as r
from collector import writer as writing
from collector.batch import Batch, Position
from collector.stores import StoreRefusedError, StoreUnavailableError, create
from collector.times import nanoseconds

pytestmark = pytest.mark.redis
D = Decimal


@pytest.fixture(params=["REDISSTREAM", "REDIS"])
def harness(request):
    return RedisHarness(request.param)


@pytest.fixture(scope="module")
def shared():
    with RedisServer(persistence="") as server:
        yield server


@pytest.fixture
def server(shared):
    with shared.client() as client:
        client.flushall()
        client.config_set("maxmemory", 0)
    return shared


@pytest.fixture
def client(server):
    with server.client(decode_responses=True) as client:
        yield client


@pytest.fixture
async def store(harness, server, tmp_path):
    store = create(harness.settings(server, tmp_path))
    yield store
    await store.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(writing, "MOST_PAUSE", 0.3)
    monkeypatch.setattr(lease, "BEAT", 0.3)  # an idle writer notices that its server was killed
    monkeypatch.setattr(writing, "REFUSED_PAUSE", 0.1)


def at(sequence):
    return Position("owner", "run", sequence)


async def commit(store, records, first=0):
    return await store.commit(NAME, Batch("run", first, records), at(first), at(first + len(records)))


async def begin(store):
    assert await store.open(NAME) is None
    await store.commit(NAME, Batch("run", 0, []), None, at(0))


# -- what readers of cryptofeed's own backends see ---------------------------------------------------

_ID = ("COINBASE", "BTC-USD")


def book(price="100.5"):
    book = types.OrderBook(*_ID, bids={D(price): D("1.5")}, asks={D(101): D("0.25")})
    book.timestamp = AT
    return book


def change():
    changed = book()
    changed.delta = {"bid": [(D("100.5"), D(0))], "ask": [(D(101), D("0.75"))]}
    return changed


#: By cryptofeed's class: its object, and our record of the same.
PAIRS = [
    (
        "Trade",
        types.Trade(*_ID, "buy", D("0.5"), D("100.25"), AT + 0.25, id="7", type=None),
        r.Trade(*_ID, AT + 0.25, AT + 1.5, "buy", D("0.5"), D("100.25"), "7", None),
    ),
    ("Ticker", types.Ticker(*_ID, D("1.5"), D("2.5"), AT), r.Ticker(*_ID, AT, AT + 1.5, D("1.5"), D("2.5"))),
    (
        "Funding",
        types.Funding(*_ID, None, D("0.125"), AT + 60, AT, predicted_rate=None),
        r.Funding(*_ID, AT, AT + 1.5, None, D("0.125"), AT + 60, None),
    ),
    (
        "OpenInterest",
        types.OpenInterest(*_ID, D("5.5"), None),
        r.OpenInterest(*_ID, AT + 1.5, AT + 1.5, D("5.5")),
    ),
    (
        "Liquidations",
        types.Liquidation(*_ID, "sell", D("1.5"), D("2.5"), None, "filled", AT),
        r.Liquidation(*_ID, AT, AT + 1.5, "sell", D("1.5"), D("2.5"), None, "filled"),
    ),
    (
        "Candles",
        types.Candle(
            *_ID, AT, AT + 60, "1m", None, D("1.5"), D("2.5"), D("3.5"), D("0.5"), D("9.5"), True, AT
        ),
        r.Candle(
            *(*_ID, AT, AT + 1.5, AT, AT + 60, "1m", None),
            *(D("1.5"), D("2.5"), D("3.5"), D("0.5"), D("9.5"), True),
        ),
    ),
    ("Book", book(), r.L2Book(*_ID, AT, AT + 1.5, False, [(D("100.5"), D("1.5"))], [(D(101), D("0.25"))])),
    ("Book", change(), r.L2Book(*_ID, AT, AT + 1.5, True, [(D("100.5"), D(0))], [(D(101), D("0.75"))])),
]


def seen(client):
    """What a reader sees: by key, the entries' fields, with numbers as numbers."""
    found = {}
    for key in client.scan_iter():
        if key.startswith("cryptostore:"):
            continue
        if client.type(key) == "stream":
            found[key] = [_numbers(fields) for _, fields in client.xrange(key)]
        else:
            pairs = client.zrange(key, 0, -1, withscores=True)
            found[key] = sorted(([_numbers(json.loads(member)), score] for member, score in pairs), key=str)
    return found


def _numbers(value):
    if isinstance(value, dict):
        return {name: _numbers(each) for name, each in value.items() if name != "sequence"}
    if isinstance(value, str) and value[:1] in "{[":
        return _numbers(json.loads(value))
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


async def test_a_reader_of_cryptofeeds_own_backend_sees_the_same(harness, store, client):
    """Intended differences: numbers keep their digits (1.50, 0.00000001 where it has 1.5, 1e-08), members of
    sorted sets have a last field `sequence`, candles that do not tell whether they are closed say None where
    it says False, and the ids of streams are made from the receipt.
    """
    host, port = store._settings.host, store._settings.port
    kind = "Stream" if harness.backend == "REDISSTREAM" else "Redis"
    loop = asyncio.get_running_loop()
    for name, thing, _ in PAIRS:
        callback = getattr(theirs, name + kind)(host=host, port=port)
        callback.start(loop)
        await callback(thing, AT + 1.5)
        await callback.queue.join()
        await callback.stop()
        await callback.worker
    expected = seen(client)
    client.flushall()
    await begin(store)
    await commit(store, [written(record) for _, _, record in PAIRS])
    assert seen(client) == expected
    assert len(expected) == 7


async def test_every_digit_is_in_the_text(store, client, harness):
    await begin(store)
    tiny = r.L2Book(*_ID, AT, AT, True, [(D("1E-8"), D("1.50"))], [(D("1E+3"), D("0.00000010"))])
    await commit(store, [written(tiny)])
    text = '{"bid":[[0.00000001,1.50]],"ask":[[1000,0.00000010]]}'
    if harness.backend == "REDISSTREAM":
        ((_, fields),) = client.xrange("book-COINBASE-BTC-USD")
        assert fields["delta"] == text
    else:
        (member,) = client.zrange("book-COINBASE-BTC-USD", 0, -1)
        assert f'"delta":{text},' in member


# -- what the server forgets, and what a file cut in two makes of it ---------------------------------


async def test_acknowledged_writes_that_redis_forgot_are_sent_again(harness, tmp_path):
    sent = list(stream(3000))
    with RedisServer(persistence="rdb") as server:
        async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
            for first in range(0, 3000, 1000):
                await pipeline.send(sent[first : first + 500])
                await pipeline.delivered()
                server.client().save()
                await pipeline.send(sent[first + 500 : first + 1000])
                await pipeline.delivered()
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                assert len(harness.stored(server)) == first + 500
            await eventually(lambda: len(harness.stored(server)) == 3000)
        assert per_key(harness.stored(server)) == per_key(sent)


async def test_a_log_cut_inside_a_batch_makes_no_duplicates(harness, tmp_path):
    """What is replayed after a cut may hold a part of a batch, and later the whole of it."""
    sent = list(stream(2000))
    dice = random.Random(4)
    with RedisServer() as server:
        server.options = ["--aof-load-truncated", "yes"]
        async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
            for first in range(0, 2000, 400):
                await pipeline.send(sent[first : first + 400], burst=100)
                await pipeline.delivered()
                await asyncio.to_thread(server.kill)
                log = max((server.folder / "appendonlydir").glob("*.incr.aof"))
                with log.open("r+b") as file:
                    file.truncate(max(0, log.stat().st_size - dice.randrange(1, 20_000)))
                await asyncio.to_thread(server.start)
                await asyncio.to_thread(server.restart)  # the second restart is the one that doubles
            await eventually(lambda: len(harness.stored(server)) == 2000)
        await asyncio.to_thread(server.restart)
        assert per_key(harness.stored(server)) == per_key(sent)


async def test_records_already_stored_are_not_added_again(harness, store, client, server):
    """A part of a batch is there without its position: nobody wants that, a cut log can do it."""
    sent = list(trades(10))
    await begin(store)
    await commit(store, sent)
    client.hset(f"cryptostore:position:{NAME}", mapping={"sequence": 0})
    await commit(store, [*sent, *trades(5, start=10)])
    assert per_key(harness.stored(server)) == per_key(trades(15))


async def test_another_record_under_a_taken_id_is_added(harness, store, client, server):
    await begin(store)
    await commit(store, list(trades(3)))
    client.hset(f"cryptostore:position:{NAME}", mapping={"sequence": 0})
    others = [replace(trade, amount=D("0.5")) for trade in trades(3)]
    await commit(store, others)
    assert len(harness.stored(server)) == 6


# -- refusals ----------------------------------------------------------------------------------------


async def test_a_record_refused_for_its_content_becomes_a_dead_letter(harness, server, tmp_path):
    good = list(trades(4))
    bad = replace(good[0], receipt_timestamp=-1, id="bad")
    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.send([*good[:2], bad, *good[2:]])
        await pipeline.delivered()
    assert per_key(harness.stored(server)) == per_key(good)
    (line,) = (tmp_path / NAME / "dead-letters.jsonl").read_text().splitlines()
    letter = json.loads(line)
    assert (letter["channel"], letter["record"]["id"]) == ("trades", "bad")
    assert "receipt_timestamp" in letter["reason"]
    assert pipeline.metrics.stored == {"trades": 4}


async def test_a_record_without_a_time_is_refused_alone(server, tmp_path):
    """A sorted set takes no score that is not a number."""
    store = create(RedisHarness("REDIS").settings(server, tmp_path))
    await begin(store)
    records = [
        replace(trade, timestamp=10**21 if trade.id == "1" else nanoseconds(AT)) for trade in trades(3)
    ]
    batch = Batch("run", 0, records)
    (refusal,) = await store.commit(NAME, batch, at(0), at(3))
    assert (refusal.sequence, refusal.record.id) == (1, "1")
    assert f"timestamp {10**21}" in refusal.reason
    assert refusal.unwritable
    assert await store.open(NAME) == at(0)
    assert not await store.commit(NAME, batch.without([refusal]), at(0), at(3))
    assert await store.open(NAME) == at(3)
    await store.close()
    assert [each.id for each in RedisHarness("REDIS").stored(server)] == ["0", "2"]


# -- states of the server ----------------------------------------------------------------------------


async def test_a_key_of_the_other_backend_is_refused_at_start_naming_both(harness, server, tmp_path):
    other = RedisHarness({"REDIS": "REDISSTREAM", "REDISSTREAM": "REDIS"}[harness.backend])
    async with Pipeline(other.settings(server, tmp_path)) as pipeline:
        await pipeline.send(trades(5))
        await pipeline.delivered()
    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.send(trades(5, start=5))
        await pipeline.until("refused")
        assert f"BACKEND={harness.backend} needs" in pipeline.writer.state.error
        assert f"BACKEND={other.backend} makes" in pipeline.writer.state.error
    async with Pipeline(other.settings(server, tmp_path)) as pipeline:
        await pipeline.delivered()
    assert per_key(other.stored(server)) == per_key(trades(10))


async def test_a_key_that_changes_its_type_later_stops_the_batch_before_anything_is_stored(
    store, client, server, harness
):
    await begin(store)
    client.set("trades-COINBASE-ETH-USD", "mine")
    with pytest.raises(StoreRefusedError, match="trades-COINBASE-ETH-USD is a string"):
        await commit(store, [*trades(2), *trades(2, symbol="ETH-USD")])
    client.delete("trades-COINBASE-ETH-USD")
    assert harness.stored(server) == []
    assert await store.open(NAME) == at(0)


async def test_a_server_that_is_temporarily_full_or_read_only_is_waited_for(
    harness, server, client, tmp_path
):
    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.send(trades(10))
        await pipeline.delivered()
        client.config_set("maxmemory", 1)
        await pipeline.send(trades(10, start=10))
        await pipeline.until("away")
        assert "OOM" in pipeline.writer.state.error
        client.config_set("maxmemory", 0)
        await pipeline.delivered()
        client.replicaof("127.0.0.1", "1")
        await pipeline.send(trades(10, start=20))
        await pipeline.until("away")
        assert "READONLY" in pipeline.writer.state.error.upper()
        client.replicaof("NO", "ONE")
        await pipeline.delivered()
    assert per_key(harness.stored(server)) == per_key(trades(30))


@pytest.mark.parametrize(
    ("revoked", "granted"),
    [
        (("resetkeys", "~crypto*", "~trades*", "%R~book*"), ("~*",)),
        (("-@write",), ("+@all",)),
        (("-hset",), ("+hset",)),
    ],
    ids=["to a key", "to write", "to a command"],
)
async def test_a_revoked_right_stops_a_batch_which_resumes_where_it_was(
    harness, server, client, tmp_path, revoked, granted
):
    client.execute_command("ACL", "SETUSER", "collector", "on", ">secret", "+@all", "~*")
    settings = harness.settings(server, tmp_path, USER="collector", PASSWORD="secret")
    async with Pipeline(settings) as pipeline:
        await pipeline.send(trades(2))
        await pipeline.delivered()
        client.execute_command("ACL", "SETUSER", "collector", *revoked)
        await pipeline.send(stream(10))
        await pipeline.until("refused")
        assert "lacks a right" in pipeline.writer.state.error
        client.execute_command("ACL", "SETUSER", "collector", *granted)
        await pipeline.delivered()
    assert per_key(harness.stored(server)) == per_key([*trades(2), *stream(10)])
    client.execute_command("ACL", "DELUSER", "collector")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"PASSWORD": "wrong"}, "USER or PASSWORD is wrong"),
        ({"USER": "nobody", "PASSWORD": "the-password"}, "USER or PASSWORD is wrong"),
        ({}, "set PASSWORD"),
        ({"PASSWORD": "the-password", "DATABASE": "99"}, "there is no such DATABASE"),
    ],
)
async def test_wrong_credentials_are_refused_with_a_message_that_helps(tmp_path, given, said):
    harness = RedisHarness("REDISSTREAM")
    with RedisServer(password="the-password", persistence="") as server:
        store = create(harness.settings(server, tmp_path, **given))
        with pytest.raises(StoreRefusedError, match=said) as caught:
            await store.open(NAME)
        assert "wrong" not in given.values() or "wrong" not in str(caught.value).replace("is wrong", "")
        assert "the-password" not in str(caught.value)
        right = create(harness.settings(server, tmp_path, PASSWORD="the-password", DATABASE="3"))
        assert await right.open(NAME) is None
        await right.close()


async def test_an_unneeded_password_is_reported(server, tmp_path):
    store = create(RedisHarness("REDIS").settings(server, tmp_path, PASSWORD="needless"))
    with pytest.raises(StoreRefusedError, match="knows no password") as caught:
        await store.open(NAME)
    assert "needless" not in str(caught.value)


async def test_protected_mode_is_reported_as_a_refusal(server, tmp_path):
    """A server is in it only for others than its own machine."""

    async def deny(reader, writer):
        await reader.read(1)
        writer.write(b"-DENIED Redis is running in protected mode because ...\r\n")
        writer.close()

    listener = await asyncio.start_server(deny, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    store = create(RedisHarness("REDIS").settings(server, tmp_path, PORT=str(port)))
    with pytest.raises(StoreRefusedError, match="protected mode: give it a password"):
        await store.open(NAME)
    await store.close()
    listener.close()


async def test_a_script_that_the_server_forgot_is_loaded_again(store, client):
    await begin(store)
    client.script_flush()
    with pytest.raises(StoreUnavailableError):
        await commit(store, list(trades(1)))
    assert await store.open(NAME) == at(0)
    await commit(store, list(trades(1)))


async def test_odd_symbols_are_quoted(store, server, harness):
    odd = [replace(one_of_each()[0], symbol=symbol) for symbol in ('a"b', "c\\d", "ü\n☃", "x-y-z")]
    await begin(store)
    await commit(store, odd)
    assert per_key(harness.stored(server)) == per_key(odd)


async def test_notes_of_the_first_version_are_read_until_new_ones_replace_them(store, client):
    """They stood together, whatever their exchange."""
    old = {NAME: '{"exchange":"COINBASE",old', "gone": '{"exchange":"COINBASE",old'}
    client.hset("cryptostore:notes", mapping=old | {"other": '{"exchange":"KRAKEN",old'})
    await store.open(NAME)
    assert await store.notes() == old
    await store.note(NAME, "new")
    assert await store.notes() == old | {NAME: "new"}
    assert client.hkeys("cryptostore:notes") == ["gone", "other"]
