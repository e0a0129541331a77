"""What the simulated exchanges have in common: moving markets, subscribed websockets, and the log.

A ``Session`` speaks one exchange's protocol on one websocket; it never awaits, so a subscription's snapshot
and the updates that follow it cannot overtake each other. Its messages go through a ``Connection``: an
ordered queue and a task that writes them, so that a client who does not read holds up nobody but itself.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import msgspec
from aiohttp import WSMsgType, web

from collector.simulator.faults import NESTED
from collector.simulator.market import Instrument, Level, Market, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from collector.simulator.faults import Faults, Kind
    from collector.simulator.log import Log, Record

LOG = logging.getLogger(__name__)

ROOM = 256  # frames that may wait before a market without a rate pauses for its clients
MOST_WAITING = 5_000  # frames that may wait before a client counts as too slow and is cut off
BEAT = 1.0  # seconds between heartbeats

encode = msgspec.json.Encoder().encode


class Frame(NamedTuple):
    """A websocket message, and what a collector should make of it."""

    data: bytes
    records: tuple[Record, ...]


class Answer(NamedTuple):
    """A REST answer (JSON), and what a collector should make of it."""

    body: object
    status: int = 200
    records: tuple[Record, ...] = ()


class Connection:
    """One websocket: writes frames in order and logs each record once it is written."""

    def __init__(
        self,
        number: int,
        exchange: str,
        websocket: web.WebSocketResponse,
        transport: asyncio.Transport,
        *,
        log: Log,
        faults: Faults,
    ) -> None:
        self.number = number
        self.exchange = exchange
        self.opened = time.time()
        self.records = 0
        self.unwritten = 0
        self.quiet = False
        self.reason: str | None = None  # why we ended it; None while it is open, or when the client ended it
        self._websocket = websocket
        self._transport = transport
        self._log = log
        self._faults = faults
        self._queue: asyncio.Queue[Frame] = asyncio.Queue()
        self._held: Frame | None = None  # until another one has overtaken it
        self._room = asyncio.Event()
        self._room.set()

    def send(self, message: object, records: Sequence[Record] = ()) -> None:
        """Queue a message; standing faults may lose it, double it, or let another one overtake it."""
        if self.reason or self.quiet:
            return
        if any(self._loses(record) for record in records):
            return
        frame = Frame(encode(message), tuple(records))
        if self._held is None and self._strikes("swap", records):
            self._held = frame
            return
        self._put(frame)
        if self._strikes("double", records):
            self._put(Frame(frame.data, ()))
        if self._held:
            held, self._held = self._held, None
            self._put(held)

    def send_raw(self, data: bytes) -> None:
        """Queue bytes that are no message of the protocol."""
        if not (self.reason or self.quiet):
            self._put(Frame(data, ()))

    async def write(self) -> None:
        """Write what is queued, until the client is gone."""
        try:
            while True:
                frame = await self._queue.get()
                await self._websocket.send_frame(frame.data, WSMsgType.TEXT)
                for record in frame.records:
                    self._log.record(self.exchange, self.number, record)
                self.records += len(frame.records)
                self.unwritten -= 1
                if self.unwritten == 0:
                    self._log.flush()
                if self.unwritten <= ROOM:
                    self._room.set()
        except ConnectionError:
            return
        except Exception:
            LOG.exception("connection %d of %s could not be written to", self.number, self.exchange)
            self.reset("error")

    async def room(self) -> None:
        """Wait until the client has taken most of what is queued."""
        await self._room.wait()

    def reset(self, reason: str = "reset") -> None:
        """Cut the connection: no close frame, no TLS goodbye, a TCP reset; what is queued is dropped."""
        if self._end(reason) and (raw := self._transport.get_extra_info("socket")):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    async def close(self, code: int, reason: str) -> None:
        """Close cleanly: what was written arrives, what is queued is dropped."""
        if self._end(reason):
            await self._websocket.close(code=code)

    def _loses(self, record: Record) -> bool:
        content = (record.channel, record.symbol)
        if not record.noticed:
            return False
        return self._faults.take("skip_sequence", self.exchange, self.number, content) is not None

    def _strikes(self, fault: Literal["double", "swap"], records: Sequence[Record]) -> bool:
        """Return whether a fault strikes this message; it is for updates alone."""
        return any(
            record.is_update
            and self._faults.take(fault, self.exchange, self.number, (record.channel, record.symbol))
            for record in records
        )

    def _put(self, frame: Frame) -> None:
        if self.unwritten >= MOST_WAITING:
            LOG.warning("connection %d of %s is too slow and is cut off", self.number, self.exchange)
            self.reset("slow")
            return
        self._queue.put_nowait(frame)
        self.unwritten += 1
        if self.unwritten > ROOM:
            self._room.clear()

    def _end(self, reason: str) -> bool:
        if self.reason:
            return False
        self.reason = reason
        self._queue, self._held = asyncio.Queue(), None
        self.unwritten = 0
        self._room.set()
        return True


class Session(ABC):
    """An exchange's protocol on one connection."""

    truncated: ClassVar[bytes]  # a message of this exchange, cut in the middle

    def __init__(self, connection: Connection, exchange: Exchange) -> None:
        self.connection = connection
        self.exchange = exchange

    def greet(self) -> None:  # noqa: B027 - most exchanges say nothing first
        """Send what the exchange sends before it is asked."""

    def patience(self) -> float | None:
        """Seconds that the exchange goes on waiting for a client's next message; None: forever."""
        return None

    @abstractmethod
    def receive(self, text: str) -> None:
        """Answer a client's message."""

    @abstractmethod
    def update(self, steps: Mapping[str, Step]) -> None:
        """Send what changed in the markets, by symbol, to those who subscribed to it."""

    def beat(self) -> None:  # noqa: B027 - some exchanges send nothing where nothing happens
        """Send what is due every second, also while the markets are paused: heartbeats."""

    @abstractmethod
    def subscriptions(self) -> dict[str, list[str]]:
        """Return what the client is subscribed to: symbols by channel, both in cryptofeed's words."""

    @abstractmethod
    def wrong_shape(self) -> None:
        """Send a message that is good JSON and yet not what it should be."""

    @abstractmethod
    def unknown_type(self) -> None:
        """Send a message of a type that clients do not know: one may be added at any time."""

    def announce(self) -> None:  # noqa: B027 - some announce nothing
        """Say that this connection will be closed soon."""

    def send_snapshots(self, symbol: str | None) -> None:  # noqa: B027 - some have none on the websocket
        """Send the books that the client follows, complete and unasked; ``symbol`` None means all."""

    def refuses(self, channel: str, symbol: str) -> bool:
        """Return whether a fault refuses this subscription."""
        return self._meets("refuse_subscription", channel, symbol) or self.refuses_request(channel, symbol)

    def refuses_request(self, channel: str, symbol: str) -> bool:
        """Return whether a fault refuses a request with this subscription in it."""
        return self._meets("refuse_request", channel, symbol)

    def is_silent(self, channel: str, symbol: str) -> bool:
        """Return whether a fault has nothing come of this subscription."""
        return self._meets("silent", channel, symbol)

    def repeats(self, symbol: str) -> bool:
        """Return whether a fault has the last trades sent again."""
        return self._meets("repeat_trades", "trades", symbol)

    def _meets(self, kind: Kind, channel: str, symbol: str) -> bool:
        content = channel, symbol
        return (
            self.exchange.faults.take(kind, self.exchange.name, self.connection.number, content) is not None
        )


