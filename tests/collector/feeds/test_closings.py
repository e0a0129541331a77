"""An exchange that announces to close a connection: the next one takes over, on real TLS websockets."""

import asyncio
import contextlib
from decimal import Decimal

import pytest
from comparison import apply_delta, compare, sides_of
from conformance import HARNESSES, deliver
from recording import lines, recording
from simulated import Simulator
from spooled import spooled

from collector.feeds import direct_connection
from collector.feeds.rest import Rest
from collector.records import L2Book

CHANNELS = {
    "BINANCE": "trades,ticker,l2_book,candles",
    "BINANCE_FUTURES": "trades,ticker,l2_book,candles,funding,index,liquidations",
    "KRAKEN": "trades,ticker,l2_book,candles",
}


@pytest.fixture(autouse=True)
def _all_lines(caplog):
    caplog.set_level("INFO")


@contextlib.asynccontextmanager
async def closing(exchange, folder):
    with Simulator(rate=50) as simulator:
        async with recording(simulator, folder, exchange, CHANNELS=CHANNELS[exchange]) as it:
            await it.confirmed()
            yield it


async def announced(it, caplog, closings, seconds=30):
    """Let the exchange announce that it closes each connection; wait until the next ones have taken over."""
    for _ in range(closings):
        await it.more(60)
        before = len(lines(caplog, "has taken over"))
        await it.fault("announce", seconds=seconds)
        due = before + len(it.feed.connections)
        await it.until(lambda due=due: len(lines(caplog, "has taken over")) >= due, "the next connections")
    await it.more(60)


async def check(it):
    """All that was sent is recorded, once and in order, without a gap; the log, and what is recorded."""
    await it.settled()
    await asyncio.sleep(direct_connection.LOOK)
    log, records = await asyncio.to_thread(it.simulator.log), await spooled(it.spool)
    comparison = compare(log, records, excuse_cut=False)
    assert comparison.exact, str(comparison)
    assert all("optional" in each or each["channel"] == "l2_book" for each in comparison.excused)
    assert not it.receiver.gaps
    return log, records


def _sides(content):
    return tuple({Decimal(price): Decimal(size) for price, size in content[side]} for side in ("bid", "ask"))


def stored(harness, records, folder):
    """What a store holds of ``records``."""
    with harness.server() as server:
        asyncio.run(deliver(harness.settings(server, folder), records))
        return harness.stored(server)


@pytest.mark.parametrize("exchange", CHANNELS)
@pytest.mark.slow
async def test_ten_closings_leave_no_hole_and_no_duplicate(exchange, tmp_path, caplog):
    async with closing(exchange, tmp_path) as it:
        await announced(it, caplog, 10)
        log, records = await check(it)
    for harness in HARNESSES:
        found = await asyncio.to_thread(stored, harness, records, tmp_path / repr(harness))
        comparison = compare(log, found, excuse_cut=False)
        assert comparison.exact, f"{harness}: {comparison}"


async def test_an_announced_closing_costs_nothing(tmp_path, caplog, monkeypatch):
    async with closing("BINANCE", tmp_path) as it:
        monkeypatch.setattr(Rest, "get", None)  # the books of the next connections are not asked for
        await announced(it, caplog, 2)
        await check(it)
        assert not lines(caplog, "connection lost")


@pytest.mark.parametrize("exchange", ["BINANCE", "BINANCE_FUTURES"])
async def test_small_books_are_handed_over(exchange, tmp_path, caplog, monkeypatch):
    """Those of BINANCE have numbers instead of times."""
    monkeypatch.setattr(direct_connection, "SETTLING", 0.5)
    with Simulator(rate=50) as simulator:
        asked = {"CHANNELS": "trades,l2_book", "MAX_DEPTH": "5"}
        async with recording(simulator, tmp_path, exchange, **asked) as it:
            await it.confirmed()
            await announced(it, caplog, 2)
            records = await it.settled()
            log = await asyncio.to_thread(it.simulator.log)
            assert not it.receiver.gaps
    assert not lines(caplog, "cannot take over")
    sent = [(each["symbol"], _sides(each["content"])) for each in log if each.get("channel") == "l2_book"]
    books = {}
    for record in records:
        if isinstance(record, L2Book):
            sides = sides_of(record)
            if record.delta:
                apply_delta(books[record.symbol], sides)
            else:
                books[record.symbol] = sides
            assert (record.symbol, books[record.symbol]) in sent


async def test_if_the_next_connection_is_refused_the_old_one_carries_on_and_then_there_is_a_gap(
    tmp_path, caplog
):
    async with closing("BINANCE", tmp_path) as it:
        await it.more(60)
        await it.fault("refuse_connection", count=15)
        await it.fault("announce", seconds=1.5)
        await it.until(lambda: lines(caplog, "connection lost"), "its end")
        assert lines(caplog, "the next connection cannot take over")
        await it.more(60)
        comparison = await it.compared()
        assert comparison.exact, comparison
        assert {gap.reason for gap in it.receiver.gaps} == {"disconnect"}
