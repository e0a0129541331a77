"""BYBIT, version 5: spot, linear, inverse and option, each on an address of its own.

Topics name no market: spot's BTCUSDT and that of linear contracts differ by their connection alone. Updates
of a book are numbered by one; 1 begins again. Tickers of contracts send what changed: their state is here. A
liquidation's ``S`` is the side of the liquidated position; records have that of the order, the other one.

Sources, read 2026-11-28: bybit-exchange.github.io/docs/v5 (WebSocket: connect, public trade, orderbook,
ticker, kline, all liquidation; Get Instruments Info); messages of 2022 to 2026. Not used: ``orderbook.full``,
of spot alone since July 2026, which needs snapshots by REST.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import batched, chain
from typing import Any, ClassVar, Literal, override

import msgspec

from collector.exchanges.book import Book, Side
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
    sides,
)
from collector.exchanges.protocol import (
    Break,
    Channel,
    Confirmed,
    ConnectionPlan,
    Detection,
    Event,
    Exchange,
    Ignored,
    Malformed,
    Notice,
    Outputs,
    Refused,
    Renew,
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
from collector.exchanges.times import MILLISECOND, SECOND, Milliseconds

_TOPICS_PER_CONNECTION = 200  # 21,000 characters of topics are allowed
_PING_INTERVAL = 20 * SECOND
_INTERVALS = {
    "1m": "1",
    "3m": "3",
    "5m": "5",
    "15m": "15",
    "30m": "30",
    "1h": "60",
    "2h": "120",
    "4h": "240",
    "6h": "360",
    "12h": "720",
    "1d": "D",
    "1w": "W",
    "1M": "M",
}
_OURS = {theirs: ours for ours, theirs in _INTERVALS.items()}
_DEPTHS: Mapping[str, Sequence[int]] = {"option": (25, 100)}
_DEFAULT_DEPTHS = (1, 50, 200, 1000)


# -- what the exchange sends -----------------------------------------------------------------------


class _Trade(msgspec.Struct, gc=False):
    time: Milliseconds = msgspec.field(name="T")
    symbol: str = msgspec.field(name="s")
    side: Literal["Buy", "Sell"] = msgspec.field(name="S")
    amount: str = msgspec.field(name="v")
    price: str = msgspec.field(name="p")
    id: Word = msgspec.field(name="i")


class _Book(msgspec.Struct, gc=False):
    bids: list[Level] = msgspec.field(name="b")
    asks: list[Level] = msgspec.field(name="a")
    number: Whole = msgspec.field(name="u")


class _Ticker(msgspec.Struct, rename="camel", gc=False):
    """What changed of a ticker; everything in a snapshot."""

    symbol: str
    mark_price: str | None = None
    index_price: str | None = None
    open_interest: str | None = None
    funding_rate: str | None = None
    next_funding_time: str | None = None
    bid_price: str | None = None  # of options; the others have theirs from the book
    bid_size: str | None = None
    ask_price: str | None = None
    ask_size: str | None = None


class _Liquidation(msgspec.Struct, gc=False):
    time: Milliseconds = msgspec.field(name="T")
    side: Literal["Buy", "Sell"] = msgspec.field(name="S")
    quantity: str = msgspec.field(name="v")
    price: str = msgspec.field(name="p")


class _Kline(msgspec.Struct, gc=False):
    start: Milliseconds
    end: Milliseconds
    interval: Word
    open: str
    close: str
    high: str
    low: str
    volume: str
    confirm: bool


class _Message[Data](msgspec.Struct, gc=False):
    ts: Milliseconds
    data: Data
    type: Literal["snapshot", "delta"] = "snapshot"


class _Topics(msgspec.Struct, rename="camel"):
    """The answer to a subscription to options."""

    success_topics: list[str] = []
    fail_topics: list[str] = []


class _Other(msgspec.Struct):
    """Whatever does not begin with a topic of ours."""

    topic: str | None = None
    op: Word | None = None
    success: bool | None = None
    ret_msg: str = ""
    req_id: str | None = None
    type: Word | None = None
    data: msgspec.Raw = msgspec.Raw()


class _PriceFilter(msgspec.Struct, frozen=True, rename="camel"):
    tick_size: str | None = None


class _LotFilter(msgspec.Struct, frozen=True, rename="camel"):
    qty_step: str | None = None
    base_precision: str | None = None  # of spot


class _Row(msgspec.Struct, rename="camel"):
    """A row of the listing."""

    symbol: str
    status: Word
    base_coin: str
    quote_coin: str
    contract_type: Word | None = None
    options_type: Word | None = None
    delivery_time: str = "0"
    settle_coin: str | None = None
    price_filter: _PriceFilter = _PriceFilter()
    lot_size_filter: _LotFilter = _LotFilter()


class _Page(msgspec.Struct, rename="camel"):
    list: list[msgspec.Raw]
    next_page_cursor: str | None = None


class _Answer(msgspec.Struct):
    result: _Page


_other = msgspec.json.Decoder(_Other).decode
_topics = msgspec.json.Decoder(_Topics).decode
_answer = msgspec.json.Decoder(_Answer).decode
_row = msgspec.json.Decoder(_Row).decode
_BEGINNING = b'{"topic":"'


# -- streams ---------------------------------------------------------------------------------------


class _Stream:
    """What one topic carries: of one symbol or, of options' trades, of many."""

    data: ClassVar[Any]

    def __init__(self, exchange: "Bybit", topic: str, carried: Mapping[str, Sequence[str]]) -> None:
        self.exchange, self.topic = exchange.id, topic
        self.options = exchange.options
        self.symbols = carried  # channels by symbol
        self.subscriptions = tuple(Subscription(it, symbol) for symbol, of in carried.items() for it in of)
        self.symbol, self.channels = next(iter(carried.items()))
        self.decode = _decoder(self.data)
        self.flows = False  # whether data has come

    def read(self, message: _Message[Any], receipt: int) -> Outputs:
        """Return what a message is stored as. Raises what ``UNREADABLE`` lists."""
        raise NotImplementedError

    def renew(self) -> None:
        """Have a complete book follow the next change, where it is a book."""