class Exchange(ABC):
    """One exchange: its markets, its clients' sessions, and the loop that moves the first for the second."""

    name: ClassVar[str]
    websocket_hosts: ClassVar[frozenset[str]]
    rest_hosts: ClassVar[frozenset[str]]
    ports: ClassVar[frozenset[int]] = frozenset({443})

    def __init__(
        self,
        instruments: Iterable[Instrument],
        *,
        seed: int,
        rate: float,
        updates: int | None,
        log: Log,
        faults: Faults,
    ) -> None:
        self._seed = seed
        self.markets: dict[str, Market] = {}
        for instrument in instruments:
            self.enlist(instrument)
        self.log = log
        self.faults = faults
        self.sessions: list[Session] = []
        self._rate = rate
        self._updates = updates
        self._wanted = asyncio.Event()  # somebody is subscribed to a market that still moves

    @staticmethod
    @abstractmethod
    def instrument(symbol: str) -> Instrument:
        """Return the instrument of a symbol, with this exchange's digits."""

    @abstractmethod
    def rest(self, request: web.BaseRequest) -> Answer:
        """Answer a REST request."""

    @abstractmethod
    def open(self, connection: Connection, request: web.BaseRequest) -> Session:
        """A session for a new websocket."""

    def enlist(self, instrument: Instrument) -> None:
        """List a symbol, from now on."""
        seed = f"{self._seed}/{self.name}/{instrument.symbol}"
        self.markets[instrument.symbol] = Market(instrument, seed, time.time_ns())

    def delist(self, symbol: str) -> None:
        """List a symbol no more; subscriptions to it stand, and nothing comes of them."""
        del self.markets[symbol]

    def subscribed(self) -> None:
        """A session has subscribed to something: the loop may have to move again."""
        self._wanted.set()

    async def run(self, going: asyncio.Event) -> None:
        """Move the markets at the rate, while ``going`` is set and somebody subscribed; until cancelled."""
        due = time.monotonic()
        while True:
            await self._wanted.wait()
            await going.wait()
            if self._rate:
                due = max(
                    due + 1 / self._rate, time.monotonic() - BEAT
                )  # late turns are made up for, old ones not
                await asyncio.sleep(due - time.monotonic())
                if not going.is_set():
                    continue
            else:
                await asyncio.sleep(0)
                await self._room()
            self._turn()

    async def beat(self) -> None:
        """Send heartbeats, until cancelled."""
        while True:
            await asyncio.sleep(BEAT)
            for session in list(self.sessions):
                session.beat()

    def _turn(self) -> None:
        wanted = {
            symbol
            for session in self.sessions
            for symbols in session.subscriptions().values()
            for symbol in symbols
            if symbol in self.markets
            and (self._updates is None or self.markets[symbol].steps < self._updates)
        }
        if not wanted:
            self._wanted.clear()
            return
        now = time.time_ns()
        steps = {symbol: self.markets[symbol].step(now) for symbol in self.markets if symbol in wanted}
        for session in list(self.sessions):
            # A connection that we have ended stays until its client has said goodbye: no fault is for it.
            if session.connection.reason is None and session.subscriptions() and not self._strikes(session):
                session.update(steps)
                if fault := self.faults.take("snapshot", self.name, session.connection.number):
                    session.send_snapshots(fault.symbol)

    def _strikes(self, session: Session) -> bool:
        """Let the faults strike that stand before an update; true when they cost the connection."""
        connection = session.connection
        if self.faults.take("reset", self.name, connection.number):
            connection.reset()
            return True
        if fault := self.faults.take("close", self.name, connection.number):
            spawn(connection.close(fault.code, "close"))
            return True
        if fault := self.faults.take("malformed", self.name, connection.number):
            if fault.kind == "shape":
                session.wrong_shape()
            else:
                connection.send_raw(NESTED if fault.kind == "nested" else session.truncated)
        if self.faults.take("unknown_type", self.name, connection.number):
            session.unknown_type()
        return False

    async def _room(self) -> None:
        for session in list(self.sessions):
            await session.connection.room()


_spawned: set[asyncio.Task[None]] = set()


def spawn(coroutine: Any) -> None:
    """Run a coroutine that nobody waits for; a reference is kept until it ends."""
    task = asyncio.ensure_future(coroutine)
    _spawned.add(task)
    task.add_done_callback(_spawned.discard)


def iso(nanoseconds: int, digits: int) -> str:
    """ISO 8601 in UTC with this many fractional digits (at most 9)."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{f'{fraction:09d}'[:digits]}Z"


def book(
    kind: str, bids: Iterable[Level], asks: Iterable[Level], timestamp: str | None, **ids: int
) -> dict[str, object]:
    """Return the content of an ``l2_book`` record."""
    return {"kind": kind, "bid": list(bids), "ask": list(asks), "timestamp": timestamp, **ids}
