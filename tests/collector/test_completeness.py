"""`collector complete`: up to when what is stored is complete, and what is missing, from the store alone."""

import asyncio
import errno
import io
import json
import os
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from conformance import HARNESSES, NAME, Pipeline, deliver
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from streams import timed

from collector import cli, completeness, completeness_table
from collector.completeness import Interval, Missing, Row
from collector.records import Gap
from collector.settings import Settings
from collector.stores.notes import Note

START = 1736899200.0


def gap(start, end, reason="disconnect", missed="trades", symbol="BTC-USD", count=None):
    return Gap(
        "COINBASE", symbol, START + end, START + end, missed, START + start, START + end, reason, count
    )


def note(until, channels, exchange="COINBASE"):
    seen = [(START + until, channels)]
    return msgspec.json.encode(Note(exchange=exchange, stopped=True, good_for=5.0, seen=seen)).decode()


GAPS = [
    gap(10, 12.5),
    gap(12, 20, "stopped"),
    gap(30, 31, "dropped", count=42),
    gap(5, 6, "killed", missed="l2_book"),
    gap(5, 6, symbol="ETH-USD"),
]


def stretch(row):
    return [(each.start - START, each.end - START, each.reason, each.count) for each in row.gaps]


@pytest.mark.redis
@pytest.mark.parametrize("harness", HARNESSES, ids=repr)
async def test_every_store_shows_what_is_complete_and_what_is_missing(harness, tmp_path):
    with harness.server() as server:
        settings = harness.settings(server, tmp_path)
        async with Pipeline(settings) as pipeline:
            await pipeline.send(map(timed, [*GAPS, replace(GAPS[0], exchange="KRAKEN")]))
            await pipeline.delivered()
            await keep(
                harness,
                server,
                pipeline,
                NAME,
                note(100, {"trades": ["BTC-USD", "XRP-USD"], "l2_book": ["BTC-USD"]}),
            )
            await keep(harness, server, pipeline, "another", note(150, {"trades": ["BTC-USD"]}))
            await keep(harness, server, pipeline, "elsewhere", note(999, {"trades": ["BTC-USD"]}, "KRAKEN"))
            await keep(harness, server, pipeline, "damaged", "{")
            await keep(harness, server, pipeline, "impossible", note(1e300, {"trades": ["BTC-USD"]}))
        rows, damaged = await completeness.look(settings, Interval())
    found = {(row.channel, row.symbol): row for row in rows}
    assert list(found) == [
        (channel, symbol) for channel in ("l2_book", "trades") for symbol in ("BTC-USD", "ETH-USD")
    ]
    assert all(row.exchange == "COINBASE" for row in rows)
    trades = found["trades", "BTC-USD"]
    assert trades.until == START + 150
    assert stretch(trades) == [
        (10, 12.5, "disconnect", None),
        (12, 20, "stopped", None),
        (30, 31, "dropped", 42),
    ]
    assert trades.missing == pytest.approx(11.0)
    assert stretch(found["l2_book", "BTC-USD"]) == [(5, 6, "killed", None)]
    assert found["trades", "ETH-USD"].until is None
    assert len(found["trades", "ETH-USD"].gaps) == 1
    assert found["l2_book", "ETH-USD"].until is None
    assert not found["l2_book", "ETH-USD"].gaps
    assert sorted(damaged) == ["the note of collector damaged", "the note of collector impossible"]


@pytest.mark.redis
@pytest.mark.parametrize("harness", HARNESSES, ids=repr)
def test_an_empty_store_has_an_answer(harness, tmp_path, monkeypatch, capsys):
    with harness.server() as server:
        settings = harness.settings(server, tmp_path)
        monkeypatch.setattr(Settings, "read", lambda _environment: settings)
        for options, status, row in ([], 0, "never seen"), (["--json", "--exit-code"], 1, '"until": null'):
            assert cli.main(["complete", *options]) == status
            shown = capsys.readouterr()
            assert row in shown.out
            assert "warning: no collector has noted in " in shown.err
            assert settings.where in shown.err or str(settings.parquet_dir) in shown.err


async def keep(harness, server, pipeline, name, text):
    """Keep a note of a collector."""
    if harness.backend == "PARQUET":  # it takes those of whoever holds the lock alone
        (server.data / "_positions" / f"{name}.note").write_text(text)
    else:
        await pipeline.writer._store.note(name, text)


@pytest.mark.redis
@pytest.mark.parametrize("harness", [each for each in HARNESSES if "REDIS" in each.backend], ids=repr)
async def test_completeness_needs_no_right_to_write(harness, tmp_path):
    with harness.server() as server:
        settings = harness.settings(server, tmp_path)
        await deliver(settings, map(timed, GAPS))
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "-@all", "+@read", "+@connection")
        rows, _ = await completeness.look(settings, Interval())
        assert sum(len(row.gaps) for row in rows) == len(GAPS)


