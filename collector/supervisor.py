"""Starting the parts of a collector, guarding every task that should never end, stopping them in order.

    exchange -> feed -> receiver -> spool -> writer -> store

A task that ends by itself is a fault: it is logged, the others are stopped, and the process ends with a
status other than 0, so that whoever started it starts it again.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from collector import health, memory, stores
from collector.dead_letters import letters_in
from collector.feeds import creation
from collector.gaps.ceded import Ceded
from collector.gaps.continuity import Continuity
from collector.gaps.overlap import Overlap
from collector.lease import AnotherWriterError
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import Key
from collector.settings import Settings, SettingsError
from collector.spool.database import RESERVE_BYTES
from collector.spool.spool import Spool, SpoolError, SpoolInUseError
from collector.stores.terminal import ClosedOutputError
from collector.successor import Successor
from collector.writer import Writer

if TYPE_CHECKING:
    from collector.feeds.access import Listed

LOG = logging.getLogger(__name__)

ROOM_PAUSE = 5.0  # seconds between two looks for room on a full disk

#: Exit statuses.
STOPPED, DIED, MISCONFIGURED = 0, 1, 78

#: Seconds that each part gets to stop. Together they stay below the 10 s that `docker stop` waits.
FEED_GRACE, RECEIVER_GRACE, WRITER_GRACE, TASKS_GRACE, SPOOL_GRACE = 2.0, 1.0, 3.0, 2.0, 1.5


async def collect(settings: Settings) -> int:
    """Run one collector until a signal, a wrong setting or the death of a part; return the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    successor = Successor(settings)
    try:
        spool = await _spool(settings, successor, stop)
    except (OSError, SpoolError) as error:
        LOG.critical(
            "cannot open the spool in SPOOL_DIR = %s: %s%s", settings.spool_dir, error, _remedy(error)
        )
        return DIED
    finally:
        successor.over()
    if spool is None:
        return STOPPED
    try:
        return await _Collector(settings, spool, successor.take()).run(stop)
    finally:
        await _within(SPOOL_GRACE, spool.close(), "closing the spool")


async def _spool(settings: Settings, successor: Successor, stop: asyncio.Event) -> Spool | None:
    """Open the spool, once its disk has room and nobody else has it; None if it is to stop before."""
    while not stop.is_set():
        try:
            settings.home.mkdir(parents=True, exist_ok=True)
            return await Spool.open(
                settings.home,
                max_bytes=settings.spool_max_bytes,
                keep=settings.spool_keep,
                sync=settings.spool_sync,
            )
        except SpoolInUseError as error:
            await _unless_stopped(stop, successor.wait(error))
            continue
        except (OSError, SpoolError) as error:
            if not _is_full(settings.spool_dir):
                raise
            LOG.warning("waiting for space on the disk of SPOOL_DIR = %s: %s", settings.spool_dir, error)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), ROOM_PAUSE)
    return None


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Await ``work``, or leave it where ``stop`` comes first."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        return working.result()
    working.cancel()
    await asyncio.wait({working})
    return None


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < RESERVE_BYTES
    except OSError:
        return False


def _remedy(error: Exception) -> str:
    """Return who must own the folder, where that is what is wrong."""
    if not isinstance(error, PermissionError) and not isinstance(error.__cause__, PermissionError):
        return ""
    return f": it must belong to user {os.geteuid()}, who runs the collector (chown {os.geteuid()} ...)"


