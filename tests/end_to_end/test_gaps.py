"""A hundred holes of all kinds, injected into simulated runs: all are found, none is invented."""

import asyncio
import contextlib

import pytest
from comparison import compare, gaps_in
from conformance import RedisHarness
from running import Running
from servers import RedisServer
from simulated import Simulator

from collector.feeds import connection, feed
from collector.feeds.connection import Patience

pytestmark = pytest.mark.redis

SYMBOLS = {
    "COINBASE": ["BTC-USD", "ETH-USD"],
    "KRAKEN": ["BTC-USD", "ETH-USD"],
    "BINANCE": ["BTC-USDT", "ETH-USDT"],
}
HOLES = [*["reset", "skip_sequence", "stop", "close", "malformed", "reset", "kill"] * 4, "quiet", "quiet"]
#: KRAKEN's checksum is of the best levels alone: it does not tell when a change below them is lost.
UNTOLD = {("KRAKEN", "skip_sequence")}
REASONS = {
    "reset": "disconnect",
    "close": "disconnect",
    "quiet": "stale",
    "skip_sequence": "sequence",
    "malformed": "malformed",
    "stop": "stopped",
    "kill": "killed",
}


@pytest.fixture
def hasty(monkeypatch):
    patience = Patience(silence=3.0, shortest_pause=0.02, longest_pause=0.05, useful=0.0)
    monkeypatch.setattr(feed, "Patience", lambda: patience)
    monkeypatch.setattr(connection, "CEASED", 0.2)


class Holes:
    """A collector of one exchange into Redis, and what happens to it."""

    def __init__(self, folder, exchange, simulator, redis, **variables):
        self.exchange, self.simulator, self.redis = exchange, simulator, redis
        self.symbol = SYMBOLS[exchange][0]
        self.list = ["reset" if (exchange, hole) in UNTOLD else hole for hole in HOLES]
        self.harness = RedisHarness("REDISSTREAM")
        self.running = Running(
            folder,
            EXCHANGE=exchange,
            SYMBOLS=",".join(SYMBOLS[exchange]),
            CHANNELS="trades,ticker,l2_book",
            BACKEND="REDISSTREAM",
            HOST=redis.host,
            PORT=str(redis.port),
            HTTPS_PROXY=simulator.proxy,
            SSL_CERT_FILE=str(simulator.ca),
            **variables,
        )

    async def make(self, hole):
        """One hole; the gaps that were reported for it."""
        before = len(self.running.gaps)
        await self.running.more()
        assert len(self.running.gaps) == before, "there was a gap and no hole"
        if hole in ("stop", "kill"):
            await self.running.restart(hole)
        else:
            what = {"channel": "l2_book", "symbol": self.symbol} if hole == "skip_sequence" else {}
            await asyncio.to_thread(self.simulator.fault, hole, exchange=self.exchange, **what)
        due = before + len(self.affected(hole) - self.bridged(hole))
        await self.running.until(lambda: len(self.running.gaps) >= due, f"the gaps of {hole}")
        await self.running.whole()
        await self.running.collector.receiver.append()  # else a kill may take the word of this one with it
        return self.running.gaps[before:]

    def affected(self, hole):
        """The pairs that have a gap.

        Books notice by themselves whether a message that was not understood was theirs. Those of BINANCE and
        KRAKEN say what they are of, also this one; a book of BINANCE that missed something begins anew alone.
        """
        pairs = self.running.pairs
        books = {pair for pair in pairs if pair[0] == "l2_book"}
        if (self.exchange, hole) == ("BINANCE", "skip_sequence"):
            return {("l2_book", self.symbol)}
        if self.exchange != "COINBASE" and hole == "malformed":
            return {("trades", self.symbol)}
        return pairs - books if hole == "malformed" else pairs

    def bridged(self, hole):
        """The pairs that have no gap where nothing is missing: their numbers, or what is repeated, tell."""
        hidden = (self.exchange, hole) == ("COINBASE", "skip_sequence") or hole in ("reset", "close", "quiet")
        return {pair for pair in self.running.pairs if pair[0] == "trades" and hidden}

    async def compare(self):
        await asyncio.to_thread(self.simulator.pause)
        await self.running.quiet()
        records = await asyncio.to_thread(self.harness.stored, self.redis)
        log = await asyncio.to_thread(self.simulator.log)
        return records, compare(log, records, excuse_cut=False)


@pytest.mark.parametrize("exchange", SYMBOLS)
@pytest.mark.slow
async def test_a_hundred_holes_are_found_and_no_other(exchange, tmp_path, hasty):
    with contextlib.ExitStack() as stack:
        simulator = stack.enter_context(Simulator(symbols={exchange: SYMBOLS[exchange]}, rate=60))
        redis = stack.enter_context(RedisServer())
        holes = Holes(tmp_path, exchange, simulator, redis)
        async with holes.running.running():
            await holes.running.whole()
            for hole in holes.list:
                gaps = await holes.make(hole)
                found = sorted((gap.missed, gap.symbol) for gap in gaps)
                assert sorted(set(found)) == found, f"{hole}: {gaps}"
                affected = holes.affected(hole)
                assert affected - holes.bridged(hole) <= set(found) <= affected, f"{hole}: {gaps}"
                assert {gap.reason for gap in gaps} == {REASONS[hole]}, f"{hole}: {gaps}"
            await holes.running.more()
            records, comparison = await holes.compare()
            await holes.running.stop()
    assert comparison.exact, comparison
    assert comparison.matched > 500
    assert len(gaps_in(records)) == len(holes.running.gaps)
