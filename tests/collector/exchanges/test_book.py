"""A book found by value and stored as it was sent; its records lead from one state to the next."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges.book import Book, Storing

PRICES = st.sampled_from(
    ["1", "1.0", "2", "2.00", "83778.9", "83778.90000000", "0.000000000000000001", "10", "9.99"]
)
SIZES = st.sampled_from(["0", "0.000", "1", "2.50", "0.00000001"])
CHANGES = st.lists(st.tuples(PRICES, SIZES), max_size=6)
STORINGS = st.builds(
    Storing, snapshot_only=st.booleans(), snapshot_interval=st.integers(1, 4), max_depth=st.integers(0, 3)
)


def book(**storing):
    return Book("X", "A-B", Storing(**storing))


def applied(state, records):
    """What a reader makes of the records: sides by value, with the sizes as texts."""
    for record in records:
        sides = (record.bid, record.ask)
        if not record.delta:
            state = ({}, {})
        for side, levels in zip(state, sides, strict=True):
            for price, size in levels:
                side.pop(Decimal(price), None)
                if Decimal(size):
                    side[Decimal(price)] = size
    return state


def best(side, depth, *, highest):
    ordered = sorted(side, reverse=highest)[: depth or None]
    return {price: side[price] for price in ordered}


@given(STORINGS, CHANGES, CHANGES, st.lists(st.tuples(CHANGES, CHANGES, st.booleans()), max_size=8))
def test_applying_the_records_gives_the_book(storing, bids, asks, changes):
    kept = Book("X", "A-B", storing)
    model = ({}, {})
    seen = applied(({}, {}), kept.begin(bids, asks, 1, 1))
    for number, (more_bids, more_asks, whole) in enumerate([(bids, asks, True), *changes]):
        if whole:
            model = ({}, {})
        for side, levels in zip(model, (more_bids, more_asks), strict=True):
            for price, size in levels:
                side.pop(Decimal(price), None)
                if Decimal(size):
                    side[Decimal(price)] = size
        if number:
            take = kept.show if whole else kept.change
            seen = applied(seen, take(more_bids, more_asks, number, number))
        expected = (
            best(model[0], storing.max_depth, highest=True),
            best(model[1], storing.max_depth, highest=False),
        )
        assert seen == expected


def test_a_level_is_found_by_its_value_and_stored_as_it_was_sent():
    kept = book()
    kept.begin([("83778.9", "1")], [], 1, 1)
    (delta,) = kept.change([("83778.90000000", "0")], [], 2, 2)
    assert delta.bid == [("83778.90000000", "0")]
    assert kept.complete(3, 3).bid == []


def test_prices_that_differ_in_a_late_digit_are_different_levels():
    kept = book()
    record = kept.begin([("1.00000000000000000001", "1"), ("1.00000000000000000002", "2")], [], 1, 1)
    assert len(record[0].bid) == 2


def test_a_complete_book_is_sorted_best_first():
    (record,) = book().begin([("9", "1"), ("10", "1")], [("12", "1"), ("11", "1")], 1, 1)
    assert ([price for price, _ in record.bid], [price for price, _ in record.ask]) == (
        ["10", "9"],
        ["11", "12"],
    )


def test_removing_a_level_that_is_not_there_changes_nothing():
    kept = book()
    kept.begin([("1", "1")], [], 1, 1)
    assert kept.change([("2", "0")], [("3", "0.00")], 2, 2) == []


def test_a_complete_book_follows_every_interval_of_deltas():
    kept = book(snapshot_interval=2)
    kept.begin([("1", "1")], [], 1, 1)
    counts = [len(kept.change([("1", str(size))], [], size, size)) for size in range(2, 6)]
    assert counts == [1, 2, 1, 2]


def test_a_renewed_book_is_complete_after_its_next_change():
    kept = book()
    kept.begin([("1", "1")], [], 1, 1)
    kept.renew()
    delta, complete = kept.change([("1", "2")], [], 2, 2)
    assert (delta.delta, complete.delta, complete.bid) == (True, False, [("1", "2")])


@given(st.integers(1, 3), CHANGES, st.lists(st.tuples(CHANGES, CHANGES), max_size=8))
def test_a_level_beyond_the_subscribed_depth_is_removed(depth, bids, changes):
    kept = Book("X", "A-B", Storing(), depth=depth)
    seen = applied(({}, {}), kept.begin([level for level in bids if Decimal(level[1])][:1], [], 1, 1))
    model = (dict(seen[0]), {})
    for number, pair in enumerate(changes):
        for side, levels, highest in zip(model, pair, (True, False), strict=True):
            for price, size in levels:
                side.pop(Decimal(price), None)
                if Decimal(size):
                    side[Decimal(price)] = size
            for gone in set(side) - set(best(side, depth, highest=highest)):
                del side[gone]
        seen = applied(seen, kept.change(*pair, number, number))
        assert seen == model
