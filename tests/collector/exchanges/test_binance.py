"""The BINANCE family: what it is asked, and what its messages become."""

import json

import msgspec
import pytest
from cryptofeed.exchanges import Binance as CryptofeedBinance
from cryptofeed.exchanges import BinanceDelivery as CryptofeedDelivery
from cryptofeed.exchanges import BinanceFutures as CryptofeedFutures
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges.binance.exchange import Binance, BinanceDelivery, BinanceFutures, BinanceUS
from collector.exchanges.book import Storing
from collector.exchanges.instruments import Instrument
from collector.exchanges.numbers import MalformedError
from collector.exchanges.protocol import (
    Break,
    Closing,
    Confirmed,
    Ignored,
    Malformed,
    Notice,
    Options,
    Refused,
    Request,
    Resync,
    Send,
    Subscription,
)
from collector.exchanges.quotes import NumberedL1Book, NumberedTicker, stored
from collector.records import (
    Candle,
    Funding,
    Index,
    L2Book,
    Liquidation,
    OpenInterest,
    Record,
    Trade,
)

SECOND = 10**9
NOW = 1_790_000_000 * SECOND
MS = 1_000_000
BTC = Subscription("l2_book", "BTC-USDT")


def instruments(*symbols):
    return {
        symbol: Instrument(
            symbol=symbol,
            exchange_symbol=symbol.removesuffix("-PERP").replace("-", ""),
            kind="spot",
            base=symbol.split("-")[0],
            quote=symbol.split("-")[1],
        )
        for symbol in symbols
    }


def session(exchange=Binance, channels=("l2_book",), symbols=("BTC-USDT",), **options):
    listed = instruments(*symbols)
    wanted = [Subscription(channel, symbol) for channel in channels for symbol in symbols]
    return exchange(Options(**options)).session(wanted, listed)


def combined(stream, **data):
    return msgspec.json.encode({"stream": stream, "data": data})


def records(outputs):
    return [each for each in outputs if isinstance(each, Record)]


# -- records -------------------------------------------------------------------------------------------


def test_a_spot_trade():
    it = session(channels=["trades"])
    frame = combined(
        "btcusdt@trade",
        e="trade", E=1672515782136, s="BTCUSDT", t=12345, p="0.00100", q="100", T=1672515782130, m=True,
    )  # fmt: skip
    expected = Trade("BINANCE", "BTC-USDT", 1672515782130 * MS, NOW, "sell", "100", "0.00100", "12345", None)
    assert it.receive(frame, NOW) == [Confirmed((Subscription("trades", "BTC-USDT"),), "data"), expected]
    assert it.receive(frame.replace(b'"m":true', b'"m":false'), NOW)[0].side == "buy"


def test_futures_trades_are_aggregates_by_their_own_id():
    it = session(BinanceFutures, channels=["trades"])
    frame = combined(
        "btcusdt@aggTrade",
        e="aggTrade", E=1791391082024, a=3478018549, s="BTCUSDT", p="83434.40", q="0.016", nq="0.016",
        f=8154045700, l=8154045704, T=1791391081874, m=True, st=1,
    )  # fmt: skip
    (trade,) = records(it.receive(frame, NOW))
    assert (trade.id, trade.side, trade.amount) == ("3478018549", "sell", "0.016")


def test_the_best_prices_are_a_ticker_and_an_l1_book():
    it = session(channels=["ticker", "l1_book"])
    frame = combined(
        "btcusdt@bookTicker", u=4, s="BTCUSDT", b="25.35190000", B="31.2", a="25.36520000", A="40.66"
    )
    assert records(it.receive(frame, NOW)) == [
        NumberedTicker("BINANCE", "BTC-USDT", NOW, NOW, "25.35190000", "25.36520000", 4),
        NumberedL1Book("BINANCE", "BTC-USDT", NOW, NOW, "25.35190000", "31.2", "25.36520000", "40.66", 4),
    ]


@pytest.mark.parametrize(
    ("channel", "stream", "data"),
    [
        ("trades", "btcusdt@aggTrade", {"a": 1, "p": "1", "q": "1", "T": 1, "m": True}),
        ("ticker", "btcusdt@bookTicker", {"u": 4, "b": "1", "B": "2", "a": "3", "A": "4"}),
        ("l2_book", "btcusdt@depth@100ms", {"U": 1, "u": 2, "pu": 0, "b": [["1", "1"]], "a": []}),
        ("l2_book", "btcusdt@depth@10ms", {"e": "depthUpdate", "U": 1, "u": 2, "pu": 0, "b": [], "a": []}),
        ("funding", "btcusdt@markPrice@1s", {"p": "1", "r": "1", "T": 1}),
        ("index", "btcusdt@markPrice@1s", {"p": "1", "i": "1"}),
        (
            *("candles", "btcusdt@kline_1m"),
            {"k": {**dict.fromkeys("oclhv", "1"), "t": 1, "T": 2, "i": "1m", "n": 1, "x": True}},
        ),
        (
            *("liquidations", "btcusdt@forceOrder"),
            {"o": {"S": "BUY", "q": "1", "p": "1", "X": "FILLED", "s": "ETHUSDT"}},
        ),
    ],
)
def test_a_message_that_names_another_symbol_is_not_stored(channel, stream, data):
    it = session(BinanceFutures, symbols=["BTC-USDT", "ETH-USDT"], channels=[channel])
    outputs = it.receive(combined(stream, E=1, **({"s": "ETHUSDT"} | data)), NOW)
    (malformed,) = [each for each in outputs if isinstance(each, Malformed)]
    assert malformed.reason.casefold() == "a message of 'ethusdt' on a stream of 'btcusdt'"
    assert not records(outputs)
    right = combined(stream, E=1, **data).replace(b"ETHUSDT", b"BTCUSDT")
    assert not [each for each in it.receive(right, NOW) if isinstance(each, Malformed)]


