import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.shards import MOST, Shard, shard_of

counts = st.integers(1, MOST)
SYMBOLS = [f"{base}-{quote}" for base in range(1000) for quote in ("USD", "USDT", "USD-PERP")]


@settings(deadline=None, max_examples=20)
@given(st.text(), counts)
def test_every_symbol_has_one_shard(symbol, count):
    assert [Shard(number, count).takes(symbol) for number in range(1, count + 1)].count(True) == 1


@given(st.text(), st.integers(1, MOST - 1))
def test_one_more_shard_moves_symbols_to_itself_alone(symbol, count):
    assert shard_of(symbol, count + 1) in (shard_of(symbol, count), count + 1)


def test_shards_have_equal_shares_and_a_ninth_takes_a_ninth():
    shares = [sum(Shard(number, 8).takes(symbol) for symbol in SYMBOLS) for number in range(1, 9)]
    assert all(0.8 < share / (len(SYMBOLS) / 8) < 1.2 for share in shares)
    moved = sum(shard_of(symbol, 8) != shard_of(symbol, 9) for symbol in SYMBOLS)
    assert 0.8 < moved / (len(SYMBOLS) / 9) < 1.2


def test_places_are_the_same_on_every_machine():
    """What changes here moves the symbols of everybody."""
    assert [shard_of(symbol, 8) for symbol in ("BTC-USD", "ETH-USD", "BTC-USDT-PERP")] == [2, 8, 5]


@pytest.mark.parametrize("text", ["0/8", "9/8", "1/0", "1/101", "3", "3/", "a/b", "-1/8", "1/8/9", ""])
def test_an_invalid_shard_is_refused(text):
    with pytest.raises(ValueError, match="takes a shard"):
        Shard.parse(text)


@given(counts, st.data())
def test_a_shard_as_text(count, data):
    shard = Shard(data.draw(st.integers(1, count)), count)
    assert Shard.parse(str(shard)) == shard
