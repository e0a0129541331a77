"""Times as exchanges send them, in integer nanoseconds since 1970, UTC."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

import msgspec

from collector.exchanges.numbers import MalformedError
from collector.times import MILLISECOND, SECOND

#: Times end in the year 2286: what is beyond was not meant as a time.
_LATEST = 10**13  # milliseconds
#: What most exchanges send: milliseconds since 1970. 0 is what is sent by mistake.
type Milliseconds = Annotated[int, msgspec.Meta(gt=0, lt=_LATEST)]
#: The same, of what may have no time: it is 0 then.
type MillisecondsOrZero = Annotated[int, msgspec.Meta(ge=0, lt=_LATEST)]

_rfc3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z"
).fullmatch


def rfc3339(text: str) -> int:
    """Return the time of a text such as 2026-07-19T17:54:39.768901Z. Raises MalformedError."""
    found = _rfc3339(text)
    if not found:
        raise MalformedError(f"{text[:40]!r} is not a time of the form 2026-07-19T17:54:39.768901Z")
    return _second(found[1]) + int((found[2] or "").ljust(9, "0"))


def milliseconds(text: str) -> int:
    """Return the time of a text such as 1790000000000. Raises MalformedError."""
    if not text.isdecimal() or not text.isascii() or len(text) > 13 or not int(text):
        raise MalformedError(f"{text[:40]!r} is not a time in milliseconds since 1970")
    return int(text) * MILLISECOND


def nanoseconds(milliseconds: int | None, receipt: int) -> int:
    """Return the time of a message; its receipt where it has none."""
    return receipt if milliseconds is None else milliseconds * MILLISECOND


def seconds(text: str) -> int:
    """Return the time of a text such as 1790000000. Raises MalformedError."""
    if not text.isdecimal() or not text.isascii() or len(text) > 10 or not int(text):
        raise MalformedError(f"{text[:40]!r} is not a time in seconds since 1970")
    return int(text) * SECOND


def later(time: int, seconds: int) -> int:
    """Return the time that is so many seconds after another one. Raises MalformedError."""
    end = time + seconds * SECOND
    if end >= _LATEST * MILLISECOND:
        raise MalformedError(f"{seconds} seconds that begin at {time // SECOND} end after the year 2286")
    return end


def rfc3339_text(time: int) -> str:
    """Return a time to the second, as in 2026-12-25T08:00:00Z."""
    return f"{datetime.fromtimestamp(time // SECOND, UTC):%Y-%m-%dT%H:%M:%SZ}"


@lru_cache(64)
def _second(text: str) -> int:
    try:
        second = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise MalformedError(f"{text!r}: {error}") from error
    if not 0 < second < _LATEST // 1000:
        raise MalformedError(f"{text!r} is not between the years 1970 and 2286")
    return second * SECOND
