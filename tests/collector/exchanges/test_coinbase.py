"""COINBASE, Advanced Trade: what it is asked, and what its messages become."""

import json
from datetime import datetime, timedelta
from functools import partial

import msgspec
import pytest
from cryptofeed.exchanges import Coinbase as CryptofeedCoinbase
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges.coinbase.exchange import Coinbase
from collector.exchanges.instruments import Instrument
from collector.exchanges.protocol import (
    Break,
    Confirmed,
    Ignored,
    Malformed,
    Notice,
    Refused,
    Renew,
    Repeated,
    Resync,
    Send,
    Subscription,
)
from collector.exchanges.times import rfc3339
from collector.records import Funding, Index, L1Book, L2Book, Record, Ticker, Trade
from collector.times import SECOND

NOW = 1_790_000_000 * SECOND
AT = "2026-04-07T14:30:02.789012345Z"
TIME = rfc3339(AT)
BOOK = Subscription("l2_book", "BTC-USD")


def session(*channels, symbols=("BTC-USD",)):
    wanted = [Subscription(channel, symbol) for channel in channels for symbol in symbols]
    listed = {
        symbol: Instrument(symbol=symbol, exchange_symbol=symbol, kind="spot", base="BTC", quote="USD")
        for symbol in symbols
    }
    return Coinbase().session(wanted, listed)


def message(channel, *events, number=0):
    return msgspec.json.encode(
        {"channel": channel, "client_id": "", "timestamp": AT, "sequence_num": number, "events": events}
    )


def records(outputs):
    return [each for each in outputs if isinstance(each, Record)]


def kinds(outputs):
    return [type(each) for each in outputs]


# -- records -------------------------------------------------------------------------------------------


def trade(number, **more):
    return {
        "trade_id": str(number), "product_id": "BTC-USD", "price": "68900.50", "size": "0.00150000",
        "side": "BUY", "time": AT,
    } | more  # fmt: skip


def test_trades_are_stored_oldest_first_under_the_takers_side():
    frame = message("market_trades", {"type": "update", "trades": [trade(8, side="SELL"), trade(7)]})
    start = "COINBASE", "BTC-USD", TIME, NOW
    assert records(session("trades").receive(frame, NOW)) == [
        Trade(*start, "sell", "0.00150000", "68900.50", "7"),
        Trade(*start, "buy", "0.00150000", "68900.50", "8"),
    ]


def test_trades_at_the_start_of_a_subscription_are_repeats():
    frame = message("market_trades", {"type": "snapshot", "trades": [trade(8), trade(7)]})
    outputs = session("trades").receive(frame, NOW)
    assert kinds(outputs) == [Confirmed, Repeated, Repeated]
    assert [each.records[0].id for each in outputs[1:]] == ["7", "8"]


def test_the_best_prices_are_a_ticker_and_an_l1_book():
    quote = {
        "type": "ticker", "product_id": "BTC-USD", "best_bid": "68900.00", "best_ask": "68901.0",
        "best_bid_quantity": "1.50000000", "best_ask_quantity": "0.5",
    }  # fmt: skip
    frame = message("ticker", {"type": "update", "tickers": [quote]})
    start = "COINBASE", "BTC-USD", TIME, NOW
    ticker = Ticker(*start, "68900.00", "68901.0")
    l1_book = L1Book(*start, "68900.00", "1.50000000", "68901.0", "0.5")
    assert records(session("ticker", "l1_book").receive(frame, NOW)) == [ticker, l1_book]
    assert records(session("l1_book").receive(frame, NOW)) == [l1_book]


@pytest.mark.parametrize(
    "change", [{"best_bid": None}, {"best_ask_quantity": ""}, {"best_bid_quantity": "-1"}, {"product_id": ""}]
)
def test_incomplete_best_prices_are_malformed(change):
    quote = {"product_id": "BTC-USD", "best_bid": "1", "best_ask": "2"}
    sizes = {"best_bid_quantity": "1.5", "best_ask_quantity": "0.5"}
    quote = {field: value for field, value in (quote | sizes | change).items() if value is not None}
    outputs = session("l1_book").receive(message("ticker", {"type": "update", "tickers": [quote]}), NOW)
    assert not records(outputs)
    assert any(isinstance(each, Malformed) for each in outputs)