def test_a_duplicate_quote_is_stored_once():
    it = session(channels=["ticker"])
    numbers = {4: 1, 5: 1, 7: 1, 6: 1, 1: 1}  # some are late, and then they begin anew
    sent = [4, 4, 5, 4, 7, 6, 7, 5, 1, 1]
    for number in sent:
        quote = combined("btcusdt@bookTicker", u=number, s="BTCUSDT", b="1", B="2", a="3", A="4")
        assert len(records(it.receive(quote, NOW))) == numbers.pop(number, 0)


@pytest.mark.parametrize("exchange", [Binance, BinanceUS, BinanceFutures, BinanceDelivery])
@pytest.mark.parametrize("none", [{"b": "0.00000000", "B": "0.000"}, {"a": "0", "A": "0"}])
def test_a_side_without_a_price_is_neither_zero_nor_silence(exchange, none):
    it = session(exchange, channels=["ticker", "l1_book"])
    quote = {"s": "BTCUSDT", "b": "1", "B": "2", "a": "3", "A": "4", "E": 1}
    it.receive(combined("btcusdt@bookTicker", u=4, **quote), NOW)
    outputs = it.receive(combined("btcusdt@bookTicker", u=5, **quote | none), NOW)
    both = Subscription("ticker", "BTC-USDT"), Subscription("l1_book", "BTC-USDT")
    assert outputs == (Confirmed(both, "data"),)
    assert len(records(it.receive(combined("btcusdt@bookTicker", u=6, **quote), NOW))) == 2


def test_a_shared_stream_yields_only_the_subscribed_channels():
    it = session(channels=["l1_book"])
    frame = combined("btcusdt@bookTicker", u=4, s="BTCUSDT", b="1", B="2", a="3", A="4")
    assert [type(each) for each in records(it.receive(frame, NOW))] == [NumberedL1Book]


def test_a_mark_price_is_funding_and_index():
    it = session(BinanceFutures, channels=["funding", "index"])
    frame = combined(
        "btcusdt@markPrice@1s",
        e="markPriceUpdate", E=1790526539000, s="BTCUSDT", p="84551.10762319", i="84590.87304348",
        r="0.00000801", T=1790553600000,
    )  # fmt: skip
    start = "BINANCE_FUTURES", "BTC-USDT", 1790526539000 * MS, NOW
    assert records(it.receive(frame, NOW)) == [
        Funding(*start, "84551.10762319", "0.00000801", 1790553600000 * MS, None),
        Index(*start, "84590.87304348"),
    ]


def test_a_dated_contract_has_a_mark_price_and_no_funding():
    it = session(BinanceDelivery, channels=["funding"])
    frame = combined(
        "btcusdt@markPrice@1s", e="markPriceUpdate", E=1592265602000, s="BTCUSDT", p="9501.15", r="", T=0
    )
    (funding,) = records(it.receive(frame, NOW))
    assert (funding.rate, funding.next_funding_time, funding.mark_price) == (None, None, "9501.15")


def test_a_liquidation():
    it = session(BinanceFutures, channels=["liquidations"])
    order = {"s": "BTCUSDT", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "0.014", "p": "9910", "X": "FILLED"}
    frame = combined("btcusdt@forceOrder", e="forceOrder", E=1568014460893, o=order)
    start = "BINANCE_FUTURES", "BTC-USDT", 1568014460893 * MS, NOW
    assert records(it.receive(frame, NOW)) == [Liquidation(*start, "sell", "0.014", "9910", None, "filled")]


def test_a_candle_is_stored_once_when_it_is_closed():
    it = session(channels=["candles"])
    kline = {
        "t": 1672515780000, "T": 1672515839999, "s": "BTCUSDT", "i": "1m", "f": 100, "L": 200, "o": "0.0010",
        "c": "0.0020", "h": "0.0025", "l": "0.0015", "v": "1000", "n": 100, "x": False, "q": "1.0", "V": "5",
    }  # fmt: skip
    frame = combined("btcusdt@kline_1m", e="kline", E=1672515782136, s="BTCUSDT", k=kline)
    assert it.receive(frame, NOW) == [Confirmed((Subscription("candles", "BTC-USDT"),), "data")]
    prices = {"open": "0.0010", "close": "0.0020", "high": "0.0025", "low": "0.0015", "volume": "1000"}
    (candle,) = it.receive(frame.replace(b'"x":false', b'"x":true'), NOW)
    assert isinstance(candle, Candle)
    assert {name: getattr(candle, name) for name in prices} == prices
    assert (candle.start, candle.stop, candle.trades, candle.closed) == (
        1672515780000 * MS, 1672515839999 * MS, 100, True,
    )  # fmt: skip


