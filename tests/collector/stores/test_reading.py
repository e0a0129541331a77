"""docs/reading.md: every recipe is run, those in Python against every store."""

import asyncio
import importlib.metadata
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import msgspec
import pandas as pd
import polars as pl
import pytest
from conformance import HARNESSES, NAME, Pipeline
from simulated import Simulator
from streams import timed, written

from collector.records import Gap, L2Book, Ticker, Trade
from collector.stores.notes import Note
from collector.times import SECOND

D = Decimal
ROOT = Path(__file__).parents[3]
BIN = str(Path(sys.executable).parent)
TEXT = (ROOT / "docs" / "reading.md").read_text()
#: What is written before a block, and the block.
BLOCKS = re.findall(r"(?:<!-- ([\w ]+) -->\n)?```(python|sh|sql)\n(.*?)```", TEXT, re.DOTALL)
#: What is replaced in the block of each store.
ADDRESSES = {
    "REDISSTREAM": "redis://localhost:6379/0",
    "REDIS": "redis://localhost:6379/1",
    "POSTGRES": "postgresql://localhost/market",
    "MONGO": "mongodb://localhost:27017/",
    "PARQUET": "data/v2/channel={channel}",
}

START = datetime(2025, 1, 15, 8, tzinfo=UTC).timestamp()
PLACE = "COINBASE", "BTC-USD"


def trade(second):
    times = START + second, START + second + 0.25
    return written(
        Trade(
            *PLACE, *times, "buy", D("0.5") * (second % 3 + 1), D("97000.10") + second % 60, str(second), None
        )
    )


def book(second, price):
    """A whole book every quarter of an hour; between two a level comes and another goes."""
    times = START + second, START + second
    if second % 900 == 0:
        return timed(L2Book(*PLACE, *times, False, [("96999", "1"), ("96998", "2")], [("97001", "1.50")]))
    return written(
        L2Book(*PLACE, *times, True, [(D(96998), D(0)), (D(96999) + price, D(3))], [(D(97001) + price, D(4))])
    )


def average(trades):
    """Their price, weighted by amount."""
    return sum(D(each.price) * D(each.amount) for each in trades) / sum(D(each.amount) for each in trades)


#: Of three hours, of which the recipes read the second.
TRADES = [trade(second) for second in range(-3600, 7200, 10)]
TICKERS = [
    timed(Ticker(*PLACE, START + second, START + second, str(97000 + second), str(97001 + second)))
    for second in range(-3600, 7200, 60)
]
BOOKS = [book(second, D(second % 900) / 1000) for second in range(0, 3600, 100)]
GAPS = [
    timed(Gap(*PLACE, START + end, START + end + 1, missed, START + start, START + end, reason, count))
    for missed, start, end, reason, count in (
        ("trades", 100, 102.5, "disconnect", None),
        ("trades", -200, -100, "stopped", None),
        ("trades", 3500, 3700, "dropped", 42),
        ("l2_book", 100, 102.5, "disconnect", None),
        ("trades", 3601, 3602, "stale", None),
    )
]
RECORDS = sorted([*TRADES, *TICKERS, *BOOKS, *GAPS], key=lambda record: record.receipt_timestamp)
HOUR = [each for each in TRADES if START <= each.receipt_timestamp / SECOND < START + 3600]
#: Of the first minute of that hour.
VWAP = average(HOUR[:6])


async def fill(harness, server, folder):
    async with Pipeline(harness.settings(server, folder)) as pipeline:
        await pipeline.send(RECORDS)
        await pipeline.delivered()
        seen = [(START + 7200, {"trades": ["BTC-USD"], "l2_book": ["BTC-USD"]})]
        note = Note(exchange="COINBASE", stopped=True, good_for=5.0, seen=seen)
        await pipeline.writer._store.note(NAME, msgspec.json.encode(note).decode())


def blocks(label):
    found = [text for name, _, text in BLOCKS if name == label]
    assert found
    return found


