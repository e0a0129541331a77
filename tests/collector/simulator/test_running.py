"""The simulator as a process: every fault can be observed, wrong requests are explained, it ends cleanly."""

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import pytest
import requests
import websockets
from simulated import Simulator
from waiting import PATIENCE
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from collector.simulator.faults import Kind

KRAKEN = "wss://ws.kraken.com"
COINBASE = "wss://advanced-trade-ws.coinbase.com"
BINANCE = "wss://stream.binance.com:9443/stream?streams=btcusdt@depth/btcusdt@aggTrade"
PRODUCTS = "https://api.coinbase.com/api/v3/brokerage/market/products"


def connect(address):
    """A client without a bound: one that stops reading cannot say goodbye either."""
    return websockets.connect(address, max_queue=None)


@pytest.fixture(scope="module")
def shared():
    with Simulator(seed=2, rate=100) as running:
        yield running


@pytest.fixture
def simulator(shared, monkeypatch):
    shared.lead_here(monkeypatch)
    yield shared
    shared.clear_faults()
    shared.resume()


def subscribe_coinbase(channel, *products):
    return json.dumps({"type": "subscribe", "channel": channel, "product_ids": list(products)})


def subscribe_kraken(name, *pairs, **options):
    return json.dumps({"event": "subscribe", "pair": list(pairs), "subscription": {"name": name} | options})


async def receive(connection, wanted):
    """The first message that is wanted."""
    async with asyncio.timeout(PATIENCE):
        while True:
            message = await connection.recv()
            if wanted(message):
                return message


