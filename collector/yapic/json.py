"""The part of yapic.json that cryptofeed uses, made with msgspec, so that installing needs no C++ compiler.

yapic.json is published as source code only, and uv.lock leaves it out. ``collector/__init__.py`` puts this
package in its place before anything can import cryptofeed, whose ``from yapic import json`` gets this module.

``loads`` reads what yapic.json reads: ``parse_float`` gets every digit of a number with a fraction or an
exponent, and strings that are dates of ISO 8601, with a time or without, become such objects, as cryptofeed's
feeds expect. It differs on purpose: whatever is wrong with a text raises JsonError, also the deepest nesting,
which would end the process of yapic.json; NaN, Infinity and unescaped control characters are not JSON;
integers of more than 64 bits stay integers; times without a date, and the keys of objects, stay strings.
"""

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import msgspec

from collector.bounded_json import JsonError, decode

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
_ZONE = r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])"
_is_date = re.compile(_DATE).fullmatch
_is_datetime = re.compile(f"{_DATE}[ Tt]{_CLOCK}{_ZONE}?").fullmatch
_begins_as_date = re.compile(_DATE).match
_find_in_text = re.compile(f'"{_DATE}').search
_find_in_bytes = re.compile(f'"{_DATE}'.encode()).search


def loads(text: str | bytes | bytearray, *, parse_float: Callable[[str], Any] | None = None) -> Any:
    """Return the value of a JSON text. ``parse_float`` gets the digits of each float. Raises JsonError."""
    value = decode(text, parse_float)
    # Whether there is a date is asked twice, as the first is quick.
    if isinstance(text, str):
        if "-" not in text or not _find_in_text(text):
            return value
    elif not _find_in_bytes(text):
        return value
    whole = [value]
    try:
        _replace_dates(whole)
    except RecursionError as error:
        raise JsonError("JSON that is nested too deeply") from error
    return whole[0]


def dumps(value: Any) -> str:
    """Return ``value`` as JSON without spaces, whole floats without a fraction. Raises JsonError."""
    try:
        return msgspec.json.encode(_with_whole_numbers(value)).decode()
    except (TypeError, ValueError, RecursionError) as error:
        raise JsonError(str(error)) from error


def _replace_dates(container: Any) -> None:
    """Replace the strings that are dates, with a time or without, in a list or dict and all that is in it."""
    for key, item in container.items() if isinstance(container, dict) else enumerate(container):
        kind = type(item)
        if kind is str:
            if _begins_as_date(item):
                container[key] = _as_date(item)
        elif kind is dict or kind is list:
            _replace_dates(item)


def _with_whole_numbers(value: Any) -> Any:
    """Replace 1.0 by 1, as yapic.json writes it, also in the keys of objects."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        return [_with_whole_numbers(item) for item in value]
    if isinstance(value, dict):
        return {_with_whole_numbers(key): _with_whole_numbers(item) for key, item in value.items()}
    return value


def _as_date(text: str) -> date | str:
    try:
        if _is_datetime(text):
            return datetime.fromisoformat(text.upper())
        return date.fromisoformat(text) if _is_date(text) else text
    except ValueError:  # there is no such day
        return text
