"""What each exchange's messages leave behind when one is lost, doubled, late, or sent again: no socket."""

import json
from functools import partial

import msgspec
import pytest
from played import ALL, ORIGIN, Played
from reported import Reported
from scripted import SCRIPTS, Script, address, text_of

from collector.exchanges.directory import EXCHANGES
from collector.exchanges.instruments import Instrument
from collector.exchanges.protocol import Break, Confirmed, Repeated, Request, Resync, Subscription
from collector.feeds.intake import Intake
from collector.feeds.subscriptions import Subscriptions
from collector.gaps.tracker import Gaps
from collector.records import Record, channel_of
from collector.times import SECOND

NOW = (ORIGIN + 10**8) * SECOND


class Recorder(Reported):
    """What is recorded: the records by channel and symbol; and what is marked, which outlives a process."""

    def __init__(self, marks=None):
        super().__init__()
        self.marks = marks or self.marks
        self.records = []

    def put(self, record, weight=1):
        self.records.append((channel_of(record), record))


class Process:
    """A process that takes in what connections to one exchange bring."""

    def __init__(self, exchange, keys, marks=None):
        self.exchange, self.keys = exchange, keys
        self.recorder = Recorder(marks)
        gaps = Gaps(exchange.id, self.recorder)
        flows = [channel for channel, it in exchange.channels.items() if it.flows]
        self.subscriptions = Subscriptions(gaps, flows)
        self.intake = Intake(exchange, self.subscriptions, gaps, self.recorder)

    def connect(self, session, frames, answer=None, at=NOW):
        """A connection that brings frames, a millisecond after each other."""
        self.subscriptions.ask(self.keys)
        self.intake.begin(self.keys)
        session.opening()
        for number, frame in enumerate(frames):
            receipt = at + number * SECOND // 1000
            self.take(session, session.receive(frame, receipt), receipt, answer)
        self.intake.report_losses(at + 3600 * SECOND)

    def take(self, session, outputs, receipt, answer):
        for event in self.intake.take(outputs, receipt):
            match event:
                case Request(id=number, url=url):
                    self.take(session, session.answer(number, 200, answer(url), receipt), receipt, answer)
                case Break(subscription, _, renewed):
                    self.intake.broke(subscription, receipt / SECOND, renewed=renewed)

    @property
    def ids(self):
        return [record.id for _, record in self.recorder.records]


def millis(number):
    return (ORIGIN + 10**8 + number) * 1000


def iso(number):
    return f"2029-11-23T10:{number // 60:02}:{number % 60:02}.000000Z"


def binance(stream, kind, field):
    def frame(number, _):
        data = {"e": kind, "E": millis(number), "s": "BTCUSDT", field: number, "p": "1", "q": "2"}
        data |= {"f": number, "l": number, "T": millis(number), "m": False}
        return {"stream": f"btcusdt@{stream}", "data": data}

    return frame


