"""An exchange that answers a little at a time, or not at all, holds nobody up."""

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager

import pytest

from collector.feeds import network
from collector.feeds.network import Network
from collector.settings import Settings
from collector.simulator.certificates import server_context

VARIABLES = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}
#: A sound beginning of everything that an exchange may say.
HANDSHAKE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03" + bytes(1000)
UPGRADE = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" + b"X-More: more\r\n" * 1000
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)


@asynccontextmanager
async def trickling(said, folder, *, secured):
    """A network, and the port of an exchange that says this a byte at a time and then nothing."""

    async def trickle(_reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            for byte in said:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
            await asyncio.sleep(60)
        writer.close()

    context = server_context(["localhost"], folder / "ca.pem")
    server = await asyncio.start_server(trickle, "localhost", 0, ssl=context if secured else None)
    own = Network(Settings.read(VARIABLES | {"SSL_CERT_FILE": str(folder / "ca.pem")}))
    yield own, server.sockets[0].getsockname()[1]
    await own.close()
    server.close()


@pytest.mark.parametrize(
    ("said", "secured"),
    [(b"", False), (HANDSHAKE, False), (b"", True), (UPGRADE, True), (REFUSAL, True)],
    ids=["nothing", "handshake", "nothing over TLS", "upgrade", "refusal"],
)
async def test_a_websocket_that_opens_a_byte_at_a_time_is_given_up(said, secured, tmp_path, monkeypatch):
    monkeypatch.setattr(network, "CONNECT", 0.5)
    began = time.monotonic()
    async with trickling(said, tmp_path, secured=secured) as (own, port):
        with pytest.raises((TimeoutError, OSError)):
            async with own.websocket(f"wss://localhost:{port}/"):
                pass
    assert time.monotonic() - began < 3.0


async def test_an_answer_that_comes_a_byte_at_a_time_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(network, "CONNECT", 0.3)
    monkeypatch.setattr(network, "READ", 0.3)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(1000)
    began = time.monotonic()
    async with trickling(answer, tmp_path, secured=True) as (own, port):
        with pytest.raises(TimeoutError):
            await own.get(f"https://localhost:{port}/")
    assert time.monotonic() - began < 3.0
