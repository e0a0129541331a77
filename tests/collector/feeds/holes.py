"""A market whose connections are lost: what is recorded of it, and what should be."""

import random

from msgspec.structs import replace
from reported import Reported
from streams import timed

from collector.exchanges.coinbase.exchange import Coinbase
from collector.exchanges.protocol import Confirmed, Repeated, Subscription
from collector.feeds.intake import Intake
from collector.feeds.subscriptions import Subscriptions
from collector.gaps.marks import Marks
from collector.gaps.tracker import Gaps
from collector.records import Trade
from collector.times import MILLISECOND, SECOND

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

    def holes(self, repeats, consecutive):
        """Trade and lose the connection a hundred times.

        Return the numbers that should be stored, in order, those that should not, and the gaps that there
        should be, as start and end.
        """
        self.connect(self.trades(9) if repeats else ())
        stored, lost, gaps = [*self.live(5)], set(), []
        for _ in range(HOLES):
            self.lose()
            start, first = self.now, self.number
            self.trades(self.chance.randint(0, 8))
            back = self.chance.randint(0, 12) if repeats else 0
            repeated = range(max(100, self.number - back), self.number)
            acknowledged = self.connect(repeated)
            stored += [each for each in repeated if each >= first or each in lost]
            lost = (lost | set(range(first, self.number))) - set(stored)
            stored += self.live(self.chance.randint(1, 4))
            self.intake.report_losses(self.now)
            numbered = self.name is str
            reaches_back = (numbered and any(number < first for number in repeated)) or (
                consecutive and lost.isdisjoint(range(first, self.number))
            )
            if not reaches_back:
                begins = self.traded[repeated[0]] + LAG if repeated and numbered else acknowledged
                gaps.append((start, begins))
        return stored, lost, gaps


def a_hundred_holes():
    """Return what is recorded of a market whose connection is lost a hundred times: trades, then gaps."""
    market = Market(Coinbase(), 1)
    market.holes(repeats=True, consecutive=False)
    assert market.gaps
    # a receipt has no more digits than each store keeps
    gaps = [timed(replace(gap, receipt_timestamp=gap.end)) for gap in market.gaps]
    records = *market.stored.trades, *gaps
    return [replace(record, exchange="COINBASE", symbol="SOL-USD") for record in records]
