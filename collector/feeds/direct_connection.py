"""One websocket to an exchange that we speak to ourselves, and the session that gives it its meaning."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, override

import aiohttp
from aiohttp import WSMsgType

from collector.exchanges.instruments import Instrument
from collector.exchanges.numbers import MalformedError
from collector.exchanges.protocol import (
    Break,
    Closing,
    Event,
    Exchange,
    Malformed,
    Outputs,
    Renew,
    Request,
    Resync,
    Send,
    Session,
    Subscription,
)
from collector.exchanges.times import SECOND
from collector.feeds import connection
from collector.feeds.connection import (
    ClosedError,
    Connection,
    EmptyError,
    Patience,
    SilentError,
    SuspectBookError,
    first_failure,
)
from collector.feeds.intake import Intake
from collector.feeds.left_out import without
from collector.feeds.malformed import Malformed as MalformedFile
from collector.feeds.network import Network
from collector.feeds.renewals import Renewals
from collector.feeds.requests import Requests
from collector.feeds.rest import Budget, Rest
from collector.feeds.subscriptions import BOOKS, Subscriptions
from collector.gap_records import Reason
from collector.receiver import Receiver
from collector.records import Key

LOG = logging.getLogger(__name__)

#: Messages that are handled before the rest of the process has its turn, however many there are.
TURN = 64


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


class DirectConnection(Connection):
    """A connection whose session is one of ``collector.exchanges``."""

    def __init__(
        self,
        name: str,
        shared: Shared,
        subscriptions: Sequence[Subscription],
        instruments: Mapping[str, Instrument],
    ) -> None:
        super().__init__(name, subscriptions, shared.subscriptions, shared.patience)
        self._shared, self._exchange, self._intake = shared, shared.exchange, shared.intake
        self._instruments = {symbol: instruments[symbol] for _, symbol in subscriptions}
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._requests = Requests(name, shared.rest)
        self._state: Session | None = None
        self._left: set[Key] = set()  # what the websocket carries, and nobody wants of it any more
        self._handled = 0  # receipt of the last message that is done with
        self._received = 0
        self._waits_for_room = False
        self._misunderstood: dict[Key, int] = {}  # receipt of the last message that could not be read
        self._puzzled = 0.0  # when that was, by time.monotonic()
        self._renewals = Renewals(name, shared.exchange.limits, self._send)

    @property
    def handled(self) -> float | None:  # type: ignore[override]
        """Receipt (seconds, UTC) of the last message that is done with; None before the first."""
        return self._handled / SECOND if self._handled else None

    @override
    def renew_books(self, symbols: AbstractSet[str]) -> None:
        if self._state:
            self._state.renew_books(symbols)

    @override
    def _forget(self, gone: Iterable[Key]) -> None:
        """Take nothing more of ``gone``: when it is listed again, another connection carries it."""
        gone = list(gone)
        self._left.update(gone)
        self._renewals.forget(gone)
        self._intake.forget(gone)

    @override
    def _report_loss(self, reason: Reason) -> None:
        self._misunderstood.clear()
        for key in self.keys:
            self._subscriptions.lost([key], self._seen, self._reason_of(key, reason))

    @property
    def _seen(self) -> float:
        return self.handled or self._begun

    @override
    async def _session(self) -> None:
        """Begin anew: the session, and what it asked for, belong to one websocket."""
        self._enter("connecting", self.error)
        self._begun, self._handled = time.time(), 0
        self._left.clear()
        subscriptions = [Subscription(*key) for key in self.keys]
        (plan,) = self._exchange.connections(subscriptions, self._instruments)
        session = self._state = self._exchange.session(subscriptions, self._instruments)
        self._outbox = asyncio.Queue()
        self._requests.begin()
        self._intake.begin(self.keys)
        self._subscriptions.ask(self.keys)
        async with self._shared.network.websocket(plan.url) as socket:
            opening = session.opening()
            self._renewals.begin(len(opening))
            for frame in opening:
                self._send(frame)
            self._enter("open")
            LOG.info("%s: connected", self.id)
            await first_failure(
                self._read(socket, session),
                self._write(socket),
                self._watch(session),
                self._requests.run(session, self._take),
            )

    async def _read(self, socket: aiohttp.ClientWebSocketResponse[Any], session: Session) -> None:
        """Take in messages until the connection ends, which always is an exception."""
        receive, hear, receiver = socket.receive, session.receive, self._shared.receiver
        while True:
            message = await receive()
            if message.type is not WSMsgType.TEXT and message.type is not WSMsgType.BINARY:
                break
            receipt = time.time_ns()
            self._take(hear(message.data, receipt), message.data, receipt)
            self._handled = receipt
            self._received += 1
            if receiver.is_due:
                self._waits_for_room = True
                await receiver.make_room()
                self._waits_for_room = False
            if not self._received % TURN:
                await asyncio.sleep(0)
        if message.type is WSMsgType.CLOSE:
            reason = f" ({message.extra})" if message.extra else ""
            raise ClosedError(f"the exchange closed it, code {message.data}{reason}")
        failure = message.data if message.type is WSMsgType.ERROR else socket.exception()
        raise aiohttp.ClientConnectionError(str(failure or "the connection was cut"))

    async def _write(self, socket: aiohttp.ClientWebSocketResponse[Any]) -> None:
        """Send what is to be sent, at the exchange's pace."""
        pace = Budget(max(1.0, self._exchange.limits.frames_per_second or float("inf")), 1.0)
        while True:
            frame = await self._outbox.get()
            await asyncio.sleep(pace.delay(1, time.monotonic()))
            pace.spend(1, time.monotonic())
            await socket.send_str(frame)

    async def _watch(self, session: Session) -> None:
        """Do what is due; end a connection on which nothing comes, and ask for a sign of life before."""
        limit = self._patience.silence or self._exchange.silence or float("inf")
        heard, since = -1, time.monotonic()
        while True:
            await asyncio.sleep(min(1.0, limit / 8))
            if not self.keys:
                raise EmptyError
            now = time.time_ns()
            self._take(session.tick(now), b"", now)
            self._intake.report_losses(now)
            self._see_again()
            self._renewals.check(self._subscriptions.refused, sending=not self._outbox.empty())
            self.error = self._renewals.waiting
            if self._received != heard or self._waits_for_room:
                heard, since = self._received, time.monotonic()
                continue
            silence = time.monotonic() - since
            if silence > limit:
                raise SilentError(f"nothing came for {silence:.1f} s")
            if silence > limit / 2 and self._outbox.empty():
                for frame in session.probe():
                    self._send(frame)

    def _send(self, frame: str) -> None:
        self._outbox.put_nowait(frame)

    # -- what comes of messages, answers and time ---------------------------------------------------------

    def _take(self, outputs: Outputs, message: bytes, receipt: int) -> None:
        """Take in what came; ``message`` is what it was made of."""
        if self._left:
            outputs = without(self._left, outputs)
        if events := self._intake.take(outputs, receipt, self._act):
            unread = [event for event in events if isinstance(event, Malformed)]
            if unread:
                self._keep(message, unread, receipt)

    def _act(self, event: Event, receipt: int) -> None:
        match event:
            case Send(frame):
                self._send(frame)
            case Request():
                self._requests.add(event)
                self._renewals.asked(event.about)
            case Break(subscription, reason, renewed):
                LOG.info("%s: %s %s: %s", self.id, *subscription, reason)
                self._intake.broke(subscription, self._seen, renewed=renewed)
                if renewed or subscription.channel in BOOKS:
                    self._renewals.broke(subscription)
            case Renew(subscriptions, frames):
                self._renewals.renew(subscriptions, frames)
            case Resync(subscription):
                self._requests.settle(subscription)
                self._renewals.settle(subscription)
                self._intake.resynchronised(subscription, receipt)
            case Closing(reason):
                raise ClosedError(reason)

    def _keep(self, message: bytes, unread: Sequence[Malformed], receipt: int) -> None:
        """Keep a message aside that cannot be read, and mark what it may have been about.

        What notices by itself whether something is missing is left to that.
        """
        reasons = "; ".join(dict.fromkeys(event.reason for event in unread))
        self._shared.malformed.keep(self.id, _text(message), MalformedError(reasons))
        about: set[Key] = {key for event in unread for key in event.about or self.keys}
        channels = self._exchange.channels
        unchecked = {key for key in about if key[0] not in BOOKS or channels[key[0]].loss == "nothing"}
        self._subscriptions.missed(unchecked, self._seen)
        self._misunderstood |= dict.fromkeys(unchecked, receipt)
        self._puzzled = time.monotonic()
        if suspect := [key for key in unchecked if key[0] in BOOKS]:
            raise SuspectBookError(f"a message that may have changed {suspect[0][1]}'s book: {reasons}")

    def _see_again(self) -> None:
        """End the gap of messages that could not be read, when they have ceased."""
        if self._misunderstood and time.monotonic() - self._puzzled > connection.CEASED:
            for key, receipt in self._misunderstood.items():
                self._subscriptions.seen([key], receipt / SECOND)
            self._misunderstood.clear()


def _text(message: bytes) -> str | bytes:
    try:
        return message.decode()
    except UnicodeDecodeError:
        return message
