"""Ctrl-C while containers are changed."""

import signal
import subprocess
import sys

import pytest
from fleets import docker
from waiting import PATIENCE

pytestmark = pytest.mark.docker

TWO = {"one": "BTC-USD", "two": "ETH-USD"}


def interrupted(fleet, until, *arguments):
    """Runs ``up``, presses Ctrl-C at the line that has ``until``; status, what it said."""
    command = [sys.executable, "-m", "launcher", "up", str(fleet.path), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if until in line:
                break
        process.send_signal(signal.SIGINT)
        out, rest = process.communicate(timeout=PATIENCE)  # it would wait for 10 minutes
    return process.returncode, "".join(said) + rest + out


def test_a_rolling_update_stops_soon_and_the_next_one_goes_on(fleet):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    fleet.write(dict.fromkeys(TWO, "NEVER-READY"))
    status, said = interrupted(fleet, "waiting (store away", "--wait-timeout", "10m")
    assert status == 130
    assert said.count("stopping...") == 1
    assert said.endswith("interrupted; the same command again goes on from here\n")
    assert not docker("ps", "-aq", "--filter", f"name={fleet.name}.lock")
    fleet.write(dict.fromkeys(TWO, "SOL-USD"))
    assert fleet.launch("up") == 0
    names = docker("ps", "-a", "--format", "{{.Names}}", "--filter", f"name={fleet.name}").split()
    assert sorted(names) == [f"{fleet.name}-one", f"{fleet.name}-two"]


def test_what_had_finished_is_not_interrupted(fleet):
    fleet.write({"one": "BTC-USD"})
    status, said = interrupted(fleet, "one: ready")
    assert status == 0
    assert "interrupted" not in said
