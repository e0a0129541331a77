"""What KRAKEN sends: its messages, answers and listing."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from collector.exchanges.numbers import Count, Name, Whole, Word


class Level(msgspec.Struct, gc=False):
    """A level."""

    price: msgspec.Raw
    qty: msgspec.Raw


class Book(msgspec.Struct, gc=False):
    """A book, or changes of one; Book (Level 2)."""

    symbol: Name
    bids: list[Level]
    asks: list[Level]
    checksum: Whole | None = None
    timestamp: Word | None = None  # a snapshot of 2025 had none


class Trade(msgspec.Struct, gc=False):
    """A trade; Trade."""

    symbol: Name
    side: Literal["buy", "sell"]
    price: msgspec.Raw
    qty: msgspec.Raw
    trade_id: Count
    timestamp: Word
    ord_type: Word | None = None


class Ticker(msgspec.Struct, gc=False):
    """The best prices; Ticker (Level 1)."""

    symbol: Name
    bid: msgspec.Raw
    ask: msgspec.Raw
    bid_qty: msgspec.Raw = msgspec.Raw()
    ask_qty: msgspec.Raw = msgspec.Raw()
    timestamp: Word | None = None


class Candle(msgspec.Struct, gc=False):
    """A running candle; Candles (OHLC)."""

    symbol: Name
    open: msgspec.Raw
    high: msgspec.Raw
    low: msgspec.Raw
    close: msgspec.Raw
    volume: msgspec.Raw
    interval_begin: Word
    interval: Annotated[int, msgspec.Meta(gt=0, le=10**6)]  # minutes
    trades: Count | None = None


class Status(msgspec.Struct):
    """The state of the exchange; Status."""

    system: Word


class Data[T](msgspec.Struct, gc=False):
    """A message of a channel; each part is read by itself."""

    type: Literal["snapshot", "update"]
    data: list[T]
    timestamp: Word | None = None  # when it was sent, of candles alone


class Result(msgspec.Struct):
    """What a request that was granted is about."""

    channel: Word = ""
    symbol: str | None = None
    depth: Whole | None = None


class Answer(msgspec.Struct):
    """Everything but a channel's data: the answer to a request."""

    channel: Word | None = None
    method: Word | None = None
    success: bool | None = None
    result: Result | None = None
    error: str | None = None
    symbol: str | None = None
    req_id: Whole | None = None


class Pair(msgspec.Struct):
    """A row of AssetPairs."""

    wsname: str = ""
    status: str = "online"
    tick_size: str | None = None
    lot_decimals: Whole | None = None


class AssetPairs(msgspec.Struct):
    """An answer of REST."""

    result: dict[str, msgspec.Raw]


_PARTS: Mapping[str, type[Any]] = {
    "book": Book,
    "trade": Trade,
    "ticker": Ticker,
    "ohlc": Candle,
    "status": Status,
}


def _decoder(part: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(Data[part]).decode


#: By the exchange's channel.
decode = {channel: _decoder(part) for channel, part in _PARTS.items()}
answer = msgspec.json.Decoder(Answer).decode
asset_pairs = msgspec.json.Decoder(AssetPairs).decode
pair = msgspec.json.Decoder(Pair).decode
