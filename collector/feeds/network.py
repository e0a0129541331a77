"""How the exchange is reached: proxy, authorities, time limits, for requests and for aiohttp.

Each has ideas of its own about the environment's proxy and certificates; here, and nowhere else, both are
told the same.
"""

import asyncio
import ssl
from functools import partial
from typing import Any, override

import aiohttp
from cryptofeed.connection import HTTPAsyncConn, HTTPSync, WSAsyncConn

from collector.feeds.http import BoundedResponse, RateLimits, fetch, within
from collector.feeds.websocket import WebSocket
from collector.settings import Settings

#: Seconds that one step may take.
CONNECT, READ, CLOSE = 10.0, 20.0, 1.0
#: Seconds without a byte from a websocket after which it must answer a ping, within half that time.
QUIET = 20.0
#: Bytes of a message on a websocket, unpacked; a connection on which a larger one comes is given up.
LARGEST_MESSAGE = 32 * 2**20


class Network:
    """The proxy and the authorities of ``settings``; without them, those of environment and system."""

    def __init__(self, settings: Settings) -> None:
        self.proxy = settings.https_proxy
        self._authorities = str(settings.ssl_cert_file) if settings.ssl_cert_file else None
        self._limits = RateLimits()
        self._ssl = ssl.create_default_context(cafile=self._authorities)

    def requests(self) -> Any:
        """What takes the place of cryptofeed's ``http_sync``, within time and other limits."""
        return _BoundedRequests(self._limits, timeout=(CONNECT, READ), **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """The proxy and the authorities as a call of requests takes them."""
        return {
            "verify": self._authorities or True,
            "proxies": {"https": self.proxy} if self.proxy else None,
        }

    def equip(self, connection: Any) -> None:
        """Makes a connection of cryptofeed's open itself our way."""
        if isinstance(connection, HTTPAsyncConn):
            connection._open = lambda: self._open_session(connection)  # noqa: SLF001 - cryptofeed has no other way in
        elif isinstance(connection, WSAsyncConn):
            connection._open = lambda: self._open_websocket(connection)  # noqa: SLF001 - as above

    async def _open_session(self, connection: Any) -> None:
        if connection.is_open:
            return
        connection.proxy = self.proxy
        connection.conn = self._session()
        _begin(connection)

    async def _open_websocket(self, connection: Any) -> None:
        if connection.authentication:
            connection.address, connection.ws_kwargs = await connection.authentication(
                connection.address, connection.ws_kwargs
            )
        options = connection.ws_kwargs  # those of the library websockets
        session = self._session()
        try:
            async with asyncio.timeout(CONNECT):
                socket = await session.ws_connect(
                    connection.address,
                    proxy=self.proxy,
                    origin=options.get("origin"),
                    headers=options.get("additional_headers"),
                    compress=0 if options.get("compression", "deflate") is None else 15,
                    max_msg_size=LARGEST_MESSAGE,
                    heartbeat=QUIET,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE),
                )
        except BaseException:
            await session.close()
            raise
        connection.conn = WebSocket(session, socket, options["ping_interval"])
        connection.read = partial(connection.conn.read, connection)
        _begin(connection)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._ssl, resolver=aiohttp.ThreadedResolver()),
            timeout=aiohttp.ClientTimeout(total=CONNECT + READ, connect=CONNECT, sock_read=READ),
            trust_env=True,
            response_class=BoundedResponse,
            middlewares=(within(self._limits),),
        )


def _begin(connection: Any) -> None:
    """What cryptofeed sets when it opens a connection."""
    connection.sent = connection.received = 0
    connection.last_message = None


class _BoundedRequests(HTTPSync):  # type: ignore[misc]  # cryptofeed is untyped
    """Every request within limits; raises what ``fetch`` raises."""

    def __init__(self, limits: RateLimits, **options: Any) -> None:
        self._limits, self._options = limits, options

    @override
    def read(
        self,
        address: str,
        params: Any = None,
        headers: Any = None,
        json: bool = False,
        text: bool = True,
        uuid: Any = None,
    ) -> Any:
        answer = fetch("GET", address, self._limits, headers=headers, params=params, **self._options)
        return self.process_response(answer, address, json=json, text=text, uuid=uuid)

    @override
    def write(
        self,
        address: str,
        data: Any = None,
        json: bool = False,
        text: bool = True,
        uuid: Any = None,
        is_data_json: bool = False,
    ) -> Any:
        body = {"json" if is_data_json else "data": data}
        answer = fetch("POST", address, self._limits, **body, **self._options)
        return self.process_response(answer, address, json=json, text=text, uuid=uuid)