async def closed(connection, received=None):
    """How the connection ended; what came before goes to ``received``."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await connection.recv()
                if received is not None:
                    received.append(message)
    except ConnectionClosed as error:
        return error


async def fault(simulator, name, **fields):
    return await asyncio.to_thread(simulator.fault, name, **fields)


def is_trade(message):
    return '"market_trades"' in message and '"update"' in message


def newest(simulator, count):
    """The connections that were opened last; those of earlier tests may still be on their way out."""
    return sorted(simulator.status()["connections"], key=lambda each: each["connection"])[-count:]


def closings(simulator):
    return [entry["reason"] for entry in simulator.log() if entry.get("event") == "closed"]


async def test_reset_cuts_without_a_goodbye(simulator):
    async with connect(COINBASE) as connection:
        await connection.send(subscribe_coinbase("market_trades", "BTC-USD"))
        await receive(connection, is_trade)
        struck = await fault(simulator, "reset", exchange="COINBASE")
        error = await closed(connection)
    assert len(struck["connections"]) == 1
    assert isinstance(error, ConnectionClosedError)
    assert error.rcvd is None
    log = await asyncio.to_thread(simulator.log)
    end = next(entry for entry in reversed(log) if entry.get("event") == "closed")
    records = [entry for entry in log if entry.get("connection") == end["connection"] and "sequence" in entry]
    assert (end["reason"], end["records"]) == ("reset", len(records))


async def test_close_is_clean_and_what_was_written_arrives(simulator):
    received = []
    async with connect(KRAKEN) as connection:
        await connection.send(subscribe_kraken("ticker", "XBT/USD"))
        received.append(await receive(connection, lambda message: '"ticker","XBT/USD"' in message))
        await fault(simulator, "close", exchange="KRAKEN", code=1012)
        error = await closed(connection, received)
    assert error.rcvd.code == 1012
    log = await asyncio.to_thread(simulator.log)
    end = next(entry for entry in reversed(log) if entry.get("event") == "closed")
    assert end["records"] == sum(message.startswith("[") for message in received)


async def test_a_client_that_comes_back_is_dropped_again(simulator):
    await fault(simulator, "close", exchange="KRAKEN", count=3)
    for _ in range(3):
        async with connect(KRAKEN) as connection:
            await connection.send(subscribe_kraken("ticker", "XBT/USD"))
            assert (await closed(connection)).rcvd.code == 1001
    async with connect(KRAKEN) as connection:
        await connection.send(subscribe_kraken("ticker", "XBT/USD"))
        for _ in range(10):
            await receive(connection, lambda message: '"ticker","XBT/USD"' in message)


async def test_a_quiet_connection_sends_nothing_until_it_is_reset(simulator):
    def trade(message):
        return '"trade"' in message

    async with connect(KRAKEN) as connection, connect(KRAKEN) as other:
        for each in (connection, other):
            await each.send(subscribe_kraken("trade", "XBT/USD"))
            await receive(each, trade)
        first = min(newest(simulator, 2), key=lambda each: each["connection"])
        await fault(simulator, "quiet", connection=first["connection"])
        for _ in range(3):
            await receive(other, trade)
        while True:  # what was on its way
            try:
                await asyncio.wait_for(connection.recv(), 0.3)
            except TimeoutError:
                break
        await receive(other, trade)
        with pytest.raises(TimeoutError):  # nothing, not even a heartbeat
            await asyncio.wait_for(connection.recv(), 1.2)
        await asyncio.to_thread(simulator.clear_faults)
        assert isinstance(await closed(connection), ConnectionClosedError)
        await receive(other, trade)
    assert "quiet" in await asyncio.to_thread(closings, simulator)


async def test_a_quiet_connection_is_reset_when_its_time_is_over(simulator):
    async with connect(KRAKEN) as connection:
        await connection.recv()
        await fault(simulator, "quiet", exchange="KRAKEN", seconds=0.2)
        assert isinstance(await closed(connection), ConnectionClosedError)


async def test_an_unresponsive_exchange_accepts_and_never_answers(simulator):
    await fault(simulator, "deaf", exchange="KRAKEN", count=1)
    async with connect(KRAKEN) as connection:
        await connection.send(subscribe_kraken("trade", "XBT/USD"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 1.2)
    async with connect(KRAKEN) as connection:
        assert "systemStatus" in await connection.recv()


@pytest.mark.parametrize("kind", ["truncated", "shape"])
async def test_malformed_messages_are_sent_beside_the_good_ones(simulator, kind):
    def is_malformed(message):
        try:
            return "price" in str(json.loads(message)) and "{}" in str(json.loads(message))
        except ValueError:
            return True

    async with connect(COINBASE) as connection:
        await connection.send(subscribe_coinbase("market_trades", "BTC-USD"))
        await receive(connection, is_trade)
        await fault(simulator, "malformed", exchange="COINBASE", kind=kind)
        received = []
        async with asyncio.timeout(PATIENCE):
            while not received or not is_malformed(received[-1]):
                received.append(await connection.recv())
            received += [await connection.recv() for _ in range(5)]
    numbers = [json.loads(message)["sequence_num"] for message in received if message.endswith("]}")]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


async def test_a_skipped_book_update_breaks_the_chain_of_update_ids(simulator):
    async with connect(BINANCE) as connection:

        async def book():
            return json.loads(await receive(connection, lambda message: "depthUpdate" in message))["data"]

        one, other = await book(), await book()
        assert other["U"] == one["u"] + 1
        await fault(simulator, "skip_sequence", exchange="BINANCE", channel="l2_book")
        while other["U"] == one["u"] + 1:
            one, other = other, await book()


async def numbers_after(simulator, name):
    """Four sequence numbers of COINBASE's trades, from where a fault of one message begins to show."""
    async with connect(COINBASE) as connection:
        await connection.send(subscribe_coinbase("market_trades", "BTC-USD"))
        numbers = [json.loads(await receive(connection, is_trade))["sequence_num"]]
        await fault(simulator, name, exchange="COINBASE", channel="trades", symbol="BTC-USD")
        while len(numbers) < 2 or numbers[-1] == numbers[-2] + 1:
            numbers.append(json.loads(await receive(connection, lambda _: True))["sequence_num"])
        following = [json.loads(await receive(connection, lambda _: True))["sequence_num"] for _ in range(2)]
    return [number - numbers[-2] for number in (*numbers[-2:], *following)]


async def test_a_skipped_number_is_a_hole(simulator):
    assert await numbers_after(simulator, "skip_sequence") == [0, 2, 3, 4]


async def test_one_message_comes_twice_and_is_logged_once(simulator):
    before = len(simulator.records())
    assert await numbers_after(simulator, "double") == [0, 0, 1, 2]
    live = [it["content"]["id"] for it in simulator.records()[before:] if not it["content"].get("snapshot")]
    assert len(live) == len(set(live)) > 1


async def test_one_message_is_overtaken_by_the_next(simulator):
    assert await numbers_after(simulator, "swap") == [0, 2, 1, 3]


