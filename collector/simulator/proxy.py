"""An HTTP proxy that leads the exchanges' host names here: for local processes, without root.

With ``HTTPS_PROXY`` pointing to it, ``CONNECT ws.kraken.com:443`` is answered and the very same connection
becomes the exchange's: TLS begins on it, with the certificate of that host. Nothing is passed on, so nothing
leaves this machine; other host names are refused with 403, other methods with 405.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, override

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

LONGEST_REQUEST = 16_384  # bytes


class Proxy(asyncio.Protocol):
    """One client of the proxy, until its connection becomes an exchange's."""

    def __init__(
        self,
        addresses: Iterable[tuple[str, int]],
        server: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
    ) -> None:
        self._addresses = frozenset(addresses)
        self._server = server
        self._context = context
        self._received = b""
        self._transport: asyncio.Transport
        self._upgrade: asyncio.Task[None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio promises it for TCP
        self._transport = transport

    @override
    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received:
            self._answer(self._received.split(b"\r\n", 1)[0].decode("latin-1"))
        elif len(self._received) > LONGEST_REQUEST:
            self._refuse("431 Request Header Fields Too Large", "the request is too long")

    def _answer(self, request_line: str) -> None:
        method, _, rest = request_line.partition(" ")
        if method != "CONNECT":
            self._refuse(
                "405 Method Not Allowed", "this proxy knows CONNECT only: it stands in for https and wss"
            )
            return
        host, _, port = rest.split(" ")[0].rpartition(":")
        if (host.lower(), port) not in {(name, str(number)) for name, number in self._addresses}:
            known = ", ".join(sorted(f"{name}:{number}" for name, number in self._addresses))
            self._refuse("403 Forbidden", f"{host}:{port} is not simulated; these are: {known}")
            return
        self._transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._transport.pause_reading()
        self._upgrade = asyncio.ensure_future(self._become_exchange())

    async def _become_exchange(self) -> None:
        protocol = self._server()
        try:
            transport = await asyncio.get_running_loop().start_tls(
                self._transport, protocol, self._context, server_side=True
            )
        except OSError:  # the client went away, or does not trust our authority
            self._transport.abort()
            return
        assert transport is not None  # noqa: S101 - only for transports that are not ours
        protocol.connection_made(transport)

    def _refuse(self, status: str, reason: str) -> None:
        body = f"{reason}\n".encode()
        headers = f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\nConnection: close"
        self._transport.write(f"HTTP/1.1 {status}\r\n{headers}\r\n\r\n".encode() + body)
        self._transport.close()
