"""From SYMBOLS to a real Redis: what an exchange sends by its script is stored, value for value."""

import time

import pytest
from collectors import Collector
from conformance import RedisHarness
from msgspec import structs
from scripted import SCRIPTS, Script, ScriptedExchange
from servers import RedisServer
from waiting import PATIENCE

from collector.exchanges.directory import EXCHANGES
from collector.records import Gap, channel_of
from collector.times import SECOND

pytestmark = pytest.mark.redis

HARNESS = RedisHarness("REDISSTREAM")
TIMES = {"timestamp", "start", "stop", "next_funding_time"}


@pytest.fixture(scope="module")
def redis():
    with RedisServer(persistence="") as server:
        yield server


def play(exchange, collector, redis):
    """Waits until everything is played and stored."""
    wanted, end = len(exchange.script.records), time.monotonic() + PATIENCE
    stored = 0
    while exchange.unplayed or stored < wanted:
        assert collector.process.poll() is None, "\n".join(collector.lines())
        assert time.monotonic() < end, f"{stored} records of {wanted}; " + "\n".join(collector.lines())
        assert not exchange.faults, exchange.report()
        stored = len(stored_by(collector, redis))
        exchange.stored(stored)
        time.sleep(0.05)


def stored_by(collector, redis):
    exchange = collector.environment["EXCHANGE"]
    return [record for record in HARNESS.stored(redis) if record.exchange == exchange]


def shown(record, expected):
    """A stored record as its script has it."""
    fields = structs.asdict(record)
    del fields["exchange"], fields["receipt_timestamp"]
    for name, value in fields.items():
        if name in TIMES and value is not None:
            fields[name] = f"{value / SECOND:.3f}"
        elif isinstance(value, bool | int):
            fields[name] = str(value).lower()
        elif isinstance(value, list):
            fields[name] = [list(level) for level in value]
    if "timestamp" not in expected and record.timestamp == record.receipt_timestamp:
        del fields["timestamp"]  # the exchange sends none
    return {"channel": channel_of(type(record))} | fields


@pytest.mark.parametrize("name", sorted(EXCHANGES))
def test_records_are_stored_with_the_values_that_were_sent(name, redis, tmp_path):
    script = Script.read(SCRIPTS / f"{name}.jsonl")
    where = {"BACKEND": "REDISSTREAM", "HOST": redis.host, "PORT": str(redis.port)}
    begun = time.time()
    with ScriptedExchange(script) as exchange:
        with Collector(tmp_path, **script.collector, **exchange.environment, **where) as collector:
            play(exchange, collector, redis)
            assert collector.stop() == 0
        records = stored_by(collector, redis)
    assert not [record for record in records if isinstance(record, Gap)]
    assert all(begun < record.receipt_timestamp / SECOND < time.time() for record in records)
    stored = by_stream((channel_of(type(record)), record.symbol, record) for record in records)
    expected = by_stream((record["channel"], record["symbol"], record) for record in script.records)
    assert stored.keys() == expected.keys()
    for key, of_stream in expected.items():
        found = stored[key]
        assert [shown(*pair) for pair in zip(found, of_stream, strict=True)] == of_stream


def by_stream(entries):
    streams = {}
    for channel, symbol, record in entries:
        streams.setdefault((channel, symbol), []).append(record)
    return streams
