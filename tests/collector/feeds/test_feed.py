"""Feeds at work on the simulator: what is in the spool is what was sent, whatever happens."""

import asyncio
import itertools
import json
import logging
import time

import pytest
from comparison import apply_delta, compare, sides_of
from recording import HASTY, lines, recording
from running import Running
from simulated import Simulator
from spooled import spooled
from waiting import PATIENCE, eventually

from collector import connection_pace
from collector.feeds import network
from collector.feeds.connection import Patience
from collector.gaps.marks import Hole
from collector.records import Trade
from collector.settings import SettingsError
from collector.times import SECOND

EXCHANGES = ("COINBASE", "KRAKEN", "BINANCE")


class SharedSimulator(Simulator):
    """One process for all tests; the log begins anew with each."""

    since = 0

    def log(self):
        return [*map(json.loads, self.lines()[self.since :])]


@pytest.fixture(scope="module")
def shared_simulator():
    with SharedSimulator(rate=50) as simulator:
        yield simulator


@pytest.fixture
def simulator(shared_simulator):
    while shared_simulator.status()["connections"]:
        time.sleep(0.02)  # those of the test before, which would take faults that are not theirs
    shared_simulator.clear_faults()
    shared_simulator.resume()
    shared_simulator.since = len(shared_simulator.lines())
    return shared_simulator


@pytest.fixture(scope="module")
def several():
    with Simulator(symbols={"KRAKEN": ["BTC-USD", "ETH-USD", "ETH-BTC"]}) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def _all_lines(caplog):
    caplog.set_level(logging.INFO)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_everything_arrives_once_with_every_digit(exchange, simulator, tmp_path):
    async with recording(simulator, tmp_path, exchange, SNAPSHOT_INTERVAL="7") as it:
        await it.confirmed()
        await it.more(400)
        records = await it.settled()
        log = await asyncio.to_thread(simulator.log)
        comparison = compare(log, records)
        assert comparison.exact, comparison
        assert comparison.matched > 300
        assert len(it.feed.subscriptions.confirmed) == 6
        assert not it.receiver.gaps
        texts = {
            text
            for entry in log
            if entry.get("channel") == "trades" and not entry["content"].get("snapshot")
            for text in (entry["content"]["price"], entry["content"]["amount"])
        }
        trades = [record for record in records if isinstance(record, Trade)]
        assert {number for it in trades for number in (it.price, it.amount)} == texts


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_cut_connections_are_restored_and_the_gap_has_its_reason(exchange, simulator, tmp_path, caplog):
    async with recording(simulator, tmp_path, exchange) as it:
        await it.confirmed()
        for times in range(1, 4):  # books wait twice as long each time
            await it.more(30)
            await it.fault("reset")
            await it.until(lambda times=times: len(lines(caplog, "connection lost")) == times, "a loss")
            await it.confirmed()
        await it.more(30)
        comparison = await it.compared()
        assert comparison.exact, comparison
        assert {gap.reason for gap in it.receiver.gaps} == {"disconnect"}
        trades = {
            key for key in it.feed.subscriptions.confirmed if key[0] == "trades"
        }  # numbers may bridge it
        missed = {(gap.missed, gap.symbol) for gap in it.receiver.gaps}
        assert missed | trades == it.feed.subscriptions.confirmed


async def test_a_clean_close_loses_nothing_and_is_not_answered_at_once(simulator, tmp_path, caplog):
    patience = Patience(shortest_pause=0.25, longest_pause=30.0)
    async with recording(simulator, tmp_path, "COINBASE", patience) as it:
        await it.confirmed()
        await it.fault("close", count=3)
        await it.until(lambda: len(lines(caplog, "connection lost")) == 3, "three losses")
        assert lines(caplog, "code 1001")  # one that still subscribes may say it otherwise
        comparison = await it.compared()
        assert comparison.exact, comparison
    log = await asyncio.to_thread(simulator.log)
    opened = [entry["time"] for entry in log if entry.get("event") == "open"]
    pauses = [after - before for before, after in itertools.pairwise(opened)]
    assert len(pauses) == 3
    assert min(pauses) >= 0.25 / 2  # cryptofeed takes 6 ms


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_exchange_that_never_answers_is_left_and_tried_again(exchange, simulator, tmp_path, caplog):
    await asyncio.to_thread(simulator.fault, "deaf", exchange=exchange, count=2)
    async with recording(simulator, tmp_path, exchange, Patience(silence=0.5, shortest_pause=0.05)) as it:
        await it.confirmed()
        assert len(lines(caplog, "nothing received for")) >= 2  # a slow machine looks deaf, too
        await it.more()
        comparison = await it.compared()
        assert comparison.exact, comparison


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_exchange_that_falls_silent_is_disconnected(exchange, simulator, tmp_path):
    async with recording(simulator, tmp_path, exchange, Patience(silence=1.5, shortest_pause=0.05)) as it:
        await it.confirmed()
        await it.more()
        await it.fault("quiet")
        await it.until(lambda: it.feed.connections[0].state != "open", "the connection is given up")
        await it.confirmed()
        await it.more()
        comparison = await it.compared()
        assert comparison.exact, comparison
        assert {gap.reason for gap in it.receiver.gaps} == {"stale"}


