"""A collector goes on by itself, and what was written to it is stored, whatever happens around it."""

import contextlib
import time

import pytest
from collectors import Collector
from comparison import compare, gaps_in
from conformance import RedisHarness
from servers import RedisServer
from simulated import Simulator

pytestmark = pytest.mark.redis

SYMBOLS = {
    "COINBASE": ["BTC-USD", "ETH-USD"],
    "KRAKEN": ["BTC-USD", "ETH-USD"],
    "BINANCE": ["BTC-USDT", "ETH-USDT"],
}


class Recording:
    """A simulated exchange, a collector, and the Redis that it stores into."""

    def __init__(self, folder, exchange, backend):
        self.exchange, self.harness = exchange, RedisHarness(backend)
        self.simulator = Simulator(symbols={exchange: SYMBOLS[exchange]}, rate=40)
        self.redis = RedisServer()
        self.folder, self.backend = folder, backend
        self.contexts = contextlib.ExitStack()

    def __enter__(self):
        with self.contexts as contexts:
            contexts.enter_context(self.simulator)
            contexts.enter_context(self.redis)
            self.collector = Collector(
                self.folder,
                EXCHANGE=self.exchange,
                SYMBOLS=",".join(SYMBOLS[self.exchange]),
                CHANNELS="trades,ticker,l2_book",
                BACKEND=self.backend,
                HOST=self.redis.host,
                PORT=str(self.redis.port),
                HTTPS_PROXY=self.simulator.proxy,
                SSL_CERT_FILE=str(self.simulator.ca),
            )
            contexts.enter_context(self.collector)
            self.collector.wait_until_ready()
            self.contexts = contexts.pop_all()
        return self

    def __exit__(self, *_):
        self.contexts.close()

    def wait_for_more(self, records=200):
        """Waits until that many more records have been received."""

        def received(status):
            return sum(channel.received for channel in status.channels.values())

        so_far = received(self.collector.status)
        self.collector.wait_until(lambda status: received(status) >= so_far + records)

    def compare(self):
        """Lets everything arrive, ends the collector, and compares."""
        self.simulator.pause()
        self.collector.wait_until_quiet()
        assert self.collector.stop() == 0
        lines = self.collector.lines()
        assert not [line for line in lines if "Traceback" in line]
        records = self.harness.stored(self.redis)
        self.gaps = gaps_in(records)
        return compare(self.simulator.log(), records)


def test_redis_restarted_with_its_data(tmp_path):
    with Recording(tmp_path, "KRAKEN", "REDIS") as recording:
        recording.redis.stop()
        recording.wait_for_more()
        recording.collector.wait_until(lambda status: status.state == "degraded")
        recording.redis.start()
        recording.wait_for_more()
        comparison = recording.compare()
    assert comparison.exact, comparison
    assert recording.gaps == []


def test_connections_of_redis_cut(tmp_path):
    with Recording(tmp_path, "COINBASE", "REDISSTREAM") as recording:
        for _ in range(5):
            recording.wait_for_more(50)
            with recording.redis.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
        recording.wait_for_more(50)
        comparison = recording.compare()
    assert comparison.exact, comparison
    assert recording.gaps == []


@pytest.mark.parametrize(
    ("exchange", "drop"),
    [("COINBASE", "reset"), ("KRAKEN", "close"), ("BINANCE", "reset")],
)
def test_dropped_by_the_exchange_five_times_in_a_row(tmp_path, exchange, drop):
    with Recording(tmp_path, exchange, "REDISSTREAM") as recording:
        recording.wait_for_more()
        before = time.time()
        recording.simulator.fault(drop, exchange=exchange, count=5)
        recording.collector.wait_until(lambda _: _closed(recording.simulator) >= 5)
        recording.collector.wait_until_ready()
        after = time.time()
        recording.wait_for_more()
        comparison = recording.compare()
    assert comparison.exact, comparison
    assert recording.gaps
    assert all(before - 1 < gap.start <= gap.end < after for gap in recording.gaps)


def _closed(simulator):
    return sum(entry.get("event") == "closed" for entry in simulator.log())
