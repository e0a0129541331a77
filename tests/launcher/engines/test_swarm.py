"""``engine: swarm`` on a real swarm of one node, with a stand-in for the collector."""

import contextlib
import json
import os
import signal
import subprocess

import pytest
from fleets import Fleet, docker, inspect
from waiting import wait_until

from launcher import cli

pytestmark = [pytest.mark.docker, pytest.mark.slow]

CANARY = "Canary-1-in-a-swarm"
STORES = {"redis": {"backend": "REDIS", "host": "redis", "password": CANARY}}


class Services(Fleet):
    """A fleet on a swarm."""

    def write(self, collectors, **keys):
        super().write(collectors, **{"engine": "swarm", "stores": STORES, **keys})

    def things(self, kind):
        return sorted(super().things(kind))

    def label(self, how="add"):
        value = "=true" if how == "add" else ""
        node = docker("node", "ls", "--quiet")
        docker("node", "update", f"--label-{how}", f"cryptostore.{self.name}{value}", node)

    def service(self, name):
        return inspect(f"{self.name}-{name}")[0]

    def container(self, name):
        """The one container of a collector that runs."""
        of = f"label=com.docker.swarm.service.name={self.name}-{name}"
        ids = []

        def alone():
            ids[:] = docker("ps", "--quiet", "--filter", of).split()
            return len(ids) == 1

        wait_until(alone)
        return inspect(*ids)[0]

    def remove(self):
        for name in self.things("service"):
            docker("service", "rm", name)
        wait_until(lambda: not docker("ps", "-aq", "--filter", f"name={self.name}"))
        for kind in ("secret", "network", "volume"):
            for name in self.things(kind):
                with contextlib.suppress(subprocess.CalledProcessError):
                    docker(kind, "rm", name)
        self.label("rm")


@pytest.fixture
def fleet(engine, swarm, tmp_path):
    swarm.give(engine)
    fleet = Services(tmp_path, engine)
    fleet.label()
    yield fleet
    fleet.remove()


def planned(fleet, capsys):
    """The exit status of ``plan``, and its actions by collector: what, why, and the keys that differ."""
    capsys.readouterr()
    status = fleet.launch("plan", "--json")
    actions = json.loads(capsys.readouterr().out)["actions"]
    told = {
        each["collector"]: (each["action"], each["reason"], [change["key"] for change in each["changes"]])
        for each in actions
    }
    return status, told


def test_a_fleet_lives_on_a_swarm(fleet, capsys):
    """From its first `plan` to `down`: created, unchanged, scaled and changed by hand, edited, restarted."""
    fleet.label("rm")
    fleet.write({"one": "BTC-USD", "two": "ETH-USD", "gone": "SOL-USD"})
    assert fleet.launch("up") == 1
    assert f"docker node update --label-add cryptostore.{fleet.name}=true NODE" in capsys.readouterr().err
    fleet.label()
    assert fleet.launch("doctor") == 0
    said = capsys.readouterr().out
    assert "manager of a swarm" in said
    assert "one              store     fine     everything is fine" in said
    assert [fleet.things(kind) for kind in ("service", "secret", "network", "volume")] == [[]] * 4
    assert planned(fleet, capsys)[1]["one"] == ("create", "does not exist yet", [])
    assert fleet.launch("up") == 0
    assert "3 created" in capsys.readouterr().out
    assert planned(fleet, capsys) == (
        0,
        dict.fromkeys(("one", "two", "gone"), ("unchanged", "matches the file", [])),
    )
    service, container = fleet.service("one"), fleet.container("one")
    assert CANARY not in json.dumps([service, container])
    assert docker("exec", container["Id"], "cat", "/run/secrets/password") == CANARY
    assert docker("exec", container["Id"], "stat", "-c", "%u %a", "/run/secrets/password") == "10001 400"
    assert service["Spec"]["UpdateConfig"]["Order"] == "stop-first"
    placement = service["Spec"]["TaskTemplate"]["Placement"]["Constraints"]
    assert placement == [f"node.labels.cryptostore.{fleet.name} == true"]
    host = container["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["PidsLimit"], host["Init"]) == (
        True,
        ["ALL"],
        256,
        True,
    )

    # What somebody did by hand; the new task is of the service as it should be.
    docker("service", "scale", "--detach", f"{fleet.name}-one=2")
    docker("service", "update", "--detach", "--limit-memory", "64m", f"{fleet.name}-two")
    status, told = planned(fleet, capsys)
    assert status == 2
    assert told["one"] == ("update", "replicas changed by hand", ["replicas"])
    assert told["two"] == ("update", "memory changed by hand", ["memory"])
    # And an edit on top: one gets other symbols and all another password, one goes, one comes.
    another = {"redis": STORES["redis"] | {"password": f"{CANARY}-2"}}
    fleet.write({"one": "ADA-USD", "two": "ETH-USD", "new": "DOT-USD"}, stores=another)
    assert planned(fleet, capsys)[1] == {
        "one": (
            "update",
            "SYMBOLS, replicas, secret password changed",
            ["SYMBOLS", "replicas", "secret password"],
        ),
        "two": ("update", "memory, secret password changed by hand", ["memory", "secret password"]),
        "new": ("create", "does not exist yet", []),
        "gone": ("remove", "is not in the file", []),
    }
    fleet.launch("plan")
    assert "SYMBOLS: BTC-USD -> ADA-USD (needs a new container)" in capsys.readouterr().out
    assert fleet.launch("up") == 2  # nobody has agreed that one goes
    assert "this removes collector gone" in capsys.readouterr().err
    assert fleet.launch("up", "--yes") == 0
    said = capsys.readouterr()
    assert "1 created, 2 updated, 1 removed" in said.out
    assert " s unseen" in said.out
    assert "one: checking" in said.err
    assert docker("exec", fleet.container("one")["Id"], "cat", "/run/secrets/password") == f"{CANARY}-2"
    assert len(fleet.things("secret")) == 3  # those of before are gone
    assert planned(fleet, capsys)[0] == 0

    (fleet.path.parent / "other").mkdir()
    theirs = fleet.path.parent / "other" / "fleet.yaml"
    theirs.write_text(fleet.path.read_text())
    for command in ("plan", "up", "restart", "down"):
        assert cli.main([command, str(theirs)]) == 1
        assert f"another fleet named {fleet.name} runs here: " in capsys.readouterr().err
    assert cli.main(["up", str(theirs), "--adopt"]) == 0
    assert fleet.launch("up") == 1  # it is theirs now
    fleet.path = theirs
    assert planned(fleet, capsys)[0] == 0

    before = fleet.container("one")["Id"]
    assert fleet.launch("restart", "one") == 0
    assert fleet.container("one")["Id"] != before
    capsys.readouterr()
    assert fleet.launch("status", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["collector"]: (row["state"], row["config"]) for row in rows} == dict.fromkeys(
        ("one", "two", "new"), ("ready", "current")
    )
    assert fleet.launch("logs", "one", "--tail", "1") == 0
    assert "INFO standin: starting ADA-USD" in capsys.readouterr().out
    command = ["docker", "service", "logs", "--raw", "--timestamps", f"{fleet.name}-one"]
    stamped = subprocess.run(command, capture_output=True, check=True, text=True).stderr.splitlines()
    times, lines = zip(*sorted(line.split(" ", 1) for line in stamped), strict=True)
    for since, shown in (("1h", lines), (times[-1], lines[-1:]), ("2100-01-01", ())):
        assert fleet.launch("logs", "one", "--since", since) == 0
        assert tuple(capsys.readouterr().out.splitlines()) == shown
    assert cli.main(["down", "--fleet", fleet.name, "--volumes", "--yes"]) == 0
    said = capsys.readouterr().out
    assert f"3 removed, network {fleet.name} removed, 4 volumes removed" in said
    assert [fleet.things(kind) for kind in ("service", "secret", "network", "volume")] == [[]] * 4


