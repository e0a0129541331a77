"""Ctrl-C while containers are changed."""

import signal
import subprocess
import sys

import pytest
from fleets import docker, inspect
from waiting import PATIENCE

pytestmark = pytest.mark.docker

TWO = {"one": "BTC-USD", "two": "ETH-USD"}


def interrupted(fleet, until, *arguments, by=signal.SIGINT):
    """Runs ``up`` and interrupts it at the line that has ``until``; status, what it said."""
    command = [sys.executable, "-m", "launcher", "up", str(fleet.path), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if until in line:
                break
        process.send_signal(by)
        out, rest = process.communicate(timeout=PATIENCE)  # it would wait for 10 minutes
    return process.returncode, "".join(said) + rest + out


def test_an_interrupted_update_stops_soon_and_the_next_one_continues(fleet):
    fleet.write(TWO)
    assert fleet.launch("up") == 0
    fleet.write(dict.fromkeys(TWO, "NEVER-READY"))
    status, said = interrupted(fleet, "waiting (store away", "--wait-timeout", "10m")
    assert status == 130
    assert said.count("stopping...") == 1
    assert said.endswith("interrupted; run the same command again to continue\n")
    assert not docker("ps", "-aq", "--filter", f"name={fleet.name}.lock")
    fleet.write(dict.fromkeys(TWO, "SOL-USD"))
    assert fleet.launch("up") == 0
    names = docker("ps", "-a", "--format", "{{.Names}}", "--filter", f"name={fleet.name}").split()
    assert sorted(names) == [f"{fleet.name}-one", f"{fleet.name}-two"]


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_or_closed_terminal_leaves_no_collector_stopped(fleet, by):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    fleet.write({"one": "ETH-USD"})
    status, said = interrupted(fleet, "one: recreating", "--no-check", by=by)
    assert status in (0, 130), said
    (container,) = inspect(f"{fleet.name}-one")
    assert container["State"]["Running"]
    assert "SYMBOLS=ETH-USD" in container["Config"]["Env"]


def test_an_abandoned_successor_is_removed_by_the_next_up(fleet):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    fleet.write({"one": "ETH-USD"})
    interrupted(fleet, "one: recreating", "--no-check", by=signal.SIGKILL)
    assert fleet.launch("up") == 0
    names = docker("ps", "-a", "--format", "{{.Names}}", "--filter", f"name={fleet.name}").split()
    assert names == [f"{fleet.name}-one"]
    (container,) = inspect(f"{fleet.name}-one")
    assert container["State"]["Running"]
    assert "SYMBOLS=ETH-USD" in container["Config"]["Env"]


@pytest.mark.parametrize("unread", ["stdout", "stderr"])
def test_a_closed_output_does_not_interrupt_the_work(fleet, unread):
    """As in ``launcher up --json | head -1``."""
    fleet.write(TWO)
    command = [sys.executable, "-m", "launcher", "up", str(fleet.path)]
    command += ["--json"] if unread == "stdout" else []
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | {unread: subprocess.PIPE}
    with subprocess.Popen(command, text=True, **streams) as process:
        stream = getattr(process, unread)
        assert "creating" in stream.readline()
        stream.close()
        assert process.wait(timeout=PATIENCE) == 0
    assert {name: each["State"]["Running"] for name, each in fleet.containers().items()} == dict.fromkeys(
        TWO, True
    )
    assert fleet.launch("plan") == 0


def test_an_update_that_has_finished_is_not_interrupted(fleet):
    fleet.write({"one": "BTC-USD"})
    status, said = interrupted(fleet, "one: ready")
    assert status == 0
    assert "interrupted" not in said
