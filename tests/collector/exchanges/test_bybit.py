"""BYBIT, version 5: what it is asked, and what its messages become."""

import json

import msgspec
import pytest
from cryptofeed import exchanges as cryptofeed_exchanges
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges.book import Storing
from collector.exchanges.bybit.exchange import Bybit
from collector.exchanges.instruments import Instrument
from collector.exchanges.protocol import (
    Break,
    Confirmed,
    Ignored,
    Malformed,
    Notice,
    Options,
    Refused,
    Renew,
    Resync,
    Send,
    Subscription,
)
from collector.records import (
    Funding,
    Index,
    L1Book,
    L2Book,
    Liquidation,
    OpenInterest,
    Record,
    Ticker,
    Trade,
)
from collector.times import MILLISECOND, SECOND

NOW = 1_790_000_000 * SECOND
TS = 1790000000123
TIME = TS * MILLISECOND
BOOK = Subscription("l2_book", "BTC-USDT-PERP")


def instrument(symbol, theirs, kind="perpetual", market="linear"):
    return Instrument(
        symbol=symbol, exchange_symbol=theirs, kind=kind, base="BTC", quote="USDT", market=market
    )


LISTED = {
    each.symbol: each
    for each in (
        instrument("BTC-USDT-PERP", "BTCUSDT"),
        instrument("ETH-USDT-PERP", "ETHUSDT"),
        instrument("BTC-USDT", "BTCUSDT", "spot", "spot"),
        instrument("BTC-USD-PERP", "BTCUSD", "perpetual", "inverse"),
        instrument("BTC-USDT-100-26Z25-call", "BTC-26DEC25-100-C-USDT", "option", "option"),
        instrument("BTC-USDT-200-26Z25-call", "BTC-26DEC25-200-C-USDT", "option", "option"),
    )
}


def session(*channels, symbols=("BTC-USDT-PERP",), **options):
    wanted = [Subscription(channel, symbol) for channel in channels for symbol in symbols]
    return Bybit(Options(**options)).session(wanted, LISTED)


def message(topic, data, **more):
    return msgspec.json.encode({"topic": topic, "type": "snapshot", "ts": TS, "data": data} | more)


def records(outputs):
    return [each for each in outputs if isinstance(each, Record)]


def kinds(outputs):
    return [type(each) for each in outputs]


# -- records -------------------------------------------------------------------------------------------


def trade(number, **more):
    return {
        "T": TS, "s": "BTCUSDT", "S": "Sell", "v": "0.001", "p": "69916.80", "i": str(number), "BT": False,
        "seq": 1,
    } | more  # fmt: skip


def test_trades_are_not_aggregated():
    start = "BYBIT", "BTC-USDT-PERP", TIME, NOW
    assert session("trades").receive(message("publicTrade.BTCUSDT", [trade(1), trade(2)]), NOW) == [
        Confirmed((Subscription("trades", "BTC-USDT-PERP"),), "data"),
        Trade(*start, "sell", "0.001", "69916.80", "1"),
        Trade(*start, "sell", "0.001", "69916.80", "2"),
    ]


def test_trades_of_options_come_by_currency_and_are_filtered():
    it = session("trades", symbols=("BTC-USDT-100-26Z25-call",))
    assert json.loads(it.opening()[0])["args"] == ["publicTrade.BTC"]
    parts = [trade(1, s="BTC-26DEC25-100-C-USDT"), trade(2, s="BTC-26DEC25-200-C-USDT")]
    outputs = it.receive(message("publicTrade.BTC", parts), NOW)
    assert [each.symbol for each in records(outputs)] == ["BTC-USDT-100-26Z25-call"]
    assert Ignored("publicTrade.BTC BTC-26DEC25-200-C-USDT") in outputs


@pytest.mark.parametrize(
    ("channel", "topic", "data"),
    [
        ("trades", "publicTrade", [{"T": TS, "s": "ETHUSDT", "S": "Sell", "v": "1", "p": "1", "i": "1"}]),
        ("ticker", "orderbook.1", {"s": "ETHUSDT", "b": [["1", "1"]], "a": [["2", "1"]], "u": 5}),
        ("l2_book", "orderbook.1000", {"s": "ETHUSDT", "b": [["1", "1"]], "a": [["2", "1"]], "u": 5}),
        ("funding", "tickers", {"symbol": "ETHUSDT", "fundingRate": "1", "nextFundingTime": "5"}),
        ("liquidations", "allLiquidation", [{"T": TS, "s": "ETHUSDT", "S": "Buy", "v": "1", "p": "1"}]),
    ],
)
def test_a_message_that_names_another_symbol_is_not_stored(channel, topic, data):
    it = session(channel)
    outputs = it.receive(message(f"{topic}.BTCUSDT", data), NOW)
    about = (Subscription(channel, "BTC-USDT-PERP"),)
    assert outputs[0] == Malformed("a message of 'ETHUSDT' on a stream of 'BTCUSDT'", about)
    assert not records(outputs)
    assert records(it.receive(message(f"{topic}.BTCUSDT", data).replace(b"ETH", b"BTC"), NOW))