@pytest.mark.redis
@pytest.mark.parametrize("harness", HARNESSES, ids=repr)
def test_the_recipes_give_the_same_answers_for_every_store(harness, tmp_path, capsys, monkeypatch):
    address = ADDRESSES[harness.backend]
    (of_store,) = (text for name, _, text in BLOCKS if not name and address in text)
    with harness.server() as server:
        asyncio.run(fill(harness, server, tmp_path))
        if harness.backend == "PARQUET":
            monkeypatch.chdir(server.data.parent)
        else:
            of_store = of_store.replace(address, server.url).replace('"market"', '"postgres"')
        it = {}
        for text in [*blocks("common"), of_store, *blocks("recipe")]:
            exec(compile(text, "docs/reading.md", "exec"), it)
        check_trades(it)
        check_books(it)
        before = it["start"] - pd.Timedelta(days=2)
        assert it["read"]("trades", "BTC-USD", before, before + pd.Timedelta(hours=1)).empty
    gaps = it["gaps"][["start", "end", "reason"]].itertuples(index=False)
    assert [(start.timestamp() - START, end.timestamp() - START, why) for start, end, why in gaps] == [
        (100, 102.5, "disconnect"),
        (3500, 3700, "dropped"),
    ]
    assert "97000.1" in capsys.readouterr().out


def check_trades(it):
    assert it["trades"]["price"].to_list() == [float(each.price) for each in HOUR]
    assert it["trades"]["amount"].to_list() == [float(each.amount) for each in HOUR]
    candles = it["candles"]
    assert len(candles) == 60
    assert candles.iloc[0].to_list() == [97000.1, 97050.1, 97000.1, 97050.1, 6.0]
    exact = average(HOUR)
    assert it["vwap"].to_list() == pytest.approx([float(exact)])
    assert len(it["met"]) == len(HOUR)
    minutes = [int(each.timestamp / SECOND - START) // 60 for each in HOUR]
    assert it["met"]["bid"].to_list() == [97000.0 + minute * 60 for minute in minutes]


def check_books(it):
    """At half past the whole book has just come; ten minutes later five changes have."""
    assert it["bids"] == {96999.0: 1.0, 96998.0: 2.0}
    assert it["asks"] == {97001.0: 1.5}
    between = list(it["books"]("BTC-USD", it["moment"], it["moment"] + pd.Timedelta(minutes=5)))
    assert [when.timestamp() - START for when, _, _ in between] == [1800, 1900, 2000]
    assert between[-1][1] == {96999.0: 1.0, 96999.1: 3.0, 96999.2: 3.0}
    assert between[-1][2] == {97001.0: 1.5, 97001.1: 4.0, 97001.2: 4.0}
    late = next(it["books"]("BTC-USD", it["moment"] - pd.Timedelta(seconds=50), it["moment"]))
    assert late[1] == {96999.0 + step / 10: 3.0 if step else 1.0 for step in range(9)}
    hour = pd.Timedelta(hours=1)
    begun = list(it["books"]("BTC-USD", it["start"] - hour, it["start"] + pd.Timedelta(seconds=150)))
    assert [(when.timestamp() - START, len(bids)) for when, bids, _ in begun] == [(0, 2), (100, 2)]
    assert not list(it["books"]("BTC-USD", it["start"] - 2 * hour, it["start"] - hour))
    assert it["spread"].iloc[0] == 2.0
    assert it["spread"].to_list() == pytest.approx([2.0, 1.9, 1.8, 1.7, 1.6, 1.5])


@pytest.fixture(scope="module")
def parquet(tmp_path_factory):
    """A folder in which ``data`` is a dataset."""
    (harness,) = (each for each in HARNESSES if each.backend == "PARQUET")
    with harness.server() as server:
        asyncio.run(fill(harness, server, tmp_path_factory.mktemp("spool")))
        yield server.data.parent


def test_an_hour_without_records_has_empty_answers(parquet, monkeypatch, capsys):
    monkeypatch.chdir(parquet)
    (of_store,) = (text for name, _, text in BLOCKS if not name and ADDRESSES["PARQUET"] in text)
    recipes = [text.replace("2025-01-15 08:00", "2025-01-12 08:00") for text in blocks("recipe")]
    it = {}
    for text in [*blocks("common"), of_store, *recipes]:
        exec(compile(text, "docs/reading.md", "exec"), it)
    assert [len(it[name]) for name in ("trades", "candles", "vwap", "bids", "asks", "spread", "met")] == [
        0
    ] * 7
    assert "Empty DataFrame" in capsys.readouterr().out


def test_candles_in_duckdb(parquet, monkeypatch):
    monkeypatch.chdir(parquet)
    (text,) = blocks("duckdb")
    table = [row[1:] for row in duckdb.sql(text).fetchall()]
    assert len(table) == 60
    assert table[0] == pytest.approx((97000.1, 97050.1, 97000.1, 97050.1, 6.0, float(VWAP)))


def test_candles_in_polars(parquet, monkeypatch):
    monkeypatch.chdir(parquet)
    it = {}
    (text,) = blocks("polars")
    exec(compile(text, "docs/reading.md", "exec"), it)
    hour = it["candles"].filter(pl.col("timestamp") >= datetime(2025, 1, 15, 8, tzinfo=UTC)).row(0)
    assert hour[1:] == pytest.approx((97000.1, 97050.1, 97000.1, 97050.1, 6.0, float(VWAP)))


@pytest.mark.redis
def test_candles_in_postgres(tmp_path):
    (harness,) = (each for each in HARNESSES if each.backend == "POSTGRES")
    postgres = map(str, Path("/usr/lib/postgresql").glob("*/bin"))
    environment = os.environ | {"PATH": os.pathsep.join([os.environ["PATH"], *postgres])}
    (text,) = blocks("psql")
    with harness.server() as server:
        asyncio.run(fill(harness, server, tmp_path))
        command = ["psql", server.url, "--csv", "--tuples-only", "--command", text]
        told = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=60
        ).stdout
    lines = told.splitlines()
    assert len(lines) == 60
    assert lines[0].startswith(f"2025-01-15 08:00:00,97000.10,97050.10,97000.10,97050.10,6.0,{VWAP:.8f}"[:-1])


