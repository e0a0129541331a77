"""What is measured: a process that receives from a replayer of its own and, but for the floor, stores.

A contestant starts once and is then measured in turns with the others, a slice of the recording at a time, so
that a noisy machine is equally noisy for all of them.
"""

import bisect
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, Self

import compiled_yapic
from collectors import Collector
from recording import CHANNELS, SYMBOLS, Recording
from replayer import Replayer

from collector.health import Status

WARM_UP = 2_000  # records
FIRST = 8  # records, some of them trades, that the exchange sends to a collector that has started
PATIENCE = 120.0  # seconds for a slice
TICK = 0.005
ABSENT = Path(__file__).with_name("absent")  # what the environment of a collector lacks


class Slice(NamedTuple):
    """What a slice of the recording cost: CPU seconds of the process and of its server, and wall time."""

    records: int
    cpu: float
    server: float
    wall: float


def cpu(pids: list[int]) -> float:
    """CPU seconds that processes have used, all threads together, to the nanosecond (Linux)."""
    return sum(time.clock_gettime(~pid << 3 | 2) for pid in pids)


class Contestant:
    """``with`` starts it and warms it up; then ``race`` is one slice.

    Attributes:
        destination: what it stores into; None where it does not.
        pid: its process.
        idle: MiB that it had in memory before the first message came.
    """

    pid: int

    def __init__(self, recording: Recording, file: Path, destination=None) -> None:
        self._recording = recording
        self._file = file
        self.destination = destination
        self._reached = 0  # records at the end of the last slice

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._prepare(stack)
            self.start(stack)
            self._replayer.wait_for_client()
            self.idle = self.resident()
            self.send_up_to(WARM_UP)
            self.wait_until_sent()
            self.wait_until_stored(self.sent)
            self._reached = self.sent
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _prepare(self, stack: contextlib.ExitStack) -> None:
        """Start what it runs beside: the exchange, and the server that it stores into."""
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        self._replayer = stack.enter_context(Replayer(self._file))
        if self.destination:
            stack.enter_context(self.destination.running())

    def start(self, stack: contextlib.ExitStack) -> None:
        """Starts the process, and sees to it that ``stack`` ends it."""
        raise NotImplementedError

    def stored(self) -> int:
        return self.destination.stored()

    def resident(self) -> float:
        """MiB in memory, shared libraries included."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    @property
    def sent(self) -> int:
        """Records that the messages sent so far amount to."""
        return self._recording.records[self._replayer.sent - 1] if self._replayer.sent else 0

    def send(self, records: int, rate: float = 0.0) -> None:
        """Begins to send messages that amount to so many records more."""
        self.send_up_to(self.sent + records, rate)

    def send_up_to(self, records: int, rate: float = 0.0) -> None:
        messages = bisect.bisect_left(self._recording.records, records) + 1
        self._replayer.send(messages - self._replayer.sent, rate)

    def wait_until_stored(self, records: int) -> None:
        end = time.monotonic() + PATIENCE
        while (stored := self.stored()) < records:
            if time.monotonic() > end:
                raise AssertionError(f"{self}: {stored} of {records} records within {PATIENCE} s")
            time.sleep(TICK)

    def wait_until_sent(self) -> None:
        self._replayer.wait_until_sent()

    def race(self, records: int, rate: float = 0.0) -> Slice:
        """Sends what amounts to ``records``, and measures until that many more are stored."""
        self._reached += records
        servers = self.destination.processes() if self.destination else []
        before, server_before, begun = cpu([self.pid]), cpu(servers), time.monotonic()
        self.send_up_to(self._reached, rate)
        self.wait_until_stored(self._reached)
        self.wait_until_sent()
        wall = time.monotonic() - begun
        return Slice(records, cpu([self.pid]) - before, cpu(servers) - server_before, wall)

    def check(self) -> None:
        """Raises AssertionError unless what was sent is stored, no less and no more."""
        stored = self.stored()
        assert stored == self.sent, f"{self}: {self.sent} records were sent, {stored} are stored"


class Peer(Contestant):
    """cryptofeed as its users install it, yapic.json included.

    With a backend of its own or, without a destination, with callbacks that do nothing.
    """

    def __str__(self) -> str:
        return f"cryptofeed, {self.destination.backend if self.destination else 'nothing stored'}"

    def start(self, stack: contextlib.ExitStack) -> None:
        command = [sys.executable, str(Path(__file__).with_name("peer.py"))]
        if self.destination:
            self.destination.make_tables()
            command += [self.destination.backend, json.dumps(self.destination.peer)]
        else:
            command += ["nothing"]
        self._process = subprocess.Popen(
            command,
            env=self._replayer.environment | {"PYTHONPATH": str(compiled_yapic.folder())},
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        stack.callback(self._process.communicate)
        stack.callback(self._process.kill)
        self.pid = self._process.pid

    def stored(self) -> int:
        if self.destination:
            return super().stored()
        print(file=self._process.stdin)
        missing = self._replayer.sent + len(SYMBOLS) - int(self._process.stdout.readline())
        return self.sent - missing  # a callback gets one object a message, and the first book of each symbol


class Ours(Contestant):
    """The collector, as it comes, or as ``script`` runs it with ``variables`` in its environment."""

    def __init__(self, recording: Recording, file: Path, destination, script="", **variables: str) -> None:
        super().__init__(recording, file, destination)
        self._script, self._variables = script, variables

    def __str__(self) -> str:
        return f"collector, {self.destination.backend}"

    def start(self, stack: contextlib.ExitStack) -> None:
        self._run(stack)
        self._collector.wait_until(lambda status: status.store.state == "connected")

    def seconds_to_first(self) -> float:
        """Start it beside an exchange that sends at once; return how long its first record took."""
        with contextlib.ExitStack() as stack:
            self._prepare(stack)
            begun = time.monotonic()
            self._run(stack)
            self._replayer.wait_for_client()
            self.send(FIRST)
            self.wait_until_sent()
            self.wait_until_stored(1)
            return time.monotonic() - begun

    def _run(self, stack: contextlib.ExitStack) -> None:
        self._collector = Collector(
            self.folder,
            EXCHANGE="BINANCE",
            SYMBOLS=",".join(SYMBOLS),
            CHANNELS=",".join(CHANNELS),
            BACKEND=self.destination.backend,
            PYTHONPATH=str(ABSENT),
            **self.destination.ours,
            **self._replayer.environment,
            **self._variables,
        )
        if self._script:
            self._collector.command = (sys.executable, str(Path(__file__).with_name(self._script)))
        stack.enter_context(self._collector)
        self.pid = self._collector.process.pid

    def drained(self, records: int) -> float:
        """Records a second that get into a store which has come back, until it has that many."""
        before = self.stored()
        while (begun := self.stored()) == before:
            time.sleep(TICK)
        since = time.monotonic()
        self.wait_until_stored(records)
        return (records - begun) / (time.monotonic() - since)

    def check(self) -> None:
        """Also: it stops in good order, what it gathered is stored then, and it has seen no gap."""
        if not self.destination.gathers:
            self.wait_until_stored(self.sent)
        self._collector.wait_until(self._has_received_all)  # what it gathers is stored when it stops
        status = self._collector.stop()
        assert status == os.EX_OK, f"{self}: exit status {status}"
        gaps = self._collector.status.gaps_today
        assert gaps == 0, f"{self}: {gaps} gaps, though nothing is missing of what was sent"
        super().check()

    def _has_received_all(self, status: Status) -> bool:
        return sum(channel.received for channel in status.channels.values()) >= self.sent
