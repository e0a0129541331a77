"""What one connection holds until it takes over from another follows what the other brought."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges.protocol import (
    Break,
    Confirmed,
    Exchange,
    Malformed,
    Refused,
    Repeated,
    Resync,
    Subscription,
)
from collector.exchanges.records import Funding, L2Book, Ticker, Trade
from collector.feeds.handover import MOST_HELD, Handover, HandoverError

TICKER, BOOK = Subscription("ticker", "BTC-USD"), Subscription("l2_book", "BTC-USD")
TRADES = Subscription("trades", "BTC-USD")
NOW = 1_790_000_000 * 10**9


def ticker(time, content="1", number=None, receipt=None):
    return Ticker("X", "BTC-USD", NOW + time, receipt or NOW + time + 50, content, "9", number)


def change(time, content="1"):
    return L2Book("X", "BTC-USD", NOW + time, NOW + time + 50, True, [("1", content)], [])


def whole(time):
    return L2Book("X", "BTC-USD", NOW + time, NOW + time + 50, False, [("1", "1")], [])


def handover(*keys):
    return Handover(keys, lambda record: Exchange.identity(None, record))


def records(outputs):
    return [it for it in outputs if not isinstance(it, Confirmed | Repeated)]


def test_it_stands_when_all_is_confirmed_and_each_book_is_complete():
    it = handover(TICKER, BOOK, TRADES)
    it.hold([Confirmed((TICKER, BOOK, TRADES), "acknowledgement")])
    assert not it.stands
    it.hold([whole(1)])
    assert it.stands


def test_what_did_not_stand_on_the_old_connection_is_not_waited_for():
    it = handover(TICKER)
    it.hold([Refused((BOOK,), "no"), Confirmed((TICKER,), "data")])
    assert it.stands


@pytest.mark.parametrize(
    "event", [Refused((TICKER,), "no"), Break(TICKER, "a hole"), Malformed("no number", (TICKER,))]
)
def test_a_connection_on_which_something_is_wrong_does_not_take_over(event):
    with pytest.raises(HandoverError):
        handover(TICKER).hold([event])


def test_quotes_change_over_at_the_exchange_s_time_and_the_same_at_the_same_time_is_one():
    it = handover(TICKER)
    it.note([ticker(1), ticker(2, "a"), ticker(2, "b")])
    it.hold([ticker(2, "a"), ticker(2, "b"), ticker(2, "c"), ticker(3)])
    assert records(it.held()) == [ticker(2, "c"), ticker(3)]


def test_quotes_that_are_numbered_change_over_at_a_number_whatever_the_clock_says():
    it = handover(TICKER)
    it.note([ticker(900, number=7), ticker(901, number=8)])
    held = [ticker(3, number=7), ticker(4, number=8), ticker(5, number=9)]
    it.hold(held)
    assert records(it.held()) == held[2:]


def test_quotes_without_time_or_number_that_say_the_same_are_one():
    it = handover(TICKER)
    it.note([ticker(1, "a", receipt=NOW + 1)])
    it.hold([ticker(2, "a", receipt=NOW + 2), ticker(3, "b", receipt=NOW + 3)])
    assert [each.bid for each in records(it.held())] == ["b"]


def test_a_new_connection_that_is_behind_repeats_nothing_after_it_has_taken_over():
    it = handover(TICKER)
    it.note([ticker(1), ticker(2), ticker(3)])
    it.hold([ticker(1)])
    assert records(it.held()) == []
    assert it.without_old([ticker(2)]) == []
    assert it.without_old([ticker(3), ticker(4)]) == [ticker(4)]
    assert it.without_old([ticker(3)]) == [ticker(3)]  # from then on all is taken


def test_a_book_goes_on_with_the_changes_that_the_old_connection_did_not_bring():
    it = handover(BOOK)
    it.note([change(1), change(2), change(3)])
    it.hold([whole(1), change(2), change(3), change(4)])
    assert it.behind == []
    assert records(it.held()) == [change(4)]


def test_a_book_begins_with_the_complete_one_where_the_old_connection_brought_nothing():
    it = handover(BOOK)
    it.hold([whole(1), change(2)])
    assert it.behind == [BOOK]
    assert records(it.held()) == [whole(1), change(2)]


def test_a_quiet_book_is_not_stored_again():
    it = handover(BOOK)
    it.hold([whole(1)])
    assert it.behind == []
    assert records(it.held()) == []


def test_it_is_behind_until_the_old_connection_reached_where_the_new_one_began():
    it = handover(TRADES)
    trade = [Trade("X", "BTC-USD", NOW + n, NOW + n + 50, "buy", "1", "2", str(n)) for n in range(4)]
    it.note([trade[1]])
    it.hold([Repeated((trade[0],)), trade[2], trade[3]])
    assert it.behind == [TRADES]
    it.note([trade[2]])
    assert it.behind == []


def test_the_last_state_that_a_subscription_begins_with_waits_for_nothing():
    it = handover(("funding", "BTC-USD"))
    it.hold([Funding("X", "BTC-USD", NOW, NOW + 5, None, "1", None, None)])
    assert it.behind == []


def test_what_is_held_is_bounded_while_the_old_connection_goes_on():
    it = handover(TICKER)
    for time in range(MOST_HELD + 10):
        it.note([ticker(time)])
        it.hold([ticker(time)])
    assert records(it.held()) == []
    it = handover(TICKER)
    with pytest.raises(HandoverError, match="more than"):
        it.hold([ticker(time) for time in range(MOST_HELD + 1)])


def test_what_breaks_on_the_old_connection_meanwhile_is_not_handed_over():
    it = handover(BOOK)
    it.hold([whole(1)])
    it.note([Break(BOOK, "a hole")])
    assert not it.stands
    with pytest.raises(HandoverError, match="broke"):
        it.check()


def test_what_did_not_stand_on_the_old_connection_begins_with_the_new_one():
    it = handover(TICKER)
    it.note([change(5)])
    it.hold([Confirmed((TICKER,), "data"), Resync(BOOK), whole(1), change(2)])
    assert it.stands
    assert it.behind == []
    assert [each for each in it.held() if not isinstance(each, Confirmed)] == [
        Resync(BOOK), whole(1), change(2)
    ]  # fmt: skip


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=40),
    st.integers(0, 39),
    st.integers(0, 39),
    st.integers(0, 39),
    st.booleans(),
)
def test_two_connections_that_bring_the_same_make_one(steps, begins, old_end, new_end, is_book):
    """The new one begins after the old one, may be ahead of it or behind when it takes over, and goes on."""
    time, all_sent = 0, []
    for content, step in enumerate(steps):
        time += step
        all_sent.append(change(time, str(content)) if is_book else ticker(time, str(content)))
    begins = min(begins, len(all_sent))
    old_end, new_end = max(old_end, begins) + 1, max(new_end, begins)
    first = [whole(all_sent[begins - 1].timestamp - NOW if begins else 0)] if is_book else []
    it = handover(BOOK if is_book else TICKER)
    it.note(all_sent[:old_end])
    it.hold([*first, *all_sent[begins:new_end]])
    stored = [*all_sent[:old_end], *records(it.held())]
    for record in all_sent[new_end:]:
        stored += it.without_old([record])
    assert [each for each in stored if each not in first] == all_sent
