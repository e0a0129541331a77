"""What listens at Redis' port may answer anything: never a traceback, and never taken for stored."""

import asyncio
import random

import pytest
from streams import trades

from collector.settings import Settings
from collector.stores import (
    Batch,
    Position,
    PositionLostError,
    StoreRefusedError,
    StoreUnavailableError,
    create,
)

TOLD = (StoreUnavailableError, StoreRefusedError, PositionLostError)
#: Those of Redis' protocol, ``|`` for the ends of lines, and two that are none.
ANSWERS = [
    text.replace("|", "\r\n").encode("latin-1")
    for text in (
        *("+OK|", "+done|", ":1|", "$-1|", "*-1|", "*0|", "*1|:1|", "$3|abc|", "-ERR no|", "*1|*1|*0|"),
        *("*2|$3|abc|$3|def|", "*3|$1|a|$-1|:5|", "*4|:1|:2|:3|:4|", "*4|$1|\xff|$1|\xff|$1|x|$1|y|"),
        *("*1|-ERR within|", "*1|$4|kind|", "*1|$7|stopped|", "*2|$7|stopped|:1|", "*2|$4|kind|$1|\xff|"),
        *(f"*3|$1|a|$1|b|$400|{'9' * 400}|", "HTTP/1.1 400 Bad Request||", "\0\0"),
    )
]


async def answering(reader, writer, answer):
    """Answers each command, which is an array of bulk strings, by ``answer``."""
    try:
        while line := await reader.readline():
            words = [
                await reader.readexactly(int((await reader.readline())[1:]) + 2) for _ in range(int(line[1:]))
            ]
            writer.write(answer(words[0][:-2].upper()))
            await writer.drain()
    except (ConnectionError, ValueError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


@pytest.mark.parametrize("backend", ["REDIS", "REDISSTREAM"])
@pytest.mark.parametrize("sentinel", [False, True])
async def test_an_answer_that_no_redis_gives_is_told_and_stores_nothing(backend, sentinel, monkeypatch):
    monkeypatch.setattr("collector.stores.redis_connection.ANSWER_SECONDS", 0.2)
    draw = random.Random(f"{backend} {sentinel}")
    opened = 0

    def answer(command):
        # so that some get further than the first command
        sound = {b"SCRIPT": b"$1\r\nx\r\n", b"TYPE": b"+none\r\n", b"HMGET": b"*4\r\n" + b"$-1\r\n" * 4}
        sound |= {b"INFO": b"$11\r\nmaxmemory:0\r\n", b"SELECT": b"+OK\r\n", b"CLIENT": b"+OK\r\n"}
        if command in sound and draw.random() < 0.85:
            return sound[command]
        return draw.choice(ANSWERS)

    server = await asyncio.start_server(lambda *pipes: answering(*pipes, answer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    where = {"URL": f"redis+sentinel://127.0.0.1:{port}/it"} if sentinel else {"PORT": str(port)}
    what = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": backend}
    store = create(Settings.read(what | where))
    for _ in range(150):
        try:
            await store.open("a")
            opened += 1
        except TOLD as error:
            assert str(error).isprintable()
            continue
        after = Position("o", "i", 2)
        for work in (
            lambda: store.commit("a", Batch("i", 0, list(trades(2))), None, after),  # noqa: B023 - it is called here
            lambda: store.holder("a"),
            store.notes,
        ):
            try:
                result = await work()
            except TOLD:
                continue
            assert result != (), "taken for stored"
    await store.close()
    server.close()
    assert sentinel or opened > 5