def test_a_removed_collector_shows_up_to_when_its_data_is_complete(parquet):
    (text,) = blocks("run in a shell")
    environment = os.environ | {"PATH": os.pathsep.join([BIN, os.environ["PATH"]])}
    command = text.replace("collector complete", f"NAME={NAME} collector complete")
    told = subprocess.run(
        ["sh", "-c", command],
        cwd=parquet,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    rows = [line.split() for line in told.stdout.splitlines()[1:]]
    assert [row[1:5] for row in rows] == [
        ["l2_book", "BTC-USD", "2025-01-15T10:00:00Z", "1"],
        ["trades", "BTC-USD", "2025-01-15T10:00:00Z", "2"],
    ]


def test_instruments(monkeypatch):
    (text,) = blocks("instruments")
    with Simulator(symbols={"KRAKEN": ["BTC-USD", "ETH-USD"]}) as simulator:
        monkeypatch.setenv("PATH", os.pathsep.join([BIN, os.environ["PATH"]]))
        for name, value in simulator.environment.items():
            monkeypatch.setenv(name, value)
        it = {}
        exec(compile(text, "docs/reading.md", "exec"), it)
    assert it["listed"][["symbol", "type", "tick", "lot"]].to_dict("records") == [
        {"symbol": "BTC-USD", "type": "spot", "tick": "0.1", "lot": "0.00000001"},
        {"symbol": "ETH-USD", "type": "spot", "tick": "0.01", "lot": "0.00000001"},
    ]


def test_the_readers_are_installed_by_one_line():
    """Here they are there already, so this takes no network."""
    (text,) = blocks("run in the project")
    subprocess.run(["sh", "-ec", text], cwd=ROOT, capture_output=True, check=True, timeout=120)
    for name in ("pandas", "polars", "duckdb", "pytz", "pyarrow", "redis", "asyncpg", "pymongo"):
        assert importlib.metadata.version(name)


def test_every_block_is_run():
    known = {
        "instruments",
        "run in the project",
        "common",
        "recipe",
        "duckdb",
        "psql",
        "polars",
        "run in a shell",
        "run in a container",
    }
    assert all(
        name in known or any(place in text for place in ADDRESSES.values()) for name, _, text in BLOCKS
    )
