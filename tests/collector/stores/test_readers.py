"""What anybody does first with Parquet files runs without a cast in pyarrow, pandas, polars and duckdb."""

import asyncio
from decimal import Decimal

import duckdb
import first_parquet
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from crashing_parquet import NAME, settings
from streams import written

from collector.batch import Batch, Position
from collector.records import L2Book, Ticker, Trade
from collector.stores.parquet import ParquetStore

D = Decimal
START = 1736899200.0  # 2025-01-15 00:00
OLD, SECONDS = 1200, 7200

TRADES = [
    written(
        Trade(
            *("COINBASE", "BTC-USD", START + second, START + second + 0.1, ("buy", "sell")[second % 2]),
            *(D("0.25") * (second % 4 + 1), D("97000.10") + second % 60, str(second), None),
        )
    )
    for second in range(SECONDS)
]
TICKERS = [
    written(
        Ticker(
            "COINBASE",
            "BTC-USD",
            START + second,
            START + second,
            D("96999.5") + second,
            D("97000.5") + second,
        )
    )
    for second in range(0, SECONDS, 60)
]
BOOKS = [
    written(
        L2Book(
            *("COINBASE", "BTC-USD", START + second, START + second, second > 0),
            *([(D(97000) - second, D("1.50"))], [(D(97001) + second, D(2))]),
        )
    )
    for second in range(20)
]
HUGE = Trade(
    "COINBASE",
    "BTC-USD",
    START + SECONDS - 1,
    START + SECONDS,
    "buy",
    "5000000000",
    "9000000000",
    "huge",
    None,
)

