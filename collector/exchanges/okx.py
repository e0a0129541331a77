"""OKX, version 5 of its websocket protocol.

A subscription is an argument, a channel with an instrument, an index, or a type of instruments; messages
repeat it. Streams are on two paths: candles and single trades on ``business``, others on ``public``. Books
are chained: each update names the one before it (their checksum is 0 since June 2026). Right after a
subscription the exchange repeats the last trades: those older than the subscription are marked as repeated.

Amounts of contracts are numbers of contracts; ``Instrument.contract_size`` has the size of one.

Sources, read 2026-11-28: okx.com/docs-v5 (Order Book Trading, Public Data; WebSocket: connect, subscribe,
notification), okx.com/help "order-book-channels-checksum-field-deprecation"; messages of 2021 to 2026.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from itertools import batched, chain
from typing import Any, ClassVar, Literal, override

import msgspec

from collector.exchanges.book import Book
from collector.exchanges.instruments import Instrument, Kind, Listing, contract_date, name, read_listing
from collector.exchanges.limits import Limits
from collector.exchanges.numbers import (
    UNREADABLE,
    Level,
    MalformedError,
    Whole,
    Word,
    levels,
    number,
    number_or_none,
    numbers,
)
from collector.exchanges.protocol import (
    Break,
    Channel,
    Closing,
    Confirmed,
    ConnectionPlan,
    Detection,
    Event,
    Exchange,
    Ignored,
    Malformed,
    Notice,
    Options,
    Outputs,
    Refused,
    Renew,
    Repeated,
    Resync,
    Send,
    Session,
    Subscription,
)
from collector.exchanges.records import (
    AnyRecord,
    Candle,
    Funding,
    Index,
    L1Book,
    Liquidation,
    OpenInterest,
    Ticker,
    Trade,
)
from collector.exchanges.times import MILLISECOND, SECOND

_ARGUMENTS_PER_CONNECTION = 200
_ARGUMENTS_PER_FRAME = 200  # 64 KB are allowed; an argument takes less than 100 bytes
#: After so long without a message the exchange is asked for one. It closes a connection on which it has sent
#: nothing for 30 s (okx.com/docs-v5, websocket, connect, as others quote it; looked up on 2026-11-28).
_QUIET = 20 * SECOND
_DAY = 24 * 3600
_INTERVALS = {
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1H": 3600,
    "2H": 7200,
    "4H": 14400,
    "6H": 21600,
    "12H": 43200,
    "1D": _DAY,
    "1W": 7 * _DAY,
}
_LISTED = frozenset({"live", "suspend"})


class Argument(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What is subscribed to."""

    channel: str
    inst_id: str = ""
    inst_type: str = ""


# -- what the exchange sends -----------------------------------------------------------------------


class _Trade(msgspec.Struct, rename="camel", gc=False):
    trade_id: Word
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: Word


class _Book(msgspec.Struct, rename="camel", gc=False):
    asks: list[list[str]]  # price, size, a zero, number of orders
    bids: list[list[str]]
    ts: Word
    seq_id: Whole | None = None
    prev_seq_id: Whole | None = None


class _Funding(msgspec.Struct, rename="camel", gc=False):
    funding_rate: str
    funding_time: Word
    next_funding_rate: str = ""
    ts: Word | None = None


class _OpenInterest(msgspec.Struct, gc=False):
    oi: str
    ts: Word


class _Index(msgspec.Struct, rename="camel", gc=False):
    idx_px: str
    ts: Word


class _LiquidationDetail(msgspec.Struct, rename="camel", gc=False):
    side: Literal["buy", "sell"]
    bk_px: str
    sz: str
    ts: Word


class _Liquidations(msgspec.Struct, rename="camel", gc=False):
    inst_id: str
    details: list[_LiquidationDetail]


class _Data[Part](msgspec.Struct, gc=False):
    data: list[Part]
    action: Word = ""


class _Other(msgspec.Struct):
    """Whatever is no data of a stream that is known by its argument."""

    event: Word | None = None
    arg: Argument | None = None
    data: msgspec.Raw = msgspec.Raw()
    code: Word = ""
    msg: str = ""
    id: Word | None = None


class _Row(msgspec.Struct, rename="camel"):
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


class _Answer(msgspec.Struct):
    data: list[msgspec.Raw]


_other = msgspec.json.Decoder(_Other).decode
_answer = msgspec.json.Decoder(_Answer).decode
_row = msgspec.json.Decoder(_Row).decode
#: How a message begins; the argument follows.
_BEGINNING = b'{"arg":'
#: How an error names an argument.
_named = re.compile(r"channel:(?P<channel>[\w-]+)(?:,instId:(?P<id>[\w-]+))?").search


