"""Collectors that record the same into one store: it is there once, and who leaves it out says why."""

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict

import pytest
from comparison import gaps_in
from databases import MongoHarness, PostgresHarness
from folders import ParquetHarness
from test_promise import HARNESS, Stage, hasty, stage  # noqa: F401 - fixtures

from collector import health
from collector.gaps import overlap
from collector.records import Trade

pytestmark = pytest.mark.redis

SLACK = 0.25  # seconds from what is written to its receipt
ALL = ["BTC-USD", "ETH-USD"]


@pytest.fixture(autouse=True)
def probing(monkeypatch):
    monkeypatch.setattr(overlap, "PROBE", 0.2)


def collectors(stage, *symbols, **variables):  # noqa: F811
    names = ("one", "two", "three", "four")
    variables = {"CHANNELS": "trades"} | variables
    return [
        stage.collector(name, SYMBOLS=some, **variables) for name, some in zip(names, symbols, strict=False)
    ]


def taken(collector):
    return {symbol for _, symbol in collector.collector.overlap.taken}


def stored(stage):  # noqa: F811
    return getattr(stage, "harness", HARNESS).stored(stage.redis)


async def settled(*some):
    """Waits until each stores something, or has left out all of it."""
    for each in some:
        await each.until(
            lambda each=each: each.collector.overlap._known and not each.collector.overlap.undecided,
            "it is decided",
        )


async def whole_story(stage, *some):  # noqa: F811
    """Every trade that was sent is stored once or lies in a gap; the gaps."""
    await asyncio.to_thread(stage.simulator.pause)
    for each in some:
        await each.quiet()
    records = await asyncio.to_thread(stored, stage)
    found = defaultdict(list)
    for it in records:
        if isinstance(it, Trade):
            found[it.symbol, it.id].append(it.receipt_timestamp)
    twice = {trade: sorted(receipts) for trade, receipts in found.items() if len(receipts) > 1}
    assert not twice, f"{len(twice)} of {len(found)} twice"
    gaps = gaps_in(records)
    by_symbol = {
        symbol: [gap for gap in gaps if gap.symbol == symbol and gap.missed == "trades"] for symbol in ALL
    }
    there = set(found)
    lost = [
        entry
        for entry in await asyncio.to_thread(stage.simulator.records, channel="trades")
        if (entry["symbol"], entry["content"]["id"]) not in there
        and not entry["content"].get("snapshot")  # sent before already, or before anybody was there
        and not any(
            gap.start - SLACK <= entry["time"] <= gap.end + SLACK for gap in by_symbol[entry["symbol"]]
        )
    ]
    assert not lost, (len(lost), lost[:3], gaps)
    return gaps


async def test_the_later_of_two_leaves_out_what_the_first_stores(stage):  # noqa: F811
    one, two = collectors(stage, "BTC-USD,ETH-USD", "BTC-USD")
    async with one.running():
        await one.more()
        await settled(one)
        async with two.running():
            await two.until(lambda: taken(two) == {"BTC-USD"}, "it is left out")
            await one.more(60)
            state, detail = two.collector._judge()
            assert state == "degraded"
            assert "trades BTC-USD: collector one (process" in detail
            assert await whole_story(stage, one, two) == []
            assert not taken(one)
            await two.stop()
        await one.stop()


class Elsewhere(Stage):
    """A simulated exchange, and another store than Redis."""

    def __init__(self, folder, harness):
        super().__init__(folder)
        self.harness, self.redis = harness, harness.server()

    @property
    def store(self):
        read = self.harness.settings(self.redis, self.folder)
        if read.backend == "PARQUET":
            return {"BACKEND": read.backend, "PARQUET_DIR": str(read.parquet_dir)}
        if read.url:
            return {"BACKEND": read.backend, "URL": read.url.text}
        address = {"HOST": read.host, "PORT": str(read.port), "DATABASE": read.database}
        return {"BACKEND": read.backend, **address}


