import pytest

from collector import catalog


def test_the_table_is_what_cryptofeed_offers():
    """`python -m collector.catalog` writes it anew."""
    assert catalog.exchanges() == catalog.from_cryptofeed()


@pytest.mark.parametrize("text", ["l2_book", "L2_BOOK", "l2book", "L2Book"])
def test_spellings_of_a_channel(text):
    assert catalog.canonical_channel(text) == "l2_book"


@pytest.mark.parametrize(
    ("text", "possible", "near"),
    [
        ("COINBSE", ["BINANCE", "COINBASE"], ["COINBASE"]),
        ("l2-book", ["l2_book", "l3_book", "trades"], ["l2_book"]),
        ("zzz", ["trades"], []),
    ],
)
def test_nearest(text, possible, near):
    assert catalog.nearest(text, possible) == near