@pytest.mark.redis
async def test_a_gap_with_impossible_times_is_named_and_ignored(tmp_path):
    harness = HARNESSES[0]
    with harness.server() as server:
        settings = harness.settings(server, tmp_path)
        await deliver(settings, map(timed, GAPS))
        with server.client(decode_responses=True) as client:
            key = "gaps-COINBASE-BTC-USD"
            ((_, fields), *_) = client.xrange(key)
            client.xadd(key, fields | {"end": "nan"})
        rows, damaged = await completeness.look(settings, Interval())
        assert damaged == ["a gap of trades of BTC-USD"]
        assert sum(len(row.gaps) for row in rows) == len(GAPS)


def test_an_interval_clips_gaps_and_shows_what_is_not_yet_stored():
    interval = Interval(START + 12, START + 120)
    (row,) = completeness.rows("COINBASE", {("trades", "BTC-USD"): START + 100}, GAPS, interval)
    assert stretch(row) == [
        (12, 12.5, "disconnect", None),
        (12, 20, "stopped", None),
        (30, 31, "dropped", 42),
    ]
    assert row.late == 20
    assert row.missing == pytest.approx(9.0)
    assert not row.is_complete
    interval = Interval(START + 40, START + 100)
    (row,) = completeness.rows("COINBASE", {("trades", "BTC-USD"): START + 100}, GAPS, interval)
    assert row.is_complete
    (row,) = completeness.rows("COINBASE", {("trades", "BTC-USD"): START + 100}, GAPS, Interval(START + 130))
    assert (row.late, row.is_complete) == (30, False), "nothing since then is there"


@pytest.mark.parametrize(
    ("interval", "early", "missing"),
    [
        (Interval(), 0, "0.0 s"),
        (Interval(START + 60, START + 90), 0, "0.0 s"),
        (Interval(START + 50, START + 90), 10, "10.0 s"),
        (Interval(START - 86400, START - 79200), 7200, "2.0 h"),
        (Interval(START + 50), 10, "10.0 s"),
        (Interval(until=START + 55), 5, "5.0 s"),
        (Interval(until=START + 60), 0, "0.0 s"),
    ],
)
def test_nothing_before_the_first_record_is_complete(interval, early, missing):
    seen, since = {("trades", "BTC-USD"): START + 100}, {("trades", "BTC-USD"): START + 60}
    (row,) = completeness.rows("COINBASE", seen, [], interval, since)
    assert (row.early, row.is_complete) == (early, not early)
    told = completeness.encode(row)
    assert told["since"] == "2025-01-15T00:01:00.000000Z"
    assert told["early_seconds"] == early
    reason = "not recorded before 2025-01-15T00:01:00Z" if early else ""
    assert completeness_table.cells(told)[-2:] == (missing, reason)


def test_recording_began_with_the_first_collector_that_noted_it():
    def noted(since, symbols=("BTC-USD",), told=("BTC-USD",)):
        seen = [(START + 100, {"trades": [*symbols]})]
        begun = [(START + since, {"trades": [*told]})]
        return Note(exchange="COINBASE", stopped=True, good_for=5.0, seen=seen, begun=begun)

    later, first = noted(50), noted(7)
    key = ("trades", "BTC-USD")
    assert completeness.begun([later, first], "COINBASE") == {key: START + 7}
    of_earlier_version = noted(60, told=())
    assert completeness.begun([later, of_earlier_version], "COINBASE") == {}
    assert completeness.begun([later], "KRAKEN") == {}


def test_a_row_as_json_and_as_text():
    (row,) = completeness.rows(
        "COINBASE", {("trades", "BTC-USD"): START + 100}, GAPS, Interval(until=START + 400)
    )
    told = completeness.encode(row)
    assert told["until"] == "2025-01-15T00:01:40.000000Z"
    assert told["reasons"] == {
        "stopped": {"gaps": 1, "seconds": 8.0, "records": None},
        "disconnect": {"gaps": 1, "seconds": 2.5, "records": None},
        "dropped": {"gaps": 1, "seconds": 1.0, "records": 42},
    }
    assert told["gaps"][0] == {
        "start": "2025-01-15T00:00:10.000000Z",
        "end": "2025-01-15T00:00:12.500000Z",
        "reason": "disconnect",
        "records": None,
    }
    assert completeness_table.table([told]) == (
        "EXCHANGE  CHANNEL  SYMBOL   COMPLETE UNTIL        GAPS  MISSING  REASONS\n"
        "COINBASE  trades   BTC-USD  2025-01-15T00:01:40Z     3   11.0 s"
        "  stopped 8.0 s, disconnect 2.5 s, dropped 1.0 s, not stored yet 5.0 min"
    )


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=12))
def test_every_second_that_is_missing_counts_once(spans):
    gaps = [Missing(float(start), float(start + length), "stale") for start, length in spans]
    row = Row(exchange="X", channel="trades", symbol="A", until=99.0, gaps=gaps)
    assert row.missing == len({second for start, length in spans for second in range(start, start + length)})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2025-01-15", START),
        ("2025-01-15T00:00", START),
        ("2025-01-15T00:00:00Z", START),
        ("2025-01-15T01:00+01:00", START),
    ],
)
def test_a_time_is_utc_unless_it_says_otherwise(text, seconds):
    assert completeness_table.moment(text) == seconds