def bybit(number, _):
    trade = {"T": millis(number), "s": "BTCUSDT", "S": "Buy", "v": "1", "p": "2", "i": str(number)}
    return {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": millis(number), "data": [trade]}


def coinbase(number, sequence):
    trade = {"trade_id": str(number), "product_id": "BTCUSDT", "price": "1", "size": "2", "side": "BUY"}
    events = [{"type": "update", "trades": [trade | {"time": iso(number)}]}]
    return {"channel": "market_trades", "timestamp": iso(number), "sequence_num": sequence, "events": events}


def kraken(number, _):
    trade = {"symbol": "BTCUSDT", "side": "buy", "price": 1.0, "qty": 2.0, "ord_type": "limit"}
    return {
        "channel": "trade",
        "type": "update",
        "data": [trade | {"trade_id": number, "timestamp": iso(number)}],
    }


def okx(number, _):
    trade = {"instId": "BTCUSDT", "tradeId": str(number), "px": "1", "sz": "2", "side": "buy"}
    argument = {"channel": "trades-all", "instId": "BTCUSDT"}
    return {"arg": argument, "data": [trade | {"ts": str(millis(number))}]}


#: The message of a trade, by its number and that of the message.
TRADES = {
    "BINANCE": binance("trade", "trade", "t"),
    "BINANCE_US": binance("trade", "trade", "t"),
    "BINANCE_FUTURES": binance("aggTrade", "aggTrade", "a"),
    "BINANCE_DELIVERY": binance("aggTrade", "aggTrade", "a"),
    "BYBIT": bybit,
    "COINBASE": coinbase,
    "KRAKEN": kraken,
    "OKX": okx,
}
SYMBOL = "BTC-USDT"
LISTED = {
    SYMBOL: Instrument(
        symbol=SYMBOL, exchange_symbol="BTCUSDT", kind="spot", base="BTC", quote="USDT", market="spot"
    )
}
EACH = pytest.mark.parametrize("name", EXCHANGES)


def traded(name, messages):
    """The process that received the messages, each the number of its trade and its own."""
    wanted = [Subscription("trades", SYMBOL)]
    exchange = EXCHANGES[name]()
    it = Process(exchange, wanted)
    frames = [json.dumps(TRADES[name](*each), separators=(",", ":")).encode() for each in messages]
    it.connect(exchange.session(wanted, LISTED), frames)
    return it


@EACH
@pytest.mark.parametrize("lost", range(2, 9))
def test_a_lost_trade_is_a_gap_unless_the_catalogue_says_it_cannot_be_noticed(name, lost):
    it = traded(name, [(100 + number, number) for number in range(10) if number != lost])
    assert len(it.ids) == 9
    gaps = [(gap.missed, gap.reason) for gap in it.recorder]
    noticed = gaps == [("trades", "sequence")] or it.subscriptions.pending.keys() == {("trades", SYMBOL)}
    assert noticed == (it.exchange.channels["trades"].loss != "nothing")


@EACH
@pytest.mark.parametrize("doubled", range(1, 9))
def test_a_duplicate_trade_is_stored_once(name, doubled):
    it = traded(name, [(100 + number, number) for number in sorted([*range(10), doubled])])
    assert it.ids == [str(100 + number) for number in range(10)]
    assert not it.recorder


@EACH
@pytest.mark.parametrize("late", range(1, 9))
def test_swapped_trades_are_stored_once(name, late):
    numbers = [*range(10)]
    numbers[late], numbers[late + 1 : late + 2] = numbers[late + 1], [numbers[late]]
    it = traded(name, [(100 + number, number) for number in numbers])
    assert sorted(it.ids) == [str(100 + number) for number in range(10)]


@EACH
@pytest.mark.parametrize("step", [3600, -3600])
def test_no_gap_begins_after_it_ends_wherever_the_clock_is_set(name, step):
    it = traded(name, [(100 + number, number) for number in range(5)])
    it.subscriptions.lost(it.keys, NOW / SECOND, "disconnect")
    frames = [
        json.dumps(TRADES[name](110 + number, number), separators=(",", ":")).encode() for number in (0, 1)
    ]
    it.connect(it.exchange.session(it.keys, LISTED), frames, at=NOW + step * SECOND)
    assert it.recorder
    assert all(0 < gap.start <= gap.end for gap in it.recorder)
    assert it.ids == [str(number) for number in (*range(100, 105), 110, 111)]


def bybit_liquidations(count):
    order = {"T": millis(1), "s": "BTCUSDT", "S": "Buy", "v": "1", "p": "2"}
    return {"topic": "allLiquidation.BTCUSDT", "type": "snapshot", "ts": millis(1), "data": [order] * count}


def okx_liquidations(count):
    order = {"side": "sell", "posSide": "long", "bkPx": "2", "sz": "1", "ts": str(millis(1)), "ccy": ""}
    data = [{"instId": "BTCUSDT", "instType": "SWAP", "details": [order] * count}]
    return {"arg": {"channel": "liquidation-orders", "instType": "SWAP"}, "data": data}


@pytest.mark.parametrize(
    ("name", "message", "market"), [("BYBIT", bybit_liquidations, "linear"), ("OKX", okx_liquidations, None)]
)
def test_equal_liquidations_of_one_message_are_all_stored_once(name, message, market):
    contract = msgspec.structs.replace(LISTED[SYMBOL], kind="perpetual", market=market)
    wanted, exchange = [Subscription("liquidations", SYMBOL)], EXCHANGES[name]()
    it = Process(exchange, wanted)
    frames = [json.dumps(message(count), separators=(",", ":")).encode() for count in (2, 2, 1, 3)]
    it.connect(exchange.session(wanted, {SYMBOL: contract}), frames)
    assert len(it.recorder.records) == 3


# -- all of a script, once more --------------------------------------------------------------------------


class Recorded(Played):
    """What the connections of a script leave behind, made as often as a test likes."""

    def recorded(self, times, *, restart):
        """The records and gaps of processes to which each connection is made so many times."""
        instruments, records, gaps = self.listing.instruments, [], []
        for plan in self.exchange.connections(self.wanted, instruments):
            (connection,) = (it for it in self.script.connections if it.address == address(plan.url))
            frames = [text_of(step.line.send) for step in connection.steps if bytes(step.line.send)]
            frames = [frame for frame in frames if frame.startswith(b"{")]
            it = Process(self.exchange, plan.subscriptions)
            for number in range(times):
                session = self.exchange.session(plan.subscriptions, instruments)
                it.connect(session, frames, self.body, (ORIGIN + 1 + 3600 * number) * SECOND)
                if restart:
                    records += it.recorder.records
                    gaps += it.recorder
                    it = Process(self.exchange, plan.subscriptions, it.recorder.marks)
            records += it.recorder.records
            gaps += it.recorder
        return records, gaps


def content(records, of):
    """What is stored of some channels, without the receipt."""
    fields = [
        (channel, msgspec.structs.asdict(record) | {"receipt_timestamp": 0})
        for channel, record in records
        if channel in of
    ]
    return sorted(fields, key=str)


@ALL
def test_records_sent_again_on_a_new_connection_are_stored_once(path):
    it = Recorded(Script.read(path, ORIGIN))
    # books begin anew; of quotes the last one may be sent again, not all of them
    channels = it.exchange.channels.keys() - {"l2_book", "ticker", "l1_book"}
    once, _ = it.recorded(1, restart=False)
    again, gaps = it.recorded(3, restart=False)
    assert content(again, channels) == content(once, channels)
    assert all(gap.start <= gap.end for gap in gaps)


#: What exchanges send of the past after a subscription.
PAST = {"COINBASE": {"trades", "candles"}, "KRAKEN": {"trades", "candles"}, "OKX": {"trades"}}


@pytest.mark.parametrize("name", PAST)
def test_history_sent_after_a_subscription_is_stored_once_across_restarts(name):
    it = Recorded(Script.read(SCRIPTS / f"{name}.jsonl", ORIGIN))
    once, _ = it.recorded(1, restart=False)
    again, _ = it.recorded(3, restart=True)
    assert content(again, PAST[name]) == content(once, PAST[name])


# -- what is said, and what is sent ------------------------------------------------------------------------


def connections(it):
    """The plan of each connection of a script, and the frames that are sent on it."""
    for plan in it.exchange.connections(it.wanted, it.listing.instruments):
        (connection,) = (each for each in it.script.connections if each.address == address(plan.url))
        yield plan, [text_of(step.line.send) for step in connection.steps if bytes(step.line.send)]


@ALL
def test_an_acknowledgement_confirms_nothing_that_must_bring_data(path):
    it = Recorded(Script.read(path, ORIGIN))
    said = 0
    for plan, frames in connections(it):
        process = Process(it.exchange, plan.subscriptions)
        process.subscriptions.ask(plan.subscriptions)
        session = it.exchange.session(plan.subscriptions, it.listing.instruments)
        session.opening()
        for frame in frames:
            outputs = session.receive(frame, NOW)
            if any(isinstance(each, Record | Repeated | Resync | Request) for each in outputs):
                break
            said += sum(isinstance(each, Confirmed) for each in outputs)
            process.take(session, outputs, NOW, None)
        must_flow = {key for key in plan.subscriptions if it.exchange.channels[key[0]].flows}
        assert must_flow <= process.subscriptions.pending.keys()
    assert said


@ALL
def test_one_connection_knows_nothing_of_another(path):
    """Another one to the same exchange, of the same subscriptions, begins and ends meanwhile."""
    it = Recorded(Script.read(path, ORIGIN))
    for plan, frames in connections(it):
        begin = partial(it.exchange.session, plan.subscriptions, it.listing.instruments)
        alone, one = begin(), begin()
        for session in (alone, one):
            session.opening()
        for number, frame in enumerate(frames):
            if not number % 3:
                other = begin()
                other.opening()
            other.receive(frame, NOW + number)
            assert one.receive(frame, NOW + number) == alone.receive(frame, NOW + number)
