"""Random changes of bytes and of JSON, drawn from a seed: the same seed gives the same change."""

import json
from random import Random

import msgspec

#: Values that JSON may have where another one is expected.
VALUES = [
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**53 + 1, 2**63, -(2**63), 10**25, 10**400, 0.1, -0.0, 1e300),
    *("", " ", "0", "-1", "1", "00", "1.", ".5", "1e5", "1E-40", "1e41", "1e999999999", "NaN", "Infinity"),
    *("-0.0", "9" * 40, "9" * 41, "0." + "0" * 60 + "1", "1,5", "1_000", "٣", "²", "0x10", "null", "true"),
    *("1753027200000", "9999999999999", "99999999999999999999", "-1753027200000", "2026-07-19T17:54:39Z"),
    *(
        "2026-07-19T17:54:39.768901234Z",
        "2026-02-30T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00Z",
    ),
    *("BTC-USDT", "BTC/USD", "buy", "sell", "snapshot", "update", "subscribe", "error", "x" * 257, "a\nb"),
    "a\x00b",
    *("\x1b[2J", "\u2028", "\u202e", "😀", "'; DROP TABLE trades; --", "{}", "[]", '"', "\\", "${X}"),
    "$where",
    *([], {}, [[]], [{}], {"": None}, [1, 2, 3], ["1", "2"], [["1", "2"]], [["1", "2", "3"]], ["NaN", "1"]),
]
#: Bytes that JSON text may have where others are expected.
PIECES = [
    *(b"", b"null", b"{}", b"[]", b"[" * 2000, b'{"a":' * 2000, b"9" * 400, b"1e999999999", b"-", b"NaN"),
    *(b'"', b"\\", b'"\\ud800"', b"\xff\xfe", b"\x00", b"\n", b"pong", b"ping", b"\xe2\x80\xa8", b" " * 5000),
    *(b'"x":1,' * 500, b"x" * 70_000, b"<html>503 Service Temporarily Unavailable</html>"),
]
_DEEPEST = 12


def of_bytes(text: bytes, draw: Random, pieces: list[bytes] = PIECES) -> bytes:
    """Return ``text`` with a part of it left out, doubled or replaced, one to three times."""
    changed = bytearray(text)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at, other = draw.randint(0, len(changed)), draw.randint(0, len(changed))
        match draw.randrange(5):
            case 0:
                del changed[at : at + draw.randint(1, 20)]
            case 1:
                changed[at:at] = draw.choice(pieces)
            case 2:
                changed[at:at] = changed[other : other + draw.randint(1, 80)]
            case 3:
                changed[at : at + 1] = bytes([draw.randrange(256)])
            case 4:
                del changed[at:]
    return bytes(changed)


def of_json(text: bytes, draw: Random) -> bytes:
    """Return a JSON text with some of its values or keys changed, or its bytes where it is none."""
    if draw.random() < 0.2:
        return of_bytes(text, draw)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return of_bytes(text, draw)
    value = of_value(value, draw)
    return json.dumps(value, ensure_ascii=draw.random() < 0.5, separators=(",", ":")).encode(
        errors="surrogatepass"
    )


def of_value(value: object, draw: Random) -> object:
    """Return a value as JSON has them with one to three changes at places of chance."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        value = _changed(value, draw)
    return value


def _changed(value: object, draw: Random, depth: int = 0) -> object:
    """Return ``value`` with one change at a place of chance in it; what is there already is not touched."""
    if not isinstance(value, dict | list) or not value or depth == _DEEPEST or draw.random() < 0.15:
        return _other(value, draw)
    if isinstance(value, list):
        place = draw.randrange(len(value))
        return [*value[:place], *_members(value, place, draw, depth), *value[place + 1 :]]
    key = draw.choice(list(value))
    match draw.randrange(8):
        case 0:
            return {each: value[each] for each in value if each != key}
        case 1:
            return value | {draw.choice(list(value)): value[key]}
        case 2:
            return {
                draw.choice(("", "x", key.upper(), key * 2)) if each == key else each: value[each]
                for each in value
            }
    return value | {key: _changed(value[key], draw, depth + 1)}


def _members(value: list, place: int, draw: Random, depth: int) -> list:
    """Return what takes the place of one member of a list."""
    match draw.randrange(8):
        case 0:
            return []
        case 1:
            return [value[place]] * draw.choice((2, 3, 50))
    return [_changed(value[place], draw, depth + 1)]


def _other(value: object, draw: Random) -> object:
    if isinstance(value, str) and draw.random() < 0.3:
        return value + draw.choice(("0", " ", "x", "\n", "é", "e9", "\x1b"))
    if isinstance(value, int) and not isinstance(value, bool) and draw.random() < 0.4:
        return value + draw.choice((-(10**9), -1, 1, 10**3, 10**9, 10**16))
    return draw.choice(VALUES)
