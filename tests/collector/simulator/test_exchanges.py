"""What real clients receive, over TLS and through the proxy, is what the log says was sent."""

import asyncio
import contextlib
import json
import os
from decimal import Decimal
from zlib import crc32

import aiohttp
import pytest
import requests
import websockets
from cryptofeed.defines import CANDLES, L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import Binance, Kraken
from cryptofeed.symbols import Symbols
from simulated import Simulator
from waiting import PATIENCE, eventually, wait_until

COINBASE = "wss://advanced-trade-ws.coinbase.com"
KRAKEN_V2 = "wss://ws.kraken.com/v2"


@pytest.fixture
def simulator(monkeypatch):
    with Simulator(seed=5, rate=100) as running:
        running.lead_here(monkeypatch)
        Symbols.clear()  # cryptofeed keeps what another simulator in this process has told it
        yield running


@contextlib.asynccontextmanager
async def connected(feed):
    """The feed's connections, as cryptofeed makes them, with its own handler."""

    async def receive(connection, subscribe, handler, authenticate):
        async with connection.connect():
            await authenticate(connection)
            await subscribe(connection)
            async for message in connection.read():
                await handler(message, connection, connection.last_message)

    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(receive(*parts)) for parts in feed.connect()]
        yield
        for task in running:
            task.cancel()


def levels(side):
    return [(Decimal(price), Decimal(size)) for price, size in side]


def comparable(entry):
    content = entry["content"]
    match entry["channel"]:
        case "trades":
            return (
                content["id"],
                content["side"],
                Decimal(content["price"]),
                Decimal(content["amount"]),
                content["type"],
            )
        case "ticker":
            return Decimal(content["bid"]), Decimal(content["ask"])
        case "candles":
            return tuple(Decimal(content[key]) for key in ("start", "open", "high", "low", "close", "volume"))


class Received:
    """What a feed's callbacks were given, by channel and symbol."""

    def __init__(self):
        self.records = {}
        self.books = []
        self.callbacks = {TRADES: self.trade, TICKER: self.ticker, CANDLES: self.candle, L2_BOOK: self.book}

    def add(self, channel, symbol, content):
        self.records.setdefault((channel, symbol), []).append(content)

    async def trade(self, trade, _):
        content = (trade.id, trade.side, trade.price, trade.amount, trade.type)
        self.add("trades", trade.symbol, content)

    async def ticker(self, ticker, _):
        self.add("ticker", ticker.symbol, (ticker.bid, ticker.ask))

    async def candle(self, candle, _):
        content = (candle.start, candle.open, candle.high, candle.low, candle.close, candle.volume)
        self.add("candles", candle.symbol, tuple(map(Decimal, content)))

    async def book(self, book, _):
        if book.delta is None:
            content = (
                "snapshot",
                sorted(book.book.bids.to_dict().items()),
                sorted(book.book.asks.to_dict().items()),
            )
        else:
            content = "delta", sorted(book.delta["bid"]), sorted(book.delta["ask"])
        self.books.append(book.book)
        self.add("l2_book", book.symbol, content)


def book_content(entry):
    content = entry["content"]
    return content["kind"], sorted(levels(content["bid"])), sorted(levels(content["ask"]))


def by_stream(entries):
    streams = {}
    for entry in entries:
        streams.setdefault((entry["channel"], entry["symbol"]), []).append(entry)
    return streams


async def everything_sent(simulator, symbols, channels):
    """What was sent when every stream has some records and, for a pause, nothing more is written."""

    def finished():
        done = by_stream(simulator.records())
        return all(len(done.get((channel, symbol), ())) >= 50 for channel in channels for symbol in symbols)

    await asyncio.to_thread(wait_until, finished)
    await asyncio.to_thread(simulator.pause)
    return await asyncio.to_thread(simulator.records)


@pytest.mark.parametrize("depth", [10, 25, 1000])
async def test_kraken_is_received_as_logged_and_its_checksums_hold(simulator, depth):
    received, symbols = Received(), ["BTC-USD", "SHIB-USD", "DOGE-USD"]
    channels = [TRADES, TICKER, CANDLES, L2_BOOK]
    feed = Kraken(
        symbols=symbols,
        channels=channels,
        callbacks=received.callbacks,
        checksum_validation=True,
        max_depth=depth,
    )
    async with connected(feed):
        sent = by_stream(await everything_sent(simulator, symbols, [TRADES, TICKER, CANDLES]))
        await eventually(lambda: all(len(received.records.get(key, ())) == len(sent[key]) for key in sent))
    assert len(sent) == 12
    for (channel, symbol), entries in sent.items():
        content = book_content if channel == "l2_book" else comparable
        assert received.records[channel, symbol] == [content(entry) for entry in entries]


