"""A hundred holes that reconnects leave in what an exchange trades: what is stored, and what is a gap."""

import pytest
from holes import LAG, Market

from collector.exchanges.coinbase.exchange import Coinbase
from collector.exchanges.kraken.exchange import Kraken
from collector.exchanges.okx.exchange import Okx
from collector.feeds.subscriptions import BRIDGING
from collector.times import SECOND


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("repeats", [True, False], ids=["repeated", "not-repeated"])
@pytest.mark.parametrize(
    ("exchange", "name"),
    [(Kraken, str), (Okx, str), (Coinbase, str), (Coinbase, lambda number: f"trade-{number:06}")],
    ids=["numbered", "numbered-by-another", "numbers-with-holes", "named"],
)
def test_a_hundred_holes_leave_the_right_gaps(exchange, name, repeats, seed):
    it = Market(exchange(), seed, name)
    stored, lost, expected = it.holes(repeats, consecutive=exchange is not Coinbase)
    assert [trade.id for trade in it.stored.trades] == [*map(name, stored)]
    assert [(gap.start, gap.end) for gap in it.gaps] == [
        pytest.approx((start / SECOND, end / SECOND), abs=1e-6) for start, end in expected
    ]
    for number in lost:
        receipt = (it.traded[number] + LAG) / SECOND
        assert any(gap.start <= receipt <= gap.end for gap in it.gaps), number


def test_a_gap_without_a_following_trade_is_reported_after_a_while():
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


def test_a_number_missing_after_a_bridged_reconnect_is_a_loss():
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
