"""A collector as a process of its own, as tests use it.

with Collector(tmp_path, EXCHANGE="KRAKEN", ...) as collector:
    collector.wait_until_ready()
    ...
    assert collector.stop() == 0
"""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from waiting import PATIENCE, pause

from collector import health
from collector.health import Status

TICK = 0.05


class Collector:
    """Runs ``python -m collector`` with the given variables, and nothing else, as its environment."""

    command = (sys.executable, "-m", "collector")

    def __init__(self, folder: Path, **variables: str) -> None:
        self.environment = {"SPOOL_DIR": str(folder / "spool"), "NAME": "test"} | variables
        self.home = Path(self.environment["SPOOL_DIR"]) / self.environment["NAME"]
        self.stderr, self.stdout = folder / "stderr", folder / "stdout"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        self.started = time.time()
        with self.stderr.open("a") as stderr, self.stdout.open("a") as stdout:
            self.process = subprocess.Popen(self.command, env=self.environment, stderr=stderr, stdout=stdout)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def lines(self) -> list[str]:
        return self.stderr.read_text().splitlines()

    @property
    def status(self) -> Status | None:
        """What this very process wrote last."""
        try:
            status = health.read(self.home)
        except (OSError, msgspec.DecodeError):
            return None
        return status if status.time > self.started else None

    def wait_until(self, condition) -> Status:
        """Waits until ``condition(status)`` holds; the status."""
        end = time.monotonic() + PATIENCE
        while (looked := time.monotonic()) < end:
            status = self.status
            if status and condition(status):
                return status
            if self.process.poll() is not None:
                break
            time.sleep(pause(looked, TICK))
        raise AssertionError(f"it never was so; last {self.status}\n" + "\n".join(self.lines()[-30:]))

    def wait_until_ready(self) -> Status:
        return self.wait_until(lambda status: status.state == "ready")

    def wait_until_quiet(self) -> Status:
        """Waits until nothing new has been received between two statuses and all is stored."""
        status = self.wait_until(lambda status: not status.spool.records)
        while True:
            since, received = status.time, status.channels
            status = self.wait_until(lambda status, since=since: status.time > since)
            if status.channels == received and not status.spool.records:
                return status
