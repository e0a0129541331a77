"""`launcher complete` where it cannot be answered; what it answers is tried in end_to_end/test_demo.py."""

import json
import re
import socket
from types import SimpleNamespace
from typing import ClassVar

import pytest

from collector import completeness
from collector.records import Gap
from launcher import cli, fleet, local_run
from launcher.commands import complete
from launcher.engines import Check

FLEET = """
fleet: desk
stores: {r: {backend: REDIS, host: 127.0.0.1, port: %d}}
collectors: [{exchange: COINBASE, symbols: BTC-USD, channels: trades, store: r}]
"""


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A fleet that ran here, whose store takes connections and says nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(complete, "_has_containers", lambda _fleet: False)
    local_run.folder("desk").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        (tmp_path / "fleet.yaml").write_text(FLEET % server.getsockname()[1])
        yield server


def test_a_store_that_does_not_answer_is_reported(silent, monkeypatch, capsys):
    monkeypatch.setattr(complete, "_SECONDS", 1.0)
    assert cli.main(["complete"]) == 1
    assert "coinbase: its store gave no answer within 1 s" in capsys.readouterr().err


def test_an_unreachable_store_is_reported(silent, capsys):
    silent.close()
    assert cli.main(["complete"]) == 1
    said = capsys.readouterr().err
    assert re.fullmatch(r"launcher: coinbase: Redis at 127\.0\.0\.1:\d+: Connection refused\n", said)


def test_an_interval_that_ends_before_it_begins_is_refused(silent, capsys):
    assert cli.main(["complete", "--since", "1h", "--until", "2h"]) == 2
    assert "--since is later than --until" in capsys.readouterr().err


def test_a_run_of_another_fleet_with_the_same_name_is_not_queried(silent, tmp_path, monkeypatch, capsys):
    (tmp_path / "elsewhere").mkdir()
    theirs = tmp_path / "elsewhere" / "fleet.yaml"
    theirs.write_text((tmp_path / "fleet.yaml").read_text())
    local_run.take_possession(local_run.folder("desk"), fleet.load(theirs, {}), adopt=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    assert cli.main(["complete"]) == 1
    said = capsys.readouterr().err
    assert "not asked: " in said
    assert ".cryptostore/desk, which belongs to another fleet named desk, started by " in said
    assert f"({theirs}), since 20" in said
    assert "no Docker engine" in said


SIMULATED = """
fleet: desk
source: simulated
stores: {files: {backend: PARQUET}}
collectors: [{exchange: COINBASE, symbols: BTC-USD, channels: trades, store: files}]
"""


SAID = (
    "collector: warning: no collector has noted in /data yet that it stored any of these",
    "collector: /data/_positions: Permission denied",
    '{"exchange": "/data"}',
    "collector: /database is another",
)


@pytest.mark.parametrize("there", [[], ["desk-data"], ["desk-data", "desk-simulator"]], ids=len)
def test_a_container_is_not_given_volumes_that_do_not_exist(tmp_path, there):
    class Engine:
        asked: ClassVar = []

        def elsewhere(self, _fleet):
            return False

        def named_volumes(self, names):
            return [SimpleNamespace(name=name) for name in names if name in there]

        def seal(self, spec, _key):
            return spec

        def check(self, spec, _command, _key):
            self.asked.append(spec.container)
            return Check(exit_code=0, lines=SAID)

    (tmp_path / "fleet.yaml").write_text(SIMULATED)
    (spec,) = fleet.load(tmp_path / "fleet.yaml", {}).collectors
    told = complete._in_a_container(Engine(), spec, ["complete"], b"", "network").lines
    (container,) = Engine.asked
    assert [mount.source for mount in container.mounts] == sorted(there)
    assert ("SSL_CERT_FILE" in container.environment) == ("desk-simulator" in there)
    assert container.environment["PARQUET_DIR"] == "/data"
    volume = "/data is volume desk-data" + ("" if there else ", which does not exist yet")
    assert told == (f"{SAID[0]} ({volume})", f"{SAID[1]} ({volume})", *SAID[2:])


def test_a_folder_of_the_engine_s_machine_is_named_as_it_is_there(tmp_path):
    (tmp_path / "fleet.yaml").write_text(SIMULATED.replace("PARQUET}", "PARQUET, path: /srv/records}"))
    (spec,) = fleet.load(tmp_path / "fleet.yaml", {}).collectors
    assert complete._located(SAID[0], spec, ()) == f"{SAID[0]} (/data is /srv/records)"


SEEN = {("trades", "BTC-USD"): 60.0, ("ticker", "BTC-USD"): None}
GAP = Gap("COINBASE", "BTC-USD", 20.0, 20.0, "trades", 10.0, 20.0, "dropped", 7)
ROWS = [
    json.dumps(completeness.encode(row))
    for row in completeness.rows("COINBASE", SEEN, [GAP], completeness.Interval(None, 90.0))
]
LOG = '{"time": "2026-11-28T08:30:00.000Z", "level": "WARNING", "logger": "redis", "message": "slow"}'


@pytest.mark.parametrize(
    ("status", "lines", "status_here", "said"),
    [
        (0, [LOG, *ROWS], 0, f"coinbase: {LOG}\n"),
        (0, ['{"what": "store", "state": "fine"}'], 1, "does not answer as a collector of this version does"),
        (
            0,
            ["[" * 10_000],
            1,
            "does not answer as a collector of this version does; build it again. It said",
        ),
        (0, [], 1, "does not answer as a collector of this version does"),
        (137, [], 1, "launcher: coinbase: ended with status 137\n"),
        (
            78,
            ["collector: 1 fault in the environment"],
            1,
            "launcher: coinbase: 1 fault in the environment\n",
        ),
    ],
)
def test_the_answer_of_a_collector_is_read_correctly(
    silent, monkeypatch, capsys, status, lines, status_here, said
):
    monkeypatch.setattr(complete, "_here", lambda *_: Check(exit_code=status, lines=tuple(lines)))
    assert cli.main(["complete"]) == status_here
    shown = capsys.readouterr()
    assert said in shown.err
    assert ("BTC-USD" in shown.out) == (status_here == 0)


def test_an_empty_store_is_an_answer(silent, monkeypatch, capsys):
    warning = "collector: warning: no collector has noted in /data yet that it stored any of these"
    monkeypatch.setattr(complete, "_here", lambda *_: Check(exit_code=0, lines=(warning,)))
    assert cli.main(["complete"]) == 0
    assert capsys.readouterr().err == warning.replace("collector", "coinbase", 1) + "\n"
    assert cli.main(["complete", "--exit-code"]) == 1


def test_every_row_is_shown_as_it_was_answered(silent, monkeypatch, capsys):
    monkeypatch.setattr(complete, "_here", lambda *_: Check(exit_code=0, lines=tuple(ROWS)))
    assert cli.main(["complete", "--json"]) == 0
    text = capsys.readouterr().out
    assert json.loads(text) == [{"collector": "coinbase"} | json.loads(row) for row in ROWS]
    assert '"gaps": 1,' in text
    assert '"records": 7' in text
