import json
from itertools import pairwise
from pathlib import Path

import pytest
from engines import READER
from hypothesis import given
from hypothesis import strategies as st
from rendering import BRIEFLY, ODD, command, with_environment

from launcher import cli, fleet, render
from launcher.render.quadlet import _no_text

FLEET = """
fleet: desk
network: {network}
stores:
  redis: {{backend: REDIS, host: redis, password: ' se"c$$ret '}}
  files: {{backend: PARQUET, path: '50% of, "it" all'}}
defaults: {{channels: trades, limits: {{memory: 64MiB, cpus: 0.1}}}}
collectors:
  - {{exchange: COINBASE, symbols: ["*-USD", "!DOGE-USD", "type:spot"], store: redis}}
  - exchange: KRAKEN
    symbols: BTC-USD
    store: files
    config: keys.yaml
    limits: {{cpus: 1.5, pids: 99}}
    restart: on-failure:3
"""
HELD_ODD = [text for text in ODD if not any(map(_no_text, text))]
HELD = st.sampled_from(HELD_ODD) | st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]))


def load(folder, network="desk"):
    (folder / "keys.yaml").write_text("key: secret")
    path = folder / "fleet.yaml"
    path.write_text(FLEET.format(network=network))
    return fleet.load(path, {})


@pytest.fixture(scope="module")
def reader(users_engine):
    """An image in which Podman's generator and systemd say how they read a folder of units."""
    return users_engine.build(READER, Path(__file__).with_name("quadlet"))


def commands(reader, folder):
    """The command lines that systemd would run, by service."""
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    return json.loads(command("docker", "run", "--rm", "--volume", f"{folder}:/units:ro", reader))


def values_of(arguments, option):
    return [value for name, value in pairwise(arguments) if name == option]


@pytest.mark.docker
@pytest.mark.slow
def test_systemd_runs_the_fleets_containers(reader, tmp_path):
    written = render.write(load(tmp_path), tmp_path / "out", "quadlet")
    assert {path.name for path in written} == {
        *("desk-coinbase.container", "desk-kraken.container", "desk.network"),
        *("desk-coinbase-spool.volume", "desk-kraken-spool.volume"),
        *("coinbase.password", "kraken.config.yaml"),
    }
    *units, password, _ = written
    assert {path.stat().st_mode & 0o777 for path in units} == {0o600}
    assert password.read_text() == 'se"c$$ret'
    assert not any("c$$ret" in path.read_text() for path in units)
    found = commands(reader, tmp_path / "out")
    assert found["desk-coinbase-spool-volume.service"][-1] == "desk-coinbase-spool"
    assert found["desk-network.service"][-1] == "desk"
    coinbase, kraken = found["desk-coinbase.service"], found["desk-kraken.service"]
    assert coinbase[:2] == ["/usr/bin/podman", "run"]
    assert coinbase[-1] == "cryptostore:latest"
    assert values_of(coinbase, "--name") == ["desk-coinbase"]
    assert values_of(coinbase, "--network") == ["desk"]
    assert values_of(coinbase, "-v") == ["desk-coinbase-spool:/spool"]
    assert "SYMBOLS=*-USD,!DOGE-USD,type:spot" in values_of(coinbase, "--env")
    assert "PASSWORD_FILE=/run/secrets/password" in values_of(coinbase, "--env")
    secret = "type=mount,target=/run/secrets/password,uid=10001,gid=10001,mode=0400"
    assert values_of(coinbase, "--secret") == [f"desk-coinbase-password,{secret}"]
    for option, value in {
        "--memory": str(64 * 2**20),
        "--memory-swap": str(64 * 2**20),
        "--cpus": "1.5",
        "--pids-limit": "99",
        "--cap-drop": "all",
        "--stop-timeout": "30",
        "--health-cmd": "python -m collector health",
        "--mount": f'type=bind,"source={tmp_path}/50% of, ""it"" all",target=/data',
    }.items():
        assert values_of(kraken, option) == [value]
    assert {"--init", "--read-only", "--security-opt=no-new-privileges"} <= {*kraken}


def test_restart_policies_become_those_of_systemd(tmp_path):
    render.write(load(tmp_path), tmp_path / "out", "quadlet")
    coinbase, kraken = (
        (tmp_path / "out" / f"desk-{name}.container").read_text() for name in ("coinbase", "kraken")
    )
    assert "Restart=always\n" in coinbase
    assert "StartLimitIntervalSec=0\n" in coinbase
    assert "Restart=on-failure\n" in kraken
    assert "StartLimitBurst=3\n" in kraken


def test_the_unit_of_a_removed_collector_is_reported(tmp_path, capsys):
    load(tmp_path)
    folder = tmp_path / "rendered"
    arguments = ["render", str(tmp_path / "fleet.yaml"), "--format", "quadlet", "--output", str(folder)]
    assert cli.main(arguments) == 0
    (folder / "theirs.container").write_bytes(b"[Container]\n# caf\xe9\n")
    (tmp_path / "fleet.yaml").write_text(FLEET.format(network="desk").partition("  - exchange: KRAKEN")[0])
    capsys.readouterr()
    assert cli.main(arguments) == 0
    assert capsys.readouterr().err.startswith(f"{folder}/desk-kraken.container belongs to a collector that")
    (folder / "desk-kraken.container").unlink()
    assert cli.main(arguments) == 0
    assert not capsys.readouterr().err


def test_an_existing_network_is_joined(tmp_path):
    written = render.write(load(tmp_path, "{name: databases, external: true}"), tmp_path / "out", "quadlet")
    assert "databases.network" not in {path.name for path in written}
    assert "Network=databases\n" in (tmp_path / "out" / "desk-coinbase.container").read_text()


@pytest.mark.parametrize("value", ["\n", "\x07", "\x80", "\x7f", "\ufdd0", "\uffff", "\U0010fffe"])
def test_a_value_that_no_unit_can_hold_is_refused(tmp_path, value):
    with pytest.raises(render.RenderError) as caught:
        render.write(with_environment(load(tmp_path), {"USER": f"a{value}"}), tmp_path / "out", "quadlet")
    assert caught.value.faults == (
        f"coinbase: USER has the character U+{ord(value):04X}, which no unit file holds",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.docker
@pytest.mark.slow
@BRIEFLY
@given(st.lists(HELD, min_size=100, max_size=200))
def test_every_value_survives(reader, tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("units")
    spec = load(folder)
    values = [*HELD_ODD, "100%", "%h", "%%n", "a;b", "\\x41\\", *values]
    environment = {f"V{number}": value for number, value in enumerate(values)}
    render.write(with_environment(spec, environment), folder / "out", "quadlet")
    arguments = commands(reader, folder / "out")["desk-coinbase.service"]
    assert dict(value.split("=", 1) for value in values_of(arguments, "--env")) == environment
