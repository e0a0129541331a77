"""The measurements, and the figures that they come to. Each is checked to have stored what was sent."""

import statistics
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from contestants import Ours, Peer, Slice
from destinations import DESTINATIONS
from recording import Recording
from steps import Steps

#: The most CPU that a store's collector may need, in terms of the floor's and of its own backend's.
FLOOR_GOALS = {"REDISSTREAM": 0.7, "REDIS": 0.7, "POSTGRES": 0.75, "PARQUET": 0.85, "MONGO": 1.2}
OWN_GOALS = {"REDISSTREAM": 0.35, "REDIS": 0.35, "POSTGRES": 0.4, "MONGO": 0.6}
#: The same where there is time between messages; only the floor's is bounded.
PACED_GOALS = {"REDISSTREAM": 1.1, "REDIS": 1.1, "POSTGRES": 1.3}
#: The least records a second, in terms of its own backend's.
PACE_GOALS = dict.fromkeys(("REDISSTREAM", "REDIS", "POSTGRES"), 3.5)
SERVER_GOAL = 1.5
#: Milliseconds from receipt to committed, the median and the 99th percentile.
DELAY_GOALS = dict.fromkeys(("REDISSTREAM", "REDIS", "POSTGRES"), (8, 20)) | {"MONGO": (10, 50)}
#: MiB when idle, and at HIGH_RATE; from halfway on it may grow by a tenth.
IDLE_GOALS = dict.fromkeys(("REDISSTREAM", "REDIS", "POSTGRES"), 60) | {"MONGO": 72, "PARQUET": 100}
BUSY_GOALS = IDLE_GOALS | {"PARQUET": 160}
GROWTH_GOAL = 1.1
START_GOAL = 1.5  # seconds to the first stored record
DRAIN_GOAL = 8  # times the rate of live records
PEERLESS = "PARQUET"
PEERLESS_RECORDS = 15_000  # what Parquet takes as one batch; it waits for long until it has as many
LIVE_RATE, LIVE_RECORDS = 1_000, 10_000
HIGH_RATE, HIGH_RECORDS = 10_000, 100_000
BACKLOG_RECORDS, BACKLOG_RATE, BACKLOG_LIVE = 100_000, 5_000, 20_000
START_ROUNDS = 3


