"""One connection to an exchange that we speak to ourselves: links, one after the other.

Where the exchange says that it will close a link, the next one is opened beside it and takes over when it is
certain that nothing is missing then, and nothing twice (``handover``). Where it cannot, the old one goes on
until the exchange closes it.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import override

from collector.exchanges.instruments import Instrument
from collector.exchanges.numbers import MalformedError
from collector.exchanges.protocol import Break, Event, Malformed, Outputs, Resync, Subscription
from collector.feeds import connection
from collector.feeds.backoff import Backoff
from collector.feeds.connection import Connection, EmptyError, SuspectBookError, first_failure
from collector.feeds.handover import Handover, HandoverError, NoPlaceError
from collector.feeds.left_out import without
from collector.feeds.link import Lasting, Link, Shared
from collector.feeds.malformed import describe
from collector.gap_records import Reason
from collector.records import BOOKS, Key
from collector.times import SECOND

LOG = logging.getLogger(__name__)

#: Seconds for which there may be two links at most, while the next one subscribes.
OVERLAP = 120.0
#: Seconds between two looks whether the next link can take over.
LOOK = 0.05
#: Seconds after it has in which the next link may in any case bring what the old one had brought.
SETTLING = 10.0
#: Seconds for which it may lag behind the old one: it is still looked through for what that had brought.
LONGEST_LAG = 600.0


class _Next:
    """A link that is about to take over."""

    def __init__(self, link: Link, handover: Handover, running: asyncio.Task[None]) -> None:
        self.link, self.handover, self.running = link, handover, running

    def is_ready(self) -> bool:
        """Return whether it can take over now. Raises HandoverError if the two do not agree."""
        return not self.link.ended and self.handover.is_ready(time.monotonic())


class DirectConnection(Connection):
    """A connection whose session is one of ``collector.exchanges``."""

    _link: Link
    _running: asyncio.Task[None]

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
        self._lasting = Lasting()
        self._link = self._new_link(self._lasting)
        self._next: _Next | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._left: set[Key] = set()  # what the websocket carries, and nobody wants of it any more
        self._misunderstood: dict[Key, int] = {}  # receipt of the last message that could not be read
        self._puzzled = 0.0  # when that was, by time.monotonic()

    @property
    def handled(self) -> float | None:  # type: ignore[override]
        """Receipt (seconds, UTC) of the last message that is done with; None before the first."""
        return self._link.handled / SECOND if self._link.handled else None

    @override
    def renew_books(self, symbols: AbstractSet[str]) -> None:
        self._link.session.renew_books(symbols)
        if self._next:
            self._next.link.session.renew_books(symbols)

    @override
    def _forget(self, gone: Iterable[Key]) -> None:
        """Take nothing more of ``gone``: when it is listed again, another connection carries it."""
        gone = list(gone)
        self._left.update(gone)
        self._link.renewals.forget(gone)
        if self._next:
            self._next.handover.forget(gone)
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
        """Start over: the session, and what it asked for, belong to one link."""
        self._enter("connecting", self.error)
        self._begun = time.time()
        self._left.clear()
        self._intake.begin(self.keys)
        self._subscriptions.ask(self.keys)
        self._link = self._new_link(self._lasting)
        self._link.take = self._take
        self._running = asyncio.create_task(self._link.run(self._opened))
        try:
            await first_failure(self._carry_on(), self._look_after(), self._succeed())
        finally:
            self._next = None
            self._end(self._running)
            await asyncio.gather(*self._ending, return_exceptions=True)

    def _new_link(self, lasting: Lasting) -> Link:
        subscriptions = [Subscription(*key) for key in self.keys]
        (plan,) = self._exchange.connections(subscriptions, self._instruments)
        session = self._exchange.session(subscriptions, self._instruments)
        return Link(self.id, self._shared, plan, session, lasting)

    def _opened(self) -> None:
        self._enter("open")
        LOG.info("%s: connected", self.id)

    async def _carry_on(self) -> None:
        """Wait for the end of the last link, which always is an exception."""
        while True:
            running = self._running
            await asyncio.wait({running})
            if running is not self._running:
                continue
            if self._next is None or not self._can_take_over(self._next):
                return running.result()
            self._take_over(self._next)

    async def _look_after(self) -> None:
        """Do what is due, until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            if not self.keys:
                raise EmptyError
            self._intake.report_losses(time.time_ns())
            self._see_again()
            if self.state == "open":
                self.error = self._link.renewals.waiting

    def _end(self, running: asyncio.Task[None]) -> None:
        running.cancel()
        self._ending.add(running)
        running.add_done_callback(self._ended)

    def _ended(self, running: asyncio.Task[None]) -> None:
        self._ending.discard(running)
        if not running.cancelled():
            running.exception()  # nobody asks any more how it ended

    # -- when the exchange will close a link ----------------------------------------------------------------

    async def _succeed(self) -> None:
        """Have the next link take over whenever the exchange announces a closing, until cancelled."""
        backoff = Backoff(self._patience.shortest_pause, self._patience.longest_pause)
        while True:
            link, since = self._link, time.monotonic()
            await link.closing.wait()
            LOG.info("%s: %s: opening the next connection", self.id, link.why)
            if time.monotonic() - since >= self._patience.useful:
                backoff.reset()
            await asyncio.sleep(self._turn)  # others may be announced at the same moment
            while link is self._link:
                await asyncio.sleep(backoff.pause())
                if not await self._overlap():
                    await asyncio.Event().wait()  # the exchange closes this one, and that ends the wait

    async def _overlap(self) -> bool:
        """Open the next link beside the old one, and have it take over if it can; whether to try again else.

        Another try would be as much in vain where the exchange does not answer all that is asked for in time:
        it would cost what live books, and the reconnect, have to ask with.
        """
        lasting = Lasting()  # what is live comes before what it asks for
        link = self._new_link(lasting)
        link.session.follow(self._link.session)
        handover = Handover(self.keys, self._subscriptions.confirmed, self._exchange.identity)
        handover.note(self._intake.last_quotes(self.keys))
        link.take = partial(self._hold, link, handover)
        following = self._next = _Next(link, handover, asyncio.create_task(link.run(lambda: None)))
        hopeless = False
        limit = asyncio.timeout(OVERLAP)
        try:
            async with limit:
                await self._until_ready(following)
        except Exception as error:  # noqa: BLE001 - whatever it was, the old link goes on
            hopeless = limit.expired() or isinstance(error, NoPlaceError)
            LOG.warning("%s: the next connection cannot take over: %s", self.id, describe(error))
        else:
            if self._next:
                self._take_over(following)
        finally:
            self._next = None
            if link is not self._link:
                self._end(following.running)
            else:
                self._lasting = lasting
        return not hopeless

    async def _until_ready(self, following: _Next) -> None:
        """Wait until the next link can take over, or has: where the old one ended."""
        while self._next and not following.is_ready():
            await asyncio.wait({following.running}, timeout=LOOK)
            if following.running.done():
                following.running.result()

    def _can_take_over(self, following: _Next) -> bool:
        """Return whether the next link can take over now that the old one has ended."""
        try:
            return following.is_ready()
        except HandoverError:
            return False

    def _hold(self, link: Link, handover: Handover, outputs: Outputs, message: bytes, receipt: int) -> None:  # noqa: ARG002 - a taker
        for output in outputs:
            if isinstance(output, Event):
                link.act(output)
        handover.hold(outputs)

    def _take_over(self, following: _Next) -> None:
        """Let the old link go; what the next one has brought follows."""
        self._link.take = _ignore
        self._end(self._running)
        self._link, self._running, self._next = following.link, following.running, None
        self._take(following.handover.held(), b"", time.time_ns())
        self._link.take = partial(self._settle, following.handover, time.monotonic())
        self._enter("open")
        LOG.info("%s: the next connection has taken over", self.id)

    def _settle(
        self, handover: Handover, since: float, outputs: Outputs, message: bytes, receipt: int
    ) -> None:
        """Take in but what the old link had brought; have a complete book follow where that has ended."""
        if self._next:
            self._next.handover.note_lag(outputs)
        self._take(handover.without_old(outputs), message, receipt)
        lasts = time.monotonic() - since
        if lasts < SETTLING:
            return
        settled = handover.settle(everything=lasts > LONGEST_LAG)
        if books := {symbol for channel, symbol in settled if channel in BOOKS}:
            self._link.session.renew_books(books)
        if handover.is_settled:
            self._link.take = self._take

    # -- what comes of messages, answers and time ---------------------------------------------------------

    def _take(self, outputs: Outputs, message: bytes, receipt: int) -> None:
        """Take in what came; ``message`` is what it was made of."""
        if self._next:
            self._next.handover.note(outputs)
        if self._left:
            outputs = without(self._left, outputs)
        if events := self._intake.take(outputs, receipt, self._act):
            unread = [event for event in events if isinstance(event, Malformed)]
            if unread:
                self._keep(message, unread, receipt)

    def _act(self, event: Event, receipt: int) -> None:
        self._link.act(event)
        match event:
            case Break(subscription, reason, renewed):
                LOG.info("%s: %s %s: %s", self.id, *subscription, reason)
                self._intake.broke(subscription, self._seen, renewed=renewed)
                if renewed or subscription.channel in BOOKS:
                    self._link.renewals.broke(subscription)
            case Resync(subscription):
                self._intake.resynchronised(subscription, receipt)

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


def _ignore(outputs: Outputs, message: bytes, receipt: int) -> None:
    """Take nothing."""


def _text(message: bytes) -> str | bytes:
    try:
        return message.decode()
    except UnicodeDecodeError:
        return message
