"""What COINBASE sends: its messages and listing."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from collector.exchanges.numbers import Name, Whole, Word


class Level(msgspec.Struct, gc=False):
    """A level that changed."""

    side: Literal["bid", "offer"]
    price: str = msgspec.field(name="price_level")
    size: str = msgspec.field(name="new_quantity")


class Book(msgspec.Struct, gc=False):
    """A book, or changes of one; Level2 Channel."""

    type: Literal["snapshot", "update"]
    product: Name = msgspec.field(name="product_id")
    updates: list[Level]


class Trade(msgspec.Struct, gc=False):
    """A trade; ``side`` is the maker's."""

    id: Name = msgspec.field(name="trade_id")
    product: Name = msgspec.field(name="product_id")
    price: str
    size: str
    side: Literal["BUY", "SELL"]
    time: Word


class Trades(msgspec.Struct, gc=False):
    """Trades; Market Trades Channel."""

    type: Literal["snapshot", "update"]
    trades: list[Trade]


class Ticker(msgspec.Struct, gc=False):
    """The best prices of a product."""

    product: Name = msgspec.field(name="product_id")
    bid: str = msgspec.field(name="best_bid")  # empty where there is none
    ask: str = msgspec.field(name="best_ask")
    bid_size: str = msgspec.field(name="best_bid_quantity", default="")
    ask_size: str = msgspec.field(name="best_ask_quantity", default="")


class Tickers(msgspec.Struct, gc=False):
    """Best prices; Ticker Channel."""

    tickers: list[Ticker]


class Candle(msgspec.Struct, gc=False):
    """The running candle of a product."""

    product: Name = msgspec.field(name="product_id")
    start: Word  # seconds since 1970
    open: str
    close: str
    high: str
    low: str
    volume: str


class Candles(msgspec.Struct, gc=False):
    """Candles of five minutes; Candles Channel."""

    type: Literal["snapshot", "update"]
    candles: list[Candle]


class Subscriptions(msgspec.Struct):
    """What is subscribed to by now, products by channel."""

    subscriptions: dict[str, list[str]] = {}


class Message[Part](msgspec.Struct, gc=False):
    """A message of a channel, whose parts are events."""

    events: list[Part]
    timestamp: Word | None = None
    number: Whole | None = msgspec.field(name="sequence_num", default=None)


class Other(msgspec.Struct):
    """Whatever else is sent."""

    channel: Word | None = None
    type: Word | None = None
    message: str = ""
    timestamp: str = ""
    number: Whole | None = msgspec.field(name="sequence_num", default=None)


class Future(msgspec.Struct):
    """What a product has that is a contract."""

    code: str = msgspec.field(name="contract_code")
    size: str = msgspec.field(name="contract_size")
    unit: str = msgspec.field(name="contract_root_unit")
    expires: Word = msgspec.field(name="contract_expiry_type")
    expiry: Word | None = msgspec.field(name="contract_expiry", default=None)


class Product(msgspec.Struct):
    """A row of the listing."""

    id: str = msgspec.field(name="product_id")
    base: str = msgspec.field(name="base_currency_id")
    quote: str = msgspec.field(name="quote_currency_id")
    type: Word = msgspec.field(name="product_type", default="SPOT")
    alias: str = ""
    status: Word = ""
    disabled: bool = msgspec.field(name="is_disabled", default=False)
    tick: str | None = msgspec.field(name="price_increment", default=None)
    lot: str | None = msgspec.field(name="base_increment", default=None)
    future: Future | None = msgspec.field(name="future_product_details", default=None)


class Contract(msgspec.Struct):
    """What is known of a contract now; empty where the exchange has none."""

    open_interest: str = ""
    index_price: str = ""
    funding_rate: str = ""
    funding_time: Word | None = None


class ProductNow(msgspec.Struct):
    """A product as REST answers it; Get Public Product."""

    contract: Contract = msgspec.field(name="future_product_details")
    id: str = msgspec.field(name="product_id", default="")


class Pagination(msgspec.Struct):
    """What follows a page of the listing."""

    has_next: bool = False
    next_cursor: str = ""


class Page(msgspec.Struct):
    """An answer of REST that may not be all of it."""

    pagination: Pagination | None = None


class Products(msgspec.Struct):
    """An answer of REST."""

    products: list[msgspec.Raw]


def _decoder(part: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(Message[part]).decode


#: By the exchange's channel.
decode: Mapping[str, Callable[[bytes], Any]] = {
    "l2_data": _decoder(Book),
    "market_trades": _decoder(Trades),
    "ticker": _decoder(Tickers),
    "candles": _decoder(Candles),
    "subscriptions": _decoder(Subscriptions),
}
other = msgspec.json.Decoder(Other).decode
page = msgspec.json.Decoder(Page).decode
products = msgspec.json.Decoder(Products).decode
product = msgspec.json.Decoder(Product).decode
product_now = msgspec.json.Decoder(ProductNow).decode