@cache
def _decoder(data: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(_Message[data]).decode


class _Trades(_Stream):
    data = list[_Trade]

    @override
    def read(self, message: _Message[list[_Trade]], receipt: int) -> Outputs:
        found: list[AnyRecord | Event] = []
        for it in message.data:
            symbol = self._named(it.symbol)
            if symbol is None:
                found.append(Ignored(f"{self.topic} {it.symbol}"))
                continue
            amount, price = number(it.amount), number(it.price)
            start = self.exchange, symbol, it.time * MILLISECOND, receipt
            found.append(Trade(*start, it.side.lower(), amount, price, it.id))
        return found

    def _named(self, exchange_symbol: str) -> str | None:  # noqa: ARG002 - one topic, one symbol
        return self.symbol


class _OptionTrades(_Trades):
    """Trades of all options of a currency."""

    names: Mapping[str, str] | None = None  # by the exchange's; None takes all

    @override
    def _named(self, exchange_symbol: str) -> str | None:
        return exchange_symbol if self.names is None else self.names.get(exchange_symbol)


class _Books(_Stream):
    data = _Book

    def __init__(self, exchange: "Bybit", topic: str, carried: Mapping[str, Sequence[str]]) -> None:
        super().__init__(exchange, topic, carried)
        self._book: Book | None = None
        self._number = 0

    @override
    def read(self, message: _Message[_Book], receipt: int) -> Outputs:
        it, time = message.data, message.ts * MILLISECOND
        bids, asks = sides(it.bids, it.asks)
        (subscription,) = self.subscriptions
        if message.type == "snapshot" or it.number == 1:
            self._book = book = Book(self.exchange, self.symbol, self.options.storing)
            self._number = it.number
            return [Resync(subscription), *book.begin(bids, asks, time, receipt)]
        if self._book is None or it.number == self._number:
            return ()  # it belongs to a book that broke, or was sent again
        if it.number != self._number + 1:
            return self._break(it.number)
        self._number = it.number
        return self._book.change(bids, asks, time, receipt)

    @override
    def renew(self) -> None:
        if self._book:
            self._book.renew()

    def _break(self, number: int) -> Outputs:
        self._book = None
        frames = tuple(_request(operation, [self.topic]) for operation in ("unsubscribe", "subscribe"))
        reason = f"update {number} came where {self._number + 1} was due"
        return [Break(self.subscriptions[0], reason), Renew(self.subscriptions, frames)]


class _BestPrices(_Stream):
    """The book of one level; where nothing changes, the same is sent again each 3 s."""

    data = _Book

    def __init__(self, exchange: "Bybit", topic: str, carried: Mapping[str, Sequence[str]]) -> None:
        super().__init__(exchange, topic, carried)
        self._bids, self._asks = Side(best_is_highest=True), Side(best_is_highest=False)
        self._number = 0

    @override
    def read(self, message: _Message[_Book], receipt: int) -> Outputs:
        it, time = message.data, message.ts * MILLISECOND
        if it.number == self._number:
            return [Confirmed(self.subscriptions, "data")]
        self._number = it.number
        for side, of_side in ((self._bids, it.bids), (self._asks, it.asks)):
            (side.replace if message.type == "snapshot" else side.change)(levels(of_side))
        bids, asks = list(self._bids.best(1).values()), list(self._asks.best(1).values())
        if not bids or not asks:
            return ()
        return _best(self, time, receipt, (*bids[0], *asks[0]))


class _Tickers(_Stream):
    """Everything else of a contract, of which changes are sent."""

    data = _Ticker

    def __init__(self, exchange: "Bybit", topic: str, carried: Mapping[str, Sequence[str]]) -> None:
        super().__init__(exchange, topic, carried)
        self._state = _Ticker("")

    @override
    def read(self, message: _Message[_Ticker], receipt: int) -> Outputs:
        it, state = message.data, self._state
        for field in it.__struct_fields__:
            if (value := getattr(it, field)) is not None:
                setattr(state, field, value)
        start = self.exchange, self.symbol, message.ts * MILLISECOND, receipt
        found: list[AnyRecord] = []
        if "funding" in self.channels and (it.funding_rate or it.mark_price or it.next_funding_time):
            rate, following = number_or_none(state.funding_rate), state.next_funding_time
            mark = number_or_none(state.mark_price)
            found.append(Funding(*start, mark, rate, _time(following) if following else None, None))
        if "open_interest" in self.channels and it.open_interest:
            found.append(OpenInterest(*start, number(it.open_interest)))
        if "index" in self.channels and it.index_price:
            found.append(Index(*start, number(it.index_price)))
        if it.bid_price and it.ask_price:
            prices = numbers(it.bid_price, it.bid_size or "0", it.ask_price, it.ask_size or "0")
            found += _best(self, start[2], receipt, prices)
        return found


class _Liquidations(_Stream):
    data = list[_Liquidation]

    @override
    def read(self, message: _Message[list[_Liquidation]], receipt: int) -> Outputs:
        return [self._record(it, receipt) for it in message.data]

    def _record(self, it: _Liquidation, receipt: int) -> Liquidation:
        quantity, price = number(it.quantity), number(it.price)
        start = self.exchange, self.symbol, it.time * MILLISECOND, receipt
        # Buy: a long position was liquidated, so the order sold
        return Liquidation(*start, "sell" if it.side == "Buy" else "buy", quantity, price, None, None)


class _Candles(_Stream):
    data = list[_Kline]

    @override
    def read(self, message: _Message[list[_Kline]], receipt: int) -> Outputs:
        return [self._record(it, message.ts, receipt) for it in message.data if it.confirm]

    def _record(self, it: _Kline, ts: int, receipt: int) -> Candle:
        if it.interval not in _OURS:
            raise MalformedError(f"a candle of the unknown interval {it.interval!r}")
        opened, last, high, low, volume = numbers(it.open, it.close, it.high, it.low, it.volume)
        start = self.exchange, self.symbol, ts * MILLISECOND, receipt
        span = it.start * MILLISECOND, it.end * MILLISECOND, _OURS[it.interval], None
        return Candle(*start, *span, opened, last, high, low, volume, True)


def _best(stream: _Stream, time: int, receipt: int, prices: Sequence[str]) -> list[AnyRecord]:
    """Return the best prices as the channels of a stream have them."""
    bid, bid_size, ask, ask_size = prices
    start = stream.exchange, stream.symbol, time, receipt
    found: list[AnyRecord] = []
    if "ticker" in stream.channels:
        found.append(Ticker(*start, bid, ask))
    if "l1_book" in stream.channels:
        found.append(L1Book(*start, bid, bid_size, ask, ask_size))
    return found


_READERS: Mapping[str, type[_Stream]] = {
    "publicTrade": _Trades,
    "orderbook": _Books,
    "tickers": _Tickers,
    "kline": _Candles,
    "allLiquidation": _Liquidations,
}


def _reader(topic: str, market: str) -> type[_Stream]:
    if topic.startswith("orderbook.1."):
        return _BestPrices
    word = topic.partition(".")[0]
    return _OptionTrades if word == "publicTrade" and market == "option" else _READERS[word]


def _time(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 13:
        raise MalformedError(f"{text[:40]!r} is no time in milliseconds since 1970")
    return int(text) * MILLISECOND


def _request(operation: str, topics: Sequence[str], number: int | None = None) -> str:
    request = {"req_id": str(number)} if number else {}
    return msgspec.json.encode(request | {"op": operation, "args": topics}).decode()


# -- one connection --------------------------------------------------------------------------------


class BybitSession(Session):
    """The state of one connection, which is to one market."""

    def __init__(
        self,
        exchange: "Bybit",
        subscriptions: Sequence[Subscription],
        instruments: Mapping[str, Instrument],
        *,
        listening_to: Collection[str] = (),
    ) -> None:
        self._exchange = exchange
        self._listening_to = frozenset(listening_to)
        self._market = next((instruments[each.symbol].market or "" for each in subscriptions), "")
        self._streams: dict[str, _Stream] = {}
        self._by_bytes: dict[bytes, _Stream] = {}
        self._asked: dict[str, tuple[str, ...]] = {}
        self._number = 0
        self._pinged = 0
        for topic, carried in exchange.topics(subscriptions, instruments).items():
            stream = self._add(topic, carried)
            if isinstance(stream, _OptionTrades):
                stream.names = {instruments[symbol].exchange_symbol: symbol for symbol in carried}
        self._pending = set(self._streams)

    @override
    def opening(self) -> Sequence[str]:
        most = 10 if self._market == "spot" else 100
        return [self._subscribe(some) for some in batched(self._streams, most)]

    @override
    def receive(self, frame: bytes, receipt: int) -> Outputs:
        begin = len(_BEGINNING)
        if frame.startswith(_BEGINNING):
            stream = self._by_bytes.get(frame[begin : frame.find(b'"', begin)])
            if stream:
                return self._data(stream, frame, receipt)
        return self._other(frame, receipt)

    @override
    def tick(self, now: int) -> Outputs:
        if 0 <= now - self._pinged < _PING_INTERVAL:  # the clock may step back
            return ()
        self._pinged = now
        return (Send('{"op":"ping"}'),)

    @override
    def renew_books(self, symbols: Collection[str]) -> None:
        for stream in self._streams.values():
            if stream.symbol in symbols:
                stream.renew()

    def _add(self, topic: str, carried: Mapping[str, Sequence[str]]) -> _Stream:
        stream = _reader(topic, self._market)(self._exchange, topic, carried)
        self._streams[topic] = self._by_bytes[topic.encode()] = stream
        return stream

    def _subscribe(self, topics: Sequence[str]) -> str:
        self._number += 1
        self._asked[str(self._number)] = tuple(topics)
        return _request("subscribe", topics, self._number)

    def _data(self, stream: _Stream, frame: bytes, receipt: int) -> Outputs:
        try:
            outputs = stream.read(stream.decode(frame), receipt)
        except UNREADABLE as error:
            return (Malformed(str(error), stream.subscriptions),)
        if stream.flows:
            return outputs
        stream.flows = True
        self._pending.discard(stream.topic)
        return [Confirmed(stream.subscriptions, "data"), *outputs]

    def _other(self, frame: bytes, receipt: int) -> Outputs:
        try:
            it = _other(frame)
            if it.topic is not None:
                return self._topic(it.topic, frame, receipt)
            if it.type == "COMMAND_RESP":
                return self._command_answered(_topics(it.data))
        except UNREADABLE as error:
            return (Malformed(str(error)),)
        if it.op == "subscribe":
            return self._answered(it)
        if it.op or it.ret_msg:
            return (Ignored(it.op or it.ret_msg),)
        return (Malformed("neither data nor an answer"),)

    def _topic(self, topic: str, frame: bytes, receipt: int) -> Outputs:
        stream = self._streams.get(topic) or self._listened(topic)
        return self._data(stream, frame, receipt) if stream else (Ignored(topic),)

    def _listened(self, topic: str) -> _Stream | None:
        """Return what reads a topic that was not asked for, where all is listened to."""
        word, _, symbol = topic.partition(".")
        channels = [each for each in self._exchange.channels_of(topic) if each in self._listening_to]
        if word not in _READERS or not channels:
            return None
        return self._add(topic, {symbol.rpartition(".")[2]: channels})

    # -- answers -------------------------------------------------------------------------------------

    def _answered(self, it: _Other) -> Outputs:
        topics = self._asked.get(it.req_id or "", ())
        if it.success or "already subscribed" in it.ret_msg:
            if not topics:
                return (Ignored("subscribe"),)
            self._pending.difference_update(topics)
            return (Confirmed(self._subscriptions(topics), "acknowledgement"),)
        named = [topic for topic in topics or self._pending if topic in it.ret_msg]
        if len(topics) == 1 or named:
            return self._refused(named or topics, topics, it.ret_msg)
        halves = batched(topics, (len(topics) + 1) // 2) if topics else ()
        return [Send(self._subscribe(half)) for half in halves] or (Notice(it.ret_msg),)

    def _refused(self, refused: Collection[str], asked: Collection[str], reason: str) -> Outputs:
        """One bad topic refuses the request: ask again for the others."""
        self._pending.difference_update(refused)
        rest = [topic for topic in asked if topic in self._pending]
        again = [Send(self._subscribe(rest))] if rest else []
        return [Refused(self._subscriptions(refused), reason), *again]

    def _command_answered(self, it: _Topics) -> Outputs:
        confirmed = [topic for topic in it.success_topics if topic in self._pending]
        failed = [topic for topic in it.fail_topics if topic in self._pending]
        self._pending.difference_update(confirmed, failed)
        events: list[Event] = []
        if confirmed:
            events.append(Confirmed(self._subscriptions(confirmed), "acknowledgement"))
        if failed:
            events.append(Refused(self._subscriptions(failed), "the exchange counts it among failTopics"))
        return events or (Ignored("COMMAND_RESP"),)

    def _subscriptions(self, topics: Iterable[str]) -> tuple[Subscription, ...]:
        return tuple(chain.from_iterable(self._streams[topic].subscriptions for topic in topics))


# -- the exchange ----------------------------------------------------------------------------------

_DOCS = "bybit-exchange.github.io/docs/v5/websocket/public"


def _channel(
    records: str, page: str, loss: Detection = "nothing", *, flows: bool = True, quiet: float | None = 600.0
) -> Channel:
    source = f"{_DOCS}/{page}, 2026-11-28"
    return Channel(records=records, loss=loss, flows=flows, quiet=quiet, source=source)


class Bybit(Exchange):
    """BYBIT: spot, linear and inverse contracts, options."""

    id = "BYBIT"
    channels: ClassVar[Mapping[str, Channel]] = {
        "trades": _channel("single trades", "trade", flows=False, quiet=None),
        "ticker": _channel("the best prices, each 10 ms at most", "orderbook (depth 1)"),
        "l1_book": _channel("the best prices with their sizes, each 10 ms at most", "orderbook (depth 1)"),
        "l2_book": _channel(
            "changes of 200 ms, of the 1000 best levels a side (100 of options)", "orderbook", "sequence"
        ),
        "funding": _channel("mark price, expected rate and its time, as they change", "ticker"),
        "open_interest": _channel("open interest, as it changes", "ticker"),
        "index": _channel("the index price, as it changes", "ticker"),
        "liquidations": _channel(
            "each liquidation; the order's side", "all-liquidation", flows=False, quiet=None
        ),
        "candles": _channel("closed candles", "kline", quiet=60.0),
    }
    limits = Limits(
        subscriptions=_TOPICS_PER_CONNECTION * 3,
        frame_bytes=21_000,
        frames_per_second=5.0,
        connections=(500, 300.0),
        weight=(600, 5.0),
        source="bybit-exchange.github.io/docs/v5/ws/connect and /rate-limit, 2026-11-28",
    )
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://stream.bybit.com/v5/public",
        "rest": "https://api.bybit.com/v5/market",
    }
    #: bybit-exchange.github.io/docs/v5/guide and /docs/v5/ws/connect, 2026-11-28. For the EEA, the
    #: Netherlands, the Emirates and Indonesia they name REST hosts alone.
    regions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        region: {
            "websocket": f"wss://stream.{domain}/v5/public",
            "rest": f"https://api.{domain}/v5/market",
        }
        for region, domain in {"tr": "bybit-tr.com", "kz": "bybit.kz", "ge": "bybitgeorgia.ge"}.items()
    }
    candle_intervals = tuple(_INTERVALS)
    silence = 60.0  # a ping each 20 s is answered

    @override
    def listing(self) -> Sequence[str]:
        address = self.endpoint("rest") + "/instruments-info?category="
        options = (f"option&baseCoin={coin}&limit=1000" for coin in ("BTC", "ETH", "SOL"))
        return [address + of for of in ("spot", "linear&limit=1000", "inverse&limit=1000", *options)]

    @override
    def next_page(self, address: str, answer: bytes) -> str | None:
        try:
            cursor = _answer(answer).result.next_page_cursor
        except UNREADABLE:
            return None
        return f"{address.partition('&cursor=')[0]}&cursor={cursor}" if cursor else None

    @override
    def instruments(self, answers: Sequence[bytes]) -> Listing:
        try:
            rows = [row for body in answers for row in _answer(body).result.list]
        except UNREADABLE as error:
            raise MalformedError(f"no listing of {self.id}: {error}") from error
        return read_listing(rows, _instrument)

    @override
    def connections(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[ConnectionPlan]:
        markets: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            markets[instruments[subscription.symbol].market or ""].append(subscription)
        return [
            ConnectionPlan(f"{self.endpoint('websocket')}/{market}", tuple(chain.from_iterable(some)))
            for market, of_market in markets.items()
            for some in batched(self._by_topic(of_market, instruments), _TOPICS_PER_CONNECTION)
        ]

    @override
    def session(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> BybitSession:
        return BybitSession(self, subscriptions, instruments)

    @override
    def listener(self, channels: Collection[str]) -> BybitSession:
        return BybitSession(self, (), {}, listening_to=channels)

    def topics(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> dict[str, dict[str, list[str]]]:
        """Return the topics that carry the subscriptions, with their channels by symbol."""
        topics: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for channel, symbol in subscriptions:
            if topic := self._topic(channel, instruments[symbol]):
                topics[topic][symbol].append(channel)
        return topics

    def channels_of(self, topic: str) -> Sequence[str]:
        """Return the channels that a topic may carry."""
        if topic.startswith("orderbook.1."):
            return ("ticker", "l1_book")
        return {
            "publicTrade": ("trades",),
            "orderbook": ("l2_book",),
            "tickers": ("funding", "open_interest", "index", "ticker", "l1_book"),
            "kline": ("candles",),
            "allLiquidation": ("liquidations",),
        }.get(topic.partition(".")[0], ())

    def _by_topic(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> list[list[Subscription]]:
        return [
            [Subscription(channel, symbol) for symbol, channels in carried.items() for channel in channels]
            for carried in self.topics(subscriptions, instruments).values()
        ]

    def _topic(self, channel: str, instrument: Instrument) -> str | None:
        symbol, market = instrument.exchange_symbol, instrument.market
        contract = market in ("linear", "inverse")
        if channel in ("ticker", "l1_book"):
            return f"tickers.{symbol}" if market == "option" else f"orderbook.1.{symbol}"
        if channel in ("funding", "open_interest", "index", "liquidations"):
            word = "allLiquidation" if channel == "liquidations" else "tickers"
            offered = contract or (market == "option" and channel in ("open_interest", "index"))
            return f"{word}.{symbol}" if offered else None
        if channel == "trades":
            return f"publicTrade.{instrument.base if market == 'option' else symbol}"
        if channel == "candles":
            return (
                None if market == "option" else f"kline.{_INTERVALS[self.options.candle_interval]}.{symbol}"
            )
        return f"orderbook.{self._depth(market or '')}.{symbol}" if channel == "l2_book" else None

    def _depth(self, market: str) -> int:
        """Return the least depth that is enough; that of one level has no changes, and is no book of ours."""
        offered = [depth for depth in _DEPTHS.get(market, _DEFAULT_DEPTHS) if depth > 1]
        wanted = self.options.storing.max_depth or offered[-1]
        return min((depth for depth in offered if depth >= wanted), default=offered[-1])


_KINDS: Mapping[str | None, tuple[Kind, str]] = {
    None: ("spot", "spot"),
    "LinearPerpetual": ("perpetual", "linear"),
    "LinearFutures": ("future", "linear"),
    "InversePerpetual": ("perpetual", "inverse"),
    "InverseFutures": ("future", "inverse"),
    "Option": ("option", "option"),
}


def _instrument(raw: msgspec.Raw) -> Instrument | None:
    row = _row(raw)
    if row.status != "Trading":
        return None
    known: tuple[Kind, str] | None = (
        ("option", "option") if row.options_type else _KINDS.get(row.contract_type)
    )
    if known is None:
        raise MalformedError(f"a contract of the unknown type {row.contract_type!r}")
    kind, market = known
    dated = kind in ("future", "option")
    parts = row.symbol.split("-")
    if kind == "option" and len(parts) < 4:
        raise MalformedError(f"the name {row.symbol!r} is no option's")
    strike, right = (parts[2], row.options_type or "") if kind == "option" else ("", "")
    expiry = _time(row.delivery_time) if dated else None
    return Instrument(
        symbol=name(
            kind,
            row.base_coin,
            row.quote_coin,
            expiry=_date(expiry) if expiry else "",
            strike=strike,
            right=right.lower(),
        ),
        exchange_symbol=row.symbol,
        kind=kind,
        base=row.base_coin,
        quote=row.quote_coin,
        tick=number_or_none(row.price_filter.tick_size),
        lot=number_or_none(row.lot_size_filter.qty_step or row.lot_size_filter.base_precision),
        contract_size="1" if market == "inverse" else None,
        contract_unit=row.quote_coin if market == "inverse" else None,
        settlement=row.settle_coin,
        expiry=expiry,
        strike=number_or_none(strike),
        market=market,
    )


def _date(time: int) -> str:
    return contract_date(datetime.fromtimestamp(time // SECOND, UTC).strftime("%y%m%d"))
