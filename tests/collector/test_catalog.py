import pytest

from collector import catalog
from collector.exchanges import directory
from collector.exchanges.okx.exchange import Okx


def test_the_table_is_what_cryptofeed_offers():
    """`python -m collector.catalog` writes it anew."""
    assert catalog.exchanges() == catalog.from_cryptofeed()


def test_an_exchange_that_cryptofeed_does_not_know_is_in_the_table(monkeypatch):
    class Another(Okx):
        id = "ANOTHER"

    monkeypatch.setattr(directory, "EXCHANGES", {**directory.EXCHANGES, Another.id: Another})
    table = catalog.from_cryptofeed()
    assert table.pop("ANOTHER") == table["OKX"]
    assert table == catalog.exchanges()


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
