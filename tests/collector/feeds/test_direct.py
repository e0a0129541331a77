"""What goes wrong on an exchange that we speak to ourselves costs itself, and is told: played by a script."""

import asyncio
import contextlib
import json

import msgspec
import pytest
from recording import lines, recording, settings
from scripted import SCRIPTS, Script, ScriptedExchange
from spooled import spooled
from streams import in_seconds

from collector import receiver
from collector.exchanges.binance.exchange import BinanceFutures
from collector.feeds import renewals
from collector.feeds.direct import DirectAccess
from collector.feeds.http import AnswerError
from collector.records import channel_of
from collector.times import SECOND, nanoseconds

BTC = "BTC-USDT-PERP"
ORIGIN = 1_790_000_000


@pytest.fixture(autouse=True)
def _all_lines(caplog):
    caplog.set_level("INFO")


@contextlib.asynccontextmanager
async def playing(exchange, script, folder, **variables):
    """A script, after the listing of the exchange's own, and a recording of it."""
    own = (SCRIPTS / f"{exchange}.jsonl").read_text().splitlines()
    books = "?symbol=", "/market/books?"
    listing = [line for line in own if line.startswith('{"get"') and not any(each in line for each in books)]
    text = "\n".join([*listing, *map(json.dumps, script)])
    with ScriptedExchange(Script(text, ORIGIN)) as played:
        async with recording(played, folder, exchange, **{"SYMBOLS": BTC, **variables}) as it:
            yield played, it
            await asyncio.to_thread(played.wait)


async def received(it, count, channel):
    """Waits for so many records of a channel; all that there are."""
    await it.until(lambda: it.metrics.received[channel] >= count, f"{count} records of {channel}")
    await it.receiver.drain()
    return [in_seconds(record) for record in await spooled(it.spool) if channel_of(record) == channel]


# -- a listing of several addresses ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 404])
async def test_a_family_of_options_that_a_region_lacks_costs_no_other_list(status, tmp_path):
    lines = [json.loads(line) for line in (SCRIPTS / "OKX.jsonl").read_text().splitlines() if '"get"' in line]
    lacking = {"status": status, "body": {"code": "51000", "msg": "Parameter instFamily error", "data": []}}
    listing = [line | (lacking if "_UM" in line["get"] else {}) for line in lines]
    with ScriptedExchange(Script("\n".join(map(json.dumps, listing)), ORIGIN)) as played:
        access = DirectAccess(settings(played, tmp_path, "OKX", SYMBOLS=BTC))
        try:
            assert BTC in (await access.listed()).instruments
        finally:
            await access.close()


@pytest.mark.parametrize(
    ("status", "of", "code"),
    [(400, "instType=SWAP", "51000"), (503, "_UM", "51000"), (400, "_UM", "50000"), (404, "_UM", None)],
)
async def test_a_list_that_is_refused_otherwise_is_requested_again(status, of, code, tmp_path):
    lines = [json.loads(line) for line in (SCRIPTS / "OKX.jsonl").read_text().splitlines() if '"get"' in line]
    refusal = {"status": status, "body": {"code": code, "data": []} if code else "<html>Not Found</html>"}
    listing = [line | (refusal if of in line["get"] else {}) for line in lines]
    with ScriptedExchange(Script("\n".join(map(json.dumps, listing)), ORIGIN)) as played:
        access = DirectAccess(settings(played, tmp_path, "OKX", SYMBOLS=BTC))
        try:
            with pytest.raises(AnswerError, match=str(status)):
                await access.listed()
        finally:
            await access.close()


# -- OKX -----------------------------------------------------------------------------------------------

OKX = "wss://ws.okx.com:443/ws/v5"
ARGUMENT = {"channel": "trades-all", "instId": "BTC-USDT-SWAP"}
SUBSCRIBE = [
    {"connect": f"{OKX}/business"},
    {"whenever": "ping", "send": "pong"},
    {"expect": {"id": "1", "op": "subscribe", "args": [ARGUMENT]}},
    {"send": {"id": "1", "event": "subscribe", "arg": ARGUMENT, "connId": "a4d3ae55"}},
]


