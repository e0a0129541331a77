"""A fleet as local processes, in the foreground: for a first look, or without Docker.

In the state folder, ``.cryptostore/FLEET``, are ``owner.json`` (whose it is), ``spool/`` (SPOOL_DIR),
``simulator/`` (its authority, and the log of what it sent in this run) and ``COLLECTOR.log`` (bounded).
Processes get the contract's variables and nothing from the shell.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import re
import signal
import sys
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import msgspec

from collector import health
from collector.settings import VARIABLES, existing_file
from launcher import local_run
from launcher.engines import EngineError
from launcher.spec import CollectorSpec, Container, FleetSpec

#: The image's folders for volumes, and all variables of the contract that are paths.
_IMAGE_PATHS = {"SPOOL_DIR": "/spool", "PARQUET_DIR": "/data"}
_PATHS = (*_IMAGE_PATHS, *(variable.name for variable in VARIABLES if variable.parse is existing_file))
_MISCONFIGURED = 78
_LINE_LIMIT = 1 << 20  # bytes
_LOG_BYTES = 10_000_000  # a log file, and one that is older
_BACK_OFF = (0.1, 60.0)  # seconds: the first and the longest; doubles each time, as with Docker
_LIVED = 10.0  # seconds after which a collector counts as working
_RATE_WINDOW = 5.0  # seconds
_SIMULATOR_START, _SIMULATOR_STOP, _STILL = 30.0, 5.0, 6.0  # seconds at most
_LEVEL = re.compile(r"\b(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b")
_PR_SET_PDEATHSIG = 1

#: Called with each line worth showing: the process's name and the line.
Show = Callable[[str, str], None]


class LocalFleet:
    """A fleet's processes. ``collectors`` report how they are doing, even after ``run``."""

    def __init__(self, fleet: FleetSpec, state: Path, data: Path, show: Show, *, adopt: bool = False) -> None:
        self._fleet = fleet
        self._adopt = adopt
        self.collectors = [LocalCollector(spec, state, data, show) for spec in fleet.collectors]
        self.simulator = Simulator(fleet.simulator_options, state, show) if fleet.simulator else None
        self._state = state

    async def run(self, stop: asyncio.Event, kill: asyncio.Event) -> None:
        """Run until ``stop``, then end in order; end at once when ``kill`` is set.

        Raises EngineError if the state folder is another fleet's, a collector's settings are wrong or the
        simulator fails.
        """
        names = (collector.name for collector in self.collectors)
        with local_run.held(self._state, names, simulated=self.simulator is not None):
            local_run.take_possession(self._state, self._fleet, adopt=self._adopt)
            killing = asyncio.create_task(self._kill_when(kill))
            try:
                await self._run(stop, kill)
            finally:
                killing.cancel()

    async def _run(self, stop: asyncio.Event, kill: asyncio.Event) -> None:
        extra = {}
        try:
            if self.simulator:
                extra = await self.simulator.start()
            await self._watch(stop, extra)
            if self.simulator:
                await self.simulator.pause()
                await self._until_still(kill)
        finally:
            await asyncio.gather(*(collector.stop() for collector in self.collectors))
            if self.simulator:
                await self.simulator.stop()

    async def _kill_when(self, kill: asyncio.Event) -> None:
        await kill.wait()
        for process in (*self.collectors, self.simulator):
            if process:
                process.signal(signal.SIGKILL)

    async def _watch(self, stop: asyncio.Event, extra: dict[str, str]) -> None:
        stopping = asyncio.create_task(stop.wait())
        keeping = [asyncio.create_task(each.keep_running(extra)) for each in self.collectors]
        if self.simulator:
            keeping.append(asyncio.create_task(self.simulator.watch()))
        running = set(keeping)
        try:
            while running and not stopping.done():
                done, _ = await asyncio.wait({*running, stopping}, return_when=asyncio.FIRST_COMPLETED)
                running -= done
                for task in done:
                    task.result()
        finally:
            for task in (*keeping, stopping):
                task.cancel()
            await asyncio.wait((*keeping, stopping))

    async def _until_still(self, kill: asyncio.Event) -> None:
        """Wait until everything sent before the pause has arrived: two equal statuses in a row."""
        before: dict[str, tuple[float, int]] = {}
        still: set[str] = set()
        end = time.monotonic() + _STILL
        since = time.time()
        waiting = [collector for collector in self.collectors if collector.pid]
        while time.monotonic() < end and len(still) < len(waiting) and not kill.is_set():
            for collector in waiting:
                status = collector.status()
                if status is None or status.time < since:
                    continue
                now = (status.time, sum(each.received for each in status.channels.values()))
                last = before.get(collector.name)
                if last and last[0] != now[0] and last[1] == now[1]:
                    still.add(collector.name)
                before[collector.name] = now
            await asyncio.sleep(0.2)


