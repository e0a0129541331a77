"""The demo: three simulated exchanges into Parquet files, exactly what the simulator's log says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset
from comparison import compare
from folders import record_of

from collector import records

ROOT = Path(__file__).parents[2]
EXCHANGES = {"COINBASE", "KRAKEN", "BINANCE"}
CHANNELS = {"trades": records.Trade, "ticker": records.Ticker, "l2_book": records.L2Book}


def test_the_files_hold_exactly_what_was_sent(tmp_path):
    shutil.copytree(ROOT / "deployments", tmp_path / "deployments")
    ended = subprocess.run(
        [sys.executable, "-m", "launcher", "run", "deployments/quickstart.yaml", "--for", "5s"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert ended.returncode == 0, ended.stderr
    assert "Unexpected message" not in ended.stdout + ended.stderr
    stored = [record for channel in CHANNELS for record in read(tmp_path / "data", channel)]
    log = tmp_path / ".cryptostore" / "quickstart" / "simulator" / "sent.jsonl"
    comparison = compare(map(json.loads, log.read_text().splitlines()), stored)
    assert comparison.exact, comparison
    assert {(record.exchange, records.channel_of(record)) for record in stored} == {
        (exchange, channel) for exchange in EXCHANGES for channel in CHANNELS
    }
    assert f"{len(stored):,} records stored" in ended.stdout
    told = complete(tmp_path, "--json")
    assert {(row["exchange"], row["channel"]) for row in json.loads(told)} == {
        (exchange, channel) for exchange in EXCHANGES for channel in CHANNELS
    }
    assert all(row["since"] and row["until"] and row["complete"] for row in json.loads(told))
    assert complete(tmp_path, "--exit-code").splitlines()[0].split()[:3] == [
        "COLLECTOR",
        "EXCHANGE",
        "CHANNEL",
    ]
    (tmp_path / "data" / "_positions" / "someone.note").write_text("{")
    assert "coinbase: warning: the note of collector someone is damaged" in complete(tmp_path)
    assert run_query(ended.stdout, tmp_path) == len(
        [each for each in stored if isinstance(each, records.Trade)]
    )


def complete(folder, *options):
    """What `launcher complete` says of the run that has ended."""
    command = [sys.executable, "-m", "launcher", "complete", "deployments/quickstart.yaml", *options]
    told = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    return told.stdout + told.stderr


def run_query(output, folder):
    """The one-line query that the summary ends with, as a person would paste it; the rows that it counts."""
    line = output.splitlines()[-1]
    assert line.startswith("to read it: ")
    command = line.removeprefix("to read it: ")
    ended = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=True, timeout=60
    )
    return int(ended.stdout.split(" rows")[0])


def read(folder, channel):
    """The records of one channel, in their order."""
    kind = CHANNELS[channel]
    table = pyarrow.dataset.dataset(folder / "v2" / f"channel={channel}", partitioning="hive").to_table()
    for row in sorted(table.to_pylist(), key=lambda row: row["sequence"]):
        yield record_of(kind, row)