def okx_trade(number, at):
    it = {"instId": "BTC-USDT-SWAP", "tradeId": str(number), "px": "1", "sz": "2", "side": "buy"}
    return {"send": {"arg": ARGUMENT, "data": [it | {"ts": f"{ORIGIN + at}000", "source": "0"}]}}


LATER = 10**9  # seconds: after the subscription, whenever the test runs


async def test_trades_repeated_after_a_reconnect_are_stored_once(tmp_path):
    script = [
        *SUBSCRIBE,
        okx_trade(1, -5),
        okx_trade(2, LATER),
        okx_trade(3, LATER + 1),
        okx_trade(3, LATER + 1),
        {"until": "cut"},
        {"cut": True},
        *SUBSCRIBE,
        okx_trade(2, LATER),
        okx_trade(3, LATER + 1),
        okx_trade(4, LATER + 2),
        okx_trade(6, LATER + 4),
        okx_trade(5, LATER + 3),
    ]
    async with playing("OKX", script, tmp_path, CHANNELS="trades") as (played, it):
        await received(it, 2, "trades")
        played.go("cut")
        trades = await received(it, 5, "trades")
    assert [trade.id for trade in trades] == ["2", "3", "4", "6", "5"]
    assert not it.receiver.gaps


async def test_records_of_two_connections_before_an_announced_closing_are_stored_once(tmp_path, caplog):
    notice = {"event": "notice", "code": "64008", "msg": "The connection will soon be closed", "connId": "a4"}
    script = [
        *SUBSCRIBE,
        okx_trade(2, LATER),
        {"send": notice},
        {"until": "open"},
        okx_trade(3, LATER + 1),
        *SUBSCRIBE,
        okx_trade(3, LATER + 1),
        okx_trade(4, LATER + 2),
        {"until": "over"},
        okx_trade(5, LATER + 3),
    ]
    async with playing("OKX", script, tmp_path, CHANNELS="trades") as (played, it):
        await it.until(lambda: lines(caplog, "opening the next connection"), "the notice")
        (connection,) = it.feed.connections
        await it.until(
            lambda: connection._next and connection._next.link.handled, "an answer to the next connection"
        )
        played.go("open")
        await it.until(lambda: lines(caplog, "has taken over"), "the next connection")
        played.go("over")
        trades = await received(it, 4, "trades")
    assert [trade.id for trade in trades] == ["2", "3", "4", "5"]
    assert not it.receiver.gaps
    assert not lines(caplog, "connection lost")


def rounded(*receipts):
    """Receipts in microseconds, as gap records have them."""
    return tuple(round(nanoseconds(receipt), -3) / SECOND for receipt in receipts)


async def test_a_missing_trade_is_a_gap(tmp_path):
    script = [*SUBSCRIBE, okx_trade(2, LATER), okx_trade(5, LATER + 1)]
    async with playing("OKX", script, tmp_path, CHANNELS="trades") as (_, it):
        first, second = await received(it, 2, "trades")
        await it.until(lambda: it.receiver.gaps, "a gap")
    (gap,) = it.receiver.gaps
    assert (gap.missed, gap.symbol, gap.reason, gap.count) == ("trades", BTC, "sequence", 2)
    assert (gap.start, gap.end) == rounded(first.receipt_timestamp, second.receipt_timestamp)


async def test_a_trade_still_awaited_when_the_collector_stops_is_a_gap(tmp_path):
    script = [*SUBSCRIBE, okx_trade(2, LATER), okx_trade(5, LATER + 1)]
    async with playing("OKX", script, tmp_path, CHANNELS="trades") as (_, it):
        await received(it, 2, "trades")
        await it.feed.stop()
    assert [(gap.missed, gap.reason, gap.count) for gap in it.receiver.gaps] == [("trades", "sequence", 2)]


