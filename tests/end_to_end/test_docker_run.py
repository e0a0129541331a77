"""A single `docker run`: what one exchange sends is in Redis, record by record."""

import json
import re
import subprocess
import time

import pytest
from comparison import compare
from engines import unique
from stage import ROOT, docker, inspect
from waiting import wait_until

pytestmark = pytest.mark.docker


def status(container):
    """What `collector health` reads."""
    name = docker("exec", container, "sh", "-c", "cat /spool/*/status.json", check=False)
    return json.loads(name) if name else {}


#: The collector, which gives up sooner where another one stores all that it would store.
IMPATIENT = (
    "import sys; from collector import cli; from collector.gaps import overlap;"
    " overlap.HANDOVER = overlap.PROBE = 0.5; sys.exit(cli.main())"
)


def collect(stage, name, image, channels, symbols, *options, command=()):
    settings = (
        *("-e", "EXCHANGE=COINBASE"),
        *("-e", f"CHANNELS={channels}"),
        *("-e", f"SYMBOLS={symbols}"),
        *("-e", "BACKEND=REDISSTREAM"),
        *("-e", "HOST=redis"),
        # Only because the exchange is a simulated one:
        *("-e", "SSL_CERT_FILE=/simulator/ca.pem", "--volume", f"{stage.name}-simulator:/simulator:ro"),
    )
    return stage.run(name, image, *settings, *options, command=command)


def test_stored_equals_sent_and_a_second_collector_of_the_same_ends_with_78(stage, image):
    simulator = stage.simulator(image, "--rate", "40")
    collector = collect(stage, "collector", image, "trades,ticker,l2_book", "BTC-USD,ETH-USD")
    wait_until(lambda: status(collector).get("state") == "ready")
    second = collect(
        *(stage, "second", image, "trades", "BTC-USD", "--entrypoint", "sh"),
        command=("-c", 'exec python -c "$0" 2>&1', IMPATIENT),
    )
    assert wait_until(lambda: inspect(collector)["State"]["Health"]["Status"] == "healthy")
    wait_until(lambda: status(collector)["channels"]["ticker"]["stored"] > 100)
    assert wait_until(lambda: inspect(second)["State"]["Status"] == "exited")
    assert inspect(second)["State"]["ExitCode"] == 78
    said = docker("logs", second)
    assert re.search(
        r"SYMBOLS = 'BTC-USD': all of it is stored already, into this store, by collector \S+ \(", said
    )
    assert "ALLOW_OVERLAP=true" in said
    simulator.pause()
    paused = time.time()
    wait_until(lambda: status(collector)["time"] > paused + 1)
    docker("stop", collector)
    assert inspect(collector)["State"]["ExitCode"] == 0
    comparison = compare(simulator.log(), stage.stored())
    assert comparison.exact, comparison
    assert comparison.matched > 300
    with stage.client(decode_responses=True) as client:
        keys = {key for key in client.scan_iter() if not key.startswith("cryptostore:")}
    kinds, symbols = ("trades", "ticker", "book"), ("BTC-USD", "ETH-USD")
    assert keys == {f"{kind}-COINBASE-{symbol}" for kind in kinds for symbol in symbols}


def test_the_simulator_is_started_and_removed_as_its_page_says(image):
    page = (ROOT / "docs" / "exchanges.md").read_text()
    start, remove = re.findall(r"<!-- run on an engine -->\n```sh\n(.*?)```", page, re.DOTALL)
    name = unique("trial")

    def run(commands):
        commands = re.sub(r"\btrial\b", name, commands).replace("cryptostore:latest", image)
        subprocess.run(["bash", "-euc", commands], check=True, timeout=120, stdout=subprocess.PIPE)

    def made():
        kinds = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        return [found for kind in kinds if (found := docker(*kind, "--quiet", "--filter", f"name={name}"))]

    run(start)
    try:
        assert wait_until(lambda: '"channel":"trades"' in docker("logs", f"{name}-coinbase"))
        assert "Health" not in inspect(f"{name}-exchange")["State"]
    finally:
        run(remove)
    assert not made()


def test_a_bad_environment_ends_the_container_with_78(image):
    name = docker("run", "--detach", "-e", "EXCHANGE=COINBSE", image)
    try:
        assert docker("wait", name) == "78"
    finally:
        docker("rm", "--volumes", name)


def test_a_disk_full_at_the_start_is_waited_for(image):
    settings = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "REDIS"}
    name = docker(
        *("run", "--detach", "--network", "none", "--tmpfs", "/spool:size=16m,uid=10001"),
        *(f"--env={variable}={value}" for variable, value in settings.items()),
        *("--entrypoint", "sh", image, "-c", "cat /dev/zero > /spool/filler; exec python -m collector 2>&1"),
    )
    try:
        wait_until(lambda: "waiting for space" in docker("logs", name))
        docker("exec", name, "rm", "/spool/filler")
        assert wait_until(lambda: status(name).get("state")) == "starting"
        assert inspect(name)["RestartCount"] == 0
    finally:
        docker("rm", "--force", "--volumes", name)


def test_the_image_holds_the_collector_alone(image):
    config = inspect(image)["Config"]
    assert config["User"] == "10001:10001"
    assert {"org.opencontainers.image.title", "org.opencontainers.image.version"} <= config["Labels"].keys()
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "collector", "health"]
    script = (
        "import importlib.util as u, shutil; "
        "print([m for m in ('docker', 'jinja2', 'launcher', 'pytest') if u.find_spec(m)], "
        "[p for p in ('cc', 'c++', 'gcc', 'g++', 'uv') if shutil.which(p)])"
    )
    assert docker("run", "--rm", "--entrypoint", "python", image, "-c", script) == "[] []"


def test_a_start_compiles_no_module(image):
    """Not even of the standard library, which the base image has without bytecode."""
    script = "python -v -c 'import collector.supervisor' 2>&1"
    told = docker("run", "--rm", "--entrypoint", "sh", image, "-c", script)
    loaded = re.findall(r"^# code object from '?(/[^'\n]+)", told, re.MULTILINE)
    assert len(loaded) > 200
    assert not [path for path in loaded if not path.endswith(".pyc")]
