"""What one connection holds until it takes over from another follows what the other brought."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

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
from collector.exchanges.quotes import NumberedTicker
from collector.feeds.handover import DISORDER, GRACE, MOST_HELD, Handover, HandoverError
from collector.records import Funding, L2Book, Liquidation, Ticker, Trade

TICKER, BOOK = Subscription("ticker", "BTC-USD"), Subscription("l2_book", "BTC-USD")
TRADES = Subscription("trades", "BTC-USD")
FUNDING, LIQUIDATIONS = Subscription("funding", "BTC-USD"), Subscription("liquidations", "BTC-USD")
NOW = 1_790_000_000 * 10**9


def ticker(time, content="1", number=None, receipt=None):
    fields = "X", "BTC-USD", NOW + time, receipt or NOW + time + 50, content, "9"
    return Ticker(*fields) if number is None else NumberedTicker(*fields, number)


def change(time, content="1"):
    return L2Book("X", "BTC-USD", NOW + time, NOW + time + 50, True, [("1", content)], [])


def whole(time, content="1", receipt=None):
    return L2Book("X", "BTC-USD", NOW + time, receipt or NOW + time + 50, False, [("1", content)], [])


def trade(number):
    return Trade("X", "BTC-USD", NOW + number, NOW + number + 50, "buy", "1", "2", str(number))


class Two(Handover):
    """Two connections; ``standing`` is what stands on the old one."""

    def __init__(self, *keys):
        self.standing = set(keys)
        super().__init__({TICKER, BOOK, TRADES, *keys}, self.standing, lambda it: Exchange.identity(None, it))

    def ready(self, at=1.0):
        return self.is_ready(at)


def records(outputs):
    return [it for it in outputs if not isinstance(it, Confirmed | Repeated)]


def test_the_new_connection_takes_over_once_the_old_one_has_caught_up_on_every_subscription():
    it = Two(TICKER, BOOK, TRADES)
    it.hold([Confirmed((TICKER, BOOK, TRADES), "acknowledgement"), ticker(1), trade(3)])
    it.note([ticker(1), trade(3)])
    assert not it.ready()  # no book yet
    it.hold([whole(1), change(2)])
    assert not it.ready()  # its change may be on its way on the old connection
    it.note([change(2)])
    assert it.ready()


@pytest.mark.parametrize("held", [[ticker(2)], [whole(1), change(2)], [trade(2)]])
def test_a_connection_does_not_take_over_before_the_old_one_reaches_its_beginning(held):
    it = Two((held[-1].__struct_config__.tag, "BTC-USD"))
    it.hold([Confirmed((TICKER, TRADES), "acknowledgement"), *held])
    assert not it.ready()
    with pytest.raises(HandoverError, match="do not agree"):
        it.ready(1.1 + GRACE)


def test_everything_from_the_old_connection_must_also_come_on_the_new_one():
    it = Two(TICKER, TRADES)
    it.hold([Confirmed((TICKER, TRADES), "acknowledgement")])
    assert not it.ready(0.1)
    for time in (20, 30):
        it.hold([ticker(time)])
        it.note([ticker(time), trade(time)])
    assert not it.ready()
    with pytest.raises(HandoverError, match="trades"):
        it.ready(1.1 + GRACE)


def test_a_quiet_subscription_is_handed_over_once_the_old_connection_brings_something_later():
    it = Two(TICKER, TRADES, FUNDING)
    it.hold([Confirmed((TICKER, TRADES, FUNDING), "acknowledgement"), ticker(1)])
    it.note([ticker(1)])
    assert not it.ready(0.1)
    it.hold([ticker(60)])
    assert not it.ready(0.7)
    it.note([ticker(60)])
    assert it.ready(0.7)


def test_if_everything_is_quiet_the_new_connection_takes_over_after_a_while():
    it = Two(TRADES, LIQUIDATIONS)
    it.hold([Confirmed((TRADES, LIQUIDATIONS), "acknowledgement")])
    assert not it.ready()
    assert it.ready(1.1 + GRACE)


def test_a_subscription_that_the_old_connection_lacks_is_not_waited_for():
    it = Two(TICKER)
    it.hold([refused := Refused((BOOK,), "no"), Confirmed((TICKER,), "data"), ticker(1)])
    it.note([ticker(1)])
    assert it.ready()
    assert it.held()[-1] == refused


@pytest.mark.parametrize("beginning", [whole(60, receipt=NOW + 60), whole(60)], ids=["untimed", "timed"])
def test_a_subscription_confirmed_on_the_old_connection_meanwhile_is_stored_once(beginning):
    it = Two(TICKER)
    it.hold([Confirmed((TICKER,), "data"), ticker(1), Resync(BOOK), whole(1), change(2), change(3)])
    it.note([ticker(1), Resync(BOOK), beginning])
    it.standing.add(BOOK)
    assert not it.ready()
    it.note([change(4)])
    it.hold([change(4), change(5)])
    assert it.ready()
    assert records(it.held()) == [change(5)]


def test_a_subscription_confirmed_only_on_the_old_connection_is_waited_for():
    it = Two(TICKER)
    it.hold([Confirmed((TICKER,), "data"), ticker(1)])
    it.note([ticker(1)])
    it.standing.add(BOOK)
    assert not it.ready()


@pytest.mark.parametrize(
    "event", [Refused((TICKER,), "no"), Break(TICKER, "a hole"), Malformed("no number", (TICKER,))]
)
def test_a_connection_with_a_fault_does_not_take_over(event):
    with pytest.raises(HandoverError):
        Two(TICKER).hold([event])


def test_a_subscription_without_times_or_numbers_is_not_handed_over():
    it = Two(BOOK)
    it.hold([whole(1, receipt=NOW + 1)])
    with pytest.raises(HandoverError, match="neither a time nor a number"):
        it.hold([L2Book("X", "BTC-USD", NOW + 2, NOW + 2, True, [("1", "1")], [])])


def test_a_subscription_that_breaks_on_the_old_connection_is_not_handed_over():
    it = Two(BOOK)
    it.hold([whole(1)])
    it.note([Break(BOOK, "a hole")])
    with pytest.raises(HandoverError, match="broke"):
        it.ready()


def test_a_subscription_that_falls_silent_on_the_old_connection_is_not_handed_over():
    it = Two(TICKER, BOOK)
    it.standing.discard(TICKER)
    with pytest.raises(HandoverError, match="broke"):
        it.ready()


def test_quotes_are_handed_over_at_the_exchange_s_time_and_equal_ones_stored_once():
    it = Two(TICKER)
    it.note([ticker(1), ticker(2, "a"), ticker(2, "b")])
    it.hold([ticker(2, "a"), ticker(2, "b"), ticker(2, "c"), ticker(3)])
    assert it.ready()
    assert records(it.held()) == [ticker(2, "c"), ticker(3)]


def test_numbered_quotes_are_handed_over_at_a_number_whatever_the_clock_says():
    it = Two(TICKER)
    it.note([ticker(900, number=7), ticker(901, number=8)])
    held = [ticker(3, number=7), ticker(4, number=8), ticker(5, number=9)]
    it.hold(held)
    assert it.ready()
    assert records(it.held()) == held[2:]


def test_the_last_quote_that_a_subscription_begins_with_is_not_new():
    it = Two(TICKER, TRADES)
    it.note([ticker(1, "a")])
    it.hold([Confirmed((TICKER, TRADES), "data"), ticker(5, "a"), trade(6)])
    it.note([trade(6)])
    assert not it.ready(0.1)
    it.hold([trade(70)])
    it.note([trade(70)])
    assert it.ready()


def test_records_of_the_old_connection_are_ignored_after_the_takeover():
    it = Two(TICKER)
    it.note([ticker(1), ticker(2), ticker(3)])
    it.hold([ticker(1)])
    assert it.ready()
    assert records(it.held()) == []
    assert it.without_old([ticker(2)]) == []
    assert it.without_old([ticker(3), ticker(4)]) == [ticker(4)]
    assert it.without_old([ticker(3), ticker(5)]) == [ticker(5)]
    assert it.without_old([whole(1), change(1)]) == [whole(1), change(1)]


def test_a_book_continues_with_the_changes_that_the_old_connection_did_not_bring():
    it = Two(BOOK)
    it.note([change(1), change(2), change(3)])
    it.hold([whole(1), change(2), change(3), whole(3), change(4), whole(4)])
    assert it.ready()
    assert records(it.held()) == [change(4), whole(4)]


def test_snapshot_only_books_are_handed_over_as_deltas_are():
    it = Two(BOOK)
    it.note([whole(1, "a"), whole(2, "b")])
    it.hold([whole(1, "a"), whole(2, "b"), whole(2, "c"), whole(3, "d")])
    assert it.ready()
    assert records(it.held()) == [whole(2, "c"), whole(3, "d")]


def test_a_quiet_book_is_not_stored_again():
    it = Two(BOOK)
    it.hold([whole(1)])
    assert not it.ready()
    assert it.ready(1.1 + GRACE)
    assert records(it.held()) == []


def test_unordered_records_are_told_apart_by_their_identity():
    sent = [forced(time) for time in (5, 3, 4)]
    it = Two(LIQUIDATIONS)
    it.note(sent[:2])
    it.hold([Confirmed((LIQUIDATIONS,), "data"), *sent])
    assert records(it.held()) == [sent[2]]


def test_the_state_that_a_subscription_begins_with_is_not_waited_for():
    it = Two(FUNDING)
    it.hold([Confirmed((FUNDING,), "data"), Funding("X", "BTC-USD", NOW, NOW + 5, None, "1", None, None)])
    assert not it.ready()
    assert it.ready(1.1 + GRACE)


def test_all_trades_are_passed_on_because_their_numbers_tell_them_apart():
    it = Two(TRADES)
    it.note([trade(2), trade(4)])
    it.hold([Repeated((trade(1),)), trade(2), trade(3), trade(4), trade(5)])
    assert it.ready()
    assert records(it.held()) == [trade(2), trade(3), trade(4), trade(5)]


def test_held_records_are_bounded_while_the_old_connection_carries_on():
    for record in (ticker, trade):
        it = Two(TICKER, TRADES)
        for number in range(MOST_HELD + 1000):
            it.note([record(number)])
            it.hold([record(number)])
        assert len(records(it.held())) < 1000
    it = Two(TICKER)
    with pytest.raises(HandoverError, match="more than"):
        it.hold([ticker(time) for time in range(MOST_HELD + 1)])


def test_a_subscription_that_the_old_connection_lacks_begins_with_the_new_one():
    it = Two(TICKER)
    it.note([ticker(1)])
    it.hold([Confirmed((TICKER,), "data"), ticker(1), Resync(BOOK), whole(1), change(2)])
    assert it.ready()
    assert records(it.held()) == [Resync(BOOK), whole(1), change(2)]


def test_the_last_quote_of_an_unconfirmed_subscription_is_not_stored_again():
    it = Two()
    it.note([ticker(1)])
    it.hold([Confirmed((TICKER,), "acknowledgement"), ticker(1, receipt=NOW + 900), ticker(2, "2")])
    assert it.ready()
    assert [each for each in records(it.held()) if isinstance(each, Ticker)] == [ticker(2, "2")]


def test_a_dropped_subscription_is_not_waited_for():
    it = Two(TICKER, BOOK)
    it.note([ticker(1)])
    it.hold([Confirmed((TICKER,), "data"), ticker(1)])
    assert not it.ready()
    it.forget([BOOK])
    assert it.ready()


def forced(time, content="1"):
    fields = "X", "BTC-USD", NOW + time, NOW + time + 9, "buy", content, "2", None, "filled"
    return Liquidation(*fields)


def rate(time, content="1"):
    return Funding("X", "BTC-USD", NOW + time, NOW + time + 5, None, content, None, None)


@pytest.mark.parametrize(
    ("key", "made"),
    [(TICKER, ticker), (BOOK, change), (BOOK, whole), (FUNDING, rate), (LIQUIDATIONS, forced)],
    ids=["ticker", "book", "whole books", "funding", "liquidations"],
)
def test_a_connection_that_lags_for_long_stores_nothing_twice(key, made):
    step = DISORDER // 2
    sent = [made(number * step, str(number)) for number in range(20)]
    it = Two(key)
    it.note(sent[:15])
    it.hold([Confirmed((key,), "data"), *([whole(0)] if key == BOOK else []), sent[0]])
    assert it.ready() or it.ready(1.1 + GRACE)
    stored, settled = records(it.held()), []
    for record in sent[1:]:
        stored += it.without_old([record])
        settled += [record] if it.settle(everything=False) else []
    assert settled == [sent[17 if key == LIQUIDATIONS else 15]]
    assert it.is_settled
    assert stored == sent[15:]


def test_a_subscription_that_the_old_connection_left_quiet_is_settled_at_once():
    it = Two(TICKER, BOOK)
    it.note([ticker(1)])
    it.hold([Confirmed((TICKER,), "data"), whole(0), ticker(1)])
    assert not it.ready()
    assert it.ready(1.1 + GRACE)
    it.held()
    assert it.settle(everything=False) == {BOOK}
    assert not it.is_settled
    assert it.settle(everything=True) == {TICKER}
    assert it.is_settled


@pytest.mark.parametrize("step", [3600, -3600])
def test_setting_the_clock_neither_hastens_nor_reorders_a_handover(step):
    """What is received after the step has a receipt of another time."""
    it = Two(TICKER, TRADES)
    it.hold([Confirmed((TICKER, TRADES), "acknowledgement")])
    assert not it.ready(1.0)
    later = NOW + step * 10**9
    it.note([structs.replace(trade(1), receipt_timestamp=later)])
    with pytest.raises(HandoverError, match="trades"):  # the new one has not brought it
        it.ready(1.1 + GRACE)
    it = Two(TICKER, BOOK)
    it.note([ticker(1), change(2)])
    held = [change(2), change(3), structs.replace(change(4), receipt_timestamp=later), ticker(5)]
    it.hold([Confirmed((TICKER, BOOK), "data"), ticker(1), whole(1), *held])
    assert it.ready()
    assert records(it.held()) == held[1:]


KINDS = {
    "ticker": (TICKER, ticker),
    "book": (BOOK, change),
    "whole books": (BOOK, whole),
    "funding": (FUNDING, lambda time, rate: Funding("X", "BTC-USD", NOW + time, 0, None, rate, None, None)),
}


@settings(max_examples=300)
@given(st.data())
def test_two_connections_that_bring_the_same_make_one(data):
    """Each brings all in its order; the new one begins later, and may be ahead of the old one or behind."""
    kinds = ["ticker", data.draw(st.sampled_from(["book", "whole books"])), "funding"]
    some = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(kinds)), min_size=1, max_size=30)
    time, sent = 0, []
    for content, (step, kind) in enumerate(data.draw(some)):
        time += step
        sent.append(KINDS[kind][1](time, str(content)))
    begins = data.draw(st.integers(0, len(sent)))
    clock, seconds = itertools.count(NOW + 10_000), itertools.count()
    began = whole(sent[begins - 1].timestamp - NOW if begins else 0, "begins")
    it, stored, old, new = Two(TICKER, BOOK, FUNDING), [], 0, begins
    it.hold([Confirmed((TICKER, FUNDING), "acknowledgement"), began])
    for olds_turn in data.draw(st.lists(st.booleans(), min_size=60, max_size=60)):
        if it.is_ready(next(seconds) / 1e6):
            break
        if olds_turn and old < len(sent):
            record = structs.replace(sent[old], receipt_timestamp=next(clock))
            it.note([record])
            stored.append(record)
            old += 1
        elif not olds_turn and new < len(sent):
            it.hold([structs.replace(sent[new], receipt_timestamp=next(clock))])
            new += 1
    else:
        return
    stored += records(it.held())
    stored += it.without_old(sent[new:])
    for key in (TICKER, BOOK, FUNDING):
        assert of(key, stored) == of(key, sent)


def of(key, records):
    return [structs.astuple(it)[4:] for it in records if it.__struct_config__.tag == key.channel]