async def test_an_unreadable_message_is_kept_and_marks_what_it_concerns(tmp_path):
    index = {"channel": "index-tickers", "instId": "BTC-USDT"}
    script = [
        {"connect": f"{OKX}/public"},
        {"whenever": "ping", "send": "pong"},
        {"expect": {"id": "1", "op": "subscribe", "args": [index]}},
        {"send": {"arg": index, "data": [{"idxPx": "5", "ts": "1790000000000"}]}},
        {"send": {"arg": index, "data": [{"idxPx": "NaN", "ts": "1790000001000"}]}},
        {"send": {"arg": index, "data": [{"idxPx": "6", "ts": "1790000002000"}]}},
        {"send": {"arg": index, "data": [{"idxPx": "6", "ts": "1790000002000"}]}},
        *SUBSCRIBE,
        okx_trade(2, LATER),
    ]
    async with playing("OKX", script, tmp_path, CHANNELS="trades,index") as (_, it):
        await received(it, 1, "trades")
        indices = await received(it, 2, "index")
        await it.until(lambda: it.receiver.gaps, "a gap")
        kept = (it.settings.home / "malformed.jsonl").read_text()
    assert [f"{record.price}" for record in indices] == ["5", "6"]
    assert [(gap.missed, gap.reason) for gap in it.receiver.gaps] == [("index", "malformed")]
    assert "'NaN' is not a number" in kept


def okx_public(*channels):
    arguments = {
        "index": {"channel": "index-tickers", "instId": "BTC-USDT"},
        "open_interest": {"channel": "open-interest", "instId": "BTC-USDT-SWAP"},
    }
    asked = [arguments[channel] for channel in channels]
    return [
        {"connect": f"{OKX}/public"},
        {"whenever": "ping", "send": "pong"},
        {"expect": {"id": "1", "op": "subscribe", "args": asked}},
        *({"send": {"id": "1", "event": "subscribe", "arg": each, "connId": "a4d3ae55"}} for each in asked),
    ]


async def test_best_prices_repeated_by_a_new_subscription_are_stored_once(tmp_path):
    argument = {"channel": "bbo-tbt", "instId": "BTC-USDT-SWAP"}

    def quote(number, bid):
        fields = {"asks": [["9", "1", "0", "1"]], "bids": [[bid, "1", "0", "1"]]}
        return {
            "send": {"arg": argument, "data": [fields | {"ts": f"179000000{number}000", "seqId": number}]}
        }

    connect = [
        {"connect": f"{OKX}/public"},
        {"whenever": "ping", "send": "pong"},
        {"expect": {"id": "1", "op": "subscribe", "args": [argument]}},
    ]
    script = [
        *connect,
        quote(1, "1"),
        quote(2, "2"),
        {"until": "cut"},
        {"cut": True},
        *connect,
        quote(2, "2"),
        quote(3, "2"),
        quote(4, "1"),
    ]
    async with playing("OKX", script, tmp_path, CHANNELS="ticker,l1_book") as (played, it):
        await received(it, 2, "ticker")
        played.go("cut")
        tickers = await received(it, 4, "ticker")
        books = await received(it, 4, "l1_book")
    assert [f"{record.timestamp - 1_790_000_000:.0f}" for record in tickers] == ["1", "2", "3", "4"]
    assert [record.timestamp for record in books] == [record.timestamp for record in tickers]
    assert {gap.reason for gap in it.receiver.gaps} == {"disconnect"}


