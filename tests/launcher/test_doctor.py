"""``doctor``, ``plan`` and ``up`` agree on what is wrong with an engine.

What a collector finds from inside its container is tested with the real image, in tests/end_to_end.
"""

import contextlib
import json
import subprocess

import pytest
from engines import LABEL
from fleets import docker

pytestmark = pytest.mark.docker

ONE = {"one": "BTC-USD"}
#: Nothing is ever tagged with it.
NOT_BUILT = "cryptostore-not-built:test"
#: What the stand-in is built on: no collector, no simulator and no server.
BASE = "python:3.13-slim-trixie"


def found(fleet, capsys, *arguments):
    """The exit status, and the findings by collector and what was tried."""
    capsys.readouterr()
    status = fleet.launch("doctor", "--json", *arguments)
    findings = json.loads(capsys.readouterr().out)
    return status, {(each["collector"], each["what"]): each for each in findings}


def faults(findings):
    return {key for key, each in findings.items() if each["state"] == "fault"}


def everything(fleet):
    containers = docker("ps", "-aq", "--filter", f"name={fleet.name}").split()
    return [*containers, *fleet.things("volume"), *fleet.things("network")]


def test_what_is_wrong_is_told_with_its_remedy_and_nothing_is_left_behind(fleet, capsys):
    store = {"backend": "REDIS", "host": "redis", "password": "canary-7c3f1"}
    fleet.write(
        {"fine": "BTC-USD", "away": "NEVER-READY", "wrong": "WRONG-SETTINGS"}, stores={"redis": store}
    )
    status, findings = found(fleet, capsys)
    assert status == 1
    assert faults(findings) == {("away", "store"), ("wrong", "settings")}
    skipped = {key for key, each in findings.items() if each["state"] == "skipped"}
    assert skipped == {("wrong", what) for what in ("spool", "store", "symbols", "clock")}
    assert findings["away", "store"]["remedy"] == "start it"
    assert "SYMBOLS = 'WRONG-SETTINGS': no such symbol" in findings["wrong", "settings"]["detail"]
    assert "canary" not in str(findings)
    assert everything(fleet) == []
    assert fleet.launch("doctor") == 1
    said = capsys.readouterr().out
    assert "away             store     fault    connection refused" in said
    assert "  spool, store, symbols, clock of wrong: its check came no further than settings" in said
    assert f"fleet {fleet.name}: 2 faults; 4 checks could not be made" in said


def test_one_cause_of_many_collectors_is_one_line(fleet, capsys):
    fleet.write({f"c{number:02}": "NEVER-READY" for number in range(8)})
    assert fleet.launch("doctor") == 1
    said = capsys.readouterr().out
    assert said.count("connection refused") == said.count("start it") == 1
    assert "8 collectors     store     fault    connection refused (c00, c01, c02, c03, c04 and 3 m" in said


def test_a_fleet_that_runs_is_not_disturbed(fleet, capsys):
    fleet.write(ONE, source="simulated")
    assert fleet.launch("up") == 0
    before, there = fleet.identities(), everything(fleet)
    assert found(fleet, capsys)[0] == 0
    assert (fleet.identities(), everything(fleet)) == (before, there)


def test_before_the_first_up_nothing_is_left_out(fleet, capsys):
    """A simulator and a network that are not there yet are there for the checks."""
    fleet.write(ONE, source="simulated")
    status, findings = found(fleet, capsys)
    assert (status, {each["state"] for each in findings.values()}) == (0, {"fine"})
    assert ("simulator", "server") in findings
    assert everything(fleet) == []


def test_a_server_that_is_down_beside_a_fleet_that_runs_is_not_stood_in_for(fleet, capsys):
    fleet.write(ONE, source="simulated")
    assert fleet.launch("up") == 0
    docker("stop", "--time", "1", f"{fleet.name}-simulator")
    before = fleet.identities()
    status, findings = found(fleet, capsys)
    assert status == 3
    assert {key for key, each in findings.items() if each["state"] == "skipped"} == {
        ("one", "symbols"), ("one", "clock"),
    }  # fmt: skip
    assert "`launcher up` starts it" in findings["one", "symbols"]["detail"]
    assert fleet.identities() == before
    assert fleet.launch("doctor") == 3
    assert "no fault was found, but 2 checks could not be made" in capsys.readouterr().out


