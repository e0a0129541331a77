"""The requests that the session of one connection makes, over HTTP: snapshots of books above all."""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp

from collector.exchanges.protocol import Outputs, Request, Session
from collector.feeds.backoff import Paces
from collector.feeds.http import RateLimitedError
from collector.feeds.malformed import describe
from collector.feeds.network import Answer
from collector.feeds.rest import Rest
from collector.printable import printable
from collector.records import Key

LOG = logging.getLogger(__name__)

#: Seconds of the shortest pause before something is asked for again.
SHORTEST = 1.0

_SHOWN = 120  # characters of an answer


class Requests:
    """Carries requests out, each at its turn; one that is made again waits longer each time.

    Args:
        name: of the connection, for the log.
        rest: carries them out.
        paces: of what was asked for before, on an earlier websocket too.
        urgent: what was live before comes first.
    """

    def __init__(self, name: str, rest: Rest, paces: Paces[Key], urgent: set[Key]) -> None:
        self._name, self._rest = name, rest
        self._asked: asyncio.Queue[Request] = asyncio.Queue()
        self._paces, self._urgent = paces, urgent

    def add(self, request: Request) -> None:
        """Ask as soon as that may be."""
        self._asked.put_nowait(request)

    def settle(self, about: Key) -> None:
        """What ``about`` was asked for is there; if that lasts, the next request need not wait.

        A book that breaks as soon as it is complete must not spend what others have to live on.
        """
        self._paces.settle(about, time.monotonic())
        self._urgent.add(about)

    async def run(self, session: Session, take: Callable[[Outputs, bytes, int], None]) -> None:
        """Carry out what is added, until cancelled; ``take`` gets what the session makes of an answer."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(self._carry_out(await self._asked.get(), session, take))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _carry_out(
        self, request: Request, session: Session, take: Callable[[Outputs, bytes, int], None]
    ) -> None:
        about: Key = request.about
        await asyncio.sleep(self._paces.delay(about, time.monotonic()))
        body = b""
        try:
            status, body = await self._answer(request)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            failure = describe(error)
            outputs, receipt = session.failed(request.id, failure), time.time_ns()
        else:
            receipt = time.time_ns()
            failure = f"status {status}: {printable(body[:_SHOWN].decode(errors='replace'))}"
            outputs = session.answer(request.id, status, body, receipt)
            failure = "" if status == 200 else failure
        pause = self._paces.done(about, time.monotonic())
        if failure:
            channel, symbol = about
            LOG.warning(
                "%s: no answer about %s %s: %s; again in %.1f s", self._name, channel, symbol, failure, pause
            )
        take(outputs, body, receipt)

    async def _answer(self, request: Request) -> Answer:
        """Return an answer, after as many refusals for a time as there are."""
        while True:
            try:
                return await self._rest.get(request.url, request.weight, urgent=request.about in self._urgent)
            except RateLimitedError as error:
                channel, symbol = request.about
                LOG.warning("%s: no answer about %s %s: %s", self._name, channel, symbol, describe(error))
