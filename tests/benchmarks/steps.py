"""Where the time goes: the steps of a record's way, in microseconds of CPU per record.

They happen in this process, one after the other, so that they do not disturb each other: their sum is less
than the whole, which also waits, wakes up, and changes between threads.
"""

import asyncio
import gc
import json
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import uvloop
from cryptofeed import exchanges
from cryptofeed.connection import WSAsyncConn
from cryptofeed.symbols import Symbols
from destinations import DESTINATIONS
from recording import CHANNELS, SYMBOLS, Recording
from replayer import Replayer

from collector import stores
from collector.exchanges.binance.exchange import Binance
from collector.exchanges.protocol import Request, Session, Subscription
from collector.feeds.intake import Intake
from collector.feeds.subscriptions import Subscriptions
from collector.feeds.through_cryptofeed.network import CryptofeedNetwork
from collector.gaps.recorder import Recorder
from collector.gaps.tracker import Gaps
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.settings import Settings
from collector.spool.spool import Spool
from collector.writer import Writer

MESSAGES = 12_000
TURN = 64  # messages
ROUNDS = 5
WEBSOCKET = "wss://stream.binance.com:9443/stream?streams="
REST = "https://api.binance.com"


class Steps:
    """``measured`` has, by the name of a step, the least that it took in several rounds."""

    def __init__(self, recording: Recording, file: Path, backends: Sequence[str]) -> None:
        self._recording, self._file, self._backends = recording, file, backends
        self._messages = [_payload(frame) for frame in recording.frames[:MESSAGES]]
        self._singles = [_payload(frame).encode() for frame in recording.singles[:MESSAGES]]
        self.measured: dict[str, float] = {}

    def run(self) -> None:
        gc.freeze()
        gc.set_threshold(200_000)  # as in the collector
        for _ in range(ROUNDS):
            uvloop.run(self._receive())
            for backend in self._backends:
                with DESTINATIONS[backend]().running() as destination:
                    uvloop.run(self._write(destination))

    async def _receive(self) -> None:
        await self._read("websocket, as cryptofeed opens it", ours=False)
        await self._read("websocket", ours=True)
        with self._step("cryptofeed's handler"):
            await self._handle(self._feed(exchanges.Binance, dict.fromkeys(CHANNELS, _nothing)))
        session = self._session()
        with self._step("our session"):
            await self._hear(session, lambda _outputs, _receipt: None)
        async with _spool() as (settings, spool):
            session = self._session()
            with self._step("our session, with records into the spool"):
                await self._store(settings, spool, session)

    async def _write(self, destination) -> None:
        async with _spool(BACKEND=destination.backend, **destination.ours) as (settings, spool):
            await self._store(settings, spool, self._session())
            writer = Writer(settings.name, stores.create(settings), spool, Metrics())
            writing = asyncio.create_task(writer.run())
            while writer.state.state != "connected":  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0.001)
            with self._step(f"out of the spool into {destination.backend}"):
                await writer.drain(60)
            writing.cancel()
            await asyncio.wait([writing])

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        begun = time.process_time()
        yield
        took = (time.process_time() - begun) / MESSAGES * 1e6
        self.measured[name] = min(took, self.measured.get(name, took))

    async def _read(self, name: str, *, ours: bool) -> None:
        with Replayer(self._file) as replayer:
            environment = replayer.environment
            context = ssl.create_default_context(cafile=environment["SSL_CERT_FILE"])
            options = {"ssl": context, "proxy": environment["HTTPS_PROXY"], "max_queue": None}
            connection = WSAsyncConn(WEBSOCKET, "BINANCE", ping_interval=10, **options)
            if ours:
                CryptofeedNetwork(_settings(Path(), **environment)).equip(connection)
            async with connection.connect():
                replayer.send(MESSAGES)
                with self._step(name):
                    async for _ in connection.read():
                        if connection.received == MESSAGES:
                            break

    def _feed(self, kind, callbacks):
        symbols, about = kind._parse_symbol_data(json.loads(self._recording.rest["/api/v3/exchangeInfo"]))
        Symbols.set(kind.id, symbols, about)
        feed = kind(symbols=list(SYMBOLS), channels=list(CHANNELS), callbacks=callbacks)
        feed.http_conn = SimpleNamespace(read=self._answer)
        return feed

    async def _answer(self, address: str) -> str:
        return self._recording.rest[address.removeprefix(REST)].decode()

    async def _handle(self, feed) -> None:
        for number, message in enumerate(self._messages):
            if not number % TURN:
                await asyncio.sleep(0)
            await feed.message_handler(message, None, time.time())

    def _session(self) -> Session:
        """A session of ours that has its snapshots."""
        exchange = Binance()
        listing = exchange.instruments([self._recording.rest["/api/v3/exchangeInfo"]])
        asked = [Subscription(channel, symbol) for symbol in SYMBOLS for channel in CHANNELS]
        return exchange.session(asked, listing.instruments)

    async def _hear(self, session: Session, take) -> None:
        for number, message in enumerate(self._singles):
            if not number % TURN:
                await asyncio.sleep(0)
            outputs = session.receive(message, receipt := time.time_ns())
            if room := take(outputs, receipt):
                await room
            for request in [each for each in outputs if isinstance(each, Request)]:
                body = self._recording.rest[request.url.removeprefix(REST)]
                if room := take(session.answer(request.id, 200, body, receipt), receipt):
                    await room

    async def _store(self, settings: Settings, spool: Spool, session: Session) -> None:
        receiver = Receiver(spool, Metrics())
        receiving = asyncio.create_task(receiver.run())
        gaps = Gaps(settings.exchange, Recorder(receiver))
        intake = Intake(Binance(), Subscriptions(gaps), gaps, receiver)

        def take(outputs, receipt: int) -> Awaitable[None] | None:
            intake.take(outputs, receipt)
            return receiver.make_room() if receiver.is_due else None

        await self._hear(session, take)
        await receiver.drain()
        receiving.cancel()
        await asyncio.wait([receiving])


@asynccontextmanager
async def _spool(**variables: str) -> AsyncIterator[tuple[Settings, Spool]]:
    with tempfile.TemporaryDirectory(prefix="steps-") as folder:
        settings = _settings(Path(folder), **variables)
        settings.home.mkdir(parents=True)
        spool = await Spool.open(settings.home)
        yield settings, spool
        await spool.close()


def _settings(folder: Path, **variables: str) -> Settings:
    what = {"EXCHANGE": "BINANCE", "SYMBOLS": ",".join(SYMBOLS), "CHANNELS": ",".join(CHANNELS)}
    return Settings.read(what | {"BACKEND": "TTY", "SPOOL_DIR": str(folder)} | variables)


def _payload(frame: bytes) -> str:
    return frame[4 if frame[1] == 126 else 2 :].decode()


async def _nothing(_it: object, _receipt: float) -> None:
    pass
