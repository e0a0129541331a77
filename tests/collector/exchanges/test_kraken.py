"""KRAKEN, version 2: what it is asked, and what its messages become."""

import json
import zlib

import msgspec
import pytest
from cryptofeed.exchanges import Kraken as CryptofeedKraken
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges.book import Storing
from collector.exchanges.instruments import Instrument
from collector.exchanges.kraken.exchange import Kraken
from collector.exchanges.protocol import (
    Break,
    Closing,
    Confirmed,
    Ignored,
    Malformed,
    Notice,
    Options,
    Refused,
    Renew,
    Repeated,
    Resync,
    Subscription,
)
from collector.exchanges.times import rfc3339
from collector.records import L1Book, L2Book, Record, Ticker, Trade
from collector.times import SECOND

NOW = 1_790_000_000 * SECOND
BOOK = Subscription("l2_book", "BTC-USD")


def instruments(*symbols):
    return {
        symbol: Instrument(
            symbol=symbol, exchange_symbol=symbol.replace("-", "/"), kind="spot", base="BTC", quote="USD"
        )
        for symbol in symbols
    }


def session(*channels, symbols=("BTC-USD",), **options):
    wanted = [Subscription(channel, symbol) for channel in channels for symbol in symbols]
    return Kraken(Options(**options)).session(wanted, instruments(*symbols))


def message(channel, *data, kind="update"):
    """A frame; numbers are given as texts with the digits that stand in the JSON."""
    text = json.dumps({"channel": channel, "type": kind, "data": data})
    for number in {value for part in data for value in numbers_of(part)}:
        text = text.replace(f'"#{number}"', number)
    return text.replace('", "', '","').replace('": ', '":').encode()


def numbers_of(part):
    for value in part.values():
        if isinstance(value, list):
            for each in value:
                yield from numbers_of(each)
        elif isinstance(value, str) and value.startswith("#"):
            yield value[1:]


def records(outputs):
    return [each for each in outputs if isinstance(each, Record)]


# -- records -------------------------------------------------------------------------------------------

TRADE = {
    "symbol": "BTC/USD", "side": "sell", "price": "#64012.70", "qty": "#0.00010000", "ord_type": "market",
    "trade_id": 4665906, "timestamp": "2026-07-19T17:54:39.768901Z",
}  # fmt: skip
TIME = rfc3339("2026-07-19T17:54:39.768901Z")


def test_a_trade_keeps_its_digits_its_id_and_its_time():
    expected = Trade("KRAKEN", "BTC-USD", TIME, NOW, "sell", "0.00010000", "64012.70", "4665906", "market")
    assert session("trades").receive(message("trade", TRADE, TRADE), NOW) == [
        Confirmed((Subscription("trades", "BTC-USD"),), "data"), expected, expected,
    ]  # fmt: skip


def test_trades_at_the_start_of_a_subscription_are_repeats():
    outputs = session("trades").receive(message("trade", TRADE, kind="snapshot"), NOW)
    (repeated,) = [each for each in outputs if isinstance(each, Repeated)]
    assert repeated.records[0].id == "4665906"


def test_the_best_prices_are_a_ticker_and_an_l1_book():
    part = {
        "symbol": "BTC/USD", "bid": "#64012.0", "bid_qty": "#1.50", "ask": "#64012.1", "ask_qty": "#2",
        "timestamp": "2026-07-19T17:54:39.768901Z",
    }  # fmt: skip
    start = "KRAKEN", "BTC-USD", TIME, NOW
    ticker, l1_book = Ticker(*start, "64012.0", "64012.1"), L1Book(*start, "64012.0", "1.50", "64012.1", "2")
    assert records(session("ticker", "l1_book").receive(message("ticker", part), NOW)) == [ticker, l1_book]
    assert records(session("l1_book").receive(message("ticker", part), NOW)) == [l1_book]
    it = session("ticker")
    quotes = [part, part, part | {"bid_qty": "#1.6"}]
    assert [len(records(it.receive(message("ticker", each), NOW))) for each in quotes] == [1, 0, 1]
    without_time = {name: value for name, value in part.items() if name != "timestamp"}
    assert records(session("ticker").receive(message("ticker", without_time), NOW))[0].timestamp == NOW


@pytest.mark.parametrize("zero", ["#0", "#0.0", "#0.00000"])
def test_an_instrument_without_quotes_has_no_best_prices(zero):
    part = {
        "symbol": "BTC/USD", "bid": zero, "bid_qty": zero, "ask": zero, "ask_qty": zero,
        "timestamp": "1970-01-01T00:00:00.000000Z",
    }  # fmt: skip
    assert records(session("ticker").receive(message("ticker", part), NOW)) == []