def test_a_listener_takes_the_option_that_a_trade_names():
    it = Bybit().listener(["trades"])
    outputs = it.receive(message("publicTrade.BTC", [trade(1, s="BTC-26DEC25-100-C-USDT")]), NOW)
    assert [each.symbol for each in records(outputs)] == ["BTC-26DEC25-100-C-USDT"]


def level_one(number, bid="100.0", kind="snapshot"):
    return message(
        "orderbook.1.BTCUSDT",
        {"s": "BTCUSDT", "b": [[bid, "2"]], "a": [["101", "3"]], "u": number},
        type=kind,
    )


def test_the_best_prices_are_a_ticker_and_an_l1_book():
    it = session("ticker", "l1_book", symbols=("BTC-USDT",))
    start = "BYBIT", "BTC-USDT", TIME, NOW
    assert records(it.receive(level_one(7), NOW)) == [
        Ticker(*start, "100.0", "101"), L1Book(*start, "100.0", "2", "101", "3"),
    ]  # fmt: skip
    assert kinds(it.receive(level_one(7), NOW)) == [Confirmed]  # sent again, as nothing changed
    assert len(it.receive(level_one(8, "100.5"), NOW)) == 2


TICKER = {
    "symbol": "BTCUSDT", "markPrice": "66666.60", "indexPrice": "66670.19", "openInterest": "492373.72",
    "nextFundingTime": "1790006400000", "fundingRate": "-0.005", "bid1Price": "66666.60",
}  # fmt: skip


def test_a_ticker_of_contracts_is_funding_open_interest_and_index_and_keeps_its_state():
    it = session("funding", "open_interest", "index")
    start, following = ("BYBIT", "BTC-USDT-PERP", TIME, NOW), 1790006400000 * MILLISECOND
    assert records(it.receive(message("tickers.BTCUSDT", TICKER), NOW)) == [
        Funding(*start, "66666.60", "-0.005", following, None),
        OpenInterest(*start, "492373.72"),
        Index(*start, "66670.19"),
    ]
    delta = message("tickers.BTCUSDT", {"symbol": "BTCUSDT", "markPrice": "66667"}, type="delta")
    assert list(it.receive(delta, NOW)) == [Funding(*start, "66667", "-0.005", following, None)]
    quotes = message("tickers.BTCUSDT", {"symbol": "BTCUSDT", "bid1Price": "1"}, type="delta")
    assert list(it.receive(quotes, NOW)) == []


def test_a_dated_contract_has_no_funding_rate():
    it = session("funding")
    part = {"symbol": "BTCUSDT", "markPrice": "1", "fundingRate": "", "nextFundingTime": ""}
    (funding,) = records(it.receive(message("tickers.BTCUSDT", part), NOW))
    assert (funding.rate, funding.next_funding_time) == (None, None)


def test_the_best_prices_of_options_come_with_their_ticker():
    it = session("ticker", "index", symbols=("BTC-USDT-100-26Z25-call",))
    prices = {"bidPrice": "5", "bidSize": "1", "askPrice": "10", "askSize": "5.1", "indexPrice": "16823.73"}
    part = {"symbol": "BTC-26DEC25-100-C-USDT"} | prices
    topic = "tickers.BTC-26DEC25-100-C-USDT"
    assert kinds(it.receive(message(topic, part), NOW)) == [Confirmed, Index, Ticker]


def test_an_index_of_zero_is_none_and_not_silence():
    """What a contract of the pre-market sends is in no documentation."""
    it = session("index")
    it.receive(message("tickers.BTCUSDT", {"symbol": "BTCUSDT", "indexPrice": "0.00"}), NOW)
    part = {"symbol": "BTCUSDT", "indexPrice": "0"}
    outputs = it.receive(message("tickers.BTCUSDT", part, type="delta"), NOW)
    assert outputs == [Confirmed((Subscription("index", "BTC-USDT-PERP"),), "data")]


