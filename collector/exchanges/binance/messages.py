"""What the BINANCE family sends: its messages, answers and listing, with names in place of letters."""

from typing import Annotated, Literal

import msgspec

from collector.exchanges.numbers import Count, Whole, Word
from collector.exchanges.times import Milliseconds, MillisecondsOrZero


class Trade(msgspec.Struct, gc=False):
    """A trade; spot's Trade Streams."""

    id: Count = msgspec.field(name="t")
    price: str = msgspec.field(name="p")
    amount: str = msgspec.field(name="q")
    time: Milliseconds = msgspec.field(name="T")
    buyer_is_maker: bool = msgspec.field(name="m")
    symbol: str = msgspec.field(name="s", default="")


class AggregateTrade(Trade, gc=False):
    """Several fills as one; derivatives' Aggregate Trade Streams."""

    id: Count = msgspec.field(name="a")


class Quote(msgspec.Struct, gc=False):
    """The best prices; Individual Symbol Book Ticker Streams."""

    bid: str = msgspec.field(name="b")
    ask: str = msgspec.field(name="a")
    bid_size: str = msgspec.field(name="B", default="")
    ask_size: str = msgspec.field(name="A", default="")
    number: Whole | None = msgspec.field(name="u", default=None)  # of the update of the book
    time: Milliseconds | None = msgspec.field(name="E", default=None)  # spot sends none
    symbol: str = msgspec.field(name="s", default="")


class Update(msgspec.Struct, gc=False):
    """Changes of a book; Diff. Depth Stream."""

    first: Whole = msgspec.field(name="U")
    last: Whole = msgspec.field(name="u")
    bids: msgspec.Raw = msgspec.field(name="b")  # levels
    asks: msgspec.Raw = msgspec.field(name="a")
    time: Milliseconds | None = msgspec.field(name="E", default=None)
    previous: Whole | None = msgspec.field(name="pu", default=None)  # derivatives
    symbol: str = msgspec.field(name="s", default="")


class Snapshot(msgspec.Struct, gc=False):
    """A book as REST answers it, and as spot's partial streams send it."""

    last: Whole = msgspec.field(name="lastUpdateId")
    bids: msgspec.Raw  # levels
    asks: msgspec.Raw
    time: Milliseconds | None = msgspec.field(name="E", default=None)
    symbol: str = msgspec.field(name="s", default="")  # neither of them sends it


class MarkPrice(msgspec.Struct, gc=False):
    """Mark price, index price and expected funding; Mark Price Stream."""

    mark_price: str = msgspec.field(name="p")
    time: Milliseconds | None = msgspec.field(name="E", default=None)
    index_price: str | None = msgspec.field(name="i", default=None)
    rate: str | None = msgspec.field(name="r", default=None)
    next_funding: MillisecondsOrZero = msgspec.field(name="T", default=0)
    symbol: str = msgspec.field(name="s", default="")


class Order(msgspec.Struct, gc=False):
    """The order of a liquidation."""

    side: Literal["BUY", "SELL"] = msgspec.field(name="S")
    quantity: str = msgspec.field(name="q")
    price: str = msgspec.field(name="p")
    status: Word = msgspec.field(name="X", default="")
    symbol: str = msgspec.field(name="s", default="")


class ForcedOrder(msgspec.Struct, gc=False):
    """A liquidation; Liquidation Order Streams."""

    order: Order = msgspec.field(name="o")
    time: Milliseconds | None = msgspec.field(name="E", default=None)

    @property
    def symbol(self) -> str:
        """The symbol of the order."""
        return self.order.symbol


#: 1m, 4h, 1M.
type Interval = Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]?[smhdwM]$")]


class Kline(msgspec.Struct, gc=False):
    """The candle of a ``KlineEvent``."""

    start: Milliseconds = msgspec.field(name="t")
    stop: Milliseconds = msgspec.field(name="T")
    interval: Interval = msgspec.field(name="i")
    open: str = msgspec.field(name="o")
    close: str = msgspec.field(name="c")
    high: str = msgspec.field(name="h")
    low: str = msgspec.field(name="l")
    volume: str = msgspec.field(name="v")
    closed: bool = msgspec.field(name="x")
    trades: Count | None = msgspec.field(name="n", default=None)


class KlineEvent(msgspec.Struct, gc=False):
    """A candle, finished or not; Kline/Candlestick Streams."""

    kline: Kline = msgspec.field(name="k")
    time: Milliseconds | None = msgspec.field(name="E", default=None)
    symbol: str = msgspec.field(name="s", default="")


class Combined[T](msgspec.Struct, gc=False):
    """What comes on the address of combined streams, beside the name of the stream."""

    data: T


#: A symbol may have letters of any language; an @ ends it in a stream's name.
type SymbolName = Annotated[str, msgspec.Meta(pattern="^[^@]+$")]


class Symbol(msgspec.Struct):
    """What has a symbol in it."""

    symbol: SymbolName = msgspec.field(name="s")


class Error(msgspec.Struct):
    """Why a request was refused."""

    code: Whole
    message: str = msgspec.field(name="msg")


class Anything(msgspec.Struct):
    """What tells one message from another, where nothing else is known of it."""

    stream: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    event: str | None = msgspec.field(name="e", default=None)
    symbol: SymbolName | None = msgspec.field(name="s", default=None)
    order: Symbol | str | None = msgspec.field(name="o", default=None)
    update: msgspec.Raw = msgspec.field(name="u", default_factory=msgspec.Raw)
    id: Whole | str | None = None
    result: msgspec.Raw = msgspec.Raw()
    error: Error | None = None
    code: Whole | None = None
    message: str | None = msgspec.field(name="msg", default=None)


class Filter(msgspec.Struct):
    """A rule for the prices or amounts of an instrument."""

    type: str = msgspec.field(name="filterType")
    tick: str | None = msgspec.field(name="tickSize", default=None)
    lot: str | None = msgspec.field(name="stepSize", default=None)


class Row(msgspec.Struct):
    """A row of the listing; contracts of COIN-M have another name for their status."""

    symbol: str
    base: str = msgspec.field(name="baseAsset")
    quote: str = msgspec.field(name="quoteAsset")
    filters: list[Filter] = []
    status: str | None = None
    contract_status: str | None = msgspec.field(name="contractStatus", default=None)
    contract_type: str | None = msgspec.field(name="contractType", default=None)
    contract_size: Whole | None = msgspec.field(name="contractSize", default=None)
    settlement: str | None = msgspec.field(name="marginAsset", default=None)
    delivery: MillisecondsOrZero | None = msgspec.field(name="deliveryDate", default=None)


class ExchangeInfo(msgspec.Struct):
    """The listing (REST exchangeInfo); each row is read by itself."""

    symbols: list[msgspec.Raw]


class OpenInterestAnswer(msgspec.Struct):
    """Open contracts (REST openInterest)."""

    open_interest: str = msgspec.field(name="openInterest")
    time: MillisecondsOrZero
    symbol: str = ""


anything = msgspec.json.Decoder(Anything).decode
snapshot = msgspec.json.Decoder(Snapshot).decode
exchange_info = msgspec.json.Decoder(ExchangeInfo).decode
open_interest = msgspec.json.Decoder(OpenInterestAnswer).decode
row = msgspec.json.Decoder(Row).decode
