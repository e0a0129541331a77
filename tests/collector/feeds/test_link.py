"""A websocket that says nothing whole is given up, on every exchange."""

import asyncio
import base64
import contextlib
import hashlib
import re
from types import SimpleNamespace

import pytest

from collector.exchanges.binance.exchange import Binance
from collector.exchanges.directory import EXCHANGES
from collector.exchanges.protocol import ConnectionPlan
from collector.feeds.connection import Patience, SilentError
from collector.feeds.link import Lasting, Link
from collector.feeds.network import Network
from collector.settings import Settings

#: What makes these exchanges say something: a ping of ours, or a heartbeat of theirs.
LIVELY = {"BYBIT", "COINBASE", "KRAKEN", "OKX"}


@pytest.mark.parametrize("name", EXCHANGES)
def test_silence_ends_a_connection_to_every_exchange(name):
    exchange = EXCHANGES[name]()
    assert 0 < exchange.silence <= 300
    assert exchange.listener(["trades"]).probe() or name in LIVELY


async def drip(reader, writer):
    """Agree to a websocket, and send the bytes of one long message, one by one."""
    request = await reader.readuntil(b"\r\n\r\n")
    key = re.search(rb"(?i)sec-websocket-key: ([^\r]*)", request)[1]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    head = [b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"]
    writer.write(b"\r\n".join([*head, b"Sec-WebSocket-Accept: " + accept, b"", b""]))
    writer.write(b"\x81\x7e\xff\xff")
    with contextlib.suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)


async def test_the_bytes_of_a_message_that_does_not_end_keep_no_connection_up(tmp_path):
    variables = {"EXCHANGE": "BINANCE", "SYMBOLS": "BTC-USDT", "CHANNELS": "trades", "BACKEND": "TTY"}
    async with await asyncio.start_server(drip, "localhost", 0) as server:
        shared = SimpleNamespace(
            exchange=Binance(),
            network=Network(Settings.read({**variables, "SPOOL_DIR": str(tmp_path)})),
            patience=Patience(silence=0.4),
            receiver=SimpleNamespace(is_due=False),
            rest=None,
            subscriptions=SimpleNamespace(refused={}),
        )
        plan = ConnectionPlan(f"ws://localhost:{server.sockets[0].getsockname()[1]}", ())
        link = Link("BINANCE.ws.1", shared, plan, shared.exchange.session((), {}), Lasting())
        link.take = lambda *_: None
        with pytest.raises(SilentError, match="nothing came for"):
            async with asyncio.timeout(20):
                await link.run(lambda: None)