@pytest.mark.parametrize("change", [{"i": "1M"}, {"i": "5m"}, {"i": ""}, {"T": 60_000}, {"v": "-1"}])
def test_an_impossible_candle_is_malformed(change):
    kline = {"t": 60_000, "T": 119_999, "i": "1m", "n": 1, "x": True} | dict.fromkeys("oclhv", "1")
    data = {"e": "kline", "E": 120_000, "s": "BTCUSDT", "k": kline | change}
    (malformed,) = session(channels=["candles"]).receive(combined("btcusdt@kline_1m", **data), NOW)
    assert isinstance(malformed, Malformed)


@pytest.mark.parametrize(
    ("sent", "stored"), [("FILLED", "filled"), ("EXPIRED", "unfilled"), ("NEW", "unfilled"), ("FROZEN", None)]
)
def test_a_liquidation_has_its_status_if_known(sent, stored):
    order = {"S": "SELL", "q": "1", "p": "9", "X": sent, "s": "BTCUSDT"}
    it = session(BinanceFutures, channels=["liquidations"])
    frame = combined("btcusdt@forceOrder", e="forceOrder", E=5, o=order)
    assert [record.status for record in records(it.receive(frame, NOW))] == [stored]


def test_a_message_without_an_update_id_is_not_best_prices():
    prices = {"s": "BTCUSDT", "b": "1", "B": "2", "a": "3", "A": "4"}
    it = Binance().listener(["ticker"])
    (malformed,) = it.receive(msgspec.json.encode(prices), NOW)
    assert isinstance(malformed, Malformed)
    assert it.receive(combined("btcusdt@ticker", **prices, u=7), NOW) == (Ignored("btcusdt@ticker"),)
    assert len(records(it.receive(msgspec.json.encode(prices | {"u": 7}), NOW))) == 1


def test_an_event_without_a_symbol_is_malformed():
    frame = b'{"e":"trade","E":1,"t":1,"p":"1","q":"1","T":1,"m":true}'
    (malformed,) = Binance().listener(["trades"]).receive(frame, NOW)
    assert malformed.reason == "a trade names no symbol"


def test_open_interest_is_polled():
    exchange, wanted = BinanceFutures(), Subscription("open_interest", "BTC-USDT")
    (poll,) = exchange.polls([wanted], instruments("BTC-USDT"))
    assert (poll.url, poll.weight, poll.period) == (
        "https://fapi.binance.com/fapi/v1/openInterest?symbol=BTCUSDT", 1, 60.0,
    )  # fmt: skip
    body = b'{"openInterest":"10659.509","symbol":"BTCUSDT","time":1589437530011}'
    expected = OpenInterest("BINANCE_FUTURES", "BTC-USDT", 1589437530011 * MS, NOW, "10659.509")
    assert list(exchange.read_poll(wanted, poll.exchange_symbol, body, NOW)) == [expected]
    (bad,) = exchange.read_poll(wanted, "BTCUSDT", b'{"code":-1121,"msg":"Invalid symbol."}', NOW)
    assert bad.about == (wanted,)


@pytest.mark.parametrize("exchange", [BinanceFutures, BinanceDelivery])
def test_open_interest_of_another_symbol_is_malformed(exchange):
    wanted = Subscription("open_interest", "BTC-USDT")
    body = b'{"openInterest":"10659.509","symbol":"ETHUSDT","time":1589437530011}'
    (bad,) = exchange().read_poll(wanted, "BTCUSDT", body, NOW)
    assert bad == Malformed("a message of 'ETHUSDT' on a stream of 'BTCUSDT'", (wanted,))


# -- books ---------------------------------------------------------------------------------------------


def spot_update(number):
    """Update ``number`` of a stream: it covers two numbers, and sets the level at its own price."""
    first = 2 * number
    return combined(
        "btcusdt@depth@100ms",
        e="depthUpdate", E=1_700_000_000_000 + number, s="BTCUSDT", U=first, u=first + 1,
        b=[[f"{number}.50", "1.0"]], a=[["99", "0.0"]],
    )  # fmt: skip


def futures_update(number):
    first = 10 * number
    return combined(
        "btcusdt@depth@100ms",
        e="depthUpdate", E=1_700_000_000_000 + number, T=1, s="BTCUSDT", U=first, u=first + 3, pu=first - 7,
        b=[[f"{number}.50", "1.0"]], a=[["99", "0.0"]],
    )  # fmt: skip


def snapshot(number, exchange):
    """The book after update ``number``, as REST answers it."""
    last = 2 * number + 1 if exchange in (Binance, BinanceUS) else 10 * number + 3
    bids = [["0.25", "7"], [f"{number}.50", "1.0"]]
    return msgspec.json.encode({"lastUpdateId": last, "bids": bids, "asks": [["100", "8"]]})


FAMILIES = pytest.mark.parametrize(
    ("exchange", "update"),
    [
        (Binance, spot_update),
        (BinanceUS, spot_update),
        (BinanceFutures, futures_update),
        (BinanceDelivery, futures_update),
    ],
)