def test_an_update_that_fails_is_rolled_back_and_stops_the_roll_out(fleet, capsys):
    fleet.write({"one": "BTC-USD", "two": "ETH-USD"})
    fleet.launch("up")
    before = {name: fleet.container(name)["Id"] for name in ("one", "two")}
    fleet.write({"one": "WRONG-SETTINGS", "two": "SOL-USD"})
    capsys.readouterr()
    assert fleet.launch("up", "--parallelism", "1") == 1
    said = capsys.readouterr()
    assert "the old container was left as it is\n  the fault is shown below; --no-check" in said.err
    assert "| a careless line with ***" in said.err
    assert "left as it was, because the update of one failed" in said.out
    assert {name: fleet.container(name)["Id"] for name in ("one", "two")} == before

    for part, why in (("ENDS-EARLY", "non-zero exit (1)"), ("REFUSED-USD", "refused by the exchange")):
        fleet.write({"one": part, "two": "SOL-USD"})
        assert fleet.launch("up", "--parallelism", "1") == 1
        said = capsys.readouterr()
        assert why in said.err or "the swarm takes it back" in said.err
        assert "the swarm has rolled the service back" in said.err
        assert "left as it was, because the update of one failed" in said.out
        assert "SYMBOLS=BTC-USD" in fleet.container("one")["Config"]["Env"]
        assert fleet.container("two")["Id"] == before["two"]
    fleet.write({"one": "BTC-USD", "two": "ETH-USD"})
    assert planned(fleet, capsys)[0] == 0
    assert fleet.launch("up") == 0


def test_the_swarm_starts_a_collector_again_and_down_keeps_what_is_not_stored(fleet, capsys):
    fleet.write({"full": "NOT-STORED", "empty": "BTC-USD"})
    fleet.launch("up")
    before = fleet.container("empty")
    os.kill(before["State"]["Pid"], signal.SIGKILL)
    again = f"label=com.docker.swarm.service.name={fleet.name}-empty"
    wait_until(lambda: {*docker("ps", "--quiet", "--no-trunc", "--filter", again).split()} - {before["Id"]})
    assert fleet.launch("up") == 0
    capsys.readouterr()
    assert fleet.launch("down") == 0
    said = capsys.readouterr()
    assert "full: its spool is kept: it holds 1,234 records that are not stored" in said.err
    assert "2 volumes kept (--volumes removes them)" in said.out
    assert fleet.launch("down", "--volumes") == 1
    assert (
        f"volume {fleet.name}-full-spool holds 1,234 records that are not stored" in capsys.readouterr().err
    )
    assert fleet.launch("down", "--volumes", "--yes") == 0
    assert not fleet.things("volume")


def test_a_fleet_has_one_engine(fleet, capsys):
    """Containers of the same fleet are in the way before anything is touched."""
    fleet.write({"one": "BTC-USD"}, engine="docker")
    assert fleet.launch("up") == 0
    try:
        fleet.write({"one": "BTC-USD"})
        capsys.readouterr()
        assert fleet.launch("plan") == 1
        assert "a spool has one collector" in capsys.readouterr().err
        assert not fleet.things("service")
    finally:
        fleet.write({"one": "BTC-USD"}, engine="docker")
        fleet.launch("down", "--volumes")