# -- streams ---------------------------------------------------------------------------------------


class _Stream:
    """What one argument carries: subscriptions, of one symbol or, where they are of a type, of many."""

    part: ClassVar[Any]

    def __init__(self, exchange: "Okx", argument: Argument, subscriptions: Iterable[Subscription]) -> None:
        self.exchange, self.argument = exchange, argument
        self.subscriptions = tuple(subscriptions)
        self.decode = _decoder(self.part)
        self.flows = False  # whether data has come
        self.since = 0  # when the exchange acknowledged it

    def read(self, part: Any, action: str, receipt: int) -> Outputs:
        """Return what a part of a message is stored as. Raises what ``UNREADABLE`` lists."""
        raise NotImplementedError

    def renew(self) -> None:
        """Have a complete book follow the next change, where it is a book."""

    def symbols(self) -> Sequence[str]:
        return [subscription.symbol for subscription in self.subscriptions]


@cache
def _decoder(part: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(_Data[part]).decode


class _Trades(_Stream):
    part = _Trade

    @override
    def read(self, part: _Trade, action: str, receipt: int) -> Outputs:
        time, (amount, price) = _time(part.ts), numbers(part.sz, part.px)
        start = self.exchange.id, self.subscriptions[0].symbol, time, receipt
        trade = Trade(*start, part.side, amount, price, part.trade_id)
        return (Repeated((trade,)),) if time < self.since else (trade,)


class _BestPrices(_Stream):
    part = _Book
    _last: int | None = None

    @override
    def read(self, part: _Book, action: str, receipt: int) -> Outputs:
        if part.seq_id is not None and part.seq_id == self._last:
            return ()  # it was sent again
        self._last = part.seq_id
        bids, asks = _side(part.bids), _side(part.asks)
        if not bids or not asks:
            return ()
        (bid, bid_size), (ask, ask_size) = bids[0], asks[0]
        found: list[AnyRecord] = []
        for channel, symbol in self.subscriptions:
            start = self.exchange.id, symbol, _time(part.ts), receipt
            if channel == "ticker":
                found.append(Ticker(*start, bid, ask))
            elif channel == "l1_book":
                found.append(L1Book(*start, bid, bid_size, ask, ask_size))
        return found


class _WholeBooks(_Stream):
    """A few best levels, all of them each time."""

    part = _Book

    def __init__(self, exchange: "Okx", argument: Argument, subscriptions: Iterable[Subscription]) -> None:
        super().__init__(exchange, argument, subscriptions)
        self._book = Book(exchange.id, self.subscriptions[0].symbol, exchange.options.storing)

    @override
    def read(self, part: _Book, action: str, receipt: int) -> Outputs:
        take = self._book.show if self.flows else self._book.begin
        return take(_side(part.bids), _side(part.asks), _time(part.ts), receipt)

    @override
    def renew(self) -> None:
        self._book.renew()


class _Books(_Stream):
    """Changes of a book that name the one before: what does not follow breaks it."""

    part = _Book

    def __init__(self, exchange: "Okx", argument: Argument, subscriptions: Iterable[Subscription]) -> None:
        super().__init__(exchange, argument, subscriptions)
        self._book: Book | None = None
        self._last: int | None = None

    @override
    def read(self, part: _Book, action: str, receipt: int) -> Outputs:
        bids, asks, time = _side(part.bids), _side(part.asks), _time(part.ts)
        (subscription,) = self.subscriptions
        if action == "snapshot":
            self._book = book = Book(self.exchange.id, subscription.symbol, self.exchange.options.storing)
            self._last = part.seq_id
            return [Resync(subscription), *book.begin(bids, asks, time, receipt)]
        if self._book is None or (part.seq_id == self._last and part.prev_seq_id != self._last):
            return ()  # it belongs to a book that broke, or was sent again
        if part.prev_seq_id != self._last:
            return self._break(f"{part.prev_seq_id} is said to come before, {self._last} did")
        self._last = part.seq_id
        if not bids and not asks:  # sent where nothing has changed for 60 s
            return [Confirmed((subscription,), "data")]
        return self._book.change(bids, asks, time, receipt)

    @override
    def renew(self) -> None:
        if self._book:
            self._book.renew()

    def _break(self, reason: str) -> Outputs:
        self._book = None
        frames = tuple(_request(kind, [self.argument]) for kind in ("unsubscribe", "subscribe"))
        return [Break(self.subscriptions[0], reason), Renew(self.subscriptions, frames)]


class _FundingRates(_Stream):
    part = _Funding

    @override
    def read(self, part: _Funding, action: str, receipt: int) -> Outputs:
        time = receipt if part.ts is None else _time(part.ts)
        rates = number_or_none(part.funding_rate), number_or_none(part.next_funding_rate)
        start = self.exchange.id, self.subscriptions[0].symbol, time, receipt
        return (Funding(*start, None, rates[0], _time(part.funding_time), rates[1]),)


class _OpenInterests(_Stream):
    part = _OpenInterest

    @override
    def read(self, part: _OpenInterest, action: str, receipt: int) -> Outputs:
        symbol = self.subscriptions[0].symbol
        return (OpenInterest(self.exchange.id, symbol, _time(part.ts), receipt, number(part.oi)),)


class _Indices(_Stream):
    """An index, for every instrument that follows it."""

    part = _Index

    @override
    def read(self, part: _Index, action: str, receipt: int) -> Outputs:
        price, time = number(part.idx_px), _time(part.ts)
        return [Index(self.exchange.id, symbol, time, receipt, price) for symbol in self.symbols()]


class _LiquidationOrders(_Stream):
    """Liquidations of all instruments of a type."""

    part = _Liquidations

    def __init__(self, exchange: "Okx", argument: Argument, subscriptions: Iterable[Subscription]) -> None:
        super().__init__(exchange, argument, subscriptions)
        self.names: dict[str, str] | None = None  # by the exchange's; None takes all

    @override
    def read(self, part: _Liquidations, action: str, receipt: int) -> Outputs:
        symbol = part.inst_id if self.names is None else self.names.get(part.inst_id)
        if symbol is None:
            return (Ignored(f"liquidation-orders {part.inst_id}"),)
        return [self._record(symbol, detail, receipt) for detail in part.details]

    def _record(self, symbol: str, it: _LiquidationDetail, receipt: int) -> Liquidation:
        quantity, price = numbers(it.sz, it.bk_px)
        start = self.exchange.id, symbol, _time(it.ts), receipt
        return Liquidation(*start, it.side, quantity, price, None, None)


class _Candles(_Stream):
    part = list[str]  # begin, open, high, low, close, volume, two more volumes, whether it is closed

    @override
    def read(self, part: list[str], action: str, receipt: int) -> Outputs:
        if len(part) < 9:
            raise MalformedError("a candle of fewer than nine fields")
        if part[8] != "1":
            return ()
        begin, interval = _time(part[0]), self.argument.channel.removeprefix("candle")
        if interval not in _INTERVALS:
            raise MalformedError(f"a candle of the unknown interval {interval!r}")
        opened, high, low, last, volume = numbers(*part[1:6])
        stop = begin + _INTERVALS[interval] * SECOND
        start = self.exchange.id, self.subscriptions[0].symbol, stop, receipt
        return (Candle(*start, begin, stop, interval, None, opened, last, high, low, volume, True),)


#: What reads a channel of the exchange's.
_READERS: Mapping[str, type[_Stream]] = {
    "trades-all": _Trades,
    "bbo-tbt": _BestPrices,
    "books": _Books,
    "books5": _WholeBooks,
    "funding-rate": _FundingRates,
    "open-interest": _OpenInterests,
    "index-tickers": _Indices,
    "liquidation-orders": _LiquidationOrders,
}


def _time(text: str) -> int:
    """Return the time of a text in milliseconds."""
    if not text.isdecimal() or not text.isascii() or len(text) > 13:
        raise MalformedError(f"{text[:40]!r} is no time in milliseconds since 1970")
    return int(text) * MILLISECOND


def _side(side: list[list[str]]) -> list[Level]:
    try:
        return levels([(level[0], level[1]) for level in side])
    except IndexError:
        raise MalformedError("a level without a price and a size") from None


def _request(operation: str, arguments: Sequence[Argument], number: int | None = None) -> str:
    request = {"id": str(number)} if number else {}
    return msgspec.json.encode(request | {"op": operation, "args": arguments}).decode()


# -- one connection --------------------------------------------------------------------------------


class OkxSession(Session):
    """The state of one connection."""

    def __init__(
        self,
        exchange: "Okx",
        carried: Mapping[Argument, Sequence[Subscription]],
        instruments: Mapping[str, Instrument],
        *,
        listening_to: Collection[str] = (),
    ) -> None:
        self._exchange = exchange
        self._listening_to = frozenset(listening_to)
        self._streams: dict[Argument, _Stream] = {}
        self._by_bytes: dict[bytes, _Stream] = {}  # by the argument as messages have it
        self._asked: dict[str, tuple[Argument, ...]] = {}
        self._pending = set(carried)
        self._number = 0
        self._heard = 0
        self._pinged = False
        for argument, subscriptions in carried.items():
            stream = self._streams[argument] = _reader(argument)(exchange, argument, subscriptions)
            if isinstance(stream, _LiquidationOrders):
                stream.names = {instruments[it].exchange_symbol: it for it in stream.symbols()}

    @override
    def opening(self) -> Sequence[str]:
        return [self._subscribe(some) for some in batched(self._streams, _ARGUMENTS_PER_FRAME)]

    @override
    def receive(self, frame: bytes, receipt: int) -> Outputs:
        self._heard, self._pinged = receipt, False
        if frame == b"pong":
            return (Ignored("pong"),)
        if frame.startswith(_BEGINNING):
            stream = self._by_bytes.get(frame[len(_BEGINNING) : frame.find(b"}") + 1])
            if stream:
                return self._data(stream, frame, receipt)
        return self._other(frame, receipt)

    @override
    def tick(self, now: int) -> Outputs:
        """Ask for a sign of life where nothing has come for long."""
        if self._pinged or 0 <= now - (self._heard or now) < _QUIET:  # the clock may step back
            self._heard = self._heard or now
            return ()
        self._pinged = True
        return (Send("ping"),)

    @override
    def renew_books(self, symbols: Collection[str]) -> None:
        for stream in self._streams.values():
            if stream.subscriptions and stream.subscriptions[0].symbol in symbols:
                stream.renew()

    def _subscribe(self, arguments: Sequence[Argument]) -> str:
        self._number += 1
        self._asked[str(self._number)] = tuple(arguments)
        return _request("subscribe", arguments, self._number)

    # -- data ----------------------------------------------------------------------------------------

    def _data(self, stream: _Stream, frame: bytes, receipt: int) -> Outputs:
        try:
            message = stream.decode(frame)
        except UNREADABLE as error:
            return (Malformed(str(error), stream.subscriptions),)
        outputs: list[AnyRecord | Event] = []
        for part in message.data:
            try:
                found = stream.read(part, message.action, receipt)
            except UNREADABLE as error:
                outputs.append(Malformed(str(error), stream.subscriptions))
                continue
            if not stream.flows:
                stream.flows = True
                self._pending.discard(stream.argument)
                outputs.append(Confirmed(stream.subscriptions, "data"))
            outputs += found
        return outputs

    def _other(self, frame: bytes, receipt: int) -> Outputs:
        try:
            it = _other(frame)
        except UNREADABLE as error:
            return (Malformed(str(error)),)
        if it.event:
            return self._event(it.event, it, receipt)
        if it.arg is None or not bytes(it.data):
            return (Malformed("neither data nor an event"),)
        stream = self._stream(it.arg)
        if stream is None:
            return (Ignored(it.arg.channel),)
        if frame.startswith(_BEGINNING):
            self._by_bytes[frame[len(_BEGINNING) : frame.find(b"}") + 1]] = stream
        return self._data(stream, frame, receipt)

    def _stream(self, argument: Argument) -> _Stream | None:
        known = self._streams.get(argument) or self._streams.get(_bare(argument))
        if known or not self._listening_to:
            return known
        channels = [
            each for each in self._exchange.channels_of(argument.channel) if each in self._listening_to
        ]
        if not channels:
            return None
        symbol = argument.inst_id or argument.inst_type
        carried = [Subscription(channel, symbol) for channel in channels]
        stream = self._streams[argument] = _reader(argument)(self._exchange, argument, carried)
        return stream

    # -- events --------------------------------------------------------------------------------------

    def _event(self, event: str, it: _Other, receipt: int) -> Outputs:
        if event == "error":
            return self._error(it)
        if event == "notice":
            # 64008: "The connection will soon be closed for a service upgrade"
            return (Closing(it.msg) if it.code == "64008" else Notice(f"{it.msg} (code {it.code})"),)
        stream = self._stream(it.arg) if it.arg and event == "subscribe" else None
        if stream is None or self._listening_to:
            return (Ignored(event),)
        stream.since = stream.since or receipt
        self._pending.discard(stream.argument)
        return (Confirmed(stream.subscriptions, "acknowledgement"),)

    def _error(self, it: _Other) -> Outputs:
        """Refuse what an error names, and ask again for the rest of its request."""
        reason = f"{it.msg} (code {it.code})"
        asked = tuple(each for each in self._asked.pop(it.id or "", ()) if each in self._pending)
        named = self._named(it.msg) or (asked if len(asked) == 1 else ())
        if not named:
            halves = batched(asked, (len(asked) + 1) // 2) if asked else ()
            return [Send(self._subscribe(half)) for half in halves] or (Notice(reason),)
        self._pending.difference_update(named)
        refused = tuple(chain.from_iterable(self._streams[each].subscriptions for each in named))
        rest = [each for each in asked if each not in named]
        again = [Send(self._subscribe(rest))] if rest else []
        return [Refused(refused, reason), *again]

    def _named(self, text: str) -> tuple[Argument, ...]:
        found = _named(text)
        if not found:
            return ()
        return tuple(
            argument
            for argument in self._pending
            if argument.channel == found["channel"] and found["id"] in (None, argument.inst_id)
        )


def _bare(argument: Argument) -> Argument:
    """Return an argument without what the exchange may add to it when it repeats it."""
    return Argument(argument.channel, argument.inst_id) if argument.inst_id else argument


def _reader(argument: Argument) -> type[_Stream]:
    return _READERS.get(argument.channel, _Candles)


# -- the exchange ----------------------------------------------------------------------------------

_DOCS = "okx.com/docs-v5"


def _channel(
    records: str, source: str, loss: Detection = "nothing", *, flows: bool = True, quiet: float | None = 600.0
) -> Channel:
    return Channel(
        records=records, loss=loss, flows=flows, quiet=quiet, source=f"{_DOCS}: {source}, 2026-11-28"
    )


class Okx(Exchange):
    """OKX: spot, perpetuals, futures and options."""

    id = "OKX"
    channels: ClassVar[Mapping[str, Channel]] = {
        "trades": _channel("single trades", "All trades channel", "ids", flows=False, quiet=None),
        "ticker": _channel("the best prices, each 10 ms at most", "Order book channel (bbo-tbt)"),
        "l1_book": _channel(
            "the best prices with their sizes, each 10 ms at most", "Order book channel (bbo-tbt)"
        ),
        "l2_book": _channel(
            "changes of a tenth of a second, of the 400 best levels a side",
            "Order book channel (books)",
            "chain",
        ),
        "funding": _channel("the rate of the coming settlement, each 30 to 90 s", "Funding rate channel"),
        "open_interest": _channel("open contracts, each 3 s at most", "Open interest channel"),
        "liquidations": _channel(
            "one liquidation an instrument and second; the order's side",
            "Liquidation orders channel",
            flows=False,
            quiet=None,
        ),
        "index": _channel(
            "the index that an instrument follows, each tenth of a second at most", "Index tickers channel"
        ),
        "candles": _channel("closed candles; days begin at 16:00 UTC", "Candlesticks channel", quiet=60.0),
    }
    limits = Limits(
        subscriptions=_ARGUMENTS_PER_CONNECTION,
        frame_bytes=64_000,
        frames_per_second=1.0,
        operations=(480, 3600.0),
        connections=(3, 1.0),
        weight=(10, 1.0),
        source=f"{_DOCS}: WebSocket, Connect and Subscribe; Get instruments, 2026-11-28",
    )
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://ws.okx.com:443/ws/v5",
        "rest": "https://www.okx.com/api/v5",
    }
    #: The hosts are those of ccxt 4.5.37 (myokx, okxus), 2026-11-28; the port is that of ``endpoints``.
    regions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        region: {
            "websocket": f"wss://ws{region}.okx.com:443/ws/v5",
            "rest": f"https://{region}.okx.com/api/v5",
        }
        for region in ("eea", "us")
    }
    candle_intervals = tuple(_INTERVALS)
    silence = 30.0  # a ping after 20 s is answered

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        depth = self.options.storing.max_depth
        self._names = {
            "trades": "trades-all",
            "ticker": "bbo-tbt",
            "l1_book": "bbo-tbt",
            "l2_book": "books5" if 0 < depth <= 5 else "books",
            "funding": "funding-rate",
            "open_interest": "open-interest",
            "liquidations": "liquidation-orders",
            "index": "index-tickers",
            "candles": f"candle{self.options.candle_interval}",
        }

    @override
    def listing(self) -> Sequence[str]:
        address = self.endpoint("rest") + "/public/instruments?instType="
        families = ("OPTION&instFamily=BTC-USD", "OPTION&instFamily=ETH-USD")
        return [address + of_type for of_type in ("SPOT", "SWAP", "FUTURES", *families)]

    @override
    def instruments(self, answers: Sequence[bytes]) -> Listing:
        try:
            rows = [row for body in answers for row in _answer(body).data]
        except UNREADABLE as error:
            raise MalformedError(f"no listing of {self.id}: {error}") from error
        return read_listing(rows, _instrument)

    @override
    def connections(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[ConnectionPlan]:
        paths: dict[str, list[Sequence[Subscription]]] = defaultdict(list)
        for argument, carried in self.arguments(subscriptions, instruments).items():
            business = argument.channel == "trades-all" or argument.channel.startswith("candle")
            paths["business" if business else "public"].append(carried)
        return [
            ConnectionPlan(f"{self.endpoint('websocket')}/{path}", tuple(chain.from_iterable(some)))
            for path, arguments in paths.items()
            for some in batched(arguments, _ARGUMENTS_PER_CONNECTION)
        ]

    @override
    def session(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> OkxSession:
        return OkxSession(self, self.arguments(subscriptions, instruments), instruments)

    @override
    def listener(self, channels: Collection[str]) -> OkxSession:
        return OkxSession(self, {}, {}, listening_to=channels)

    def arguments(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> dict[Argument, list[Subscription]]:
        """Return the arguments that carry the subscriptions."""
        carried: dict[Argument, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            if argument := self._argument(subscription.channel, instruments[subscription.symbol]):
                carried[argument].append(subscription)
        return carried

    def channels_of(self, theirs: str) -> Iterator[str]:
        """Yield our channels that a channel of the exchange's carries, whatever was chosen."""
        for ours, of_ours in self._names.items():
            known = {"l2_book": ("books", "books5")}.get(ours, (of_ours,))
            if theirs in known or (ours == "candles" and re.fullmatch(r"candle[0-9]+[mHDW]", theirs)):
                yield ours

    def _argument(self, channel: str, instrument: Instrument) -> Argument | None:
        theirs = self._names.get(channel)
        if theirs is None:
            return None
        if channel == "liquidations":
            of_type = {"perpetual": "SWAP", "future": "FUTURES", "option": "OPTION"}.get(instrument.kind)
            return Argument(theirs, inst_type=of_type) if of_type else None
        if channel == "index":
            return Argument(theirs, instrument.index) if instrument.index else None
        if channel in ("funding", "open_interest") and instrument.kind == "spot":
            return None
        return Argument(theirs, instrument.exchange_symbol)


_KINDS: Mapping[str, Kind] = {"SPOT": "spot", "SWAP": "perpetual", "FUTURES": "future", "OPTION": "option"}


def _instrument(raw: msgspec.Raw) -> Instrument | None:
    row = _row(raw)
    kind = _KINDS.get(row.inst_type)
    if kind is None:
        raise MalformedError(f"an instrument of the unknown type {row.inst_type!r}")
    if not row.inst_id:
        raise MalformedError("an instrument without a name")
    if row.state not in _LISTED:
        return None
    parts = row.inst_id.split("-")
    if len(parts) != {"spot": 2, "perpetual": 3, "future": 3, "option": 5}[kind]:
        raise MalformedError(f"the name {row.inst_id!r} has another number of parts than that of a {kind}")
    base, quote = (row.base_ccy, row.quote_ccy) if kind == "spot" else (parts[0], parts[1])
    expiry = contract_date(parts[2]) if kind in ("future", "option") else ""
    strike, right = (parts[3], {"C": "call", "P": "put"}.get(parts[4], "")) if kind == "option" else ("", "")
    return Instrument(
        symbol=name(kind, base, quote, expiry=expiry, strike=strike, right=right),
        exchange_symbol=row.inst_id,
        kind=kind,
        base=base,
        quote=quote,
        tick=number_or_none(row.tick_sz),
        lot=number_or_none(row.lot_sz),
        contract_size=_contract_size(row),
        contract_unit=row.ct_val_ccy or None,
        settlement=row.settle_ccy or None,
        expiry=_time(row.exp_time) if row.exp_time and expiry else None,
        strike=number_or_none(row.stk),
        index=row.uly or None,
    )


def _contract_size(row: _Row) -> str | None:
    if not row.ct_val:
        return None
    size = Decimal(number(row.ct_val)) * Decimal(number(row.ct_mult or "1"))
    return number(format(size.normalize(), "f"))
