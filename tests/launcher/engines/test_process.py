"""``launcher run``: real collectors and the real simulator as local processes."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

from collector.settings import VARIABLES
from launcher.engines import EngineError
from launcher.engines.process import BoundedLog, LocalFleet, environment
from launcher.spec import CollectorSpec, Container, FleetSpec, Mount, Network

FLEET = """\
fleet: local
source: simulated
stores:
  disk: {backend: PARQUET, path: stored}
defaults: {channels: [trades, ticker]}
collectors:
  - {exchange: KRAKEN, symbols: [BTC-USD]}
  - {exchange: BINANCE, symbols: [BTC-USDT]}
"""


class Run:
    """A launcher in a folder of its own, and what it says on standard error as it comes."""

    def __init__(self, folder, *arguments):
        (folder / "fleet.yaml").write_text(FLEET)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "launcher", "run", *arguments],
            cwd=folder,
            env=os.environ | {"A_SECRET_OF_THE_SHELL": "canary"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = []

    def until(self, pattern):
        """Reads on until a line matches."""
        patience = threading.Timer(PATIENCE, self.process.kill)
        patience.start()
        try:
            for line in self.process.stderr:
                self.said.append(line)
                if re.search(pattern, line):
                    return line
        finally:
            patience.cancel()
        raise AssertionError(f"{pattern} was never said:\n{''.join(self.said)}")

    def children(self):
        """Process id by what the process is."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}

    def collectors(self):
        return [pid for pid, command in self.children().items() if "simulator" not in command]

    def finish(self):
        out, err = self.process.communicate(timeout=PATIENCE)
        self.said.append(err)
        return out


@pytest.fixture
def run(tmp_path):
    runs = []

    def run(*arguments):
        runs.append(Run(tmp_path, *arguments))
        return runs[-1]

    yield run
    for each in runs:
        each.process.kill()
        each.process.communicate(timeout=PATIENCE)