@pytest.mark.parametrize("none", [{"bid": "#0.0", "bid_qty": "#0.0"}, {"ask": "#0", "ask_qty": "#0"}])
def test_a_side_without_a_price_is_neither_zero_nor_silence(none):
    it = session("ticker", "l1_book")
    part = {"symbol": "BTC/USD", "bid": "#1.0", "bid_qty": "#2", "ask": "#1.5", "ask_qty": "#3"}
    it.receive(message("ticker", part), NOW)
    both = Subscription("ticker", "BTC-USD"), Subscription("l1_book", "BTC-USD")
    (confirmed,) = it.receive(message("ticker", part | none), NOW)
    assert (confirmed.by, {*confirmed.subscriptions}) == ("data", {*both})


def candle(minute, close, kind="update", interval=1):
    part = {
        "symbol": "BTC/USD", "open": "#1.0", "high": "#2.50", "low": "#0.5", "close": f"#{close}",
        "trades": 12, "volume": "#30.67", "vwap": "#1.2",
        "interval_begin": f"2026-10-04T16:{minute:02}:00.000000000Z",
        "interval": interval, "timestamp": "2026-10-04T16:59:00.000000Z",
    }  # fmt: skip
    return message("ohlc", part, kind=kind)


@pytest.mark.parametrize("interval", [5, 7])
def test_a_candle_of_another_interval_is_malformed(interval):
    (malformed,) = session("candles").receive(candle(25, "1", interval=interval), NOW)
    assert "interval" in malformed.reason


def test_a_listener_gets_the_interval_that_was_sent():
    it = Kraken().listener(["candles"])
    it.receive(candle(25, "1", interval=5), NOW)
    (stored,) = records(it.receive(candle(30, "1", interval=5), NOW))
    assert (stored.interval, stored.stop - stored.start) == ("5m", 300 * SECOND)


def test_a_candle_is_stored_once_when_the_next_one_begins():
    it = session("candles")
    begin = rfc3339("2026-10-04T16:25:00Z")
    assert records(it.receive(candle(25, "1.1"), NOW)) == []
    assert not it.receive(candle(25, "1.2"), NOW)
    (closed,) = it.receive(candle(26, "1.3"), NOW)
    assert (closed.start, closed.stop, closed.interval, closed.close, closed.trades, closed.closed) == (
        begin, begin + 60 * SECOND, "1m", "1.2", 12, True,
    )  # fmt: skip
    assert (closed.high, closed.volume, closed.timestamp) == ("2.50", "30.67", closed.stop)


def test_a_candle_that_no_trade_follows_is_stored_when_it_is_over():
    it = session("candles")
    it.receive(candle(25, "1.1"), NOW)
    end = rfc3339("2026-10-04T16:26:00Z")
    assert it.tick(end + SECOND) == []
    (closed,) = it.tick(end + 11 * SECOND)
    assert (closed.close, closed.closed) == ("1.1", True)
    assert it.tick(end + 12 * SECOND) == []
    assert not it.receive(candle(27, "1.3"), NOW)


@pytest.mark.parametrize("hours", [1, -1])
def test_setting_the_clock_closes_no_candle_early_or_late(hours):
    it, end = session("candles"), rfc3339("2026-10-04T16:26:00Z")
    it.receive(candle(25, "1.1"), end - 5 * SECOND)
    assert it.tick(end - 2 * SECOND) == []
    leap = hours * 3600 * SECOND
    assert it.tick(end + leap) == []
    assert it.tick(end + leap + 5 * SECOND) == []
    (closed,) = it.tick(end + leap + 15 * SECOND)
    assert (closed.close, closed.receipt_timestamp) == ("1.1", end + leap + 15 * SECOND)


def test_a_clock_that_is_ahead_of_the_exchange_closes_no_candle_early():
    it, end = session("candles"), rfc3339("2026-10-04T16:26:00Z")
    ahead = 300 * SECOND
    frame = candle(25, "1.1").replace(b'"type"', b'"timestamp":"2026-10-04T16:25:55Z","type"')
    it.receive(frame, end - 5 * SECOND + ahead)
    assert it.tick(end + 5 * SECOND + ahead) == []
    assert len(it.tick(end + 11 * SECOND + ahead)) == 1


def test_candles_from_before_the_subscription_are_repeats():
    it = session("candles")
    it.receive(candle(24, "1", kind="snapshot"), NOW)
    (repeated,) = it.receive(candle(25, "2", kind="snapshot"), NOW)
    assert isinstance(repeated, Repeated)
    (live,) = it.receive(candle(26, "3"), NOW)
    assert live.close == "2"