async def test_a_silent_subscription_is_acknowledged_and_others_are_lively(simulator):
    await fault(simulator, "silent", channel="trades", symbol="BTC-USD", exchange="COINBASE")
    async with connect(COINBASE) as connection:
        await connection.send(subscribe_coinbase("market_trades", "BTC-USD", "ETH-USD"))
        messages = [json.loads(await connection.recv()) for _ in range(30)]
    (acknowledged,) = [message for message in messages if message["channel"] == "subscriptions"]
    assert acknowledged["events"][0]["subscriptions"]["market_trades"] == ["BTC-USD", "ETH-USD"]
    trades = [
        trade
        for message in messages
        if message["channel"] == "market_trades"
        for event in message["events"]
        for trade in event["trades"]
    ]
    assert {trade["product_id"] for trade in trades} == {"ETH-USD"}
    assert [message["sequence_num"] for message in messages] == list(range(30))


@pytest.mark.parametrize(
    ("address", "request_", "is_wanted"),
    [
        (COINBASE, subscribe_coinbase("market_trades", "BTC-USD"), is_trade),
        (
            f"{KRAKEN}/v2",
            json.dumps({"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"]}}),
            lambda message: '"channel":"trade"' in message,
        ),
        (
            BINANCE,
            json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}),
            lambda message: "@trade" in message,
        ),
    ],
)
async def test_the_last_trades_are_repeated_as_if_they_were_new(simulator, address, request_, is_wanted):
    await fault(simulator, "repeat_trades")
    before = len(simulator.records())
    async with connect(address) as connection:
        await connection.send(request_)
        await receive(connection, is_wanted)
        await receive(connection, is_wanted)
    repeated = [it for it in simulator.records()[before:] if it["content"].get("repeated")]
    assert {entry["channel"] for entry in repeated} == {"trades"}


@pytest.mark.parametrize(
    ("address", "request_", "kind"),
    [
        (COINBASE, subscribe_coinbase("level2", "BTC-USD"), '"type":"snapshot"'),
        (
            f"{KRAKEN}/v2",
            json.dumps({"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"]}}),
            '"type":"snapshot"',
        ),
    ],
)
async def test_a_book_comes_complete_once_more_unasked(simulator, address, request_, kind):
    async with connect(address) as connection:
        await connection.send(request_)
        await receive(connection, lambda message: kind in message)
        await receive(connection, lambda message: '"type":"update"' in message)
        await fault(simulator, "snapshot", symbol="BTC-USD")
        await receive(connection, lambda message: kind in message)


async def test_binance_refuses_a_whole_request_and_does_not_say_for_which_stream(simulator):
    await fault(simulator, "refuse_request", exchange="BINANCE", channel="ticker", symbol="BTC-USDT")
    async with connect(BINANCE) as connection:
        for names in (["ethusdt@trade", "btcusdt@bookTicker"], ["ethusdt@trade"]):
            await connection.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": len(names)}))
        answers = [
            json.loads(await receive(connection, lambda message: '"id"' in message and '"u"' not in message))
            for _ in range(2)
        ]
    assert answers[0]["id"] == 2
    assert "btcusdt" not in json.dumps(answers[0]["error"])
    assert answers[1] == {"result": None, "id": 1}


@pytest.mark.parametrize(
    ("url", "rows"),
    [
        (PRODUCTS, lambda answer: answer["products"]),
        ("https://api.kraken.com/0/public/AssetPairs", lambda answer: list(answer["result"].values())),
        ("https://api.binance.com/api/v3/exchangeInfo", lambda answer: answer["symbols"]),
        ("https://fapi.binance.com/fapi/v1/exchangeInfo", lambda answer: answer["symbols"]),
    ],
)
def test_a_list_can_have_an_unreadable_row(simulator, url, rows):
    def count():
        return len(rows(requests.get(url, timeout=PATIENCE).json()))

    before = count()
    simulator.fault("unreadable_row", count=1)
    assert [count(), count()] == [before + 1, before]


def test_a_refusal_says_how_long_to_wait(simulator):
    simulator.fault("refuse_reference", status=429, retry_after=7, count=1)
    answer = requests.get(PRODUCTS, timeout=PATIENCE)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


