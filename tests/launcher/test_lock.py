"""Two who change one fleet at once, and one who is killed while he does."""

import re
import signal
import subprocess
import sys

import pytest
from fleets import docker, inspect
from waiting import PATIENCE, wait_until

import launcher.engines.docker
from launcher.engines import EngineError
from launcher.engines.docker import DockerEngine

pytestmark = pytest.mark.docker


@pytest.fixture
def held(fleet):
    """The fleet's lock, held by another process, which is returned."""
    program = (
        "import sys; from launcher.engines.docker import DockerEngine\n"
        "with DockerEngine.connect(1).lock(*sys.argv[1:], 'alice on other (process 7)'):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, fleet.name, fleet.image],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    yield holder
    holder.kill()
    holder.communicate()


def test_a_second_launcher_is_told_who_has_the_lock_and_since_when(fleet, held, capsys):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 1
    said = capsys.readouterr().err
    assert re.search(
        rf"nothing was touched: {fleet.name} is being changed by alice on other \(process 7\) since 20\d\d-",
        said,
    )
    assert not fleet.containers()
    assert fleet.launch("plan") == 2  # whoever only looks needs no lock


def test_a_killed_launcher_leaves_no_lock(fleet, held):
    held.send_signal(signal.SIGKILL)
    held.wait()
    fleet.write({"one": "BTC-USD"})
    wait_until(lambda: fleet.launch("up") == 0)  # the end of a connection takes its way
    assert not docker("ps", "-aq", "--filter", f"name={fleet.name}.lock")


def test_restart_and_down_hold_the_lock_too(fleet, capsys):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    with DockerEngine.connect(1).lock(fleet.name, fleet.image, "bob"):
        assert [fleet.launch(command) for command in ("restart", "down")] == [1, 1]
        assert fleet.launch("up") == 0  # it changes nothing
    assert capsys.readouterr().err.count("is being changed by bob") == 2
    assert fleet.launch("down") == 0


def test_a_lock_that_never_started_is_no_obstacle(fleet, monkeypatch):
    monkeypatch.setattr("launcher.engines.docker._LOCK_LEFT", 0.5)
    label = "cryptostore.locked-by=somebody"
    docker("create", "--name", f"{fleet.name}.lock", "--label", label, fleet.image)
    with DockerEngine.connect(1).lock(fleet.name, fleet.image, "carol"):
        (lock,) = inspect(f"{fleet.name}.lock")
        assert lock["State"]["Running"]


def test_nothing_is_removed_before_the_lock_runs(fleet, monkeypatch, capsys):
    """Its name alone keeps others out for no longer than they take it for left behind."""
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    request = launcher.engines.docker._lock_request
    with monkeypatch.context() as broken:
        broken.setattr(
            "launcher.engines.docker._lock_request", lambda *about: request(*about) | {"Entrypoint": ["no"]}
        )
        assert fleet.launch("down", "--volumes", "--yes") == 1
    assert f"fleet {fleet.name} cannot be locked" in capsys.readouterr().err
    assert fleet.containers()["one"]["State"]["Status"] == "exited"
    assert docker("volume", "ls", "--quiet", "--filter", f"name={fleet.name}-one-spool")
    assert not docker("ps", "-aq", "--filter", f"name={fleet.name}.lock")
    assert fleet.launch("down", "--volumes", "--yes") == 0
    assert not fleet.containers()


def test_a_running_lock_is_never_mistaken_for_a_leftover(fleet, held):
    (lock,) = inspect(f"{fleet.name}.lock")
    DockerEngine.connect(1)._remove_unless_running(lock["Id"])
    assert inspect(f"{fleet.name}.lock")[0]["State"]["Running"]


@pytest.mark.parametrize("killed", [False, True])
def test_a_lock_leaves_no_volume(fleet, held, killed):
    """The image asks for one."""
    (lock,) = inspect(f"{fleet.name}.lock")
    (volume,) = [mount["Name"] for mount in lock["Mounts"]]
    if killed:
        held.kill()
    else:
        held.communicate(b"", timeout=PATIENCE)
    wait_until(lambda: volume not in docker("volume", "ls", "--quiet").split())


def test_a_container_that_has_the_name_of_the_lock_is_left_alone(fleet, monkeypatch):
    monkeypatch.setattr("launcher.engines.docker._LOCK_LEFT", 0)
    theirs = docker("create", "--name", f"{fleet.name}.lock", fleet.image)
    try:
        with (
            pytest.raises(EngineError, match=r"\.lock is there, and it is no lock of a launcher"),
            DockerEngine.connect(1).lock(fleet.name, fleet.image, "carol"),
        ):
            pass
        assert docker("inspect", "--format", "{{.Id}}", theirs) == theirs
    finally:
        docker("rm", "--volumes", theirs)
