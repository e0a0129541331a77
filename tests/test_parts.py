"""The suite where parts are missing: it passes, and its last lines tell what was left out."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from parts import library

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent
#: For each part, as it is told: its programs and libraries, and tests that need it, of which several share
#: a fixture.
PARTS = {
    "Docker": (
        ("docker", "dockerd"),
        (
            *("launcher/test_lock.py", "launcher/test_render.py", "launcher/engines/test_swarm.py"),
            "end_to_end/test_fleet.py",
        ),
    ),
    "Redis": (("redis-server",), ("collector/stores/test_redis_connection.py", "soak/test_soak.py")),
    "PostgreSQL": (("postgres", "initdb", "psql"), ("collector/stores/test_postgres_partitions.py",)),
    "MongoDB": (("mongod", "ferretdb"), ("collector/stores/test_mongo.py",)),
    "pgbouncer": (("pgbouncer",), ("collector/stores/test_conformance.py", "-kpgbouncer")),
    "toxiproxy": (("toxiproxy-server", "go"), ("soak/test_soak.py",)),
    "ssh": (("ssh", "sshd"), ("launcher/test_remote.py", "-kssh")),
    "a Kubernetes API server": (("kubernetes-cluster",), ("launcher/test_kubernetes.py",)),
    "libfaketime": (("libfaketime.so.1",), ("end_to_end/test_hostile_surroundings.py", "-kclock")),
    "shells": (("zsh", "tcsh"), ("launcher/test_cli.py", "-kshells")),
}  # fmt: skip
COMPOSE = ("launcher/test_cli_containers.py::test_containers_made_by_compose_are_left_alone",)


@pytest.fixture
def programs():
    """A folder for programs that other users may look into, as Postgres' does."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def fill(programs, *hidden):
    """Every program of this machine, and every library that tests look for, but the ``hidden`` ones."""
    places = [*os.environ["PATH"].split(os.pathsep), "/usr/sbin"]
    for place in [*map(Path, places), *Path("/usr/lib/postgresql").glob("*/bin")]:
        for program in place.iterdir() if place.is_dir() else ():
            if program.name not in hidden and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    if (found := library("faketime/libfaketime.so.1")) and found.name not in hidden:
        (programs / found.name).symlink_to(found)


def run(programs, *arguments, **variables):
    """Runs a part of the suite with these programs, and without packages that carry servers."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CRYPTOSTORE_", "PYTEST_"))
    }
    environment |= {"PATH": str(programs), "CRYPTOSTORE_TEST_PATH": str(programs)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    ended = subprocess.run(
        command, cwd=TESTS, env=environment | variables, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout
    assert re.search(r"[1-9]\d* skipped", ended.stdout)
    return ended.stdout


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part_is_reported(part, programs, tmp_path):
    hidden, arguments = PARTS[part]
    fill(programs, *hidden)
    variables = {"DOCKER_HOST": f"unix://{tmp_path}/no.sock"} if part == "Docker" else {}
    told = "zsh" if part == "shells" else part
    assert f"left out: {told}: " in run(programs, *arguments, **variables)


def test_a_machine_without_any_part(programs, tmp_path):
    fill(programs, *(program for hidden, _ in PARTS.values() for program in hidden))
    files = {tests[0] for _, tests in PARTS.values()} | {*PARTS["Docker"][1]}
    files.remove("collector/stores/test_conformance.py")  # of which Parquet is not missing
    told = run(programs, *files, DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    told = {line.split(": ")[1] for line in told.splitlines() if line.startswith("left out: ")}
    # What needs pgbouncer or toxiproxy needs a store first.
    assert {*PARTS} - {"pgbouncer", "toxiproxy", "shells"} | {"zsh", "tcsh"} <= told


def test_a_docker_command_without_compose(users_engine, programs):
    fill(programs, "docker")
    (docker,) = [path for path in map(Path, os.get_exec_path()) if (path / "docker").exists()][:1]
    (programs / "docker").write_text(f'#!/bin/sh\n[ "$1" = compose ] || exec {docker}/docker "$@"; exit 1\n')
    (programs / "docker").chmod(0o755)
    assert "left out: docker compose: " in run(programs, *COMPOSE, DOCKER_HOST=users_engine.host)