def follow(it, exchange, update, frames, answered_at=0):
    """Feeds updates by number, and answers each request with the book of the update before the latest."""
    outputs, latest = [], 0
    for number in frames:
        latest = max(latest, number)
        new = list(it.receive(update(number), NOW + number))
        outputs += new
        for request in [each for each in new if isinstance(each, Request)]:
            outputs += it.answer(request.id, 200, snapshot(latest, exchange), NOW + number)
    return outputs


def prices(outputs):
    """The bids that a reader of the records has in the end, but for those of the snapshot."""
    side = {}
    for record in records(outputs):
        side = side if record.delta else {}
        side |= dict(record.bid)
    return sorted(set(side) - {"0.25"})


@FAMILIES
def test_a_book_begins_with_its_snapshot_and_what_came_since(exchange, update):
    it = session(exchange)
    confirmed, request = it.receive(update(5), NOW)
    assert confirmed == Confirmed((BTC,), "data")
    assert isinstance(request, Request)
    assert "symbol=BTCUSDT&limit=" in request.url
    assert request.about == BTC
    assert it.receive(update(6), NOW) == ()
    assert it.receive(update(7), NOW) == ()
    resync, book, *since = it.answer(request.id, 200, snapshot(5, exchange), NOW + 9)
    assert resync == Resync(BTC)
    assert (book.delta, book.bid[-1], book.ask) == (False, ("0.25", "7"), [("100", "8")])
    assert [each.delta for each in since] == [True] * len(since)
    assert [each.bid for each in since][-2:] == [[("6.50", "1.0")], [("7.50", "1.0")]]
    assert (since[-1].timestamp, since[-1].receipt_timestamp) == (1_700_000_000_007 * MS, NOW + 9)
    (delta,) = it.receive(update(8), NOW + 10)
    assert (delta.delta, delta.bid, delta.ask) == (True, [("8.50", "1.0")], [])


@FAMILIES
def test_a_snapshot_older_than_the_first_update_is_requested_again(exchange, update):
    it = session(exchange)
    _, request = it.receive(update(5), NOW)
    (again,) = it.answer(request.id, 200, snapshot(3, exchange), NOW)
    assert isinstance(again, Request)
    assert records(it.answer(again.id, 200, snapshot(5, exchange), NOW))


@FAMILIES
def test_a_snapshot_that_contains_all_updates_is_followed_by_the_next_one(exchange, update):
    it = session(exchange)
    _, request = it.receive(update(5), NOW)
    it.receive(update(6), NOW)
    it.answer(request.id, 200, snapshot(7, exchange), NOW)
    assert it.receive(update(7), NOW) == ()
    assert len(records(it.receive(update(8), NOW))) == 1


@FAMILIES
@pytest.mark.parametrize("lost", range(2, 9))
def test_every_lost_update_is_noticed_and_costs_its_symbol_alone(exchange, update, lost):
    it = session(exchange)
    outputs = follow(it, exchange, update, [number for number in range(1, 11) if number != lost])
    assert [each.subscription for each in outputs if isinstance(each, Break)] == [BTC]
    assert prices(outputs)[-1] == "9.50"
    assert len([each for each in outputs if isinstance(each, Resync)]) == 2


@FAMILIES
@pytest.mark.parametrize("doubled", range(1, 10))
def test_a_duplicate_update_changes_nothing(exchange, update, doubled):
    frames = sorted([*range(1, 11), doubled])
    once = follow(session(exchange), exchange, update, range(1, 11))
    twice = follow(session(exchange), exchange, update, frames)
    assert [msgspec.structs.replace(each, receipt_timestamp=0) for each in records(once)] == [
        msgspec.structs.replace(each, receipt_timestamp=0) for each in records(twice)
    ]
    assert not [each for each in twice if isinstance(each, Break)]


@FAMILIES
@pytest.mark.parametrize("swapped", range(2, 9))
def test_two_swapped_updates_are_noticed(exchange, update, swapped):
    frames = list(range(1, 11))
    frames[swapped - 1], frames[swapped] = frames[swapped], frames[swapped - 1]
    outputs = follow(session(exchange), exchange, update, frames)
    assert [each for each in outputs if isinstance(each, Break)]


# -- books that begin where those of another connection are --------------------------------------------


def begun(exchange, update, last):
    """A session whose book is that after update ``last``."""
    it = session(exchange)
    follow(it, exchange, update, range(1, last + 1))
    return it


def following(before, exchange):
    """A session that is to take over from another."""
    it = session(exchange)
    it.follow(before)
    return it


def receive(it, update, numbers):
    return [output for number in numbers for output in it.receive(update(number), NOW + number)]


@FAMILIES
def test_a_book_continues_from_the_previous_connection_without_a_snapshot(exchange, update):
    before = begun(exchange, update, 5)
    it = following(before, exchange)
    confirmed, resync, book = receive(it, update, [5])
    assert (confirmed, resync) == (Confirmed((BTC,), "data"), Resync(BTC))
    assert (book.delta, book.receipt_timestamp, book.ask) == (False, NOW + 5, [("100", "8")])
    assert dict(book.bid).keys() == {"0.25", "1.50", "2.50", "3.50", "4.50", "5.50"}
    for each in (it, before):  # each has a book of its own from here on
        assert [record.bid for record in records(receive(each, update, [6]))] == [[("6.50", "1.0")]]