async def test_subscriptions_are_refused_each_in_its_way(simulator):
    await fault(simulator, "refuse_subscription", channel="trades", symbol="BTC-USD")
    await fault(simulator, "refuse_subscription", exchange="BINANCE", channel="trades")
    async with connect(COINBASE) as connection:
        await connection.send(subscribe_coinbase("market_trades", "BTC-USD"))
        assert json.loads(await connection.recv())["type"] == "error"
        await connection.send(subscribe_coinbase("market_trades", "ETH-USD"))
        await receive(connection, is_trade)
    async with connect(KRAKEN) as connection:
        await connection.send(subscribe_kraken("trade", "XBT/USD", "ETH/USD"))
        statuses = [
            json.loads(await receive(connection, lambda message: "subscriptionStatus" in message))["status"]
            for _ in range(2)
        ]
        assert statuses == ["error", "subscribed"]
    async with connect(BINANCE) as connection:
        await connection.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": 1}))
        answer = json.loads(await receive(connection, lambda message: '"result"' in message))
        assert answer["result"] == ["btcusdt@depth"]


async def test_connections_are_refused(simulator):
    await fault(simulator, "refuse_connection", exchange="KRAKEN", status=429, count=1)
    with pytest.raises(InvalidStatus, match="429"):
        await connect(KRAKEN)
    async with connect(KRAKEN):
        pass


def test_reference_data_is_refused_for_a_while(simulator):
    simulator.fault("refuse_reference", status=429, count=2)
    assert [requests.get(PRODUCTS, timeout=PATIENCE).status_code for _ in range(3)] == [429, 429, 200]
    simulator.fault("refuse_reference", exchange="KRAKEN", status=503)
    assert requests.get(PRODUCTS, timeout=PATIENCE).status_code == 200
    assert requests.get("https://api.kraken.com/0/public/AssetPairs", timeout=PATIENCE).status_code == 503


def test_reference_data_is_not_answered_or_slowly(simulator):
    simulator.fault("deaf_reference", count=1)
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.get(PRODUCTS, timeout=(PATIENCE, 0.5))
    simulator.fault("trickle", seconds=1, count=1)
    began = time.monotonic()
    assert len(requests.get(PRODUCTS, timeout=PATIENCE).json()["products"]) == 12
    assert time.monotonic() - began > 0.9


async def test_coinbase_closes_connections_that_do_not_subscribe(simulator):
    began = time.monotonic()
    async with connect(COINBASE) as connection:
        assert (await closed(connection)).rcvd.code == 1008
    assert time.monotonic() - began > 4.5
    assert "no subscription" in await asyncio.to_thread(closings, simulator)


async def test_a_paused_market_stands_still_but_answers(simulator):
    async with connect(KRAKEN) as connection:
        await connection.send(subscribe_kraken("trade", "XBT/USD"))
        await receive(connection, lambda message: '"trade"' in message)
        paused = await asyncio.to_thread(simulator.pause)
        assert paused == {"paused": True, "still_writing": []}
        records = len(await asyncio.to_thread(simulator.records))
        assert "heartbeat" in await receive(connection, lambda message: "heartbeat" in message)
        assert len(await asyncio.to_thread(simulator.records)) == records
        await connection.send(subscribe_kraken("book", "XBT/USD"))
        await receive(connection, lambda message: '"bs"' in message)
        await asyncio.to_thread(simulator.resume)
        await receive(connection, lambda message: '"c":' in message)


async def test_status_counts_what_the_log_has(simulator):
    async with connect(KRAKEN) as connection:
        await connection.send(subscribe_kraken("trade", "XBT/USD"))
        await receive(connection, lambda message: '"trade"' in message)
        await asyncio.to_thread(simulator.pause)
        status = await asyncio.to_thread(simulator.status)
    records = await asyncio.to_thread(simulator.records, "KRAKEN", "trades")
    assert status["records"]["KRAKEN"]["trades"] == len(records)
    last = max(status["connections"], key=lambda each: each["connection"])
    assert last["subscriptions"] == {"trades": ["BTC-USD"]}


def test_wrong_requests_are_answered_with_what_would_be_right(simulator):
    with pytest.raises(ValueError, match=r"400.*NYSE.*one of \['COINBASE'"):
        simulator.fault("reset", exchange="NYSE")
    answer = requests.get(f"{simulator.control}/nothing", timeout=PATIENCE)
    assert (answer.status_code, "GET /log" in answer.text) == (404, True)


