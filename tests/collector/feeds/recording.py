"""A feed, a receiver and a real spool at work on the simulator, in this process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison import Comparison, compare
from simulated import Simulator
from spooled import spooled
from streams import in_seconds
from waiting import eventually

from collector.feeds import creation
from collector.feeds.connection import Patience
from collector.feeds.feed import Feed
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import AnyRecord, Gap
from collector.settings import Settings
from collector.spool.spool import Spool

SYMBOLS = {
    "COINBASE": "BTC-USD,ETH-USD",
    "KRAKEN": "BTC-USD,ETH-USD",
    "BINANCE": "BTC-USDT,ETH-USDT",
    "BINANCE_FUTURES": "BTC-USDT-PERP,ETH-USDT-PERP",
}
HASTY = Patience(shortest_pause=0.05, longest_pause=0.4, useful=2.0)


class GapCollector(Receiver):
    """A receiver that remembers the gaps it was told of, with times in seconds."""

    gaps: list[Gap]

    def put(self, record: AnyRecord, weight: int = 1) -> None:
        if isinstance(record, Gap):
            self.gaps.append(in_seconds(record))
        super().put(record, weight)


@dataclass
class Recording:
    """What runs, and what it has got so far."""

    simulator: Simulator
    settings: Settings
    spool: Spool
    receiver: GapCollector
    feed: Feed
    metrics: Metrics
    running: asyncio.Task[None]

    async def until(self, condition: Callable[[], object], what: str = "") -> None:
        await eventually(condition, what, self.running)

    async def confirmed(self) -> None:
        await self.until(lambda: self.feed.subscriptions.confirmed and not self.feed.subscriptions.pending)

    async def more(self, records: int = 50) -> None:
        """Waits for that many more records."""
        wanted = self.received + records
        await self.until(lambda: self.received >= wanted, f"{wanted} records")

    @property
    def received(self) -> int:
        return self.metrics.received.total()

    async def settled(self) -> list[AnyRecord]:
        """Everything that was sent is received and in the spool; the records."""
        await self.confirmed()
        await asyncio.to_thread(self.simulator.pause)
        before = -1
        while before != self.received:
            before = self.received
            await asyncio.sleep(0.1)
        await self.receiver.drain()
        return await spooled(self.spool)

    async def compared(self) -> Comparison:
        records = await self.settled()
        return compare(await asyncio.to_thread(self.simulator.log), records)

    async def fault(self, fault: str, **fields: object) -> None:
        await asyncio.to_thread(self.simulator.fault, fault, exchange=self.settings.exchange, **fields)

    async def openings(self) -> int:
        log = await asyncio.to_thread(self.simulator.log)
        return sum(entry.get("event") == "open" for entry in log)


def settings(simulator: Simulator, folder: Path, exchange: str, **variables: str) -> Settings:
    return Settings.read(
        {
            "EXCHANGE": exchange,
            "SYMBOLS": SYMBOLS.get(exchange, ""),
            "CHANNELS": "trades,ticker,l2_book",
            "BACKEND": "TTY",
            "SPOOL_DIR": str(folder),
            "HTTPS_PROXY": simulator.proxy,
            "SSL_CERT_FILE": str(simulator.ca),
            **variables,
        }
    )


@contextlib.asynccontextmanager
async def recording(
    simulator: Simulator,
    folder: Path,
    exchange: str,
    patience: Patience = HASTY,
    create: Callable[..., Feed] = creation.feed,
    **variables: str,
) -> AsyncIterator[Recording]:
    asked = settings(simulator, folder, exchange, **variables)
    asked.home.mkdir(parents=True, exist_ok=True)
    spool = await Spool.open(asked.home)
    metrics = Metrics()
    receiver = GapCollector(spool, metrics)
    receiver.gaps = []
    feed = create(asked, receiver, patience)
    appending = asyncio.create_task(receiver.run())
    running = asyncio.create_task(feed.run())
    try:
        yield Recording(simulator, asked, spool, receiver, feed, metrics, running)
    finally:
        await feed.stop()
        await receiver.drain()
        appending.cancel()
        await asyncio.gather(appending, running, return_exceptions=True)
        await spool.close()


def lines(caplog: Any, text: str) -> list[str]:
    return [message for message in caplog.messages if text in message]
