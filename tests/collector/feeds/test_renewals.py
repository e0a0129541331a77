"""What breaks is subscribed to again, within bounds."""

import asyncio

import pytest

from collector.exchanges.okx.exchange import Okx
from collector.exchanges.protocol import Limits
from collector.feeds import renewals
from collector.feeds.connection import SilentError
from collector.feeds.renewals import Renewals

BOOK, OTHER = ("l2_book", "BTC-USDT"), ("l2_book", "ETH-USDT")
FRAMES = ("unsubscribe", "subscribe")


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr(renewals.time, "monotonic", lambda: Clock.now)
    return Clock


class Rig(Renewals):
    """Renewals whose turns are not waited for: ``waits`` are the seconds that each has to."""

    def __init__(self, limits=Okx.limits):
        self.sent, self.waits = [], []
        super().__init__("X.ws.1", limits, self.sent.append)
        self.begin(1)

    def break_again(self, clock, key=BOOK, stands=0.0):
        """A book breaks, is subscribed to, and stands for so long."""
        self.renew([key], FRAMES)
        turn = self._turns.pop(key, None)
        self.waits.append(turn.when() - asyncio.get_running_loop().time() if turn else 0.0)
        if turn:
            turn.cancel()
            clock.now += self.waits[-1]
        self.settle(key)
        clock.now += stands


async def test_a_book_that_keeps_breaking_waits_longer_each_time_up_to_a_bound(clock):
    it = Rig()
    for _ in range(12):
        it.break_again(clock)
    assert it.waits[0] == 0
    assert it.waits[1] > 0.4
    assert it.waits[5] > it.waits[2]
    assert all(wait <= 60 for wait in it.waits)
    assert it.waits[-1] >= 30
    it.break_again(clock, OTHER)
    assert it.waits[-1] == 0  # it costs the others nothing


async def test_a_book_that_was_stable_for_long_is_resubscribed_at_once(clock):
    it = Rig()
    for _ in range(5):
        it.break_again(clock)
    clock.now += 11
    it.break_again(clock)
    assert it.waits[-1] == 0


async def test_the_exchange_s_operations_are_never_more_than_it_allows(clock):
    it = Rig(Limits(operations=(10, 3600.0), source="none"))
    begun = clock.now
    for number in range(5):
        it.break_again(clock, ("l2_book", f"{number}-USDT"))
    assert it.waits[:3] == [0, 0, 0]  # seven operations, of eight
    assert it.waits[3] == pytest.approx(3600, abs=1)
    assert clock.now - begun >= 3600


async def test_a_waiting_renewal_is_reported_and_sent_once_at_its_turn(caplog):
    sent = []
    it = Renewals("X.ws.1", Okx.limits, sent.append)
    it.begin(1)
    it.renew([BOOK], FRAMES)
    assert sent == [*FRAMES]
    assert it.waiting is None
    it.renew([BOOK], FRAMES)
    it.renew([BOOK], FRAMES)
    assert it.waiting == "keeps breaking and is waiting to be resubscribed: l2_book BTC-USDT"
    assert "l2_book BTC-USDT keeps breaking" in caplog.text
    it._turns[BOOK]._run()
    assert sent == [*FRAMES, *FRAMES]
    assert it.waiting is None
    it.renew([BOOK], FRAMES)
    it.end()  # with its connection
    assert it.waiting is None


async def test_a_renewal_that_takes_too_long_is_reported(clock):
    it = Rig()
    it.broke(BOOK)
    clock.now += renewals.RENEWAL - 1
    it.check((), sending=False)
    clock.now += 2
    it.check({BOOK}, sending=False)  # the exchange refused it: that is told elsewhere
    it.check((), sending=True)
    it.check((), sending=False)
    clock.now += renewals.RENEWAL + 1
    with pytest.raises(SilentError, match="l2_book BTC-USDT: no data within 60 s"):
        it.check((), sending=False)


async def test_the_time_limit_of_a_renewal_starts_with_its_turn(clock):
    it = Rig()
    for _ in range(12):
        it.break_again(clock)
    it.renew([BOOK], FRAMES)
    clock.now += renewals.RENEWAL
    it.check((), sending=False)
    it.forget([BOOK])
    assert it.waiting is None
    clock.now += 600
    it.check((), sending=False)
