"""What listens at a store's port may answer anything: it is told, soon, and never taken for stored."""

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from random import Random
from unittest import mock

import bson
from fuzz import mutation
from streams import trades

from collector.batch import Batch, Position
from collector.settings import Settings
from collector.stores import PositionLostError, StoreRefusedError, StoreUnavailableError, create

COLLECTOR = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades"}
TOLD = (StoreUnavailableError, StoreRefusedError, PositionLostError)
PATIENCE = 10.0  # seconds for one input; a store that answers nothing is given up after less
AFTER = Position("o", "i", 2)

type Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Random], Awaitable[None]]


class StoreAnswers:
    """A store of some kind whose answers are changed by chance; a case is its kind and the seed of that."""

    name, share = "store answers", 0.02

    def draw(self, draw: Random) -> object:
        return draw.choice(list(_SERVERS)), draw.randrange(2**32)

    def attempt(self, case) -> bool:
        backend, seed = case
        with (
            mock.patch("collector.stores.redis_connection.ANSWER_SECONDS", 0.2),
            mock.patch("collector.stores.mongo.CONNECT_SECONDS", 0.2),
            mock.patch("collector.stores.mongo._COMMAND_SECONDS", 0.2),
            mock.patch("collector.stores.postgres._CONNECT_SECONDS", 0.3),
            mock.patch("collector.stores.postgres._COMMAND_SECONDS", 0.3),
        ):
            return asyncio.run(_used(backend, Random(seed)))


async def _used(backend: str, draw: Random) -> bool:
    """Use a store as the writer does; return whether it got as far as to be used."""
    answering, variables = _SERVERS[backend]
    server = await asyncio.start_server(lambda *pipes: _answer(answering, *pipes, draw), "127.0.0.1", 0)
    place = {"HOST": "127.0.0.1", "PORT": str(server.sockets[0].getsockname()[1])}
    if backend == "sentinel":
        place = {"URL": f"redis+sentinel://127.0.0.1:{place['PORT']}/it"}
    store = create(Settings.read(COLLECTOR | variables | place))
    opened = False
    try:
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(*TOLD):
                position = await store.open("a")
                assert position is None or isinstance(position, Position)
                opened = True
                for work in (
                    lambda: store.holder("a"),
                    store.notes,
                    lambda: store.gaps("COINBASE", ["BTC-USD"]),
                    lambda: store.commit("a", Batch("i", 0, list(trades(2))), position, AFTER),
                    lambda: store.note("a", "x"),
                    lambda: store.release("a", AFTER),
                ):
                    try:
                        result = await work()
                        assert result != () or backend in ("MONGO", "POSTGRES"), "taken for stored"
                    except TOLD as error:
                        assert str(error).encode()
                        if backend in ("MONGO", "POSTGRES"):
                            break
    finally:
        await store.close()
        server.close()
    return opened


async def _answer(answering: Answering, reader, writer, draw: Random) -> None:
    try:
        await answering(reader, writer, draw)
    except (ConnectionError, ValueError, asyncio.IncompleteReadError, struct.error, bson.InvalidBSON):
        pass  # whoever answers so may be spoken to in any way
    except asyncio.CancelledError:
        pass  # the loop ends; to be cancelled would be logged
    finally:
        writer.close()


# -- Redis ---------------------------------------------------------------------------------------------

#: Those of Redis' protocol, ``|`` for the ends of lines, and two that are none.
REDIS = [
    text.replace("|", "\r\n").encode("latin-1")
    for text in (
        *("+OK|", "+done|", ":1|", "$-1|", "*-1|", "*0|", "*1|:1|", "$3|abc|", "-ERR no|", "*1|*1|*0|"),
        *("*2|$3|abc|$3|def|", "*3|$1|a|$-1|:5|", "*4|:1|:2|:3|:4|", "*4|$1|\xff|$1|\xff|$1|x|$1|y|"),
        *("*1|-ERR within|", "*1|$4|kind|", "*1|$7|stopped|", "*2|$7|stopped|:1|", "*2|$4|kind|$1|\xff|"),
        *(f"*3|$1|a|$1|b|$400|{'9' * 400}|", "HTTP/1.1 400 Bad Request||", "\0\0", "*1000000000|"),
        "$99999999999|",
        *("*1|" * 2000, "-" + "x" * 70_000 + "|", "-ERR \x1b[2J|", "-MOVED 1 h:1|", "-LOADING x|"),
        "%1|:1|:2|",
    )
]
_SOUND = {
    b"SCRIPT": b"$1\r\nx\r\n",
    b"TYPE": b"+none\r\n",
    b"HMGET": b"*4\r\n" + b"$-1\r\n" * 4,
    b"INFO": b"$11\r\nmaxmemory:0\r\n",
    b"SELECT": b"+OK\r\n",
    b"CLIENT": b"+OK\r\n",
    b"XRANGE": b"*0\r\n",
    b"ZRANGE": b"*0\r\n",
}