@pytest.mark.parametrize("none", [{"best_bid": ""}, {"best_ask": "0"}, {"best_bid": "0.00", "best_ask": ""}])
def test_a_side_without_a_price_is_neither_zero_nor_silence(none):
    quote = {"product_id": "BTC-USD", "best_bid": "1", "best_ask": "2"}
    sizes = {"best_bid_quantity": "1.5", "best_ask_quantity": "0.5"}
    it, tickers = session("ticker", "l1_book"), [quote | sizes, quote | sizes | none]
    outputs = it.receive(message("ticker", {"type": "update", "tickers": tickers}), NOW)
    assert len(records(outputs)) == 2
    of_the_last = [Confirmed((Subscription(each, "BTC-USD"),), "data") for each in ("ticker", "l1_book")]
    assert list(outputs)[-2:] == of_the_last


def candle(start, close, kind="update", number=0):
    values = {"open": "1.0", "close": close, "high": "3", "low": "0.5", "volume": "42.15"}
    return message(
        "candles",
        {"type": kind, "candles": [values | {"start": str(start), "product_id": "BTC-USD"}]},
        number=number,
    )


def test_a_candle_is_stored_once_when_the_next_one_begins():
    it = session("candles")
    assert records(it.receive(candle(600, "1.1"), NOW)) == []
    assert records(it.receive(candle(600, "1.2", number=1), NOW)) == []
    (closed,) = it.receive(candle(900, "1.3", number=2), NOW)
    assert (closed.start, closed.stop, closed.interval, closed.close, closed.trades, closed.closed) == (
        600 * SECOND, 900 * SECOND, "5m", "1.2", None, True,
    )  # fmt: skip
    assert it.tick(NOW)[0].close == "1.3"


def test_a_clock_that_is_ahead_of_the_exchange_closes_no_candle_early():
    it = session("candles")
    start = rfc3339(AT) // SECOND - 290
    it.receive(candle(start, "1.1"), NOW)
    assert it.tick((start + 400) * SECOND) == []
    later = (datetime.fromisoformat(AT) + timedelta(seconds=21)).isoformat().replace("+00:00", "Z")
    beat = {"channel": "heartbeats", "client_id": "", "timestamp": later, "sequence_num": 1, "events": []}
    it.receive(msgspec.json.encode(beat), NOW)
    (closed,) = it.tick((start + 401) * SECOND)
    assert (closed.close, closed.receipt_timestamp) == ("1.1", (start + 401) * SECOND)


def test_candles_from_before_the_subscription_are_repeats():
    it = session("candles")
    it.receive(candle(600, "1", kind="snapshot"), NOW)
    assert kinds(it.receive(candle(900, "2", kind="snapshot", number=1), NOW)) == [Repeated]


# -- books ---------------------------------------------------------------------------------------------


def book(number, kind="update", product="BTC-USD", **levels):
    updates = [
        {"side": side, "event_time": AT, "price_level": price, "new_quantity": size}
        for side, of_side in levels.items()
        for price, size in of_side.items()
    ]
    return message("l2_data", {"type": kind, "product_id": product, "updates": updates}, number=number)


SNAPSHOT = {"bid": {"100.10": "1.0", "100.20": "2"}, "offer": {"100.30": "3"}}


def test_a_book_begins_with_its_snapshot_and_is_changed():
    it = session("l2_book")
    confirmed, resync, complete = it.receive(book(0, "snapshot", **SNAPSHOT), NOW)
    assert (confirmed.by, resync) == ("data", Resync(BOOK))
    assert (complete.bid, complete.ask, complete.timestamp) == (
        [("100.20", "2"), ("100.10", "1.0")], [("100.30", "3")], TIME,
    )  # fmt: skip
    (delta,) = it.receive(book(1, bid={"100.20": "0"}, offer={"100.40": "1"}), NOW)
    assert (delta.delta, delta.bid, delta.ask) == (True, [("100.20", "0")], [("100.40", "1")])
    assert it.receive(book(2), NOW) == []


