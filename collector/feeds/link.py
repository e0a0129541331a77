"""One websocket, and the session that gives it its meaning: from its opening until it ends."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from collector.exchanges.protocol import (
    Closing,
    ConnectionPlan,
    Event,
    Exchange,
    Outputs,
    Renew,
    Request,
    Resync,
    Send,
    Session,
)
from collector.feeds.backoff import Paces
from collector.feeds.connection import ClosedError, Patience, SilentError, first_failure
from collector.feeds.intake import Intake
from collector.feeds.malformed import Malformed as MalformedFile
from collector.feeds.network import Network
from collector.feeds.renewals import Renewals
from collector.feeds.requests import SHORTEST, Requests
from collector.feeds.rest import Budget, Rest
from collector.feeds.subscriptions import Subscriptions
from collector.receiver import Receiver
from collector.records import Key

LOG = logging.getLogger(__name__)

#: Messages that are handled before the rest of the process has its turn, however many there are.
TURN = 64

#: Seconds within which a sign of life is answered.
ANSWERED = 5.0
#: How often the silence that ends a connection is doubled, where nobody knows whether it would be broken.
MOST_DOUBLED = 6
#: Seconds without a longer silence than suits the exchange, after which it ends a connection as at first.
LIVELY = 24 * 3600.0

#: Gets what a message, an answer or time has brought, with what it was made of and its receipt.
type Taker = Callable[[Outputs, bytes, int], None]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What the connections to one exchange share."""

    exchange: Exchange
    network: Network
    rest: Rest
    intake: Intake
    subscriptions: Subscriptions
    receiver: Receiver
    malformed: MalformedFile
    patience: Patience


@dataclass
class Lasting:
    """What a connection knows of its subscriptions for longer than a link.

    Attributes:
        asked, renewed: when each may be asked for by HTTP, and be subscribed to, again.
        urgent: what was live before.
        in_vain: how many links in a row ended in silence though they were asked for a sign of life.
        lively: since when, by time.monotonic(), no silence was longer than suits the exchange.
    """

    asked: Paces[Key] = field(default_factory=lambda: Paces(SHORTEST))
    renewed: Paces[Key] = field(default_factory=Paces)
    urgent: set[Key] = field(default_factory=set)
    in_vain: int = 0
    lively: float = field(default_factory=time.monotonic)


class Link:
    """One websocket.

    Attributes:
        session: the state of the exchange's protocol on it.
        take: gets what comes; whoever drives the link sets it.
        renewals: what is being subscribed to again.
        closing: set once the exchange says that it will close it; ``why`` are its words.
        handled: receipt (nanoseconds) of the last message that is done with; 0 before the first.
        ended: whether nothing comes of it any more, though closing it may take a while.
    """

    take: Taker

    def __init__(
        self, name: str, shared: Shared, plan: ConnectionPlan, session: Session, lasting: Lasting
    ) -> None:
        self.session = session
        self.renewals = Renewals(name, shared.exchange.limits, self._send, lasting.renewed)
        self.closing, self.why = asyncio.Event(), ""
        self.handled, self.ended = 0, False
        self._shared, self._url = shared, plan.url
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._requests = Requests(name, shared.rest, lasting.asked, lasting.urgent)
        self._lasting = lasting
        self._received = 0
        self._waits_for_room = False

    async def run(self, opened: Callable[[], None]) -> None:
        """Open it, tell so, subscribe, and receive until it ends, which always is an exception."""
        async with self._shared.network.websocket(self._url) as socket:
            opening = self.session.opening()
            self.renewals.begin(len(opening))
            for frame in opening:
                self._send(frame)
            opened()
            asking = self._requests.run(self.session, self._take)
            try:
                await first_failure(self._read(socket), self._write(socket), self._watch(), asking)
            finally:
                self.renewals.end()

    def act(self, event: Event) -> None:
        """Do what an event asks for that concerns this websocket alone."""
        match event:
            case Send(frame):
                self._send(frame)
            case Request():
                self._requests.add(event)
                self.renewals.asked(event.about)
            case Renew(subscriptions, frames):
                self.renewals.renew(subscriptions, frames)
            case Resync(subscription):
                self._requests.settle(subscription)
                self.renewals.settle(subscription)
            case Closing(reason):
                self.why = reason
                self.closing.set()

    def _take(self, outputs: Outputs, message: bytes, receipt: int) -> None:
        self.take(outputs, message, receipt)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
        """Take in messages until the connection ends, which always is an exception."""
        receive, hear, receiver = socket.receive, self.session.receive, self._shared.receiver
        try:
            while True:
                message = await receive()
                if message.type is not WSMsgType.TEXT and message.type is not WSMsgType.BINARY:
                    break
                receipt = time.time_ns()
                self.take(hear(message.data, receipt), message.data, receipt)
                self.handled = receipt
                self._received += 1
                if receiver.is_due:
                    self._waits_for_room = True
                    await receiver.make_room()
                    self._waits_for_room = False
                if not self._received % TURN:
                    await asyncio.sleep(0)
        finally:
            self.ended = True
        if message.type is WSMsgType.CLOSE:
            reason = f" ({message.extra})" if message.extra else ""
            raise ClosedError(f"the exchange closed it, code {message.data}{reason}")
        failure = message.data if message.type is WSMsgType.ERROR else socket.exception()
        raise aiohttp.ClientConnectionError(str(failure or "the connection was cut"))

    async def _write(self, socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
        """Send what is to be sent, at the exchange's pace."""
        pace = Budget(max(1.0, self._shared.exchange.limits.frames_per_second or float("inf")), 1.0)
        while True:
            frame = await self._outbox.get()
            await asyncio.sleep(pace.delay(1, time.monotonic()))
            pace.spend(1, time.monotonic())
            await socket.send_str(frame)

    async def _watch(self) -> None:
        """Do what is due; end a connection on which nothing comes, and ask for a sign of life before."""
        limit, lasting = self._limit(), self._lasting
        heard, since, probes, probed = -1, time.monotonic(), 0, 0.0
        while True:
            await asyncio.sleep(min(1.0, limit / 8))
            now = time.time_ns()
            self.take(self.session.tick(now), b"", now)
            self.renewals.check(self._shared.subscriptions.refused, sending=not self._outbox.empty())
            if self._received != heard or self._waits_for_room:
                answered = probes and time.monotonic() - probed < ANSWERED
                if answered or time.monotonic() - lasting.lively > LIVELY:
                    lasting.in_vain = 0
                    limit = self._limit()
                heard, since, probes = self._received, time.monotonic(), 0
                continue
            silence = time.monotonic() - since
            if silence > self._usual:
                lasting.lively = time.monotonic()
            if silence > limit:
                lasting.in_vain += 1
                raise SilentError(f"nothing received for {silence:.1f} s")
            if silence > limit * (1 / 2 + probes / 8) and self._outbox.empty():
                probes, probed = probes + 1, time.monotonic()
                for frame in self.session.probe():
                    self._send(frame)

    @property
    def _usual(self) -> float:
        """The seconds of silence that suit the exchange."""
        return self._shared.patience.silence or self._shared.exchange.silence

    def _limit(self) -> float:
        """Return the seconds of silence that end the connection."""
        doubled = 0 if self._shared.exchange.answers_probes else min(self._lasting.in_vain, MOST_DOUBLED)
        return self._usual * 2.0**doubled

    def _send(self, frame: str) -> None:
        self._outbox.put_nowait(frame)