async def test_a_quiet_market_is_not_a_dead_connection(simulator, tmp_path, caplog):
    async with recording(simulator, tmp_path, "BINANCE", Patience(silence=2.0)) as it:
        await it.confirmed()
        await asyncio.to_thread(simulator.pause)
        await asyncio.sleep(3)
        assert await it.openings() == 1
        assert not lines(caplog, "connection lost")


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("kind", ["truncated", "shape", "nested"])
async def test_a_malformed_message_costs_only_itself(exchange, kind, simulator, tmp_path, caplog):
    async with recording(simulator, tmp_path, exchange) as it:
        await it.confirmed()
        await it.fault("malformed", kind=kind, count=5)
        file = it.settings.home / "malformed.jsonl"
        kept = await eventually(
            lambda: file.exists() and len(said := file.read_text().splitlines()) >= 5 and said,
            "five are kept",
        )
        await it.more(100)
        comparison = await it.compared()
        assert comparison.exact, comparison
        assert await it.openings() == 1
        assert len(kept) == 5
        assert json.loads(kept[0])["message"]
        assert len(lines(caplog, "could not be handled")) == 1


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_message_of_an_unknown_type_costs_nothing(exchange, simulator, tmp_path):
    async with recording(simulator, tmp_path, exchange) as it:
        await it.confirmed()
        await it.fault("unknown_type", count=3)
        await it.more(100)
        comparison = await it.compared()
        assert comparison.exact, comparison
        assert await it.openings() == 1
        assert not it.receiver.gaps
        assert not (it.settings.home / "malformed.jsonl").exists()


@pytest.mark.parametrize("exchange", ["COINBASE", "BINANCE"])
async def test_a_book_that_missed_an_update_starts_over(exchange, simulator, tmp_path):
    async with recording(simulator, tmp_path, exchange) as it:
        await it.confirmed()
        await it.more()
        await it.fault("skip_sequence", channel="l2_book")
        await it.until(lambda: any(gap.reason == "sequence" for gap in it.receiver.gaps), "a gap")
        await it.confirmed()
        await it.more()
        comparison = await it.compared()
        assert comparison.exact, comparison
        assert {gap.reason for gap in it.receiver.gaps} == {"sequence"}


async def test_a_kraken_book_starts_over_when_its_checksum_fails(simulator, tmp_path):
    """The checksum is of ten levels: of several lost changes some are noticed, but not each at once.

    Until then the removal of a level that nobody heard of may be missing in what is stored.
    """
    async with recording(simulator, tmp_path, "KRAKEN") as it:
        await it.confirmed()
        await it.more()
        await it.fault("skip_sequence", channel="l2_book", count=4)
        await it.until(lambda: any(gap.reason == "sequence" for gap in it.receiver.gaps), "a gap")
        await it.confirmed()
        await it.more()
        records, log = await it.settled(), await asyncio.to_thread(simulator.log)
        assert {gap.reason for gap in it.receiver.gaps} == {"sequence"}
        anew = [entry for entry in log if entry.get("event") == "open"][-1]
        since = [record for record in records if record.receipt_timestamp / SECOND >= anew["time"]]
        comparison = compare([entry for entry in log if entry["connection"] == anew["connection"]], since)
        assert comparison.exact, comparison
        assert comparison.matched > 40


