"""The part of yapic.json that cryptofeed uses, made with msgspec, so that installing needs no C++ compiler.

yapic.json is published as source code only, and uv.lock leaves it out. ``collector/__init__.py`` puts this
package in its place before anything can import cryptofeed, whose ``from yapic import json`` gets this module.

``loads`` reads what yapic.json reads: ``parse_float`` gets every digit of a number with a fraction or an
exponent, and strings that are dates or times of ISO 8601 become such objects, as cryptofeed's feeds expect.
It differs on purpose: whatever is wrong with a text raises JsonError, also the deepest nesting, which would
end the process of yapic.json; NaN, Infinity and unescaped control characters are not JSON; integers of more
than 64 bits stay integers; the keys of objects stay strings.
"""

import re
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any

import msgspec

from collector.bounded_json import JsonError, decode

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_HOUR_MINUTE = r"(?:[01][0-9]|2[0-3]):{}[0-5][0-9]"
_TIME = rf"{_HOUR_MINUTE.format('')}:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[+-]{_HOUR_MINUTE.format('?')})?"
_ISO_8601: tuple[tuple[re.Pattern[str], type[date | time]], ...] = (
    (re.compile(f"{_DATE}[ Tt]{_TIME}"), datetime),
    (re.compile(_DATE), date),
    (re.compile(_TIME), time),
)
#: How each of them begins. One expression, as a search for several takes twice as long.
_BEGINNING = r"[0-9]{2}(?:[0-9]{2}-[0-9]{2}-|:[0-9]{2}:)[0-9]{2}"
_begins = re.compile(_BEGINNING).match
_find_in_text = re.compile(f'"{_BEGINNING}').search
_find_in_bytes = re.compile(f'"{_BEGINNING}'.encode()).search


def loads(text: str | bytes | bytearray, *, parse_float: Callable[[str], Any] | None = None) -> Any:
    """Return the value of a JSON text. ``parse_float`` gets the digits of each float. Raises JsonError."""
    value = decode(text, parse_float)
    find = _find_in_text if isinstance(text, str) else _find_in_bytes
    if not find(text):  # type: ignore[arg-type]
        return value
    try:
        return _with_times(value)
    except RecursionError as error:
        raise JsonError("JSON that is nested too deeply") from error


def dumps(value: Any) -> str:
    """Return ``value`` as JSON without spaces, whole floats without a fraction. Raises JsonError."""
    try:
        return msgspec.json.encode(_with_whole_numbers(value)).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise JsonError(str(error)) from error


def _with_times(value: Any) -> Any:
    """Replace the strings in ``value`` that are dates or times."""
    if isinstance(value, str):
        return _as_time(value) if _begins(value) else value
    if isinstance(value, list):
        value[:] = map(_with_times, value)
    elif isinstance(value, dict):
        for key, item in value.items():
            value[key] = _with_times(item)
    return value


def _with_whole_numbers(value: Any) -> Any:
    """Replace 1.0 by 1, as yapic.json writes it, also in the keys of objects."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        return [_with_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {_with_whole_numbers(key): _with_whole_numbers(item) for key, item in value.items()}
    return value


def _as_time(text: str) -> date | time | str:
    for pattern, kind in _ISO_8601:
        if pattern.fullmatch(text):
            try:
                return kind.fromisoformat(text.upper())
            except ValueError:  # there is no such day
                return text
    return text
