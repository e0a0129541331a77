"""OKX, version 5: what it is asked, and what its messages become."""

import json

import msgspec
import pytest
from cryptofeed import exchanges as cryptofeed_exchanges
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges.book import Storing
from collector.exchanges.instruments import Instrument
from collector.exchanges.numbers import MalformedError
from collector.exchanges.okx.exchange import Okx
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
    Request,
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
TS = "1790000000123"
TIME = int(TS) * MILLISECOND
SWAP = Instrument(
    symbol="BTC-USDT-PERP", exchange_symbol="BTC-USDT-SWAP", kind="perpetual", base="BTC", quote="USDT",
    index="BTC-USDT",
)  # fmt: skip
FUTURE = Instrument(
    symbol="BTC-USDT-26Z25", exchange_symbol="BTC-USDT-261225", kind="future", base="BTC", quote="USDT",
    index="BTC-USDT",
)  # fmt: skip
OPTION = Instrument(
    symbol="BTC-USD-92000-26Z25-call", exchange_symbol="BTC-USD-261225-92000-C", kind="option", base="BTC",
    quote="USD", index="BTC-USD",
)  # fmt: skip
SPOT = Instrument(symbol="BTC-USDT", exchange_symbol="BTC-USDT", kind="spot", base="BTC", quote="USDT")
LISTED = {each.symbol: each for each in (SWAP, FUTURE, OPTION, SPOT)}
BOOK = Subscription("l2_book", "BTC-USDT-PERP")


def session(*channels, symbols=("BTC-USDT-PERP",), **options):
    wanted = [Subscription(channel, symbol) for channel in channels for symbol in symbols]
    return Okx(Options(**options)).session(wanted, LISTED)


def message(channel, *data, inst="BTC-USDT-SWAP", **more):
    return msgspec.json.encode({"arg": {"channel": channel, "instId": inst}} | more | {"data": data})


def event(event, channel="trades-all", inst="BTC-USDT-SWAP", **more):
    return msgspec.json.encode(
        {"event": event, "arg": {"channel": channel, "instId": inst}, "connId": "a"} | more
    )


def records(outputs):
    return [each for each in outputs if isinstance(each, Record)]


def kinds(outputs):
    return [type(each) for each in outputs]


# -- records -------------------------------------------------------------------------------------------


def trade(number, ts=TS):
    return {
        "instId": "BTC-USDT-SWAP", "tradeId": str(number), "px": "48938.50", "sz": "5", "side": "buy",
        "ts": ts,
    }  # fmt: skip


def test_a_trade_is_not_aggregated_and_has_the_takers_side():
    expected = Trade("OKX", "BTC-USDT-PERP", TIME, NOW, "buy", "5", "48938.50", "7", None)
    outputs = session("trades").receive(message("trades-all", trade(7)), NOW)
    assert outputs == [Confirmed((Subscription("trades", "BTC-USDT-PERP"),), "data"), expected]


def test_trades_older_than_the_subscription_are_repeats_and_live_ones_never():
    it = session("trades")
    it.receive(event("subscribe"), TIME)
    old, live = str(int(TS) - 1), TS
    outputs = it.receive(message("trades-all", trade(1, old), trade(2, live)), TIME)
    assert kinds(outputs) == [Confirmed, Repeated, Trade]


def test_a_clock_that_is_ahead_of_the_exchange_makes_no_later_trade_a_repeat():
    it, hour, second = session("trades"), 3600 * 10**9, 10**9
    it.receive(event("subscribe"), TIME + hour)
    found = [
        kinds(it.receive(message("trades-all", trade(number, TS)), TIME + hour + number * second))
        for number in (1, 9, 11, 3601)
    ]
    assert found == [[Confirmed, Repeated], [Repeated], [Trade], [Trade]]


def test_a_clock_that_is_set_back_after_the_subscription_makes_no_trade_a_repeat():
    it, hour = session("trades"), 3600 * SECOND
    it.receive(event("subscribe"), TIME + hour)
    outputs = it.receive(message("trades-all", trade(1, TS)), TIME)
    assert kinds(outputs) == [Confirmed, Trade]


