"""``launcher run``: a fleet as local processes, watched until it ends, and a report of what was stored."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher import local_run, reading
from launcher.console import Console, Live, Table
from launcher.engines.process import LocalCollector, LocalFleet
from launcher.spec import FleetSpec

_DATA = Path("data")
_REPORT_EVERY = 5.0  # seconds between two lines without a terminal
_LOOK_EVERY = 0.25  # seconds
_READY_WITHIN = 60.0  # seconds that a run of a given length waits for its collectors before counting


def run(
    fleet: FleetSpec,
    seconds: float | None,
    console: Console,
    *,
    as_json: bool = False,
    adopt: bool = False,
) -> int:
    """Run the fleet, then report what was stored; return the exit status.

    It ends ``seconds`` (None: at a signal) after all collectors are ready, or have failed to be within a
    minute. ``adopt`` takes over another fleet's state. Raises EngineError if a collector's settings are wrong
    or the fleet cannot run here.
    """
    summarise = _summarise_as_json if as_json else _summarise
    return asyncio.run(_Run(fleet, seconds, console, summarise, adopt=adopt).run())


class _Run:
    def __init__(
        self,
        fleet: FleetSpec,
        seconds: float | None,
        console: Console,
        summarise: Callable[[Sequence[LocalCollector], Console], None],
        *,
        adopt: bool = False,
    ) -> None:
        self.console = console
        self.summarise = summarise
        self.seconds = seconds
        self.stop, self.kill = asyncio.Event(), asyncio.Event()
        state = local_run.folder(fleet.name).absolute()
        self.local = LocalFleet(fleet, state, _DATA.absolute(), self._show, adopt=adopt)
        self.live: Live = console.live(lambda: _table(self.local.collectors))
        self.begun = time.monotonic()
        self.reported = 0.0
        self.told: set[str] = set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop)
        with self.live:
            tasks = [asyncio.create_task(self._watch())]
            if self.seconds is not None:
                tasks.append(asyncio.create_task(self._count(self.seconds)))
            for task in tasks:  # the fleet never runs unwatched
                task.add_done_callback(lambda _: self.stop.set())
            try:
                await self.local.run(self.stop, self.kill)
            finally:
                for task in tasks:
                    task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.summarise(self.local.collectors, self.console)
        return self._judge()

    def _stop(self) -> None:
        """End the run: in order at the first signal, immediately at the second."""
        if self.stop.is_set():
            self.kill.set()
        self.stop.set()

    async def _count(self, seconds: float) -> None:
        """End the run after its length, which counts from when all collectors are ready."""
        latest = self.begun + _READY_WITHIN
        while not all(collector.ever_ready for collector in self.local.collectors):
            if time.monotonic() > latest:
                return
            await asyncio.sleep(_LOOK_EVERY)
        await asyncio.sleep(seconds)

    async def _watch(self) -> None:
        while True:
            self._tell_news()
            if not self.live.is_terminal and self._elapsed() - self.reported >= _REPORT_EVERY:
                self.reported = self._elapsed()
                self.live.line(_line(self.local.collectors, self.reported, stopping=self.stop.is_set()))
            await asyncio.sleep(_LOOK_EVERY)

    def _tell_news(self) -> None:
        """Report once when each collector is ready, and when the first records are stored."""
        for collector in self.local.collectors:
            status = collector.status()
            if status and status.state == "ready":
                self._tell_once(f"{collector.name} is ready: {status.detail}")
        stored = _sum(self.local.collectors, "stored")
        if stored and "stored" not in self.told:
            self.told.add("stored")
            self.live.line(f"{self._elapsed():5.1f} s  the first {stored} records are stored")

    def _tell_once(self, text: str) -> None:
        if text not in self.told:
            self.told.add(text)
            self.live.line(f"{self._elapsed():5.1f} s  {text}")

    def _show(self, name: str, line: str) -> None:
        self.live.line(f"{name}: {line}")

    def _elapsed(self) -> float:
        return time.monotonic() - self.begun

    def _judge(self) -> int:
        """Return 1 if a collector ended badly, or never got ready in a run of a given length."""
        status = 0
        for collector in self.local.collectors:
            if collector.exit_status not in (
                0,
                None,
                -signal.SIGTERM,
            ):  # stopped before its first status
                self.console.remark(f"launcher: {collector.name} ended with status {collector.exit_status}")
                status = 1
            elif self.seconds is not None and not collector.ever_ready:
                said = collector.status()
                why = said.detail if said else "it printed nothing"
                self.console.remark(f"launcher: {collector.name} was not ready in time: {why}")
                status = 1
        return status


def _table(collectors: Sequence[LocalCollector]) -> Table:
    table = Table(
        "COLLECTOR", "STATE", ">RECORDS/S", ">RECEIVED", ">STORED", ">IN SPOOL", ">LAST RECORD", "DETAIL",
        spare=("LAST RECORD", "IN SPOOL", "RECORDS/S", "RECEIVED", "STORED"),
    )  # fmt: skip
    for collector in collectors:
        status = collector.status()
        age = f"{time.time() - status.last_received:.1f} s ago" if status and status.last_received else "-"
        table.add(
            collector.name,
            status.state if status else "starting",
            f"{collector.rate():,.0f}",
            f"{_sum([collector], 'received'):,}",
            f"{_sum([collector], 'stored'):,}",
            f"{_waiting([collector]):,}",
            age,
            status.detail if status else "",
        )
    return table


def _line(collectors: Sequence[LocalCollector], elapsed: float, *, stopping: bool) -> str:
    states = [status.state for collector in collectors if (status := collector.status())]
    rate = sum(collector.rate() for collector in collectors)
    how = "stopping" if stopping else f"{states.count('ready')} of {len(collectors)} ready"
    return (
        f"{elapsed:5.1f} s  {how}, {rate:,.0f} records/s,"
        f" {_sum(collectors, 'received'):,} received, {_sum(collectors, 'stored'):,} stored,"
        f" {_waiting(collectors):,} in the spool"
    )


def _sum(collectors: Sequence[LocalCollector], what: str) -> int:
    return sum(getattr(each, what) for collector in collectors for each in collector.counts().values())


def _waiting(collectors: Sequence[LocalCollector]) -> int:
    return sum(status.spool.records for collector in collectors if (status := collector.status()))


def _summarise(collectors: Sequence[LocalCollector], console: Console) -> None:
    table = Table("COLLECTOR", "CHANNEL", ">RECEIVED", ">STORED")
    for collector in collectors:
        for channel, count in collector.counts().items():
            table.add(collector.name, channel, f"{count.received:,}", f"{count.stored:,}")
    if table.rows:
        console.table(table)
    for place, commands in _places(collectors).items():
        console.say(f"\n{place}")
        for command in commands[:1]:
            console.say(f"to read it: {command}")


def _summarise_as_json(collectors: Sequence[LocalCollector], console: Console) -> None:
    console.json(
        [
            {
                "collector": each.name,
                "exit_status": each.exit_status,
                "channels": each.counts(),
                "where": reading.where(each.environment),
            }
            for each in collectors
        ]
    )


def _places(collectors: Sequence[LocalCollector]) -> dict[str, list[str]]:
    """Return how much was stored where, each with commands that read it."""
    stored: dict[str, int] = {}
    commands: dict[str, list[str]] = {}
    for collector in collectors:
        place = reading.where(collector.environment)
        counts = collector.counts()
        stored[place] = stored.get(place, 0) + sum(count.stored for count in counts.values())
        command = reading.command(
            collector.environment, [name for name, each in counts.items() if each.stored]
        )
        commands.setdefault(place, []).extend([command] if command else [])
    return {f"{count:,} records stored: {place}": commands[place] for place, count in stored.items()}
