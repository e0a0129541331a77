"""Every way to a Redis, and what is said on it beside storing."""

import asyncio
import contextlib
import logging
import time

import pytest
from conformance import NAME, Pipeline, RedisHarness, per_key
from msgspec.structs import replace
from servers import RedisServer
from streams import one_of_each, stream, timed, trades
from waiting import wait_until

from collector.settings import Retention, Settings
from collector.stores import StoreRefusedError, StoreUnavailableError, create, redis_retention

pytestmark = pytest.mark.redis
HARNESS = RedisHarness("REDISSTREAM")


class Sentinel(RedisServer):
    """A Sentinel that watches ``master`` as `market`."""

    def __init__(self, master):
        super().__init__(persistence="")
        self.master = master

    def prepare(self):
        host, port = self.master.host, self.master.port
        (self.folder / "sentinel.conf").write_text(
            f"sentinel monitor market {host} {port} 1\nsentinel down-after-milliseconds market 300\n"
            "sentinel failover-timeout market 2000\n"
        )

    def arguments(self):
        place = ["--port", str(self.port), "--bind", self.host]
        return [str(self.folder / "sentinel.conf"), "--sentinel", *place]

    def replicas(self):
        with self.client() as client:
            return client.sentinel_slaves("market")


def settings(folder, **given):
    what = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD,ETH-USD", "CHANNELS": "trades,l2_book"}
    where = {"BACKEND": "REDISSTREAM", "SPOOL_DIR": str(folder), "NAME": NAME}
    return Settings.read(what | where | given)


async def store(settings, records):
    async with Pipeline(settings) as pipeline:
        await pipeline.send(records)
        await pipeline.delivered()


async def test_user_password_tls_and_database(tmp_path):
    with RedisServer(password="the-password", tls=True) as server:
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "me", "on", ">pa:s/s", "~*", "+@all")
        place = f"{server.host}:{server.port}/3"
        url = f"rediss://me:pa%3As%2Fs@{place}?ssl_ca_certs={server.ca}"
        await store(settings(tmp_path, URL=url), one_of_each())
        with server.client() as client:
            assert list(client.info("keyspace")) == ["db3"]
        with pytest.raises(StoreUnavailableError, match="certificate"):
            await create(settings(tmp_path, URL=f"rediss://me:pa%3As%2Fs@{place}")).open(NAME)
        with pytest.raises(StoreRefusedError, match="USER or PASSWORD is wrong") as refused:
            await create(settings(tmp_path, URL=url.replace("pa%3As", "canary"))).open(NAME)
        assert "canary" not in str(refused.value)


async def test_a_unix_socket_can_be_used(tmp_path):
    with RedisServer(persistence="", password="the-password") as server:
        server.stop()
        server.options = ["--unixsocket", str(server.folder / "redis.sock")]
        server.start()
        url = f"unix://{server.folder}/redis.sock?db=2"
        await store(settings(tmp_path, URL=url, PASSWORD="the-password"), one_of_each())
        with server.client() as client:
            assert list(client.info("keyspace")) == ["db2"]


async def test_an_unknown_url_option_is_refused(tmp_path):
    with RedisServer(persistence="") as server:
        url = f"redis://:canary@{server.host}:{server.port}/?bogus=1"
        with pytest.raises(StoreRefusedError, match="bogus") as refused:
            await create(settings(tmp_path, URL=url)).open(NAME)
        assert "canary" not in str(refused.value)


async def test_sentinels_name_the_master_and_its_successor(tmp_path):
    sent = list(stream(200))
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(RedisServer(persistence=""))
        replica = RedisServer(persistence="")
        replica.options = ["--replicaof", master.host, str(master.port)]
        stack.enter_context(replica)
        sentinel = stack.enter_context(Sentinel(master))
        url = f"redis+sentinel://127.0.0.1:1,{sentinel.host}:{sentinel.port}/market/0"
        async with Pipeline(settings(tmp_path, URL=url)) as pipeline:
            await pipeline.send(sent[:100])
            await pipeline.delivered()
            await asyncio.to_thread(wait_until, sentinel.replicas)  # it asks the master every 10 s
            master.kill()
            await pipeline.send(sent[100:])
            await pipeline.delivered()
        assert per_key(HARNESS.stored(replica)) == per_key(sent)


async def test_sentinels_without_the_service_are_unavailable(tmp_path):
    with RedisServer(persistence="") as server, Sentinel(server) as sentinel:
        url = f"redis+sentinel://{sentinel.host}:{sentinel.port}/other"
        with pytest.raises(StoreUnavailableError, match="knows no other"):
            await create(settings(tmp_path, URL=url)).open(NAME)