@FAMILIES
def test_a_connection_that_is_ahead_waits_for_the_previous_one_to_catch_up(exchange, update):
    before = begun(exchange, update, 5)
    it = following(before, exchange)
    assert receive(it, update, [7, 8, 9]) == [Confirmed((BTC,), "data")]
    receive(before, update, [6])
    outputs = receive(it, update, [10])
    assert prices(outputs) == sorted(f"{number}.50" for number in range(1, 11))
    assert [record.delta for record in records(outputs)] == [False, True, True, True, True]


@FAMILIES
def test_an_update_that_is_sent_again_before_the_book_begins_changes_nothing(exchange, update):
    before = begun(exchange, update, 5)
    it = following(before, exchange)
    receive(it, update, [7, 7, 8, 8])
    receive(before, update, [6])
    outputs = receive(it, update, [9])
    assert not [each for each in outputs if isinstance(each, Break)]
    assert [record.delta for record in records(outputs)] == [False, True, True, True]


@FAMILIES
def test_a_book_that_the_previous_connection_lacks_gets_a_snapshot(exchange, update):
    waiting, broken = session(exchange), begun(exchange, update, 5)
    receive(waiting, update, [1])
    sessions = [following(before, exchange) for before in (waiting, broken, session(exchange))]
    receive(broken, update, [7])
    assert all(isinstance(receive(it, update, [7])[-1], Request) for it in sessions)


@FAMILIES
def test_a_connection_that_lags_is_not_waited_for_for_long(exchange, update):
    it = following(begun(exchange, update, 5), exchange)
    assert [type(each) for each in receive(it, update, range(8, 40))] == [Confirmed, Request]


@FAMILIES
@given(data=st.data())
def test_whatever_a_following_connection_misses_its_book_is_complete_or_breaks(exchange, update, data):
    fault = data.draw(st.sampled_from(["none", "left out", "doubled", "swapped"]))
    first, at = data.draw(st.integers(3, 9)), data.draw(st.integers(0, 8))
    frames = list(range(first, first + 10))
    place = slice(at, at + 2)
    one, two = frames[place]
    frames[place] = {
        "none": [one, two],
        "left out": [two],
        "doubled": [one, one, two],
        "swapped": [two, one],
    }[fault]
    before, reached, outputs = begun(exchange, update, 4), 4, []
    it = following(before, exchange)
    for number in frames:
        reach = data.draw(st.integers(reached, 20))
        receive(before, update, range(reached + 1, reach + 1))
        reached = reach
        outputs += receive(it, update, [number])
    if any(isinstance(each, Break) for each in outputs):
        assert fault in {"left out", "swapped"}
        return
    receive(before, update, range(reached + 1, first + 10))
    outputs += receive(it, update, [first + 10])
    assert not [each for each in outputs if isinstance(each, Request)]
    found = {int(price.removesuffix(".50")) for price in prices(outputs)}
    assert max(found) >= first + 10
    assert found == set(range(1, max(found) + 1))


# -- snapshots that are not given ------------------------------------------------------------------------


@FAMILIES
@pytest.mark.parametrize("status", [403, 418, 429, 500, 503])
def test_a_snapshot_that_fails_is_requested_again(exchange, update, status):
    it = session(exchange)
    _, request = it.receive(update(5), NOW)
    (again,) = it.answer(request.id, status, b"", NOW)
    assert isinstance(again, Request)
    (failed,) = it.failed(again.id, "timed out")
    assert records(it.answer(failed.id, 200, snapshot(5, exchange), NOW))


@pytest.mark.parametrize("status", [400, 401, 404, 451])
def test_a_refused_snapshot_refuses_the_book_and_is_requested_again(status):
    it = session()
    _, request = it.receive(spot_update(5), NOW)
    refused, again = it.answer(request.id, status, b'{"code":-1121,"msg":"Invalid symbol."}', NOW)
    assert refused.subscriptions == (BTC,)
    assert "Invalid symbol" in refused.reason
    assert it.receive(spot_update(6), NOW) == ()
    assert prices(it.answer(again.id, 200, snapshot(5, Binance), NOW))


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"lastUpdateId":1,"bids":[["1","NaN"]],"asks":[]}', b"[" * 10**5]
)
def test_an_unreadable_snapshot_is_reported_and_requested_again(body):
    it = session()
    _, request = it.receive(spot_update(5), NOW)
    malformed, again = it.answer(request.id, 200, body, NOW)
    assert malformed.about == (BTC,)
    assert isinstance(again, Request)


def test_updates_that_wait_for_a_snapshot_are_bounded():
    it = session()
    request = it.receive(spot_update(1), NOW)[1]
    for number in range(2, 3000):
        it.receive(spot_update(number), NOW)
    (again,) = it.answer(request.id, 200, snapshot(1, Binance), NOW)  # what followed it is forgotten
    assert isinstance(again, Request)


@pytest.mark.parametrize(
    ("depth", "stream"),
    [(0, "@depth@100ms"), (3, "@depth5@100ms"), (20, "@depth20@100ms"), (21, "@depth@100ms")],
)
def test_max_depth_chooses_the_smallest_stream_that_is_enough(depth, stream):
    (frame,) = session(storing=Storing(max_depth=depth)).opening()
    assert json.loads(frame)["params"] == [f"btcusdt{stream}"]


