"""How the exchange is reached: proxy, authorities, time limits, for every library that cryptofeed uses.

requests, websockets and aiohttp each have ideas of their own about the environment's proxy and certificates;
here, and nowhere else, all three are told the same.
"""

import ssl
from typing import Any, override

import aiohttp
import requests
from cryptofeed.connection import HTTPAsyncConn, HTTPSync, WSAsyncConn

from collector.settings import Settings

#: Seconds that one step may take.
CONNECT, READ, CLOSE = 10.0, 20.0, 1.0
#: A websocket's pings, and the most that it may hold: frames that were not handled yet, bytes in one message.
PING_INTERVAL, PING_TIMEOUT = 10.0, 30.0
MOST_FRAMES, LARGEST_MESSAGE = 256, 64 * 2**20


class Network:
    """The proxy and the authorities of ``settings``; without them, those of environment and system."""

    def __init__(self, settings: Settings) -> None:
        self.proxy = settings.https_proxy
        self._authorities = str(settings.ssl_cert_file) if settings.ssl_cert_file else None
        self._ssl = ssl.create_default_context(cafile=self._authorities)

    def requests(self) -> Any:
        """What takes the place of cryptofeed's ``http_sync``, with time limits."""
        return _TimedRequests(
            timeout=(CONNECT, READ),
            verify=self._authorities or True,
            proxies={"https": self.proxy} if self.proxy else None,
        )

    def equip(self, connection: Any) -> None:
        """Makes a connection of cryptofeed's open itself our way."""
        if isinstance(connection, HTTPAsyncConn):
            connection._open = lambda: self._open_session(connection)  # noqa: SLF001 - cryptofeed has no other way in
        elif isinstance(connection, WSAsyncConn):
            connection.ws_kwargs = {
                **connection.ws_kwargs,
                "ssl": self._ssl,
                "proxy": self.proxy or True,
                "open_timeout": CONNECT,
                "close_timeout": CLOSE,
                "ping_timeout": PING_TIMEOUT,
                "max_queue": MOST_FRAMES,
                "max_size": LARGEST_MESSAGE,
            }

    async def _open_session(self, connection: Any) -> None:
        if connection.is_open:
            return
        connection.proxy = self.proxy
        connection.conn = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._ssl),
            timeout=aiohttp.ClientTimeout(total=CONNECT + READ, connect=CONNECT, sock_read=READ),
            trust_env=True,
        )
        connection.sent = connection.received = 0
        connection.last_message = None


class _TimedRequests(HTTPSync):  # type: ignore[misc]  # cryptofeed is untyped
    """Every request within a time limit; raises requests.RequestException."""

    def __init__(self, **options: Any) -> None:
        self._options = options

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
        answer = requests.get(address, headers=headers, params=params, **self._options)  # noqa: S113 - in the options
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
        answer = requests.post(address, **body, **self._options)  # noqa: S113 - in the options
        return self.process_response(answer, address, json=json, text=text, uuid=uuid)