@pytest.mark.parametrize("none", [{"bidPrice": "0", "bidSize": "0"}, {"askPrice": "0.0", "askSize": "0"}])
def test_an_option_without_a_price_on_one_side_has_no_best_prices(none):
    it = session("ticker", "l1_book", symbols=("BTC-USDT-100-26Z25-call",))
    part = {
        "symbol": "BTC-26DEC25-100-C-USDT",
        "bidPrice": "5",
        "bidSize": "1",
        "askPrice": "10",
        "askSize": "2",
    }
    outputs = it.receive(message("tickers.BTC-26DEC25-100-C-USDT", part | none), NOW)
    about = tuple(Subscription(each, "BTC-USDT-100-26Z25-call") for each in ("ticker", "l1_book"))
    assert outputs[-1] == Confirmed(about, "data")  # it is not silent
    assert not records(outputs)


def test_a_book_with_one_side_has_no_best_prices_and_is_not_silent():
    it = session("ticker")
    it.receive(message("orderbook.1.BTCUSDT", {"s": "BTCUSDT", "b": [["1", "1"]], "a": [], "u": 5}), NOW)
    outputs = it.receive(
        message("orderbook.1.BTCUSDT", {"b": [["2", "1"]], "a": [], "u": 6}, type="delta"), NOW
    )
    assert outputs == [Confirmed((Subscription("ticker", "BTC-USDT-PERP"),), "data")]


@pytest.mark.parametrize("size", [{"bidSize": ""}, {"askSize": "-1"}])
def test_the_best_prices_of_options_without_their_sizes_are_a_ticker_alone(size):
    it = session("ticker", "l1_book", symbols=("BTC-USDT-100-26Z25-call",))
    part = {"symbol": "BTC-26DEC25-100-C-USDT", "bidPrice": "5", "bidSize": "1", "askPrice": "10"}
    outputs = it.receive(message("tickers.BTC-26DEC25-100-C-USDT", part | {"askSize": "2"} | size), NOW)
    assert records(outputs) == [Ticker("BYBIT", "BTC-USDT-100-26Z25-call", TIME, NOW, "5", "10")]
    assert {each.about[-1].channel for each in outputs if isinstance(each, Malformed)} == {"l1_book"}


@pytest.mark.parametrize("time", ["", "0"])
def test_a_contract_without_funding_has_no_funding_time(time):
    part = {"symbol": "BTCUSDT", "markPrice": "1", "nextFundingTime": time}
    (funding,) = records(session("funding").receive(message("tickers.BTCUSDT", part), NOW))
    assert funding.next_funding_time is None


def test_a_candle_of_another_interval_is_malformed():
    it = session("candles")
    prices = {"open": "1", "close": "2.50", "high": "3", "low": "0.5", "volume": "2.081"}
    kline = {"start": 60000, "end": 119999, "interval": "60", "confirm": True, "timestamp": TS} | prices
    assert kinds(it.receive(message("kline.1.BTCUSDT", [kline]), NOW)) == [Malformed]
    other = kline | {"interval": "1", "end": 60000}
    assert kinds(it.receive(message("kline.1.BTCUSDT", [other]), NOW)) == [Malformed]


def test_a_liquidation_has_the_side_of_its_order():
    part = {"T": TS, "s": "BTCUSDT", "S": "Buy", "v": "20000", "p": "0.04499"}
    outputs = session("liquidations").receive(
        message("allLiquidation.BTCUSDT", [part, part | {"S": "Sell"}]), NOW
    )
    start = "BYBIT", "BTC-USDT-PERP", TIME, NOW
    assert records(outputs) == [
        Liquidation(*start, "sell", "20000", "0.04499", None, None),
        Liquidation(*start, "buy", "20000", "0.04499", None, None),
    ]


def test_a_candle_is_stored_once_when_it_is_closed():
    it = session("candles", candle_interval="1h")
    prices = {"open": "1", "close": "2.50", "high": "3", "low": "0.5", "volume": "2.081"}
    kline = {"start": 3600000, "end": 7199999, "interval": "60", "confirm": False, "timestamp": TS} | prices
    assert kinds(it.receive(message("kline.60.BTCUSDT", [kline]), NOW)) == [Confirmed]
    (candle,) = it.receive(message("kline.60.BTCUSDT", [kline | {"confirm": True}]), NOW)
    assert (candle.open, candle.close, candle.high, candle.low, candle.volume) == (
        "1",
        "2.50",
        "3",
        "0.5",
        "2.081",
    )
    assert (candle.start, candle.stop, candle.interval, candle.closed) == (
        3600000 * MILLISECOND,
        7199999 * MILLISECOND,
        "1h",
        True,
    )