@pytest.mark.parametrize("lost", range(1, 6))
def test_every_lost_message_breaks_all_that_the_connection_carries(lost):
    it = session("l2_book", "trades", "ticker")
    frames = [book(number, bid={f"{number}": "1"}) for number in range(1, 8)]
    del frames[lost]
    outputs = [
        output for frame in [book(0, "snapshot", **SNAPSHOT), *frames] for output in it.receive(frame, NOW)
    ]
    broken = [each for each in outputs if isinstance(each, Break)]
    assert {each.subscription.channel for each in broken} == {"l2_book", "trades", "ticker"}
    assert broken[0].reason == f"message {lost + 2} came where {lost + 1} was due"
    asked = [json.loads(frame) for each in outputs if isinstance(each, Renew) for frame in each.frames]
    assert [(each["type"], each["channel"]) for each in asked] == [
        ("unsubscribe", "level2"), ("unsubscribe", "market_trades"), ("subscribe", "level2"),
        ("subscribe", "market_trades"),
    ]  # fmt: skip
    assert it.receive(book(8, bid={"5": "1"}), NOW) == []  # until the book begins again
    assert kinds(it.receive(book(9, "snapshot", **SNAPSHOT), NOW)) == [Resync, L2Book]
    assert {each.subscription.channel for each in broken if each.renewed} == {"l2_book", "trades"}
    snapshot = message("market_trades", {"type": "snapshot", "trades": [trade(7)]}, number=10)
    assert kinds(it.receive(snapshot, NOW)) == [Resync, Confirmed, Repeated]


def test_two_swapped_messages_are_noticed():
    it = session("l2_book")
    frames = [book(0, "snapshot", **SNAPSHOT), book(2, bid={"2": "1"}), book(1, bid={"1": "1"}), book(3)]
    outputs = [output for frame in frames for output in it.receive(frame, NOW)]
    assert len([each for each in outputs if isinstance(each, Break)]) == 1


def test_a_duplicate_message_breaks_nothing():
    it = session("l2_book")
    frames = [book(0, "snapshot", **SNAPSHOT), book(1, bid={"1": "1"}), book(1, bid={"1": "1"}), book(2)]
    outputs = [output for frame in frames for output in it.receive(frame, NOW)]
    assert not [each for each in outputs if isinstance(each, Break)]
    assert [each.delta for each in records(outputs)] == [False, True]


def test_a_message_that_comes_late_is_read():
    it = session("trades")
    frames = [
        message("market_trades", {"type": "update", "trades": [trade(number)]}, number=number)
        for number in (0, 2, 1, 1, 3)
    ]
    outputs = [output for frame in frames for output in it.receive(frame, NOW)]
    assert [record.id for record in records(outputs)] == ["0", "2", "1", "3"]


def test_acknowledgements_and_heartbeats_are_numbered_too():
    it = session("l2_book")
    it.receive(book(0, "snapshot", **SNAPSHOT), NOW)
    assert kinds(it.receive(message("subscriptions", {"subscriptions": {}}, number=1), NOW)) == [Ignored]
    assert list(it.receive(message("heartbeats", {"heartbeat_counter": 4}, number=2), NOW)) == [
        Ignored("heartbeats")
    ]
    assert kinds(it.receive(book(3, bid={"1": "1"}), NOW)) == [L2Book]


def test_an_unreadable_message_is_not_a_lost_one():
    it = session("l2_book", "trades")
    it.receive(book(0, "snapshot", **SNAPSHOT), NOW)
    frame = message("market_trades", {"type": "update", "trades": [trade(1, side="NONE")]}, number=1)
    (malformed,) = it.receive(frame, NOW)
    assert malformed.about == (Subscription("trades", "BTC-USD"),)
    assert kinds(it.receive(book(2, bid={"1": "1"}), NOW)) == [L2Book]


# -- asking --------------------------------------------------------------------------------------------


def test_each_channel_is_requested_once_and_heartbeats_keep_quiet_ones_open():
    frames = [
        json.loads(frame)
        for frame in session("ticker", "l1_book", "trades", symbols=("A-B", "C-D")).opening()
    ]
    assert frames == [
        {"type": "subscribe", "channel": "market_trades", "product_ids": ["A-B", "C-D"]},
        {"type": "subscribe", "channel": "ticker", "product_ids": ["A-B", "C-D"]},
        {"type": "subscribe", "channel": "heartbeats"},
    ]


