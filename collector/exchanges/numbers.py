"""Numbers as an exchange sent them: checked once, and text from the frame to the store.

A number is a plain decimal of at most 40 digits, such as ``0.01862000``: every digit that was sent is kept,
and none is made up. An exponent (within +-40) is written out, ``-0`` is ``0``. Anything else - ``NaN``,
``Infinity``, ``+1``, a text with a quote in it - is malformed.

A price may be below zero, as that of oil was. No amount is: not of a trade, a level, a volume or open
interest; and what was traded or liquidated is more than nothing.
"""

import re
from decimal import Decimal
from itertools import chain
from typing import Annotated

import msgspec

MAX_DIGITS = 40
MAX_EXPONENT = 40

#: A price and a size, or whatever else an exchange sends in pairs.
type Level = tuple[str, str]
#: A whole number that every store has: an id, a sequence number, a count.
type Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: A whole number of things.
type Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
#: A word that an exchange uses: an interval, a status.
type Word = Annotated[str, msgspec.Meta(max_length=64)]
#: What tells one thing from another: a trade's id, an instrument's name.
type Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]

_WHOLE = r"(?:0|[1-9][0-9]{0,19}+)"
_FRACTION = r"(?:\.[0-9]{1,20}+)?+"
_usual = re.compile(_WHOLE + _FRACTION).fullmatch
_usual_traded = re.compile(rf"(?=[0.]*+[1-9]){_WHOLE}{_FRACTION}").fullmatch
_all_usual = re.compile(rf"(?:{_WHOLE}{_FRACTION},)*+").fullmatch
_chained = chain.from_iterable
_LEVEL = rf'\["{_WHOLE}{_FRACTION}","{_WHOLE}{_FRACTION}"\]'
_usual_levels = re.compile(rf"\[(?:{_LEVEL},?)*+\]".encode()).fullmatch
_decode_levels = msgspec.json.Decoder(list[Level]).decode
_unusual = re.compile(
    r"-?(?P<whole>[0-9]+)(?:\.(?P<fraction>[0-9]+))?(?:[eE](?P<exponent>[+-]?[0-9]+))?"
).fullmatch


class MalformedError(ValueError):
    """What was received breaks the exchange's own documentation."""


#: What decoding a message, and reading what it says, may raise: nested too deep for the parser is one of it.
UNREADABLE = (MalformedError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def number(text: str) -> str:
    """Return the number that ``text`` is, as plain text. Raises MalformedError for anything else."""
    return text if _usual(text) else _plain(text)


def amount(text: str) -> str:
    """Return the number that ``text`` is, as ``number`` does; one below zero is malformed."""
    if _usual(text):
        return text
    plain = _plain(text)
    if plain.startswith("-"):
        raise MalformedError(f"{text[:60]!r} is below zero, which an amount cannot be")
    return plain


def traded(text: str) -> str:
    """Return the amount that was traded, as ``amount`` does; nothing at all is malformed."""
    if _usual_traded(text):
        return text
    plain = amount(text)
    if plain in ZEROS:
        raise MalformedError(f"{text[:60]!r} is zero, which a trade's amount cannot be")
    return plain


def number_or_none(text: str | None) -> str | None:
    """Return the number that ``text`` is, or None if the exchange sent nothing: null or an empty text."""
    return number(text) if text else None


def raw_number(raw: msgspec.Raw) -> str:
    """Return the number of a JSON value by its digits, whether it is a JSON number or a text."""
    return number(str(raw, "utf-8").strip('"'))


def raw_amount(raw: msgspec.Raw) -> str:
    """Return the amount that a JSON value is, as ``raw_number`` does."""
    return amount(str(raw, "utf-8").strip('"'))


def raw_traded(raw: msgspec.Raw) -> str:
    """Return the amount that was traded, as ``raw_number`` does."""
    return traded(str(raw, "utf-8").strip('"'))


def scaled_number(value: int, digits: int) -> str:
    """Return the number that an exchange sends as a whole one, with its point ``digits`` from the right."""
    text = str(abs(value)).rjust(digits + 1, "0")
    point = len(text) - digits
    return number(("-" if value < 0 else "") + (f"{text[:point]}.{text[point:]}" if digits else text))


def levels(side: list[Level]) -> list[Level]:
    """Return the levels with their numbers checked, all at once. Raises MalformedError."""
    return sides(side, [])[0]


def sides(bids: list[Level], asks: list[Level]) -> tuple[list[Level], list[Level]]:
    """Return both sides of a book as ``levels`` does, in one go. Raises MalformedError."""
    joined = ",".join([*_chained(bids), *_chained(asks), ""])
    if _all_usual(joined) and joined.count(",") == 2 * (len(bids) + len(asks)):
        return bids, asks
    checked = [[(number(price), amount(size)) for price, size in side] for side in (bids, asks)]
    return checked[0], checked[1]


def raw_sides(bids: msgspec.Raw, asks: msgspec.Raw) -> tuple[list[Level], list[Level]]:
    """Return both sides of a book as ``sides`` does, out of their JSON: usual numbers are faster there.

    Raises MalformedError and msgspec.DecodeError.
    """
    found = _decode_levels(bids), _decode_levels(asks)
    return found if _usual_levels(bids) and _usual_levels(asks) else sides(*found)


def numbers(*texts: str) -> tuple[str, ...]:
    """Return the numbers that ``texts`` are, checked all at once. Raises MalformedError."""
    joined = ",".join(texts) + ","
    if _all_usual(joined) and joined.count(",") == len(texts):
        return texts
    return tuple(map(number, texts))


def quote(bid: str, bid_size: str, ask: str, ask_size: str) -> tuple[str, str, str, str]:
    """Return the best prices with their sizes, checked all at once. Raises MalformedError."""
    joined = f"{bid},{bid_size},{ask},{ask_size},"
    if _all_usual(joined) and joined.count(",") == 4:
        return bid, bid_size, ask, ask_size
    return number(bid), amount(bid_size), number(ask), amount(ask_size)


def candle(opened: str, closed: str, high: str, low: str, volume: str) -> tuple[str, ...]:
    """Return the prices of a candle and its volume, checked. Raises MalformedError."""
    return *numbers(opened, closed, high, low), amount(volume)


def _plain(text: str) -> str:
    found = _unusual(text) if len(text) <= 2 * MAX_DIGITS else None
    if not found:
        raise MalformedError(f"{text[:60]!r} is not a number")
    digits = len(found["whole"]) + len(found["fraction"] or "")
    if digits > MAX_DIGITS or abs(int(found["exponent"] or 0)) > MAX_EXPONENT:
        raise MalformedError(
            f"{text[:60]!r} is out of bounds: at most {MAX_DIGITS} digits, exponents within +-{MAX_EXPONENT}"
        )
    plain = format(Decimal(text), "f")
    return plain.removeprefix("-") if not plain.strip("-0.") else plain


def is_one_sided(bid: str, ask: str) -> bool:
    """Return whether a side has no price: exchanges send an empty text for it, or zero."""
    return not bid or not ask or bid in ZEROS or ask in ZEROS


#: Every way in which a checked number is zero.
ZEROS = frozenset(("0", *("0." + "0" * digits for digits in range(1, 2 * MAX_DIGITS))))