def test_a_partial_book_is_stored_as_what_changed():
    it = session(storing=Storing(max_depth=5))
    first = combined("btcusdt@depth5@100ms", lastUpdateId=1, bids=[["2", "1"], ["1", "1"]], asks=[["3", "1"]])
    then = combined("btcusdt@depth5@100ms", lastUpdateId=2, bids=[["2", "4"]], asks=[["3", "1"]])
    (book,) = records(it.receive(first, NOW))
    assert (book.delta, book.bid) == (False, [("2", "1"), ("1", "1")])
    (delta,) = it.receive(then, NOW)
    assert (delta.delta, delta.bid, delta.ask) == (True, [("1", "0"), ("2", "4")], [])
    assert it.receive(then, NOW) == []


def test_a_partial_book_is_stored_whole_until_its_connection_has_taken_over():
    def state(number, bid):
        return combined("btcusdt@depth5@100ms", lastUpdateId=number, bids=[[bid, "1"]], asks=[["30", "1"]])

    before, it = session(storing=Storing(max_depth=5)), session(storing=Storing(max_depth=5))
    it.follow(before)
    told = [
        record for number in (1, 2, 2, 3) for record in records(it.receive(state(number, f"{number}"), NOW))
    ]
    assert [(each.number, each.delta, each.bid) for each in told] == [
        (number, False, [(str(number), "1")]) for number in (1, 2, 3)
    ]
    it.renew_books({"BTC-USDT"})
    delta, whole, last = [
        record for number in (4, 5) for record in records(it.receive(state(number, f"{number}"), NOW))
    ]
    assert (delta.delta, whole.delta, last.delta) == (True, False, True)
    assert stored(last) == L2Book("BINANCE", "BTC-USDT", NOW, NOW, True, [("4", "0"), ("5", "1")], [])


# -- asking --------------------------------------------------------------------------------------------


def test_streams_are_subscribed_in_frames_that_the_server_answers():
    symbols = [f"COIN{number}-USDT" for number in range(150)]
    it = session(channels=["trades", "ticker"], symbols=symbols)
    frames = it.opening()
    asked = [stream for frame in frames for stream in json.loads(frame)["params"]]
    assert len(asked) == len(set(asked)) == 300
    assert max(map(len, frames)) <= 4088
    assert len({json.loads(frame)["id"] for frame in frames}) == len(frames)


@given(st.integers(1, 700))
def test_connections_carry_everything_once_within_the_limits(count):
    symbols = [f"C{number}-USDT" for number in range(count)]
    wanted = [Subscription(channel, symbol) for channel in ("l2_book", "trades") for symbol in symbols]
    plans = BinanceFutures().connections(wanted, instruments(*symbols))
    carried = [each for plan in plans for each in plan.subscriptions]
    assert sorted(carried) == sorted(wanted)
    assert max(len(plan.subscriptions) for plan in plans) <= 1024
    for plan in plans:
        public = plan.url.startswith("wss://fstream.binance.com/public/stream?streams=")
        assert {each.channel for each in plan.subscriptions} == ({"l2_book"} if public else {"trades"})


def test_an_endpoint_can_be_replaced():
    it = Binance(Options(endpoints={"websocket": "wss://data-stream.binance.vision"}))
    (plan,) = it.connections([BTC], instruments("BTC-USDT"))
    assert plan.url == "wss://data-stream.binance.vision/stream?streams=btcusdt@depth@100ms"
    assert it.listing() == ["https://api.binance.com/api/v3/exchangeInfo"]


def test_an_acknowledgement_confirms_its_subscriptions():
    it = session(channels=["trades"])
    (frame,) = it.opening()
    answer = msgspec.json.encode({"result": None, "id": json.loads(frame)["id"]})
    assert it.receive(answer, NOW) == (Confirmed((Subscription("trades", "BTC-USDT"),), "acknowledgement"),)
    assert it.receive(answer, NOW) == (Ignored("answer"),)


@pytest.mark.parametrize("form", ["error", "plain"])
def test_a_refused_request_is_halved_until_the_bad_stream_is_found(form):
    symbols = [f"C{number}-USDT" for number in range(7)]
    it = session(channels=["trades"], symbols=symbols)
    frames, refused, confirmed = list(it.opening()), [], []
    while frames:
        request = json.loads(frames.pop())
        said = {"code": 2, "msg": "Invalid request"}
        bad = {"error": said} if form == "error" else said
        answer = {"id": request["id"]} | (bad if "c3usdt@trade" in request["params"] else {"result": None})
        for output in it.receive(msgspec.json.encode(answer), NOW):
            match output:
                case Send(frame=frame):
                    frames.append(frame)
                case Refused(subscriptions=subscriptions, reason=reason):
                    refused += subscriptions
                    assert "Invalid request (code 2)" in reason
                case Confirmed(subscriptions=subscriptions):
                    confirmed += subscriptions
    assert refused == [Subscription("trades", "C3-USDT")]
    assert {each.symbol for each in confirmed} == set(symbols) - {"C3-USDT"}


