"""What `make demo` and `make test` begin with, on machines that lack something: one line, and the remedy."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = "python:3.13-slim-trixie"
COPY = "mkdir /tmp/p && cd /tmp/p && cp -r /src/.ci /src/pyproject.toml /src/uv.lock /src/README.md . && "

pytestmark = pytest.mark.docker


def set_up(preparation):
    """Runs the set-up in a container without a compiler; its exit status and what it said."""
    command = f"{COPY} {preparation} sh .ci/environment --no-default-groups --extra collector"
    arguments = ["docker", "run", "--rm", "--volume", f"{ROOT}:/src:ro", BASE, "sh", "-c", command]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=250)
    return ended.returncode, ended.stdout + ended.stderr


def test_without_a_compiler(image):
    status, said = set_up("")
    assert status == 1
    assert said.splitlines()[-1] == (
        "setup: no C++ compiler, and cryptofeed's JSON parser is compiled here; "
        "install one (apt-get install g++, xcode-select --install)"
    )
    assert "Traceback" not in said


def test_without_python(image):
    status, said = set_up("rm /usr/local/bin/python* &&")
    assert status == 1
    assert said == (
        "setup: no Python >= 3.12 on PATH, in pyenv or from uv; "
        "install uv (https://docs.astral.sh/uv), which brings one, or: pyenv install 3.13\n"
    )