async def test_kraken_trades_have_no_id_and_some_are_identical(simulator):
    received = Received()
    async with connected(Kraken(symbols=["BTC-USD"], channels=[TRADES], callbacks=received.callbacks)):
        sent = await everything_sent(simulator, ["BTC-USD"], [TRADES])
    contents = [json.dumps(entry["content"]) for entry in sent]
    assert {entry["content"]["id"] for entry in sent} == {None}
    assert len(set(contents)) < len(contents)


async def test_binance_is_received_as_logged_and_its_books_are_built_without_a_gap(simulator, caplog):
    received, symbols = Received(), ["BTC-USDT", "SHIB-USDT"]
    feed = Binance(
        symbols=symbols,
        channels=[TRADES, TICKER, CANDLES, L2_BOOK],
        callbacks=received.callbacks,
        http_proxy=simulator.proxy,
        candle_closed_only=False,
    )
    async with connected(feed):
        sent = by_stream(await everything_sent(simulator, symbols, [TRADES, TICKER, CANDLES, L2_BOOK]))
        await eventually(
            lambda: all(
                len(received.records.get(key, ())) == len(sent[key]) for key in sent if key[0] != "l2_book"
            )
        )
    await feed.http_conn.close()
    assert "Missing book update" not in caplog.text
    for (channel, symbol), entries in sent.items():
        if channel == "l2_book":
            snapshot = next(entry for entry in entries if entry["content"]["kind"] == "snapshot")
            last = snapshot["content"]["last_update_id"]
            assert snapshot["connection"] is None
            deltas = [e for e in entries if e["content"]["kind"] == "delta"]
            kept = [snapshot, *(e for e in deltas if e["content"]["last_update_id"] > last)]
            assert len(kept) > 10
            assert received.records[channel, symbol] == [book_content(entry) for entry in kept]
        else:
            assert received.records[channel, symbol] == [comparable(entry) for entry in entries]


async def test_coinbase_is_received_as_logged(simulator):
    products = ["BTC-USD", "SHIB-USD"]
    frames, numbers, kinds = [], [], set()
    async with websockets.connect(COINBASE) as socket:
        for channel in ("level2", "market_trades", "ticker"):
            await socket.send(json.dumps({"type": "subscribe", "channel": channel, "product_ids": products}))
        await socket.send(json.dumps({"type": "subscribe", "channel": "heartbeats"}))

        async def read():
            async for text in socket:
                frame = json.loads(text)
                frames.append(frame)
                numbers.append(frame["sequence_num"])
                kinds.add(frame["channel"])

        reading = asyncio.create_task(read())
        sent = await everything_sent(simulator, products, ["trades", "ticker", "l2_book"])
        received = lambda: [entry for frame in frames for entry in coinbase_records(frame)]  # noqa: E731
        await eventually(lambda: len(received()) == len(sent) and "heartbeats" in kinds)
        reading.cancel()
    assert received() == [(entry["channel"], entry["symbol"], entry["content"]) for entry in sent]
    assert numbers == list(range(len(numbers)))
    assert kinds == {"l2_data", "market_trades", "ticker", "subscriptions", "heartbeats"}
    assert any(len(frame["events"]) > 1 for frame in frames)
    assert {len(frame["timestamp"]) for frame in frames} == {len("2026-01-01T00:00:00.123456789Z")}
    assert {u["side"] for frame in frames for e in frame["events"] for u in e.get("updates", ())} == {
        "bid",
        "offer",
    }
    trades = [e for frame in frames if frame["channel"] == "market_trades" for e in frame["events"]]
    assert {event["type"] for event in trades} == {"snapshot", "update"}


