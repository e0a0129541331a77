"""What was recorded before is told from what is new."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from collector.exchanges.protocol import Exchange
from collector.feeds.repeats import LATE, MOST_MISSING, MOST_REMEMBERED, Repeats
from collector.gaps.marks import Marks, last_recorded, missing
from collector.records import Candle, Funding, Index, Liquidation, OpenInterest, Trade
from collector.times import SECOND

KEY = ("trades", "BTC-USD")
NOW = 1_700_000_000 * SECOND


def repeats(memory=None, contiguous=("trades",)):
    memory = Marks({}) if memory is None else memory
    return Repeats("X", lambda record: Exchange.identity(None, record), contiguous, memory)


def trade(number, at=None):
    """Trade ``number``; a text names it otherwise."""
    receipt = NOW + (at if at is not None else (number if isinstance(number, int) else 0))
    time = NOW + (number if isinstance(number, int) else int(number.rpartition("-")[2]))
    return Trade("X", "BTC-USD", time, receipt, "buy", "1", "2", str(number))


def live(it, *numbers):
    return [number for number in numbers if it.is_new("trades", trade(number))]


def repeated(it, *numbers):
    return [number for number in numbers if it.fills("trades", trade(number))]


NAMES = pytest.mark.parametrize("name", [lambda number: number, lambda number: f"a-{number}"])


@NAMES
def test_each_live_trade_is_new_once(name):
    it = repeats()
    assert live(it, *map(name, (5, 6, 6, 7, 5))) == list(map(name, (5, 6, 7)))


@NAMES
def test_live_trades_that_overtake_each_other_are_all_new(name):
    assert live(repeats(), *map(name, (7, 5, 6, 9, 8))) == list(map(name, (7, 5, 6, 9, 8)))


@NAMES
def test_history_before_the_first_start_is_left_out_and_live_trades_are_not(name):
    it = repeats()
    assert repeated(it, *map(name, (1, 2, 3))) == []
    assert live(it, *map(name, (4, 5))) == list(map(name, (4, 5)))


@NAMES
def test_repeated_trades_fill_the_hole_after_a_reconnect(name):
    it = repeats()
    repeated(it, *map(name, (1, 2)))
    live(it, *map(name, (3, 4)))
    it.interrupt([KEY])
    assert repeated(it, *map(name, (2, 3, 4, 5, 6))) == list(map(name, (5, 6)))
    assert live(it, *map(name, (6, 7))) == [name(7)]


@NAMES
def test_a_hole_is_filled_even_if_only_history_had_come(name):
    it = repeats()
    repeated(it, *map(name, (1, 2)))
    it.interrupt([KEY])
    assert repeated(it, *map(name, (1, 2, 3))) == [name(3)]


@NAMES
def test_the_last_trade_survives_the_process(name):
    memory = Marks({})
    it = repeats(memory)
    repeated(it, *map(name, (1, 2)))
    live(it, *map(name, (3, 4)))
    again = repeats(memory)
    assert repeated(again, *map(name, (2, 3, 4, 5))) == [name(5)]
    assert live(again, name(6)) == [name(6)]


@pytest.mark.parametrize("mark", ["", "nonsense", "1700000000.5 2"])
def test_an_empty_mark_leaves_out_repeated_trades(mark):
    it = repeats(Marks({"trade X BTC-USD": mark}))
    assert repeated(it, 8, 9) == []
    assert live(it, 10) == [10]


@NAMES
def test_without_the_last_trade_no_repeated_trade_is_new(name):
    memory = Marks({})
    it = repeats(memory)
    repeated(it, *map(name, (1, 2)))
    live(it, name(3))
    it.interrupt([KEY])
    memory.drop(last_recorded("X", KEY))  # another collector recorded some
    assert repeated(it, *map(name, (2, 3, 4))) == []
    assert live(it, name(5)) == [name(5)]


def test_an_exchange_that_repeats_nothing_costs_no_marks():
    memory = Marks({})
    live(repeats(memory), 1, 2, 3)
    assert memory.are_saved


def test_a_missing_number_is_a_loss():
    it = repeats()
    live(it, 1, 2, 6)
    assert list(it.overdue(NOW + 6)) == []
    assert list(it.overdue(NOW + 7 + LATE)) == [(KEY, NOW + 2, NOW + 6, 3)]
    assert list(it.overdue(NOW + 8 + LATE)) == []  # it is told once
    assert live(it, 4) == [4]  # late, and stored all the same


def test_consecutive_losses_are_all_reported():
    """Of more than are waited for at a time, the first are lost too."""
    it, step = repeats(), MOST_MISSING + 1
    live(it, 0, step, 2 * step, 3 * step, 3 * step + 100)
    assert [loss.records for loss in it.overdue(NOW + 4 * step + LATE)] == [step - 1] * 3 + [99]
    assert not it._numbered[KEY]._lost


def test_a_loss_is_reported_when_numbers_start_over():
    it = repeats()
    live(it, 100, 101, 104)
    assert it.is_new("trades", Trade("X", "BTC-USD", NOW + 200, NOW + 200, "buy", "1", "2", "7"))
    assert [loss.records for loss in it.overdue(NOW + 300 + LATE)] == [2]


def test_a_clock_stepping_back_delays_no_loss():
    it = repeats()
    live(it, 1, 2, 6)
    assert [loss.records for loss in it.overdue(NOW - 3600 * SECOND)] == [3]


def test_a_late_number_is_not_a_loss():
    it = repeats()
    live(it, 1, 2, 4, 3)
    assert list(it.overdue(NOW + 9 + LATE)) == []


def test_numbers_that_are_missing_over_a_reconnect_lie_in_its_gap():
    it = repeats()
    live(it, 1, 2)
    it.interrupt([KEY])
    live(it, 9)
    assert list(it.overdue(NOW + 99 + LATE)) == []


def test_numbers_that_naturally_have_holes_lose_nothing():
    it = repeats(contiguous=())
    live(it, 1, 5, 9)
    assert list(it.overdue(NOW + 99 + LATE)) == []


def test_numbers_that_start_over_lose_no_trade():
    """What is later than everything before was not there before, whatever its number says."""
    it = repeats()
    live(it, 100, 101, 102)

    def later(number):
        return Trade("X", "BTC-USD", NOW + 200 + number, NOW + 200 + number, "buy", "1", "2", str(number))

    assert it.is_new("trades", later(100))
    assert it.is_new("trades", later(101))
    assert not it.is_new("trades", later(101))
    assert it.fills("trades", later(102))


def test_numbers_that_started_over_between_two_processes_lose_no_trade():
    it = repeats(Marks({"trade X BTC-USD": "100"}))
    assert live(it, 7, 8, 8) == [7, 8]


@pytest.mark.parametrize("repetition", [live, repeated])
def test_a_trade_recorded_before_a_restart_is_not_new_even_if_it_looks_live(repetition):
    """A clock that is behind the exchange's takes the last trades before a subscription for live ones."""
    memory = Marks({})
    it = repeats(memory)
    repeated(it, 1)
    live(it, 2, 3, 4)
    assert repetition(repeats(memory), 3, 4, 5) == [5]


