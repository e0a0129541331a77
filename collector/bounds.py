"""What an exchange may send: plain numbers, short texts and possible times, checked where they are received.

One number of a few bytes, ``1e999999999``, written out is a gigabyte: it would block or end whatever stores
it, at every try. So a value out of bounds makes its message malformed, before any of it is a record.
"""

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

from msgspec.structs import astuple

from collector.records import AnyRecord

#: A number has at most so many digits, and lies between 10 to the power of -EXPONENT and of EXPONENT.
DIGITS = EXPONENT = 40
#: Characters of a text: an id, a side, a type.
LONGEST_TEXT = 256
#: Seconds since 1970, in the year 5138: what is beyond was not meant as seconds.
LATEST = 1e11
#: The largest whole number that every store has.
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


def number(value: Any) -> Decimal:
    """Return a number as records have it: some of cryptofeed's classes hand out what JSON had, or a text.

    Raises ValueError for anything that is no finite number within the bounds.
    """
    try:
        decimal = value if type(value) is Decimal else _decimal(value)
        if _bounded(decimal).is_finite():
            return decimal
    except (ArithmeticError, ValueError):
        pass
    raise ValueError(
        f"{_short(value)} is no number of at most {DIGITS} digits between 1e-{EXPONENT} and 1e{EXPONENT}"
    )


def numbers(one: Any, two: Any) -> tuple[Decimal, Decimal]:
    """Return ``number`` of both; most records are trades, and have two."""
    try:
        if (
            type(one) is Decimal
            and type(two) is Decimal
            and _bounded(one).is_finite()
            and _bounded(two).is_finite()
        ):
            return one, two
    except ArithmeticError:
        pass
    return number(one), number(two)


def optional_number(value: Any) -> Decimal | None:
    """Return ``number``, or None where there is none."""
    return None if value is None else number(value)


def levels(pairs: Any) -> list[tuple[Decimal, Decimal]]:
    """Return the (price, size) pairs of a book's side as records have them. Raises as ``number`` does."""
    try:
        return [
            (
                price if type(price) is Decimal and _bounded(price).is_finite() else number(price),
                size if type(size) is Decimal and _bounded(size).is_finite() else number(size),
            )
            for price, size in pairs
        ]
    except ArithmeticError:
        return [(number(price), number(size)) for price, size in pairs]


def excess(record: AnyRecord) -> str | None:
    """Return what is out of bounds in a record's numbers; None where nothing is."""
    try:
        for value in astuple(record):
            if type(value) is Decimal:
                number(value)
            elif type(value) is list:
                for *_, price, size in value:
                    numbers(price, size)
    except ValueError as error:
        return str(error)
    return None


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
    """Return ``text``, or None where there is none."""
    return None if value is None else text(value)


def moment(value: Any) -> float:
    """Return a time, seconds since 1970. Raises ValueError for one that cannot be."""
    seconds = value if type(value) is float else float(value)
    if 0 <= seconds < LATEST:
        return seconds
    raise ValueError(f"{_short(value)} is no time in seconds since 1970")


def count(value: Any) -> int:
    """Return a whole number. Raises ValueError for one that no store has."""
    whole = int(value)
    if 0 <= whole <= LARGEST_COUNT:
        return whole
    raise ValueError(f"{_short(value)} is no count")


def _decimal(value: Any) -> Decimal:
    digits = str(value)
    if len(digits) > 3 * DIGITS:  # far more than any number within the bounds takes
        raise ValueError
    return Decimal(digits)


def _short(value: Any) -> str:
    """Return a value for an error's message: a Decimal is never written out, and may be infinite."""
    if isinstance(value, int) and value.bit_length() > 1000:
        return "a whole number of more than 300 digits"
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."
