"""Records to store: one of every kind, and as odd as hypothesis can make them."""

from decimal import Decimal

from hypothesis import strategies as st
from streams import written

from collector import bounds
from collector.records import (
    Candle,
    Funding,
    Gap,
    Index,
    L1Book,
    L2Book,
    L3Book,
    Liquidation,
    OpenInterest,
    Ticker,
    Trade,
)
from collector.times import MICROSECOND

D = Decimal
_PLACE = ("COINBASE", "BTC-USD", 1736899200.123456, 1736899200.234567)

#: Every channel, missing values and empty sides included.
_RECORDS = [
    Trade(*_PLACE, "buy", D("0.00000001"), D("97123.45"), "12345", "limit"),
    Trade(*_PLACE, "sell", D(3), D("0.1"), None, None),
    Ticker(*_PLACE, D("97123.40"), D("97123.50")),
    L1Book(*_PLACE, D("97123.40"), D("0.5"), D("97123.50"), D("1.25")),
    L2Book(*_PLACE, False, [(D("97123.40"), D("0.5")), (D("97123.3"), D(2))], [(D("97123.5"), D("1.25"))]),
    L2Book(*_PLACE, True, [], [(D("97123.5"), D(0))]),
    L2Book(*_PLACE, True, [], []),
    L3Book(*_PLACE, False, [("a", D("97123.40"), D("0.5"))], [("b", D("97123.5"), D("1.25"))]),
    Funding(*_PLACE, D("97123.4"), D("-0.0001"), 1736928000.0, D("0.00002")),
    Funding(*_PLACE, None, None, None, None),
    OpenInterest(*_PLACE, D("1234567.891")),
    Liquidation(*_PLACE, "sell", D("0.1"), D(97000), "9", "filled"),
    Liquidation(*_PLACE, "sell", D("0.1"), D(97000), None, None),
    Index(*_PLACE, D("97120.123456789")),
    Candle(*_PLACE, 1736899140.0, 1736899199.999, "1m", 42, D(1), D(2), D(3), D("0.5"), D("7.5"), True),
    Candle(*_PLACE, 1736899140.0, 1736899199.999, "1m", None, D(1), D(2), D(3), D("0.5"), D("7.5"), None),
    Gap(*_PLACE, "l2_book", 1736899200.123456, 1736899201.5, "disconnect", None),
    Gap(*_PLACE, "trades", 1736899200.0, 1736899201.5, "dropped", 42),
]

EVERY_KIND = list(map(written, _RECORDS))

#: Of any size and sign, and with more digits than a double has.
numbers = st.decimals(
    min_value=-(10**20) + 1, max_value=10**20 - 1, places=18, allow_nan=False, allow_infinity=False
).map(bounds.written)
#: Whole microseconds, as they come from a clock or an exchange.
times = st.integers(0, 4 * 10**15).map(lambda microseconds: microseconds * MICROSECOND)
#: Text that a database can be asked to hold.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_levels = st.lists(st.tuples(numbers, numbers), max_size=3)
_orders = st.lists(st.tuples(texts, numbers, numbers), max_size=3)
_place = (st.sampled_from(["COINBASE", "KRAKEN"]), texts.filter(bool), times, times)

records = st.one_of(
    st.builds(Trade, *_place, texts, numbers, numbers, st.none() | texts, st.none() | texts),
    st.builds(Ticker, *_place, numbers, numbers),
    st.builds(L1Book, *_place, numbers, numbers, numbers, numbers),
    st.builds(L2Book, *_place, st.booleans(), _levels, _levels),
    st.builds(L3Book, *_place, st.booleans(), _orders, _orders),
    st.builds(Funding, *_place, *(st.none() | strategy for strategy in (numbers, numbers, times, numbers))),
    st.builds(OpenInterest, *_place, numbers),
    st.builds(Liquidation, *_place, texts, numbers, numbers, st.none() | texts, st.none() | texts),
    st.builds(Index, *_place, numbers),
    st.builds(
        Candle,
        *_place,
        times,
        times,
        texts,
        st.none() | st.integers(0, 2**63 - 1),
        *[numbers] * 5,
        st.none() | st.booleans(),
    ),
    st.builds(Gap, *_place, texts, times, times, texts, st.none() | st.integers(0, 2**63 - 1)),
)
