"""What the README shows is run, in its order, and prints what it says.

Digits, and how often a blank is repeated, may differ; `...` stands for what is left out.
"""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from engines import BASE, REDIS
from stage import HOSTS, REDIS_FOLDER, docker
from transcripts import alike
from waiting import PATIENCE, wait_until

from collector.settings import VARIABLES

ROOT = Path(__file__).parents[2]
IMAGE = "cryptostore:latest"
README = (ROOT / "README.md").read_text()
BLOCK = re.compile(r"(?P<by_ci><!-- run by CI -->\n)?```console\n(?P<text>.*?)```", re.DOTALL)
#: What may need another moment until it is as shown: it only looks.
LOOKS = re.compile(r"docker exec |launcher status")


def commands():
    """Pairs of a command and the output that is shown, in their order."""
    for block in BLOCK.finditer(README):
        if not block["by_ci"]:
            for part in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
                command, output = re.fullmatch(r"((?:[^\n]*\\\n)*[^\n]*\n)(.*)", part, re.DOTALL).groups()
                yield command.strip(), output


def test_every_setting_is_in_the_readme():
    for variable in VARIABLES:
        default = "required" if variable.required else f"`{variable.default}`" if variable.default else ""
        assert f"| `{variable.name}` | {variable.meaning} | {default} |" in README


def test_the_tests_that_prove_the_promise_exist():
    named = set(re.findall(r"`(test_\w+)`", README))
    texts = "".join(path.read_text() for path in ROOT.glob("tests/**/test_*.py"))
    assert named
    assert named <= set(re.findall(r"def (test_\w+)\(", texts))


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_readme_does_what_it_says(tmp_path, readers_engine, compose):
    readers_engine.give(BASE)
    readers_engine.get("redis:7", REDIS, REDIS_FOLDER)
    folder = tmp_path / "crypto"
    folder.mkdir()
    for command, shown in commands():
        run(command, shown.replace("unix:///var/run/docker.sock", readers_engine.host), folder)


def run(command, shown, folder):
    """Runs one command of the README; the real exchange is a simulated one here."""
    if command.startswith("docker build"):
        command = f"cd {ROOT} && {command}"
    if "-e EXCHANGE" in command:
        start_exchange()
        trusting = "-e SSL_CERT_FILE=/simulator/ca.pem -v readme-simulator:/simulator:ro"
        command = command.replace(IMAGE, f"{trusting} {IMAGE}")
    if command.startswith("docker network rm"):
        docker("rm", "--force", "--volumes", "readme-simulator")
    end = time.monotonic() + (PATIENCE if LOOKS.match(command) else 0)
    while True:
        ended = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            # Progress goes there and is not shown; where a command fails on purpose, its message is.
            stderr=subprocess.STDOUT if "||" in command else subprocess.PIPE,
            text=True,
            check=False,
            timeout=300,
        )
        if ended.returncode == 0 and alike(ended.stdout, shown):
            return
        if time.monotonic() > end:
            told = f"{ended.returncode}: {ended.stdout}\n{ended.stderr}"
            raise AssertionError(f"$ {command}\n{told}\nshown:\n{shown}")
        time.sleep(0.5)


def environment():
    return os.environ | {"PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}", "NO_COLOR": "1"}


def start_exchange():
    """The simulated exchange on the README's network, under the exchanges' own names."""
    aliases = [part for host in HOSTS for part in ("--network-alias", host)]
    docker(
        "run", "--detach", "--name", "readme-simulator", "--network", "market", *aliases,
        "--volume", "readme-simulator:/simulator", "--entrypoint", "python", IMAGE,
        "-m", "collector.simulator", "--listen", "0.0.0.0", "--port", "443", "--port", "9443",
        "--ca", "/simulator/ca.pem",
    )  # fmt: skip
    wait_until(lambda: docker("exec", "readme-simulator", "ls", "/simulator/ca.pem", check=False))
