"""Times keep every digit down to the nanosecond."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges.numbers import MalformedError
from collector.exchanges.times import later, rfc3339, seconds
from collector.times import SECOND


@given(st.timedeltas(timedelta(seconds=1), timedelta(days=80_000)), st.integers(0, 999))
def test_a_time_keeps_its_nanoseconds(since_1970, nanoseconds):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + since_1970
    text = f"{moment.strftime('%Y-%m-%dT%H:%M:%S')}.{moment.microsecond:06}{nanoseconds:03}Z"
    whole = int(moment.replace(microsecond=0).timestamp())
    assert rfc3339(text) == whole * SECOND + moment.microsecond * 1000 + nanoseconds


def test_a_fraction_may_be_short_or_missing():
    assert rfc3339("1970-01-01T00:00:01Z") == SECOND
    assert rfc3339("1970-01-01T00:00:01.5Z") == 3 * SECOND // 2


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00.0000000001Z"),
        *("0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"),
        *("2286-11-20T17:46:40Z", "9999-12-31T23:59:59Z"),
    ],
)
def test_a_text_that_is_not_a_time_is_malformed(text):
    with pytest.raises(MalformedError):
        rfc3339(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "17_9", "10000000000", "\u0661"])
def test_seconds_that_are_not_a_time_are_malformed(text):
    with pytest.raises(MalformedError):
        seconds(text)


def test_a_candle_ends_within_the_range_of_times():
    begin = seconds("9999999900")
    assert later(begin, 60) == begin + 60 * SECOND
    with pytest.raises(MalformedError, match="end after the year 2286"):
        later(begin, 100)