def coinbase_records(frame):
    """Written from the exchange's documentation, without the simulator's help."""
    for event in frame["events"]:
        match frame["channel"]:
            case "ticker":
                for ticker in event["tickers"]:
                    yield (
                        "ticker",
                        ticker["product_id"],
                        {
                            "bid": ticker["best_bid"],
                            "bid_size": ticker["best_bid_quantity"],
                            "ask": ticker["best_ask"],
                            "ask_size": ticker["best_ask_quantity"],
                            "timestamp": frame["timestamp"],
                        },
                    )
            case "market_trades":
                for trade in event["trades"]:
                    content = {
                        "id": trade["trade_id"],
                        "side": {"BUY": "sell", "SELL": "buy"}[trade["side"]],  # the maker's
                        "price": trade["price"],
                        "amount": trade["size"],
                        "timestamp": trade["time"],
                        "type": None,
                    }
                    if event["type"] == "snapshot":
                        content["snapshot"] = True
                    yield "trades", trade["product_id"], content
            case "l2_data":
                sides = {
                    side: [
                        [u["price_level"], u["new_quantity"]] for u in event["updates"] if u["side"] == name
                    ]
                    for side, name in (("bid", "bid"), ("ask", "offer"))
                }
                kind = "snapshot" if event["type"] == "snapshot" else "delta"
                yield "l2_book", event["product_id"], {"kind": kind, **sides, "timestamp": frame["timestamp"]}


@pytest.mark.parametrize("depth", [10, 1000])
async def test_kraken_v2_is_received_as_logged_and_its_checksums_hold(simulator, depth):
    symbols = ["BTC-USD", "SHIB-USD", "DOGE-USD"]
    pairs = [symbol.replace("-", "/") for symbol in symbols]
    channels = {"trade": {"snapshot": True}, "ticker": {"event_trigger": "bbo"}, "ohlc": {"interval": 1}}
    channels["book"] = {"depth": depth}
    received, books = [], {}
    async with websockets.connect(KRAKEN_V2) as socket:
        for number, (channel, more) in enumerate(channels.items()):
            parameters = {"channel": channel, "symbol": pairs} | more
            await socket.send(json.dumps({"method": "subscribe", "params": parameters, "req_id": number}))

        async def read():
            async for text in socket:
                frame = json.loads(text, parse_float=str, parse_int=str)
                if frame.get("channel") in channels:
                    received.extend(kraken_v2_records(frame))
                if frame.get("channel") == "book":
                    follow(books, frame, depth)

        reading = asyncio.create_task(read())
        sent = await everything_sent(simulator, symbols, ["trades", "ticker", "l2_book"])
        await eventually(lambda: len(received) >= len(sent), task=reading)
        reading.cancel()
    logged = [(entry["channel"], entry["symbol"], entry["content"]) for entry in sent]
    assert [entry for entry in received if entry[0] != "candles"] == [
        (channel, symbol, content) for channel, symbol, content in logged if channel != "candles"
    ]
    assert sum(channel == "candles" for channel, *_ in logged) >= 3
    assert books.keys() == {*pairs}


def kraken_v2_records(frame):
    """Written from the exchange's documentation, without the simulator's help."""
    past = {"snapshot": True} if frame["type"] == "snapshot" else {}
    for data in frame["data"]:
        symbol = data["symbol"].replace("/", "-")
        match frame["channel"]:
            case "ticker":
                content = {
                    "bid": data["bid"],
                    "bid_size": data["bid_qty"],
                    "ask": data["ask"],
                    "ask_size": data["ask_qty"],
                    "timestamp": data["timestamp"],
                }
                yield "ticker", symbol, content
            case "trade":
                content = {
                    "id": data["trade_id"],
                    "side": data["side"],
                    "price": data["price"],
                    "amount": data["qty"],
                    "timestamp": data["timestamp"],
                    "type": data["ord_type"],
                }
                yield "trades", symbol, content | past
            case "book":
                sides = {
                    ours: [[level["price"], level["qty"]] for level in data[theirs]]
                    for ours, theirs in (("bid", "bids"), ("ask", "asks"))
                }
                kind = "snapshot" if frame["type"] == "snapshot" else "delta"
                yield "l2_book", symbol, {"kind": kind, **sides, "timestamp": data["timestamp"]}
            case _:
                yield "candles", symbol, None


def follow(books, frame, depth):
    """Keep a book as the exchange's guide says, and hold it to its checksum."""
    (data,) = frame["data"]
    if frame["type"] == "snapshot":
        books[data["symbol"]] = {}, {}
    digits = ""
    for side, name, sign in zip(books[data["symbol"]], ("bids", "asks"), (-1, 1), strict=True):
        side.update({Decimal(level["price"]): (level["price"], level["qty"]) for level in data[name]})
        order = sorted(
            (price for price, level in side.items() if Decimal(level[1])), key=lambda it: sign * it
        )
        best = [side[price] for price in order[:depth]]
        side.clear()
        side.update({Decimal(level[0]): level for level in best})
        digits = "".join(text.replace(".", "").lstrip("0") for level in best[:10] for text in level) + digits
    assert crc32(digits.encode()) == int(data["checksum"])


