import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.symbol_patterns import TYPES, Selection, is_plain, selected, type_by_form

LISTED = {
    "BTC-USDT": "spot",
    "ETH-USDT": "spot",
    "ETH-BTC": "spot",
    "BTC-USDT-PERP": "perpetual",
    "ETH-USD-PERP": "perpetual",
    "BTC-USDT-26M27": "futures",
    "BTC-USD-60000-26M27-call": "option",
}

names = st.text("ABC", min_size=1, max_size=3)
symbols = st.builds("-".join, st.lists(names, min_size=1, max_size=3))
listings = st.dictionaries(symbols, st.sampled_from(TYPES), max_size=12)
positive = st.one_of(
    symbols,
    st.just("ALL"),
    st.sampled_from(TYPES).map("type:{}".format),
    names.map("*-{}".format),
    names.map("{}-*".format),
)
excluding = positive.filter(lambda item: item != "ALL").map("!{}".format)


@pytest.mark.parametrize(
    ("items", "found"),
    [
        ("BTC-USDT", ["BTC-USDT"]),
        ("ALL", sorted(LISTED)),
        ("all", sorted(LISTED)),
        ("*-USDT", ["BTC-USDT", "ETH-USDT"]),
        ("???-USDT,!BTC*", ["ETH-USDT"]),
        ("!BTC*,*-USDT", ["ETH-USDT"]),
        ("*,!*-PERP,!type:option", ["BTC-USDT", "BTC-USDT-26M27", "ETH-BTC", "ETH-USDT"]),
        ("type:perpetual", ["BTC-USDT-PERP", "ETH-USD-PERP"]),
        ("TYPE: Option", ["BTC-USD-60000-26M27-call"]),
        ("ETH-BTC,type:spot", ["ETH-BTC", "BTC-USDT", "ETH-USDT"]),
        ("*-usdt", []),
        ("DOGE-USDT", []),
        ("BTC-USDT,!BTC-USDT", []),
    ],
)
def test_what_is_selected(items, found):
    assert Selection.parse(items.split(",")).select(LISTED) == found


@pytest.mark.parametrize("items", ["!*-PERP", "!", "ALL,!ALL", "ALL,!!BTC", "type:", "type:spots", "!type:x"])
def test_a_meaningless_selection_is_refused(items):
    with pytest.raises(ValueError, match=r"excludes|is not a type"):
        Selection.parse(items.split(","))


@given(listings, st.lists(positive, min_size=1), st.lists(excluding), st.randoms())
def test_a_selection_is_its_patterns_without_its_exclusions(listed, included, excluded, random):
    selection = Selection.parse(included + excluded)
    found = selection.select(listed)
    assert len({*found}) == len(found)
    assert {*found} == {symbol for symbol, kind in listed.items() if selection.wants(symbol, kind)}
    assert {*found} == {symbol for item in included for symbol in selected(item, listed)} - {
        symbol for item in excluded for symbol in selected(item[1:], listed)
    }
    shuffled = list(listed.items())
    random.shuffle(shuffled)
    assert selection.select(dict(shuffled)) == found


@given(listings, st.lists(positive, min_size=1), st.lists(excluding), symbols, st.sampled_from(TYPES))
def test_a_new_symbol_moves_no_other(listed, included, excluded, symbol, kind):
    selection = Selection.parse(included + excluded)
    before = selection.select({name: of for name, of in listed.items() if name != symbol})
    after = selection.select(listed | {symbol: kind})
    assert [name for name in after if name != symbol] == before


@given(symbols)
def test_a_symbol_is_no_pattern(symbol):
    assert is_plain(symbol) or symbol == "ALL"


@pytest.mark.parametrize(("symbol", "kind"), [*LISTED.items(), ("BTC", "currency"), ("A-B-C-D", "")])
def test_the_type_of_a_symbol_follows_from_its_form(symbol, kind):
    assert type_by_form(symbol) == kind