# -- books ---------------------------------------------------------------------------------------------


def book(number, kind="delta"):
    asks = [["100", "1"]] if kind == "snapshot" else []
    data = {"s": "BTCUSDT", "b": [[f"{number}.50", "2.0"]], "a": asks, "u": number, "seq": 5 * number}
    return message("orderbook.1000.BTCUSDT", data, type=kind, cts=TS)


def test_a_book_begins_with_its_snapshot_and_is_changed():
    it = session("l2_book")
    confirmed, resync, complete = it.receive(book(5, "snapshot"), NOW)
    assert (confirmed.by, resync) == ("data", Resync(BOOK))
    assert (complete.bid, complete.ask, complete.timestamp) == ([("5.50", "2.0")], [("100", "1")], TIME)
    (delta,) = it.receive(book(6), NOW)
    assert (delta.delta, delta.bid, delta.ask) == (True, [("6.50", "2.0")], [])


def test_changes_of_a_book_are_not_taken_for_a_complete_one():
    it = session("l2_book")
    it.receive(book(5, "snapshot"), NOW)
    without = message("orderbook.1000.BTCUSDT", {"b": [], "a": [["7", "1"]], "u": 6}, type=None)
    assert kinds(it.receive(without, NOW)) == [Malformed, Break, Renew]


def test_a_refusal_of_something_unrequested_is_a_notice():
    refused = b'{"success":false,"ret_msg":"too many visits","op":"ping"}'
    assert session("trades").receive(refused, NOW) == (Notice("too many visits"),)


@pytest.mark.parametrize("lost", range(6, 12))
def test_every_lost_update_is_noticed_and_costs_its_symbol_alone(lost):
    it = session("l2_book")
    frames = [book(5, "snapshot"), *(book(number) for number in range(6, 14) if number != lost)]
    outputs = [output for frame in frames for output in it.receive(frame, NOW)]
    assert [each.subscription for each in outputs if isinstance(each, Break)] == [BOOK]
    asked = [json.loads(frame) for each in outputs if isinstance(each, Renew) for frame in each.frames]
    assert [(each["op"], each["args"]) for each in asked] == [
        ("unsubscribe", ["orderbook.1000.BTCUSDT"]), ("subscribe", ["orderbook.1000.BTCUSDT"]),
    ]  # fmt: skip
    assert not it.receive(book(14), NOW)  # until the book begins again
    assert kinds(it.receive(book(20, "snapshot"), NOW)) == [Resync, L2Book]


@pytest.mark.parametrize("swapped", range(1, 7))
def test_two_swapped_updates_are_noticed(swapped):
    it = session("l2_book")
    frames = [book(5, "snapshot"), *map(book, range(6, 14))]
    frames[swapped], frames[swapped + 1] = frames[swapped + 1], frames[swapped]
    assert [each for frame in frames for each in it.receive(frame, NOW) if isinstance(each, Break)]


@pytest.mark.parametrize("doubled", range(6, 13))
def test_a_duplicate_update_changes_nothing(doubled):
    it = session("l2_book")
    frames = [book(5, "snapshot"), *map(book, sorted([*range(6, 14), doubled]))]
    outputs = [output for frame in frames for output in it.receive(frame, NOW)]
    assert not [each for each in outputs if isinstance(each, Break)]
    assert len(records(outputs)) == 9


def test_a_book_whose_beginning_is_lost_is_subscribed_to_again():
    it = session("l2_book")
    outputs = [output for number in (6, 7) for output in it.receive(book(number), NOW)]
    (again,) = (each for each in outputs if isinstance(each, Renew))
    asked = [json.loads(frame)["op"] for frame in again.frames]
    assert (again.subscriptions, asked) == ((BOOK,), ["unsubscribe", "subscribe"])
    assert kinds(outputs) == [Confirmed, Renew]
    assert kinds(it.receive(book(8, "snapshot"), NOW)) == [Resync, L2Book]
    assert kinds(it.receive(book(9), NOW)) == [L2Book]