@pytest.mark.parametrize("recalled", [receiver.MOST_RECALLED, 0], ids=["spool", "marks"])
async def test_the_first_state_of_a_subscription_is_stored_once_across_a_restart(
    tmp_path, monkeypatch, recalled
):
    monkeypatch.setattr(receiver, "MOST_RECALLED", recalled)
    best, rate = ({"channel": channel, "instId": "BTC-USDT-SWAP"} for channel in ("bbo-tbt", "funding-rate"))

    def states(*numbers):
        for number in numbers:
            at = {"ts": f"179000000{number}000"}
            quote = {"asks": [["9", "1", "0", "1"]], "bids": [["1", "1", "0", "1"]], "seqId": number} | at
            funding = {"fundingRate": "0.1", "fundingTime": "1790003600000", "nextFundingRate": ""} | at
            yield {"send": {"arg": best, "data": [quote]}}
            yield {"send": {"arg": rate, "data": [funding]}}

    connect = [
        {"connect": f"{OKX}/public"},
        {"whenever": "ping", "send": "pong"},
        {"expect": {"id": "1", "op": "subscribe", "args": [best, rate]}},
    ]
    for numbers, count in (((1, 2), 2), ((2, 3), 1), ((3, 3, 4), 1)):
        script = [*connect, *states(*numbers)]
        async with playing("OKX", script, tmp_path, CHANNELS="ticker,l1_book,funding") as (_, it):
            stored = [await received(it, count, channel) for channel in ("ticker", "l1_book", "funding")]
    for records in stored:
        assert [f"{record.timestamp:.0f}"[-1] for record in records] == ["1", "2", "3", "4"]


async def test_data_of_a_dropped_subscription_is_ignored(tmp_path):
    """It may be listed again, and come on another one."""
    interest = {"instId": "BTC-USDT-SWAP", "instType": "SWAP", "oi": "1", "oiCcy": "2", "oiUsd": "3"}

    def open_interest(at):
        argument = {"channel": "open-interest", "instId": "BTC-USDT-SWAP"}
        return {"send": {"arg": argument, "data": [interest | {"ts": f"179000000{at}000"}]}}

    index = {"channel": "index-tickers", "instId": "BTC-USDT"}
    script = [
        *okx_public("index", "open_interest"),
        open_interest(0),
        {"until": "left out"},
        {"send": {"arg": index, "data": [{"idxPx": "5", "ts": "1790000000000"}]}},
        open_interest(1),
    ]
    async with playing("OKX", script, tmp_path, CHANNELS="index,open_interest") as (played, it):
        await received(it, 1, "open_interest")
        (connection,) = it.feed.connections
        connection.look({BTC})
        assert connection.keys == [("open_interest", BTC)]
        played.go("left out")
        await received(it, 2, "open_interest")
        assert not await received(it, 0, "index")


async def test_a_connection_that_carries_nothing_any_more_is_closed(tmp_path, caplog):
    async with playing("OKX", okx_public("index"), tmp_path, CHANNELS="index") as (_, it):
        await it.until(lambda: it.feed.subscriptions.acknowledged, "an acknowledgement")
        (connection,) = it.feed.connections
        connection.look({BTC})
        await it.until(lambda: lines(caplog, "no subscriptions are left"), "its end")