@given(st.integers(1, 120))
def test_connections_carry_everything_once_within_the_limits(count):
    wanted = [
        Subscription(channel, f"C{number}") for channel in ("l2_book", "trades") for number in range(count)
    ]
    plans = Coinbase().connections(wanted, {})
    assert sorted(each for plan in plans for each in plan.subscriptions) == sorted(wanted)
    assert max(len({each.symbol for each in plan.subscriptions}) for plan in plans) <= 50


def test_each_subscription_is_confirmed_once():
    it = session("trades", "l2_book", symbols=("BTC-USD", "ETH-USD"))
    standing = {"market_trades": ["BTC-USD"]}
    assert it.receive(message("subscriptions", {"subscriptions": standing}), NOW) == [
        Confirmed((Subscription("trades", "BTC-USD"),), "acknowledgement")
    ]
    standing |= {"level2": ["ETH-USD"]}
    (confirmed,) = it.receive(message("subscriptions", {"subscriptions": standing}, number=1), NOW)
    assert confirmed.subscriptions == (Subscription("l2_book", "ETH-USD"),)


def test_a_refused_product_is_named_and_the_rest_requested_again():
    it = session("trades", symbols=("BTC-USD", "BAD-USD", "ETH-USD"))
    refused, send = it.receive(b'{"type":"error","message":"product not found: BAD-USD"}', NOW)
    assert refused == Refused((Subscription("trades", "BAD-USD"),), "product not found: BAD-USD")
    assert isinstance(send, Send)
    assert json.loads(send.frame)["product_ids"] == ["BTC-USD", "ETH-USD"]


def test_a_refused_subscription_is_not_requested_again_after_a_loss():
    it = session("l2_book", symbols=("BTC-USD", "BAD-USD"))
    it.receive(b'{"type":"error","message":"product not found: BAD-USD"}', NOW)
    it.receive(book(0, "snapshot", **SNAPSHOT), NOW)
    outputs = it.receive(book(2, bid={"1": "1"}), NOW)
    assert [each.subscription for each in outputs if isinstance(each, Break)] == [BOOK]
    (renewed,) = (each for each in outputs if isinstance(each, Renew))
    asked = [json.loads(frame)["product_ids"] for frame in renewed.frames]
    assert asked == [["BTC-USD"], ["BTC-USD"]]


def test_an_error_that_names_a_channel_refuses_only_that():
    it = session("trades", "l2_book")
    (refused,) = it.receive(b'{"type":"error","message":"cannot subscribe to level2 for BTC-USD"}', NOW)
    assert refused.subscriptions == (BOOK,)


def test_an_error_that_names_no_subscription_is_a_notice():
    assert session("trades").receive(b'{"type":"error","message":"rate limit"}', NOW) == (
        Notice("rate limit"),
    )


# -- what is not for us, and what is broken ------------------------------------------------------------


def test_an_unrequested_message_is_ignored_and_named():
    it = session("trades")
    assert it.receive(book(0, product="ETH-USD"), NOW) == [Ignored("level2 ETH-USD")]
    assert it.receive(message("user", {"orders": []}, number=1), NOW) == [Ignored("user")]


def test_fields_may_come_in_another_order():
    it = session("trades")
    event = {"type": "update", "trades": [trade(1)]}
    frame = msgspec.json.encode(
        {"sequence_num": 0, "timestamp": AT, "channel": "market_trades", "events": [event]}
    )
    assert len(records(it.receive(frame, NOW))) == 1


@pytest.mark.parametrize("change", [{"price": "NaN"}, {"time": "never"}, {"size": "1e99"}])
def test_a_bad_trade_costs_only_itself(change):
    frame = message("market_trades", {"type": "update", "trades": [trade(3), trade(2, **change), trade(1)]})
    assert kinds(session("trades").receive(frame, NOW)) == [Confirmed, Trade, Malformed, Trade]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "trades", "events"]), inner)
    ),
    max_leaves=10,
)


@given(st.sampled_from(["l2_data", "market_trades", "ticker", "candles", "subscriptions", "x"]), JSON)
def test_no_input_raises(channel, data):
    it = session("trades", "l2_book", "ticker", "candles")
    it.receive(message(channel, data), NOW)
    it.receive(json.dumps({"channel": channel, "timestamp": AT, "events": data}).encode(), NOW)
    it.receive(json.dumps(data).encode(), NOW)


