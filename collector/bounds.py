"""Bounds on what an exchange may send - plain numbers, short texts, possible times - checked on receipt.

A number of a few bytes, ``1e999999999``, takes a gigabyte once it is written out: it would block or crash
whatever stores it, at every attempt. So a value out of bounds makes its message malformed, before any of it
becomes a record.
"""

import re
from decimal import (
    Clamped,
    Context,
    Decimal,
    Inexact,
    InvalidOperation,
    Overflow,
    Rounded,
    Subnormal,
    Underflow,
)
from typing import Any

from collector import records
from collector.records import AnyRecord
from collector.times import nanoseconds

#: A number has at most this many digits, and lies between 10 to the powers of -EXPONENT and EXPONENT.
DIGITS = EXPONENT = 40
#: Most characters of a text: an id, a side, a type.
LONGEST_TEXT = 256
#: Seconds since 1970, in the year 2286: what is beyond was not meant as seconds.
LATEST = 1e10
#: The largest integer that every store can hold.
LARGEST_COUNT = 2**63 - 1

_BOUNDS = Context(
    prec=DIGITS,
    Emin=-EXPONENT,
    Emax=EXPONENT,
    clamp=0,
    traps=[Clamped, Inexact, InvalidOperation, Overflow, Rounded, Subnormal, Underflow],
)
#: Raises ArithmeticError for a Decimal that is out of bounds, but for infinity and NaN: the fastest way.
_bounded = _BOUNDS.plus

#: Rounds nothing of a text that may be within the bounds.
_EXACT = Context(prec=3 * DIGITS, traps=[])

_plain = re.compile(r"-?[0-9]+(?:\.[0-9]+)?", re.ASCII).fullmatch
#: Numbers that are plain and surely within the bounds, each with a comma after it.
_all_usual = re.compile(r"(?:-?[0-9]{1,20}+(?:\.[0-9]{1,20}+)?+,)*+").fullmatch


def number(value: Any) -> str:
    """Return a number in the form of records. Raises as ``decimal`` does."""
    return written(decimal(value))


def written(number: Decimal) -> str:
    """Return a number as plain text: every digit, no exponent, and no sign if it is zero."""
    text = str(number)
    if "E" in text:
        text = f"{number:f}"
    return text if number or text[0] != "-" else text[1:]


def decimal(value: Any) -> Decimal:
    """Return a number as a Decimal; some of cryptofeed's classes pass on JSON's numbers, or text.

    Raises ValueError for anything except finite numbers within the bounds.
    """
    try:
        found = value if type(value) is Decimal else _decimal(value)
        if _bounded(found).is_finite():
            return found
    except (ArithmeticError, ValueError):
        pass
    raise ValueError(_out_of_bounds(value))


def amount(value: Any) -> str:
    """Return ``number``. Also raises ValueError for a negative one, which no amount is."""
    found = number(value)
    if found.startswith("-"):
        raise ValueError(f"{_short(value)} is below zero, which an amount cannot be")
    return found


def optional_number(value: Any) -> str | None:
    """Return ``number``, or None if there is none."""
    return None if value is None else number(value)


def levels(pairs: Any) -> list[tuple[Decimal, Decimal]]:
    """Return the (price, size) pairs of a book's side as Decimals. Raises as ``decimal`` does."""
    try:
        return [
            (
                price if type(price) is Decimal and _bounded(price).is_finite() else decimal(price),
                size if type(size) is Decimal and _bounded(size).is_finite() else decimal(size),
            )
            for price, size in pairs
        ]
    except ArithmeticError:
        return [(decimal(price), decimal(size)) for price, size in pairs]


def excess(record: AnyRecord) -> str | None:
    """Return what is out of bounds in a record's numbers; None if nothing is."""
    texts = list(records.numbers(record))
    if _all_usual("".join([f"{text}," for text in texts])):
        return None
    return next((_out_of_bounds(text) for text in texts if not _is_within(text)), None)


def text(value: Any) -> str:
    """Return a text as records have it. Raises ValueError for one that is too long, or is no Unicode."""
    if type(value) is not str:
        value = str(value)
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"{_short(value)} is a text of more than {LONGEST_TEXT} characters")
    if not value.isascii():
        value.encode()  # half of a surrogate pair is no text; its error is a ValueError
    return value  # type: ignore[no-any-return]


def optional_text(value: Any) -> str | None:
    """Return ``text``, or None if there is none."""
    return None if value is None else text(value)


def moment(value: Any) -> int:
    """Return a time as records have it, of seconds since 1970. Raises ValueError for one that cannot be."""
    seconds = value if type(value) is float else float(value)
    if 0 <= seconds < LATEST:
        return nanoseconds(seconds)
    raise ValueError(f"{_short(value)} is not a time in seconds since 1970")


def count(value: Any) -> int:
    """Return a whole number. Raises ValueError for one that no store has."""
    whole = int(value)
    if 0 <= whole <= LARGEST_COUNT:
        return whole
    raise ValueError(f"{_short(value)} is not a count")


def _decimal(value: Any) -> Decimal:
    digits = str(value)
    if len(digits) > 3 * DIGITS:  # far more than any number within the bounds takes
        raise ValueError
    return Decimal(digits)


def _is_within(text: str) -> bool:
    """Return whether a text is a plain decimal within the bounds; the zeros of an exponent do not count."""
    if len(text) > 3 * DIGITS or not _plain(text):
        return False
    try:
        _bounded(_EXACT.normalize(Decimal(text)))
    except ArithmeticError:
        return False
    return True


def _out_of_bounds(value: Any) -> str:
    return (
        f"{_short(value)} is not a number of at most {DIGITS} digits between 1e-{EXPONENT} and 1e{EXPONENT}"
    )


def _short(value: Any) -> str:
    """Return a value for an error's message: a Decimal is never written out, and may be infinite."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a whole number of more than 300 digits"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