# -- books ---------------------------------------------------------------------------------------------


def checksum(bids, asks):
    """The checksum as the documentation has it: asks from the lowest, then bids from the highest."""
    ordered = sorted(asks.items(), key=lambda level: float(level[0]))[:10]
    ordered += sorted(bids.items(), key=lambda level: -float(level[0]))[:10]
    text = "".join(number.replace(".", "").lstrip("0") for level in ordered for number in level)
    return zlib.crc32(text.encode())


def book(bids, asks, check, kind="update"):
    def side(levels):
        return [{"price": f"#{price}", "qty": f"#{size}"} for price, size in levels.items()]

    part = {
        "symbol": "BTC/USD", "bids": side(bids), "asks": side(asks), "checksum": check,
        "timestamp": "2026-07-19T17:54:39.768901Z",
    }  # fmt: skip
    return message("book", part, kind=kind)


BIDS = {"64525.0": "0.53807066", "64524.2": "0.03095975"}
ASKS = {"64525.3": "0.00309336"}
SNAPSHOT = book(BIDS, ASKS, checksum(BIDS, ASKS), kind="snapshot")


def updates(count=8):
    """Frames of a stream that each add a bid, and the bids in the end."""
    bids, frames = dict(BIDS), []
    for number in range(count):
        level = {f"6452{number}.70": f"0.0{number + 1}"}
        bids |= level
        frames.append(book(level, {}, checksum(bids, ASKS)))
    return frames, bids


def test_a_book_begins_with_its_snapshot_and_is_changed():
    it = session("l2_book")
    confirmed, resync, complete = it.receive(SNAPSHOT, NOW)
    assert (confirmed.by, resync) == ("data", Resync(BOOK))
    assert complete == L2Book("KRAKEN", "BTC-USD", TIME, NOW, False, [*BIDS.items()], [*ASKS.items()])
    (delta,) = it.receive(updates()[0][0], NOW)
    assert (delta.delta, delta.bid, delta.ask) == (True, [("64520.70", "0.01")], [])


def test_an_intact_stream_keeps_its_book():
    it = session("l2_book")
    frames, bids = updates()
    outputs = [output for frame in [SNAPSHOT, *frames] for output in it.receive(frame, NOW)]
    assert not [each for each in outputs if isinstance(each, Break)]
    assert {level for each in records(outputs) for level in each.bid} == set(bids.items())


@pytest.mark.parametrize("lost", range(7))
def test_every_lost_update_of_the_best_levels_is_noticed(lost):
    it = session("l2_book")
    frames, _ = updates()
    del frames[lost]
    outputs = [output for frame in [SNAPSHOT, *frames] for output in it.receive(frame, NOW)]
    (broken,) = [each for each in outputs if isinstance(each, Break)]
    assert broken.subscription == BOOK
    asked = [json.loads(frame) for each in outputs if isinstance(each, Renew) for frame in each.frames]
    assert [each["method"] for each in asked] == ["unsubscribe", "subscribe"]
    assert not it.receive(frames[-1], NOW)  # until the book begins again
    assert [type(each) for each in it.receive(SNAPSHOT, NOW)] == [Resync, L2Book]


def test_a_book_whose_beginning_is_lost_is_subscribed_to_again():
    it = session("l2_book")
    frames, _ = updates()
    outputs = [output for frame in frames[:2] for output in it.receive(frame, NOW)]
    (again,) = (each for each in outputs if isinstance(each, Renew))
    asked = [json.loads(frame)["method"] for frame in again.frames]
    assert (again.subscriptions, asked) == ((BOOK,), ["unsubscribe", "subscribe"])
    assert [type(each) for each in outputs] == [Confirmed, Renew]
    assert [type(each) for each in it.receive(SNAPSHOT, NOW)] == [Resync, L2Book]


@pytest.mark.parametrize("swapped", range(6))
def test_two_swapped_updates_are_noticed(swapped):
    it = session("l2_book")
    frames, _ = updates()
    frames[swapped], frames[swapped + 1] = frames[swapped + 1], frames[swapped]
    outputs = [output for frame in [SNAPSHOT, *frames] for output in it.receive(frame, NOW)]
    assert [each for each in outputs if isinstance(each, Break)]


def test_a_duplicate_update_counts_once():
    frames, _ = updates()

    def outputs(*frames):
        it = session("l2_book")
        return [output for frame in [SNAPSHOT, *frames] for output in it.receive(frame, NOW)]

    assert outputs(frames[0], frames[0], *frames[1:]) == outputs(*frames)


