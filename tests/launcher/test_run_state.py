"""Whose the state of `launcher run` is: spools of another fleet of that name are not touched."""

import json
from datetime import UTC, datetime

import pytest

from launcher import cli, fleet, local_run
from launcher.engines import EngineError, LogLines

FILE = """\
fleet: desk
{head}
stores: {{out: {{backend: TTY}}}}
collectors:
  - {{exchange: COINBASE, symbols: BTC-USD, channels: trades}}
  - {{exchange: KRAKEN, symbols: BTC-USD, channels: trades}}
"""


@pytest.fixture
def load(tmp_path):
    """A fleet by the folder of its file, and its id."""

    def load(folder="here", fleet_id=""):
        (tmp_path / folder).mkdir(exist_ok=True)
        path = tmp_path / folder / "fleet.yaml"
        path.write_text(FILE.format(head=f"id: {fleet_id}" if fleet_id else ""))
        return fleet.load(path, {})

    return load


@pytest.fixture
def state(tmp_path):
    folder = tmp_path / ".cryptostore" / "desk"
    folder.mkdir(parents=True)
    return folder


def take(state, fleet, *, adopt=False):
    local_run.take_possession(state, fleet, adopt=adopt)


def test_the_state_is_private_from_the_first_run_on(load, state):
    take(state, load(fleet_id="one-of-two-fleets"))
    signed = (state / "owner.json").read_bytes()
    assert b"one-of-two-fleets" not in signed
    take(state, load("elsewhere", "one-of-two-fleets"))
    assert (state / "owner.json").read_bytes() == signed  # who was first, and when, stays
    with pytest.raises(
        EngineError,
        match=r"nothing was touched: .*belongs to another fleet named desk, started by .+@.+here/",
    ):
        take(state, load("elsewhere", "other-of-two-fleets"))
    with pytest.raises(EngineError, match="another fleet named desk"):
        take(state, load("elsewhere"))
    take(state, load("elsewhere", "other-of-two-fleets"), adopt=True)
    with pytest.raises(EngineError, match=r"elsewhere/fleet\.yaml\), since 20"):
        take(state, load("here", "one-of-two-fleets"))


def test_a_file_that_gains_an_id_continues_and_signs_with_it(load, state):
    take(state, load())
    take(state, load(fleet_id="one-of-two-fleets"))
    take(state, load("elsewhere", "one-of-two-fleets"))


def test_an_unsigned_state_is_taken_over_if_the_file_has_all_its_collectors(load, state):
    (state / "spool" / "desk-coinbase").mkdir(parents=True)
    take(state, load())
    (state / "owner.json").unlink()
    (state / "spool" / "desk-binance").mkdir()
    with pytest.raises(EngineError, match=r"not in the file \(desk-binance\)"):
        take(state, load())
    assert not (state / "owner.json").exists()
    take(state, load(), adopt=True)
    take(state, load())


def test_lines_of_a_log_since_a_time_and_the_last_of_them(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (state / "kraken.log.1").write_text("2026-11-28T08:29:59.999Z INFO a\n")
    (state / "kraken.log").write_text(
        "2026-11-28T08:30:00.000Z INFO b\n  of b\n2026-11-28T08:30:00.500Z INFO c\n"
    )
    half_past_eight = datetime(2026, 11, 28, 8, 30, tzinfo=UTC).timestamp()

    def lines(**wanted):
        found = local_run.last_lines("desk", ["kraken"], LogLines(**wanted), {})
        return [line[-1] for _, line in found]

    assert lines() == ["a", "b", "b", "c"]
    assert lines(since=half_past_eight) == ["b", "b", "c"]
    assert lines(since=half_past_eight + 0.4) == ["c"]
    assert lines(since=half_past_eight, tail=2) == ["b", "c"]
    assert lines(since=half_past_eight + 1) == []


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"cryptostore.seal": 1}', b"\xff"])
def test_a_broken_signature_is_a_fault_with_its_remedy(load, state, content):
    (state / "owner.json").write_bytes(content)
    with pytest.raises(EngineError, match=r"owner\.json cannot be read: .*remove it if the fleet is yours"):
        take(state, load())


def test_run_refuses_before_it_starts_anything(load, state, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    take(state, load("elsewhere", "other-of-two-fleets"))
    load()
    assert cli.main(["run", "here/fleet.yaml", "--for", "1s"]) == 1
    assert "belongs to another fleet named desk, started by " in capsys.readouterr().err
    assert sorted(path.name for path in state.iterdir()) == ["lock", "owner.json"]


def test_a_run_of_another_fleet_with_the_same_name_is_shown_as_foreign(
    load, state, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    (state / "coinbase.log").write_text("2026-11-28T08:30:00.000Z INFO ready\n")
    take(state, load("elsewhere"))
    load()
    told = "not this file's: the `launcher run` in this folder, which is of another fleet named desk, started"
    with local_run.held(state, ["coinbase"], simulated=False):
        assert cli.main(["status", "here/fleet.yaml", "--json"]) == 0
        said = capsys.readouterr()
        assert told in said.err
        assert [(row["collector"], row["config"]) for row in json.loads(said.out)] == [
            ("kraken", None),
            ("coinbase", "foreign"),
        ]
        assert cli.main(["status", "elsewhere/fleet.yaml"]) == 0
        assert told not in capsys.readouterr().err
    assert cli.main(["logs", "here/fleet.yaml"]) == 0
    assert told in capsys.readouterr().err


def test_init_names_the_fleet_after_its_folder(tmp_path, capsys):
    said = {}
    for folder, name in (
        ("crypto", "crypto"),
        ("My Desk_2.fleet", "my-desk-2-fleet"),
        ("日本", "crypto"),
        ("a" * 60, "a" * 24),
        (f"{'b' * 23}-c", "b" * 23),
        ("-x-", "x"),
    ):
        path = tmp_path / folder / "fleet.yaml"
        path.parent.mkdir()
        assert cli.main(["init", str(path)]) == 0
        spec = fleet.load(path, {})
        assert spec.name == name
        said[spec.owner.id] = json.dumps(name)
    assert len(said) == 6  # each has an id of its own
