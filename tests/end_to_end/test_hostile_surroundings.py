"""Clocks that are set, disks that are full or read-only, networks that give a byte at a time."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest
from collectors import Collector
from comparison import compare, gaps_in
from conformance import RedisHarness
from databases import PostgresHarness
from parts import Missing, library
from servers import PostgresServer, RedisServer, Toxiproxy
from simulated import Simulator

TESTS = Path(__file__).parents[1]
SYMBOLS = {"COINBASE": ["BTC-USD", "ETH-USD"], "KRAKEN": ["BTC-USD", "ETH-USD"]}


@contextlib.contextmanager
def tmpfs(folder, size="16m"):
    """A disk of that size, mounted on ``folder``."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        raise Missing("the right to mount", "a small disk cannot be made", "run the tests as root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def remount(folder, how):
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def fill(disk):
    """Write a file until the disk is full; its path."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


def faketime():
    """The library that tells a process another time."""
    if path := library("faketime/libfaketime.so.1"):
        return path
    raise Missing("libfaketime", "no library of that name", "apt-get install libfaketime")


class Recording:
    """A simulated exchange, a collector of it, and a store."""

    def __init__(self, folder, exchange, harness, server, **variables):
        self.harness, self.server = harness, server
        self.contexts = contextlib.ExitStack()
        self.simulator = self.contexts.enter_context(Simulator({exchange: SYMBOLS[exchange]}, rate=60))
        self.collector = Collector(
            folder,
            EXCHANGE=exchange,
            SYMBOLS=",".join(SYMBOLS[exchange]),
            CHANNELS="trades,ticker,l2_book",
            **self.simulator.environment,
            **variables,
        )

    def __enter__(self):
        self.contexts.enter_context(self.collector)
        self.collector.wait_until_ready()
        return self

    def __exit__(self, *_):
        self.contexts.close()

    def more(self, records=100):
        so_far = self._received(self.collector.status)
        self.collector.wait_until(lambda status: self._received(status) >= so_far + records)

    @staticmethod
    def _received(status):
        return sum(channel.received for channel in status.channels.values())

    def compare(self):
        """Let everything arrive, end the collector, and see that all is stored once; return the gaps."""
        self.simulator.pause()
        self.collector.wait_until_quiet()
        assert self.collector.stop() == 0
        assert "Traceback" not in self.collector.stderr.read_text()
        records = self.harness.stored(self.server)
        comparison = compare(self.simulator.log(), records)
        assert comparison.exact, comparison
        return gaps_in(records)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.parametrize("exchange", SYMBOLS)
def test_setting_the_clock_while_recording_costs_nothing(exchange, tmp_path):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    fake = {"LD_PRELOAD": str(faketime()), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    fake["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"  # as where somebody sets the clock
    with RedisServer() as redis:
        place = {"BACKEND": "REDISSTREAM", "HOST": redis.host, "PORT": str(redis.port)}
        recording = Recording(tmp_path, exchange, RedisHarness("REDISSTREAM"), redis, **place, **fake)
        with recording as it:
            it.more()
            clock.write_text("+3600")
            it.more()
            assert it.collector.status.time > time.time() + 3000
            redis.stop()  # what waits, waits as long as ever
            it.more()
            it.collector.started -= 2 * 3600  # as a status is older than its process, by that clock
            clock.write_text("+0")
            it.more()
            redis.start()
            it.more()
            assert it.compare() == []


@pytest.mark.redis
@pytest.mark.slow
def test_answers_of_redis_that_come_a_byte_at_a_time_are_read(tmp_path):
    with RedisServer() as redis, Toxiproxy() as toxiproxy:
        proxy = toxiproxy.proxy(redis.host, redis.port)
        proxy.poison("slicer", average_size=1, size_variation=0, delay=100)
        place = {"BACKEND": "REDIS", "HOST": proxy.host, "PORT": str(proxy.port)}
        with Recording(tmp_path, "COINBASE", RedisHarness("REDIS"), redis, **place) as it:
            it.more(500)
            assert it.compare() == []


@pytest.mark.slow
def test_a_full_disk_of_postgres_is_waited_for(tmp_path):
    harness = PostgresHarness()
    with PostgresServer() as postgres, tmpfs(disk := postgres.folder / "disk", "24m"):

        def execute(statement):
            asyncio.run(harness._execute(postgres, statement))

        shutil.chown(disk, postgres.user)
        execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        execute("ALTER DATABASE postgres SET default_tablespace = small")
        place = {"BACKEND": "POSTGRES", "HOST": postgres.host, "PORT": str(postgres.port)}
        place |= {"DATABASE": "postgres", "USER": postgres.name, "PASSWORD": postgres.password}
        with Recording(tmp_path, "COINBASE", harness, postgres, **place) as it:
            it.more()
            ballast = fill(disk)
            status = it.collector.wait_until(lambda status: status.state == "degraded")
            assert "No space left on device" in status.detail
            it.more()
            ballast.unlink()
            it.collector.wait_until_ready()
            assert it.compare() == []


class PostgresOnASmallDisk(PostgresServer):
    """One whose data, with its write-ahead log, lies on a disk of its own."""

    def __init__(self, disks):
        super().__init__()
        self.disks = disks

    def prepare(self):
        super().prepare()
        self.disk = self.folder / "disk"
        self.disks.enter_context(tmpfs(self.disk, "128m"))
        shutil.chown(self.disk, self.user)
        subprocess.run(["mv", self.data, self.disk], check=True)
        self.data = self.disk / "data"


@pytest.mark.slow
def test_a_postgres_that_cannot_write_its_log_is_waited_for(tmp_path):
    harness = PostgresHarness()
    with contextlib.ExitStack() as disks, PostgresOnASmallDisk(disks) as postgres:
        place = {"BACKEND": "POSTGRES", "HOST": postgres.host, "PORT": str(postgres.port)}
        place |= {"DATABASE": "postgres", "USER": postgres.name, "PASSWORD": postgres.password}
        with Recording(tmp_path, "COINBASE", harness, postgres, **place) as it:
            it.more()
            ballast = fill(postgres.disk)
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                while True:  # until a segment of the log has to be created: then it panics
                    asyncio.run(harness._execute(postgres, "SELECT pg_switch_wal()"))
            assert "PANIC" in postgres.log.read_text()
            status = it.collector.wait_until(lambda status: status.state == "degraded")
            assert "store away" in status.detail
            it.more()
            ballast.unlink()
            postgres.restart()
            it.collector.wait_until_ready()
            assert it.compare() == []


FLEET = """
fleet: desk
stores: {r: {backend: REDISSTREAM, host: redis, password: x}}
collectors: [{exchange: COINBASE, symbols: BTC-USD, channels: trades, store: r}]
"""


WHAT = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades"}


def test_a_read_only_disk_is_reported(tmp_path):
    fleet = tmp_path / "fleet.yaml"
    fleet.write_text(FLEET)
    with tmpfs(disk := tmp_path / "disk"):
        remount(disk, "ro")
        commands = [
            ["collector"],
            ["launcher", "render", "--output", str(disk / "out"), str(fleet)],
            ["launcher", "run", "--for", "1s", str(fleet)],
        ]
        environment = {"PYTHONPATH": str(TESTS.parent), "SPOOL_DIR": str(disk / "spool"), "BACKEND": "TTY"}
        environment |= WHAT | {"PATH": os.environ["PATH"]}
        running = [
            subprocess.Popen(
                [sys.executable, "-m", *command], env=environment, cwd=disk, stderr=subprocess.PIPE, text=True
            )
            for command in commands
        ]
        for process in running:
            _, said = process.communicate(timeout=60)
            assert process.returncode != 0
            assert "Read-only file system" in said
            assert "Traceback" not in said


@pytest.mark.slow
def test_a_read_only_parquet_folder_is_waited_for(tmp_path):
    with tmpfs(disk := tmp_path / "disk"), Simulator({"COINBASE": ["BTC-USD"]}, rate=60) as simulator:
        remount(disk, "ro")
        place = {"BACKEND": "PARQUET", "PARQUET_DIR": str(disk / "data")}
        with Collector(tmp_path, **WHAT | place | simulator.environment) as collector:
            status = collector.wait_until(lambda status: "Read-only file system" in status.detail)
            assert status.state == "degraded", status
            remount(disk, "rw")
            collector.wait_until(lambda status: status.channels["trades"].stored > 10)
            assert collector.stop() == 0
