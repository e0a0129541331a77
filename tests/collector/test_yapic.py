"""The JSON parser that stands in for yapic.json: what cryptofeed gets from it, and that it gets no other."""

import json
import os
import re
import subprocess
import sys
import threading
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import compiled_yapic
import pytest
from cryptofeed import connection
from hypothesis import given
from hypothesis import strategies as st
from servers import Missing

from collector import bounded_json
from collector.bounded_json import JsonError
from collector.yapic import json as ours
from collector.yapic.json import dumps, loads

ROOT = Path(__file__).parents[2]
RECORDED = ROOT.parent / "shared" / "messages"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1000000000000000000000000000000001", Decimal("0.1000000000000000000000000000000001")),
        ("1e-8", Decimal("1e-8")),
        ("-0.0", Decimal("-0.0")),
        ("1700000000000", 1700000000000),
        ("100033171587546708532819", 100033171587546708532819),
        ('{"a": [true, null, "b"]}', {"a": [True, None, "b"]}),
        ('["2026-11-28T12:34:56.123456789Z"]', [datetime(2026, 11, 28, 12, 34, 56, 123456, UTC)]),
        ('"2026-11-28 12:34:56"', datetime(2026, 11, 28, 12, 34, 56)),  # noqa: DTZ001 - as yapic.json has it
        (
            '{"at": "2026-11-28T12:34:56+05:30"}',
            {"at": datetime(2026, 11, 28, 12, 34, 56, 0, timezone(timedelta(hours=5.5)))},
        ),
        ('"2026-11-28"', date(2026, 11, 28)),
        ('"12:34:56z"', "12:34:56z"),
        ('"2026-02-30"', "2026-02-30"),
        ('"2026-11-28T12:34"', "2026-11-28T12:34"),
        ('"12:34:56."', "12:34:56."),
        ('{"2026-11-28": "2026"}', {"2026-11-28": "2026"}),
    ],
)
def test_numbers_keep_every_digit_and_times_are_times(text, value):
    for form in (text, text.encode(), bytearray(text.encode())):
        read = loads(form, parse_float=Decimal)
        assert repr(read) == repr(value)


def test_without_parse_float_a_float_is_a_float():
    assert repr(loads("[1.5, 1]")) == "[1.5, 1]"


MALFORMED = {
    "deep": "[" * 300_000,
    "deep and closed": "[" * 300_000 + "]" * 300_000,
    "deep objects": '{"a":' * 300_000,
    "deep with times": '["2026-11-28",' * 300_000,
    "large": '"' + "a" * bounded_json.LARGEST + '"',
    "many values": "[" + "[]," * bounded_json.MOST_VALUES + "[]]",
    "many values in bytes": b"[" + b"1.5," * bounded_json.MOST_VALUES + b"1]",
    "digits": "1" * 100_000,
    "exponent": "1e99999999999999999999",
    "NaN": '{"price": NaN}',
    "Infinity": "-Infinity",
    "surrogate": '"\udcff"',
    "no UTF-8": b'"\xff"',
    "empty": "",
    "cut": '{"a": [1, 2',
    "two": "1 2",
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
def test_unreadable_json_is_malformed_even_in_a_thread_with_its_smaller_stack(text):
    with pytest.raises(JsonError):
        loads(text, parse_float=Decimal)
    errors = []
    thread = threading.Thread(target=lambda: errors.append(_error(text)))
    thread.start()
    thread.join()
    assert isinstance(errors[0], JsonError)


def _error(text):
    try:
        loads(text, parse_float=Decimal)
    except Exception as error:  # noqa: BLE001 - which one is what is tested
        return error


def test_requests_are_written_compactly():
    request = {"op": "subscribe", "args": [{"channel": "trades", "depth": 10}, ("a", None, True, 1.5)]}
    assert dumps(request) == '{"op":"subscribe","args":[{"channel":"trades","depth":10},["a",null,true,1.5]]}'
    assert dumps({101.0: 2.0, 100.5: -0.25}) == '{"101":2,"100.5":-0.25}'
    with pytest.raises(JsonError):
        dumps({"a": object()})


ENTRIES = {
    "collector": "import collector.cli, collector.supervisor",
    "launcher": "import launcher.cli; from collector import listing",
    "catalog": "from collector import catalog; catalog.from_cryptofeed()",
    "make bench": "import figures",
}


@pytest.mark.programs
@pytest.mark.parametrize("code", ENTRIES.values(), ids=ENTRIES)
def test_cryptofeed_gets_this_parser_in_every_program(code):
    script = (
        f"import sys; {code}; import cryptofeed.connection, cryptofeed.exchanges.bitmex as one; "
        "print(cryptofeed.connection.json_parser.__name__, one.json.__name__)"
    )
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "benchmarks")))
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "collector.yapic.json collector.yapic.json\n", done.stderr


def test_cryptofeed_gets_this_parser_in_the_tests():
    assert connection.json_parser is ours


@pytest.fixture
def theirs():
    if not compiled_yapic.is_installed() and os.environ.get("CRYPTOSTORE_REQUIRE") != "all":
        raise Missing("yapic.json", "is not installed", "apt-get install g++ && make bench")
    return compiled_yapic.imported()


def _recorded():
    for path in sorted(RECORDED.glob("*/*.json*")):
        text = path.read_text()
        yield from text.splitlines() if path.suffix == ".jsonl" else [text]


def _read(parser, text):
    """What ``parser`` reads, in a form that tells 1 from 1.0 and Decimal("1.0"); None if it cannot."""
    try:
        return repr(_comparable(parser.loads(text, parse_float=Decimal)))
    except ValueError:
        return None


def _comparable(value):
    """With texts for times without a date, and integers where yapic.json makes Decimals of large ones."""
    match value:
        case list():
            return list(map(_comparable, value))
        case dict():
            return {key: _comparable(item) for key, item in value.items()}
        case time():
            return value.isoformat()
        case Decimal() if re.fullmatch("-?[0-9]{19,}", str(value)):
            return int(value)
    return value


@pytest.mark.slow
def test_recorded_messages_are_read_as_yapic_json_reads_them(theirs):
    messages = list(_recorded())
    if not messages:
        raise Missing("recorded messages", f"{RECORDED} has none", "git clone")
    different = [text for text in messages if _read(theirs, text) != _read(ours, text)]
    assert different == []


_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{0,9})?([Zz]|[+-][0-2][0-9]:?[0-5][0-9])?"
TIMES = st.datetimes().map(str) | st.from_regex(f"{_DATE}([ Tt]{_TIME})?", fullmatch=True)
# Characters beyond U+FFFF are where yapic.json has errors of its own.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0xFFFF)) | TIMES
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text("ab\n\u00e9"), inner))
NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@pytest.mark.slow
def test_any_value_is_written_as_yapic_json_writes_it(theirs):
    @given(
        st.recursive(
            SCALARS | st.floats(-1e15, 1e15),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.text("ab") | st.floats(-1e5, 1e5) | st.integers(0, 99), inner)
            ),
        )
    )
    def same(value):
        written = dumps(value)
        assert json.loads(written) == json.loads(theirs.dumps(value))
        assert not re.search(r"[0-9]\.0\b", re.sub(r'"[^"]*"', "", written))

    same()


@pytest.mark.slow
def test_any_json_is_read_as_yapic_json_reads_it(theirs):
    @given(VALUES.map(json.dumps) | VALUES.map(dumps) | NUMBERS)
    def same(text):
        assert _read(ours, text) == _read(theirs, text) is not None

    same()
