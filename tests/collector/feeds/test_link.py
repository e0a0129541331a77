"""A websocket that says nothing whole is given up, on every exchange."""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import re
import time
from types import SimpleNamespace

import pytest
from aiohttp import web
from test_http import serving

from collector.exchanges.binance.exchange import Binance, BinanceFutures
from collector.exchanges.directory import EXCHANGES
from collector.exchanges.protocol import ConnectionPlan
from collector.feeds import link as links
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


@contextlib.asynccontextmanager
async def linked(tmp_path, exchange, handle, silence=0.4):
    """Makes links, one after the other, to a server that handles a websocket so."""
    variables = {"EXCHANGE": exchange.id, "SYMBOLS": "BTC-USDT", "CHANNELS": "trades", "BACKEND": "TTY"}
    shared = SimpleNamespace(
        exchange=exchange,
        network=Network(Settings.read({**variables, "SPOOL_DIR": str(tmp_path)})),
        patience=Patience(silence=silence),
        receiver=SimpleNamespace(is_due=False),
        rest=None,
        subscriptions=SimpleNamespace(refused={}),
    )
    lasting = Lasting()
    async with serving(handle) as server:
        plan = ConnectionPlan(server.url.replace("http", "ws"), ())

        def link():
            made = Link("X.ws.1", shared, plan, exchange.session((), {}), lasting)
            made.take = lambda *_: None
            return made

        yield link, lasting


def quiet(asked, answer=None):
    """A websocket that is open and says nothing, or ``answer`` to whatever is asked."""

    async def handle(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            asked.append(message.data)
            if answer:
                await socket.send_str(answer)
        return socket

    return handle


async def lasted(link):
    began = time.monotonic()
    with pytest.raises(SilentError, match="nothing received for"):
        await link.run(lambda: None)
    return time.monotonic() - began


async def test_an_exchange_that_may_ignore_pings_is_given_up_half_as_often_each_time(tmp_path):
    asked = []
    async with linked(tmp_path, BinanceFutures(), quiet(asked)) as (link, lasting):
        assert await lasted(link()) > 0.4
        assert len(asked) <= 5
        assert await lasted(link()) > 0.8
        assert lasting.in_vain == 2


async def test_an_exchange_known_to_answer_pings_is_given_up_after_the_same_time(tmp_path):
    async with linked(tmp_path, Binance(), quiet([])) as (link, _):
        for _ in range(3):
            began = link()
            await lasted(began)
            assert began._limit() == 0.4


async def test_an_answer_keeps_a_quiet_connection_alive(tmp_path):
    asked = []
    answering = quiet(asked, '{"result":[],"id":1}')
    async with linked(tmp_path, BinanceFutures(), answering, silence=2.0) as (link, lasting):
        lasting.in_vain = 1
        running = asyncio.create_task(link().run(lambda: None))
        async with asyncio.timeout(30):
            while lasting.in_vain:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)
        assert asked
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


class OverError(Exception):
    """The time is over."""


@pytest.mark.parametrize(
    ("pauses", "left"),
    [([20.0], 0), ([20.0, 400.0], 4), ([20.0] * 1000 + [400.0], 4)],
    ids=["lively", "quiet", "quiet at times"],
)
async def test_silences_that_are_far_from_each_other_are_not_in_a_row(tmp_path, monkeypatch, pauses, left):
    """A day of a lively stream lies between them; where some are always long, that says something."""
    at = {"now": 0.0, "message": 0.0}
    pauses = itertools.cycle(pauses)

    async def sleep(seconds):
        at["now"] += seconds
        while at["message"] <= at["now"]:
            it._received += 1
            at["message"] += next(pauses)
        if at["now"] > 2 * 24 * 3600:
            raise OverError

    async with linked(tmp_path, BinanceFutures(), quiet([]), silence=300.0) as (link, lasting):
        lasting.in_vain, lasting.lively = 4, 0.0
        it = link()
        clock = SimpleNamespace(monotonic=lambda: at["now"], time_ns=time.time_ns)
        monkeypatch.setattr(links, "time", clock)
        monkeypatch.setattr(links, "asyncio", SimpleNamespace(sleep=sleep))
        with pytest.raises(OverError):
            await it._watch()
        assert lasting.in_vain == left


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


async def test_the_bytes_of_an_endless_message_do_not_keep_a_connection_alive(tmp_path):
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
        with pytest.raises(SilentError, match="nothing received for"):
            async with asyncio.timeout(20):
                await link.run(lambda: None)
