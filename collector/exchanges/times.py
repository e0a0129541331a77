"""Times as exchanges send them, in integer nanoseconds since 1970, UTC."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

import msgspec

from collector.exchanges.numbers import MalformedError

MICROSECOND, MILLISECOND, SECOND = 1_000, 1_000_000, 1_000_000_000

#: What most exchanges send: milliseconds since 1970, up to the year 2286.
type Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=10**13)]

_rfc3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?Z"
).fullmatch


def rfc3339(text: str) -> int:
    """Return the time of a text such as 2026-07-19T17:54:39.768901Z. Raises MalformedError."""
    found = _rfc3339(text)
    if not found:
        raise MalformedError(f"{text[:40]!r} is no time of the form 2026-07-19T17:54:39.768901Z")
    return _second(found[1]) + int((found[2] or "").ljust(9, "0"))


@lru_cache(64)
def _second(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND
    except ValueError as error:
        raise MalformedError(f"{text!r}: {error}") from error
