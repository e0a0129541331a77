"""The two trials of a store: faults of all kinds one after the other, and a long absence at a high rate."""

import contextlib
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from collectors import Collector
from ledger import Account, Sent, Stored, balance
from places import Parquet, Place
from simulated import Simulator
from waiting import PATIENCE

EXCHANGE, SYMBOLS, CHANNELS = "COINBASE", ["BTC-USD", "ETH-USD", "SOL-USD", "XRP-USD"], "trades,l2_book"
PER_STEP = 2.87 * len(SYMBOLS)  # records that one step of the simulated markets amounts to
LULL = 0.5  # seconds between two faults, and of a restart, at the most
TICK = 0.01
WARM_UP, BASELINE = 20.0, 10.0  # seconds at the full rate: until memory is looked at, and while it is
MIB = 2**20
#: What a collector's log says of its store.
NEWS = BACK, AWAY = "the store is connected", "the store is unreachable"


@dataclass
class Outcome:
    """What a trial came to: faults counted, what should never happen, and when each fault came."""

    store: str
    trial: str
    started: float
    seconds: float = 0.0
    survived: dict[str, int] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    troubles: list[str] = field(default_factory=list)
    diary: list[tuple[float, str]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        return self.account.exact and not self.troubles

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"good": self.good}


class Trial:
    """A simulated exchange, a collector, and the store between ``with`` and its end."""

    name: str
    faulty: bool

    def __init__(self, place: Place, options, folder: Path) -> None:
        self.place, self.options, self.folder = place, options, folder
        self.outcome = Outcome(place.backend, self.name, time.time())
        self.chance = random.Random(options.seed)
        self._read = 0  # bytes of the collector's log that have been counted
        self._counts: Counter[str] = Counter()

    def run(self) -> Outcome:
        log = self.folder / "log"
        rate = self.rate / PER_STEP
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.place.running(faulty=self.faulty))
            self.simulator = stack.enter_context(Simulator({EXCHANGE: SYMBOLS}, rate=rate, log=log))
            self.collector = self._collector()
            stack.enter_context(self.collector)
            self.collector.wait_until_ready()
            self.strike()
            self._end()
            stored = Stored()
            self.place.read(stored)
            if self.options.logs:
                name = f"{self.place.backend}-{self.name}.log"
                shutil.copy(self.collector.stderr, self.options.logs / name)
        self.outcome.account = balance(Sent(log), stored)
        self.outcome.seconds = time.time() - self.outcome.started
        return self.outcome

    @property
    def rate(self) -> float:
        """Records per second."""
        raise NotImplementedError

    def strike(self) -> None:
        raise NotImplementedError

    def _collector(self) -> Collector:
        return Collector(
            self.folder,
            NAME="soak",
            EXCHANGE=EXCHANGE,
            SYMBOLS=",".join(SYMBOLS),
            CHANNELS=CHANNELS,
            BACKEND=self.place.backend,
            **self.place.environment,
            **self.simulator.environment,
        )

    def _end(self) -> None:
        self.simulator.pause()
        while True:  # a long backlog takes longer than one wait
            try:
                self.collector.wait_until_quiet()
                break
            except AssertionError:
                if self.collector.process.poll() is not None:
                    raise
        if status := self.collector.stop():
            self.outcome.troubles.append(f"the collector's last exit status is {status}")
        lines = self.collector.lines()
        self.outcome.troubles += [line for line in lines if "Traceback" in line or "CRITICAL" in line]

    def told(self, text: str) -> int:
        """How many lines of the collector's log contain ``text`` (one of NEWS)."""
        with self.collector.stderr.open() as file:
            file.seek(self._read)
            while (line := file.readline()).endswith("\n"):
                self._counts.update(news for news in NEWS if news in line)
                self._read = file.tell()
        return self._counts[text]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Waits until it holds; a collector that ends by itself is started again, and that is a trouble."""
        end = time.monotonic() + PATIENCE
        while not condition():
            self.check_simulator()
            if self.collector.process.poll() is not None:
                status = self.collector.process.returncode
                self.outcome.troubles.append(f"the collector ended by itself: {status}")
                self.collector.start()
            if time.monotonic() > end:
                raise AssertionError(f"not within {PATIENCE} s: {self.collector.lines()[-20:]}")
            time.sleep(TICK)

    def check_simulator(self) -> None:
        if not self.simulator.process.is_alive():
            raise AssertionError(f"the simulator ended: {self.simulator.errors.read_text()[-2000:]}")

    @contextlib.contextmanager
    def found_again(self) -> Iterator[None]:
        """Waits, after what comes in it, until the collector has found its store again, or not missed it."""
        before, self._away = self.told(BACK), self.told(AWAY)
        yield
        over = time.time()
        self.wait_until(lambda: self.told(BACK) > before or self._stores_since(over))

    def missed(self) -> None:
        """Waits until the collector has seen, since ``found_again``, that the store is away."""
        self.wait_until(lambda: self.told(AWAY) > self._away)

    def _stores_since(self, moment: float) -> bool:
        status = self.collector.status
        return status is not None and (status.last_stored or 0.0) > moment


class Faults(Trial):
    """Faults in an order of chance, at a low rate; the next comes when the store is found again."""

    name, faulty = "faults", True

    @property
    def rate(self) -> float:
        return self.options.fault_rate

    def _collector(self) -> Collector:
        collector = super()._collector()
        if isinstance(self.place, Parquet):
            collector.command = [sys.executable, str(Path(__file__).with_name("hasty.py"))]
        return collector

    def strike(self) -> None:
        counts = {
            self.restart_store: self.options.restarts,
            self.reset_connections: self.options.resets,
            self.kill_store: self.options.kills,
            self.kill_collector: self.options.collector_kills,
            self.restart_collector: self.options.collector_restarts,
            self.drop: self.options.drops,
        }
        faults = [fault for fault, count in counts.items() for _ in range(count)]
        self.chance.shuffle(faults)
        survived: Counter[str] = Counter()
        for fault in faults:
            self._lull()
            self.outcome.diary.append((time.time(), fault.__name__))
            fault()
            survived[fault.__name__] += 1
        self.outcome.survived = dict(survived)

    def _lull(self) -> None:
        time.sleep(self.chance.uniform(0, LULL))

    def restart_store(self) -> None:
        with self.found_again():
            self.place.go_away()
            if isinstance(self.place, Parquet):
                self.missed()
            self._lull()
            self.place.come_back()

    def kill_store(self) -> None:
        with self.found_again():
            if self.place.kill():
                self._lull()
                self.place.come_back()
            else:
                self._kill_collector()

    def reset_connections(self) -> None:
        with self.found_again(), self.place.resetting(self.chance):
            self.missed()

    def kill_collector(self) -> None:
        with self.found_again():
            self._kill_collector()

    def restart_collector(self) -> None:
        with self.found_again():
            if status := self.collector.stop():
                self.outcome.troubles.append(f"exit status {status} after SIGTERM")
            self._lull()
            self.collector.start()

    def drop(self) -> None:
        """By the exchange, with or without a word."""
        self.simulator.fault(self.chance.choice(("reset", "close")), exchange=EXCHANGE)

    def _kill_collector(self) -> None:
        self.collector.process.send_signal(signal.SIGKILL)
        self.collector.process.wait()
        self._lull()
        self.collector.start()


class Absence(Trial):
    """The store is away for minutes at a high rate; back, it gets what has gathered and what goes on."""

    name, faulty = "absence", False

    @property
    def rate(self) -> float:
        return self.options.rate

    def strike(self) -> None:
        _, waited = self._sample(WARM_UP)
        before, waiting = self._sample(BASELINE)
        begun = self.collector.status
        self.place.go_away()
        away, _ = self._sample(self.options.minutes_away * 60)
        gone = self.collector.status
        with self.found_again():
            self.place.come_back()
        drain = self._drain(max(waited, waiting, int(2 * self.rate)))
        seconds = gone.time - begun.time
        self.outcome.figures = {
            "minutes away": seconds / 60,
            "live records per second": (_received(gone) - _received(begun)) / seconds,
            "backlog": float(gone.spool.records),
            "backlog MiB": gone.spool.bytes / MIB,
            "memory before, MiB": before / MIB,
            "memory while away, MiB": away / MIB,
        } | drain
        self._sample(BASELINE)

    def _drain(self, usual: int) -> dict[str, float]:
        """Until no more records wait than is usual."""
        begun = last = self.collector.status
        peak = _resident(self.collector.process.pid)
        end = time.monotonic() + self.options.drain_minutes * 60
        while last.spool.records > usual and time.monotonic() < end:
            peak = max(peak, self._sample(1.0)[0])
            last = self.collector.status or last
        seconds = max(last.time - begun.time, 1.0)
        stored, live = (count(last) - count(begun) for count in (_stored, _received))
        return {
            "memory while draining, MiB": peak / MIB,
            "drained after, seconds": seconds,
            "left of the backlog": float(last.spool.records),
            "stored per second": stored / seconds,
            "live records per second while draining": live / seconds,
            "times the live rate": stored / max(live, 1),
        }

    def _sample(self, seconds: float) -> tuple[int, int]:
        """Lets that time pass; the most memory (bytes) that the collector had, and records that waited."""
        memory, waiting, end = 0, 0, time.monotonic() + seconds
        while True:
            memory = max(memory, _resident(self.collector.process.pid))
            if status := self.collector.status:
                waiting = max(waiting, status.spool.records)
            left = end - time.monotonic()
            if left <= 0:
                self.check_simulator()
                return memory, waiting
            time.sleep(min(left, 0.5))


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def _received(status) -> int:
    return sum(channel.received for channel in status.channels.values())


def _stored(status) -> int:
    return sum(channel.stored for channel in status.channels.values())


TRIALS = {trial.name: trial for trial in (Faults, Absence)}