async def kraken_v2_answers(*requests):
    """What comes back for each request, without the status and the times."""
    async with websockets.connect(KRAKEN_V2) as socket:
        assert json.loads(await socket.recv())["channel"] == "status"
        for request in requests:
            await socket.send(json.dumps(request))
            async with asyncio.timeout(PATIENCE):
                while "time_in" not in (answer := json.loads(await socket.recv())):
                    pass
            yield {key: value for key, value in answer.items() if not key.startswith("time_")}


async def test_kraken_v2_answers_each_request_under_its_id(simulator):
    def request(channel, symbol, method="subscribe", **more):
        return {"method": method, "params": {"channel": channel, "symbol": [symbol], **more}, "req_id": 7}

    def refused(error, symbol="BTC/USD", method="subscribe"):
        return {"error": error, "method": method, "success": False, "symbol": symbol, "req_id": 7}

    simulator.pause()
    found = [
        answer
        async for answer in kraken_v2_answers(
            {"method": "ping", "req_id": 3},
            request("trade", "NO/SUCH"),
            request("book", "BTC/USD", depth=11),
            request("spread", "BTC/USD"),
            request("trade", "BTC/USD", "unsubscribe"),
            request("book", "BTC/USD", depth=25),
            request("book", "BTC/USD", depth=25),
            request("book", "BTC/USD", "unsubscribe", depth=25),
        )
    ]
    stands = {"channel": "book", "symbol": "BTC/USD", "snapshot": True, "depth": 25}
    assert found == [
        {"method": "pong", "req_id": 3},
        refused("Currency pair not supported NO/SUCH", "NO/SUCH"),
        refused("Subscription depth not supported"),
        refused("Unsupported channel spread"),
        refused("Subscription Not Found", method="unsubscribe"),
        {"method": "subscribe", "result": stands, "success": True, "req_id": 7},
        refused("Already subscribed"),
        {
            "method": "unsubscribe",
            "result": {"channel": "book", "symbol": "BTC/USD"},
            "success": True,
            "req_id": 7,
        },
    ]


@pytest.mark.parametrize("snapshot", [None, False, True])
async def test_kraken_v2_sends_past_trades_to_those_who_ask_for_them(simulator, snapshot):
    simulator.pause()
    wanted = {} if snapshot is None else {"snapshot": snapshot}
    parameters = {"channel": "trade", "symbol": ["BTC/USD"]} | wanted
    async with websockets.connect(KRAKEN_V2) as socket:
        await socket.send(json.dumps({"method": "subscribe", "params": parameters}))
        frames = []
        while not frames or frames[-1] != {"channel": "heartbeat"}:
            frames.append(json.loads(await socket.recv()))
    assert any(frame.get("type") == "snapshot" for frame in frames) is bool(snapshot)


FUTURES = "wss://fstream.binance.com"
FUTURES_STREAMS = [
    f"btcusdt@{kind}"
    for kind in ("aggTrade", "markPrice@1s", "forceOrder", "kline_1m", "bookTicker", "depth@100ms")
]


@pytest.mark.parametrize(
    ("path", "events"),
    [
        ("/public/stream", {"bookTicker", "depthUpdate"}),
        ("/market/stream", {"aggTrade", "markPriceUpdate", "forceOrder", "kline"}),
        ("/stream", {"bookTicker", "depthUpdate"}),  # the address of old
    ],
)
async def test_binance_futures_acknowledges_all_streams_and_sends_those_of_the_path(simulator, path, events):
    received = set()
    async with websockets.connect(f"{FUTURES}{path}?streams={FUTURES_STREAMS[0]}") as socket:
        for method in ("SUBSCRIBE", "LIST_SUBSCRIPTIONS"):
            await socket.send(json.dumps({"method": method, "params": FUTURES_STREAMS, "id": method}))
        answered = {}
        while len(answered) < 2 or received != events:
            message = json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))
            if "stream" in message:
                received.add(message["data"]["e"])
            else:
                answered[message["id"]] = message["result"]
        for _ in range(50):  # and nothing else comes
            message = json.loads(await socket.recv())
            received.add(message["data"]["e"])
    assert answered == {"SUBSCRIBE": None, "LIST_SUBSCRIPTIONS": FUTURES_STREAMS}
    assert received == events


