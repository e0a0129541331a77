"""JSON from an exchange, read within bounds: no text can crash the process or exhaust its memory.

msgspec itself bounds the depth: beyond the interpreter's recursion limit it raises RecursionError. It does
not bound how much memory a text takes once it is read; `[[],[],...]` takes 24 times its own size.
"""

from collections.abc import Callable
from decimal import DecimalException
from functools import cache
from typing import Any

import msgspec

#: The largest text that is read, in characters or bytes; the same as for a websocket message.
LARGEST = 64 * 2**20
#: The most values in one text. Each takes at most about 120 bytes, besides its characters. A listing of
#: 5,000 instruments has about a million.
MOST_VALUES = 4_000_000
_FEW = 2**20  # shorter texts need no counting


class JsonError(ValueError):
    """A text that cannot be read, or an object that cannot be written."""


def decode(text: str | bytes | bytearray, float_hook: Callable[[str], Any] | None = None) -> Any:
    """Return the value of a JSON text; ``float_hook`` gets the digits of each float. Raises JsonError."""
    if len(text) > _FEW:
        _check_size(text)
    try:
        return _decoder(float_hook).decode(text)
    except RecursionError as error:
        raise JsonError("JSON that is nested too deeply") from error
    except DecimalException as error:
        raise JsonError("JSON with a number that is too large") from error
    except ValueError as error:
        raise JsonError(str(error)) from error


def _check_size(text: str | bytes | bytearray) -> None:
    if len(text) > LARGEST:
        raise JsonError(f"JSON of {len(text):,} characters; at most {LARGEST:,} are read")
    signs: tuple[Any, ...] = (",", "[", "{") if isinstance(text, str) else (b",", b"[", b"{")
    values = sum(map(text.count, signs))
    if values > MOST_VALUES:
        raise JsonError(f"JSON with about {values:,} values; at most {MOST_VALUES:,} are read")


@cache
def _decoder(float_hook: Callable[[str], Any] | None) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(float_hook=float_hook)
