"""A fleet file becomes running containers: by the launcher, and by compose, the same ones."""

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from stage import docker, inspect
from waiting import wait_until

from launcher import cli

pytestmark = pytest.mark.docker

EXCHANGES = {"coinbase": "BTC-USD", "kraken": "BTC-USD", "binance": "BTC-USDT"}


class Fleet:
    """Three simulated exchanges into the stage's Redis, through the launcher's command line."""

    def __init__(self, folder, stage, image):
        self.name, self.stage, self.image = f"{stage.name}-fleet", stage, image
        self.path = folder / "fleet.yaml"
        self.folder = folder

    def write(self, symbols, **defaults):
        file = {
            "fleet": self.name,
            "image": self.image,
            "network": {"name": self.stage.name, "external": True},
            "source": "simulated",
            "stores": {"redis": {"backend": "REDISSTREAM", "host": "redis"}},
            "defaults": {"channels": ["trades", "ticker", "l2_book"]} | defaults,
            "collectors": [
                {"exchange": exchange.upper(), "symbols": [symbol]} for exchange, symbol in symbols.items()
            ],
        }
        self.path.write_text(json.dumps(file))

    def launch(self, command, *arguments):
        return cli.main([command, str(self.path), *arguments])

    def containers(self):
        """What docker inspect says, by collector."""
        ids = docker("ps", "--all", "--quiet", "--filter", f"label=cryptostore.fleet={self.name}").split()
        return {each["Config"]["Labels"]["cryptostore.collector"]: each for each in map(inspect, ids)}

    def identities(self):
        return {name: (each["Id"], each["State"]["StartedAt"]) for name, each in self.containers().items()}

    def things(self):
        """Names of all that Docker has of the fleet."""
        kinds = (("ps", "--all", "--format", "{{.Names}}"), ("volume", "ls", "--format", "{{.Name}}"))
        return [name for kind in kinds for name in docker(*kind, "--filter", f"name={self.name}").split()]


@pytest.fixture
def fleet(tmp_path, stage, image):
    fleet = Fleet(tmp_path, stage, image)
    yield fleet
    for container in fleet.containers().values():
        docker("rm", "--force", "--volumes", container["Id"])
    for volume in docker("volume", "ls", "--quiet", "--filter", f"name={fleet.name}").split():
        docker("volume", "rm", volume)


@pytest.mark.slow
def test_up_edit_removal_and_down(fleet, capsys):
    fleet.write(EXCHANGES)
    assert fleet.launch("up") == 0
    said = capsys.readouterr().out
    assert all(exchange in said for exchange in EXCHANGES)
    before = fleet.identities()
    assert set(before) == {*EXCHANGES, "simulator"}

    assert fleet.launch("up") == 0
    assert fleet.identities() == before
    capsys.readouterr()

    fleet.write(EXCHANGES | {"kraken": "ETH-USD"})
    assert fleet.launch("up") == 0
    edited = fleet.identities()
    assert {name for name in before if edited[name] != before[name]} == {"kraken"}

    fleet.write({name: EXCHANGES[name] for name in ("coinbase", "binance")})
    assert fleet.launch("up", "--yes") == 0
    removed = fleet.identities()
    assert removed == {name: before[name] for name in ("coinbase", "binance", "simulator")}
    capsys.readouterr()

    assert fleet.launch("status", "--json") == 0
    told = {each["collector"]: each for each in json.loads(capsys.readouterr().out)}
    for name, container in fleet.containers().items():
        if name != "simulator":
            assert told[name]["state"] == "ready"
            assert container["State"]["Status"] == "running"
    wait_until(lambda: len(fleet.stage.stored()) > 100)

    kept = fleet.things()
    assert complete(fleet, capsys) == {("coinbase", "BTC-USD"), ("binance", "BTC-USDT")}
    docker("stop", fleet.containers()["coinbase"]["Id"])
    assert complete(fleet, capsys) == {("coinbase", "BTC-USD"), ("binance", "BTC-USDT")}
    assert fleet.things() == kept
    assert fleet.launch("complete", "--until", "2100-01-01", "--exit-code") == 1
    assert "not stored yet" in capsys.readouterr().out

    assert fleet.launch("down", "--volumes") == 0
    assert fleet.things() == []
    assert docker("network", "ls", "--quiet", "--filter", f"name={fleet.name}") == ""


def complete(fleet, capsys):
    """Collectors with the symbols of which `complete` says something, all channels' times being recent."""
    assert fleet.launch("complete", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["channel"] for row in rows} == {"trades", "ticker", "l2_book"}
    for row in rows:
        assert datetime.now(UTC) - datetime.fromisoformat(row["until"]) < timedelta(minutes=5)
    return {(row["collector"], row["symbol"]) for row in rows}


@pytest.mark.slow
def test_compose_makes_the_same_containers(fleet, compose, tmp_path, capsys):
    fleet.write(EXCHANGES, limits={"memory": "256MiB", "cpus": 0.5})
    assert fleet.launch("render", "--output", str(tmp_path / "out")) == 0
    compose = [*compose, "--file", str(tmp_path / "out" / "compose.yaml")]
    subprocess.run([*compose, "up", "--detach", "--wait"], check=True, capture_output=True, timeout=120)
    by_compose = fleet.containers()
    try:
        assert set(by_compose) == {*EXCHANGES, "simulator"}
        capsys.readouterr()
        assert fleet.launch("status") == 0
        assert "compose" in capsys.readouterr().out
        assert fleet.launch("up") == 1  # the names are compose's
        assert {name: each["Id"] for name, each in fleet.containers().items()} == {
            name: each["Id"] for name, each in by_compose.items()
        }
    finally:
        subprocess.run([*compose, "down", "--volumes"], check=True, capture_output=True, timeout=120)
    assert fleet.launch("up") == 0
    by_launcher = fleet.containers()
    assert fleet.launch("down", "--volumes") == 0
    for name, container in by_launcher.items():
        assert essence(container) == essence(by_compose[name]), name


def essence(container):
    """What makes two containers the same to the program inside, and to whoever protects the host from it."""
    config, host = container["Config"], container["HostConfig"]
    mounts = sorted(
        [mount["Type"], _source(mount), mount["Destination"], mount["RW"]] for mount in container["Mounts"]
    )
    kept = (
        "Memory", "MemorySwap", "NanoCpus", "PidsLimit", "CapDrop", "SecurityOpt", "ReadonlyRootfs", "Init",
        "Tmpfs", "LogConfig", "RestartPolicy",
    )  # fmt: skip
    return {
        "environment": sorted(config["Env"]),
        "user": config["User"],
        "entrypoint": config["Entrypoint"],
        "command": config["Cmd"],
        "health": config["Healthcheck"],
        "stop": config.get("StopTimeout"),
        "mounts": mounts,
        "networks": sorted(container["NetworkSettings"]["Networks"]),
        **{key: host[key] for key in kept},
    }


def _source(mount):
    """A volume's name, unless it has none: the simulator leaves the spool of its image to Docker."""
    name = mount.get("Name") or mount["Source"]
    return "anonymous" if re.fullmatch("[0-9a-f]{64}", name) else name