async def _redis(reader, writer, draw: Random) -> None:
    while line := await reader.readline():
        words = [
            await reader.readexactly(int((await reader.readline())[1:]) + 2) for _ in range(int(line[1:]))
        ]
        sound = _SOUND.get(words[0][:-2].upper())
        writer.write(sound if sound and draw.random() < 0.85 else draw.choice(REDIS))
        await writer.drain()


# -- MongoDB -------------------------------------------------------------------------------------------

_HELLO = {
    "ismaster": True,
    "isWritablePrimary": True,
    "maxWireVersion": 21,
    "minWireVersion": 0,
    "maxBsonObjectSize": 16 * 2**20,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "ok": 1.0,
}
_DOCUMENT = {
    "_id": "a",
    "owner": "o",
    "incarnation": "i",
    "sequence": 0,
    "who": "w",
    "note": "{}",
    "missed": "trades",
}
_FAILED = {"index": 0, "code": 11000, "errmsg": "E11000 duplicate key", "keyPattern": {"_id": 1}}
_REPLIES = {
    "find": {"cursor": {"firstBatch": [_DOCUMENT], "id": 0, "ns": "d.c"}, "ok": 1.0},
    "insert": {"n": 2, "ok": 1.0, "writeErrors": [_FAILED]},
    "update": {"n": 1, "nModified": 1, "ok": 1.0},
}


async def _mongo(reader, writer, draw: Random) -> None:
    """Messages are OP_MSG (and OP_QUERY at first): https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/."""
    while header := await reader.readexactly(16):
        size, request, _, code = struct.unpack("<4i", header)
        body = await reader.readexactly(size - 16)
        command = (
            bson.decode_all(body[5 : 5 + int.from_bytes(body[5:9], "little")])[0] if code == 2013 else {}
        )
        name = next(iter(command), "hello")
        reply = dict(_REPLIES.get(name, _HELLO if name in ("hello", "ismaster") else {"ok": 1.0}))
        content = bson.encode(reply)
        if draw.random() < (0.03 if name == "hello" else 0.5):
            changed = mutation.of_value(reply, draw)
            with contextlib.suppress(Exception):  # what BSON cannot say
                content = bson.encode(changed)
            if draw.random() < 0.1:
                content = mutation.of_bytes(content, draw)
        answer = (b"\0" * 4 + b"\0" + content) if code == 2013 else struct.pack("<iqii", 8, 0, 0, 1) + content
        kind = 2013 if code == 2013 else 1
        writer.write(struct.pack("<4i", 16 + len(answer), 1, request, kind) + answer)
        await writer.drain()


# -- Postgres ------------------------------------------------------------------------------------------


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", 4 + len(content)) + content


