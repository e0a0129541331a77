"""What is remembered across processes: what is written is read, and what is damaged is known to be."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.gaps import marks
from collector.gaps.marks import DamagedMarkError, Marks

KEY = ("trades", "BTC-USD")
WORDS = st.from_regex(r"[^\s\0]{1,9}", fullmatch=True)
KEYS = st.tuples(WORDS, WORDS)
MOMENTS = st.floats(0, 1e10, exclude_max=True)
WHOLE = st.integers(0, 2**62 - 1)
HOLES = st.builds(marks.Hole, MOMENTS, st.sampled_from(["stale", "killed", "delisted", "corrupt"]))
MISSING = st.builds(marks.Missing, MOMENTS, MOMENTS, st.integers(1, 2**40))
CEDED = st.tuples(MOMENTS, MOMENTS | st.just(float("inf")))


@st.composite
def questions(draw):
    """A place of questions, with questions about its pair."""
    exchange, key = draw(WORDS), draw(KEYS)
    question = st.builds(marks.Question, *map(st.just, key), st.none() | HOLES, MOMENTS)
    asked = draw(st.lists(question, min_size=1))
    return marks.questions(exchange, key), marks.Questions(tuple(asked))


def at(place, *arguments):
    """Where marks of a kind may be."""
    return st.builds(place, *arguments)


COUNTED = st.builds("{} {} {}".format, WORDS, WHOLE, WHOLE)
NUMBERED = st.tuples(st.sampled_from(["trades", "candles"]), WORDS)
#: Places and marks of each kind.
KINDS = {
    marks.Questions: questions(),
    marks.Hole: st.tuples(at(marks.seen, WORDS, KEYS) | st.just(marks.UNMARKED), HOLES),
    marks.Carried: st.tuples(at(marks.seen, WORDS, KEYS), st.builds(marks.Carried, WHOLE)),
    marks.Progress: st.tuples(
        at(marks.connection, st.integers(0, 10**6)), st.builds(marks.Progress, MOMENTS, WHOLE)
    ),
    marks.MissingRecords: st.tuples(
        at(marks.missing, WORDS, KEYS),
        st.builds(marks.MissingRecords, st.lists(MISSING, min_size=1).map(tuple)),
    ),
    marks.LastRecorded: st.tuples(
        at(marks.last_recorded, WORDS, NUMBERED), st.builds(marks.LastRecorded, WHOLE, st.none() | WHOLE)
    ),
    marks.LastContent: st.tuples(
        at(marks.last_content, WORDS, KEYS), st.builds(marks.LastContent, st.text(min_size=1))
    ),
    marks.Ceded: st.tuples(
        at(marks.ceded, WORDS, KEYS), st.builds(marks.Ceded, st.lists(CEDED, min_size=1).map(tuple))
    ),
    marks.Listed: st.tuples(at(marks.listed, WORDS, WORDS), st.just(marks.Listed())),
    marks.LossesTold: st.tuples(
        st.just(marks.LOSSES_TOLD), st.builds(marks.LossesTold, st.frozensets(st.text()))
    ),
    marks.LettersGone: st.tuples(st.just(marks.LETTERS_GONE), st.builds(marks.LettersGone, COUNTED)),
    marks.Suspicion: st.tuples(
        st.just(marks.WRITING),
        st.builds(marks.Suspicion, WHOLE, WHOLE, WHOLE, st.integers(0, 9), st.booleans()),
    ),
    marks.GapsOfDay: st.tuples(
        st.just(marks.GAPS_OF_DAY),
        st.builds(marks.GapsOfDay, st.dates().map(str), st.integers(0, 10**15 - 1)),
    ),
}
EVERY_KIND = st.one_of(*KINDS.values())


def test_every_kind_of_mark_is_tested():
    concrete = [
        kind for kind in vars(marks).values() if isinstance(kind, type) and issubclass(kind, marks.Mark)
    ]
    assert KINDS.keys() == {*concrete} - {marks.Mark, marks.Seen}


@given(EVERY_KIND)
def test_every_mark_is_read_as_written(found):
    place, mark = found
    written = Marks({})
    written.put(place, mark)
    saved = written.take()
    ((name, text),) = saved.items()
    assert text
    assert marks.slot(name) == place
    assert marks.slot(name).read(text) == mark
    assert Marks(saved).get(place) == mark


@given(EVERY_KIND, st.text())
def test_a_damaged_mark_reads_as_none_or_as_a_valid_mark(found, text):
    place, _ = found
    assert isinstance(Marks({place.name: text}).get(place), marks.Mark | None)
    try:
        marks.slot(text)
    except DamagedMarkError:
        pass
    else:
        assert marks.slot(text).name == text


OLD = [
    (marks.seen("X", KEY), "on 3", marks.Carried(3)),
    (marks.seen("X", KEY), "until 1700000000.25 killed", marks.Hole(1700000000.25, "killed")),
    (marks.connection(3), "1700000000.25 1700000000250000", marks.Progress(1700000000.25, 1700000000250000)),
    (marks.last_recorded("X", KEY), "17", marks.LastRecorded(17)),
    (marks.last_recorded("X", KEY), "17 None", marks.LastRecorded(17)),
    (marks.last_recorded("X", ("candles", "BTC-USD")), "17 18", marks.LastRecorded(17, 18)),
    (marks.questions("X", KEY), "[]", marks.Questions(())),
    (
        marks.questions("X", KEY),
        '[{"channel":"trades","symbol":"BTC-USD","hole":{"start":1.5,"reason":"stopped"},"end":2.0},'
        '{"channel":"trades","symbol":"BTC-USD","hole":null,"end":3.0}]',
        marks.Questions(
            (marks.Question(*KEY, marks.Hole(1.5, "stopped"), 2.0), marks.Question(*KEY, None, 3.0))
        ),
    ),
    (marks.missing("X", KEY), "[[1.0,2.0,3]]", marks.MissingRecords((marks.Missing(1.0, 2.0, 3),))),
    (marks.ceded("X", KEY), "1.0,2.0 3.0,inf", marks.Ceded(((1.0, 2.0), (3.0, float("inf"))))),
    (marks.listed("X", "BTC-*"), "yes", marks.Listed()),
    (marks.LOSSES_TOLD, '["dropped 1 2"]', marks.LossesTold(frozenset({"dropped 1 2"}))),
    (marks.WRITING, '{"first":7,"size":10,"until":17}', marks.Suspicion(7, 10, 17)),
    (marks.GAPS_OF_DAY, "2026-01-31 3", marks.GapsOfDay("2026-01-31", 3)),
]


@pytest.mark.parametrize(("place", "text", "mark"), OLD)
def test_the_texts_of_earlier_versions_are_read(place, text, mark):
    assert place.read(text) == mark


def test_the_marks_of_spools_of_earlier_versions_are_sound():
    for file in (Path(__file__).parent / "spools").glob("*.json"):
        saved = json.loads(file.read_text())["marks"]
        for name, text in saved.items() - {("trades last COINBASE", "17")}:  # which no version wrote
            assert marks.slot(name).read(text)


@pytest.mark.parametrize(
    "text",
    [
        *("on", "on -1", "on 1 2", "until 1.0", "until nan killed", "until -1.0 killed", "until 1e12 killed"),
        *("until 1.0 odd", "garbage", "\x00"),
    ],
)
def test_a_damaged_text_is_an_error_that_names_the_mark(text):
    with pytest.raises(DamagedMarkError, match="seen X trades BTC-USD"):
        marks.seen("X", KEY).read(text)


def test_questions_about_another_pair_are_damaged():
    asked = marks.Questions((marks.Question("ticker", "BTC-USD", None, 1.0),))
    with pytest.raises(DamagedMarkError):
        marks.questions("X", KEY).read(asked.text)
