"""The scripted exchange does what its script says, and tells what was not as it says."""

import asyncio
import json
import ssl

import aiohttp
import pytest
import websockets
from scripted import Script, ScriptedExchange, address
from waiting import PATIENCE

WS = "wss://ws.example.com:9443/stream?streams=a"
LISTING = "https://api.example.com/listing?type=SPOT"
PLACE = address(WS)
ORIGIN = 1_790_000_000
SCRIPT = """\
{"collector": {"EXCHANGE": "OKX"}}
{"get": "https://api.example.com/listing?type=SPOT", "status": 429, "headers": {"Retry-After": "1"}}
{"get": "https://api.example.com/listing?type=SPOT", "body": {"rows":[ 1.10 ]}}
{"connect": "wss://ws.example.com:9443/stream?streams=a"}
{"whenever": "ping", "send": "pong"}
{"expect": {"op": "subscribe", "args": ["a", "b"]}}
{"send": {"price":1.10, "ts":<ms+1500>}}
{"record": {"channel": "trades", "price": "1.10", "timestamp": "<s+1500>"}}
{"stored": true}
{"until": "the store has it"}
{"send": "no JSON"}
{"close": 1001}
"""


def script(text=SCRIPT):
    return Script(text, ORIGIN)


def connected(exchange):
    context = ssl.create_default_context(cafile=exchange.ca)
    return websockets.connect(WS, ssl=context, proxy=exchange.proxy)


async def subscribe(websocket, arguments):
    await websocket.send(json.dumps({"args": [*arguments], "op": "subscribe"}))


async def asked(exchange, url=LISTING):
    context = ssl.create_default_context(cafile=exchange.ca)
    async with aiohttp.ClientSession() as client:
        answer = await client.get(url, ssl=context, proxy=exchange.proxy)
        return answer.status, answer.headers.get("Retry-After"), await answer.text()


async def play(exchange):
    """What a client receives that does as the script says, and how it ends."""
    async with connected(exchange) as websocket:
        await subscribe(websocket, "ba")
        received = [await websocket.recv()]
        await websocket.send("ping")
        received.append(await websocket.recv())
        exchange.stored(1)
        exchange.go("the store has it")
        received.append(await websocket.recv())
        return received, (await closed(websocket)).code


async def closed(websocket):
    """Waits until the connection ends; the close frame, if there was one."""
    with pytest.raises(websockets.ConnectionClosed) as ended:
        await asyncio.wait_for(_read(websocket), PATIENCE)
    return ended.value.rcvd


async def _read(websocket):
    while True:
        await websocket.recv()


async def told(text, talk):
    """What the test is told when a client does ``talk``."""
    with pytest.raises(AssertionError) as failure:
        await _talk(text, talk)
    return str(failure.value)


async def _talk(text, talk):
    with ScriptedExchange(script(text)) as exchange:
        await talk(exchange)


def sending(*requests):
    """A client that sends requests until the exchange closes the connection."""

    async def send(exchange):
        async with connected(exchange) as websocket:
            for arguments in requests:
                await subscribe(websocket, arguments)
            await closed(websocket)

    return send


async def test_frames_go_out_byte_for_byte_when_they_are_due():
    with ScriptedExchange(script()) as exchange:
        received, code = await play(exchange)
        await asyncio.to_thread(exchange.wait)
    assert received == ['{"price":1.10, "ts":1790000001500}', "pong", "no JSON"]
    assert code == 1001
    assert exchange.script.records == [{"channel": "trades", "price": "1.10", "timestamp": "1790000001.500"}]


async def test_answers_come_in_their_order_and_the_last_one_stays():
    with ScriptedExchange(script()) as exchange:
        answers = [await asked(exchange) for _ in range(3)]
        await play(exchange)
    listing = (200, None, '{"rows":[ 1.10 ]}')
    assert answers == [(429, "1", "{}"), listing, listing]
    assert [url for url, _ in exchange.asked] == [address(LISTING)] * 3


async def test_another_message_fails_the_test_with_both_texts():
    text = await told(SCRIPT, sending("ac"))
    expected = '{"op": "subscribe", "args": ["a", "b"]}'
    came = '{"args": ["a", "c"], "op": "subscribe"}'
    assert f"script:6, {PLACE}: expected\n  {expected}\ncame\n  {came}" in text


async def test_a_message_too_many_fails_the_test():
    text = await told(SCRIPT.partition('{"stored"')[0], sending("ab", "a"))
    assert f'{PLACE}: nothing more was expected, but came:\n  {{"args": ["a"]' in text


async def test_a_client_that_never_comes_fails_the_test():
    assert f"not played: {PLACE}: was never connected to" in await told(SCRIPT, asked)


async def test_a_client_that_leaves_early_fails_the_test_at_once():
    async def leave(exchange):
        async with connected(exchange):
            pass
        await asyncio.to_thread(exchange.wait)

    text = await told(SCRIPT, leave)
    assert "script:6" in text
    assert "came\n  nothing" in text


@pytest.mark.parametrize("url", ["https://api.example.com/listing", LISTING.replace("SPOT", "SWAP")])
async def test_a_request_that_is_not_in_the_script_fails_the_test(url):
    async def ask(exchange):
        assert (await asked(exchange, url))[0] == 404
        await play(exchange)

    assert f"GET {address(url)} is not in the script" in await told(SCRIPT, ask)


async def test_a_host_that_is_not_in_the_script_fails_the_test():
    async def ask(exchange):
        with pytest.raises(aiohttp.ClientHttpProxyError):
            await asked(exchange, "https://other.example.com/")
        await play(exchange)

    assert "other.example.com:443 is not simulated" in await told(SCRIPT, ask)


async def test_a_second_connection_plays_the_second_script_of_its_address():
    cut = SCRIPT.partition('{"close"')[0] + '{"cut": true}\n'
    again = f'{{"connect": "{WS}"}}\n{{"send": {{"again": 1}}}}\n'
    with ScriptedExchange(script(cut + again)) as exchange:
        async with connected(exchange) as websocket:
            await subscribe(websocket, "ab")
            exchange.stored(1)
            exchange.go("the store has it")
            assert await closed(websocket) is None  # cut, not closed
        async with connected(exchange) as websocket:
            assert await websocket.recv() == '{"again": 1}'


def test_a_line_that_cannot_be_read_is_named():
    with pytest.raises(ValueError, match=r"script:2: .*unknown field `sned`"):
        script('{"source": "x"}\n{"sned": {}}')
