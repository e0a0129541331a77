"""Stores that run with the fleet: recorded into, killed, brought back, and kept when all else goes."""

import re
import subprocess
from pathlib import Path

import pytest
import redis
from comparison import compare
from conformance import RedisHarness
from databases import PostgresHarness
from engines import SERVERS, turn
from process_list import process_list
from simulated import Control
from stage import SERVERS_FOLDER, docker, inspect
from transcripts import alike
from waiting import wait_until

from launcher import cli, managed

pytestmark = pytest.mark.docker

DOCS = (Path(__file__).parents[2] / "docs" / "launcher.md").read_text()
BLOCKS = re.MULTILINE | re.DOTALL
#: Where the server of each store has its password.
PASSWORDS = {"redis": "password", "postgres": "postgres_password"}
KEPT = (
    "redis-redis-data", "redis-redis-password", "postgres-postgres-data", "postgres-postgres-password",
)  # fmt: skip


class Fleet:
    """The one of docs/launcher.md: two simulated exchanges, each into a store that comes along."""

    name = "lab"

    def __init__(self, folder):
        self.path = folder / "managed.yaml"
        self.path.write_text(re.search(r"^```yaml\n(# managed\.yaml\n.*?)^```$", DOCS, BLOCKS)[1])

    def launch(self, command, *arguments):
        return cli.main([command, str(self.path), *arguments])

    def containers(self):
        ids = docker("ps", "--all", "--quiet", "--filter", f"label=cryptostore.fleet={self.name}").split()
        return {each["Config"]["Labels"]["cryptostore.collector"]: each for each in map(inspect, ids)}

    def identities(self):
        return {name: (each["Id"], each["State"]["StartedAt"]) for name, each in self.containers().items()}

    def address(self, name):
        return inspect(f"{self.name}-{name}")["NetworkSettings"]["Networks"][self.name]["IPAddress"]

    def password(self, name):
        return docker("exec", f"{self.name}-{name}", "cat", f"/run/secrets/{PASSWORDS[name]}")

    def volumes(self):
        """Its volumes, and no others: those of a fleet whose name begins or ends like it are somebody's."""
        parts = "simulator|redis|postgres|coinbase|kraken"
        there = docker("volume", "ls", "--quiet", "--filter", f"name={self.name}").split()
        return [volume for volume in there if re.fullmatch(rf"{self.name}-({parts})(-.+)?", volume)]

    def stored(self):
        return {
            "COINBASE": RedisHarness("REDISSTREAM").stored(_Redis(self)),
            "KRAKEN": PostgresHarness().stored(_Postgres(self)),
        }

    def remove(self):
        for container in self.containers().values():
            docker("rm", "--force", "--volumes", container["Id"])
        for volume in self.volumes():
            docker("volume", "rm", volume)
        docker("network", "rm", self.name, check=False)


class _Redis:
    def __init__(self, fleet):
        self.where = {"host": fleet.address("redis"), "password": fleet.password("redis")}

    def client(self, **options):
        return redis.Redis(**self.where, **options)


class _Postgres:
    def __init__(self, fleet):
        login = f"cryptostore:{fleet.password('postgres')}"
        self.url = f"postgresql://{login}@{fleet.address('postgres')}:5432/market"


@pytest.fixture
def fleet(tmp_path, image, own_engine):
    """On an engine of the tests' own, one test at a time: the fleet has the name that the docs show.

    So have the images: the public ones, or Debian's servers where no registry can be asked.
    """
    own_engine.give(image, "cryptostore:latest")
    for name in ("redis", "postgres"):
        own_engine.get(managed.SERVERS[name].image, SERVERS, SERVERS_FOLDER)
    fleet = Fleet(tmp_path)
    with turn("lab"):
        yield fleet
        fleet.remove()


def shown(command):
    """What the docs show of a command."""
    return re.search(rf"^\$ launcher {command} managed\.yaml\n(.*?)(?=^\$|^```)", DOCS, BLOCKS)[1]


