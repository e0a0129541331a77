"""Engines in trouble: one is restarted while ``up`` makes containers, one has no addresses left."""

import contextlib
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from engines import BASE, STANDIN, turn
from fleets import Fleet, docker
from waiting import PATIENCE

pytestmark = [pytest.mark.docker, pytest.mark.slow]

SIX = {f"part{number}": f"C{number}-USD" for number in range(6)}


@pytest.fixture
def fleet(restartable_engine, tmp_path):
    restartable_engine.give(BASE)
    restartable_engine.build(STANDIN, Path(__file__).parent / "engines" / "standin")
    with turn("trouble"):
        yield (fleet := Fleet(tmp_path, STANDIN))
        fleet.remove()


def test_up_names_the_collectors_that_failed_and_the_next_up_continues(fleet, restartable_engine):
    fleet.write(SIX | {"part5": "NEVER-READY"})  # so that it is not through before the engine is gone
    command = [sys.executable, "-m", "launcher", "up", str(fleet.path), "--wait-timeout", "10m"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = process.stderr.readline()
        while "ready" not in said:
            said += process.stderr.readline()
        with restartable_engine.restarted():
            out, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "Traceback" not in rest
    assert "failed" in out or "engine" in rest, (out, rest)
    fleet.write(SIX)
    assert fleet.launch("up") == 0
    containers = fleet.containers()
    assert containers.keys() == SIX.keys()
    assert all(each["State"]["Running"] for each in containers.values())
    assert len(docker("ps", "--all", "--quiet").split()) == len(SIX), "nothing twice, and no lock"
    assert fleet.launch("plan") == 0


def test_doctor_and_up_report_that_no_network_address_is_left(fleet, restartable_engine, capsys):
    fleet.write({"one": "BTC-USD"})
    made = []
    with contextlib.suppress(AssertionError):
        for number in itertools.count():
            restartable_engine.docker("network", "create", f"of-others-{number}")
            made.append(f"of-others-{number}")
    try:
        said = {}
        for command in ("doctor", "up"):
            assert fleet.launch(command) == 1
            said[command] = "".join(capsys.readouterr())
    finally:
        restartable_engine.docker("network", "rm", *made)
    for text in said.values():
        assert "address pool" in text
        assert "`docker network prune` removes networks that nothing uses" in text
    assert not fleet.containers()