@pytest.mark.parametrize(
    ("channel", "theirs", "data"),
    [
        ("trades", "trades-all", trade(7)),
        ("funding", "funding-rate", {"fundingRate": "1", "fundingTime": TS, "ts": TS}),
        ("open_interest", "open-interest", {"oi": "1", "ts": TS}),
    ],
)
def test_a_message_that_names_another_instrument_is_not_stored(channel, theirs, data):
    it = session(channel)
    outputs = it.receive(message(theirs, data | {"instId": "ETH-USDT-SWAP"}), NOW)
    about = (Subscription(channel, "BTC-USDT-PERP"),)
    assert outputs == [Malformed("a message of 'ETH-USDT-SWAP' on a stream of 'BTC-USDT-SWAP'", about)]
    assert records(it.receive(message(theirs, data | {"instId": "BTC-USDT-SWAP"}), NOW))


def test_a_message_that_names_another_index_is_not_stored():
    it = session("index")
    other = message("index-tickers", {"instId": "ETH-USDT", "idxPx": "1", "ts": TS}, inst="BTC-USDT")
    assert kinds(it.receive(other, NOW)) == [Malformed]
    assert records(it.receive(other.replace(b"ETH", b"BTC"), NOW))


def quote(**more):
    return {"asks": [["38632.4", "727", "0", "22"]], "bids": [["38632.30", "990", "0", "2"]], "ts": TS} | more


def test_the_best_prices_are_a_ticker_and_an_l1_book():
    start = "OKX", "BTC-USDT-PERP", TIME, NOW
    assert records(session("ticker", "l1_book").receive(message("bbo-tbt", quote(seqId=5)), NOW)) == [
        Ticker(*start, "38632.30", "38632.4"),
        L1Book(*start, "38632.30", "990", "38632.4", "727"),
    ]
    assert records(session("ticker").receive(message("bbo-tbt", quote(bids=[])), NOW)) == []
    it = session("ticker")
    quotes = [message("bbo-tbt", quote(seqId=number)) for number in (5, 5, 6)]
    assert [len(records(it.receive(each, NOW))) for each in quotes] == [1, 0, 1]  # one came twice


def test_a_book_with_one_side_has_no_best_prices_and_is_not_silent():
    it = session("ticker")
    it.receive(message("bbo-tbt", quote(bids=[])), NOW)
    outputs = it.receive(message("bbo-tbt", quote(bids=[], seqId=5)), NOW)
    assert outputs == [Confirmed((Subscription("ticker", "BTC-USDT-PERP"),), "data")]


def test_funding_has_the_time_of_its_message_and_of_the_coming_settlement():
    part = {
        "instId": "BTC-USDT-SWAP", "fundingRate": "0.0000663322867090", "fundingTime": "1790006400000",
        "nextFundingRate": "", "nextFundingTime": "1790035200000", "ts": TS,
    }  # fmt: skip
    start = "OKX", "BTC-USDT-PERP", TIME, NOW
    expected = Funding(*start, None, "0.0000663322867090", 1790006400000 * MILLISECOND, None)
    assert records(session("funding").receive(message("funding-rate", part), NOW)) == [expected]


def test_open_interest_is_in_contracts():
    part = {"instId": "BTC-USDT-SWAP", "oi": "644195", "oiCcy": "6441.95", "ts": TS}
    expected = OpenInterest("OKX", "BTC-USDT-PERP", TIME, NOW, "644195")
    assert records(session("open_interest").receive(message("open-interest", part), NOW)) == [expected]


def test_an_index_is_stored_for_every_instrument_that_follows_it():
    it = session("index", symbols=("BTC-USDT-PERP", "BTC-USDT-26Z25"))
    assert json.loads(it.opening()[0])["args"] == [{"channel": "index-tickers", "instId": "BTC-USDT"}]
    frame = message("index-tickers", {"instId": "BTC-USDT", "idxPx": "64280", "ts": TS}, inst="BTC-USDT")
    assert records(it.receive(frame, NOW)) == [
        Index("OKX", "BTC-USDT-PERP", TIME, NOW, "64280"), Index("OKX", "BTC-USDT-26Z25", TIME, NOW, "64280"),
    ]  # fmt: skip


def test_liquidations_of_a_type_are_filtered_by_instrument():
    it = session("liquidations")
    assert json.loads(it.opening()[0])["args"] == [{"channel": "liquidation-orders", "instType": "SWAP"}]
    detail = {
        "bkLoss": "0",
        "bkPx": "0.09859",
        "ccy": "",
        "posSide": "short",
        "side": "buy",
        "sz": "109",
        "ts": TS,
    }
    parts = [
        {"instId": each, "instType": "SWAP", "details": [detail]} for each in ("BTC-USDT-SWAP", "X-USDT-SWAP")
    ]
    frame = msgspec.json.encode({"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": parts})
    outputs = it.receive(frame, NOW)
    start = "OKX", "BTC-USDT-PERP", TIME, NOW
    assert records(outputs) == [Liquidation(*start, "buy", "109", "0.09859", None, None)]
    assert Ignored("liquidation-orders X-USDT-SWAP") in outputs