def test_what_a_doctor_left_that_was_killed_is_not_in_the_way(fleet, capsys):
    labels = f"--label=cryptostore.fleet={fleet.name}", "--label=cryptostore.managed-by=launcher"
    of_one = "--label=cryptostore.collector=one"
    docker("create", "--name", f"{fleet.name}-one.check", *labels, of_one, fleet.image)
    docker("network", "create", *labels, f"{fleet.name}_check")
    fleet.write(ONE)
    assert found(fleet, capsys)[0] == 0
    assert everything(fleet) == []


class World:
    """Something that is not as ``up`` needs it.

    Attributes:
        fleet: the fleet.
        keys: what its file has beside the usual keys.
    """

    def __init__(self, fleet):
        self.fleet = fleet
        self.folder = fleet.path.parent
        self.collectors = ONE
        self.keys = {}
        self.undo = []

    def write(self):
        self.fleet.write(self.collectors, **self.keys)

    def make(self, *words):
        """Has Docker make something of somebody else's; ``mend`` removes it."""
        verb = next(place for place, word in enumerate(words) if word in ("create", "run")) + 1
        made = docker(*words[:verb], "--label", LABEL, *words[verb:])
        kind = words[0] if words[0] in ("network", "volume") else "container"
        options = ("--force", "--volumes") if kind == "container" else ()
        self.undo.append(lambda: docker(kind, "rm", *options, made))

    def mend(self):
        for undo in reversed(self.undo):
            undo()
        self.undo.clear()


def missing_image(world):
    good, world.fleet.image = world.fleet.image, NOT_BUILT
    world.undo.append(lambda: setattr(world.fleet, "image", good))


def missing_network(world):
    world.keys["network"] = {"name": f"{world.fleet.name}-outside", "external": True}
    world.undo.append(lambda: docker("network", "create", "--label", LABEL, f"{world.fleet.name}-outside"))


def taken_network(world):
    world.make("network", "create", world.fleet.name)


def taken_container(world):
    world.make("create", "--name", f"{world.fleet.name}-one", world.fleet.image)


def taken_by_compose(world):
    labels = f"--label=cryptostore.fleet={world.fleet.name}", "--label=cryptostore.collector=one"
    world.make("create", *labels, "--name", f"{world.fleet.name}-one", world.fleet.image)


def _changed(world):
    """A fleet that runs, and whose collector has to be replaced."""
    world.write()
    assert world.fleet.launch("up") == 0
    world.collectors = {"one": "ETH-USD"}


def taken_successor(world):
    _changed(world)
    world.make("create", "--name", f"{world.fleet.name}-one.next", world.fleet.image)


def taken_predecessor(world):
    _changed(world)
    world.make("create", "--name", f"{world.fleet.name}-one.previous", world.fleet.image)


def taken_simulator(world):
    world.keys["source"] = "simulated"
    world.make("create", "--name", f"{world.fleet.name}-simulator", world.fleet.image)


def taken_lock(world):
    world.make("run", "--detach", "--name", f"{world.fleet.name}.lock", world.fleet.image, "sleep")


def too_many_processors(world):
    world.keys["defaults"] = {"limits": {"cpus": 4000}}
    world.undo.append(world.keys.clear)


def missing_folder(world):
    folder = world.folder / "records"
    world.keys["stores"] = {"files": {"backend": "PARQUET", "path": str(folder)}}
    world.undo.append(folder.mkdir)


def wrong_settings(world):
    world.collectors = {"one": "WRONG-SETTINGS"}
    world.undo.append(lambda: setattr(world, "collectors", ONE))


def image_of_another_program(world):
    good, world.fleet.image = world.fleet.image, BASE
    world.undo.append(lambda: setattr(world.fleet, "image", good))


def simulator_that_ends(world):
    good, world.fleet.image = world.fleet.image, f"{world.fleet.name}:broken"
    world.fleet.build(f'FROM {BASE}\nENTRYPOINT ["python", "-m", "collector"]\n', world.folder)
    world.undo.append(lambda: docker("rmi", "--force", f"{world.fleet.name}:broken"))
    world.undo.append(lambda: setattr(world.fleet, "image", good))
    world.keys["source"] = "simulated"


def _managed(world, image):
    world.keys["stores"] = {"db": {"backend": "REDIS", "manage": True, "image": image}}


def missing_image_of_a_store(world):
    _managed(world, NOT_BUILT)
    world.undo.append(world.keys.clear)


def store_that_ends(world):
    _managed(world, BASE)
    world.undo.append(world.keys.clear)


def lost_password(world):
    store = {"backend": "POSTGRES", "manage": True, "database": "market", "image": world.fleet.image}
    world.keys["stores"] = {"db": store}
    label = f"cryptostore.fleet={world.fleet.name}"
    world.make("volume", "create", "--label", label, f"{world.fleet.name}-db-postgres-data")
    world.undo.append(world.keys.clear)


