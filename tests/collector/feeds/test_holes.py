"""A hundred holes that reconnects leave in what an exchange trades: what is stored, and what is a gap."""

import random

import pytest
from reported import Reported

from collector.exchanges.coinbase.exchange import Coinbase
from collector.exchanges.kraken.exchange import Kraken
from collector.exchanges.okx.exchange import Okx
from collector.exchanges.protocol import Confirmed, Repeated, Subscription
from collector.exchanges.records import Trade
from collector.exchanges.times import MILLISECOND, SECOND
from collector.feeds.intake import Intake
from collector.feeds.subscriptions import BRIDGING, Subscriptions
from collector.gaps.marks import Marks
from collector.gaps.tracker import Gaps

TRADES = Subscription("trades", "BTC-USD")
LAG = 50 * MILLISECOND  # from the exchange's time to the receipt
HOLES = 100


class Stored:
    """What is stored, in order, and the marks."""

    def __init__(self):
        self.trades, self.marks = [], Marks({})

    def put(self, record, weight=1):
        self.trades.append(record)


class Market:
    """One symbol's trades, on connections that are lost: ``number`` names the next one."""

    def __init__(self, exchange, seed, name=str):
        self.chance, self.name = random.Random(seed), name
        self.now, self.number = 1_790_000_000 * SECOND, 100
        self.traded, self.gaps, self.stored = {}, Reported(), Stored()
        gaps = Gaps("X", self.gaps)
        self.subscriptions = Subscriptions(gaps, flows=())
        self.intake = Intake(exchange, self.subscriptions, gaps, self.stored)
        self.subscriptions.ask([TRADES])

    def trades(self, count):
        """``count`` more trades; the first and the last of the numbers."""
        first = self.number
        for _ in range(count):
            self.now += self.chance.randint(1, 900) * MILLISECOND
            number, self.number = self.number, self.number + 1
            self.traded[number] = self.now - LAG
        return range(first, self.number)

    def record(self, number, receipt=None):
        time = self.traded[number]
        return Trade("X", "BTC-USD", time, receipt or time + LAG, "buy", "1", "2", self.name(number))

    def connect(self, repeated):
        """Acknowledged, then ``repeated``, all in one moment; return its receipt."""
        self.now += SECOND
        self.intake.begin([TRADES])
        outputs = [Confirmed((TRADES,), "acknowledgement")]
        outputs += [Repeated((self.record(number, self.now),)) for number in repeated]
        self.intake.take(outputs, self.now)
        return self.now

    def live(self, count):
        numbers = self.trades(count)
        for number in numbers:
            self.intake.take([self.record(number)], self.traded[number] + LAG)
        return numbers

    def lose(self):
        self.subscriptions.lost([TRADES], self.now / SECOND, "disconnect")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("repeats", [True, False], ids=["repeated", "not-repeated"])
@pytest.mark.parametrize(
    ("exchange", "name"),
    [(Kraken, str), (Okx, str), (Coinbase, str), (Coinbase, lambda number: f"trade-{number:06}")],
    ids=["numbered", "numbered-by-another", "numbers-with-holes", "named"],
)
def test_a_hundred_holes_leave_what_they_should(exchange, name, repeats, seed):
    it = Market(exchange(), seed, name)
    consecutive, numbered = exchange is not Coinbase, name is str
    it.connect(it.trades(9) if repeats else ())
    stored = [*it.live(5)]
    lost, expected = set(), []  # numbers; gaps as start and end
    for _ in range(HOLES):
        it.lose()
        start, first = it.now, it.number
        it.trades(it.chance.randint(0, 8))
        back = it.chance.randint(0, 12) if repeats else 0
        repeated = range(max(100, it.number - back), it.number)
        acknowledged = it.connect(repeated)
        stored += [each for each in repeated if each >= first or each in lost]
        lost = (lost | set(range(first, it.number))) - set(stored)
        stored += it.live(it.chance.randint(1, 4))
        it.intake.report_losses(it.now)
        reaches_back = (numbered and any(number < first for number in repeated)) or (
            consecutive and lost.isdisjoint(range(first, it.number))
        )
        if not reaches_back:
            begins = it.traded[repeated[0]] + LAG if repeated and numbered else acknowledged
            expected.append((start, begins))
    assert [trade.id for trade in it.stored.trades] == [*map(name, stored)]
    assert [(gap.start, gap.end) for gap in it.gaps] == [
        pytest.approx((start / SECOND, end / SECOND), abs=1e-6) for start, end in expected
    ]
    for number in lost:
        receipt = (it.traded[number] + LAG) / SECOND
        assert any(gap.start <= receipt <= gap.end for gap in it.gaps), number


def test_where_no_trade_comes_the_gap_is_told_after_a_while():
    it = Market(Okx(), 1)
    it.connect(())
    it.live(5)
    it.lose()
    start, end = it.now, it.connect(())
    it.intake.report_losses(end + SECOND)
    assert not it.gaps
    it.intake.report_losses(end + int(BRIDGING * SECOND) + SECOND)
    assert [(gap.start, gap.end) for gap in it.gaps] == [pytest.approx((start / SECOND, end / SECOND))]
    it.live(1)
    assert len(it.gaps) == 1


def test_a_connection_that_is_lost_again_before_a_trade_came_makes_one_gap_or_none():
    it = Market(Okx(), 1)
    it.connect(())
    it.live(5)
    for _ in range(3):
        it.lose()
        it.connect(())
    it.live(1)
    assert not it.gaps
    it.lose()
    start = it.now
    it.trades(1)
    it.connect(())
    it.lose()
    end = it.connect(())
    it.live(1)
    assert [(gap.start, gap.end) for gap in it.gaps] == [pytest.approx((start / SECOND, end / SECOND))]


def test_a_number_that_stays_out_after_a_bridged_reconnect_is_a_loss():
    it = Market(Kraken(), 1)
    it.connect(it.trades(3))
    it.live(2)
    it.lose()
    receipt = it.connect(range(103, 105))
    it.trades(2)
    it.live(1)
    it.intake.report_losses(it.now + 3 * SECOND)
    (gap,) = it.gaps
    assert (gap.reason, gap.count, gap.start) == ("sequence", 2, pytest.approx(receipt / SECOND))