def test_a_candle_is_stored_once_when_it_is_closed():
    it = session("candles", candle_interval="1H")
    begin = "1790000000000"
    fields = [begin, "1.0", "3", "0.5", "2.50", "42.1", "4", "5"]
    assert kinds(it.receive(message("candle1H", [*fields, "0"]), NOW)) == [Confirmed]
    (candle,) = it.receive(message("candle1H", [*fields, "1"]), NOW)
    assert (candle.open, candle.high, candle.low, candle.close, candle.volume) == (
        "1.0",
        "3",
        "0.5",
        "2.50",
        "42.1",
    )
    assert (candle.start, candle.stop - candle.start, candle.closed) == (
        int(begin) * MILLISECOND, 3600 * SECOND, True,
    )  # fmt: skip


# -- books ---------------------------------------------------------------------------------------------


def book(number, action="update", before=None, bids=None):
    """Numbers are no counter: they jump by ten here."""
    part = {
        "asks": [["100", "1", "0", "1"]] if action == "snapshot" else [],
        "bids": bids if bids is not None else [[f"{number}.50", "2", "0", "1"]],
        "ts": TS, "checksum": 0, "seqId": 10 * number,
        "prevSeqId": -1 if action == "snapshot" else 10 * (number - 1) if before is None else before,
    }  # fmt: skip
    return message("books", part, action=action)


def test_a_book_begins_with_its_snapshot_and_is_changed():
    it = session("l2_book")
    confirmed, resync, complete = it.receive(book(1, "snapshot"), NOW)
    assert (confirmed.by, resync) == ("data", Resync(BOOK))
    assert (complete.delta, complete.bid, complete.ask, complete.timestamp) == (
        False, [("1.50", "2")], [("100", "1")], TIME,
    )  # fmt: skip
    (delta,) = it.receive(book(2), NOW)
    assert (delta.delta, delta.bid, delta.ask) == (True, [("2.50", "2")], [])


@pytest.mark.parametrize("lost", range(2, 8))
def test_every_lost_update_is_noticed_and_costs_its_symbol_alone(lost):
    it = session("l2_book")
    frames = [book(number) for number in range(2, 10) if number != lost]
    outputs = [output for frame in [book(1, "snapshot"), *frames] for output in it.receive(frame, NOW)]
    assert [each.subscription for each in outputs if isinstance(each, Break)] == [BOOK]
    asked = [json.loads(frame) for each in outputs if isinstance(each, Renew) for frame in each.frames]
    assert [each["op"] for each in asked] == ["unsubscribe", "subscribe"]
    assert not it.receive(book(10), NOW)  # until the book begins again
    assert kinds(it.receive(book(11, "snapshot"), NOW)) == [Resync, L2Book]


@pytest.mark.parametrize("swapped", range(1, 7))
def test_two_swapped_updates_are_noticed(swapped):
    it = session("l2_book")
    frames = [book(1, "snapshot"), *(book(number) for number in range(2, 10))]
    frames[swapped], frames[swapped + 1] = frames[swapped + 1], frames[swapped]
    assert [each for frame in frames for each in it.receive(frame, NOW) if isinstance(each, Break)]


@pytest.mark.parametrize("doubled", range(2, 9))
def test_a_duplicate_update_changes_nothing(doubled):
    it = session("l2_book")
    numbers = sorted([*range(2, 10), doubled])
    outputs = [
        output for frame in [book(1, "snapshot"), *map(book, numbers)] for output in it.receive(frame, NOW)
    ]
    assert not [each for each in outputs if isinstance(each, Break)]
    assert len(records(outputs)) == 9


def test_an_unchanged_book_repeats_its_last_number():
    it = session("l2_book")
    it.receive(book(1, "snapshot"), NOW)
    assert it.receive(book(1, before=10, bids=[]), NOW) == [Confirmed((BOOK,), "data")]
    assert kinds(it.receive(book(2), NOW)) == [L2Book]


def test_a_maintenance_that_resets_the_numbers_keeps_the_chain():
    it = session("l2_book")
    it.receive(book(9, "snapshot"), NOW)
    assert kinds(it.receive(book(3, before=90), NOW)) == [L2Book]


