"""Names of instruments are those that SYMBOLS can ask for."""

import pytest

from collector.exchanges.instruments import name
from collector.exchanges.numbers import MalformedError


@pytest.mark.parametrize("base", ["BTC", "1INCH", "AAPLx", "USD1.5", "币安人生", "$TRUMP"])
def test_a_currency_is_part_of_a_name_whatever_its_letters(base):
    assert name("spot", base, "USD") == f"{base}-USD"


@pytest.mark.parametrize(
    "base",
    [
        "",
        "A-B",
        "A B",
        "A,B",
        "A*",
        "A?",
        "[A]",
        "!A",
        "A/B",
        "..\\A",
        "A'B",
        'A"B',
        "A=B",
        "A%2F",
        "A\nB",
        "\x1b[2J",
        "A\u2028",
        "\ud800",
        "A" * 64,
    ],
)
def test_a_name_that_symbols_cannot_select_is_malformed(base):
    with pytest.raises(MalformedError):
        name("spot", base, "USD")
