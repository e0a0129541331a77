"""Makes cryptofeed's connections and requests use our network settings, with requests and with aiohttp.

The two libraries treat the environment's proxy and certificates differently; both get the same settings.
"""

import asyncio
from functools import partial
from typing import Any, override

from cryptofeed.connection import HTTPAsyncConn, HTTPSync, WSAsyncConn

from collector.feeds.http import RateLimits
from collector.feeds.network import CONNECT, READ, Network
from collector.feeds.through_cryptofeed.blocking_http import fetch
from collector.feeds.through_cryptofeed.websocket import WebSocket


class CryptofeedNetwork(Network):
    """A ``Network`` that equips cryptofeed's connections."""

    def requests(self) -> Any:
        """Return a replacement for cryptofeed's ``http_sync`` with limits on time and size."""
        return _BoundedRequests(self._limits, timeout=(CONNECT, READ), **self.options)

    def equip(self, connection: Any) -> None:
        """Make a connection of cryptofeed's open itself our way."""
        if isinstance(connection, HTTPAsyncConn):
            connection._open = lambda: self._open_session(connection)  # noqa: SLF001 - cryptofeed offers no other way
        elif isinstance(connection, WSAsyncConn):
            connection._open = lambda: self._open_websocket(connection)  # noqa: SLF001 - as above

    async def _open_session(self, connection: Any) -> None:
        if connection.is_open:
            return
        connection.proxy = self.proxy
        connection.conn = self.session()
        _begin(connection)

    async def _open_websocket(self, connection: Any) -> None:
        if connection.authentication:
            connection.address, connection.ws_kwargs = await connection.authentication(
                connection.address, connection.ws_kwargs
            )
        options = connection.ws_kwargs  # named as in the library websockets
        session = self.session()
        try:
            async with asyncio.timeout(CONNECT):
                socket = await self.open(
                    session,
                    connection.address,
                    origin=options.get("origin"),
                    headers=options.get("additional_headers"),
                    compress=0 if options.get("compression", "deflate") is None else 15,
                )
        except BaseException:
            await session.close()
            raise
        connection.conn = WebSocket(session, socket, options["ping_interval"])
        connection.read = partial(connection.conn.read, connection)
        _begin(connection)


def _begin(connection: Any) -> None:
    """Set what cryptofeed sets when it opens a connection."""
    connection.sent = connection.received = 0
    connection.last_message = None


class _BoundedRequests(HTTPSync):  # type: ignore[misc]  # cryptofeed is untyped
    """Every request is within limits; raises what ``fetch`` raises."""

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