def test_a_bounded_run_stores_what_was_sent_and_says_how_to_read_it(run, tmp_path):
    bounded = run("--for", "3s")
    bounded.until("is ready")
    for pid in bounded.collectors():
        given = dict(
            each.split("=", 1) for each in Path(f"/proc/{pid}/environ").read_text().split("\0") if each
        )
        assert given.keys() <= {variable.name for variable in VARIABLES}
    out = bounded.finish()
    assert bounded.process.returncode == 0, bounded.said
    sent = Counter()
    for line in (tmp_path / ".cryptostore/local/simulator/sent.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record.get("channel") and not record["content"].get("snapshot"):  # the past is not recorded
            sent[record["exchange"].lower(), record["channel"]] += 1
    summary = Counter()
    for collector, channel, received, stored in re.findall(
        r"^(\w+) +(\w+) +([\d,]+) +([\d,]+)$", out, re.MULTILINE
    ):
        assert received == stored
        summary[collector, channel] = int(stored.replace(",", ""))
    assert summary == sent
    assert f"{sum(sent.values()):,} records stored: Parquet files in stored" in out
    command = re.search("to read it: (.*)", out)[1]
    shown = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
    trades = sum(count for (_, channel), count in sent.items() if channel == "trades")
    assert shown.stdout.startswith(f"{trades} rows")


def test_a_collector_that_dies_is_started_again_and_ctrl_c_ends_in_order(run):
    endless = run()
    endless.until("records are stored")
    killed = endless.collectors()[0]
    os.kill(killed, signal.SIGKILL)
    endless.until("ended with status -9; restarting in 0.1 s")
    endless.until("2 of 2 ready")
    assert killed not in endless.children()
    endless.process.send_signal(signal.SIGINT)
    assert "records stored" in endless.finish()
    assert endless.process.returncode == 0, endless.said


def launcher(folder, *arguments):
    """A command in the folder of a run, where no Docker engine is."""
    return subprocess.run(
        [sys.executable, "-m", "launcher", *arguments],
        cwd=folder,
        env=os.environ | {"DOCKER_HOST": "unix:///nowhere/docker.sock"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_status_and_logs_see_a_run_until_it_is_killed(run, tmp_path):
    endless = run()
    endless.until("2 of 2 ready")
    seen = launcher(tmp_path, "status", "--json", "--exit-code")
    assert seen.returncode == 0, seen.stderr
    rows = {row["collector"]: row for row in json.loads(seen.stdout)}
    assert {name: (row["state"], row["process"]) for name, row in rows.items()} == {
        "simulator": ("running", endless.process.pid),
        "kraken": ("ready", endless.process.pid),
        "binance": ("ready", endless.process.pid),
    }
    assert rows["kraken"]["status"]["subscriptions"]["confirmed"] == 2
    logs = launcher(tmp_path, "logs", "kraken", "--tail", "all")
    assert "INFO collector.supervisor: ready: 2 subscriptions" in logs.stdout
    with subprocess.Popen(
        [sys.executable, "-m", "launcher", "logs", "--follow", "--tail", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as following:
        endless.process.kill()
        endless.process.wait(timeout=PATIENCE)
        out, _ = following.communicate(timeout=PATIENCE)
    assert not out or re.search(r"^(binance|kraken|simulator) +20", out)
    gone = launcher(tmp_path, "status", "--exit-code")
    assert gone.returncode == 1
    assert "no Docker engine is reachable" in gone.stderr
    left = launcher(tmp_path, "logs", "binance")
    assert "2 subscriptions" in left.stdout
    assert left.stderr == "logs of the last `launcher run`, which has ended\n"


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_nothing_outlives_a_killed_launcher(run):
    doomed = run()
    doomed.until("is ready")
    children = doomed.children()
    doomed.process.kill()
    wait_until(lambda: not any(_runs(pid, command) for pid, command in children.items()))


def _runs(pid, command):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text() == command
    except FileNotFoundError:
        return False


def test_two_launchers_of_a_fleet_do_not_share_a_folder(run):
    first = run()
    first.until("is ready")
    second = run()
    second.finish()
    assert second.process.returncode == 1
    assert "this fleet is already running here" in "".join(second.said)
    first.process.terminate()
    first.finish()
    assert first.process.returncode == 0


def local(**variables):
    container = Container(
        name="desk-one",
        image="image",
        network="desk",
        environment={"NAME": "desk-one", "SPOOL_DIR": "/spool"} | variables,
        mounts=(
            Mount(kind="volume", source="desk-one-spool", target="/spool"),
            Mount(kind="volume", source="desk-data", target="/data"),
            Mount(kind="volume", source="desk-simulator", target="/simulator"),
            Mount(kind="bind", source="/home/me/keys.yaml", target="/etc/cryptostore/config.yaml"),
        ),
    )
    return FleetSpec(
        name="desk",
        network=Network(name="desk"),
        collectors=(CollectorSpec(fleet="desk", name="one", container=container),),
    )


def test_paths_inside_the_container_become_paths_of_this_machine():
    (collector,) = local(
        CONFIG="/etc/cryptostore/config.yaml", SSL_CERT_FILE="/simulator/ca.pem", HOST="redis"
    ).collectors
    assert environment(collector.container, Path("/state"), Path("/here/data")) == {
        "NAME": "desk-one",
        "SPOOL_DIR": "/state/spool",
        "PARQUET_DIR": "/here/data",
        "CONFIG": "/home/me/keys.yaml",
        "SSL_CERT_FILE": "/state/simulator/ca.pem",
        "HOST": "redis",
    }


async def test_wrong_settings_end_the_run_with_what_the_collector_says(tmp_path):
    lines = []
    fleet = LocalFleet(
        local(BACKEND="TTY", EXCHANGE="NOWHERE"), tmp_path, tmp_path, lambda *said: lines.append(said)
    )
    with pytest.raises(EngineError, match=r"one: wrong settings(.|\n)*EXCHANGE = 'NOWHERE'"):
        await fleet.run(asyncio.Event(), asyncio.Event())
    assert any("NOWHERE" in line for _, line in lines)
    assert "NOWHERE" in (tmp_path / "one.log").read_text()


def test_a_log_file_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("launcher.engines.process._LOG_BYTES", 100)
    log = BoundedLog(tmp_path / "one.log")
    for number in range(100):
        log.write(f"line {number}")
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 250
    assert (tmp_path / "one.log").read_text().endswith("line 99\n")
