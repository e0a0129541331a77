"""Numbers keep every digit that was sent, and nothing else is a number."""

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.exchanges.numbers import (
    Count,
    MalformedError,
    Whole,
    amount,
    candle,
    levels,
    number,
    numbers,
    quote,
    raw_number,
    scaled_number,
    sides,
    traded,
)

PLAIN = st.from_regex(r"(0|[1-9][0-9]{0,19})(\.[0-9]{1,20})?", fullmatch=True)


@given(PLAIN)
def test_a_plain_decimal_stays_as_it_was_sent(text):
    assert number(text) == text


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("1E-8", "0.00000001"),
        ("1.50e+3", "1500"),
        ("-0", "0"),
        ("-0.00", "0.00"),
        ("-0.000125", "-0.000125"),
        ("007", "7"),
        ("0.1" + "0" * 38, "0.1" + "0" * 38),
        ("1e-40", "0." + "0" * 39 + "1"),
    ],
)
def test_an_unusual_number_is_written_plainly(sent, stored):
    assert number(sent) == stored


@pytest.mark.parametrize(
    "text",
    [
        *("NaN", "Infinity", "-Infinity", "1e400", "+1", '1"', "", " 1", "1 ", "1_000", "0x1", "1.", ".5"),
        *("1,5", "--1", "1e", "1e41", "1e-41", "9" * 41, "0." + "0" * 40, "٣", "1\n", "null"),
    ],
)
def test_a_number_out_of_bounds_is_malformed(text):
    with pytest.raises(MalformedError, match=r"not a number|out of bounds"):
        number(text)


@given(st.text(max_size=100))
def test_any_text_is_a_number_of_the_same_value_or_malformed(text):
    try:
        plain = number(text)
    except MalformedError:
        return
    assert Decimal(plain) == Decimal(text)
    assert not set(plain) - set("-0123456789.")


@given(st.lists(st.tuples(PLAIN, PLAIN), max_size=8))
def test_levels_are_checked_all_at_once(side):
    assert levels(side) is side


@given(st.lists(st.tuples(PLAIN, PLAIN), max_size=3))
def test_one_bad_level_is_found_among_many(side):
    bad = "NaN", "1,5", "", "1,", "5,6"
    for spoilt in (*((each, "1") for each in bad), *(("1", each) for each in bad)):
        with pytest.raises(MalformedError):
            levels([*side, spoilt])
        with pytest.raises(MalformedError):
            sides(side, [*side, spoilt])


@given(st.lists(st.tuples(PLAIN, PLAIN), max_size=8), st.lists(st.tuples(PLAIN, PLAIN), max_size=8))
def test_both_sides_are_checked_at_once(bids, asks):
    assert sides(bids, asks) == (bids, asks)


def test_unusual_levels_are_written_plainly():
    assert levels([("1E-8", "2"), ("3", "-0")]) == [("0.00000001", "2"), ("3", "0")]
    assert sides([("1", "2")], [("1E-8", "2")]) == ([("1", "2")], [("0.00000001", "2")])


def test_several_numbers_are_checked_at_once():
    assert numbers("1", "2.50") == ("1", "2.50")
    assert numbers("1", "1E-2") == ("1", "0.01")
    with pytest.raises(MalformedError):
        numbers("1", "2,3")


@pytest.mark.parametrize("text", ["-1", "-0.000", "-1e-5", "-0", "0", "0.00", "0e5", "000"])
def test_no_amount_is_negative_and_no_trade_is_of_nothing(text):
    if Decimal(text):
        with pytest.raises(MalformedError, match="below zero"):
            amount(text)
    else:
        assert amount(text).strip("0.") == ""
    with pytest.raises(MalformedError, match=r"below zero|is zero"):
        traded(text)


@given(PLAIN)
def test_a_traded_amount_stays_as_it_was_sent(text):
    if Decimal(text):
        assert traded(text) == text == amount(text)


def test_a_price_may_be_negative_and_a_size_may_not():
    assert quote("-37.63", "1", "1e1", "0") == ("-37.63", "1", "10", "0")
    assert candle("-1", "2", "3", "-4", "5") == ("-1", "2", "3", "-4", "5")
    for broken in (("1", "-2", "3", "4"), ("1", "2", "3", "NaN"), ("1", "2,3", "", "4")):
        with pytest.raises(MalformedError):
            quote(*broken)
    with pytest.raises(MalformedError, match="below zero"):
        candle("1", "2", "3", "4", "-5")


@pytest.mark.parametrize(
    ("json", "stored"),
    [(b"0.00001000", "0.00001000"), (b'"12.50"', "12.50"), (b"1e-5", "0.00001"), (b"-3", "-3")],
)
def test_a_json_number_keeps_its_digits(json, stored):
    assert raw_number(msgspec.json.decode(json, type=msgspec.Raw)) == stored


@given(st.integers(-(10**18), 10**18), st.integers(0, 18))
def test_a_scaled_number_gets_its_decimal_point(value, digits):
    assert Decimal(scaled_number(value, digits)) == Decimal(value).scaleb(-digits)


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400])
def test_an_integer_beyond_64_bits_is_malformed(number):
    assert msgspec.json.decode(str(2**63 - 1), type=Whole) == 2**63 - 1
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(str(number), type=Whole)
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode("-1", type=Count)