class Spread(NamedTuple):
    """Median, least and most of several rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        digits = 0 if self.median >= 1000 else 1
        median, least, most = (f"{value:.{digits}f}" for value in self)
        return median if self.least == self.most else f"{median} ({least}-{most})"


class Figure(NamedTuple):
    """One line of the table; what ``goal`` bounds is the ratio, or ours where there is no peer."""

    what: str
    ours: Spread
    peer: str = ""
    theirs: Spread | None = None
    ratio: Spread | None = None
    most: float | None = None
    least: float | None = None

    @classmethod
    def compared(
        cls, what: str, ours: Sequence[float], peer: str, theirs: Sequence[float], **goal: float | None
    ) -> "Figure":
        """Of rounds of both; the ratio is that of the rounds."""
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        return cls(what, Spread.of(ours), peer, Spread.of(theirs), Spread.of(ratios), **goal)

    @property
    def goal(self) -> str:
        """In words; nothing where there is none."""
        if self.most is not None:
            return f"<= {self.most:g}"
        return f">= {self.least:g}" if self.least is not None else ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        value = (self.ratio or self.ours).median
        if self.most is not None:
            return value <= self.most
        return value >= self.least if self.least is not None else None


class Bench:
    """Everything that is measured on one recording."""

    def __init__(self, folder: Path, recording: Recording, stores: Sequence[str]) -> None:
        self._recording, self._file, self._stores = recording, folder / "recording", stores
        recording.save(self._file)
        self._delays = folder / "delays"

    def cost(self, rounds: int, records: int, rate: float = 0.0) -> Iterator[Figure]:
        """CPU and throughput, in turns with cryptofeed; ``rate`` 0 is as fast as the collector reads."""
        speed = f"at {rate:,.0f}/s" if rate else "at full speed"
        slices = self._slices(rounds, records, rate)
        floor = _cpu(slices[None, Peer])
        for store in self._stores:
            ours = slices[store, Ours]
            cpu = f"{store}: CPU {speed}, us a record"
            goals = PACED_GOALS if rate else FLOOR_GOALS
            yield Figure.compared(cpu, _cpu(ours), "floor", floor, most=goals.get(store))
            if store == PEERLESS:
                continue
            theirs = slices[store, Peer]
            most = None if rate else OWN_GOALS[store]
            yield Figure.compared(cpu, _cpu(ours), "its own backend", _cpu(theirs), most=most)
            server = f"{store}: CPU of the server {speed}, us a record"
            yield Figure.compared(server, _server(ours), "its own backend", _server(theirs), most=SERVER_GOAL)
            if not rate:
                pace = f"{store}: records a second"
                least = PACE_GOALS.get(store)
                yield Figure.compared(pace, _pace(ours), "its own backend", _pace(theirs), least=least)

    def _slices(self, rounds: int, records: int, rate: float) -> dict[tuple[str | None, type], list[Slice]]:
        slices = {}
        with ExitStack() as stack:
            contestants = [((None, Peer), stack.enter_context(Peer(self._recording, self._file)))]
            for store in self._stores:
                for kind in (Ours,) if store == PEERLESS else (Ours, Peer):
                    contestant = kind(self._recording, self._file, DESTINATIONS[store]())
                    contestants.append(((store, kind), stack.enter_context(contestant)))
            for _ in range(rounds):
                for key, contestant in contestants:
                    some = PEERLESS_RECORDS if key[0] == PEERLESS else records
                    slices.setdefault(key, []).append(contestant.race(some, rate))
            for _, contestant in contestants:
                contestant.check()
        return slices

    def latency(self) -> Iterator[Figure]:
        """From receipt to the store's answer."""
        for store in self._stores:
            if store == PEERLESS:
                continue
            with self._ours(store, "delays.py", DELAYS=str(self._delays)) as ours:
                self._delays.write_bytes(b"")
                ours.race(LIVE_RECORDS, LIVE_RATE)
                ours.check()
            delays = array("d", self._delays.read_bytes())
            percentiles = statistics.quantiles(delays, n=100)
            what = f"{store}: receipt to committed at {LIVE_RATE:,}/s, ms"
            median, tail = DELAY_GOALS[store]
            yield Figure(f"{what}, p50", _once(percentiles[49] * 1e3), most=median)
            yield Figure(f"{what}, p99", _once(percentiles[98] * 1e3), most=tail)

    def start(self) -> Iterator[Figure]:
        """From the start of a collector's process to its first stored record."""
        for store in self._stores:
            if store == PEERLESS:
                continue
            seconds = [self._ours(store).seconds_to_first() for _ in range(START_ROUNDS)]
            yield Figure(f"{store}: start to first stored record, s", Spread.of(seconds), most=START_GOAL)

    def memory(self) -> Iterator[Figure]:
        """Resident, shared libraries included."""
        for store in self._stores:
            with self._ours(store) as ours:
                begun = time.monotonic()
                ours.send(HIGH_RECORDS, HIGH_RATE)
                ours.wait_until_sent()
                between = ours.resident()
                ours.send(HIGH_RECORDS, HIGH_RATE)
                ours.wait_until_sent()
                after = ours.resident()
                rate = 2 * HIGH_RECORDS / (time.monotonic() - begun)
                ours.check()
            yield Figure(f"{store}: resident when idle, MiB", _once(ours.idle), most=IDLE_GOALS[store])
            busy = f"{store}: resident at {rate:,.0f}/s, MiB"
            yield Figure(busy, _once(after), most=BUSY_GOALS[store])
            yield Figure.compared(busy, [after], "halfway", [between], most=GROWTH_GOAL)

    def backlog(self) -> Iterator[Figure]:
        """What came while the store was away, delivered while live records go on coming."""
        for store in self._stores:
            if store == PEERLESS:
                continue
            with self._ours(store) as ours:
                ours.destination.leave()
                ours.send(BACKLOG_RECORDS)
                ours.wait_until_sent()
                backlog = ours.sent
                ours.send(BACKLOG_LIVE, BACKLOG_RATE)
                ours.destination.come_back()
                rate = ours.drained(backlog)
                ours.wait_until_sent()
                ours.check()
            yield Figure.compared(
                f"{store}: backlog drained, records a second",
                [rate],
                *("live rate", [BACKLOG_RATE]),
                least=None if store == "MONGO" else DRAIN_GOAL,
            )

    def steps(self) -> dict[str, float]:
        """Microseconds of CPU per record of each step of our way."""
        steps = Steps(self._recording, self._file, self._stores)
        steps.run()
        return steps.measured

    def _ours(self, store: str, script: str = "", **variables: str) -> Ours:
        return Ours(self._recording, self._file, DESTINATIONS[store](), script, **variables)


def _once(value: float) -> Spread:
    return Spread.of([value])


def _cpu(slices: Sequence[Slice]) -> list[float]:
    return [each.cpu / each.records * 1e6 for each in slices]


def _server(slices: Sequence[Slice]) -> list[float]:
    return [each.server / each.records * 1e6 for each in slices]


def _pace(slices: Sequence[Slice]) -> list[float]:
    return [each.records / each.wall for each in slices]
