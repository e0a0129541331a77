"""OKX announces that it closes its connections, over real TLS: the next ones take over."""

import asyncio
import json
import time

from aiohttp import ClientWebSocketResponse
from recording import lines, recording
from scripted import SCRIPTS, Script, ScriptedExchange

from collector.feeds import direct_connection, handover
from collector.records import L2Book, Ticker, Trade

BOOK = {"channel": "books", "instId": "BTC-USDT-SWAP"}
BEST = {"channel": "bbo-tbt", "instId": "BTC-USDT-SWAP"}
TRADES = {"channel": "trades-all", "instId": "BTC-USDT-SWAP"}
#: okx.com/docs-v5, WebSocket, Notification, 2026-11-29.
NOTICE = {
    "event": "notice",
    "code": "64008",
    "msg": "The connection will soon be closed for a service upgrade. Please reconnect.",
    "connId": "a4d3ae55",
}


def listing():
    return [line for line in (SCRIPTS / "OKX.jsonl").read_text().splitlines() if line.startswith('{"get"')]


def begins(path, *arguments):
    yield {"connect": f"wss://ws.okx.com:443/ws/v5/{path}"}
    yield {"whenever": "ping", "send": "pong"}
    yield {"expect": {"id": "1", "op": "subscribe", "args": list(arguments)}}
    for argument in arguments:
        yield {"send": {"id": "1", "event": "subscribe", "arg": argument, "connId": "a4d3ae55"}}


def trade(number, seconds):
    fields = {"instId": "BTC-USDT-SWAP", "px": "80666.8", "sz": "3", "side": "buy", "source": "0"}
    data = fields | {"tradeId": str(number), "ts": f"<ms{seconds * 1000:+d}>"}
    return {"send": {"arg": TRADES, "data": [data]}}


def best(number, seconds):
    sides = {"asks": [["9000", "1", "0", "1"]], "bids": [[str(number), "990", "0", "2"]]}
    return {"send": {"arg": BEST, "data": [sides | {"ts": f"<ms{seconds * 1000:+d}>", "seqId": number}]}}


def book(number, seconds, action="update"):
    """Each update adds a bid; a snapshot has all of them."""
    first, before = (1, -1) if action == "snapshot" else (number, number - 1)
    bids = [[str(price), "1", "0", "1"] for price in range(first, number + 1)]
    data = {"asks": [], "bids": bids, "ts": f"<ms{seconds * 1000:+d}>", "checksum": 0}
    return {"send": {"arg": BOOK, "action": action, "data": [data | {"seqId": number, "prevSeqId": before}]}}


def script():
    """What is sent when: numbers and times go up by one."""
    yield from begins("business", TRADES)
    yield from (trade(1, 60), trade(2, 61), {"send": NOTICE}, {"until": "two"}, trade(3, 62))
    yield from begins("public", BEST, BOOK)
    yield from (best(1, 60), book(1, 60, "snapshot"), book(2, 61), {"send": NOTICE}, {"until": "two"})
    yield from (best(2, 61), best(3, 62), best(4, 63), book(3, 62))
    yield from begins("business", TRADES)
    yield {"source": "the last trade from before the subscription, as after each one"}
    yield from (trade(2, -60), {"until": "two"}, trade(3, 62), {"until": "one"}, trade(4, 63))
    yield from begins("public", BEST, BOOK)
    yield from (best(1, 60), book(2, 61, "snapshot"), {"until": "two"}, best(2, 61), book(3, 62))
    yield {"source": "its best prices lag behind, whatever has become of the other connection"}
    yield from ({"until": "one"}, best(3, 62), best(4, 63), best(5, 64), book(4, 63), book(5, 64))


def next_stands(it):
    """Whether the connection that is to take over has all subscriptions."""
    following = it.feed.connections and it.feed.connections[0]._next
    return following and following.handover._stood