def best(number, kind="delta", bids=None):
    data = {"s": "BTCUSDT", "b": bids or [[f"{number}.50", "2.0"]], "a": [["100", "1"]], "u": number}
    return message("orderbook.1.BTCUSDT", data, type=kind)


@pytest.mark.parametrize("lost", range(6, 9))
def test_every_lost_change_of_the_best_prices_is_noticed(lost):
    it = session("ticker", "l1_book")
    frames = [best(5, "snapshot"), *(best(number) for number in range(6, 10) if number != lost)]
    outputs = [output for frame in frames for output in it.receive(frame, NOW)]
    broken = [each for each in outputs if isinstance(each, Break)]
    assert [each.subscription.channel for each in broken] == ["ticker", "l1_book"]
    assert all(each.renewed for each in broken)
    (renewal,) = [each for each in outputs if isinstance(each, Renew)]
    assert [json.loads(frame)["op"] for frame in renewal.frames] == ["unsubscribe", "subscribe"]
    assert not it.receive(best(11), NOW)  # until it begins again
    assert kinds(it.receive(best(20, "snapshot"), NOW)) == [Resync, Resync, Ticker, L1Book]
    assert kinds(it.receive(best(21), NOW)) == [Ticker, L1Book]


def test_duplicate_best_prices_are_stored_once_and_again_after_a_restart():
    it = session("ticker")
    it.receive(best(5, "snapshot"), NOW)
    assert kinds(it.receive(best(6), NOW)) == [Ticker]
    assert kinds(it.receive(best(6), NOW)) == [Confirmed]
    assert kinds(it.receive(best(6, "snapshot"), NOW)) == [Confirmed]
    assert kinds(it.receive(best(1), NOW)) == [Ticker]


def test_an_unreadable_ticker_field_is_unknown_from_then_on():
    it = session("funding", "index")
    state = {"symbol": "BTCUSDT", "markPrice": "5", "indexPrice": "6", "fundingRate": "0.1"}
    it.receive(message("tickers.BTCUSDT", state), NOW)
    bad = {"symbol": "BTCUSDT", "markPrice": "NaN", "indexPrice": "7", "fundingRate": "0.2"}
    malformed, funding, index = it.receive(message("tickers.BTCUSDT", bad, type="delta"), NOW)
    assert "NaN" in malformed.reason
    assert (funding.mark_price, funding.rate, index.price) == (None, "0.2", "7")
    (funding,) = it.receive(message("tickers.BTCUSDT", {"fundingRate": "0.3"}, type="delta"), NOW)
    assert (funding.mark_price, funding.rate) == (None, "0.3")


def test_a_service_that_restarts_begins_the_book_again():
    it = session("l2_book")
    it.receive(book(5, "snapshot"), NOW)
    assert kinds(it.receive(book(1), NOW)) == [Resync, L2Book]
    assert kinds(it.receive(book(2), NOW)) == [L2Book]


@pytest.mark.parametrize(
    ("symbol", "depth", "asked"),
    [
        ("BTC-USDT-PERP", 0, 1000), ("BTC-USDT-PERP", 1, 50), ("BTC-USDT", 51, 200), ("BTC-USDT", 5000, 1000),
        ("BTC-USDT-100-26Z25-call", 0, 100), ("BTC-USDT-100-26Z25-call", 25, 25),
    ],
)  # fmt: skip
def test_max_depth_chooses_the_smallest_stream_that_is_enough(symbol, depth, asked):
    (frame,) = session("l2_book", symbols=(symbol,), storing=Storing(max_depth=depth)).opening()
    assert json.loads(frame)["args"][0].split(".")[1] == str(asked)


# -- asking --------------------------------------------------------------------------------------------


def test_each_market_has_its_connection():
    wanted = [Subscription("trades", symbol) for symbol in ("BTC-USDT", "BTC-USDT-PERP", "BTC-USD-PERP")]
    plans = Bybit().connections(wanted, LISTED)
    assert {plan.url.rsplit("/", 1)[1]: plan.subscriptions[0].symbol for plan in plans} == {
        "spot": "BTC-USDT", "linear": "BTC-USDT-PERP", "inverse": "BTC-USD-PERP",
    }  # fmt: skip