@pytest.mark.parametrize(
    "frame", [b"", b"null", b"\xff", b"[1]", b'{"channel":"l2_data","events":' + b"[" * 200_000]
)
def test_a_frame_that_is_not_a_message_is_malformed(frame):
    (malformed,) = session("trades").receive(frame, NOW)
    assert isinstance(malformed, Malformed)


# -- the listing ---------------------------------------------------------------------------------------


def product(symbol, **more):
    base, _, quote = symbol.partition("-")
    return {
        "product_id": symbol, "base_currency_id": base, "quote_currency_id": quote, "product_type": "SPOT",
        "status": "online", "price_increment": "0.01", "quote_increment": "0.01",
        "base_increment": "0.00000001",
    } | more  # fmt: skip


def future(symbol, **more):
    details = {
        "contract_code": "BIP", "contract_size": "0.01", "contract_root_unit": "BTC",
        "contract_expiry_type": "EXPIRING", "contract_expiry": "2030-12-20T16:00:00Z",
    }  # fmt: skip
    return product(symbol, product_type="FUTURE", base_currency_id="", quote_currency_id="USD") | {
        "future_product_details": details | more
    }


def listing(*products):
    return Coinbase().instruments([json.dumps({"products": products}).encode()])


def test_names_of_spot_products_are_those_of_cryptofeed():
    products = [product("BTC-USD"), product("ETH-BTC")]
    theirs, _ = CryptofeedCoinbase._parse_symbol_data({"products": products})
    assert {symbol: each.exchange_symbol for symbol, each in listing(*products).instruments.items()} == theirs


def test_futures_have_names_of_their_own_with_their_expiry():
    (name, contract), = listing(future("BIP-20DEC30-CDE")).instruments.items()  # fmt: skip
    assert (name, contract.exchange_symbol, contract.kind) == ("BIP-USD-30Z20", "BIP-20DEC30-CDE", "future")
    assert (contract.contract_size, contract.contract_unit, contract.base) == ("0.01", "BTC", "BTC")
    assert contract.expiry == rfc3339("2030-12-20T16:00:00Z")


def test_a_listing_of_several_pages_says_where_the_next_one_is():
    def following(address, **pagination):
        answer = {"products": [product("BTC-USD")], "pagination": pagination}
        return Coinbase().next_page(address, json.dumps(answer).encode())

    assert (
        following("https://x/products", has_next=True, next_cursor="a/b") == "https://x/products?cursor=a%2Fb"
    )
    futures = "https://x/products?product_type=FUTURE"
    assert following(futures, has_next=True, next_cursor="2") == f"{futures}&cursor=2"
    assert following(f"{futures}&cursor=2", has_next=True, next_cursor="3") == f"{futures}&cursor=3"
    assert following(futures, has_next=False, next_cursor="2") is None
    assert following(futures, has_next=True, next_cursor="") is None
    assert following(futures, has_next="strange") is None
    assert Coinbase().next_page(futures, b'{"products":[]}') is None


def test_nothing_is_listed_with_an_empty_or_partial_name():
    found = listing(
        product("", base_currency_id=""), product("-USD"), future("X", contract_code=""), product("BTC-USD")
    )
    assert set(found.instruments) == {"BTC-USD"}
    assert len(found.unread) == 3


def test_aliases_of_other_books_and_delisted_products_are_not_listed():
    rows = (
        product("BTC-USDC", alias="BTC-USD"),
        product("OLD-USD", status="delisted"),
        product("A-B", is_disabled=True),
    )
    assert listing(*rows).instruments == {}


def test_a_product_in_both_listings_is_listed_once():
    body = json.dumps({"products": [product("BTC-USD")]}).encode()
    assert set(Coinbase().instruments([body, body]).instruments) == {"BTC-USD"}


TRADES = Subscription("trades", "BTC-USD")


def lost_message():
    """A session whose trades are being subscribed to again."""
    it = session("trades", "l2_book")
    it.receive(book(0, "snapshot", **SNAPSHOT), NOW)
    assert [each for each in it.receive(book(2, bid={"1": "1"}), NOW) if isinstance(each, Renew)]
    return it