def test_an_age_is_a_time():
    assert completeness_table.moment("2h") == pytest.approx(time.time() - 7200, abs=5)


@pytest.mark.parametrize("text", ["", "yesterday", "2 fortnights", "-1", "2025-13-01", "9" * 5000])
def test_an_invalid_time_is_reported_as_such(text):
    with pytest.raises(ValueError, match="is not a time such as"):
        completeness_table.moment(text)


class TestCommand:
    @pytest.fixture
    async def environment(self, tmp_path):
        environment = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "NAME": NAME}
        environment |= {
            "BACKEND": "PARQUET",
            "PARQUET_DIR": str(tmp_path / "data"),
            "SPOOL_DIR": str(tmp_path),
        }
        return environment

    async def record(self, harness_settings, gaps):
        async with Pipeline(harness_settings) as pipeline:
            await pipeline.send(map(timed, gaps))
            await pipeline.delivered()
            await pipeline.writer._store.note(NAME, note(100, {"trades": ["BTC-USD"]}))

    def run(self, environment, *arguments):
        """What the command does with nothing but this environment."""
        said, told, status = io.StringIO(), io.StringIO(), 0
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(said), redirect_stderr(told):
            patched.setattr(os, "environ", environment)
            try:
                status = cli.main(["complete", *arguments])
            except SystemExit as ended:
                status = ended.code
        return SimpleNamespace(returncode=status, stdout=said.getvalue(), stderr=told.getvalue())

    def run_alone(self, environment):
        """The same in a process of its own."""
        command = [sys.executable, "-m", "collector", "complete"]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    async def test_completeness_reads_a_store_without_its_collector_and_changes_nothing(
        self, environment, tmp_path
    ):
        await self.record(Settings.read(environment), GAPS)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
        told = self.run_alone(environment)
        assert told.returncode == 0, told.stderr
        assert told.stdout.splitlines()[1].split()[:5] == [
            *("COINBASE", "trades", "BTC-USD", "2025-01-15T00:01:40Z", "3")
        ]
        assert (await asyncio.to_thread(self.run, environment, "--exit-code")).returncode == 1
        fine = ("--since", "2025-01-15T00:00:40", "--until", "2025-01-15T00:01:40", "--exit-code", "--json")
        told = await asyncio.to_thread(self.run, environment, *fine)
        assert told.returncode == 0
        (row,) = map(json.loads, told.stdout.splitlines())
        assert row["complete"]
        assert row["gaps"] == []
        assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before

    @pytest.mark.parametrize(("symbols", "lines"), [("BTC-USD", 1), ("ALL", 0)])
    def test_a_missing_folder_is_not_created(self, environment, tmp_path, symbols, lines):
        told = self.run(environment | {"SYMBOLS": symbols}, "--json", "--exit-code")
        assert told.returncode == 1
        assert len(told.stdout.splitlines()) == lines
        assert told.stderr == (
            f"collector: warning: no collector has noted in {tmp_path}/data yet that it stored any of these;"
            " one that has just started does so soon\n"
        )
        assert not Path(tmp_path / "data").exists()

    def test_an_unreadable_folder_is_named_with_the_user_who_may_not_read_it(
        self, environment, monkeypatch, capsys
    ):
        def refuse(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))

        monkeypatch.setattr(Path, "is_dir", refuse)
        settings = Settings.read(environment)
        monkeypatch.setattr(Settings, "read", lambda _environment: settings)
        assert cli.main(["complete"]) == 78
        assert "/_positions: Permission denied; user " in capsys.readouterr().err

    def test_standard_output_keeps_no_records(self, environment):
        told = self.run(environment | {"BACKEND": "TTY"})
        assert told.returncode == 78
        assert "keeps no records" in told.stderr

    def test_a_wrong_time_is_refused(self, environment):
        told = self.run(environment, "--since", "lunch")
        assert told.returncode == 2
        assert "'lunch' is not a time such as 2026-11-28" in told.stderr
        assert "Traceback" not in told.stderr

    def test_an_interval_that_ends_before_it_begins_is_refused(self, environment):
        told = self.run(environment, "--since", "1h", "--until", "2h")
        assert told.returncode == 2
        assert told.stderr == "collector: --since is later than --until; swap them\n"