async def test_an_announced_closing_costs_nothing_and_stores_nothing_twice(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(direct_connection, "SETTLING", 0.0)
    text = "\n".join([*listing(), *map(json.dumps, script())])
    with ScriptedExchange(Script(text, int(time.time()))) as exchange:
        asked = {"SYMBOLS": "BTC-USDT-PERP", "CHANNELS": "trades,ticker,l2_book"}
        async with recording(exchange, tmp_path, "OKX", **asked) as it:
            await it.until(lambda: "never connected" not in exchange.report(), "both of the next ones")
            exchange.go("two")
            await it.until(lambda: len(lines(caplog, "has taken over")) == 2, "the next connections")
            exchange.go("one")
            await it.until(lambda: not exchange.unplayed, "the rest")
            await it.until(lambda: it.received >= 4 + 5 + 6, "what was sent")
            await it.receiver.drain()
            records = await it.spool.newest(1000)
            assert not it.receiver.gaps
    assert [record.id for record in records if isinstance(record, Trade)] == ["1", "2", "3", "4"]
    assert [record.bid for record in records if isinstance(record, Ticker)] == [*"12345"]
    books = [record for record in records if isinstance(record, L2Book)]
    changes = [(record.delta, [price for price, _ in record.bid]) for record in books]
    assert changes == [
        *((False, ["1"]), (True, ["2"]), (True, ["3"]), (True, ["4"]), (True, ["5"])),
        (False, ["5", "4", "3", "2", "1"]),  # whole once, after the handover
    ]


def lagging():
    """The second connection lags behind the first one, and is to be closed before it has caught up."""
    yield from begins("public", BOOK)
    yield from (book(1, 60, "snapshot"), book(2, 61), {"send": NOTICE}, {"until": "two"})
    yield from (book(number, 60 + number) for number in (3, 4, 5, 6))
    yield from begins("public", BOOK)
    yield from (
        book(2, 61, "snapshot"),
        {"until": "three"},
        book(3, 63),
        {"until": "closing"},
        {"send": NOTICE},
    )
    yield from ({"until": "four"}, book(4, 64), {"until": "eight"})
    yield from (book(number, 60 + number) for number in (5, 6, 7, 8))
    yield from begins("public", BOOK)
    yield book(8, 68, "snapshot")
    yield from begins("public", BOOK)
    yield from (book(8, 68, "snapshot"), {"until": "nine"}, book(9, 69))


async def test_a_connection_that_lags_behind_the_last_one_is_not_let_go_before_it_has_caught_up(
    tmp_path, caplog, monkeypatch
):
    caplog.set_level("INFO")
    monkeypatch.setattr(handover, "GRACE", 0.5)
    text = "\n".join([*listing(), *map(json.dumps, lagging())])
    with ScriptedExchange(Script(text, int(time.time()))) as exchange:
        asked = {"SYMBOLS": "BTC-USDT-PERP", "CHANNELS": "l2_book"}
        async with recording(exchange, tmp_path, "OKX", **asked) as it:
            await it.until(lambda: next_stands(it), "the second connection")
            exchange.go("two")
            await it.until(lambda: it.received == 6, "all of the first connection")
            exchange.go("three")
            await it.until(lambda: lines(caplog, "has taken over"), "the second connection's turn")
            exchange.go("closing")
            await it.until(lambda: next_stands(it), "the third connection")
            exchange.go("four")
            await it.until(lambda: it.feed.connections[0]._next is None, "the end of the third connection")
            assert lines(caplog, "do not agree")
            exchange.go("eight")
            await it.until(lambda: len(lines(caplog, "has taken over")) == 2, "the fourth one's turn")
            exchange.go("nine")
            await it.until(lambda: it.received >= 9, "what was sent")
            await it.receiver.drain()
            books = await it.spool.newest(1000)
            assert not it.receiver.gaps
    assert [[price for price, _ in each.bid] for each in books] == [[str(n)] for n in range(1, 10)]


def faulty():
    """The second connection is to be closed as well, once the first one has reached its beginning."""
    yield from begins("public", BOOK)
    yield from (book(1, 60, "snapshot"), book(2, 61), {"send": NOTICE}, {"until": "three"}, book(3, 63))
    yield from begins("public", BOOK)
    yield from (book(2, 61, "snapshot"), {"until": "fault"}, book(3, 63), {"send": NOTICE})
    yield from begins("public", BOOK)
    yield book(3, 63, "snapshot")


async def test_a_connection_with_a_fault_does_not_take_over_while_it_ends(tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(handover, "GRACE", 0.5)
    monkeypatch.setattr(direct_connection, "LOOK", 0.001)
    close = ClientWebSocketResponse.close

    async def from_afar(*arguments, **named):
        await asyncio.sleep(0.2)
        return await close(*arguments, **named)

    monkeypatch.setattr(ClientWebSocketResponse, "close", from_afar)
    text = "\n".join([*listing(), *map(json.dumps, faulty())])
    with ScriptedExchange(Script(text, int(time.time()))) as exchange:
        asked = {"SYMBOLS": "BTC-USDT-PERP", "CHANNELS": "l2_book"}
        async with recording(exchange, tmp_path, "OKX", **asked) as it:
            await it.until(lambda: next_stands(it), "the second connection")
            exchange.go("three")
            await it.until(lambda: it.received == 3, "the next change")
            exchange.go("fault")
            await it.until(lambda: "never connected" not in exchange.report(), "the third connection")
            (connection,) = it.feed.connections
            third = connection._next.link
            await it.until(lambda: third is connection._link or lines(caplog, "lost"), "its turn")
            assert not it.receiver.gaps
    assert not lines(caplog, "connection lost")