def _run_as_shown(start):
    """What a command that the docs show in a line prints; those of psql follow from its input."""
    (command,) = re.findall(rf"`({re.escape(start)}[^`]*)`", DOCS)
    return subprocess.run(
        ["sh", "-c", command.replace("exec -it", "exec -i")],
        input="\\dt\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    ).stdout


@pytest.mark.slow
def test_stores_live_with_their_fleet(fleet, capsys, tmp_path):
    told = []

    def launch(*arguments):
        status = fleet.launch(*arguments)
        said = capsys.readouterr()
        told.extend(said[::-1])  # what the docs show last
        return status

    with process_list() as processes:
        assert launch("plan") == 2
        assert "+ redis" in told[-1]
        assert launch("doctor") == 0, "\n".join(told)  # runs the real servers for its checks
        assert told[-1].count("server    fine") == 3
        assert (fleet.containers(), fleet.volumes()) == ({}, [])
        assert launch("up") == 0, "\n".join(told)
        assert alike(told[-1], shown("up"))
        assert launch("up") == 0
        assert told[-1] == "fleet lab: 5 unchanged\n"
        assert launch("doctor") == 0, "\n".join(told)
        before = fleet.identities()
        passwords = {name: fleet.password(name) for name in PASSWORDS}
        assert launch("plan", "--json", "--out", str(tmp_path / "plan.json")) == 0, told[-1]
        wait_until(lambda: launch("status") == 0 and alike(told[-1], shown("status")))
        launch("status", "--json")
        assert launch("logs", "postgres") == 0
        assert "database system is ready" in told[-1]
        _check_hardened(fleet)
        keys, tables = (
            _run_as_shown(start) for start in ("docker exec lab-redis", "docker exec -it lab-postgres")
        )
        assert "trades-COINBASE-BTC-USD" in keys
        assert " trades " in tables

        # A server that is killed comes back with what it had, and what was sent meanwhile follows.
        docker("kill", f"{fleet.name}-redis", f"{fleet.name}-postgres")
        assert launch("plan") == 2
        assert "is stopped" in told[-1]
        assert launch("up") == 0
        wait_until(lambda: all(len(records) > 200 for records in fleet.stored().values()))
        _compare(fleet)
        inspected = docker("inspect", *(each["Id"] for each in fleet.containers().values()))
        inspected += docker("volume", "inspect", *fleet.volumes())

        # Without its containers the data is still there, and opens to the same password.
        counts = {name: len(records) for name, records in fleet.stored().items()}
        assert launch("down") == 0
        assert alike(told[-1], shown("down"))
        assert launch("up") == 0
        assert {name: fleet.password(name) for name in PASSWORDS} == passwords
        assert all(len(records) >= counts[name] for name, records in fleet.stored().items())
        assert fleet.identities().keys() == before.keys()

        assert launch("down", "--volumes") == 1
        assert f"volume {fleet.name}-postgres-postgres-data holds the data recorded into it" in told[-2]
        assert {f"{fleet.name}-{each}" for each in KEPT} <= {*fleet.volumes()}
        assert launch("down", "--volumes", "--yes") == 0
        assert fleet.volumes() == []
    everything = [*told, inspected, (tmp_path / "plan.json").read_text(), *processes]
    assert not [text for text in everything for password in passwords.values() if password in text]


def _check_hardened(fleet):
    containers = fleet.containers()
    for name in PASSWORDS:
        host = containers[name]["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert host["PortBindings"] in ({}, None)
        owner = docker(
            "exec", f"{fleet.name}-{name}", "stat", "--format", "%U", f"/proc/{_server(fleet, name)}"
        )
        assert owner == {"redis": "redis", "postgres": "postgres"}[name]
    client = redis.Redis(**_Redis(fleet).where)
    with client:
        assert client.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
        assert client.config_get("appendonly")["appendonly"] == "yes"
    with redis.Redis(fleet.address("redis")) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def _server(fleet, name):
    """The server's process: the child of the init process."""
    return docker("exec", f"{fleet.name}-{name}", "cat", "/proc/1/task/1/children").split()[0]


def _compare(fleet):
    """Everything that was sent is stored once."""
    control = Control(f"http://{fleet.address('simulator')}:8000")
    control.pause()
    log = control.log()
    for exchange in ("COINBASE", "KRAKEN"):
        sent = [entry for entry in log if entry.get("exchange") == exchange]

        def exact(exchange=exchange, sent=sent):
            return compare(sent, fleet.stored()[exchange]).exact

        wait_until(exact)
    control.resume()


@pytest.mark.slow
def test_a_server_that_is_stopped_ends_in_order(fleet):
    """The signal reaches it, though it is another user's process than init."""
    assert fleet.launch("up") == 0
    for name in PASSWORDS:
        docker("stop", f"{fleet.name}-{name}")
        assert inspect(f"{fleet.name}-{name}")["State"]["ExitCode"] == 0


@pytest.mark.slow
def test_data_with_a_lost_password_is_reported_and_can_be_opened_again(fleet, capsys):
    file = fleet.path.read_text()
    fleet.path.write_text(re.sub(r"^  (- {exchange: COINBASE.*|redis: .*)\n", "", file, flags=re.MULTILINE))
    assert fleet.launch("up") == 0
    wait_until(lambda: len(PostgresHarness().stored(_Postgres(fleet))) > 20)
    assert fleet.launch("down") == 0
    docker("volume", "rm", f"{fleet.name}-postgres-postgres-password")
    kept = fleet.volumes()
    for command in ("plan", "up", "doctor"):
        capsys.readouterr()
        assert fleet.launch(command) == 1
        said = "".join(capsys.readouterr())
        assert f"is lost with volume {fleet.name}-postgres-postgres-password" in said
        assert f"`docker volume rm {fleet.name}-postgres-postgres-data`" in said
    assert fleet.launch("status") == 0
    assert fleet.volumes() == kept
    for command in re.findall(r"^      (?=\S)(.*docker .*)$", DOCS, re.MULTILINE):
        subprocess.run(command, shell=True, check=True, capture_output=True, timeout=60)
    assert fleet.launch("up") == 0
    assert fleet.password("postgres") == "another"
    assert len(PostgresHarness().stored(_Postgres(fleet))) > 20


@pytest.mark.slow
def test_compose_waits_for_the_stores(fleet, compose, tmp_path):
    out = tmp_path / "out"
    assert fleet.launch("render", "--output", str(out)) == 0
    secrets = {path: path.read_bytes() for path in (out / "secrets").iterdir()}
    assert fleet.launch("render", "--output", str(out)) == 0
    assert {path: path.read_bytes() for path in (out / "secrets").iterdir()} == secrets
    compose = [*compose, "--file", str(out / "compose.yaml")]
    try:
        subprocess.run([*compose, "up", "--detach", "--wait"], check=True, capture_output=True, timeout=150)
        wait_until(lambda: all(len(records) > 50 for records in fleet.stored().values()))
        text = docker("inspect", *(each["Id"] for each in fleet.containers().values()))
        assert not [secret for secret in secrets.values() if secret.decode().split()[-1] in text]
    finally:
        subprocess.run([*compose, "down", "--volumes"], check=True, capture_output=True, timeout=120)