@pytest.mark.parametrize(("depth", "channel"), [(0, "books"), (5, "books5"), (6, "books")])
def test_max_depth_chooses_the_smallest_stream_that_is_enough(depth, channel):
    (frame,) = session("l2_book", storing=Storing(max_depth=depth)).opening()
    assert json.loads(frame)["args"] == [{"channel": channel, "instId": "BTC-USDT-SWAP"}]


def test_five_levels_are_stored_as_what_changed():
    it = session("l2_book", storing=Storing(max_depth=5))
    assert records(it.receive(message("books5", quote()), NOW))[0].delta is False
    (delta,) = it.receive(message("books5", quote(bids=[["38632.2", "1", "0", "1"]])), NOW)
    assert (delta.delta, delta.bid) == (True, [("38632.30", "0"), ("38632.2", "1")])


# -- books whose stream has no snapshots ---------------------------------------------------------------


def answer(number, code="0", **more):
    """The book after update ``number``, as REST answers it; a number may lie within an update."""
    bids = [["0.25", "7", "0", "1"], [f"{int(number)}.50", "2", "0", "1"]]
    found = {"asks": [["100", "1", "0", "1"]], "bids": bids, "ts": TS, "seqId": int(10 * number)} | more
    fields = {name: value for name, value in found.items() if value is not None}
    return msgspec.json.encode({"code": code, "msg": "", "data": [fields]})


def requests(outputs):
    return [each for each in outputs if isinstance(each, Request)]


def follow(it, frames):
    """Feeds updates by number, and answers each request with the book of the latest one so far."""
    outputs, latest = [], 0
    for number in frames:
        latest = max(latest, number)
        new = list(it.receive(book(number), NOW))
        outputs += new
        for request in requests(new):
            outputs += it.answer(request.id, 200, answer(latest), NOW)
    return outputs


def prices(outputs):
    """The bids that a reader of the records has in the end, but for that of the answers."""
    side = {}
    for record in records(outputs):
        side = side if record.delta else {}
        side |= dict(record.bid)
    return sorted(set(side) - {"0.25"})


def test_changes_without_a_snapshot_wait_for_one_that_is_requested():
    it = session("l2_book")
    confirmed, request = it.receive(book(5), NOW)
    assert confirmed == Confirmed((BOOK,), "data")
    assert (request.url, request.weight, request.about) == (
        "https://www.okx.com/api/v5/market/books?instId=BTC-USDT-SWAP&sz=400&source=0", 1, BOOK,
    )  # fmt: skip
    assert [*it.receive(book(6), NOW), *it.receive(book(7), NOW)] == []
    resync, complete, *since = it.answer(request.id, 200, answer(5), NOW + 9)
    assert resync == Resync(BOOK)
    assert (complete.delta, complete.bid, complete.ask, complete.timestamp) == (
        False, [("5.50", "2"), ("0.25", "7")], [("100", "1")], TIME,
    )  # fmt: skip
    assert [(each.delta, each.bid, each.receipt_timestamp) for each in since] == [
        (True, [("6.50", "2")], NOW + 9), (True, [("7.50", "2")], NOW + 9),
    ]  # fmt: skip
    (delta,) = it.receive(book(8), NOW)
    assert delta.bid == [("8.50", "2")]


@pytest.mark.parametrize("number", [4, 4.1, 4.9, 5, 5.5, 6, 6.9, 7, 8, 8.5, 9])
def test_a_snapshot_is_joined_by_its_number_whichever_it_is(number):
    """Updates 5 to 7 wait for it, those to 10 come later; one of ``number`` has some of them."""
    it = session("l2_book")
    outputs = [each for waiting in (5, 6, 7) for each in it.receive(book(waiting), NOW)]
    (request,) = requests(outputs)
    joined = list(it.answer(request.id, 200, answer(number), NOW))
    joined += [each for later in (8, 9, 10) for each in it.receive(book(later), NOW)]
    assert kinds(joined)[:2] == [Resync, L2Book]
    assert [each.bid[0][0] for each in records(joined)[1:]] == [
        f"{later}.50" for later in range(5, 11) if later > number
    ]
    assert not [each for each in joined if isinstance(each, Break | Request)]


def test_a_snapshot_from_before_the_changes_is_requested_again():
    it = session("l2_book")
    (_, request) = it.receive(book(5), NOW)
    (again,) = it.answer(request.id, 200, answer(3.9), NOW)
    assert (again.url, again.about) == (request.url, BOOK)
    assert kinds(it.answer(again.id, 200, answer(4), NOW)) == [Resync, L2Book, L2Book]