async def test_a_book_that_does_not_begin_again_costs_the_connection(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(renewals, "RENEWAL", 1.5)
    argument = {"channel": "books", "instId": "BTC-USDT-SWAP"}

    def book(action, before, number):
        fields = {"asks": [], "bids": [["1", "2", "0", "1"]], "ts": "1790000000000"}
        fields |= {"prevSeqId": before, "seqId": number}
        return {"send": {"arg": argument, "action": action, "data": [fields]}}

    connect = [
        {"connect": f"{OKX}/public"},
        {"whenever": "ping", "send": "pong"},
        {"expect": {"id": "1", "op": "subscribe", "args": [argument]}},
        book("snapshot", -1, 5),
    ]
    script = [
        *connect,
        book("update", 7, 8),
        {"expect": {"op": "unsubscribe", "args": [argument]}},
        {"expect": {"op": "subscribe", "args": [argument]}},
        *connect,
    ]
    async with playing("OKX", script, tmp_path, CHANNELS="l2_book") as (_, it):
        first, second = await received(it, 2, "l2_book")
        await it.until(lambda: it.receiver.gaps, "a gap")
    (gap,) = it.receiver.gaps
    assert (gap.start, gap.end) == rounded(first.receipt_timestamp, second.receipt_timestamp)
    assert lines(caplog, f"l2_book {BTC}: no data within")


async def test_a_book_whose_stream_has_no_snapshot_begins_with_one_by_rest(tmp_path):
    """As docs-v5/log_en of 2026-02-12 describes it; the second change has what the answer has."""
    argument = {"channel": "books", "instId": "BTC-USDT-SWAP"}
    address = "https://www.okx.com/api/v5/market/books?instId=BTC-USDT-SWAP&sz=400&source=0"

    def book(number, before, at):
        fields = {"asks": [], "bids": [[str(number), "1", "0", "1"]], "ts": f"{ORIGIN + at}000"}
        fields |= {"checksum": 0, "seqId": number, "prevSeqId": before}
        return {"send": {"arg": argument, "action": "update", "data": [fields]}}

    snapshot = {"asks": [["90", "2", "0", "1"]], "bids": [["25", "1", "0", "3"]], "ts": f"{ORIGIN + 2}000"}
    script = [
        {"get": address, "body": {"code": "0", "msg": "", "data": [snapshot | {"seqId": 25}]}},
        {"connect": f"{OKX}/public"},
        {"whenever": "ping", "send": "pong"},
        {"expect": {"id": "1", "op": "subscribe", "args": [argument]}},
        {"send": {"id": "1", "event": "subscribe", "arg": argument, "connId": "a4d3ae55"}},
        book(10, 7, 1),
        book(25, 10, 2),
        book(31, 25, 3),
        {"until": "joined"},
        book(40, 31, 4),
    ]
    async with playing("OKX", script, tmp_path, CHANNELS="l2_book") as (played, it):
        await received(it, 2, "l2_book")
        played.go("joined")
        books = await received(it, 3, "l2_book")
        assert sum("market/books" in asked for asked, _ in played.asked) == 1
    assert [(each.timestamp - ORIGIN, each.delta, each.bid, each.ask) for each in books] == [
        (2, False, [("25", "1")], [("90", "2")]),
        (3, True, [("31", "1")], []),
        (4, True, [("40", "1")], []),
    ]
    assert not it.receiver.gaps


async def test_a_book_that_the_exchange_reports_as_unchanged_is_not_silent(tmp_path):
    argument = {"channel": "books", "instId": "BTC-USDT-SWAP"}

    def book(action, before, *bids):
        fields = {"asks": [], "bids": list(bids), "ts": "1790000000000", "prevSeqId": before, "seqId": 5}
        return {"send": {"arg": argument, "action": action, "data": [fields]}}

    script = [
        {"connect": f"{OKX}/public"},
        {"whenever": "ping", "send": "pong"},
        {"expect": {"id": "1", "op": "subscribe", "args": [argument]}},
        book("snapshot", -1, ["1", "2", "0", "1"]),
        {"until": "quiet"},
        book("update", 5),
    ]
    async with playing("OKX", script, tmp_path, CHANNELS="l2_book") as (played, it):
        await received(it, 1, "l2_book")
        awaited = it.feed.subscriptions.awaited["l2_book"]
        awaited.add(BTC)  # as it is looked for, after a while
        played.go("quiet")
        await it.until(lambda: not awaited, "a sign of life")
    assert not it.receiver.gaps


# -- BYBIT ---------------------------------------------------------------------------------------------


async def test_a_refused_topic_is_reported_and_the_others_carry_on(tmp_path, caplog):
    trades, bad = "publicTrade.BTCUSDT", "allLiquidation.BTCUSDT"
    trade = {"T": 1, "s": "BTCUSDT", "S": "Sell", "v": "1", "p": "2", "L": "x", "i": "ab-c", "BT": False}
    script = [
        {"connect": "wss://stream.bybit.com/v5/public/linear"},
        {"whenever": {"op": "ping"}, "send": {"success": True, "ret_msg": "pong", "op": "ping"}},
        {"expect": {"req_id": "1", "op": "subscribe", "args": [trades, bad]}},
        {
            "send": {
                "success": False,
                "ret_msg": f"handler not found,topic:{bad}",
                "req_id": "1",
                "op": "subscribe",
            }
        },
        {"expect": {"req_id": "2", "op": "subscribe", "args": [trades]}},
        {"send": {"success": True, "ret_msg": "", "req_id": "2", "op": "subscribe"}},
        {"send": {"topic": trades, "type": "snapshot", "ts": 1, "data": [trade]}},
        {"send": {"topic": trades, "type": "snapshot", "ts": 1, "data": [trade]}},
    ]
    async with playing("BYBIT", script, tmp_path, CHANNELS="trades,liquidations") as (_, it):
        trades = await received(it, 1, "trades")
        assert it.feed.subscriptions.refused.keys() == {("liquidations", BTC)}
        assert it.feed.subscriptions.confirmed == {("trades", BTC)}
    assert [trade.id for trade in trades] == ["ab-c"]
    assert lines(caplog, f"the exchange refuses liquidations {BTC}: handler not found")


# -- BINANCE_FUTURES -----------------------------------------------------------------------------------

FUTURES = "wss://fstream.binance.com"


async def test_an_acknowledged_subscription_without_data_is_pending_or_silent(tmp_path):
    names = ["btcusdt@aggTrade", "btcusdt@markPrice@1s"]
    script = [
        {"connect": f"{FUTURES}/market/stream?streams={names[0]}"},
        {"expect": {"method": "SUBSCRIBE", "params": names, "id": 1}},
        {"send": {"result": None, "id": 1}},
    ]
    async with playing("BINANCE_FUTURES", script, tmp_path, CHANNELS="trades,funding") as (_, it):
        subscriptions = it.feed.subscriptions
        await it.until(lambda: subscriptions.acknowledged, "an acknowledgement")
        assert set(subscriptions.pending) == subscriptions.acknowledged == {("funding", BTC)}
        assert subscriptions.silent == [("trades", BTC)]
    assert not it.receiver.gaps


async def test_a_failed_poll_delays_no_other(tmp_path, caplog):
    address = "https://fapi.binance.com/fapi/v1/openInterest?symbol=BTCUSDT"
    name = "btcusdt@aggTrade"
    trade = {
        "e": "aggTrade",
        "E": 1,
        "a": 7,
        "s": "BTCUSDT",
        "p": "1",
        "q": "2",
        "f": 1,
        "l": 1,
        "T": 1,
        "m": True,
    }
    script = [
        {"get": address, "status": 503, "body": {}},
        {"get": address, "body": {"openInterest": "10659.509", "symbol": "BTCUSDT", "time": 1}},
        {"connect": f"{FUTURES}/market/stream?streams={name}"},
        {"expect": {"method": "SUBSCRIBE", "params": [name], "id": 1}},
        {"send": {"stream": name, "data": trade}},
    ]
    async with playing("BINANCE_FUTURES", script, tmp_path, CHANNELS="trades,open_interest") as (played, it):
        await received(it, 1, "trades")
        (record,) = await received(it, 1, "open_interest")
        assert len([url for url, _ in played.asked if "openInterest" in url]) == 2
        assert not lines(caplog, "connection lost")
    assert f"{record.open_interest}" == "10659.509"
    assert lines(caplog, f"no open_interest of {BTC}: AnswerError: status 503")


async def test_an_unexpected_failure_of_a_poll_costs_only_itself_and_is_logged(tmp_path, monkeypatch, caplog):
    address = "https://fapi.binance.com/fapi/v1/openInterest?symbol="
    answer = {"openInterest": "10659.509", "time": 1}
    script = [
        {"get": address + symbol, "body": answer | {"symbol": symbol}}
        for symbol in ("BTCUSDT", "XAUUSDT", "BTCUSDT")
    ]
    asked = []
    read = BinanceFutures.read_poll

    def fail_once(self, subscription, *answer):
        asked.append(subscription.symbol)
        if subscription.symbol == BTC and asked.count(BTC) == 1:
            raise ZeroDivisionError("what nobody thought of")
        return read(self, subscription, *answer)

    monkeypatch.setattr(BinanceFutures, "read_poll", fail_once)
    often = msgspec.structs.replace(BinanceFutures.channels["open_interest"], period=2.0)
    monkeypatch.setitem(BinanceFutures.channels, "open_interest", often)
    both = {"CHANNELS": "open_interest", "SYMBOLS": f"{BTC},XAU-USDT-PERP"}
    async with playing("BINANCE_FUTURES", script, tmp_path, **both) as (_, it):
        records = await received(it, 2, "open_interest")
    assert {record.symbol for record in records} == {BTC, "XAU-USDT-PERP"}
    assert lines(caplog, f"no open_interest of {BTC}: ZeroDivisionError: what nobody thought of; again in")
    assert not lines(caplog, "ExceptionGroup")


async def test_a_snapshot_that_is_refused_for_a_time_is_waited_for(tmp_path, caplog):
    name, depth = "btcusdt@depth@100ms", "https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
    update = {
        "e": "depthUpdate", "E": 9, "T": 9, "s": "BTCUSDT", "U": 11, "u": 12, "pu": 10,
        "b": [["1.0", "2"]], "a": [],
    }  # fmt: skip
    script = [
        {"get": depth, "status": 429, "headers": {"Retry-After": "1"}},
        {"get": depth, "body": {"lastUpdateId": 12, "E": 8, "T": 8, "bids": [["0.5", "1"]], "asks": []}},
        {"connect": f"{FUTURES}/public/stream?streams={name}"},
        {"expect": {"method": "SUBSCRIBE", "params": [name], "id": 1}},
        {"send": {"result": None, "id": 1}},
        {"send": {"stream": name, "data": update}},
    ]
    async with playing("BINANCE_FUTURES", script, tmp_path, CHANNELS="l2_book") as (played, it):
        (book,) = await received(it, 1, "l2_book")
        first, second = (at for url, at in played.asked if "depth" in url)
    assert second - first >= 1
    assert not book.delta
    assert lines(caplog, "no answer about l2_book BTC-USDT-PERP: RateLimitedError")


# -- COINBASE ------------------------------------------------------------------------------------------


def ticker(number, bid):
    fields = {"product_id": "BTC-USD", "best_bid": bid, "best_ask": "9"}
    fields |= {"best_bid_quantity": "1", "best_ask_quantity": "1"}
    start = {"channel": "ticker", "client_id": "", "timestamp": f"2026-11-28T00:00:0{number}Z"}
    return {"send": start | {"sequence_num": number, "events": [{"type": "update", "tickers": [fields]}]}}


async def test_a_gap_ends_with_the_record_of_the_message_that_revealed_it(tmp_path):
    script = [
        {"connect": "wss://advanced-trade-ws.coinbase.com"},
        {"expect": {"type": "subscribe", "channel": "ticker", "product_ids": ["BTC-USD"]}},
        {"expect": {"type": "subscribe", "channel": "heartbeats"}},
        ticker(0, "1"),
        ticker(2, "2"),
    ]
    async with playing("COINBASE", script, tmp_path, CHANNELS="ticker", SYMBOLS="BTC-USD") as (_, it):
        first, second = await received(it, 2, "ticker")
        await it.until(lambda: it.receiver.gaps, "a gap")
        assert ("ticker", "BTC-USD") in it.feed.subscriptions.confirmed
    (gap,) = it.receiver.gaps
    assert gap.reason == "sequence"
    assert (gap.start, gap.end) == rounded(first.receipt_timestamp, second.receipt_timestamp)
