"""``doctor`` on a real engine; what it finds inside a container is tested with the collector."""

import json

import pytest
from fleets import docker

pytestmark = pytest.mark.docker


def found(fleet, capsys, *arguments):
    """The exit status, and the findings by collector and what was tried."""
    capsys.readouterr()
    status = fleet.launch("doctor", "--json", *arguments)
    findings = json.loads(capsys.readouterr().out)
    return status, {(each["collector"], each["what"]): each for each in findings}


def everything(fleet):
    containers = docker("ps", "-aq", "--filter", f"name={fleet.name}").split()
    return [*containers, *fleet.things("volume"), *fleet.things("network")]


def test_what_is_wrong_is_told_with_its_remedy_and_nothing_is_left_behind(fleet, capsys):
    store = {"backend": "REDIS", "host": "redis", "password": "canary"}
    fleet.write(
        {"fine": "BTC-USD", "away": "NEVER-READY", "wrong": "WRONG-SETTINGS"}, stores={"redis": store}
    )
    status, findings = found(fleet, capsys)
    assert status == 1
    states = {key: each["state"] for key, each in findings.items()}
    assert states == {
        (None, "engine"): "fine", (None, "image"): "fine", (None, "network"): "fine",
        ("fine", "store"): "fine", ("away", "store"): "fault", ("wrong", "settings"): "fault",
    }  # fmt: skip
    assert findings["away", "store"]["remedy"] == "start it"
    assert "SYMBOLS = 'WRONG-SETTINGS': no such symbol" in findings["wrong", "settings"]["detail"]
    assert "canary" not in str(findings)
    assert everything(fleet) == []
    assert fleet.launch("doctor") == 1
    said = capsys.readouterr().out
    assert "away             store     fault    connection refused" in said
    assert f"fleet {fleet.name}: 2 faults" in said


def test_a_fleet_that_runs_is_not_disturbed(fleet, capsys):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    before, there = fleet.identities(), everything(fleet)
    assert found(fleet, capsys)[0] == 0
    assert (fleet.identities(), everything(fleet)) == (before, there)


def test_what_is_missing_on_the_engine(fleet, capsys):
    network = f"{fleet.name}-outside"
    fleet.write({"one": "BTC-USD"}, network={"name": network, "external": True})
    status, findings = found(fleet, capsys)
    assert status == 1
    assert f"docker network create {network}" in findings[None, "network"]["detail"]
    fleet.image = "cryptostore-not-built:test"
    fleet.write({"one": "BTC-USD"})
    status, findings = found(fleet, capsys)
    assert status == 1
    assert "docker build" in findings[None, "image"]["detail"]


def test_a_simulator_that_is_not_up(fleet, capsys):
    fleet.write({"one": "BTC-USD"}, source="simulated")
    status, findings = found(fleet, capsys)
    assert (status, findings[None, "exchange"]["state"]) == (0, "warning")