@given(st.lists(st.integers(1, 40), max_size=60, unique=True), st.booleans())
def test_updates_that_are_lost_or_swapped_leave_the_book_right_in_the_end(frames, swapped):
    it = session("l2_book")
    numbers = [*(frames if swapped else sorted(frames)), 41, 42]
    outputs = follow(it, numbers)
    last = [each for each in outputs if isinstance(each, Break | L2Book)][-1]
    assert isinstance(last, L2Book)
    assert "42.50" in prices(outputs)
    assert not [each for each in outputs if isinstance(each, Renew | Malformed)]


@pytest.mark.parametrize("lost", range(3, 9))
def test_a_lost_update_costs_a_request_and_no_subscription(lost):
    it = session("l2_book")
    outputs = follow(it, [number for number in range(1, 11) if number != lost])
    kinds_of = [type(each) for each in outputs if isinstance(each, Break | Renew | Request)]
    assert kinds_of == [Request, Break, Request]
    assert prices(outputs)[-1] == "9.50"
    assert "10.50" in prices(outputs)


def test_a_hole_among_the_changes_that_wait_is_noticed():
    it = session("l2_book")
    (_, request) = it.receive(book(5), NOW)
    it.receive(book(7), NOW)
    outputs = it.answer(request.id, 200, answer(4), NOW)
    assert kinds(outputs) == [Resync, L2Book, L2Book, Break, Request]
    assert kinds(it.answer(outputs[-1].id, 200, answer(6), NOW)) == [Resync, L2Book, L2Book]


def test_a_stream_with_snapshots_is_never_asked_for_one():
    it = session("l2_book")
    frames = [
        book(1, "snapshot"),
        book(2),
        book(4),
        book(5),
        event("subscribe", "books"),
        book(6, "snapshot"),
    ]
    outputs = [each for frame in [*frames, book(7)] for each in it.receive(frame, NOW)]
    assert [type(each) for each in outputs if isinstance(each, Break | Renew | Request)] == [Break, Renew]
    assert kinds(outputs)[-3:] == [Resync, L2Book, L2Book]


def test_a_stream_that_is_subscribed_to_again_and_has_no_snapshot_any_more_is_joined():
    it = session("l2_book")
    for frame in (book(1, "snapshot"), book(3), book(4)):
        it.receive(frame, NOW)
    assert not it.receive(book(5), NOW)  # of the old subscription
    it.receive(event("subscribe", "books"), NOW)
    (request,) = it.receive(book(6), NOW)
    assert kinds(it.answer(request.id, 200, answer(6), NOW)) == [Resync, L2Book]


def test_a_snapshot_of_the_stream_comes_before_the_answer():
    it = session("l2_book")
    (_, request) = it.receive(book(5), NOW)
    assert kinds(it.receive(book(6, "snapshot"), NOW)) == [Resync, L2Book]
    assert it.answer(request.id, 200, answer(5), NOW) == ()
    (_, request) = (it := session("l2_book")).receive(book(5), NOW)
    it.receive(book(6, "snapshot"), NOW)
    assert it.failed(request.id, "no connection") == ()
    assert kinds(it.receive(book(7), NOW)) == [L2Book]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (503, b"<html>", []),
        (200, b'{"code":"50011","msg":"Too Many Requests","data":[]}', []),
        (200, b'{"code":"51001","msg":"Instrument ID does not exist","data":[]}',
         [Refused((BOOK,), "no snapshot of the book: Instrument ID does not exist (code 51001)")]),
    ],
)  # fmt: skip
def test_an_answer_that_is_no_snapshot_is_told_and_requested_again(status, body, told):
    it = session("l2_book")
    (_, request) = it.receive(book(5), NOW)
    *found, again = it.answer(request.id, status, body, NOW)
    assert (found, again.url) == (told, request.url)
    (third,) = it.failed(again.id, "no connection")
    assert kinds(it.answer(third.id, 200, answer(5), NOW)) == [Resync, L2Book]


@pytest.mark.parametrize("body", [answer(5, seqId=None), b'{"code":"0","msg":"","data":[]}', b"<html>"])
def test_an_answer_that_cannot_be_joined_has_the_stream_tried_once_more(body):
    it = session("l2_book")
    (_, request) = it.receive(book(5), NOW)
    malformed, *sent = it.answer(request.id, 200, body, NOW)
    assert malformed.reason.startswith("snapshot of the book: ")
    assert [json.loads(each.frame)["op"] for each in sent] == ["unsubscribe", "subscribe"]
    assert not it.receive(book(6), NOW)  # of the old subscription
    it.receive(event("subscribe", "books"), NOW)
    (request,) = it.receive(book(7), NOW)
    malformed, request = it.answer(request.id, 200, body, NOW)
    assert kinds(it.answer(request.id, 200, answer(7), NOW)) == [Resync, L2Book]