_READY = _message(b"Z", b"T")
_WELCOME = [_message(b"R", struct.pack("!i", 0)), _message(b"K", struct.pack("!2i", 1, 2))]
_WELCOME += [
    _message(b"S", f"{name}\0{value}\0".encode())
    for name, value in {
        "server_version": "15.4",
        "client_encoding": "UTF8",
        "integer_datetimes": "on",
    }.items()
]
_COLUMNS = b"".join(
    name + b"\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0) for name in (b"owner", b"who", b"idle")
)
_ROW = struct.pack("!h", 3) + b"".join(struct.pack("!i", 1) + value for value in (b"a", b"b", b"1"))
#: What a server may say, in its order or not.
POSTGRES = [
    *(
        _message(b"C", tag)
        for tag in (b"BEGIN\0", b"COMMIT\0", b"UPDATE 1\0", b"INSERT 0 1\0", b"COPY 2\0", b"\xff\0", b"")
    ),
    *(
        _message(b"T", struct.pack("!h", 3) + _COLUMNS),
        _message(b"D", _ROW),
        _message(b"D", b"\0\x01\xff\xff\xff\xff"),
    ),
    *(_message(b"1", b""), _message(b"2", b""), _message(b"n", b""), _message(b"s", b"")),
    _message(b"I", b""),
    *(_message(b"t", struct.pack("!hi", 1, 25)), _message(b"t", b"\0\0"), _message(b"t", b"\x7f\xff")),
    *(
        _message(b"G", b"\0\0\0"),
        _message(b"G", b"\0\0\x09" + b"\0\0" * 9),
        _message(b"H", b"\0\0\0"),
        _message(b"Z", b"?"),
    ),
    _message(b"E", b"SERROR\0VERROR\0C23505\0Mtwice\0Dthe key (id)\0\0"),
    *(
        _message(b"E", b"SERROR\0C57P03\0Mstarting \x1b[2J\0\0"),
        _message(b"E", b"\0"),
        _message(b"E", b"C\0M\xff\0\0"),
    ),
    *(
        _message(b"N", b"SNOTICE\0C00000\0Mhm\0\0"),
        _message(b"A", b"\0\0\0\1c\0p\0"),
        _message(b"S", b"x\0y\0"),
    ),
    *(
        _message(b"S", b"client_encoding\0KLINGON\0"),
        _message(b"R", struct.pack("!i", 99)),
        b"X\0\0\0\0",
        b"Z\x7f\xff\xff\xff",
    ),
    *(_READY, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", _message(b"W", b"\0\0\0"), _message(b"c", b"")),
    _message(b"d", b"x"),
]


async def _postgres(reader, writer, draw: Random) -> None:
    """https://www.postgresql.org/docs/current/protocol-message-formats.html."""
    size = struct.unpack("!i", await reader.readexactly(4))[0]
    if await reader.readexactly(size - 4) == struct.pack("!i", 80877103):  # it asks for TLS
        writer.write(b"N" if draw.random() < 0.95 else draw.choice((b"X", b"S", b"")))
        size = struct.unpack("!i", await reader.readexactly(4))[0]
        await reader.readexactly(size - 4)
    welcome = [each for each in _WELCOME if draw.random() < 0.98]
    if draw.random() < 0.1:
        welcome.append(draw.choice(POSTGRES))
    writer.write(b"".join(welcome) + _message(b"Z", b"I"))
    while kind := await reader.readexactly(1):
        size = struct.unpack("!i", await reader.readexactly(4))[0]
        content = await reader.readexactly(size - 4)
        if kind in b"BDE":
            continue
        sound = draw.random() < 0.7
        match kind:
            case b"Q":
                tag = (
                    b"INSERT 0 1"
                    if b"INSERT" in content
                    else b"UPDATE 1"
                    if b"UPDATE" in content
                    else b"COMMIT"
                )
                copies = b"COPY" in content
                answer = (
                    _message(b"G", b"\0\0\x08" + b"\0\0" * 8)
                    if copies
                    else _message(b"C", tag + b"\0") + _READY
                )
            case b"P":
                answer = _message(b"1", b"") + _message(b"t", struct.pack("!hi", 1, 25))
                answer += _message(b"T", struct.pack("!h", 3) + _COLUMNS)
            case b"S":
                rows = b"".join([_message(b"D", _ROW)] * draw.choice((0, 1, 1, 2)))
                answer = _message(b"2", b"") + rows + _message(b"C", b"SELECT 1\0") + _READY
            case b"c":
                answer = _message(b"C", b"COPY 2\0") + _READY
            case b"X":
                return
            case _:
                continue
        writer.write(answer if sound else b"".join(draw.choices(POSTGRES, k=draw.choice((1, 2, 4)))) + _READY)
        await writer.drain()


_SERVERS: dict[str, tuple[Answering, dict[str, str]]] = {
    "REDIS": (_redis, {"BACKEND": "REDIS"}),
    "REDISSTREAM": (_redis, {"BACKEND": "REDISSTREAM"}),
    "sentinel": (_redis, {"BACKEND": "REDISSTREAM"}),
    "MONGO": (_mongo, {"BACKEND": "MONGO", "DATABASE": "d"}),
    "POSTGRES": (_postgres, {"BACKEND": "POSTGRES", "DATABASE": "d", "USER": "u", "CREATE_TABLES": "false"}),
}
