"""Where sequences and positions lie, against sets of whole numbers: no disk, no clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.batch import Position
from collector.spool.incarnations import Incarnation, Incarnations, Ranges, next_first
from collector.spool.losses import Loss, Place, forgotten, holes

SMALL = st.integers(0, 60)
RANGES = st.lists(st.tuples(SMALL, SMALL).map(sorted).map(tuple), max_size=6)


@st.composite
def histories(draw):
    """Incarnations, and the sequences that each of them gave, by its id."""
    known, given_by, end = [], {}, draw(st.integers(0, 3))
    for number in range(draw(st.integers(1, 5))):
        first = end + draw(st.integers(0, 5))
        known.append(Incarnation(f"run {number}", end, first))
        end = first + draw(st.integers(0, 6))
        given_by[f"run {number}"] = range(first, end)
    return Incarnations(known), given_by, end


def meaning(incarnations, stored, end, acknowledged=0, exact=True):
    return incarnations.meaning(stored, end=end, acknowledged=acknowledged, exact=exact)


def inside(ranges):
    return {sequence for start, end in ranges for sequence in range(start, end)}


@given(RANGES, SMALL, SMALL)
def test_each_sequence_outside_all_ranges_is_counted_once(ranges, first, end):
    assert Ranges(ranges).outside(first, end) == len(set(range(first, end)) - inside(ranges))


@given(RANGES, SMALL, SMALL)
def test_records_are_joined_if_only_a_range_lies_between_them(ranges, end, following):
    between = end in {start for start, _ in ranges} and set(range(end, following)) <= inside(ranges)
    assert Ranges(ranges).join(end, following) == (following == end or (following > end and between))


@given(histories())
def test_each_sequence_belongs_to_the_incarnation_that_gave_it(history):
    incarnations, given_by, _ = history
    for run, sequences in given_by.items():
        assert incarnations.have(run)
        assert {incarnations.of(sequence) for sequence in sequences} <= {run}
        assert {incarnations.beginning_of(sequence) for sequence in sequences} <= {sequences.start}


@given(histories(), st.data())
def test_a_position_of_a_known_incarnation_means_itself_and_never_more_than_it_had(history, data):
    incarnations, given_by, end = history
    run, sequences = data.draw(st.sampled_from(sorted(given_by.items())))
    sequence = data.draw(st.integers(sequences.start, sequences.stop + 100))
    stored = Position("ours", run, sequence)
    assert meaning(incarnations, stored, end) == min(sequence, sequences.stop)


@given(histories())
def test_an_empty_store_is_sent_everything(history):
    incarnations, given_by, end = history
    assert meaning(incarnations, None, end) == incarnations.begun == given_by["run 0"].start


@given(histories(), SMALL, SMALL)
def test_a_position_of_a_copy_means_what_was_acknowledged_before_it_was_made(history, sequence, acknowledged):
    incarnations, _, end = history
    stored = Position("ours", "of a copy", sequence)
    assert meaning(incarnations, stored, end, acknowledged, exact=True) == acknowledged


@given(histories(), SMALL)
def test_a_position_of_a_lost_incarnation_means_all_before_it_and_nothing_after_it(history, sequence):
    incarnations, given_by, end = history
    found = meaning(incarnations, Position("ours", "lost", sequence), end, exact=False)
    later = [sequences.start for sequences in given_by.values() if sequences.start > sequence]
    assert found == (later[0] if later else incarnations.present.first)


@given(histories(), SMALL, SMALL)
def test_acknowledged_records_are_not_sent_again_for_a_lost_incarnation(history, sequence, acknowledged):
    incarnations, _, end = history
    stored = Position("ours", "lost", sequence)
    known = meaning(incarnations, stored, end, exact=False)
    assert meaning(incarnations, stored, end, acknowledged, exact=False) == max(known, acknowledged)


@given(histories(), SMALL, st.data())
def test_a_writer_continues_at_the_next_record_and_in_its_own_incarnation_if_possible(history, wanted, data):
    incarnations, _, end = history
    oldest = data.draw(st.integers(incarnations.begun, max(end, incarnations.begun)))
    start = incarnations.start(wanted, oldest=oldest, end=end)
    assert oldest <= start <= end
    present = incarnations.present
    assert not present.before <= start < present.first
    if oldest <= wanted < present.before:
        assert start == wanted


@given(histories(), SMALL, SMALL, st.lists(st.tuples(SMALL, SMALL).map(sorted).map(tuple), max_size=4))
def test_a_store_forgot_the_sequences_of_records_that_no_loss_explains(history, wanted, start, dropped):
    incarnations, _, _ = history
    losses = [Loss("dropped", first, end, end - first, None, None) for first, end in dropped]
    before = Loss("forgotten", wanted, wanted + 1, 1, 0.0, 1.0)
    found, after = forgotten([*losses, before], incarnations, wanted, start, 2.0)
    gone = set(range(wanted, start)) - inside(dropped) - inside(incarnations.apart)
    if not gone:
        assert found is None
        assert after == (*losses, before)
    else:
        assert (found.first, found.end, found.count, found.until) == (wanted, start, len(gone), 2.0)
        assert after == (*losses, found)  # which has what was forgotten before


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)), max_size=6), RANGES)
def test_an_unexplained_hole_between_two_positions_is_a_loss(widths, known):
    places, end = [], 0
    for hole, count in widths:
        places.append(Place(end + hole, end + hole + count, float(end), float(end) + 0.5))
        end += hole + count
    found = list(holes(places, Ranges(known)))
    there = {sequence for place in places for sequence in range(place.first, place.end)}
    between = set(range(places[0].first, places[-1].end)) - there if places else set()
    assert sum(loss.count for loss in found) == len(between - inside(known))
    assert all(loss.reason == "corrupt" and loss.since <= loss.until for loss in found)


@pytest.mark.parametrize(("before", "now", "first"), [(7, 100, 100), (100, 7, 100)])
def test_a_clock_that_was_set_back_gives_no_sequence_twice(before, now, first):
    assert next_first(before, now) == first
