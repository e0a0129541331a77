"""What the replayer sends: messages of the simulator's BINANCE, made beforehand.

Half of them are trades, half are book deltas, of four symbols. BINANCE, because its books have no checksums,
which ours would check and cryptofeed's would not. cryptofeed subscribes to aggregate trades, we to single
ones: each gets its own, which are the same trades.
"""

import struct
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import msgspec

from collector.simulator.binance import Binance
from collector.simulator.exchange import encode
from collector.simulator.faults import Faults

SYMBOLS = ("BTC-USDT", "ETH-USDT", "SOL-USDT", "LTC-USDT")
CHANNELS = ("trades", "l2_book")
SNAPSHOT_INTERVAL = 1000  # the default of cryptofeed's backends and of our collector

_PAIRS = {symbol.replace("-", "") for symbol in SYMBOLS}
_KINDS = ("aggTrade", "trade", "depth@100ms")
_STREAMS = [f"{pair.lower()}@{kind}" for kind in _KINDS for pair in sorted(_PAIRS)]
#: Levels of a snapshot: as cryptofeed asks for it, and as we do.
_DEPTHS = (1000, 5000)


class Recording(msgspec.Struct):
    """Messages in the order in which they are sent.

    Attributes:
        rest: bodies of the answers, by path and query.
        frames: each message as a websocket frame, with aggregate trades.
        singles: the same with single trades.
        records: how many records the messages up to each are stored as: each is one, and a complete book
            comes with the first delta of a symbol and with every SNAPSHOT_INTERVAL-th.
    """

    rest: dict[str, bytes]
    frames: list[bytes]
    singles: list[bytes]
    records: list[int]

    @classmethod
    def load(cls, path: Path) -> "Recording":
        return msgspec.msgpack.decode(path.read_bytes(), type=cls)

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.msgpack.encode(self))

    def add(self, message: dict, single: dict, deltas: Counter) -> None:
        """Add a message; ``single`` is what comes of it to who subscribes to single trades."""
        complete = 0
        if message["data"]["e"] == "depthUpdate":
            pair = message["data"]["s"]
            deltas[pair] += 1
            complete = (deltas[pair] == 1) + (deltas[pair] % SNAPSHOT_INTERVAL == 0)
        self.frames.append(_frame(encode(message)))
        self.singles.append(self.frames[-1] if single is message else _frame(encode(single)))
        self.records.append((self.records or [0])[-1] + 1 + complete)


def record(count: int) -> Recording:
    """``count`` messages: of each symbol a trade, a delta, a trade, a delta, ..."""
    exchange = Binance(
        map(Binance.instrument, SYMBOLS), seed=1, rate=0, updates=None, log=None, faults=Faults()
    )
    recording = Recording({path: _rest(exchange, path) for path in _paths()}, [], [], [])
    deltas, trades = Counter(), Counter()
    sent = []
    connection = SimpleNamespace(number=1, send=lambda message, _records: sent.append(message))
    session = exchange.open(connection, SimpleNamespace(query={"streams": "/".join(_STREAMS)}))
    while len(recording.frames) < count:
        session.update({symbol: market.step(time.time_ns()) for symbol, market in exchange.markets.items()})
        kinds = ("aggTrade", "trade", "depthUpdate")
        last = {(message["data"]["e"], message["data"]["s"]): message for message in sent}
        for pair in sorted(_PAIRS):
            aggregate, single, book = (last[kind, pair] for kind in kinds)
            trades[pair] += 1  # of a step's trades it is the last: a number that is left out would be a gap
            aggregate["data"]["a"] = single["data"]["t"] = trades[pair]
            recording.add(aggregate, single, deltas)
            recording.add(book, book, deltas)
        sent.clear()
    return recording


def _paths() -> list[str]:
    depths = [f"/api/v3/depth?symbol={pair}&limit={depth}" for pair in sorted(_PAIRS) for depth in _DEPTHS]
    return ["/api/v3/exchangeInfo", *depths]


def _rest(exchange: Binance, path: str) -> bytes:
    path, _, query = path.partition("?")
    asked = dict(part.split("=") for part in query.split("&")) if query else {}
    return encode(exchange.rest(SimpleNamespace(path=path, query=asked)).body)


def _frame(payload: bytes) -> bytes:
    """A text frame of a server."""
    if len(payload) < 126:
        return struct.pack("!BB", 0x81, len(payload)) + payload
    return struct.pack("!BBH", 0x81, 126, len(payload)) + payload