def test_an_error_that_answers_no_request_is_a_notice():
    assert session().receive(b'{"code":3,"msg":"Invalid JSON"}', NOW) == (Notice("Invalid JSON (code 3)"),)


@pytest.mark.parametrize(
    "frame", [b'{"e":"serverShutdown","E":1}', combined("!serverShutdown", e="serverShutdown", E=1)]
)
def test_an_announced_shutdown_means_closing_soon(frame):
    (closing,) = session().receive(frame, NOW)
    assert isinstance(closing, Closing)


def test_a_connection_reports_its_end_before_it_is_a_day_old():
    it = session()
    assert not it.tick(NOW)
    assert not it.tick(NOW + 23 * 3600 * SECOND)
    (closing,) = it.tick(NOW + (24 * 3600 - 600) * SECOND)
    assert isinstance(closing, Closing)
    assert not it.tick(NOW + 24 * 3600 * SECOND)


# -- what is not for us, and what is broken ------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'{"e":"executionReport","E":1499405658658,"s":"ETHBTC","c":"x","o":"LIMIT"}', "executionReport"),
        (b'{"e":"outboundAccountPosition","E":1564034571105,"B":[]}', "outboundAccountPosition"),
        (combined("btcusdt@avgPrice", e="avgPrice", E=1, s="BTCUSDT", w="1"), "avgPrice"),
        (combined("ethusdt@trade", e="trade", s="ETHUSDT", t=1), "trade"),
        (msgspec.json.encode({"stream": "!ticker@arr", "data": [{"e": "24hrTicker"}]}), "!ticker@arr"),
    ],
)
def test_an_unrequested_message_is_ignored_and_named(frame, kind):
    assert session(channels=["trades"]).receive(frame, NOW) == (Ignored(kind),)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"p": "NaN"}, "'NaN' is not a number"),
        ({"p": 'a"b'}, "is not a number"),
        ({"q": "1e999"}, "out of bounds"),
        ({"T": -1}, "Expected `int` >= 1"),
        ({"T": 0}, "Expected `int` >= 1"),
        ({"q": "0.000"}, "'0.000' is zero, which a trade's amount cannot be"),
        ({"T": 10**17}, "Expected `int` <"),
        ({"t": "x"}, "Expected `int`"),
        ({"p": None}, "Expected `str`"),
    ],
)
def test_a_bad_message_affects_its_stream_alone(data, reason):
    trade = {"e": "trade", "E": 1, "s": "BTCUSDT", "t": 1, "p": "1", "q": "1", "T": 1, "m": True} | data
    (malformed,) = session(channels=["trades", "ticker"]).receive(combined("btcusdt@trade", **trade), NOW)
    assert reason in malformed.reason
    assert malformed.about == (Subscription("trades", "BTC-USDT"),)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("eEsStTpPqaAbBuUkoxXidmr"), inner)
    ),
    max_leaves=12,
)
STREAMS = st.sampled_from(
    ["btcusdt@trade", "btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@kline_1m", "x", "!a"]
)


@given(STREAMS, JSON)
def test_no_input_raises(stream, data):
    it = session(channels=["trades", "l2_book", "ticker", "candles"])
    it.receive(json.dumps({"stream": stream, "data": data}).encode(), NOW)
    it.receive(json.dumps(data).encode(), NOW)
    Binance().listener(list(Binance.channels)).receive(
        json.dumps({"stream": stream, "data": data}).encode(), NOW
    )


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"null",
        b"\xff",
        b'{"e":"\xff"}',
        b'{"stream":"\xff@trade","data":{}}',
        b'{"stream":5}',
        b"[" * 300_000,
        b'{"a":' * 300_000,
        b'{"stream":"btcusdt@trade","data":' + b"[" * 300_000,
    ],
)
def test_a_frame_that_is_not_json_is_malformed(frame):
    (malformed,) = session(channels=["trades"]).receive(frame, NOW)
    assert isinstance(malformed, Malformed)


# -- the listing ---------------------------------------------------------------------------------------


def listed(exchange, *rows):
    return exchange().instruments([json.dumps({"symbols": rows}).encode()])


def row(symbol, base="BTC", quote="USDT", **more):
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "stepSize": "0.001"},
    ]
    return {
        "symbol": symbol,
        "baseAsset": base,
        "quoteAsset": quote,
        "status": "TRADING",
        "filters": filters,
    } | more


PERPETUAL = row("BTCUSDT", contractType="PERPETUAL", marginAsset="USDT", deliveryDate=4133404800000)
QUARTER = row(
    "BTCUSDT_261225", contractType="CURRENT_QUARTER", marginAsset="USDT", deliveryDate=1798185600000
)
GOLD = row("XAUUSDT", base="XAU", contractType="TRADIFI_PERPETUAL", marginAsset="USDT")
COIN = row(
    "BTCUSD_PERP", quote="USD", contractType="PERPETUAL", contractSize=100, marginAsset="BTC", status=None,
    contractStatus="TRADING",
)  # fmt: skip