async def test_an_eviction_policy_that_may_lose_the_position_is_reported(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "collector.stores.redis")
    with RedisServer(persistence="") as server:
        address = {"HOST": server.host, "PORT": str(server.port)}
        for memory, policy, warnings in (
            ("0", "allkeys-lru", 0),
            ("100mb", "volatile-lru", 0),
            ("100mb", "allkeys-lru", 1),
        ):
            with server.client() as client:
                client.config_set("maxmemory", memory)
                client.config_set("maxmemory-policy", policy)
            opened = create(settings(tmp_path, **address))
            await opened.open(NAME)
            await opened.open(NAME)
            await opened.close()
            assert len(caplog.messages) == warnings
    assert "maxmemory-policy allkeys-lru may evict" in caplog.messages[0]


@pytest.fixture(scope="module")
def server():
    with RedisServer(persistence="") as server:
        yield server


@pytest.mark.parametrize("backend", ["REDISSTREAM", "REDIS"])
@pytest.mark.parametrize("kept", ["300", "1h"])
async def test_retention(server, tmp_path, monkeypatch, backend, kept):
    """Also of symbols of which nothing comes any more."""
    monkeypatch.setattr(redis_retention, "SECONDS", 0)
    harness, now = RedisHarness(backend), time.time()
    with server.client() as client:
        client.flushall()
    ages = [7200] * 700 + [60] * 300
    sent = [
        timed(replace(trade, timestamp=now - age, receipt_timestamp=now - age))
        for symbol in ("BTC-USD", "ETH-USD")
        for age, trade in zip(ages, trades(1000, symbol=symbol), strict=True)
    ]
    async with Pipeline(harness.settings(server, tmp_path, RETENTION=kept)) as pipeline:
        await pipeline.send(sent, burst=250)
        await pipeline.delivered()
        latest = timed(replace(next(trades(1)), timestamp=now - 1, receipt_timestamp=now))
        await pipeline.send([latest])  # what trims what came before
        await pipeline.delivered()
    slack = 100 if backend == "REDISSTREAM" else 0  # a stream gives up whole nodes
    found = per_key(harness.stored(server))["trades", "ETH-USD"]
    assert 300 <= len(found) <= 300 + slack
    assert found == per_key(sent)["trades", "ETH-USD"][-len(found) :]


@pytest.mark.parametrize("retention", [Retention(None, 3), Retention(86400.0, None)])
async def test_two_collectors_that_trim_the_same_key_at_once_remove_what_is_old_once(server, retention):
    """Such as the gaps of a symbol whose channels are two collectors'."""
    now = time.time()
    with server.client() as client:
        client.flushall()
        client.zadd("gaps", {str(days): now - days * 86400 for days in (0.1, 0.2, 0.3, 2, 3)})

        async def ask(commands):
            return [client.execute_command(*command) for command in commands]

        async def ask_with_the_other(commands):
            answers = await ask(commands)
            await other.trim([])
            return answers

        other = redis_retention.Trimming(retention, ["gaps"], ask, "Redis", streams=False)
        ours = redis_retention.Trimming(retention, ["gaps"], ask_with_the_other, "Redis", streams=False)
        await ours.trim([])
        assert client.zrange("gaps", 0, -1) == [b"0.3", b"0.2", b"0.1"]


@pytest.mark.parametrize("backend", ["REDISSTREAM", "REDIS"])
@pytest.mark.parametrize("clock", ["this machine's", "this machine's and the server's", "the server's"])
async def test_a_clock_that_is_a_year_ahead_removes_nothing(server, monkeypatch, caplog, backend, clock):
    now, year, streams = time.time(), 365 * 86400.0, backend == "REDISSTREAM"
    monkeypatch.setattr(redis_retention.time, "time", lambda: now + (year if "this" in clock else 0))
    with server.client() as client:
        client.flushall()
        for number in range(1000):
            if streams:
                client.xadd("trades", {"x": 1}, id=f"{int(now * 1000) - 3000 + number}-0")
            else:
                client.zadd("trades", {str(number): now - 3 + number / 1000})

        async def ask(commands):
            answers = [client.execute_command(*command) for command in commands]
            if commands == [("TIME",)] and "server" in clock:
                return [(seconds + int(year), rest) for seconds, rest in answers]
            return answers

        trimming = redis_retention.Trimming(
            Retention(86400.0, None), ["trades"], ask, "Redis", streams=streams
        )
        received = redis_retention.time.time()
        trade = timed(replace(next(trades(1)), timestamp=now - 0.1, receipt_timestamp=received))
        late = replace(trade, timestamp=trade.receipt_timestamp)  # one without the exchange's time
        await trimming.trim([trade, late])
        assert (client.xlen if streams else client.zcard)("trades") == 1000
    assert any("RETENTION goes by" in said and "365.0 days behind" in said for said in caplog.messages) == (
        "this" in clock
    )