def test_renewed_trades_without_any_trade_resync_after_the_acknowledgement():
    it = lost_message()
    it.receive(message("market_trades", {"type": "snapshot", "trades": []}, number=3), NOW)
    standing = {"market_trades": ["BTC-USD"], "level2": ["BTC-USD"]}
    it.receive(message("subscriptions", {"subscriptions": standing}, number=4), NOW + SECOND)
    assert not it.tick(NOW + 11 * SECOND)
    assert it.tick(NOW + 12 * SECOND) == [Resync(TRADES)]
    assert not it.tick(NOW + 30 * SECOND)


def test_trades_whose_renewal_is_not_confirmed_do_not_resync():
    it = lost_message()
    standing = {"market_trades": ["BTC-USD"]}
    it.receive(message("subscriptions", {"subscriptions": standing}, number=3), NOW)
    it.receive(message("subscriptions", {"subscriptions": {}}, number=4), NOW)  # to what is given up first
    assert not it.tick(NOW + 60 * SECOND)


def test_an_error_about_a_renewed_subscription_refuses_it():
    it = session("l2_book", symbols=("BTC-USD", "ETH-USD"))
    standing = {"level2": ["BTC-USD", "ETH-USD"]}
    it.receive(message("subscriptions", {"subscriptions": standing}, number=0), NOW)
    it.receive(book(1, "snapshot", **SNAPSHOT), NOW)
    it.receive(book(3, bid={"1": "1"}), NOW)
    refused, again = it.receive(b'{"type":"error","message":"product not found: ETH-USD"}', NOW)
    assert refused.subscriptions == (Subscription("l2_book", "ETH-USD"),)
    assert json.loads(again.frame)["product_ids"] == ["BTC-USD"]


# -- what is asked for ---------------------------------------------------------------------------------


FUTURE = Instrument(
    symbol="BIP-USD-30Z20", exchange_symbol="BIP-20DEC30-CDE", kind="future", base="BTC", quote="USD"
)


def test_contract_channels_are_polled_for_contracts_and_not_for_spot_pairs():
    spot = Instrument(symbol="BTC-USD", exchange_symbol="BTC-USD", kind="spot", base="BTC", quote="USD")
    listed = {FUTURE.symbol: FUTURE, "BTC-USD": spot}
    channels = ("funding", "open_interest", "index")
    wanted = [Subscription(channel, symbol) for channel in channels for symbol in listed]
    polls = Coinbase().polls(wanted, listed)
    assert [poll.subscription for poll in polls] == [Subscription(each, FUTURE.symbol) for each in channels]
    assert {poll.url.rpartition("/")[2] for poll in polls} == {"BIP-20DEC30-CDE"}
    assert Coinbase().connections(wanted, listed) == []


@pytest.mark.parametrize(
    ("channel", "told", "expected"),
    [
        ("funding", {"funding_rate": "", "funding_time": None}, Refused),
        ("funding", {"funding_rate": "0.1", "funding_time": "2026-04-07T00:00:00Z"}, Funding),
        ("funding", {"funding_rate": "0.1", "funding_time": "soon"}, Malformed),
        ("open_interest", {"open_interest": "NaN"}, Malformed),
        ("open_interest", {"open_interest": ""}, Refused),
        ("index", {"index_price": "1"}, Index),
    ],
)
def test_a_channel_that_a_contract_lacks_is_refused(channel, told, expected):
    wanted = Subscription(channel, FUTURE.symbol)
    body = msgspec.json.encode({"product_id": "BIP-20DEC30-CDE", "future_product_details": told})
    read = partial(Coinbase().read_poll, wanted, FUTURE.exchange_symbol)
    assert [type(each) for each in read(body, NOW)] == [expected]
    (bad,) = read(b'{"error":"NOT_FOUND"}', NOW)
    assert bad.about == (wanted,)


@pytest.mark.parametrize("channel", ["funding", "open_interest", "index"])
def test_what_is_polled_of_another_contract_is_malformed(channel):
    wanted = Subscription(channel, FUTURE.symbol)
    told = {"funding_rate": "0.1", "funding_time": "2026-04-07T00:00:00Z", "open_interest": "1"}
    told |= {"index_price": "1"}
    body = msgspec.json.encode({"product_id": "ETP-20DEC30-CDE", "future_product_details": told})
    (bad,) = Coinbase().read_poll(wanted, FUTURE.exchange_symbol, body, NOW)
    assert bad == Malformed("a message of 'ETP-20DEC30-CDE' on a stream of 'BIP-20DEC30-CDE'", (wanted,))
