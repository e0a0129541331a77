"""The market: repeatable, consistent, exact."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.simulator.binance import Binance
from collector.simulator.coinbase import Coinbase
from collector.simulator.instruments import QUOTES, default_symbols
from collector.simulator.kraken import Kraken
from collector.simulator.market import Market

KINDS = {"COINBASE": Coinbase, "KRAKEN": Kraken, "BINANCE": Binance}
SECOND = 1_000_000_000

instruments = st.sampled_from(
    [kind.instrument(symbol) for name, kind in KINDS.items() for symbol in default_symbols(name)]
    + [Kraken.instrument("UNHEARDOF-EUR")]
)


def apply(book, levels):
    for price, size in levels:
        if Decimal(size) == 0:
            del book[Decimal(price)]  # a level is only ever removed when it is there
        else:
            book[Decimal(price)] = Decimal(size)


@given(instruments, st.integers(), st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_books_never_cross_and_deltas_apply(instrument, seed, count):
    market = Market(instrument, str(seed), 0)
    bids = {Decimal(price): Decimal(size) for price, size in market.bids(10_000)}
    asks = {Decimal(price): Decimal(size) for price, size in market.asks(10_000)}
    update = market.last_update
    for number in range(count):
        step = market.step(number * SECOND)
        apply(bids, step.bids)
        apply(asks, step.asks)
        assert step.bids or step.asks
        assert min(bids) > 0
        assert max(bids) < min(asks)
        assert (max(bids), bids[max(bids)]) == tuple(map(Decimal, step.best_bid))
        assert (min(asks), asks[min(asks)]) == tuple(map(Decimal, step.best_ask))
        assert step.first_update == update + 1 <= step.last_update
        update = step.last_update
    assert bids == {Decimal(price): Decimal(size) for price, size in market.bids(10_000)}
    assert asks == {Decimal(price): Decimal(size) for price, size in market.asks(10_000)}


@given(instruments, st.integers())
@settings(max_examples=10, deadline=None)
def test_the_same_seed_gives_the_same_market_whatever_the_clock_says(instrument, seed):
    def content(clock):
        market = Market(instrument, str(seed), clock)
        steps = [market.step(clock + number * clock) for number in range(50)]
        trades = [[trade._replace(time=0) for trade in step.trades] for step in steps]
        return trades, [(step.bids, step.asks, step.last_update) for step in steps]

    assert content(0) == content(7 * SECOND)


def test_other_seeds_and_symbols_give_other_markets():
    def trades(symbol, seed):
        market = Market(Coinbase.instrument(symbol), seed, 0)
        return [trade.amount for _ in range(20) for trade in market.step(0).trades]

    assert trades("BTC-USD", "1") != trades("BTC-USD", "2")
    assert trades("BTC-USD", "1") != trades("ETH-USD", "1")


def test_prices_stay_near_where_they_began():
    for symbol in ("BTC-USD", "SHIB-USD"):
        market = Market(Kraken.instrument(symbol), "1", 0)
        start = Decimal(market.bids(1)[0][0])
        for number in range(3_000):
            step = market.step(number)
        assert start / 2 < Decimal(step.best_bid[0]) < start * 2


def test_each_exchange_has_its_own_digits():
    def prices(kind, symbol):
        market = Market(kind.instrument(symbol), "1", 0)
        return [price for price, _ in market.bids(100)], [size for _, size in market.bids(100)]

    def digits(texts):
        return {len(text.partition(".")[2]) for text in texts}

    coinbase, sizes = prices(Coinbase, "BTC-USD")
    assert digits(coinbase) == {0, 1, 2} | digits(coinbase)
    assert not any(text.endswith("0") for text in coinbase + sizes if "." in text)
    kraken, sizes = prices(Kraken, "BTC-USD")
    assert digits(kraken) == {5}
    assert digits(sizes) == {8}
    assert all(text.endswith("0000") for text in kraken)
    binance, sizes = prices(Binance, f"SHIB-{QUOTES['BINANCE']}")
    assert digits(binance) == digits(sizes) == {8}
    assert all(text.startswith("0.0000") for text in binance)


def test_trades_may_be_identical_and_several():
    market = Market(Kraken.instrument("BTC-USD"), "1", 0)
    steps = [market.step(number) for number in range(200)]
    assert any(
        one._replace(id=0) == other._replace(id=0)
        for step in steps
        for one, other in zip(step.trades, step.trades[1:], strict=False)
    )
    ids = [trade.id for step in steps for trade in step.trades]
    assert ids == sorted(set(ids))


def test_candles_add_up():
    market = Market(Kraken.instrument("BTC-USD"), "1", 0)
    first = market.candle(60)
    trades, candles = [], []
    for number in range(200):
        step = market.step(number * SECOND)
        trades += step.trades
        candles += step.candles[60]
    closed = [candle for candle in candles if candle.closed]
    assert [candle.start for candle in closed] == [0, 60, 120]
    second = [trade for trade in trades if 60 <= trade.time // SECOND < 120]
    prices = [Decimal(trade.price) for trade in second]
    assert first.trades == 1
    assert closed[1].trades == len(second)
    assert Decimal(closed[1].volume) == sum(Decimal(trade.amount) for trade in second)
    assert (Decimal(closed[1].high), Decimal(closed[1].low)) == (max(prices), min(prices))
    assert (closed[1].open, closed[1].close) == (second[0].price, second[-1].price)


def test_a_market_that_runs_for_long_stays_where_it_is():
    instrument = Coinbase.instrument("XRP-USD")
    market = Market(instrument, "long", 0)
    for number in range(5_000):
        market.step(number * SECOND)
    start, tick = Decimal(instrument.price(instrument.start)), Decimal(instrument.tick)
    for side in (market.bids(10_000), market.asks(10_000)):
        assert abs(Decimal(side[0][0]) - start) < 150 * tick
        assert abs(Decimal(side[-1][0]) - start) < 500 * tick