@given(st.integers(1, 450), st.sampled_from(["spot", "linear"]))
def test_connections_carry_everything_once_within_the_limits(count, market):
    listed = {
        f"C{number}": instrument(f"C{number}", f"C{number}USDT", market=market) for number in range(count)
    }
    wanted = [
        Subscription(channel, symbol) for channel in ("l2_book", "ticker", "l1_book") for symbol in listed
    ]
    exchange = Bybit()
    plans = exchange.connections(wanted, listed)
    assert sorted(each for plan in plans for each in plan.subscriptions) == sorted(wanted)
    for plan in plans:
        frames = exchange.session(plan.subscriptions, listed).opening()
        assert sum(len(frame) for frame in frames) <= 21_000
        assert market != "spot" or max(len(json.loads(frame)["args"]) for frame in frames) <= 10


def test_a_channel_that_a_market_lacks_has_no_connection():
    wanted = [
        Subscription(channel, "BTC-USDT") for channel in ("funding", "open_interest", "index", "liquidations")
    ]
    wanted += [Subscription("candles", "BTC-USDT-100-26Z25-call")]
    assert Bybit().connections(wanted, LISTED) == []


def answered(it, request, success, text=""):
    answer = {
        "success": success,
        "ret_msg": text,
        "conn_id": "a",
        "req_id": request["req_id"],
        "op": "subscribe",
    }
    return it.receive(msgspec.json.encode(answer), NOW)


def test_an_acknowledgement_is_of_its_whole_request():
    it = session("trades", symbols=("BTC-USDT-PERP", "ETH-USDT-PERP"))
    (confirmed,) = answered(it, json.loads(it.opening()[0]), success=True)
    assert (len(confirmed.subscriptions), confirmed.by) == (2, "acknowledgement")


def test_already_subscribed_is_not_a_refusal():
    it = session("trades")
    text = "error:already subscribed,topic:publicTrade.BTCUSDT"
    assert kinds(answered(it, json.loads(it.opening()[0]), success=False, text=text)) == [Confirmed]


def test_a_refused_topic_is_named_and_the_rest_requested_again():
    it = session("trades", symbols=("BTC-USDT-PERP", "ETH-USDT-PERP"))
    text = "error:handler not found,topic:publicTrade.ETHUSDT"
    refused, send = answered(it, json.loads(it.opening()[0]), success=False, text=text)
    assert refused == Refused((Subscription("trades", "ETH-USDT-PERP"),), text)
    assert json.loads(send.frame)["args"] == ["publicTrade.BTCUSDT"]


def test_a_refusal_without_a_name_halves_the_request():
    it = session("trades", symbols=("BTC-USDT-PERP", "ETH-USDT-PERP"))
    halves = answered(it, json.loads(it.opening()[0]), success=False, text="error")
    assert [len(json.loads(each.frame)["args"]) for each in halves] == [1, 1]
    assert kinds(answered(it, json.loads(halves[0].frame), success=False, text="error")) == [Refused]
    assert kinds(it.receive(b'{"success":false,"ret_msg":"x","op":"subscribe"}', NOW)) == [Notice]


def test_answers_about_options_have_their_own_form():
    it = session("ticker", symbols=("BTC-USDT-100-26Z25-call", "BTC-USDT-200-26Z25-call"))
    topics = {
        "successTopics": ["tickers.BTC-26DEC25-100-C-USDT"],
        "failTopics": ["tickers.BTC-26DEC25-200-C-USDT"],
    }
    frame = msgspec.json.encode({"success": True, "conn_id": "a", "data": topics, "type": "COMMAND_RESP"})
    assert kinds(it.receive(frame, NOW)) == [Confirmed, Refused]


def test_a_clock_stepping_back_delays_no_ping():
    it = session("trades")
    it.tick(NOW)
    assert it.tick(NOW - 3600 * SECOND) == (Send('{"op":"ping"}'),)
    assert it.tick(NOW - 3599 * SECOND) == ()


def test_the_exchange_is_pinged_each_twenty_seconds():
    it = session("trades")
    assert it.tick(NOW) == (Send('{"op":"ping"}'),)
    assert not it.tick(NOW + 19 * SECOND)
    assert it.tick(NOW + 20 * SECOND) == (Send('{"op":"ping"}'),)
    assert it.receive(b'{"success":true,"ret_msg":"pong","conn_id":"a","op":"ping"}', NOW) == (
        Ignored("ping"),
    )


# -- what is not for us, and what is broken ------------------------------------------------------------


def test_an_unrequested_message_is_ignored_and_named():
    assert session("trades").receive(message("publicTrade.XUSDT", []), NOW) == (Ignored("publicTrade.XUSDT"),)
    assert session("trades").receive(message("order", []), NOW) == (Ignored("order"),)