async def test_trades_that_coinbase_left_out_come_with_the_next_snapshot(simulator, tmp_path, caplog):
    async with recording(simulator, tmp_path, "COINBASE", CHANNELS="trades") as it:
        await it.confirmed()
        await it.more(20)
        await it.fault("skip_sequence", channel="trades")
        await it.until(lambda: lines(caplog, "was due"), "a hole")
        await it.more(20)
        comparison = await it.compared()
        assert comparison.exact, comparison


@pytest.mark.parametrize(("status", "count"), [(429, 1), (503, 2)])
async def test_reference_data_is_requested_again(status, count, simulator, tmp_path, caplog):
    await asyncio.to_thread(simulator.fault, "refuse_reference", status=status, count=count)
    async with recording(simulator, tmp_path, "COINBASE") as it:
        await it.confirmed()
        assert len(lines(caplog, str(status))) == count


async def test_missing_reference_data_does_not_block(simulator, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(network, "READ", 0.5)
    await asyncio.to_thread(simulator.fault, "deaf_reference", count=1)
    async with recording(simulator, tmp_path, "KRAKEN") as it:
        await it.confirmed()
        assert len(lines(caplog, "Timeout on reading data")) == 1


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_endlessly_nested_reference_data_is_requested_again(exchange, simulator, tmp_path, caplog):
    await asyncio.to_thread(simulator.fault, "nested_reference", exchange=exchange, count=1)
    async with recording(simulator, tmp_path, exchange) as it:
        await it.confirmed()
        told = f"no listing of {exchange}: Expected `object`"
        assert len(lines(caplog, told)) == 1


@pytest.mark.parametrize("exchange", ["COINBASE", "KRAKEN"])
async def test_a_refused_subscription_is_reported_once_and_the_others_carry_on(
    exchange, simulator, tmp_path, caplog
):
    await asyncio.to_thread(
        simulator.fault, "refuse_subscription", exchange=exchange, channel="l2_book", symbol="ETH-USD"
    )
    async with recording(simulator, tmp_path, exchange) as it:
        await it.confirmed()
        assert list(it.feed.subscriptions.refused) == [("l2_book", "ETH-USD")]
        assert len(it.feed.subscriptions.confirmed) == 5
        await it.fault("reset", count=1)
        await it.until(lambda: lines(caplog, "connection lost"), "a loss")
        await it.confirmed()
        await it.until(lambda: it.feed.subscriptions.refused, "refused again")
        await it.more()
        comparison = await it.compared()
        assert comparison.exact, comparison
        assert len(lines(caplog, "refuses l2_book ETH-USD")) == 1


async def test_a_binance_subscription_without_data_is_pending(simulator, tmp_path):
    """It acknowledges whatever is asked for."""
    missing = ("l2_book", "ETH-USDT")
    await asyncio.to_thread(
        simulator.fault, "refuse_subscription", exchange="BINANCE", channel=missing[0], symbol=missing[1]
    )
    async with recording(simulator, tmp_path, "BINANCE") as it:
        subscriptions = it.feed.subscriptions
        await it.until(lambda: len(subscriptions.confirmed) == 5 and subscriptions.acknowledged, "the others")
        await it.more()
        assert set(subscriptions.pending) == subscriptions.acknowledged == {missing}
        assert not it.receiver.gaps


async def test_a_book_without_a_snapshot_does_not_affect_other_channels(simulator, tmp_path, caplog):
    async with recording(simulator, tmp_path, "BINANCE") as it:
        await it.confirmed()
        await it.fault("refuse_reference", status=503, count=3)
        await it.fault("reset")
        await it.until(lambda: lines(caplog, "no answer about l2_book"), "a snapshot is refused")
        assert "l2_book" in {channel for channel, _ in it.feed.subscriptions.pending}
        await it.more()
        await it.confirmed()
        await it.more()
        comparison = await it.compared()
        assert comparison.exact, comparison
        assert await it.openings() == 2
        assert len(lines(caplog, "answers 503")) == 3  # what waits for that meanwhile is logged, too


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_records_repeated_after_a_restart_are_stored_once(exchange, simulator, tmp_path):
    for _ in range(3):
        async with recording(simulator, tmp_path, exchange, CHANNELS="trades") as it:
            await it.confirmed()
            await asyncio.to_thread(simulator.resume)
            await it.more(20)
            records = await it.settled()
    comparison = compare(await asyncio.to_thread(simulator.log), records)
    assert comparison.exact, comparison


@pytest.mark.parametrize("exchange", ["COINBASE", "KRAKEN"])
async def test_at_the_first_start_none_of_the_past_is_stored(exchange, simulator, tmp_path):
    async with recording(simulator, tmp_path, exchange, CHANNELS="trades") as it:
        await it.confirmed()
        await it.more(20)
        records = await it.settled()
    log = [entry for entry in await asyncio.to_thread(simulator.log) if "event" not in entry]
    past = [entry for entry in log if entry["content"].get("snapshot")]
    assert past
    assert len(records) == len(log) - len(past)


async def test_a_collector_that_is_stopped_ends_at_once_and_keeps_what_it_has(simulator, tmp_path):
    async with recording(simulator, tmp_path, "BINANCE") as it:
        await it.confirmed()
        await it.more()
        await asyncio.wait_for(it.feed.stop(), PATIENCE)
        await it.receiver.drain()
        assert it.running.cancelled()
        assert len(await spooled(it.spool)) == it.received


async def test_max_depth_gives_books_of_that_depth_that_follow_from_each_other(simulator, tmp_path):
    for exchange in EXCHANGES:
        async with recording(
            simulator, tmp_path, exchange, MAX_DEPTH="5", SNAPSHOT_INTERVAL="4", CHANNELS="l2_book"
        ) as it:
            await it.confirmed()
            await it.more(100)
            _check_books(await it.settled(), depth=5)
            assert not it.receiver.gaps
            await asyncio.to_thread(simulator.resume)


def _check_books(records, depth):
    books = {}
    checked = 0
    for record in records:
        sides = sides_of(record)
        if record.delta:
            apply_delta(books[record.symbol], sides)
            assert max(map(len, books[record.symbol])) <= depth
        else:
            if record.symbol in books:
                assert books[record.symbol] == sides
                checked += 1
            books[record.symbol] = sides
    assert checked > 5


async def test_unknown_symbols_are_reported_together_with_the_nearest_names(simulator, tmp_path):
    with pytest.raises(SettingsError) as caught:
        async with recording(simulator, tmp_path, "COINBASE", SYMBOLS="BTC-USD,BTC-UDS,ethusd") as it:
            await it.running
    faults = [str(fault) for fault in caught.value.faults]
    assert len(faults) == 2
    assert "'BTC-UDS': COINBASE lists no such symbol; did you mean BTC-USD" in faults[0]
    assert "ETH-USD" in faults[1]


async def test_a_delisted_symbol_is_left_out(tmp_path, caplog):
    def listing(*symbols):
        return Simulator(rate=50, symbols={"KRAKEN": list(symbols)})

    with listing("BTC-USD", "ETH-USD") as simulator:
        async with recording(simulator, tmp_path, "KRAKEN", NAME="k") as it:
            await it.confirmed()
    with listing("BTC-USD") as simulator:
        async with recording(simulator, tmp_path, "KRAKEN", NAME="k") as it:
            await it.confirmed()
            assert len(it.feed.subscriptions.confirmed) == 3
            assert lines(caplog, "no longer lists ETH-USD")
        with pytest.raises(SettingsError, match="no longer lists any of them"):
            async with recording(simulator, tmp_path, "KRAKEN", NAME="k", SYMBOLS="ETH-USD") as it:
                await it.running


async def test_an_empty_listing_at_the_first_start_is_waited_for_and_logged(tmp_path, caplog):
    with Simulator(rate=50, symbols={"KRAKEN": ["BTC-USD"]}) as simulator:
        await asyncio.to_thread(simulator.listing, "KRAKEN", delist=["BTC-USD"])
        async with recording(simulator, tmp_path, "KRAKEN", SYMBOLS="BTC-USD") as it:
            await it.until(lambda: lines(caplog, "KRAKEN currently lists no symbols at all"), "the log line")
            assert not it.running.done()
            await asyncio.to_thread(simulator.listing, "KRAKEN", enlist=["BTC-USD"])
            await it.confirmed()


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("ALL", {"BTC-USD", "ETH-USD", "ETH-BTC"}),
        ("*-USD,!BTC-*", {"ETH-USD"}),
        ("type:spot,!*-BTC,!XRP-USD", {"BTC-USD", "ETH-USD"}),
    ],
)
async def test_patterns_select_from_what_the_exchange_lists(asked, found, several, tmp_path, caplog):
    async with recording(several, tmp_path, "KRAKEN", SYMBOLS=asked, CHANNELS="trades") as it:
        await it.confirmed()
        assert it.feed.subscriptions.confirmed == {("trades", symbol) for symbol in found}
        assert bool(lines(caplog, "!XRP-USD excludes nothing")) == ("!XRP-USD" in asked)


