"""`launcher complete` where it cannot be answered; what it answers is tried in end_to_end/test_demo.py."""

import socket

import pytest

from launcher import cli, local_run
from launcher.commands import complete

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


def test_a_store_that_does_not_answer_is_told(silent, monkeypatch, capsys):
    monkeypatch.setattr(complete, "_SECONDS", 1.0)
    assert cli.main(["complete"]) == 1
    assert "coinbase: its store gave no answer within 1 s" in capsys.readouterr().err


def test_a_store_that_is_away_is_told(silent, capsys):
    silent.close()
    assert cli.main(["complete"]) == 1
    assert "coinbase: Redis at 127.0.0.1:" in capsys.readouterr().err


def test_an_interval_that_ends_before_it_begins_is_refused(silent, capsys):
    assert cli.main(["complete", "--since", "1h", "--until", "2h"]) == 2
    assert "--since is later than --until" in capsys.readouterr().err