@pytest.mark.parametrize("change", [{"p": "NaN"}, {"T": "now"}, {"v": "1e99"}, {"S": "None"}])
def test_a_bad_message_affects_its_topic_alone(change):
    frame = message("publicTrade.BTCUSDT", [trade(1, **change)])
    (malformed,) = session("trades", "l2_book").receive(frame, NOW)
    assert malformed.about == (Subscription("trades", "BTC-USDT-PERP"),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("sbauTSvpi"), inner),
    max_leaves=10,
)
TOPICS = [
    "publicTrade.BTCUSDT",
    "orderbook.1000.BTCUSDT",
    "orderbook.1.BTCUSDT",
    "tickers.BTCUSDT",
    "kline.1.BTCUSDT",
    "x",
]


@given(st.sampled_from(TOPICS), JSON)
def test_no_input_raises(topic, data):
    it = session("trades", "l2_book", "ticker", "funding", "candles")
    it.receive(message(topic, data), NOW)
    it.receive(message(topic, [data], type="delta"), NOW)
    it.receive(json.dumps(data).encode(), NOW)
    it.receive(
        json.dumps({"op": "subscribe", "success": data, "data": data, "type": "COMMAND_RESP"}).encode(), NOW
    )


@pytest.mark.parametrize(
    "frame", [b"", b"null", b"\xff", b"[1]", b'{"topic":5}', b'{"data":' + b"[" * 200_000]
)
def test_a_frame_that_is_not_a_message_is_malformed(frame):
    (malformed,) = session("trades").receive(frame, NOW)
    assert isinstance(malformed, Malformed)


# -- the listing ---------------------------------------------------------------------------------------


def row(symbol, base="BTC", quote="USDT", contract=None, **more):
    return {
        "symbol": symbol, "status": "Trading", "baseCoin": base, "quoteCoin": quote, "settleCoin": quote,
        "deliveryTime": "0", "priceFilter": {"tickSize": "0.10"},
        "lotSizeFilter": {"qtyStep": "0.001"} if contract else {"basePrecision": "0.000001"},
    } | ({"contractType": contract} if contract else {}) | more  # fmt: skip


DELIVERY = "1766736000000"  # 2025-12-26
SPOT = [row("BTCUSDT"), row("BTCBRL", quote="BRL"), row("ETHUSDE", base="ETH", quote="USDE")]
LINEAR = [
    row("BTCUSDT", contract="LinearPerpetual"),
    row("BTCPERP", quote="USDC", contract="LinearPerpetual"),
    row("BTC-26DEC25", quote="USDC", contract="LinearFutures", deliveryTime=DELIVERY),
]
INVERSE = [
    row("BTCUSD", quote="USD", contract="InversePerpetual", settleCoin="BTC"),
    row("BTCUSDZ25", quote="USD", contract="InverseFutures", deliveryTime=DELIVERY, settleCoin="BTC"),
]
OPTION = [row("BTC-26DEC25-100000-C-USDT", optionsType="Call", deliveryTime=DELIVERY)]


def answer(rows, **more):
    return json.dumps({"retCode": 0, "result": {"list": rows} | more}).encode()


def listing(*answers):
    return Bybit().instruments([answer(rows) for rows in answers])


def test_every_market_and_every_quote_is_listed():
    found = {symbol: (each.market, each.exchange_symbol) for symbol, each in
             listing(SPOT, LINEAR, INVERSE, OPTION).instruments.items()}  # fmt: skip
    assert found == {
        "BTC-USDT": ("spot", "BTCUSDT"),
        "BTC-BRL": ("spot", "BTCBRL"),
        "ETH-USDE": ("spot", "ETHUSDE"),
        "BTC-USDT-PERP": ("linear", "BTCUSDT"),
        "BTC-USDC-PERP": ("linear", "BTCPERP"),
        "BTC-USDC-25Z26": ("linear", "BTC-26DEC25"),
        "BTC-USD-PERP": ("inverse", "BTCUSD"),
        "BTC-USD-25Z26": ("inverse", "BTCUSDZ25"),
        "BTC-USDT-100000-25Z26-call": ("option", "BTC-26DEC25-100000-C-USDT"),
    }


def test_names_are_those_of_cryptofeed():
    theirs, _ = cryptofeed_exchanges.Bybit._parse_symbol_data(
        [{"result": {"list": rows}} for rows in (LINEAR, SPOT)]
    )
    assert set(listing(SPOT, LINEAR).instruments) == set(theirs)