async def test_each_shard_has_its_own_symbols_and_an_empty_one_idles(several, tmp_path, monkeypatch):
    monkeypatch.setattr(connection_pace, "limit_of", lambda _: connection_pace.Limit(1000, 1))
    found = []
    for number in range(1, 9):
        async with recording(
            several, tmp_path, "KRAKEN", SYMBOLS="ALL", CHANNELS="trades", SHARD=f"{number}/8"
        ) as it:
            await it.until(lambda it=it: it.feed.idle or it.feed.subscriptions.confirmed)
            await it.confirmed() if not it.feed.idle else None
            found += it.feed.subscriptions.confirmed
            assert it.feed.idle is None or f"of shard {number}/8" in it.feed.idle
    assert sorted(found) == [("trades", symbol) for symbol in ("BTC-USD", "ETH-BTC", "ETH-USD")]


async def test_shards_that_begin_together_take_turns(several, tmp_path, caplog, monkeypatch):
    """Also when the exchange refuses one all the same."""
    monkeypatch.setattr(connection_pace, "limit_of", lambda _: connection_pace.Limit(1, 0.7))
    before, began = len(await asyncio.to_thread(several.log)), time.time()
    ask = {"SYMBOLS": "ALL", "CHANNELS": "trades"}
    async with (
        recording(several, tmp_path / "2", "KRAKEN", SHARD="2/3", **ask) as second,
        recording(several, tmp_path / "3", "KRAKEN", SHARD="3/3", **ask) as third,
    ):
        await second.fault("refuse_connection", status=429, count=1)
        await third.confirmed()
        await second.confirmed()
    log = (await asyncio.to_thread(several.log))[before:]
    opened = [entry["time"] - began for entry in log if entry.get("event") == "open"]
    assert len(opened) == 2
    assert min(opened) >= 0.7
    assert max(opened) >= 1.4
    assert "waiting 1.4 s for our turn: KRAKEN limits connections" in caplog.text
    assert "429" in caplog.text