def test_a_stream_whose_beginning_was_lost_begins_with_its_next_snapshot():
    it = session("l2_book")
    (_, request) = it.receive(book(5), NOW)
    it.answer(request.id, 200, answer(5, seqId=None), NOW)
    it.receive(event("subscribe", "books"), NOW)
    assert kinds(it.receive(book(8, "snapshot"), NOW)) == [Resync, L2Book]
    assert kinds(it.receive(book(9), NOW)) == [L2Book]


def test_numbers_that_begin_again_do_not_stop_a_book_that_was_not_joined_yet():
    it = session("l2_book")
    (_, request) = it.receive(book(5), NOW)
    it.answer(request.id, 200, answer(7.5), NOW)
    assert not it.receive(book(6), NOW)  # the snapshot has it
    broken, request = it.receive(book(1, before=90), NOW)
    assert isinstance(broken, Break)
    assert kinds(it.answer(request.id, 200, answer(1), NOW)) == [Resync, L2Book]
    assert kinds(it.receive(book(2), NOW)) == [L2Book]


def test_a_quiet_book_without_a_snapshot_is_joined_by_its_sign_of_life():
    it = session("l2_book")
    (_, request) = it.receive(book(5, before=50, bids=[]), NOW)
    assert kinds(it.answer(request.id, 200, answer(5), NOW)) == [Resync, L2Book]
    assert kinds(it.receive(book(6), NOW)) == [L2Book]


def test_a_recorded_answer_is_known_among_messages():
    it = Okx().listener(["l2_book"])
    assert it.answered_by(answer(5)) is None
    (_, request) = it.receive(book(5), NOW)
    assert it.answered_by(book(6)) is None
    assert it.answered_by(answer(5)) == request.id


# -- asking --------------------------------------------------------------------------------------------


def test_each_stream_is_requested_on_its_path():
    channels = ("trades", "candles", "ticker", "l2_book")
    wanted = [Subscription(channel, "BTC-USDT-PERP") for channel in channels]
    plans = Okx().connections(wanted, LISTED)
    paths = {plan.url.rsplit("/", 1)[1]: {each.channel for each in plan.subscriptions} for plan in plans}
    assert paths == {"business": {"trades", "candles"}, "public": {"ticker", "l2_book"}}


@given(st.integers(1, 450))
def test_connections_carry_everything_once_within_the_limits(count):
    listed = {
        f"C{number}": Instrument(
            symbol=f"C{number}", exchange_symbol=f"C{number}-USDT", kind="spot", base="C", quote="U"
        )
        for number in range(count)
    }
    wanted = [Subscription(channel, symbol) for channel in ("l2_book", "trades") for symbol in listed]
    exchange = Okx()
    plans = exchange.connections(wanted, listed)
    assert sorted(each for plan in plans for each in plan.subscriptions) == sorted(wanted)
    for plan in plans:
        assert len(plan.subscriptions) <= 200
        assert all(len(frame) <= 64_000 for frame in exchange.session(plan.subscriptions, listed).opening())


def test_a_channel_that_an_instrument_lacks_has_no_connection():
    wanted = [
        Subscription(channel, "BTC-USDT") for channel in ("funding", "liquidations", "open_interest", "index")
    ]
    of_option = [Subscription(channel, OPTION.symbol) for channel in ("funding", "liquidations")]
    assert Okx().connections([*wanted, *of_option], LISTED) == []


def test_a_refused_argument_is_named_and_the_rest_requested_again():
    it = session("trades", symbols=("BTC-USDT-PERP", "BTC-USDT-26Z25"))
    request = json.loads(it.opening()[0])
    text = "Wrong URL or channel:trades-all,instId:BTC-USDT-261225 doesn't exist."
    answer = msgspec.json.encode({"event": "error", "id": request["id"], "code": "60018", "msg": text})
    refused, send = it.receive(answer, NOW)
    assert refused == Refused((Subscription("trades", "BTC-USDT-26Z25"),), f"{text} (code 60018)")
    assert json.loads(send.frame)["args"] == [{"channel": "trades-all", "instId": "BTC-USDT-SWAP"}]


