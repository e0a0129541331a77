"""aiohttp's websocket in the place of the one that cryptofeed opens: it needs half the CPU per message.

It has the face that cryptofeed's connections know, which is that of the library ``websockets``.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import WSMsgType
from websockets.protocol import State

#: Messages that are handed out before the rest of the process has its turn, however many there are.
TURN = 64


class WebSocket:
    """An open websocket, and the session that is for it alone.

    Attributes:
        state: OPEN, or CLOSED.
        close_code, close_reason: the other side's last word; None if it said none.
    """

    def __init__(
        self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse[Any], interval: float
    ) -> None:
        self._session, self._socket = session, socket
        self._pinging = asyncio.create_task(self._ping(interval))
        self.state = State.OPEN
        self.close_code: int | None = None
        self.close_reason: str | None = None

    async def send(self, data: str) -> None:
        """Send a text message."""
        await self._socket.send_str(data)

    async def read(self, connection: Any) -> AsyncIterator[str | bytes]:
        """The messages, counted in cryptofeed's ``connection``, whose own way to read takes its place.

        Ends with the other side's goodbye, raises aiohttp.ClientError without one.
        """
        receive = self._socket.receive
        while True:
            message = await receive()
            kind = message.type
            if kind is not WSMsgType.TEXT and kind is not WSMsgType.BINARY:
                break
            connection.received += 1
            connection.last_message = time.time()
            yield message.data
            if not connection.received % TURN:
                await asyncio.sleep(0)
        failure = message.data if kind is WSMsgType.ERROR else self._socket.exception()
        await self.close()
        if kind is not WSMsgType.CLOSE:
            raise aiohttp.ClientConnectionError(str(failure or "the connection was cut")) from failure
        self.close_code, self.close_reason = message.data, message.extra

    async def close(self) -> None:
        """Say goodbye and let go of the connection."""
        self.state = State.CLOSED
        self._pinging.cancel()
        try:
            await self._socket.close()
        finally:
            await self._session.close()

    async def _ping(self, interval: float) -> None:
        """Some exchanges part from a client that says nothing, whatever they say themselves."""
        with contextlib.suppress(aiohttp.ClientError, OSError):  # who reads will see it, too
            while True:
                await asyncio.sleep(interval)
                await self._socket.ping()
