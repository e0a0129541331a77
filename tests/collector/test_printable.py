"""Nothing that comes from outside moves the cursor, rings, breaks a line or fills the log."""

import json

from hypothesis import given
from hypothesis import strategies as st

from collector import printable
from collector.feeds.malformed import describe
from collector.printable import LONGEST_ERROR, printable_json, shortened
from collector.settings import Fault as EnvironmentFault
from collector.settings import Settings
from launcher.yaml_source import Fault

HOSTILE = "a\x1b[2J\x07\x9b1m\u2028\u2029\r\n\x7f\u202e\udc80z"
SHOWN = r"a\x1b[2J\x07\x9b1m\u2028\u2029\r\n\x7f\u202e\udc80z"
texts = st.text(st.one_of(st.characters(), st.sampled_from(HOSTILE)))
values = st.recursive(texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8)


def test_unprintable_characters_are_escaped():
    assert printable.printable(HOSTILE) == SHOWN
    assert printable.printable("zwei\nZeilen ü 日本\t", keep="\n") == "zwei\nZeilen ü 日本\\t"


@given(texts)
def test_all_output_is_printable_and_printable_text_is_unchanged(text):
    assert printable.printable(text).isprintable()
    if text.isprintable():
        assert printable.printable(text) is text


@given(values)
def test_json_means_the_same(value):
    shown = printable_json(json.dumps(value, ensure_ascii=False))
    assert shown.isprintable()
    assert json.loads(shown) == value


@given(st.integers(1, 400), st.integers(4, 100))
def test_a_long_text_is_cut_and_its_length_said(size, most):
    text = "".join(chr(ord("a") + place % 26) for place in range(size))
    cut = shortened(text, most)
    assert cut == text if size <= most else f"[... {size} characters in all ...]" in cut
    assert len(cut) <= max(size, most + 60)
    assert cut[0] == text[0]
    assert cut[-1] == text[-1]


def test_a_fault_is_one_line_whatever_the_file_or_the_environment_holds():
    assert str(Fault("fleet\n.yaml", 1, 2, f"no key {HOSTILE}")) == f"fleet\\n.yaml:1:2: no key {SHOWN}"
    assert str(EnvironmentFault("SYMBOLS", HOSTILE, HOSTILE)).isprintable()


def test_an_error_of_a_library_is_short_and_one_line():
    what = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "REDIS"}
    settings = Settings.read(what | {"PASSWORD": "correct-horse-1"})
    error = f"NOPERM {HOSTILE} correct-horse-1 {'x' * 2**20}"
    for shown in (settings.masked(error), describe(ValueError(error))):
        assert shown.isprintable()
        assert "characters in all ...]" in shown
        assert len(shown) < LONGEST_ERROR + 100
    assert "horse" not in settings.masked(error)
