"""What BYBIT sends and is sent: its messages, answers and listing."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from collector.exchanges.numbers import Level, Name, Whole, Word
from collector.exchanges.times import Milliseconds
from collector.times import MILLISECOND


class Trade(msgspec.Struct, gc=False):
    """A trade; Trade."""

    time: Milliseconds = msgspec.field(name="T")
    side: Literal["Buy", "Sell"] = msgspec.field(name="S")
    amount: str = msgspec.field(name="v")
    price: str = msgspec.field(name="p")
    id: Name = msgspec.field(name="i")
    symbol: str = msgspec.field(name="s", default="")  # options' topics are of many


class Book(msgspec.Struct, gc=False):
    """A book, or changes of one; Orderbook."""

    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")
    number: Whole | None = msgspec.field(name="u", default=None)
    symbol: str = msgspec.field(name="s", default="")


class Ticker(msgspec.Struct, rename="camel", gc=False):
    """What changed of a ticker; everything in a snapshot."""

    symbol: str = ""
    mark_price: str | None = None
    index_price: str | None = None
    open_interest: str | None = None
    funding_rate: str | None = None
    next_funding_time: str | None = None
    bid_price: str | None = None  # of options; the others have theirs from the book
    bid_size: str | None = None
    ask_price: str | None = None
    ask_size: str | None = None


class Liquidation(msgspec.Struct, gc=False):
    """A liquidation; All Liquidation."""

    side: Literal["Buy", "Sell"] = msgspec.field(name="S")
    quantity: str = msgspec.field(name="v")
    price: str = msgspec.field(name="p")
    time: Milliseconds | None = msgspec.field(name="T", default=None)
    symbol: str = msgspec.field(name="s", default="")


class Kline(msgspec.Struct, gc=False):
    """A candle, finished or not; Kline."""

    start: Milliseconds
    end: Milliseconds
    interval: Word
    open: str
    close: str
    high: str
    low: str
    volume: str
    confirm: bool


class Message[Data](msgspec.Struct, gc=False):
    """What every message of a topic has."""

    data: Data
    type: Literal["snapshot", "delta"] | None = None
    ts: Milliseconds | None = None

    def time(self, receipt: int) -> int:
        """Return the message's time; the receipt where it has none."""
        return receipt if self.ts is None else self.ts * MILLISECOND


class Topics(msgspec.Struct, rename="camel"):
    """The answer to a subscription to options."""

    success_topics: list[str] = []
    fail_topics: list[str] = []


class Other(msgspec.Struct):
    """Whatever does not begin with a topic of ours."""

    topic: str | None = None
    op: Word | None = None
    success: bool | None = None
    ret_msg: str = ""
    req_id: str | None = None
    type: Word | None = None
    data: msgspec.Raw = msgspec.Raw()


class PriceFilter(msgspec.Struct, frozen=True, rename="camel"):
    """Steps of prices."""

    tick_size: str | None = None


class LotFilter(msgspec.Struct, frozen=True, rename="camel"):
    """Steps of amounts."""

    qty_step: str | None = None
    base_precision: str | None = None  # of spot


class PreListing(msgspec.Struct, rename="camel"):
    """What is said of a contract before its token is listed."""

    cur_auction_phase: Word = ""


class Row(msgspec.Struct, rename="camel"):
    """A row of the listing."""

    symbol: str
    status: Word
    base_coin: str
    quote_coin: str
    contract_type: Word | None = None
    options_type: Word | None = None
    delivery_time: str = "0"
    settle_coin: str | None = None
    pre_listing_info: PreListing | None = None
    price_filter: PriceFilter = PriceFilter()
    lot_size_filter: LotFilter = LotFilter()


class Page(msgspec.Struct, rename="camel"):
    """A page of the listing."""

    list: list[msgspec.Raw]
    next_page_cursor: str | None = None


class Answer(msgspec.Struct):
    """An answer of REST."""

    result: Page


other = msgspec.json.Decoder(Other).decode
topics = msgspec.json.Decoder(Topics).decode
answer = msgspec.json.Decoder(Answer).decode
row = msgspec.json.Decoder(Row).decode


def request(operation: str, topics: Sequence[str], number: int | None = None) -> str:
    """Return the frame that subscribes to the topics, or unsubscribes from them."""
    request = {"req_id": str(number)} if number else {}
    return msgspec.json.encode(request | {"op": operation, "args": topics}).decode()
