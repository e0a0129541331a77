"""What `make demo` and `make test` begin with, on machines that lack something: one line, and the remedy."""

import re
import subprocess
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = "python:3.13-slim-trixie"
PARTS = (".ci", "pyproject.toml", "uv.lock", "README.md", "collector", "launcher", "templates")
COPY = f"mkdir /tmp/p && cd /tmp/p && cp -r {' '.join(f'/src/{part}' for part in PARTS)} . && "


def set_up(preparation):
    """Run the set-up in a container without a compiler; return its exit status and what it said."""
    command = f"{COPY} {preparation} sh .ci/environment --no-default-groups --extra collector"
    arguments = ["docker", "run", "--rm", "--volume", f"{ROOT}:/src:ro", BASE, "sh", "-c", command]
    ended = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=250)
    return ended.returncode, ended.stdout + ended.stderr


def test_nothing_is_compiled():
    """Every package of the lock has a wheel for x86-64 Linux and the Pythons that the README names."""
    wheels = defaultdict(list)
    for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]:
        if package["name"] not in {"cryptostore", "pywin32"}:
            wheels[package["name"]] += [wheel["url"] for wheel in package.get("wheels", ())]
    assert "yapic-json" not in wheels
    for python in ("cp312", "cp313"):
        fits = re.compile(
            rf"-((py2\.)?py3-none|{python}-{python}|cp3\d+-abi3)-(any|manylinux\S*x86_64)\S*whl$"
        )
        assert [name for name, urls in wheels.items() if not any(map(fits.search, urls))] == []


def test_a_collector_brings_neither_numpy_nor_pandas():
    """They would be 40 MiB more in its memory: pyarrow imports them where they are."""
    packages = {each["name"]: each for each in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    needed, names = packages["cryptostore"], set()
    found = [*needed["dependencies"], *needed["optional-dependencies"]["collector"]]
    while found:
        if (name := found.pop()["name"]) not in names:
            names.add(name)
            found += packages.get(name, {}).get("dependencies", ())
    assert "pyarrow" in names
    assert names.isdisjoint({"numpy", "pandas"})


@pytest.mark.docker
@pytest.mark.slow
def test_a_package_to_be_compiled_where_there_is_no_compiler(image):
    status, said = set_up("UV_NO_BINARY_PACKAGE=order-book")
    assert status == 1
    assert said.splitlines()[-1] == (
        "setup: a package without a wheel for this machine is compiled, and there is no C compiler; "
        "install one (apt-get install gcc, xcode-select --install)"
    )


@pytest.mark.docker
def test_without_python(image):
    status, said = set_up("rm /usr/local/bin/python* &&")
    assert status == 1
    assert said == (
        "setup: no Python >= 3.12 on PATH, in pyenv or from uv; "
        "install uv (https://docs.astral.sh/uv), which brings one, or: pyenv install 3.13\n"
    )