async def test_binance_futures_is_received_as_logged(simulator):
    received = []
    tasks = [
        asyncio.create_task(
            read_futures(f"{FUTURES}/{path}/stream?streams={'/'.join(FUTURES_STREAMS)}", received)
        )
        for path in ("public", "market")
    ]
    symbol = "BTC-USDT-PERP"
    sent = await everything_sent(simulator, [symbol], ["trades", "ticker", "l2_book"])
    await eventually(lambda: len(received) >= len(sent), task=tasks[0])
    for task in tasks:
        task.cancel()
    logged = by_stream(entry for entry in sent if entry["channel"] != "candles")
    assert {channel for channel, _ in logged} >= {"trades", "ticker", "l2_book", "funding", "index"}
    for (channel, _), entries in logged.items():
        assert [content for of, content in received if of == channel] == [it["content"] for it in entries]


async def read_futures(address, received):
    """Written from the exchange's documentation, without the simulator's help."""
    last = None
    async with websockets.connect(address) as socket:
        async for text in socket:
            data = json.loads(text)["data"]
            when = str(data["E"])
            match data["e"]:
                case "aggTrade":
                    side = "sell" if data["m"] else "buy"
                    content = {"id": str(data["a"]), "side": side, "price": data["p"], "amount": data["q"]}
                    received.append(("trades", content | {"timestamp": str(data["T"]), "type": None}))
                case "bookTicker":
                    names = {"bid": "b", "bid_size": "B", "ask": "a", "ask_size": "A"}
                    content = {ours: data[theirs] for ours, theirs in names.items()}
                    received.append(("ticker", content | {"timestamp": when}))
                case "depthUpdate":
                    assert data["pu"] == (data["pu"] if last is None else last)
                    last = data["u"]
                    ids = {"first_update_id": data["U"], "last_update_id": data["u"]}
                    content = {"kind": "delta", "bid": data["b"], "ask": data["a"], "timestamp": when}
                    received.append(("l2_book", content | ids))
                case "markPriceUpdate":
                    names = {"mark_price": "p", "rate": "r"}
                    content = {ours: data[theirs] for ours, theirs in names.items()}
                    following = {"next_funding_time": str(data["T"]), "predicted_rate": None}
                    received.append(("funding", content | following | {"timestamp": when}))
                    received.append(("index", {"price": data["i"], "timestamp": when}))
                case "forceOrder":
                    order = data["o"]
                    content = {"side": order["S"].lower(), "quantity": order["q"], "price": order["p"]}
                    status = {"status": order["X"].lower(), "timestamp": when}
                    received.append(("liquidations", content | status))
                case "kline":
                    received.append(("candles", None))


def test_binance_futures_lists_perpetuals_and_answers_over_rest(simulator):
    def get(path):
        return requests.get(f"https://fapi.binance.com/fapi/v1/{path}", timeout=PATIENCE)

    rows = get("exchangeInfo").json()["symbols"]
    assert {(row["symbol"], row["contractType"], row["marginAsset"]) for row in rows} >= {
        ("BTCUSDT", "PERPETUAL", "USDT")
    }
    book = get("depth?symbol=BTCUSDT&limit=1000").json()
    assert book.keys() == {"lastUpdateId", "E", "T", "bids", "asks"}
    assert len(book["bids"]) > 50
    assert get("depth?symbol=BTCUSDT&limit=7").json()["code"] == -4021
    assert get("openInterest?symbol=BTCUSDT").json().keys() == {"openInterest", "symbol", "time"}
    assert get("openInterest?symbol=NOSUCH").status_code == 400


async def answers(address, *messages):
    """What comes back for each message, in order, without the records."""
    async with websockets.connect(address) as socket:
        for message in messages:
            await socket.send(message if isinstance(message, str) else json.dumps(message))
            async with asyncio.timeout(PATIENCE):
                yield json.loads(await socket.recv())


