"""A class of cryptofeed's under our supervision, on the simulator: version 1 of KRAKEN's protocol."""

import asyncio

import pytest
from comparison import compare
from recording import HASTY, lines, recording
from simulated import Simulator

from collector.feeds.connection import Patience
from collector.feeds.through_cryptofeed import network
from collector.feeds.through_cryptofeed.feed import CryptofeedAccess, CryptofeedFeed


@pytest.fixture(scope="module")
def simulator():
    with Simulator(rate=50) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def _clean(simulator, caplog):
    simulator.clear_faults()
    simulator.resume()
    caplog.set_level("INFO")


def through_cryptofeed(simulator, folder, patience=HASTY, **variables):
    def create(settings, receiver, patience):
        return CryptofeedFeed(CryptofeedAccess(settings), receiver, patience)

    asked = {"CHANNELS": "ticker,l2_book"} | variables  # it repeats trades
    return recording(simulator, folder, "KRAKEN", patience, create, **asked)


async def exact(it, since):
    """Whether everything that was sent since ``since`` entries of the log is stored once."""
    records = await it.settled()
    log = (await asyncio.to_thread(it.simulator.log))[since:]
    return compare(log, records)


async def test_everything_arrives_and_a_cut_is_a_gap(simulator, tmp_path, caplog):
    since = len(await asyncio.to_thread(simulator.log))
    async with through_cryptofeed(simulator, tmp_path, SNAPSHOT_INTERVAL="7") as it:
        await it.confirmed()
        await it.more(200)
        assert not it.receiver.gaps
        await it.fault("reset")
        await it.until(lambda: lines(caplog, "connection lost"), "a loss")
        await it.confirmed()
        await it.more(50)
        comparison = await exact(it, since)
        assert comparison.exact, comparison
        assert comparison.matched > 200
        assert {gap.reason for gap in it.receiver.gaps} == {"disconnect"}
        assert {(gap.missed, gap.symbol) for gap in it.receiver.gaps} == it.feed.subscriptions.confirmed


async def test_an_exchange_that_falls_silent_is_disconnected(simulator, tmp_path):
    async with through_cryptofeed(simulator, tmp_path, Patience(silence=1.5, shortest_pause=0.05)) as it:
        await it.confirmed()
        await it.fault("quiet")
        await it.until(lambda: it.feed.connections[0].state != "open", "the connection is given up")
        await it.confirmed()
        assert {gap.reason for gap in it.receiver.gaps} == {"stale"}


async def test_a_malformed_message_is_kept(simulator, tmp_path, caplog):
    async with through_cryptofeed(simulator, tmp_path, CHANNELS="ticker") as it:
        await it.confirmed()
        await it.fault("malformed", count=2)
        await it.until((it.settings.home / "malformed.jsonl").exists, "it is kept")
        await it.more(50)
        assert not lines(caplog, "connection lost")
        assert await it.settled()


async def test_missing_reference_data_does_not_block(simulator, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(network, "READ", 0.5)
    await asyncio.to_thread(simulator.fault, "deaf_reference", count=1)
    async with through_cryptofeed(simulator, tmp_path) as it:
        await it.confirmed()
        assert len(lines(caplog, "timed out")) == 1
