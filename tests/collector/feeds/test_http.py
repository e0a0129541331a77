"""Answers, redirects and Retry-After, from real servers, by both libraries."""

import asyncio
import contextlib
import gzip
import ssl
import subprocess
import sys
import time
import zlib
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
import trustme
from aiohttp import web
from cryptofeed.connection import HTTPAsyncConn, HTTPPoll
from cryptofeed.exchanges import huobi, huobi_dm
from hypothesis import given
from hypothesis import strategies as st

from collector.feeds import http
from collector.feeds.http import AnswerError, RateLimitedError, RateLimits, retry_after
from collector.feeds.network import LARGEST_MESSAGE
from collector.feeds.reference import in_thread, retried
from collector.feeds.through_cryptofeed.corrections import supervised
from collector.feeds.through_cryptofeed.network import CryptofeedNetwork
from collector.feeds.through_cryptofeed.websocket import WebSocket
from collector.settings import Settings

WHAT = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}
MIB = 2**20


@contextlib.asynccontextmanager
async def serving(answer, context=None):
    """A server on a free port, whose every request ``answer`` answers; its requests' paths are kept."""
    asked = []

    async def handle(request):
        asked.append((time.monotonic(), request.path))
        return await answer(request)

    server = await asyncio.get_running_loop().create_server(web.Server(handle), "127.0.0.1", 0, ssl=context)
    scheme, port = "https" if context else "http", server.sockets[0].getsockname()[1]
    try:
        yield SimpleNamespace(url=f"{scheme}://127.0.0.1:{port}", asked=asked, port=port)
    finally:
        server.close()


@pytest.fixture
def authority(tmp_path):
    """A context for a server with TLS, and the file of whom to trust."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return SimpleNamespace(context=context, file=str(tmp_path / "ca.pem"))


async def by_requests(network, url):
    return await in_thread(lambda: network.requests().read(url))


async def by_aiohttp(network, url):
    connection = HTTPAsyncConn("X")
    network.equip(connection)
    try:
        return await connection.read(url)
    finally:
        await connection.close()


async def by_polling(network, url):
    connection = HTTPPoll(url, "X", delay=1)
    network.equip(connection)
    async with connection.connect():
        return await anext(connection.read())


LIBRARIES = pytest.mark.parametrize("ask", [by_requests, by_aiohttp, by_polling])


def network(**more):
    return CryptofeedNetwork(Settings.read(WHAT | more))


@LIBRARIES
@pytest.mark.parametrize("packed", [False, True])
async def test_an_oversized_answer_is_refused(ask, packed, monkeypatch):
    monkeypatch.setattr(http, "LARGEST_ANSWER", 2 * MIB)
    body = bytes(2 * MIB + 1)

    async def answer(request):
        large = body if request.path == "/large" else body[1:]
        headers = {"Content-Encoding": "gzip"} if packed else {}
        return web.Response(body=gzip.compress(large) if packed else large, headers=headers)

    async with serving(answer) as server:
        assert len(await ask(network(), f"{server.url}/largest")) == 2 * MIB
        with pytest.raises(AnswerError, match=f"{server.url}/large: the answer has more than 2 MiB"):
            await ask(network(), f"{server.url}/large?key=secret")


ASKING = """
import asyncio, resource, sys
sys.path.insert(0, {folder!r})
import collector  # before cryptofeed
import test_http
async def main():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for ask in (test_http.by_requests, test_http.by_aiohttp):
        for path in ("packed", "plain"):
            try:
                await ask(test_http.network(), f"{url}/{{path}}")
            except test_http.AnswerError as error:
                print(error, file=sys.stderr)
            else:
                raise SystemExit("taken")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
