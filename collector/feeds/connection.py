"""Our supervised loop over one of an exchange's connections, in place of cryptofeed's own.

It never gives up, never hurries, and never falls silent: pauses are capped and random, also after a clean
close; a connection that says nothing is replaced; a message that cannot be handled costs itself alone, unless
a book may be wrong because of it; and every interval in which the exchange was not seen is reported.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import aiohttp
from cryptofeed.exceptions import BadChecksum, BidAskOverlapping, MissingMessage, MissingSequenceNumber
from cryptofeed.exceptions import ConnectionClosed as CryptofeedConnectionClosed
from websockets.exceptions import WebSocketException

from collector.feeds.backoff import Backoff
from collector.feeds.http import retry_after
from collector.feeds.malformed import Malformed, describe
from collector.feeds.subscriptions import BOOKS
from collector.feeds.supervised import Supervised
from collector.gaps import Key, Reason

LOG = logging.getLogger(__name__)

#: The book that cryptofeed keeps is wrong; only a new start helps.
BROKEN_BOOK = (BadChecksum, BidAskOverlapping, MissingMessage, MissingSequenceNumber)
#: The network failed under the handler, not the message.
NETWORK = (
    aiohttp.ClientError,
    WebSocketException,
    CryptofeedConnectionClosed,
    OSError,
    asyncio.IncompleteReadError,
)

#: Seconds without a message that cannot be handled, after which they have ceased.
CEASED = 1.0

_BOOK_CODE = re.compile(r"book|depth|level2|l2|l3|snapshot")

#: Which connection a task works for: tasks that cryptofeed starts by itself inherit it.
_OWNER: ContextVar["Connection | None"] = ContextVar("owner", default=None)


class ClosedError(Exception):
    """The exchange closed the connection in good order."""


class EndedError(Exception):
    """A task that cryptofeed started for the connection has ended."""


class SilentError(Exception):
    """The connection is open, and nothing comes."""


class SuspectBookError(Exception):
    """A message that may have been about a book could not be handled."""


@dataclass(frozen=True)
class Patience:
    """How long we wait for what, in seconds.

    Attributes:
        subscribing: for authentication and subscription requests to be sent.
        silence: without a message; None for what suits the exchange.
        useful: after which a connection counts as good, so that the next pause is a short one.
        shortest_pause, longest_pause: between two attempts to connect.
    """

    subscribing: float = 120.0
    silence: float | None = None
    useful: float = 10.0
    shortest_pause: float = 0.25
    longest_pause: float = 30.0


class Connection:
    """One connection and everything that it takes to keep it up.

    Attributes:
        id: cryptofeed's name of it.
        state: connecting, open, or waiting (to connect again); ``since`` when (seconds, UTC).
        error: what ended it last, until it is open again.
        keys: the subscriptions that it carries.
        left_out: those that it carried until the exchange listed them no more.
        handled: receipt (seconds, UTC) of the last message on it that is done with; None before the first.
    """

    def __init__(
        self,
        feed: Supervised,
        tools: tuple[Any, Callable[..., Awaitable[None]], Callable[..., Awaitable[None]], Any],
        malformed: Malformed,
        forget_books: Callable[[Iterable[Key]], Mapping[Key, float]],
        patience: Patience,
    ) -> None:
        self._feed = feed
        self._conn, self._subscribe, self._handler, self._authenticate = tools
        self._malformed = malformed
        self._forget_books = forget_books
        self._patience = patience
        self._backoff = Backoff(patience.shortest_pause, patience.longest_pause)
        self._misunderstood: float | None = None  # receipt of the last message that could not be handled
        self._puzzled = 0.0  # when that was, by time.monotonic()
        self.keys = feed.carried(self._conn)
        self.left_out: set[Key] = set()
        self._unlisted: AbstractSet[str] = frozenset()
        self.handled: float | None = None
        self._begun = time.time()
        self.id = str(self._conn.uuid)
        self.state = "connecting"
        self.since = time.time()
        self.error: str | None = None

    def look(self, unlisted: AbstractSet[str]) -> None:
        """The exchange does not list these symbols now.

        What it still sends of them is taken. A subscription that does not stand any more is left out: now, or
        when it falls with the connection.
        """
        self._unlisted = unlisted
        confirmed = self._feed.subscriptions.confirmed
        self._leave_out([key for key in self.keys if key not in confirmed])

    def _leave_out(self, keys: Iterable[Key]) -> None:
        gone = [key for key in keys if key[1] in self._unlisted]
        if gone:
            LOG.error("%s: not listed any more, and left out: %s", self.id, _named(gone))
            self.keys = [key for key in self.keys if key not in gone]
            self.left_out.update(gone)
            self._feed.leave_out(self._conn, gone)
            self._feed.subscriptions.drop(gone)

    async def run(self, delay: float = 0.0) -> None:
        """Keeps the connection up while it has something to carry; begins after ``delay`` seconds."""
        _OWNER.set(self)
        await asyncio.sleep(delay)
        while self.keys:
            opened = time.monotonic()
            try:
                await self._session()
            except Exception as error:  # noqa: BLE001 - whatever it was, the answer is to connect again
                await self._lost(error, useful=time.monotonic() - opened >= self._patience.useful)

    async def _lost(self, error: Exception, *, useful: bool) -> None:
        if useful:
            self._backoff.reset()
        pause = max(self._backoff.pause(), retry_after(error))
        was_open = self.state == "open"
        self._enter("waiting", describe(error))
        LOG.warning(
            "%s: %s: %s; again in %.1f s",
            self.id,
            "connection lost" if was_open else "cannot connect",
            self.error,
            pause,
        )
        self._misunderstood = None
        self._report_loss(_reason(error))
        await asyncio.sleep(pause)
        self._leave_out(self.keys)

    def _report_loss(self, reason: Reason) -> None:
        """A book whose check failed may have missed something ever since its last record."""
        handled = self.handled or self._begun
        last = self._forget_books(self.keys)
        for key in self.keys:
            seen = min(handled, last.get(key, handled)) if reason == "sequence" else handled
            self._feed.subscriptions.lost([key], seen, "delisted" if key[1] in self._unlisted else reason)

    async def _session(self) -> None:
        """From opening the connection to its end, which always is an exception."""
        self._enter("connecting", self.error)
        self.handled, self._begun = None, time.time()
        self._feed.subscriptions.ask(self.keys)
        async with self._conn.connect():
            before = asyncio.all_tasks()
            try:
                async with asyncio.timeout(self._patience.subscribing):
                    await self._authenticate(self._conn)
                    await self._subscribe(self._conn)
                self._enter("open")
                LOG.info("%s: connected", self.id)
                await _first_failure(self._read(), self._watch(), *self._spawned(before))
            finally:
                for task in self._spawned(before):
                    task.cancel()

    def _spawned(self, before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        """The tasks that cryptofeed started by itself on our behalf, which nobody else watches."""
        return [task for task in asyncio.all_tasks() - before if task.get_context().get(_OWNER) is self]

    async def _read(self) -> None:
        conn, handler = self._conn, self._handler
        async for message in conn.read():
            try:
                await handler(message, conn, conn.last_message)
            except Exception as error:  # noqa: BLE001 - judged by what it means for the connection
                self._judge(error, message)
            self.handled = conn.last_message
        raise ClosedError(_farewell(conn))

    def _judge(self, error: Exception, message: str | bytes) -> None:
        """Raises what costs the connection; anything else costs the message, which is kept aside."""
        if isinstance(error, (*BROKEN_BOOK, *NETWORK)):
            raise error
        self._malformed.keep(self.id, message, error)
        self._misunderstood = receipt = self._conn.last_message
        self._puzzled = time.monotonic()
        checked = BOOKS if self._feed.CHECKS_BOOKS else frozenset()  # these notice by themselves
        doubtful = [key for key in self.keys if key[0] not in checked]
        self._feed.subscriptions.missed(doubtful, self.handled or receipt)
        if not any(channel in BOOKS for channel, _ in self.keys):
            return
        if _in_book_code(error) or not self._feed.CHECKS_BOOKS:
            raise SuspectBookError(f"{describe(error)} in a message that may have changed a book") from error

    async def _watch(self) -> None:
        """Ends a connection on which nothing comes; asks for a sign of life before."""
        limit = self._patience.silence or self._feed.SILENCE
        heard, since = -1, time.monotonic()
        while True:
            await asyncio.sleep(min(1.0, limit / 8))
            self._see_again()
            handling = self._conn.last_message != self.handled
            if self._conn.received != heard or handling:
                heard, since = self._conn.received, time.monotonic()
                continue
            silence = time.monotonic() - since
            if silence > limit:
                raise SilentError(f"nothing came for {silence:.1f} s")
            if silence > limit / 2:
                await self._feed.probe(self._conn)

    def _see_again(self) -> None:
        """Ends the gap of messages that could not be handled, when they have ceased."""
        if self._misunderstood and time.monotonic() - self._puzzled > CEASED:
            self._feed.subscriptions.seen(self.keys, self._misunderstood)
            self._misunderstood = None

    def _enter(self, state: str, error: str | None = None) -> None:
        self.state, self.since, self.error = state, time.time(), error


async def _first_failure(*works: Any) -> None:
    """Runs all; when the first has ended, ends the others and raises what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    raise EndedError


def _named(keys: Iterable[Key]) -> str:
    return ", ".join(f"{channel} {symbol}" for channel, symbol in keys)


def _farewell(conn: Any) -> str:
    socket = getattr(conn, "conn", None)
    code = getattr(socket, "close_code", None)
    reason = getattr(socket, "close_reason", None)
    return f"the exchange closed it, code {code}" + (f" ({reason})" if reason else "")


def _reason(error: Exception) -> Reason:
    if isinstance(error, SilentError):
        return "stale"
    if isinstance(error, BROKEN_BOOK):
        return "sequence"
    return "malformed" if isinstance(error, SuspectBookError) else "disconnect"


def _in_book_code(error: Exception) -> bool:
    """Whether cryptofeed was at work on a book when ``error`` was raised: it may be half done with it."""
    trace = error.__traceback__
    while trace:
        if _BOOK_CODE.search(trace.tb_frame.f_code.co_name):
            return True
        trace = trace.tb_next
    return False
