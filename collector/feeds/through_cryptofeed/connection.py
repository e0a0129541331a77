"""One of cryptofeed's connections in our supervised loop, in place of cryptofeed's own."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, override

import aiohttp
from cryptofeed.exceptions import BadChecksum, BidAskOverlapping, MissingMessage, MissingSequenceNumber
from cryptofeed.exceptions import ConnectionClosed as CryptofeedConnectionClosed
from websockets.exceptions import WebSocketException

from collector.feeds import connection
from collector.feeds.connection import (
    ClosedError,
    Connection,
    Patience,
    SilentError,
    SuspectBookError,
    first_failure,
)
from collector.feeds.malformed import Malformed, describe
from collector.feeds.through_cryptofeed.supervised import Supervised
from collector.gap_records import Reason
from collector.records import BOOKS, Key

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

_BOOK_CODE = re.compile(r"book|depth|level2|l2|l3|snapshot")

#: Which connection a task works for: tasks that cryptofeed starts by itself inherit it.
_OWNER: ContextVar["CryptofeedConnection | None"] = ContextVar("owner", default=None)


class EndedError(Exception):
    """A task that cryptofeed started for the connection has ended."""


class CryptofeedConnection(Connection):
    """A connection of cryptofeed's: what opens it, subscribes, and handles messages is cryptofeed's."""

    handled: float | None

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
        super().__init__(str(self._conn.uuid), feed.carried(self._conn), feed.subscriptions, patience)
        self._malformed = malformed
        self._forget_books = forget_books
        self._misunderstood: float | None = None  # receipt of the last message that could not be handled
        self._puzzled = 0.0  # when that was, by time.monotonic()
        self.handled = None

    @override
    def _forget(self, gone: Iterable[Key]) -> None:
        self._feed.leave_out(self._conn, gone)

    @override
    async def close(self) -> None:
        await self._feed.http_conn.close()

    @override
    async def run(self, delay: float = 0.0) -> None:
        _OWNER.set(self)
        await super().run(delay)

    @override
    def _report_loss(self, reason: Reason) -> None:
        """A book whose check failed may have missed something ever since its last record."""
        self._misunderstood = None
        handled = self.handled or self._begun
        last = self._forget_books(self.keys)
        for key in self.keys:
            seen = min(handled, last.get(key, handled)) if reason == "sequence" else handled
            self._subscriptions.lost([key], seen, self._reason_of(key, reason))

    @override
    def _reason(self, error: Exception) -> Reason:
        return "sequence" if isinstance(error, BROKEN_BOOK) else super()._reason(error)

    @override
    async def _session(self) -> None:
        self._enter("connecting", self.error)
        self.handled, self._begun = None, time.time()
        self._subscriptions.ask(self.keys)
        async with self._conn.connect():
            before = asyncio.all_tasks()
            try:
                async with asyncio.timeout(self._patience.subscribing):
                    await self._authenticate(self._conn)
                    await self._subscribe(self._conn)
                self._enter("open")
                LOG.info("%s: connected", self.id)
                await first_failure(self._read(), self._watch(), *self._spawned(before))
                raise EndedError
            finally:
                for task in self._spawned(before):
                    task.cancel()

    def _spawned(self, before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
        """Return the tasks that cryptofeed started by itself on our behalf, which nobody else watches."""
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
        """Raise what costs the connection; anything else costs the message, which is kept aside."""
        if isinstance(error, (*BROKEN_BOOK, *NETWORK)):
            raise error
        self._malformed.keep(self.id, message, error)
        self._misunderstood = receipt = self._conn.last_message
        self._puzzled = time.monotonic()
        checked = BOOKS if self._feed.CHECKS_BOOKS else frozenset()  # these notice by themselves
        doubtful = [key for key in self.keys if key[0] not in checked]
        self._subscriptions.missed(doubtful, self.handled or receipt)
        if not any(channel in BOOKS for channel, _ in self.keys):
            return
        if _in_book_code(error) or not self._feed.CHECKS_BOOKS:
            raise SuspectBookError(f"{describe(error)} in a message that may have changed a book") from error

    async def _watch(self) -> None:
        """End a connection on which nothing comes; ask for a sign of life before."""
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
                raise SilentError(f"nothing received for {silence:.1f} s")
            if silence > limit / 2:
                await self._feed.probe(self._conn)

    def _see_again(self) -> None:
        """End the gap of messages that could not be handled, when they have ceased."""
        if self._misunderstood and time.monotonic() - self._puzzled > connection.CEASED:
            self._subscriptions.seen(self.keys, self._misunderstood)
            self._misunderstood = None


def _farewell(conn: Any) -> str:
    socket = getattr(conn, "conn", None)
    code = getattr(socket, "close_code", None)
    reason = getattr(socket, "close_reason", None)
    return f"the exchange closed it, code {code}" + (f" ({reason})" if reason else "")


def _in_book_code(error: Exception) -> bool:
    """Whether cryptofeed was at work on a book when ``error`` was raised: it may be half done with it."""
    trace = error.__traceback__
    while trace:
        if _BOOK_CODE.search(trace.tb_frame.f_code.co_name):
            return True
        trace = trace.tb_next
    return False