asyncio.run(main())
"""


@pytest.mark.programs
async def test_256_mib_take_no_memory_packed_or_unpacked():
    packed = gzip.compress(bytes(256 * MIB), 1)

    async def answer(request):
        is_packed = request.path == "/packed"
        response = web.StreamResponse(headers={"Content-Encoding": "gzip"} if is_packed else {})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for _ in range(1 if is_packed else 256):
                await response.write(packed if is_packed else bytes(MIB))
        return response

    async with serving(answer) as server:
        script = ASKING.format(folder=str(Path(__file__).parent), url=server.url)
        ended = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
        )
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) < 160  # MiB: an answer, and copies of it


@LIBRARIES
async def test_a_redirect_on_the_same_host_is_followed(ask, authority):
    async def answer(request):
        if request.path == "/here":
            return web.Response(status=302, headers={"Location": f"/there?{request.query_string}"})
        return web.Response(text=request.path_qs)

    async with serving(answer, authority.context) as server:
        told = await ask(network(SSL_CERT_FILE=authority.file), f"{server.url}/here?a=1")
    assert told == "/there?a=1"


@LIBRARIES
@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("http://127.0.0.1:{port}/", "redirects to http, without TLS; not followed"),
        ("https://localhost:{port}/", "redirects to another host, localhost; not followed"),
        ("//evil.example/", "redirects to another host, evil.example; not followed"),
        ("http://[::1", "redirects to something that is not an address; not followed"),
    ],
)
async def test_a_redirect_that_leads_elsewhere_is_refused(ask, location, why, authority):
    async def answer(request):
        return web.Response(status=302, headers={"Location": location.format(port=server.port)})

    async with serving(answer, authority.context) as server:
        with pytest.raises(AnswerError) as refused:
            await ask(network(SSL_CERT_FILE=authority.file), f"{server.url}/here?key=secret")
    assert str(refused.value) == f"{server.url}/here: {why}"
    assert len(server.asked) == 1


async def test_a_websocket_is_not_redirected_elsewhere(authority):
    async def answer(request):
        return web.Response(status=302, headers={"Location": "ws://127.0.0.1:1/"})

    async with serving(answer, authority.context) as server:
        session = network(SSL_CERT_FILE=authority.file).session()
        async with session:
            with pytest.raises(AnswerError, match="redirects to ws, without TLS"):
                await session.ws_connect(f"wss://127.0.0.1:{server.port}/")


async def test_endless_redirects_and_redirected_posts_are_refused():
    async def answer(request):
        return web.Response(status=307, headers={"Location": "/again"})

    async with serving(answer) as server:
        with pytest.raises(AnswerError, match="redirects more than 5 times"):
            await by_requests(network(), server.url)
        with pytest.raises(AnswerError, match="redirects a POST"):
            await in_thread(lambda: network().requests().write(server.url))


@LIBRARIES
@pytest.mark.parametrize("status", [418, 429, 503])
async def test_no_request_is_sent_before_retry_after(ask, status):
    async def answer(request):
        return web.Response(status=status, headers={"Retry-After": "120"})

    async with serving(answer) as server:
        one = network()
        with pytest.raises(RateLimitedError, match=f"answers {status}; retry in 120 s") as told:
            await ask(one, f"{server.url}/first")
        assert retry_after(told.value) == 120
        with pytest.raises(RateLimitedError, match=r"wants no requests for 1[12]") as told:
            await ask(one, f"{server.url}/second")
        assert 110 < retry_after(told.value) < 120
    assert len(server.asked) == 1


async def test_the_list_of_symbols_is_requested_again_when_the_exchange_said():
    async def answer(request):
        if len(server.asked) == 1:
            return web.Response(status=418, headers={"Retry-After": "2"})
        return web.Response(text="symbols")

    async with serving(answer) as server:
        client = network().requests()
        assert await retried("list", lambda: in_thread(lambda: client.read(server.url))) == "symbols"
    first, second = (at for at, _ in server.asked)
    assert second - first >= 2


@given(st.one_of(st.text(max_size=30), st.integers().map(str)))
def test_whatever_retry_after_says_is_bounded(told):
    limits = RateLimits()
    url = http.URL("https://exchange.example/")
    try:
        limits.note(url, 429, {"Retry-After": told})
    except RateLimitedError as error:
        assert 0 < error.retry_after <= http.LONGEST_WAIT
    limits.note(url, 200, {"Retry-After": "5"})


def test_retry_after_may_be_a_date():
    assert 55 < http._seconds(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert http._seconds("Thu, 01 Jan 1970 00:00:00 GMT") == 0


async def test_a_message_on_a_websocket_is_bounded_packed_and_unpacked():
    async def answer(request):
        socket = web.WebSocketResponse(compress=True)
        await socket.prepare(request)
        await socket.send_str("x" * (LARGEST_MESSAGE + 1), compress=15 if request.path == "/packed" else 0)
        return socket

    async with serving(answer) as server:
        for path in ("/packed", "/plain"):
            address = f"ws://127.0.0.1:{server.port}{path}"
            session = network().session()
            socket = await session.ws_connect(address, max_msg_size=LARGEST_MESSAGE, compress=15)
            reading = WebSocket(session, socket, interval=60)
            with pytest.raises(aiohttp.ClientConnectionError, match="exceeds"):
                await anext(reading.read(SimpleNamespace(received=0)))


@pytest.mark.parametrize("module", [huobi, huobi_dm])
def test_huobi_unpacks_no_message_beyond_the_bound(module):
    supervised("HUOBI")  # what is corrected is corrected with it

    def unpack(packed):
        return module.zlib.decompress(packed, 16 + module.zlib.MAX_WBITS)

    assert unpack(gzip.compress(b'{"ping":1}')) == b'{"ping":1}'
    with pytest.raises(ValueError, match="a message has more than"):
        unpack(gzip.compress(bytes(LARGEST_MESSAGE + 1), 1))
    with pytest.raises(zlib.error):
        unpack(gzip.compress(b'{"ping":1}')[:-9])