def test_hosts_that_are_not_simulated_are_named(simulator):
    with Simulator(ports=[0]) as direct:
        context = ssl.create_default_context(cafile=direct.ca)
        with (
            socket.create_connection(("127.0.0.1", direct.ports[0])) as raw,
            context.wrap_socket(raw, server_hostname="api.kraken.com") as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: nowhere.example\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: secure.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 421")
    assert b"api.kraken.com" in answer


async def test_a_client_that_does_not_read_is_cut_off_and_delays_nobody(monkeypatch):
    with Simulator(rate=500, ports=[0]) as simulator, socket.socket() as narrow:
        simulator.lead_here(monkeypatch)
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # few frames fit on the way
        narrow.connect(("127.0.0.1", simulator.ports[0]))
        async with (
            websockets.connect(KRAKEN, proxy=None, sock=narrow, max_queue=1, close_timeout=0.1) as slow,
            connect(BINANCE) as quick,
        ):
            for channel in ("trade", "book", "ticker"):
                await slow.send(subscribe_kraken(channel, "XBT/USD", "ETH/USD", "SHIB/USD", "XRP/USD"))
            while len((await asyncio.to_thread(simulator.status))["connections"]) == 2:
                await receive(quick, lambda message: "aggTrade" in message)
        assert "slow" in closings(simulator)


async def test_without_a_rate_it_is_as_fast_as_its_client(monkeypatch):
    with Simulator(rate=0, messages=2_000) as simulator:
        simulator.lead_here(monkeypatch)
        async with connect(BINANCE) as connection:
            for _ in range(4_000):
                await receive(connection, lambda _: True)
        assert closings(simulator) in ([], ["client"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_ends_cleanly_on_a_signal(monkeypatch, tmp_path, number):
    log = tmp_path / "log"
    log.write_text('{"earlier": "run"}\n')
    with Simulator(log=log) as simulator:
        simulator.lead_here(monkeypatch)
        async with connect(KRAKEN) as connection:
            await connection.send(subscribe_kraken("trade", "XBT/USD"))
            await receive(connection, lambda message: '"trade"' in message)
            os.kill(simulator.process.pid, number)
            assert (await closed(connection)).rcvd.code == 1001
        await asyncio.to_thread(simulator.process.join, PATIENCE)
        assert simulator.process.exitcode == 0
    first, *entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert first == {"earlier": "run"}
    assert [entry["sequence"] for entry in entries if "sequence" in entry] == list(
        range(sum("sequence" in entry for entry in entries))
    )
    assert entries[-1]["reason"] == "shutdown"


def test_it_ends_after_its_duration():
    with Simulator(duration=0.1) as simulator:
        simulator.process.join(PATIENCE)
        assert simulator.process.exitcode == 0


def run(*arguments):
    command = [sys.executable, "-m", "collector.simulator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--symbols", "NYSE=A-B"), "COINBASE, KRAKEN, BINANCE"),
        (("--symbols", "KRAKEN=BTCUSD"), "symbols look like BTC-USD"),
        (("--symbols", "BINANCE_FUTURES=BTC-USDT"), "symbols look like BTC-USDT-PERP"),
        (("--alias", "localhost=NYSE"), "COINBASE, KRAKEN, BINANCE"),
        (("--alias", "localhost"), "not HOST=EXCHANGE, as in localhost=KRAKEN"),
        (("--rate", "-1"), "0 or more"),
        (("--port", "70000"), "0 to 65535"),
        (("--messages", "0"), "1 or more"),
    ],
)
def test_a_wrong_command_line_is_explained(arguments, message):
    ended = run(*arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_address_in_use_is_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("--port", str(port), "--ca", str(tmp_path / "ca.pem"))
    assert ended.returncode == 1
    assert str(port) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_help_teaches():
    text = run("--help").stdout
    assert all(f"\n  {kind} " in text for kind in get_args(Kind))
    for word in ("HTTPS_PROXY", "network aliases", "GET    /log", "ws.kraken.com", "--rate"):
        assert word in text


def test_the_documents_have_every_fault():
    text = (Path(__file__).parents[3] / "docs" / "exchanges.md").read_text()
    told = re.findall(r"^\| `(\w+)` \|", text.partition("| fault |")[2], re.MULTILINE)
    assert told == [*get_args(Kind)]


async def test_an_unresponsive_exchange_sends_nothing_that_the_address_asks_for(simulator):
    await fault(simulator, "deaf", exchange="BINANCE", count=1)
    async with connect(BINANCE) as connection:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(connection.recv(), 0.5)
        await asyncio.to_thread(simulator.clear_faults)
        assert isinstance(await closed(connection), ConnectionClosedError)
