"""What OKX sends and is sent: its messages, answers and listing."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from collector.exchanges.numbers import Name, Whole, Word


class Argument(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is subscribed to."""

    channel: str
    inst_id: str = ""
    inst_type: str = ""


class Trade(msgspec.Struct, rename="camel", gc=False):
    """A trade; All trades channel."""

    trade_id: Name
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: Word
    inst_id: str = ""


#: Price, size, a zero, number of orders.
type Level = tuple[str, str, str, str]


class Book(msgspec.Struct, rename="camel", gc=False):
    """A book, or changes of one; Order book channel."""

    asks: list[Level]
    bids: list[Level]
    ts: Word | None = None
    seq_id: Whole | None = None
    prev_seq_id: Whole | None = None


class Funding(msgspec.Struct, rename="camel", gc=False):
    """The rate of the coming settlement; Funding rate channel."""

    funding_rate: str
    funding_time: Word | None = None
    next_funding_rate: str = ""
    ts: Word | None = None
    inst_id: str = ""


class OpenInterest(msgspec.Struct, rename="camel", gc=False):
    """Open contracts; Open interest channel."""

    oi: str
    ts: Word | None = None
    inst_id: str = ""


class Index(msgspec.Struct, rename="camel", gc=False):
    """The price of an index; Index tickers channel."""

    idx_px: str
    ts: Word | None = None
    inst_id: str = ""


class LiquidationDetail(msgspec.Struct, rename="camel", gc=False):
    """One liquidation of ``Liquidations``."""

    side: Literal["buy", "sell"]
    bk_px: str
    sz: str
    ts: Word | None = None


class Liquidations(msgspec.Struct, rename="camel", gc=False):
    """Liquidations of one instrument; Liquidation orders channel."""

    inst_id: Name
    details: list[LiquidationDetail]


class Data[Part](msgspec.Struct, gc=False):
    """What every message of a channel has."""

    data: list[Part]
    action: Word = ""


class Other(msgspec.Struct):
    """Whatever is no data of a stream that is known by its argument."""

    event: Word | None = None
    arg: Argument | None = None
    data: msgspec.Raw = msgspec.Raw()
    code: Word = ""
    msg: str = ""
    id: Word | None = None


class Row(msgspec.Struct, rename="camel"):
    """A row of the listing."""

    inst_id: str
    inst_type: Word
    state: Word
    base_ccy: str = ""
    quote_ccy: str = ""
    settle_ccy: str = ""
    tick_sz: str = ""
    lot_sz: str = ""
    ct_val: str = ""
    ct_mult: str = ""
    ct_val_ccy: str = ""
    exp_time: str = ""
    opt_type: str = ""
    stk: str = ""
    uly: str = ""


class Answer(msgspec.Struct):
    """An answer of REST."""

    data: list[msgspec.Raw]
    code: Word | None = None


class Error(msgspec.Struct):
    """What REST answers instead."""

    code: Word


class Snapshot(msgspec.Struct):
    """The answer to a request for a book; GET / Order book."""

    code: Word
    data: list[Book]
    msg: str = ""


other = msgspec.json.Decoder(Other).decode
answer = msgspec.json.Decoder(Answer).decode
snapshot = msgspec.json.Decoder(Snapshot).decode
error = msgspec.json.Decoder(Error).decode
row = msgspec.json.Decoder(Row).decode


def request(operation: str, arguments: Sequence[Argument], number: int | None = None) -> str:
    """Return the frame that subscribes to the arguments, or unsubscribes from them."""
    request = {"id": str(number)} if number else {}
    return msgspec.json.encode(request | {"op": operation, "args": arguments}).decode()
