"""Opens all connections to the exchange: proxy, authorities, time limits, sizes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp

from collector.feeds.http import BoundedResponse, RateLimits, within
from collector.settings import Settings

#: Most seconds for one step.
CONNECT, READ, CLOSE = 10.0, 20.0, 1.0
#: Seconds without a byte after which a websocket must answer a ping, within half that time.
QUIET = 20.0
#: Most bytes of a websocket message, unpacked; a connection that brings a larger one is closed.
LARGEST_MESSAGE = 32 * 2**20


class Answer(NamedTuple):
    """The answer of a web server."""

    status: int
    body: bytes


class Network:
    """The proxy and the authorities in ``settings``, else those of the environment and the system."""

    def __init__(self, settings: Settings) -> None:
        self.proxy = settings.https_proxy
        self._authorities = str(settings.ssl_cert_file) if settings.ssl_cert_file else None
        self._limits = RateLimits()
        self._ssl = ssl.create_default_context(cafile=self._authorities)
        self._rest: aiohttp.ClientSession | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The proxy and the authorities as arguments for a call of the library requests."""
        return {
            "verify": self._authorities or True,
            "proxies": {"https": self.proxy} if self.proxy else None,
        }

    async def get(self, url: str) -> Answer:
        """Return the answer to a GET. Raises aiohttp.ClientError, OSError and TimeoutError."""
        if self._rest is None:
            self._rest = self.session()
        async with self._rest.get(url, proxy=self.proxy) as answer:
            return Answer(answer.status, await answer.read())

    @asynccontextmanager
    async def websocket(self, url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse[Any]]:
        """Open a websocket that returns bytes; close it, and its TCP connection, on exit."""
        async with self.session() as session:
            async with asyncio.timeout(CONNECT):
                socket = await self.open(session, url, decode_text=False)
            async with socket:
                yield socket

    async def open(
        self, session: aiohttp.ClientSession, url: str, **options: Any
    ) -> aiohttp.ClientWebSocketResponse[Any]:
        """Open a websocket in its own session, within the common bounds."""
        socket: aiohttp.ClientWebSocketResponse[Any] = await session.ws_connect(
            url,
            **{"compress": 15, **options},
            proxy=self.proxy,
            max_msg_size=LARGEST_MESSAGE,
            heartbeat=QUIET,
            timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE),
        )
        return socket

    def session(self) -> aiohttp.ClientSession:
        """Return a new aiohttp session with the common bounds."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._ssl, resolver=aiohttp.ThreadedResolver()),
            timeout=aiohttp.ClientTimeout(total=CONNECT + READ, connect=CONNECT, sock_read=READ),
            trust_env=True,
            response_class=BoundedResponse,
            middlewares=(within(self._limits),),
        )

    async def close(self) -> None:
        """Close the connections that ``get`` keeps open."""
        if self._rest:
            await self._rest.close()
            self._rest = None
