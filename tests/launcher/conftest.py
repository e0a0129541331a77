"""A real engine, and fleets on it that are gone after the test, whatever happened."""

import shutil
import subprocess
from pathlib import Path

import pytest
from fleets import STANDIN, Fleet, docker
from servers import Missing


@pytest.fixture(scope="session")
def engine():
    """The engine, with the stand-in's image on it."""
    if not shutil.which("docker"):
        raise Missing("Docker", "no docker command", "sudo apt-get install docker.io")
    answer = subprocess.run(["docker", "version"], capture_output=True, check=False)
    if answer.returncode:
        raise Missing("Docker", "no engine answers", "sudo apt-get install docker.io")
    folder = Path(__file__).parent / "engines" / "standin"
    docker("build", "--quiet", "--tag", STANDIN, str(folder))
    return STANDIN


@pytest.fixture
def fleet(engine, tmp_path):
    fleet = Fleet(tmp_path, engine)
    yield fleet
    fleet.remove()