class _Process:
    """One process at a time; its standard error goes to a file and, from WARNING up, to ``show``."""

    def __init__(self, name: str, state: Path, show: Show) -> None:
        self.name = name
        self.log = BoundedLog(state / f"{name}.log")
        self.last_lines: deque[str] = deque(maxlen=20)
        self._show = show
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def _spawn(self, arguments: Sequence[str], environment: dict[str, str], stdout: int | None) -> None:
        self.last_lines.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # import nothing from the working folder, which is the user's
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_LIMIT,
            start_new_session=True,  # Ctrl-C is for the launcher, which ends everything in order
            preexec_fn=partial(_end_with, os.getpid()),
        )
        self._pump = asyncio.create_task(self._read_log())

    async def _ended(self) -> int:
        """Wait for the end of the process and of its log; return the exit status."""
        if not self._process or not self._pump:
            return 0
        status = await self._process.wait()
        await asyncio.wait([self._pump], timeout=1)  # a child of the process may hold the pipe
        return status

    async def _read_log(self) -> None:
        level = "WARNING"  # lines without a level, such as a traceback, are worth showing
        while line := await self._read_line():
            if match := _LEVEL.search(line[:200]):
                level = match[1]
            self.log.write(line)
            self.last_lines.append(line)
            if level not in ("DEBUG", "INFO"):
                self._show(self.name, line)

    async def _read_line(self) -> str | None:
        """Return the next line; None at the end. An overlong line is reported, not shown."""
        if not self._process or not self._process.stderr:
            return None
        try:
            line = await self._process.stderr.readline()
        except ValueError:
            return f"WARNING (a line of more than {_LINE_LIMIT} bytes is left out)"
        return (line.decode(errors="replace").rstrip("\r\n") or " ") if line else None

    def signal(self, number: int) -> None:
        """Send a signal if the process runs."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _stop_within(self, seconds: float) -> int:
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(seconds):
                return await self._ended()
        except TimeoutError:
            self._show(self.name, f"WARNING did not end within {seconds:g} s and was killed")
            self.signal(signal.SIGKILL)
            return await self._ended()


class LocalCollector(_Process):
    """One collector across all its restarts."""

    def __init__(self, spec: CollectorSpec, state: Path, data: Path, show: Show) -> None:
        super().__init__(spec.name, state, show)
        self.spec = spec
        self.environment = environment(spec.container, state, data) | spec.counted
        self.ever_ready = False
        self.exit_status: int | None = None
        self._home = Path(self.environment["SPOOL_DIR"]) / self.environment["NAME"]
        self._since = time.time()  # when the running process was started
        self._earlier: Counter[tuple[str, str]] = Counter()  # what the previous processes received and stored
        self._history: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    async def keep_running(self, extra: dict[str, str]) -> None:
        """Start the collector, and restart it as its restart policy says.

        Raises EngineError, with the collector's output, if its settings are wrong.
        """
        back_off, longest = _BACK_OFF
        while True:
            await self._start(extra)
            self.exit_status = await self._ended()
            if self.exit_status == _MISCONFIGURED:
                raise EngineError(f"{self.name}: wrong settings\n" + "\n".join(self.last_lines))
            if not self._to_restart(self.exit_status):
                return
            if time.time() - self._since > _LIVED:
                back_off, _ = _BACK_OFF
            self._show(
                self.name, f"WARNING ended with status {self.exit_status}; restarting in {back_off:g} s"
            )
            await asyncio.sleep(back_off)
            back_off = min(2 * back_off, longest)

    async def _start(self, extra: dict[str, str]) -> None:
        self._earlier.update(self._current())
        self._since = time.time()
        terminal = self.environment["BACKEND"] == "TTY"
        await self._spawn(
            ["-m", "collector"],
            self.environment | extra,
            stdout=None if terminal else asyncio.subprocess.DEVNULL,
        )

    def _to_restart(self, status: int) -> bool:
        policy = self.spec.container.restart
        return policy in ("always", "unless-stopped") or (policy.startswith("on-failure") and status != 0)

    async def stop(self) -> None:
        """End the collector within its grace period, in which it stores what it has."""
        if self.pid:
            self.exit_status = await self._stop_within(self.spec.container.stop_grace)

    def status(self) -> health.Status | None:
        """Return the status of the running, or the last, process; None until it has written one."""
        try:
            status = health.read(self._home)
        except (OSError, msgspec.DecodeError):
            return None
        if status.time < self._since:
            return None
        self.ever_ready |= status.state == "ready"
        return status

    def counts(self) -> dict[str, health.ChannelStatus]:
        """Return received and stored records of each channel since the launcher started."""
        counts = self._earlier + self._current()
        return {
            channel: health.ChannelStatus(
                received=counts[channel, "received"], stored=counts[channel, "stored"]
            )
            for channel in dict.fromkeys(channel for channel, _ in counts)
        }

    def _current(self) -> Counter[tuple[str, str]]:
        counts: Counter[tuple[str, str]] = Counter()
        if status := self.status():
            for channel, each in status.channels.items():
                counts[channel, "received"], counts[channel, "stored"] = each.received, each.stored
        return counts

    def rate(self) -> float:
        """Return records received per second over the last seconds, measured between calls."""
        now = (time.monotonic(), sum(each.received for each in self.counts().values()))
        self._history.append(now)
        while len(self._history) > 2 and now[0] - self._history[0][0] > _RATE_WINDOW:
            self._history.popleft()
        seconds = now[0] - self._history[0][0]
        return (now[1] - self._history[0][1]) / seconds if seconds else 0.0


class Simulator(_Process):
    """The stand-in exchange, behind its proxy."""

    def __init__(self, options: Sequence[str], state: Path, show: Show) -> None:
        super().__init__("simulator", state, show)
        self._home = state / "simulator"
        self._options = options
        self._control = ""

    async def start(self) -> dict[str, str]:
        """Start it; return the variables that point collectors to it. Raises EngineError if that fails."""
        self._home.mkdir(parents=True, exist_ok=True)
        authority = self._home / "ca.pem"
        places = ["--proxy-port", "0", "--control-port", "0", "--ca", str(authority)]
        sent = self._home / "sent.jsonl"
        sent.unlink(missing_ok=True)  # it covers one run only, which bounds its size
        log = ["--log", str(sent)]
        await self._spawn(
            ["-m", "collector.simulator", *places, *log, *self._options], {}, asyncio.subprocess.PIPE
        )
        ready = await self._ready()
        self._control = ready["control"]
        return {"HTTPS_PROXY": ready["proxy"], "SSL_CERT_FILE": str(authority)}

    async def _ready(self) -> dict[str, str]:
        line = b""
        with contextlib.suppress(TimeoutError, ValueError):
            if self._process and self._process.stdout:
                async with asyncio.timeout(_SIMULATOR_START):
                    line = await self._process.stdout.readline()
                return dict(json.loads(line))
        await self._stop_within(_SIMULATOR_STOP)
        said = "\n".join(self.last_lines) or "it printed nothing"
        raise EngineError(f"the simulator did not start:\n{said}")

    async def watch(self) -> None:
        """Raise EngineError when it ends, because then nothing can be received any more."""
        status = await self._ended()
        said = "\n".join(self.last_lines)
        raise EngineError(f"the simulator ended by itself with status {status}\n{said}")

    async def pause(self) -> None:
        """Stop sending; return when everything sent so far is on its way. A refusal is only reported."""
        request = urllib.request.Request(f"{self._control}/pause", method="POST")  # noqa: S310 - our own process
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            await asyncio.to_thread(lambda: opener.open(request, timeout=15).read())
        except OSError as error:
            self._show(self.name, f"WARNING cannot be paused, what is on its way may be cut off: {error}")

    async def stop(self) -> None:
        """End it."""
        if self.pid:
            await self._stop_within(_SIMULATOR_STOP)


class BoundedLog:
    """A log file that is put aside when it is full, replacing an older one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, line: str) -> None:
        """Append a line; with a full disk, the line is lost."""
        with contextlib.suppress(OSError):
            if self._path.exists() and self._path.stat().st_size > _LOG_BYTES:
                self._path.replace(self._path.with_suffix(".log.1"))
            with self._path.open("a") as file:
                file.write(f"{line}\n")


def environment(container: Container, state: Path, data: Path) -> dict[str, str]:
    """Return the container's environment, with paths on this machine in place of those in the container."""
    variables = _IMAGE_PATHS | dict(container.environment)
    for name in _PATHS:
        if path := variables.get(name):
            variables[name] = _local(PurePosixPath(path), container, state, data)
    return variables


def _local(path: PurePosixPath, container: Container, state: Path, data: Path) -> str:
    for mount in container.mounts:
        target = PurePosixPath(mount.target)
        if path.is_relative_to(target):
            here = Path(mount.source) if mount.kind == "bind" else _volume(target, state, data)
            return str(here.absolute() / path.relative_to(target))
    return str(path)


def _volume(target: PurePosixPath, state: Path, data: Path) -> Path:
    return data if str(target) == _IMAGE_PATHS["PARQUET_DIR"] else state / target.name


def _end_with(parent: int) -> None:
    """In a new process: ask for SIGTERM when the launcher is killed, to store what it has (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # the launcher was killed in between
            os.kill(os.getpid(), signal.SIGTERM)