def test_a_snapshot_with_a_wrong_checksum_leaves_the_book_unchecked_with_a_notice():
    it = session("l2_book")
    outputs = it.receive(book(BIDS, ASKS, 1, kind="snapshot"), NOW)
    assert [each for each in outputs if isinstance(each, Notice)]
    assert [type(each) for each in it.receive(book({"64520.0": "1"}, {}, 2), NOW)] == [L2Book]


def test_a_level_beyond_the_acknowledged_depth_is_removed():
    it = session("l2_book", storing=Storing(max_depth=10))
    (frame,) = it.opening()
    request = json.loads(frame)
    assert request["params"] == {"channel": "book", "symbol": ["BTC/USD"], "depth": 10}
    bids = {f"{number}.0": "1.0" for number in range(1, 11)}
    it.receive(book(bids, {}, checksum(bids, {}), kind="snapshot"), NOW)
    bids["11.0"] = "1.0"
    (delta,) = it.receive(book({"11.0": "1.0"}, {}, checksum(bids, {})), NOW)
    assert sorted(delta.bid) == [("1.0", "0"), ("11.0", "1.0")]


@pytest.mark.parametrize(("depth", "asked"), [(0, 1000), (10, 10), (11, 25), (101, 500), (5000, 1000)])
def test_max_depth_chooses_the_least_depth_that_is_enough(depth, asked):
    assert Kraken(Options(storing=Storing(max_depth=depth))).depth == asked


# -- asking --------------------------------------------------------------------------------------------


@given(st.integers(1, 450))
def test_connections_carry_everything_once_within_the_limits(count):
    symbols = [f"C{number}-USD" for number in range(count)]
    wanted = [Subscription(channel, symbol) for channel in ("l2_book", "trades") for symbol in symbols]
    plans = Kraken().connections(wanted, instruments(*symbols))
    assert sorted(each for plan in plans for each in plan.subscriptions) == sorted(wanted)
    assert max(len(plan.subscriptions) for plan in plans) <= 400


def test_subscriptions_that_share_a_channel_are_requested_once():
    frames = session("ticker", "l1_book", "trades", symbols=("BTC-USD", "ETH-USD")).opening()
    asked = {
        json.loads(frame)["params"]["channel"]: json.loads(frame)["params"]["symbol"] for frame in frames
    }
    assert asked == {"ticker": ["BTC/USD", "ETH/USD"], "trade": ["BTC/USD", "ETH/USD"]}
    assert len(frames) == 2


def answered(it, request, **more):
    return it.receive(msgspec.json.encode({"method": "subscribe", "req_id": request["req_id"]} | more), NOW)


def test_an_answer_concerns_the_symbol_that_it_names():
    it = session("trades", symbols=("BTC-USD", "ETH-USD"))
    request = json.loads(it.opening()[0])
    result = {"channel": "trade", "symbol": "BTC/USD", "snapshot": True}
    assert answered(it, request, success=True, result=result) == (
        Confirmed((Subscription("trades", "BTC-USD"),), "acknowledgement"),
    )
    said = "Currency pair not supported ETH/USD"
    assert answered(it, request, success=False, symbol="ETH/USD", error=said) == (
        Refused((Subscription("trades", "ETH-USD"),), said),
    )


def test_an_existing_subscription_is_not_a_refusal():
    it = session("trades")
    request = json.loads(it.opening()[0])
    (confirmed,) = answered(
        it, request, success=False, symbol="BTC/USD", error="Already subscribed to BTC/USD"
    )
    assert isinstance(confirmed, Confirmed)


def test_a_refusal_without_a_name_halves_the_request():
    it = session("trades", symbols=("A-USD", "B-USD", "C-USD"))
    request = json.loads(it.opening()[0])
    halves = [json.loads(each.frame) for each in answered(it, request, success=False, error="Bad request")]
    assert [each["params"]["symbol"] for each in halves] == [["A/USD", "B/USD"], ["C/USD"]]
    assert answered(it, halves[1], success=False, error="Bad request") == (
        Refused((Subscription("trades", "C-USD"),), "Bad request"),
    )


@pytest.mark.parametrize(
    ("system", "event"), [("maintenance", Closing), ("online", Ignored), ("cancel_only", Notice)]
)
def test_a_changed_status_of_the_exchange_is_an_event(system, event):
    it = session("trades")
    it.receive(message("status", {"system": "online", "version": "2.0.10"}), NOW)
    (told,) = it.receive(message("status", {"system": system, "version": "2.0.10"}), NOW)
    assert isinstance(told, event)