def test_a_refusal_without_a_name_halves_the_request():
    it = session("trades", symbols=("BTC-USDT-PERP", "BTC-USDT-26Z25"))
    request = json.loads(it.opening()[0])
    answer = msgspec.json.encode(
        {"event": "error", "id": request["id"], "code": "60012", "msg": "Illegal request"}
    )
    halves = [json.loads(each.frame) for each in it.receive(answer, NOW)]
    assert [len(each["args"]) for each in halves] == [1, 1]
    answer = msgspec.json.encode(
        {"event": "error", "id": halves[1]["id"], "code": "60012", "msg": "Illegal request"}
    )
    (refused,) = it.receive(answer, NOW)
    assert len(refused.subscriptions) == 1


def test_announcements_of_the_exchange_become_events():
    it = session("trades")
    assert it.receive(event("subscribe"), NOW) == (
        Confirmed((Subscription("trades", "BTC-USDT-PERP"),), "acknowledgement"),
    )
    notice = b'{"event":"notice","code":"64008","msg":"The connection will soon be closed","connId":"a"}'
    assert it.receive(notice, NOW) == (Closing("The connection will soon be closed"),)
    assert kinds(it.receive(b'{"event":"error","code":"1","msg":"x"}', NOW)) == [Notice]


def test_a_quiet_connection_is_pinged_once():
    it = session("trades")
    assert not it.tick(NOW)
    assert not it.tick(NOW + 19 * SECOND)
    assert it.tick(NOW + 20 * SECOND) == (Send("ping"),)
    assert not it.tick(NOW + 25 * SECOND)
    assert it.receive(b"pong", NOW + 26 * SECOND) == (Ignored("pong"),)
    assert not it.tick(NOW + 45 * SECOND)
    assert it.tick(NOW + 46 * SECOND) == (Send("ping"),)


# -- what is not for us, and what is broken ------------------------------------------------------------


def test_an_unrequested_message_is_ignored_and_named():
    it = session("trades")
    assert it.receive(message("trades", trade(1)), NOW) == (Ignored("trades"),)
    assert it.receive(message("orders", {}), NOW) == (Ignored("orders"),)
    assert it.receive(event("channel-conn-count"), NOW) == (Ignored("channel-conn-count"),)


@pytest.mark.parametrize("change", [{"px": "NaN"}, {"ts": "now"}, {"sz": "1e99"}])
def test_a_bad_trade_costs_only_itself(change):
    outputs = session("trades").receive(message("trades-all", trade(1), trade(2) | change, trade(3)), NOW)
    assert kinds(outputs) == [Confirmed, Trade, Malformed, Trade]
    assert outputs[2].about == (Subscription("trades", "BTC-USDT-PERP"),)


def test_a_book_without_numbers_is_still_taken():
    it = session("l2_book")
    it.receive(message("books", quote(), action="snapshot"), NOW)
    update = quote(bids=[["1", "1", "0", "1"]])
    assert kinds(it.receive(message("books", update, action="update"), NOW)) == [L2Book]


@pytest.mark.parametrize("level", [["1"], ["1", "0", "1"], ["1", "1", "0", "1", "1"], []])
def test_a_level_without_all_its_fields_is_malformed(level):
    it = session("l2_book")
    it.receive(message("books", quote(), action="snapshot"), NOW)
    update = message("books", quote(bids=[level]), action="update")
    assert kinds(it.receive(update, NOW)) == [Malformed, Break, Renew]


@pytest.mark.parametrize("action", ["", "Update", "partial"])
def test_a_book_without_an_action_is_malformed(action):
    it = session("l2_book")
    it.receive(message("books", quote(), action="snapshot"), NOW)
    assert kinds(it.receive(message("books", quote(), action=action), NOW)) == [Malformed, Break, Renew]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["asks", "bids", "ts", "px"]), inner)
    ),
    max_leaves=10,
)


@given(st.sampled_from(["trades-all", "books", "bbo-tbt", "candle1m", "funding-rate", "x"]), JSON)
def test_no_input_raises(channel, data):
    it = session("trades", "l2_book", "ticker", "candles", "funding")
    it.receive(message(channel, data, action="update"), NOW)
    it.receive(
        json.dumps({"arg": {"channel": channel, "instId": "BTC-USDT-SWAP"}, "data": data}).encode(), NOW
    )
    it.receive(json.dumps(data).encode(), NOW)
    it.receive(json.dumps({"event": data, "arg": data}).encode(), NOW)