@pytest.mark.parametrize("harness", [PostgresHarness(), MongoHarness(), ParquetHarness()], ids=repr)
async def test_ceding_and_taking_over_work_in_every_store(tmp_path, harness, monkeypatch):
    harness.hurry(monkeypatch)
    elsewhere = Elsewhere(tmp_path, harness)
    with elsewhere.simulator, elsewhere.redis:
        one, two = collectors(elsewhere, "BTC-USD", "BTC-USD,ETH-USD")
        async with one.running():
            await one.more()
            await settled(one)
            async with two.running():
                await two.until(lambda: taken(two) == {"BTC-USD"}, "it is left out")
                await two.more()
                await one.stop()
                await two.until(
                    lambda: not taken(two) and not two.collector.overlap.undecided, "it takes over"
                )
                await two.until(lambda: not two.collector.feed.gaps.questions, "the gap is on record")
                await two.more(60)
                gaps = await whole_story(elsewhere, two)
                assert {(gap.symbol, gap.missed) for gap in gaps} == {("BTC-USD", "trades")}
                await two.stop()


async def test_allow_overlap_stores_a_pair_twice(stage):  # noqa: F811
    one, two = collectors(stage, "BTC-USD", "BTC-USD")
    two = stage.collector("two", SYMBOLS="BTC-USD", CHANNELS="trades", ALLOW_OVERLAP="yes")
    async with one.running(), two.running():
        await one.more()
        await two.more()
        await asyncio.to_thread(stage.simulator.pause)
        await one.quiet()
        await two.quiet()
        found = [it.id for it in await asyncio.to_thread(stored, stage) if isinstance(it, Trade)]
        assert len(found) > len(set(found))
        assert not taken(one)
        assert not taken(two)
        await one.stop()
        await two.stop()


async def test_of_two_collectors_started_at_once_only_one_stores(stage):  # noqa: F811
    some = collectors(stage, "BTC-USD,ETH-USD", "BTC-USD,ETH-USD", "BTC-USD", "ETH-USD")
    async with contextlib.AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(each.running()) for each in some))
        await settled(*some)
        await some[0].more(60)
        gaps = await whole_story(stage, *some)
        assert {gap.reason for gap in gaps} <= {"overlap"}
        assert all(0 < gap.end - gap.start <= overlap.SKEW + 1e-5 for gap in gaps)  # times are rounded
        assert (
            sorted(itertools.chain(*(set(ALL) & set(it.settings.symbols) - taken(it) for it in some))) == ALL
        )


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_ceded_pair_is_taken_over_when_the_first_collector_ends(stage, end, monkeypatch):  # noqa: F811
    monkeypatch.setattr("collector.stores.GONE", 3.0)
    monkeypatch.setattr("collector.lease.BEAT", 0.5)
    one, two = collectors(stage, "BTC-USD", "BTC-USD,ETH-USD", CHANNELS="trades,l2_book")
    async with one.running():
        await one.more()
        await settled(one)
        async with two.running():
            await two.until(lambda: taken(two) == {"BTC-USD"}, "it is left out")
            await two.more()
            if end == "kill":
                one.collector.writer._lease._expected = None  # it says no farewell
            ending = time.time()
            await getattr(one, end)()
            ended = time.time()  # the other may have taken over by now
            await two.until(lambda: not taken(two) and not two.collector.overlap.undecided, "it takes over")
            await two.until(lambda: not two.collector.feed.gaps.questions, "it is clear what nobody stored")
            await two.more(60)
            gaps = await whole_story(stage, two)
            assert {(gap.symbol, gap.missed) for gap in gaps} == {
                ("BTC-USD", "trades"), ("BTC-USD", "l2_book"),
            }  # fmt: skip
            assert all(gap.start <= ended and ending <= gap.end < ended + 8 for gap in gaps), (ended, gaps)
            assert two.collector._judge()[0] == "ready"
            await two.stop()