def test_only_the_mark_of_a_delisted_symbol_is_kept():
    memory = Marks({})
    it = repeats(memory)
    repeated(it, 1)
    live(it, 2, 4, "a-5")
    assert it.forget([KEY]) == [(KEY, NOW + 2, NOW + 4, 1)]
    assert not it._numbered
    assert not it._identified
    assert repeated(it, 3, 4, 5) == [5]  # it is listed again


def liquidation(receipt, amount="1"):
    return Liquidation("X", "BTC-USD", NOW, NOW + receipt, "sell", amount, "2", None, None)


def test_equal_records_in_one_message_are_as_many_and_sent_again_they_are_none():
    it = repeats()
    sent = [(1, "1"), (1, "1"), (1, "5"), (2, "1"), (2, "1"), (2, "1"), (3, "1"), (3, "1"), (3, "5")]
    new = [each for each in sent if it.is_new("liquidations", liquidation(*each))]
    assert new == [(1, "1"), (1, "1"), (1, "5"), (2, "1")]


@pytest.mark.parametrize(
    ("channel", "kind", "state"),
    [
        ("index", Index, ("1",)),
        ("open_interest", OpenInterest, ("1",)),
        ("funding", Funding, (None, "1", NOW, None)),
    ],
)
def test_a_state_that_one_message_tells_twice_is_one(channel, kind, state):
    it = repeats()
    record = kind("X", "BTC-USD", NOW, NOW, *state)
    assert [it.is_new(channel, record) for _ in range(3)] == [True, False, False]


