"""``doctor``, ``plan`` and ``up`` agree on what is wrong with an engine.

What a collector finds from inside its container is tested with the real image, in tests/end_to_end.
"""

import contextlib
import json
import subprocess

import pytest
from fleets import docker
from worlds import IN_FILE, NO_ENGINE, ON_ENGINE, ONE, WORLDS, Scene

pytestmark = pytest.mark.docker

#: What is wrong in these is seen before anything is touched.
SEEN_BEFORE = {"fleet", "image", "limits", "lock", "name", "network", "volume"}


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


def test_each_problem_is_reported_with_its_remedy_and_nothing_is_left_behind(fleet, capsys):
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
    assert "  spool, store, symbols, clock of wrong: its check stopped at settings" in said
    assert f"fleet {fleet.name}: 2 faults; 4 checks could not be made" in said


def test_a_cause_shared_by_many_collectors_is_one_line(fleet, capsys):
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


def test_before_the_first_up_no_check_is_skipped(fleet, capsys):
    """A simulator and a network that are not there yet are there for the checks."""
    fleet.write(ONE, source="simulated")
    status, findings = found(fleet, capsys)
    assert (status, {each["state"] for each in findings.values()}) == (0, {"fine"})
    assert ("simulator", "server") in findings
    assert everything(fleet) == []


def test_a_stopped_server_of_a_running_fleet_is_not_replaced(fleet, capsys):
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


def test_leftovers_of_a_killed_doctor_are_not_in_the_way(fleet, capsys):
    labels = f"--label=cryptostore.fleet={fleet.name}", "--label=cryptostore.managed-by=launcher"
    of_one = "--label=cryptostore.collector=one"
    docker("create", "--name", f"{fleet.name}-one.check", *labels, of_one, fleet.image)
    docker("network", "create", *labels, f"{fleet.name}_check")
    fleet.write(ONE)
    assert found(fleet, capsys)[0] == 0
    assert everything(fleet) == []


@pytest.fixture
def scene(fleet):
    scene = Scene(fleet)
    yield scene
    with contextlib.suppress(subprocess.CalledProcessError):
        scene.mend()


def named(worlds):
    return [
        pytest.param(world, id=world.name, marks=[pytest.mark.slow] if world.is_slow else [])
        for world in worlds
    ]


def test_there_are_thirty_distinct_worlds():
    assert len({world.name for world in WORLDS}) == len(WORLDS) >= 30


@pytest.mark.parametrize("world", named(ON_ENGINE))
def test_doctor_predicts_whether_up_succeeds_and_why_it_fails(scene, capsys, world):
    world.breaks(scene)
    scene.write()
    before = scene.fleet.identities()
    status, findings = found(scene.fleet, capsys)
    fault = findings[world.whose, world.what]
    assert (status, fault["state"]) == (1, "fault")
    assert world.said in f"{fault['detail']} {fault['remedy']}"
    assert scene.fleet.launch("up", "--wait-timeout", "20s") == 1
    assert world.said in capsys.readouterr().err
    if world.what in SEEN_BEFORE:
        assert scene.fleet.identities() == before  # nothing was touched
    if world.what in SEEN_BEFORE - {"lock"}:
        assert scene.fleet.launch("plan") == 1
        assert world.said in "".join(capsys.readouterr())

    scene.mend()
    scene.write()
    status, findings = found(scene.fleet, capsys)
    assert (status, faults(findings)) == (0, set())
    assert scene.fleet.launch("up", "--yes") == 0


@pytest.mark.parametrize("world", named(IN_FILE))
def test_faults_of_the_file_are_reported_before_asking_the_engine(fleet, capsys, world):
    fleet.write(ONE, **world.keys)
    said = []
    for command in "doctor", "up":
        assert fleet.launch(command) == 2
        said.append(capsys.readouterr().err)
    assert world.said in said[0]
    assert said[0] == said[1]


@pytest.mark.parametrize("world", named(NO_ENGINE))
def test_without_an_engine_every_check_of_a_collector_is_counted(fleet, capsys, monkeypatch, world):
    fleet.write(ONE, **world.keys)
    with monkeypatch.context() as context:
        if world.address:
            context.setenv("DOCKER_HOST", world.address)
        status, findings = found(fleet, capsys)
        assert (status, faults(findings)) == (1, {(world.whose, world.what)})
        assert world.said in findings[world.whose, world.what]["detail"]
        assert sum(each["state"] == "skipped" for each in findings.values()) == 5
        assert fleet.launch("up") == 1
        assert world.said in capsys.readouterr().err