@pytest.mark.parametrize("frame", [b"", b"null", b"\xff", b"[1]", b'{"arg":5}', b'{"data":' + b"[" * 200_000])
def test_a_frame_that_is_not_a_message_is_malformed(frame):
    (malformed,) = session("trades").receive(frame, NOW)
    assert isinstance(malformed, Malformed)


# -- the listing ---------------------------------------------------------------------------------------


def row(inst, kind, **more):
    return {
        "instId": inst, "instType": kind, "state": "live", "tickSz": "0.1", "lotSz": "0.01", "baseCcy": "",
        "quoteCcy": "", "settleCcy": "USDT", "ctVal": "0.01", "ctMult": "1", "ctValCcy": "BTC",
        "uly": "BTC-USDT", "expTime": "", "stk": "", "optType": "",
    } | more  # fmt: skip


ROWS = [
    row("BTC-USDT", "SPOT", baseCcy="BTC", quoteCcy="USDT", ctVal="", ctMult="", uly=""),
    row("BTC-USDT-SWAP", "SWAP"),
    row("BTC-USDT-261225", "FUTURES", expTime="1798185600000"),
    row("BTC-USD-261225-92000-C", "OPTION", expTime="1798185600000", stk="92000", ctVal="1", ctMult="0.01"),
]


def listing(*rows):
    return Okx().instruments([json.dumps({"code": "0", "data": rows}).encode()])


def test_names_are_those_of_cryptofeed():
    ours = {symbol: each.exchange_symbol for symbol, each in listing(*ROWS).instruments.items()}
    theirs, _ = cryptofeed_exchanges.OKX._parse_symbol_data([{"data": ROWS}])
    assert ours == theirs


def test_options_of_all_families_are_listed_under_names_of_their_own():
    families = [address.partition("OPTION&instFamily=")[2] for address in Okx().listing()]
    assert [each for each in families if each] == [
        *("BTC-USD", "ETH-USD", "BTC-USD_UM", "ETH-USD_UM", "SOL-USD_UM"),
    ]
    in_bitcoin = next(each for each in ROWS if each["instType"] == "OPTION")
    in_dollars = in_bitcoin | {
        "instId": in_bitcoin["instId"].replace("-USD-", "-USD_UM-"),
        "settleCcy": "USD",
    }
    found = listing(in_bitcoin, in_dollars)
    assert set(found.instruments) == {"BTC-USD-92000-26Z25-call", "BTC-USD_UM-92000-26Z25-call"}
    assert not found.unread


def test_an_answer_that_the_service_is_unavailable_is_no_list_without_symbols():
    answers = [{"code": "0", "data": ROWS}, {"code": "51001", "data": []}]
    bodies = [json.dumps(each).encode() for each in answers]
    assert len(Okx().instruments(bodies).instruments) == len(ROWS)
    with pytest.raises(MalformedError, match="code 50001"):
        Okx().instruments([*bodies, b'{"code": "50001", "data": []}'])


def test_the_details_of_a_contract_are_kept():
    option = listing(*ROWS).instruments["BTC-USD-92000-26Z25-call"]
    assert (option.contract_size, option.contract_unit, option.strike) == ("0.01", "BTC", "92000")
    assert option.expiry == 1798185600000 * MILLISECOND
    swap = listing(*ROWS).instruments["BTC-USDT-PERP"]
    assert (swap.tick, swap.lot, swap.settlement, swap.index) == ("0.1", "0.01", "USDT", "BTC-USDT")


def test_a_row_with_an_unknown_status_is_left_out_and_named():
    found = listing(ROWS[1], row("X-USDT-SWAP", "SWAP", state="asleep"))
    assert set(found.instruments) == {"BTC-USDT-PERP"}
    assert [each.reason for each in found.unread] == ["the unknown status 'asleep'"]


@pytest.mark.parametrize("state", ["live", "suspend", "rebase", "post_only"])
def test_a_contract_that_will_be_traded_again_soon_is_listed(state):
    found = listing(ROWS[1] | {"state": state})
    assert (set(found.instruments), found.unread) == ({"BTC-USDT-PERP"}, ())


@pytest.mark.parametrize("state", ["preopen", "test", "settling", "expired"])
def test_what_is_not_traded_is_not_listed(state):
    found = listing(ROWS[1] | {"state": state})
    assert (found.instruments, found.unread) == ({}, ())


def test_a_placeholder_row_is_left_out():
    found = listing(ROWS[1], row("", "SWAP", state="preopen"), row("X-USDT-SWAP", "SWAP", state="preopen"), 5)
    assert set(found.instruments) == {"BTC-USDT-PERP"}
    assert len(found.unread) == 2