def test_equal_repeated_records_fill_a_hole_as_many_times_unless_they_are_history():
    it = repeats()
    assert not it.fills("liquidations", liquidation(1))
    assert not it.fills("liquidations", liquidation(1))
    it = repeats()
    it.is_new("liquidations", structs.replace(liquidation(0), timestamp=NOW - 1))
    assert [it.fills("liquidations", liquidation(receipt)) for receipt in (1, 1, 2, 2)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_jump_of_numbers_takes_bounded_memory():
    it = repeats()
    live(it, 1, 10**17)
    assert len(it._numbered[KEY]._missing) <= MOST_MISSING
    assert list(it.overdue(NOW + 10**18)) == [(KEY, NOW + 1, NOW + 10**17, 10**17 - 2)]
    for number in range(10**4):
        it.is_new("trades", trade(f"a-{number}"))
    assert len(it._identified[KEY]._seen) == MOST_REMEMBERED


def test_a_closed_candle_is_stored_once():
    def candle(start):
        numbers = ("1", "1", "1", "1", "1")
        return Candle("X", "BTC-USD", start, NOW, start, start + 59, "1m", None, *numbers, True)

    it = repeats()
    assert [start for start in (1, 61, 61, 1, 121) if it.is_new("candles", candle(start))] == [1, 61, 121]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4), st.integers(0, 5), st.booleans()), max_size=8),
    st.integers(),
    st.booleans(),
)
def test_no_trade_is_stored_twice_and_no_live_trade_is_lost(connections, seed, named):
    """Connections that send some trades live, doubled and swapped, and begin with the last ones."""
    shuffled = random.Random(seed)
    memory = Marks({})
    it, stored, sent_live, last = repeats(memory), [], [], 0
    for count, missed, back, restarted in connections:
        if restarted:
            it = repeats(memory)
        it.interrupt([KEY])
        last += missed
        names = (lambda n: f"a-{n}") if named else (lambda n: n)
        stored += repeated(it, *map(names, range(max(1, last - back), last + 1)))
        numbers = [*range(last + 1, last + count + 1)]
        frames = numbers + shuffled.sample(numbers, 1)
        for position in range(len(frames) - 1):
            if shuffled.random() < 0.3:
                frames[position : position + 2] = reversed(frames[position : position + 2])
        stored += live(it, *map(names, frames))
        sent_live += map(names, numbers)
        last += count
    assert len(stored) == len(set(stored))
    assert set(sent_live) <= set(stored)


def waits(memory):
    remembered = memory.get(missing("X", KEY))
    return remembered.spans if remembered else ()


def test_an_awaited_number_is_remembered_until_it_comes_or_is_reported():
    memory = Marks({})
    it = repeats(memory)
    live(it, 5)
    assert not waits(memory)
    live(it, 8)
    assert [each.count for each in waits(memory)] == [2]
    live(it, 6)
    assert [each.count for each in waits(memory)] == [1]
    assert [loss.records for loss in it.overdue(NOW + 8 + LATE + 1)] == [1]
    assert not waits(memory)
    live(it, 10, 9)
    assert not waits(memory)