def test_the_details_of_a_contract_are_kept():
    found = listing(SPOT, LINEAR, INVERSE, OPTION).instruments
    assert (found["BTC-USDT"].tick, found["BTC-USDT"].lot) == ("0.10", "0.000001")
    assert (found["BTC-USD-PERP"].contract_size, found["BTC-USD-PERP"].contract_unit) == ("1", "USD")
    assert found["BTC-USDC-25Z26"].expiry == int(DELIVERY) * MILLISECOND
    assert found["BTC-USDT-100000-25Z26-call"].strike == "100000"


PHASES = (
    "NotStarted",
    "CallAuction",
    "CallAuctionNoCancel",
    "CrossMatching",
    "ContinuousTrading",
    "Finished",
)


def pre_market(phase, **more):
    """The example of Get Instruments Info (Pre-market Perpetual)."""
    return row(
        "BIOUSDT", "BIO", contract="LinearPerpetual", status="PreLaunch", launchTime="1735032510000",
        fundingInterval=480, isPreListing=True, priceFilter={"tickSize": "0.0001"},
        preListingInfo={
            "curAuctionPhase": phase,
            "phases": [
                {"phase": "CallAuction", "startTime": "1735113600000", "endTime": "1735116600000"},
                {"phase": "CallAuctionNoCancel", "startTime": "1735116600000", "endTime": "1735116900000"},
                {"phase": "CrossMatching", "startTime": "1735116900000", "endTime": "1735117200000"},
                {"phase": "ContinuousTrading", "startTime": "1735117200000", "endTime": ""},
            ],
            "auctionFeeInfo": {"auctionFeeRate": "0", "takerFeeRate": "0.001", "makerFeeRate": "0.0004"},
        },
    ) | more  # fmt: skip


def test_contracts_of_the_pre_market_are_requested_apart():
    addresses = [each for each in Bybit().listing() if "status=PreLaunch" in each]
    assert addresses == [
        "https://api.bybit.com/v5/market/instruments-info?category=linear&status=PreLaunch&limit=1000"
    ]


@pytest.mark.parametrize("phase", PHASES)
def test_a_contract_of_the_pre_market_is_listed_once_it_trades_as_any_other(phase):
    found = listing(LINEAR, [pre_market(phase)])
    assert ("BIO-USDT-PERP" in found.instruments) == (phase == "ContinuousTrading")
    assert not found.unread


def test_a_contract_of_the_pre_market_has_the_channels_of_a_perpetual():
    listed = listing([pre_market("ContinuousTrading")]).instruments
    channels = ("trades", "ticker", "l2_book", "funding", "open_interest", "index", "liquidations", "candles")
    (plan,) = Bybit().connections([Subscription(channel, "BIO-USDT-PERP") for channel in channels], listed)
    assert (plan.url.rsplit("/", 1)[1], len(plan.subscriptions)) == ("linear", len(channels))


def test_a_contract_that_leaves_the_pre_market_is_one_instrument():
    traded = row("BIOUSDT", "BIO", contract="LinearPerpetual", isPreListing=False, preListingInfo=None)
    found = listing([traded], [pre_market("ContinuousTrading")])
    assert (list(found.instruments), found.unread) == (["BIO-USDT-PERP"], ())
    without = listing([pre_market("", preListingInfo=None)])
    assert (without.instruments, without.unread) == ({}, ())


def test_an_unreadable_row_is_left_out():
    found = listing([*SPOT, row("X", contract="Strange"), row("", base=""), 5, row("OLD", status="Closed")])
    assert len(found.instruments) == 3
    assert len(found.unread) == 3


def test_a_row_with_an_unknown_status_is_left_out_and_named():
    found = listing([*SPOT, row("X", status="Asleep")])
    assert len(found.instruments) == 3
    assert [each.reason for each in found.unread] == ["the unknown status 'Asleep'"]


def test_a_listing_of_several_pages_says_where_the_next_one_is():
    exchange = Bybit()
    address = exchange.listing()[1]
    following = exchange.next_page(address, answer(LINEAR, nextPageCursor="abc"))
    assert following == f"{address}&cursor=abc"
    assert exchange.next_page(following, answer(LINEAR, nextPageCursor="def")) == f"{address}&cursor=def"
    assert exchange.next_page(following, answer(LINEAR, nextPageCursor="")) is None
    assert exchange.next_page(following, b"") is None
