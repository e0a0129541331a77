"""Subscriptions and gaps: what confirms what, and what ends when."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from cryptofeed.exchanges import EXCHANGE_MAP
from cryptofeed.symbols import Symbols
from reported import Reported
from streams import timed

from collector import catalog
from collector.exchanges.directory import EXCHANGES
from collector.feeds import silence
from collector.feeds import subscriptions as subscriptions_module
from collector.feeds.subscriptions import Subscriptions
from collector.feeds.through_cryptofeed.corrections import _CHECKING_BOOKS, supervised
from collector.gaps.recorder import Lines
from collector.gaps.tracker import Gaps
from collector.health import StoreStatus, SubscriptionStatus, judge

TRADES, BOOK = ("trades", "BTC-USD"), ("l2_book", "BTC-USD")


@pytest.fixture
def gaps():
    return Reported()


@pytest.fixture
def subscriptions(gaps):
    it = Subscriptions(Gaps("X", gaps), patience=0.2)
    it.ask([TRADES, BOOK])
    return it


async def test_an_acknowledgement_or_data_confirms(subscriptions, gaps):
    subscriptions.acknowledge(*TRADES)
    assert subscriptions.confirmed == {TRADES}
    assert subscriptions.silent == [TRADES]
    subscriptions.arrived(*BOOK, 1.0)
    assert subscriptions.confirmed == {TRADES, BOOK}
    assert subscriptions.silent == [TRADES]
    assert not gaps


async def test_data_after_the_acknowledgement_counts_as_seen_however_late_it_is_read(subscriptions):
    """Another collector of the same store leaves out all that is received from then on."""
    subscriptions.acknowledge(*TRADES, 1.0)
    subscriptions.arrived(*TRADES, 1.5)
    assert subscriptions._gaps.seen_since(TRADES) == 1.0


async def test_a_refused_subscription_that_brings_data_has_gaps_again(subscriptions, gaps):
    subscriptions.refuse(*TRADES, "no")
    now = time.time()
    subscriptions.arrived(*TRADES, now - 3)
    assert TRADES in subscriptions.confirmed
    assert not subscriptions.refused
    subscriptions.lost([TRADES], now - 2, "disconnect")
    subscriptions.arrived(*TRADES, now - 1)
    assert [(gap.missed, gap.reason) for gap in gaps] == [("trades", "disconnect")]


async def test_a_channel_that_must_bring_data_is_confirmed_only_by_data(subscriptions):
    subscriptions.acknowledge(*BOOK)
    assert BOOK not in subscriptions.confirmed
    assert subscriptions.acknowledged == {BOOK}
    subscriptions.arrived(*BOOK, 1.0)
    assert BOOK in subscriptions.confirmed
    assert not subscriptions.acknowledged


async def test_a_book_counts_as_seen_once_complete_the_others_once_acknowledged(subscriptions, gaps):
    subscriptions.acknowledge(*TRADES)
    subscriptions.arrived(*BOOK, time.time())
    now = time.time()
    subscriptions.lost([TRADES, BOOK], now - 2, "disconnect")
    assert set(subscriptions.pending) == {TRADES, BOOK}
    subscriptions.acknowledge(*TRADES)
    subscriptions.acknowledge(*BOOK)
    assert subscriptions.confirmed == {TRADES}
    assert [(gap.missed, gap.start) for gap in gaps] == [("trades", now - 2)]
    subscriptions.arrived(*BOOK, now + 7)
    assert [(gap.missed, gap.end) for gap in gaps[1:]] == [("l2_book", now + 7)]


class Watched:
    """Subscriptions that are looked at every six seconds, by a clock of their own."""

    def __init__(self, gaps, monkeypatch, *, with_trades=("l2_book",), with_market=(), **quiet):
        self.now = 1000.0
        clock = SimpleNamespace(time=lambda: self.now, monotonic=lambda: self.now)
        for module in (subscriptions_module, silence):
            monkeypatch.setattr(module, "time", clock)
        self.it = Subscriptions(
            Gaps("X", gaps),
            quiet=quiet,
            checked=["l2_book"],
            with_trades=with_trades,
            with_market=with_market,
        )

    def begin(self, *keys):
        self.it.ask(keys)
        for key in keys:
            self.it.arrived(*key, self.now)

    def comes(self, *keys):
        for channel, symbol in keys:
            if symbol in self.it.awaited[channel]:
                self.it.arrived(channel, symbol, self.now)

    def passes(self, seconds, *keys, every=6.0):
        """Time passes; data of ``keys`` comes every so many seconds."""
        end, due = self.now + seconds, self.now + every
        while self.now < end:
            self.now += 6.0
            self.it._look_for_silence()
            if self.now >= due:
                self.comes(*keys)
                due = self.now + every


TICKER = ("ticker", "BTC-USD")


@pytest.mark.parametrize("key", [("funding", "BTC-USD"), ("index", "BTC-USD")])
def test_one_silent_channel_beside_a_lively_one_is_a_gap(gaps, monkeypatch, caplog, key):
    it = Watched(gaps, monkeypatch, ticker=600.0, **{key[0]: 30.0})
    lively = (key[0], "ETH-USD")
    it.begin(key, lively, TRADES)
    it.passes(60, lively)
    assert set(it.it.pending) == {key}
    assert f"no {key[0]} of BTC-USD for" in caplog.text
    it.it.arrived(*key, it.now)
    (gap,) = gaps
    assert (gap.missed, gap.symbol, gap.start, gap.end) == (*key, 1000.0, it.now)
    assert gap.reason == "stale"


@pytest.mark.parametrize("key", [TICKER, BOOK])
def test_a_slow_market_is_not_silent(gaps, monkeypatch, key):
    it = Watched(gaps, monkeypatch, ticker=600.0, l2_book=600.0)
    it.begin(key, TRADES)
    it.passes(86_400)  # nothing but what the subscription began with
    it.it.arrived(*key, it.now)
    it.passes(40 * 900, key, every=900)
    assert not it.it.pending
    it.passes(3 * 3600, key, every=3 * 3600)
    assert not it.it.pending
    assert not gaps


@pytest.mark.parametrize(
    ("name", "channel"), [("BYBIT", "open_interest"), ("BYBIT", "index"), ("OKX", "open_interest")]
)
def test_what_is_sent_when_it_changes_may_be_quiet_for_long(gaps, monkeypatch, name, channel):
    """Nobody trades a contract for an hour: its open interest stays as it is."""
    of = EXCHANGES[name].channels
    with_market = [each for each, it in of.items() if it.with_market]
    it = Watched(gaps, monkeypatch, with_market=with_market, **{channel: of[channel].quiet})
    key = (channel, "BTC-USD")
    it.begin(key)
    it.passes(10 * 3600, key, every=3600)
    assert not it.it.pending
    assert not gaps
    it.passes(3000, key)  # what is lively, and ceases, is silent all the same
    it.passes(21 * 3600 + 1000)
    assert set(it.it.pending) == {key}


def test_a_lively_ticker_that_falls_silent_is_a_gap(gaps, monkeypatch):
    it = Watched(gaps, monkeypatch, ticker=600.0)
    it.begin(TICKER)
    it.passes(600, TICKER)
    silent = it.now
    it.passes(620)
    it.it.arrived(*TICKER, it.now)
    (gap,) = gaps
    assert (gap.reason, gap.end) == ("stale", it.now)
    assert silent - 6 <= gap.start <= silent


@pytest.mark.parametrize("key", [BOOK, TICKER, ("l1_book", "BTC-USD")])
def test_prices_that_do_not_move_while_there_are_trades_are_a_gap(gaps, monkeypatch, key):
    it = Watched(gaps, monkeypatch, with_trades=[key[0]], l2_book=600.0, ticker=600.0, l1_book=600.0)
    it.begin(key, TRADES, ("trades", "ETH-USD"))
    it.passes(700, ("trades", "ETH-USD"))
    assert not it.it.pending
    it.passes(60, TRADES)
    assert set(it.it.pending) == {key}
    it.it.begins_anew(key)  # subscribed to again
    it.it.arrived(*key, it.now)
    assert [(gap.missed, gap.reason, gap.start) for gap in gaps] == [(key[0], "stale", 1000.0)]


def test_prices_that_do_not_change_with_each_trade_may_be_quiet_beside_trades(gaps, monkeypatch):
    it = Watched(gaps, monkeypatch, ticker=600.0)
    it.begin(TICKER, TRADES)
    it.passes(3600, TRADES)
    assert not it.it.pending


def test_a_silent_book_whose_next_change_follows_the_last_one_missed_nothing(gaps, monkeypatch):
    it = Watched(gaps, monkeypatch, l2_book=600.0)
    it.begin(BOOK)
    it.passes(600, BOOK)
    it.passes(7200)
    assert set(it.it.pending) == {BOOK}  # it is told
    it.it.arrived(*BOOK, it.now)
    assert it.it.confirmed == {BOOK}
    assert not gaps
    it.passes(7200)
    assert not it.it.pending  # such a silence is known now


def test_a_silent_book_whose_next_change_does_not_follow_has_a_gap(gaps, monkeypatch):
    it = Watched(gaps, monkeypatch, l2_book=600.0)
    it.begin(BOOK)
    it.passes(600, BOOK)
    it.passes(7200)
    it.it.lost([BOOK], it.now, "sequence")
    it.it.arrived(*BOOK, it.now)
    assert [(gap.missed, gap.reason) for gap in gaps] == [("l2_book", "stale")]
    assert gaps[0].end - gaps[0].start >= 7200


async def test_each_channel_of_each_symbol_has_its_own_gap(subscriptions, gaps):
    for key in (TRADES, BOOK):
        subscriptions.arrived(*key, 1.0)
    subscriptions.lost([TRADES, BOOK], 2.0, "stale")
    subscriptions.lost([TRADES, BOOK], 3.0, "disconnect")  # the first loss counts
    subscriptions.arrived(*TRADES, 4.0)
    subscriptions.arrived(*BOOK, 4.25)
    assert [(gap.missed, gap.symbol, gap.start, gap.end, gap.reason) for gap in gaps] == [
        ("trades", "BTC-USD", 2.0, 4.0, "stale"),
        ("l2_book", "BTC-USD", 2.0, 4.25, "stale"),
    ]


async def test_the_log_tells_of_gaps_that_began_together_in_one_line(subscriptions, gaps, caplog):
    for key in (TRADES, BOOK):
        subscriptions.arrived(*key, 1.0)
    subscriptions.lost([TRADES, BOOK], 2.0, "stale")
    subscriptions.arrived(*TRADES, 4.0)
    subscriptions.arrived(*BOOK, 4.25)
    lines = Lines()
    for gap in gaps:
        lines.add(timed(gap))
    lines.tell()
    (line,) = caplog.messages
    assert "X l2_book,trades BTC-USD: not seen for 2.250 s, from 1970-01-01T00:00:02.000Z" in line


async def test_a_subscription_that_was_never_seen_has_no_gap(subscriptions, gaps):
    subscriptions.lost([TRADES], 1.0, "disconnect")
    subscriptions.arrived(*TRADES, 2.0)
    assert not gaps


async def test_an_unconfirmed_subscription_is_reported_once(subscriptions, caplog):
    watching = asyncio.create_task(subscriptions.watch())
    await asyncio.sleep(0.6)
    watching.cancel()
    (line,) = caplog.messages
    assert "l2_book BTC-USD, trades BTC-USD" in line
    assert set(subscriptions.pending) == {TRADES, BOOK}


async def test_an_acknowledged_subscription_without_data_is_reported(subscriptions, caplog):
    subscriptions.acknowledge(*BOOK)
    subscriptions.notice = "service is degraded"
    watching = asyncio.create_task(subscriptions.watch())
    await asyncio.sleep(0.6)
    watching.cancel()
    first, second = caplog.messages
    assert "acknowledged, but no data has come within 0 s; still waiting: l2_book BTC-USD" in first
    assert "the exchange says: service is degraded" in second
    status = SubscriptionStatus(pending=("l2_book BTC-USD",), acknowledged=("l2_book BTC-USD",))
    store = StoreStatus(backend="TTY", state="connected", since=0.0)
    state, detail = judge(store, status, was_ready=True)
    assert state == "degraded"
    assert detail == "waiting for 1 subscription: l2_book BTC-USD acknowledged, but no data has come"


async def test_a_refusal_is_reported_once_until_it_is_withdrawn(subscriptions, caplog):
    for _ in range(3):
        subscriptions.refuse(*TRADES, "no")
        assert subscriptions.refused == {TRADES: "no"}
        subscriptions.ask([TRADES, BOOK])
    assert len(caplog.messages) == 1
    subscriptions.acknowledge(*TRADES)
    subscriptions.refuse(*TRADES, "no")
    assert subscriptions.confirmed == {TRADES}
    assert not subscriptions.refused


async def test_only_data_ends_a_doubt(subscriptions):
    subscriptions.arrived(*BOOK, 1.0)
    subscriptions.doubt(*BOOK)
    subscriptions.acknowledge(*BOOK)
    assert BOOK in subscriptions.pending
    subscriptions.arrived(*BOOK, 1.0)
    assert BOOK in subscriptions.confirmed


@pytest.mark.parametrize("exchange", sorted(catalog.exchanges().keys() - EXCHANGES))
def test_every_exchange_has_a_supervised_class(exchange):
    feed_class = supervised(exchange)
    assert feed_class.id == exchange
    assert set(catalog.exchanges()[exchange].channels) <= set(feed_class.websocket_channels)


def test_the_exchanges_that_are_named_exist():
    assert set(EXCHANGE_MAP) >= _CHECKING_BOOKS


def test_an_error_names_the_subscriptions_that_it_refuses():
    Symbols.set("BITSTAMP", {"BTC-USD": "btcusd", "ETH-USD": "ethusd"}, {})
    feed = supervised("BITSTAMP")(symbols=["BTC-USD", "ETH-USD"], channels=["trades", "l2_book"])
    feed.subscriptions = Subscriptions(Gaps("BITSTAMP", Reported()))
    feed.subscriptions.ask(feed.carried(type("Conn", (), {"subscription": feed.subscription})))
    assert len(feed.subscriptions.pending) == 4
    feed.refuse_what_is_named('{"event":"error","channel":"live_trades_btcusd"}')
    assert list(feed.subscriptions.refused) == [("trades", "BTC-USD")]
    feed.refuse_what_is_named('{"event":"error","message":"ethusd is not there"}')
    assert set(feed.subscriptions.pending) == {("l2_book", "BTC-USD")}
    Symbols.clear()