async def test_a_listing_that_grows_into_an_overlap(stage):  # noqa: F811
    await asyncio.to_thread(stage.simulator.listing, "COINBASE", delist=["ETH-USD"])
    one = stage.collector("one", SYMBOLS="*-USD", CHANNELS="trades", SYMBOLS_REFRESH="1")
    await asyncio.to_thread(stage.simulator.listing, "COINBASE", enlist=["SOL-EUR"])
    two = stage.collector("two", SYMBOLS="SOL-EUR,E*-USD", CHANNELS="trades", SYMBOLS_REFRESH="1")
    async with one.running(), contextlib.AsyncExitStack() as stack:
        await one.more()
        await asyncio.to_thread(stage.simulator.listing, "COINBASE", enlist=["ETH-USD"])
        await stack.enter_async_context(two.running())
        keys = {("trades", "ETH-USD")}
        await one.until(lambda: keys <= one.collector.overlap._known, "the first knows of it")
        await two.until(lambda: keys <= two.collector.overlap._known, "the second knows of it")
        await settled(one, two)
        await one.more(60)
        await whole_story(stage, one, two)
        assert sorted(taken(one) | taken(two)) == ["ETH-USD"]
        assert not taken(one) or not taken(two)


async def test_a_store_may_be_unreachable_at_the_start(stage):  # noqa: F811
    one, two = collectors(stage, "BTC-USD", "BTC-USD,ETH-USD")
    await asyncio.to_thread(stage.redis.stop)
    async with one.running(), two.running():
        await one.more()
        await two.more()
        await asyncio.to_thread(stage.redis.start)
        await settled(one, two)
        await two.more(60)
        await whole_story(stage, one, two)
        assert len(taken(one) | taken(two)) == 1


async def test_another_number_of_shards_beside_the_first(stage):  # noqa: F811
    """Three shards run; of eight each takes what is left as soon as they end."""
    first = [stage.collector(f"of-3-{n}", CHANNELS="trades", SHARD=f"{n}/3") for n in (1, 2, 3)]
    second = [stage.collector(f"of-8-{n}", CHANNELS="trades", SHARD=f"{n}/8") for n in range(1, 9)]
    takers = [it for it in second if any(map(it.settings.takes, ALL))]
    async with contextlib.AsyncExitStack() as stack:
        for each in first:
            await stack.enter_async_context(each.running())
        holders = [it for it in first if any(map(it.settings.takes, ALL))]
        for each in holders:
            await each.more(10)
        for each in takers:
            await stack.enter_async_context(each.running())
        for each in takers:
            await each.until(lambda each=each: taken(each), "it waits")
        for each in first:
            await each.stop()
        for each in takers:
            await each.until(lambda each=each: not taken(each), "it takes over")
        await settled(*takers)
        for each in takers:
            await each.until(lambda each=each: not each.collector.feed.gaps.questions, "gaps are on record")
            await each.more(20)
        gaps = await whole_story(stage, *takers)
        assert sorted(gap.symbol for gap in gaps) == ALL


async def test_a_collector_with_nothing_left_to_store_ends_and_names_the_other(stage, monkeypatch):  # noqa: F811
    monkeypatch.setattr(overlap, "HANDOVER", 0.5)
    one, two = collectors(stage, "BTC-USD,ETH-USD", "ETH-USD")
    async with one.running():
        await one.more()
        await settled(one)
        await two.start()
        assert await two.task == 78
        await two.spool.close()
        detail = health.read(two.home).detail
        await one.stop()
    assert "collector one (process" in detail
    assert "ALLOW_OVERLAP=true" in detail


async def test_a_note_without_claims_counts_for_nothing(stage):  # noqa: F811
    """An earlier version leaves such a note."""
    (one,) = collectors(stage, "BTC-USD")
    old = stage.collector("old", SYMBOLS="BTC-USD", CHANNELS="trades", ALLOW_OVERLAP="yes")
    async with old.running(), one.running():
        await one.more()
        await settled(one)
        assert not taken(one)
        await one.stop()
        await old.stop()