async def test_patterns_that_select_nothing_end_the_collector_with_a_suggestion(several, tmp_path):
    with pytest.raises(SettingsError) as caught:
        async with recording(several, tmp_path, "KRAKEN", SYMBOLS="*-usd,type:option,*-USDT,BTC-UDS") as it:
            await it.running
    assert [(fault.value, fault.message) for fault in caught.value.faults] == [
        ("*-usd", "KRAKEN lists no symbols like that; did you mean *-USD?"),
        ("type:option", "KRAKEN lists none; it has spot"),
        ("*-USDT", "KRAKEN lists no symbols like that; did you mean ETH-USD or BTC-USD?"),
        ("BTC-UDS", "KRAKEN lists no such symbol; did you mean BTC-USD?"),
    ]
    with pytest.raises(SettingsError, match="nothing is left"):
        async with recording(several, tmp_path, "KRAKEN", SYMBOLS="*-USD,!*-USD") as it:
            await it.running


async def test_a_delisted_symbol_of_a_pattern_is_a_gap(tmp_path, caplog):
    def running(simulator):
        environment = {"EXCHANGE": "KRAKEN", "SYMBOLS": "*-USD,*-BTC", "CHANNELS": "trades", "BACKEND": "TTY"}
        ways = {"HTTPS_PROXY": simulator.proxy, "SSL_CERT_FILE": str(simulator.ca)}
        return Running(tmp_path, **environment, **ways)

    with Simulator(rate=50, symbols={"KRAKEN": ["BTC-USD", "ETH-USD", "ETH-BTC"]}) as simulator:
        async with running(simulator).running() as it:
            await it.until(lambda: len(it.collector.feed.subscriptions.confirmed) == 3, "all are seen")
            await it.more()
            await it.stop()
    with Simulator(rate=50, symbols={"KRAKEN": ["BTC-USD"]}) as simulator:
        async with running(simulator).running() as it:
            await it.until(lambda: it.collector.feed.subscriptions.confirmed, "one is seen")
            assert {gap.symbol for gap in it.gaps if gap.reason == "delisted"} == {"ETH-USD", "ETH-BTC"}
            assert lines(caplog, "no longer lists *-BTC")


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_symbols_come_and_go_without_disturbing_the_others(exchange, tmp_path, caplog):
    quote = "USDT" if exchange == "BINANCE" else "USD"
    btc, eth, sol = (f"{base}-{quote}" for base in ("BTC", "ETH", "SOL"))

    def symbols():
        assert not it.running.done()
        return {symbol for _, symbol in it.feed.subscriptions.confirmed}

    with Simulator(rate=50, symbols={exchange: [btc, eth]}) as simulator:
        variables = {"SYMBOLS": f"*-{quote}", "SYMBOLS_REFRESH": "200ms"}
        async with recording(simulator, tmp_path, exchange, **variables) as it:
            it.feed.gaps.unmarked = Hole(1.0, "corrupt")
            await it.until(lambda: symbols() == {btc, eth})
            await asyncio.to_thread(simulator.listing, exchange, enlist=[sol])
            new = {(channel, sol) for channel in it.settings.channels}
            await it.until(lambda: it.feed.gaps._seen.keys() >= new, "all of the new listing")
            assert {each.symbol for each in it.feed.gaps.questions if each.hole} == {btc, eth}
            await asyncio.to_thread(simulator.listing, exchange, delist=[eth, sol])
            await it.until(lambda: it.feed.connections[0]._unlisted == {eth, sol}, "a look at the list")
            assert symbols() == {btc, eth, sol}  # something may still come of them
            assert await it.openings() == 2  # the first was never touched
            assert not it.receiver.gaps

            await it.fault("reset")
            await it.until(lambda: symbols() == {btc} and not it.feed.subscriptions.pending, "what is left")
            await it.until(lambda: len(it.feed.connections) == 1, "the connection of the new listing ends")
            assert len(it.feed.gaps._carriers) == 1  # nothing is kept of it
            assert lines(caplog, "no longer listed")
            assert await it.openings() == 3

            await asyncio.to_thread(simulator.listing, exchange, enlist=[eth])
            back = {(channel, eth) for channel in it.settings.channels}
            await it.until(lambda: it.feed.gaps._seen.keys() >= back, "a listing that comes back")
            await it.more(100)
            comparison = await it.compared()
            assert comparison.exact, comparison
            reasons = {(gap.symbol, gap.reason) for gap in it.receiver.gaps}
            assert reasons == {(btc, "disconnect"), (eth, "delisted")}