async def test_subscription_errors_are_the_exchanges_own(simulator):
    wrong = [
        {"type": "subscribe", "channel": "heartbeat"},
        {"type": "subscribe", "channel": "ticker", "product_ids": ["NO-SUCH"]},
        {"type": "shout"},
        "no JSON",
    ]
    errors = [answer async for answer in answers(COINBASE, *wrong)]
    assert {error["type"] for error in errors} == {"error"}
    assert errors[0]["message"] == "authentication failure"
    assert "NO-SUCH" in errors[1]["message"]

    def kraken(pair, **subscription):
        return {"event": "subscribe", "pair": [pair], "subscription": subscription, "reqid": 7}

    async with websockets.connect("wss://ws.kraken.com") as socket:
        assert json.loads(await socket.recv())["event"] == "systemStatus"
        for message, error in (
            (kraken("NO/SUCH", name="trade"), "Currency pair not supported NO/SUCH"),
            (kraken("XBTUSD", name="trade"), "Currency pair not in ISO 4217-A3 format XBTUSD"),
            (kraken("XBT/USD", name="book", depth=11), "Subscription depth not supported"),
            (kraken("XBT/USD", name="spread"), "Subscription name invalid"),
        ):
            await socket.send(json.dumps(message))
            answer = json.loads(await socket.recv())
            assert (answer["status"], answer["errorMessage"], answer["reqid"]) == ("error", error, 7)


async def test_binance_ignores_unknown_streams_and_lists_the_others(simulator):
    simulator.pause()
    address = "wss://stream.binance.com:9443/stream?streams=btcusdt@aggTrade/nosuch@aggTrade/BTCUSDT@depth"
    messages = [
        {"method": "LIST_SUBSCRIPTIONS", "id": 1},
        {"method": "SUBSCRIBE", "params": ["ethusdt@bookTicker"], "id": "two"},
        {"method": "UNSUBSCRIBE", "params": ["btcusdt@aggTrade"], "id": 3},
        {"method": "LIST_SUBSCRIPTIONS", "id": 4},
        {"method": "SHOUT", "id": 5},
    ]
    received = [answer async for answer in answers(address, *messages)]
    assert received[:4] == [
        {"result": ["btcusdt@aggTrade"], "id": 1},
        {"result": None, "id": "two"},
        {"result": None, "id": 3},
        {"result": ["ethusdt@bookTicker"], "id": 4},
    ]
    assert received[4]["code"] == 2


def test_reference_data_reaches_clients_that_block(simulator):
    products = requests.get(
        "https://api.coinbase.com/api/v3/brokerage/market/products", timeout=PATIENCE
    ).json()
    assert [product["product_id"] for product in products["products"]][:2] == ["BTC-USD", "ETH-USD"]
    pairs = requests.get("https://api.kraken.com/0/public/AssetPairs", timeout=PATIENCE).json()
    assert "XBT/USD" in [pair["wsname"] for pair in pairs["result"].values()]


async def test_reference_data_reaches_asynchronous_clients(simulator):
    async with aiohttp.ClientSession(trust_env=True) as session:
        async with session.get("https://api.binance.com/api/v3/exchangeInfo") as answer:
            symbols = (await answer.json())["symbols"]
        assert {"BTCUSDT", "SHIBUSDT"} <= {symbol["symbol"] for symbol in symbols}
        async with session.get("https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=5") as answer:
            assert len((await answer.json())["bids"]) == 5
        async with session.get("https://api.binance.com/api/v3/depth?symbol=NOSUCH") as answer:
            assert (answer.status, (await answer.json())["code"]) == (400, -1121)


def test_the_proxy_refuses_what_is_not_simulated(simulator):
    with pytest.raises(requests.exceptions.ProxyError, match="403"):
        requests.get("https://example.com/", timeout=PATIENCE)
    assert requests.get(simulator.proxy, timeout=PATIENCE).status_code == 405


def test_two_runs_with_one_seed_send_the_same(monkeypatch):
    def run():
        with Simulator(seed=9, rate=0, messages=20) as simulator:
            simulator.lead_here(monkeypatch)
            return asyncio.run(collect(simulator))

    async def collect(simulator):
        address = "wss://stream.binance.com:9443/stream?streams=btcusdt@aggTrade/btcusdt@depth"
        async with websockets.connect(address) as socket:
            deltas = 0
            while deltas < 20:
                deltas += "depthUpdate" in await socket.recv()
        entries = await asyncio.to_thread(simulator.records)
        return [{k: v for k, v in entry["content"].items() if k != "timestamp"} for entry in entries]

    assert run() == run()


def test_the_printed_environment_is_all_that_a_collector_needs(simulator):
    assert os.environ["HTTPS_PROXY"] == simulator.proxy
    assert simulator.ca.stat().st_mode & 0o777 == 0o644