class _Collector:
    def __init__(self, settings: Settings, spool: Spool, listed: "Listed | None" = None) -> None:
        self.settings = settings
        self.spool = spool
        self.metrics = Metrics()
        self.receiver = Receiver(spool, self.metrics)
        self.feed = creation.feed(settings, self.receiver)
        self.feed.listed = listed
        self.continuity = Continuity(spool, self.feed.gaps, self.feed.renew_books, settings.records)
        self.overlap = Overlap(
            settings,
            self.feed.subscriptions,
            self.feed.gaps,
            self.feed.renew_books,
            Ceded(settings.exchange, self.receiver.marks),
        )
        store = stores.create(settings)
        self.shares = isinstance(store, stores.SharedStore) and not settings.allow_overlap
        self.writer = Writer(
            settings.name,
            store,
            spool,
            self.metrics,
            self.continuity,
            None if settings.allow_overlap else self.overlap,
        )
        self.started = time.time()
        self.was_ready = False
        self.oldest: float | None = None  # receipt of the oldest record that is not stored

    async def run(self, stop: asyncio.Event) -> int:
        await self.continuity.begin()
        async with _Guard() as guard:
            guard.start("continuity", self.continuity.run())
            guard.start("writer", self.writer.run())
            guard.start("receiver", self.receiver.run())
            guard.start("feed", self.feed.run())
            guard.start("health", self._tell_health())
            guard.start("report", self._report())
            guard.start("memory", memory.give_back())
            died = await guard.watch(stop)
            self._write_status("stopping", died.status[1] if died else "stopping")
            await _within(FEED_GRACE, self.feed.stop(), "stopping the feed")
            await _within(RECEIVER_GRACE, self._save(), "saving what was received")
            await self.writer.drain(WRITER_GRACE)
        LOG.info("stopped; %s", self._summary())
        self._write_status(*died.status if died else ("stopped", self._summary()))
        return died.exit_status if died else STOPPED

    async def _save(self) -> None:
        await self.receiver.drain()
        await self.continuity.stop()

    async def _tell_health(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):  # what a disk that is busy said last has to do
                async with asyncio.timeout(health.INTERVAL):
                    self.oldest = await self.spool.oldest()
            self._write_status(*self._judge())
            await asyncio.sleep(health.INTERVAL)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(self.settings.report_interval)
            LOG.info("%s", self._summary())

    def _judge(self) -> tuple[str, str]:
        state, detail = health.judge(
            self._store_status(),
            self._subscriptions(),
            was_ready=self.was_ready,
            idle=self.feed.idle,
            failure=self.feed.failure,
        )
        if state == "ready" and not self.was_ready:
            if self.shares and not self.overlap.is_settled:
                return "starting", "checking whether other collectors store the same"
            self.was_ready = True
            LOG.info("ready: %s", detail)
        return state, detail

    def _write_status(self, state: str, detail: str) -> None:
        try:
            health.write(self.settings.home, self._status(state, detail))
        except OSError as error:  # a full disk must not end a collector whose spool copes with it
            LOG.warning("status file not written: %s", error)

    def _status(self, state: str, detail: str) -> health.Status:
        records, size = self.spool.undelivered
        return health.Status(
            name=self.settings.name,
            exchange=self.settings.exchange,
            started=self.started,
            time=time.time(),
            state=state,
            detail=detail,
            store=self._store_status(),
            connections=tuple(
                health.ConnectionStatus(id=each.id, state=each.state, since=each.since, error=each.error)
                for each in self.feed.connections
            ),
            subscriptions=self._subscriptions(),
            channels={
                channel: health.ChannelStatus(
                    received=self.metrics.received[channel], stored=self.metrics.stored[channel]
                )
                for channel in self.settings.channels
            },
            spool=health.SpoolStatus(
                records=records,
                bytes=size,
                dropped=self.spool.dropped,
                put_aside=self.metrics.put_aside,
                letters=letters_in(self.settings.home),
                oldest=self.oldest if records else None,
            ),
            unseen=self.feed.gaps.unseen,
            gaps_today=self.feed.gaps.recorder.today,
            last_received=self.metrics.last_received,
            last_stored=self.metrics.last_stored,
        )

    def _store_status(self) -> health.StoreStatus:
        state = self.writer.state
        return health.StoreStatus(
            backend=self.settings.backend, state=state.state, since=state.since, error=state.error
        )

    def _subscriptions(self) -> health.SubscriptionStatus:
        subscriptions = self.feed.subscriptions
        return health.SubscriptionStatus(
            confirmed=len(subscriptions.confirmed),
            pending=_names(subscriptions.pending),
            acknowledged=_names(subscriptions.acknowledged),
            silent=_names(subscriptions.silent),
            notice=subscriptions.notice or None,
            refused={
                f"{channel} {symbol}": reason
                for (channel, symbol), reason in sorted(subscriptions.refused.items())
            },
            overlapping={
                f"{channel} {symbol}": reason
                for (channel, symbol), reason in sorted(self.overlap.reasons.items())
            },
            overlapping_with=tuple(sorted(set(self.overlap.taken.values()))),
        )

    def _summary(self) -> str:
        counts = ", ".join(
            f"{channel} {self.metrics.received[channel]} received {self.metrics.stored[channel]} stored"
            for channel in self.settings.channels
        )
        waiting, _ = self.spool.undelivered
        lost = {"dropped": self.spool.dropped, "put aside as dead letters": self.metrics.put_aside}
        return f"{counts}; {waiting} in the spool" + "".join(
            f", {count} {what}" for what, count in lost.items() if count
        )


def _names(keys: Iterable[Key]) -> tuple[str, ...]:
    return tuple(f"{channel} {symbol}" for channel, symbol in sorted(keys))


class _Death:
    """A guarded task that ended: which, and what that means for the process."""

    def __init__(self, name: str, error: BaseException | None) -> None:
        self.exit_status = MISCONFIGURED if isinstance(error, SettingsError) else DIED
        reason = "it ended" if error is None else f"{type(error).__name__}: {error}"
        self.status = ("failed", f"{name} failed: {reason}")
        if isinstance(error, SettingsError):
            self.status = ("failed", "; ".join(str(error).splitlines()))
            for fault in error.faults:
                LOG.error("%s", fault)
        else:
            told = isinstance(error, SpoolError | AnotherWriterError | ClosedOutputError)
            LOG.critical("%s failed: %s; exiting", name, reason, exc_info=None if told else error)


class _Guard:
    """Tasks that should never end. On exit those that still run are cancelled."""

    def __init__(self) -> None:
        self.tasks: dict[asyncio.Task[None], str] = {}

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.tasks[asyncio.create_task(work, name=name)] = name

    async def watch(self, stop: asyncio.Event) -> _Death | None:
        """Wait for ``stop`` (None) or for the first task to end (its death)."""
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({*self.tasks, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in done - {stopping}:
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            return _Death(self.tasks[task], error)  # type: ignore[index]
        return None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks, timeout=TASKS_GRACE)


async def _within(seconds: float, work: Coroutine[Any, Any, object], doing: str) -> None:
    """Await ``work`` for ``seconds`` at the most; what goes wrong is logged and stops nothing."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        LOG.warning("%s took longer than %.1f s", doing, seconds)
    except Exception:
        LOG.exception("%s failed", doing)