def test_instruments_are_listed_with_all_their_details():
    future = listed(BinanceFutures, QUARTER).instruments["BTC-USDT-26Z25"]
    assert (future.exchange_symbol, future.kind, future.tick, future.lot) == (
        "BTCUSDT_261225", "future", "0.10", "0.001",
    )  # fmt: skip
    assert (future.settlement, future.expiry, future.contract_size) == ("USDT", 1798185600000 * MS, None)
    coin = listed(BinanceDelivery, COIN).instruments["BTC-USD-PERP"]
    assert (coin.contract_size, coin.contract_unit, coin.settlement, coin.expiry) == (
        "100",
        "USD",
        "BTC",
        None,
    )


def test_a_gold_perpetual_is_a_perpetual():
    assert listed(BinanceFutures, GOLD).instruments["XAU-USDT-PERP"].exchange_symbol == "XAUUSDT"


def test_an_instrument_that_is_not_traded_is_not_listed():
    assert not listed(Binance, row("BTCUSDT", status="BREAK")).instruments
    assert listed(Binance, row("BTCUSDT", status="HALT")).instruments


@pytest.mark.parametrize("exchange", [Binance, BinanceUS, BinanceFutures, BinanceDelivery])
def test_a_row_with_an_unknown_status_is_left_out_and_named(exchange):
    key = "contractStatus" if exchange is BinanceDelivery else "status"
    odd = row("BTCUSDT", contractType="PERPETUAL", contractSize=1) | {"status": None, key: "ASLEEP"}
    found = listed(exchange, odd)
    assert [each.reason for each in found.unread] == ["the unknown status 'ASLEEP'"]
    assert not found.instruments


@pytest.mark.parametrize(
    "bad",
    [
        {"symbol": ""},
        row("X", base=""),
        row("X", quote="A-B"),
        row("X", contractType="PERPETUAL_SWAP"),
        row("BTCUSDT_X", contractType="NEXT_QUARTER"),
        row("X", filters=None),
        "text",
        None,
    ],
)
def test_an_unreadable_row_is_left_out_and_named(bad):
    found = listed(BinanceFutures, PERPETUAL, bad, GOLD)
    assert set(found.instruments) == {"BTC-USDT-PERP", "XAU-USDT-PERP"}
    (unread,) = found.unread
    assert unread.reason
    assert unread.row in json.dumps(bad)[:120]


def test_two_instruments_with_one_name_are_left_out_and_named():
    found = listed(Binance, row("BTCUSDT"), row("BTCUSDT2"), row("ETHUSDT", base="ETH"))
    assert set(found.instruments) == {"ETH-USDT"}
    assert [each.reason for each in found.unread] == ["2 instruments would be BTC-USDT"] * 2


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"code":0,"msg":"Service unavailable from a restricted location"}']
)
def test_an_answer_that_is_not_a_listing_is_an_error(body):
    with pytest.raises(MalformedError, match="no listing of BINANCE"):
        Binance().instruments([body])


@pytest.mark.parametrize(
    ("ours", "theirs", "rows", "different"),
    [
        (Binance, CryptofeedBinance, [row("BTCUSDT"), row("ETHBTC", base="ETH", quote="BTC")], {}),
        # of gold, cryptofeed makes a spot symbol; its symbols of the premium index are our channel ``index``
        (
            BinanceFutures,
            CryptofeedFutures,
            [PERPETUAL, QUARTER, GOLD],
            {"BTC-USDT-PINDEX", "XAU-USDT", "XAU-USDT-PERP"},
        ),
        (BinanceDelivery, CryptofeedDelivery, [COIN], {}),
    ],
)
def test_names_are_those_of_cryptofeed(ours, theirs, rows, different):
    found = {name: each.exchange_symbol for name, each in listed(ours, *rows).instruments.items()}
    expected, _ = theirs._parse_symbol_data(
        {"symbols": [{k: v for k, v in one.items() if v} for one in rows]}
    )
    assert {name for name, _ in found.items() ^ expected.items()} == set(different)


def test_the_american_exchange_has_its_own_addresses():
    (plan,) = BinanceUS().connections([BTC], instruments("BTC-USDT"))
    assert plan.url.startswith("wss://stream.binance.us:9443/")


def test_a_symbol_that_could_be_a_stream_name_is_malformed():
    it = BinanceDelivery(Options()).listener(("funding",))
    frame = b'{"s":"btcusd_perp@markPrice@1s","e":"markPriceUpdate","E":1790000000000,"p":"1","r":"0"}'
    (output,) = it.receive(frame, NOW)
    assert isinstance(output, Malformed)


@pytest.mark.parametrize("exchange", [BinanceFutures, BinanceDelivery])
def test_updates_without_the_previous_number_are_taken_unchecked_with_one_notice(exchange):
    def update(number):
        message = msgspec.json.decode(futures_update(number))
        del message["data"]["pu"]
        return msgspec.json.encode(message)

    it = session(exchange)
    outputs = follow(it, exchange, update, [1, 2, 2, 3, 4])
    assert not [each for each in outputs if isinstance(each, Break)]
    assert [each for each in prices(outputs) if each != "0.25"] == ["1.50", "2.50", "3.50", "4.50"]
    assert len([each for each in outputs if isinstance(each, Resync)]) == 1
    (told,) = [each.text for each in outputs if isinstance(each, Notice)]
    assert told == "BTC-USDT: updates of the book do not name the one before: unchecked"
    assert [each for each in it.receive(futures_update(6), NOW) if isinstance(each, Break)]  # 5 is missing