async def test_a_list_that_has_none_of_our_symbols_is_not_believed(tmp_path, caplog):
    with Simulator(symbols={"KRAKEN": ["BTC-USD", "ETH-USD"]}) as simulator:
        async with recording(
            simulator, tmp_path, "KRAKEN", SYMBOLS="*-USD", CHANNELS="trades", SYMBOLS_REFRESH="100ms"
        ) as it:
            await it.confirmed()
            await asyncio.to_thread(
                simulator.listing, "KRAKEN", enlist=["SOL-EUR"], delist=["BTC-USD", "ETH-USD"]
            )
            await it.until(lambda: lines(caplog, "lists none of our symbols"))
            assert len(it.feed.subscriptions.confirmed) == 2


async def test_an_exchange_that_refuses_connections_is_tried_again(simulator, tmp_path, caplog):
    await asyncio.to_thread(simulator.fault, "refuse_connection", count=3)
    async with recording(simulator, tmp_path, "COINBASE", HASTY) as it:
        await it.confirmed()
        assert len(lines(caplog, "cannot connect")) == 3
        assert it.feed.connections[0].error is None


async def test_endpoint_replaces_the_address_of_the_exchange(tmp_path):
    with Simulator(ports=[0], aliases={"localhost": "KRAKEN"}, seed=7) as simulator:
        authority = f"localhost:{simulator.ports[0]}"
        moved = {
            "ENDPOINT": f"websocket=wss://{authority},rest=https://{authority}",
            "HTTPS_PROXY": "",  # nothing leads anywhere but there
        }
        async with recording(simulator, tmp_path, "KRAKEN", **moved) as it:
            await it.confirmed()
            await it.more()
            assert (await it.compared()).exact