#: Volume and value of the first and of the second hour, as Decimals tell them.
VOLUME = [sum(D(trade.amount) for trade in TRADES[hour * 3600 :][:3600]) for hour in (0, 1)]
VALUE = [sum(D(trade.amount) * D(trade.price) for trade in TRADES[hour * 3600 :][:3600]) for hour in (0, 1)]
VWAP = [float(value / volume) for value, volume in zip(VALUE, VOLUME, strict=True)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A dataset whose first records were written by the first version."""
    root = tmp_path_factory.mktemp("data")
    first_parquet.write(root, NAME, TRADES[:OLD], 0)
    first_parquet.write(root, NAME, BOOKS[:10], 100_000)
    asyncio.run(_write(root, [*TRADES[OLD:], *TICKERS, *BOOKS[10:]], OLD))
    return root


async def _write(root, records, first):
    store = ParquetStore(settings(root, channels="trades,ticker,l2_book"))
    await store.open(NAME)
    assert not await store.commit(NAME, Batch("x", first, records), None, Position("o", "x", first + 10**6))
    await store.close()


def arrow(data, channel):
    """Both versions, with the columns of this one."""
    new = ds.dataset(data / "v2" / channel, partitioning="hive")
    old = ds.dataset(data / channel, partitioning="hive", schema=new.schema)
    return ds.dataset([old, new])


def pandas(data, channel):
    return arrow(data, channel).to_table().to_pandas()


def polars(data, channel):
    parts = [
        pl.scan_parquet(f"{root}/{channel}/**/*.parquet", hive_partitioning=True)
        for root in (data, data / "v2")
    ]
    return pl.concat(parts, how="diagonal_relaxed")


def duck(data, channel):
    both = [f"{root}/{channel}/**/*.parquet" for root in (data, data / "v2")]
    return f"read_parquet({both}, union_by_name = true, hive_partitioning = true)"


def sql(query):
    with duckdb.connect() as connection:
        return connection.execute("SET TimeZone = 'UTC'").execute(query).fetchall()


def test_pyarrow_multiplies_sums_and_joins(data):
    trades = arrow(data, "channel=trades").to_table()
    value = pc.multiply(trades["price"], trades["amount"])
    hours = pc.floor_temporal(trades["timestamp"], unit="hour")
    table = pa.table({"hour": hours, "value": value, "amount": trades["amount"]})
    sums = table.group_by("hour").aggregate([("value", "sum"), ("amount", "sum")]).sort_by("hour")
    assert pc.divide(sums["value_sum"], sums["amount_sum"]).to_pylist() == pytest.approx(VWAP)
    quotes = ds.dataset(data / "v2" / "channel=ticker", partitioning="hive").to_table()
    quotes = quotes.select(["symbol", "timestamp", "bid"]).sort_by("timestamp")
    minutes = 10 * 60 * 1_000_000
    joined = trades.sort_by("timestamp").join_asof(quotes, on="timestamp", by="symbol", tolerance=-minutes)
    assert joined["bid"].to_pylist() == [96999.5 + second // 60 * 60 for second in range(SECONDS)]


def test_pandas_resamples_and_joins(data):
    trades = pandas(data, "channel=trades").sort_values("timestamp")
    by_time = trades.set_index("timestamp")
    candles = by_time["price"].resample("1min").ohlc()
    assert len(candles) == SECONDS // 60
    assert candles.iloc[0].to_list() == [97000.1, 97059.1, 97000.1, 97059.1]
    value, volume = ((each.resample("1h").sum()) for each in (by_time.price * by_time.amount, by_time.amount))
    assert (value / volume).to_list() == pytest.approx(VWAP)
    quotes = ds.dataset(data / "v2" / "channel=ticker", partitioning="hive").to_table().to_pandas()
    joined = pd.merge_asof(trades, quotes[["symbol", "timestamp", "bid"]], on="timestamp", by="symbol")
    assert joined["bid"].to_list() == [96999.5 + second // 60 * 60 for second in range(SECONDS)]


def test_polars_groups_by_time_and_joins(data):
    trades = polars(data, "channel=trades").sort("timestamp")
    price, amount = pl.col("price"), pl.col("amount")
    vwap = trades.group_by_dynamic("timestamp", every="1h").agg((price * amount).sum() / amount.sum())
    assert vwap.collect()["price"].to_list() == pytest.approx(VWAP)
    ends = price.first().alias("open"), price.max().alias("high"), price.min().alias("low")
    candles = trades.group_by_dynamic("timestamp", every="1m").agg(*ends, price.last().alias("close"))
    assert candles.collect().row(0)[1:] == (97000.1, 97059.1, 97000.1, 97059.1)
    quotes = pl.scan_parquet(data / "v2" / "channel=ticker" / "**" / "*.parquet", hive_partitioning=True)
    joined = trades.join_asof(
        quotes.sort("timestamp"), on="timestamp", by="symbol", check_sortedness=False
    ).collect()
    assert joined["bid"].to_list() == [96999.5 + second // 60 * 60 for second in range(SECONDS)]


def test_duckdb_groups_by_time_and_joins(data):
    trades = duck(data, "channel=trades")
    vwap = "sum(price * amount) / sum(amount)"
    hour = "date_trunc('hour', timestamp)"
    hours = sql(f"SELECT {vwap} FROM {trades} GROUP BY {hour} ORDER BY {hour}")
    assert [vwap for (vwap,) in hours] == pytest.approx(VWAP)
    ends = "first(price ORDER BY sequence), max(price), min(price), last(price ORDER BY sequence)"
    minute = "time_bucket(INTERVAL 1 minute, timestamp)"
    candles = sql(f"SELECT {ends} FROM {trades} GROUP BY {minute} ORDER BY {minute} LIMIT 1")
    assert candles == [(97000.1, 97059.1, 97000.1, 97059.1)]
    quotes = f"read_parquet('{data}/v2/channel=ticker/**/*.parquet', hive_partitioning = true)"
    bids = sql(f"SELECT q.bid FROM {trades} t ASOF JOIN {quotes} q"
               " ON t.symbol = q.symbol AND t.timestamp >= q.timestamp ORDER BY t.timestamp")  # fmt: skip
    assert [bid for (bid,) in bids] == [96999.5 + second // 60 * 60 for second in range(SECONDS)]


def test_levels_of_books_of_both_versions_can_be_computed_with(data):
    levels = sql(f"SELECT level.price * level.size FROM (SELECT sequence, unnest(bid) AS level"
                 f" FROM {duck(data, 'channel=l2_book')}) ORDER BY level.price DESC")  # fmt: skip
    expected = [1.5 * (97000 - second) for second in range(20)]
    assert [value for (value,) in levels] == expected
    best = polars(data, "channel=l2_book").select(pl.col("bid").list.first().struct.field("price"))
    assert sorted(best.collect()["price"]) == sorted(97000.0 - second for second in range(20))
    for books in (
        arrow(data, "channel=l2_book").to_table()["bid"].to_pylist(),
        pandas(data, "channel=l2_book")["bid"],
    ):
        assert sorted(bid[0]["price"] for bid in books) == sorted(97000.0 - second for second in range(20))


def test_a_price_times_an_amount_in_billions_is_a_number_in_all_readers(tmp_path):
    asyncio.run(_write(tmp_path, [HUGE], 0))
    place = tmp_path / "v2" / "channel=trades"
    table = ds.dataset(place, partitioning="hive").to_table()
    assert pc.multiply(table["price"], table["amount"]).to_pylist() == [4.5e19]
    frame = pd.read_parquet(place)
    assert (frame.price * frame.amount).to_list() == [4.5e19]
    scanned = pl.scan_parquet(place / "**" / "*.parquet").select(pl.col("price") * pl.col("amount"))
    assert scanned.collect()["price"].to_list() == [4.5e19]
    assert sql(f"SELECT price * amount FROM read_parquet('{place}/**/*.parquet')") == [(4.5e19,)]


def test_an_exact_sum_is_made_of_the_texts(data):
    place = f"read_parquet('{data}/v2/channel=trades/**/*.parquet')"
    assert sql(f"SELECT sum(amount_text::DECIMAL(38, 18)) FROM {place}") == [
        (sum(D(trade.amount) for trade in TRADES[OLD:]),)
    ]


def test_all_readers_see_no_gaps_where_there_were_none(data):
    place = data / "v2" / "channel=gaps"
    assert (
        ds.dataset(place, partitioning="hive").to_table(filter=ds.field("symbol") == "BTC-USD").num_rows == 0
    )
    assert len(pd.read_parquet(place, filters=[("symbol", "==", "BTC-USD")])) == 0
    scanned = pl.scan_parquet(place / "**" / "*.parquet", hive_partitioning=True)
    assert scanned.filter(pl.col("symbol") == "BTC-USD").collect().height == 0
    query = f"SELECT * FROM read_parquet('{place}/**/*.parquet', hive_partitioning = true)"
    assert sql(f"{query} WHERE symbol = 'BTC-USD'") == []