#: Each world, with whose what ``doctor`` finds wrong, and what ``up`` says of it, too.
WORLDS = [
    (missing_image, ("one", "image"), "no image cryptostore-not-built:test on the engine"),
    (missing_image_of_a_store, ("db", "image"), "`docker pull cryptostore-not-built:test`"),
    (missing_network, (None, "network"), "-outside does not exist"),
    (taken_network, (None, "network"), "is there already and not of fleet"),
    (taken_container, ("one", "name"), "-one is taken by container"),
    (taken_by_compose, ("one", "name"), "managed by compose"),
    (taken_successor, ("one", "name"), "-one.next is taken by container"),
    (taken_predecessor, ("one", "name"), "-one.previous is taken by container"),
    (taken_simulator, ("simulator", "name"), "-simulator is taken by container"),
    (taken_lock, (None, "lock"), ".lock is there, and it is no lock of a launcher"),
    (too_many_processors, ("one", "limits"), "limits.cpus 4000: the engine's machine has"),
    (missing_folder, ("one", "container"), "records is not on the engine's machine; make it there"),
    (wrong_settings, ("one", "settings"), "SYMBOLS = 'WRONG-SETTINGS': no such symbol"),
    (image_of_another_program, ("one", "image"), "is another program's: it starts `python3`"),
    (simulator_that_ends, ("simulator", "server"), "No module named 'collector'"),
    (store_that_ends, ("db", "server"), "exec redis-server failed"),
    (lost_password, ("db", "store"), "the password that it opens to is lost"),
]


@pytest.fixture
def world(fleet):
    world = World(fleet)
    yield world
    with contextlib.suppress(subprocess.CalledProcessError):
        world.mend()


@pytest.mark.parametrize(("broken", "where", "said"), WORLDS, ids=[broken.__name__ for broken, *_ in WORLDS])
def test_what_up_fails_with_doctor_has_named_and_where_doctor_finds_nothing_up_succeeds(
    world, capsys, broken, where, said
):
    broken(world)
    world.write()
    before = world.fleet.identities()
    status, findings = found(world.fleet, capsys)
    assert status == 1
    assert where in faults(findings)
    assert said in f"{findings[where]['detail']} {findings[where]['remedy']}"
    assert world.fleet.launch("up", "--wait-timeout", "20s") == 1
    assert said in capsys.readouterr().err
    if where[1] in ("image", "network", "name", "lock", "limits"):
        assert world.fleet.identities() == before  # nothing was touched
    if where[1] in ("image", "network", "name", "limits"):
        assert world.fleet.launch("plan") == 1
        assert said in capsys.readouterr().out

    world.mend()
    world.write()
    status, findings = found(world.fleet, capsys)
    assert (status, faults(findings)) == (0, set())
    assert world.fleet.launch("up", "--yes") == 0


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"defaults": {"limits": {"memory": "5MiB"}}}, "memory '5MiB': takes at least 6MiB"),
        ({"defaults": {"config": "keys.yaml"}}, "there is no such file"),
        ({"stores": {"r": {"backend": "REDIS", "password_file": "secret"}}}, "there is no such file"),
        ({"stores": {"r": {"backend": "REDIS", "host": "${NOT_SET_ANYWHERE}"}}}, "NOT_SET_ANYWHERE"),
        ({"network": "host"}, "not bridge, host or none"),
    ],
)
def test_what_the_file_alone_shows_both_say_before_they_ask_the_engine(fleet, capsys, keys, said):
    fleet.write(ONE, **keys)
    for command in "doctor", "up":
        assert fleet.launch(command) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "address", "said"),
    [
        ({}, "unix:///nowhere/docker.sock", "no Docker engine is reachable"),
        ({"engine": "swarm"}, None, "is no manager of a swarm"),
    ],
)
def test_without_an_engine_every_check_of_a_collector_is_counted(
    fleet, capsys, monkeypatch, keys, address, said
):
    fleet.write(ONE, **keys)
    with monkeypatch.context() as context:
        if address:
            context.setenv("DOCKER_HOST", address)
        status, findings = found(fleet, capsys)
        assert (status, faults(findings)) == (1, {(None, "engine")})
        assert said in findings[None, "engine"]["detail"]
        assert sum(each["state"] == "skipped" for each in findings.values()) == 5
        assert fleet.launch("up") == 1
        assert said in capsys.readouterr().err