def test_a_connection_that_begins_in_maintenance_waits_for_its_end():
    it = session("trades")
    state = [it.receive(message("status", {"system": each}), NOW)[0] for each in ("maintenance", "online")]
    assert state == [Notice("the exchange's system is maintenance"), Ignored("status")]


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'{"channel":"heartbeat"}', "heartbeat"),
        (b'{"method":"pong","req_id":42,"time_in":"x"}', "pong"),
        (b'{"channel":"executions","type":"update","data":[]}', "executions"),
        (message("trade", TRADE | {"symbol": "ETH/USD"}), "trade ETH/USD"),
    ],
)
def test_an_unrequested_message_is_ignored_and_named(frame, kind):
    assert list(session("trades").receive(frame, NOW)) == [Ignored(kind)]


# -- what is broken ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"price": None}, {"qty": "#1e99"}, {"timestamp": "yesterday"}, {"side": "both"}, {"trade_id": "x"}],
)
def test_a_bad_trade_is_malformed_about_its_symbol(change):
    (malformed, *_) = [
        each
        for each in session("trades", "ticker").receive(message("trade", TRADE | change), NOW)
        if isinstance(each, Malformed)
    ]
    assert malformed.about == (Subscription("trades", "BTC-USD"),)


def test_a_bad_trade_does_not_cost_the_others():
    frame = message("trade", TRADE, TRADE | {"qty": "#1e99"}, TRADE)
    outputs = session("trades").receive(frame, NOW)
    assert [type(each) for each in outputs] == [Confirmed, Trade, Malformed, Trade]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["symbol", "price", "data"]), inner)
    ),
    max_leaves=10,
)


@given(st.sampled_from(["trade", "book", "ticker", "ohlc", "status", "x"]), JSON)
def test_no_input_raises(channel, data):
    it = session("trades", "l2_book", "ticker", "candles")
    it.receive(json.dumps({"channel": channel, "type": "update", "data": data}).encode(), NOW)
    it.receive(
        json.dumps({"channel": channel, "type": "update", "data": [data]}).encode().replace(b" ", b""), NOW
    )
    it.receive(json.dumps(data).encode(), NOW)


@pytest.mark.parametrize(
    "frame",
    [b"", b"null", b"\xff", b"[1]", b'{"channel":"\xff"}', b'{"channel":"book","data":' + b"[" * 200_000],
)
def test_a_frame_that_is_not_a_message_is_malformed(frame):
    (malformed,) = session("trades").receive(frame, NOW)
    assert isinstance(malformed, Malformed)


# -- the listing ---------------------------------------------------------------------------------------

PAIRS = {
    "XXBTZUSD": {"wsname": "XBT/USD", "status": "online", "tick_size": "0.1", "lot_decimals": 8},
    "XDGEUR": {"wsname": "XDG/EUR", "status": "online"},
    "AAPLxUSD": {"wsname": "AAPLx/USD", "status": "post_only"},
}


def listing(**pairs):
    return Kraken().instruments([json.dumps({"error": [], "result": pairs}).encode()])


def test_names_are_those_of_cryptofeed_and_symbols_those_of_version_2():
    ours = listing(**PAIRS).instruments
    theirs, _ = CryptofeedKraken._parse_symbol_data({"result": PAIRS})
    assert set(ours) == set(theirs) == {"BTC-USD", "DOGE-EUR", "AAPLx-USD"}
    bitcoin = ours["BTC-USD"]
    assert (bitcoin.exchange_symbol, bitcoin.tick, bitcoin.lot) == ("BTC/USD", "0.1", "0.00000001")


def test_an_unreadable_row_is_left_out():
    found = listing(XXBTZUSD=PAIRS["XXBTZUSD"], BAD={"wsname": "nothing"}, WORSE=5)
    assert set(found.instruments) == {"BTC-USD"}
    assert len(found.unread) == 2


def test_a_row_with_an_unknown_status_is_left_out_and_named():
    found = listing(XXBTZUSD=PAIRS["XXBTZUSD"], ODD={"wsname": "ODD/USD", "status": "asleep"})
    assert set(found.instruments) == {"BTC-USD"}
    assert [each.reason for each in found.unread] == ["the unknown status 'asleep'"]


def test_delisted_pairs_and_the_dark_pool_are_not_listed():
    found = listing(**{"XBTUSD.d": PAIRS["XXBTZUSD"], "OLD": {"wsname": "OLD/USD", "status": "delisted"}})
    assert (found.instruments, found.unread) == ({}, ())
