"""COINBASE, Advanced Trade.

Messages are numbered across all channels of a connection, acknowledgements included: one that is missing may
have been about anything, so all of the connection counts as broken, and books and trades are subscribed to
again. A trade's ``side`` is the maker's, and is turned round: the documentation does not say so, but
nautilus_trader does (``coinbase_side_to_aggressor``, 2026), and it is so on Coinbase Exchange. Not verified.

A product with an ``alias`` (BTC-USDC of BTC-USD) has the same book and the same trades, and is not listed.

Sources, read 2026-11-28: docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket (overview,
channels, rate limits), REST "List Public Products"; messages recorded in 2024 to 2026.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import batched, chain
from typing import Any, ClassVar, Literal, override

import msgspec

from collector.exchanges.book import Book
from collector.exchanges.candles import RunningCandles
from collector.exchanges.instruments import Instrument, Listing, contract_date, name, read_listing
from collector.exchanges.limits import Limits
from collector.exchanges.numbers import (
    UNREADABLE,
    Level,
    MalformedError,
    Whole,
    Word,
    levels,
    number,
    numbers,
)
from collector.exchanges.protocol import (
    Break,
    Channel,
    Confirmed,
    ConnectionPlan,
    Event,
    Exchange,
    Ignored,
    Malformed,
    Notice,
    Outputs,
    Refused,
    Renew,
    Repeated,
    Resync,
    Send,
    Session,
    Subscription,
)
from collector.exchanges.records import AnyRecord, Candle, L1Book, Ticker, Trade
from collector.exchanges.times import SECOND, rfc3339

_PRODUCTS_PER_CONNECTION = 50
_PRODUCTS_PER_FRAME = 50
_NO_TRADES = 10 * SECOND  # nanoseconds in which a snapshot of trades follows the acknowledgement
_MOST_SKIPPED = 100  # numbers of messages that may come late
#: What is subscribed to, by our channels.
_CHANNELS = {
    "trades": "market_trades",
    "ticker": "ticker",
    "l1_book": "ticker",
    "l2_book": "level2",
    "candles": "candles",
}
#: What is begun again after a loss: these send a snapshot.
_RENEWED = ("level2", "market_trades")


# -- what the exchange sends -----------------------------------------------------------------------


class _Level(msgspec.Struct, gc=False):
    side: Literal["bid", "offer"]
    price: str = msgspec.field(name="price_level")
    size: str = msgspec.field(name="new_quantity")


class _Book(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    product: str = msgspec.field(name="product_id")
    updates: list[_Level]


class _Trade(msgspec.Struct, gc=False):
    id: Word = msgspec.field(name="trade_id")
    product: str = msgspec.field(name="product_id")
    price: str
    size: str
    side: Literal["BUY", "SELL"]
    time: Word


class _Trades(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    trades: list[_Trade]


class _Ticker(msgspec.Struct, gc=False):
    product: str = msgspec.field(name="product_id")
    bid: str = msgspec.field(name="best_bid", default="")
    bid_size: str = msgspec.field(name="best_bid_quantity", default="")
    ask: str = msgspec.field(name="best_ask", default="")
    ask_size: str = msgspec.field(name="best_ask_quantity", default="")


class _Tickers(msgspec.Struct, gc=False):
    tickers: list[_Ticker]


class _Candle(msgspec.Struct, gc=False):
    product: str = msgspec.field(name="product_id")
    start: Word  # seconds since 1970
    open: str
    close: str
    high: str
    low: str
    volume: str


class _Candles(msgspec.Struct, gc=False):
    type: Literal["snapshot", "update"]
    candles: list[_Candle]


class _Subscriptions(msgspec.Struct):
    subscriptions: dict[str, list[str]] = {}


class _Message[Part](msgspec.Struct, gc=False):
    timestamp: Word
    events: list[Part]
    number: Whole | None = msgspec.field(name="sequence_num", default=None)


class _Other(msgspec.Struct):
    """Whatever else is sent."""

    channel: Word | None = None
    type: Word | None = None
    message: str = ""
    timestamp: str = ""
    number: Whole | None = msgspec.field(name="sequence_num", default=None)


class _Future(msgspec.Struct):
    """What a product has that is a contract."""

    code: str = msgspec.field(name="contract_code")
    size: str = msgspec.field(name="contract_size")
    unit: str = msgspec.field(name="contract_root_unit")
    expires: Word = msgspec.field(name="contract_expiry_type")
    expiry: Word | None = msgspec.field(name="contract_expiry", default=None)


class _Product(msgspec.Struct):
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
    future: _Future | None = msgspec.field(name="future_product_details", default=None)


class _Products(msgspec.Struct):
    products: list[msgspec.Raw]


def _decoder(part: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(_Message[part]).decode


_message = {
    "l2_data": _decoder(_Book),
    "market_trades": _decoder(_Trades),
    "ticker": _decoder(_Tickers),
    "candles": _decoder(_Candles),
    "subscriptions": _decoder(_Subscriptions),
}
_other = msgspec.json.Decoder(_Other).decode
_products = msgspec.json.Decoder(_Products).decode
_product = msgspec.json.Decoder(_Product).decode

_BEGINNING = b'{"channel":"'


# -- one connection --------------------------------------------------------------------------------


class CoinbaseSession(Session):
    """The state of one connection."""

    def __init__(
        self,
        exchange: "Coinbase",
        subscriptions: Sequence[Subscription],
        instruments: Mapping[str, Instrument],
        *,
        listening_to: Collection[str] = (),
    ) -> None:
        self._exchange = exchange
        self._names = {instruments[each.symbol].exchange_symbol: each.symbol for each in subscriptions}
        self._products = {symbol: product for product, symbol in self._names.items()}
        self._listening_to = frozenset(listening_to)
        self._asked_for = frozenset(subscriptions)
        self._pending = set(subscriptions)  # neither acknowledged nor refused
        self._refused: set[Subscription] = set()
        self._flowing: set[Subscription] = set()
        self._next_number: int | None = None
        self._skipped: dict[int, None] = {}  # numbers that have not come, the last of them
        self._routes: dict[tuple[str, str], Sequence[Subscription]] = {}
        self._books: dict[str, Book] = {}
        self._renewed: set[Subscription] = set()  # being subscribed to again
        self._standing: dict[Subscription, int] = {}  # renewed trades that stand again, since when
        self._candles = RunningCandles()
        self._readers: Mapping[str, Callable[[Any, int, int], Outputs]] = {
            "l2_data": self._books_of,
            "market_trades": self._trades_of,
            "ticker": self._tickers_of,
            "candles": self._candles_of,
        }

    @override
    def opening(self) -> Sequence[str]:
        # heartbeats keep subscriptions open on which nothing happens
        return [*self._subscribe(self._asked_for), _request("subscribe", "heartbeats", ())]

    @override
    def receive(self, frame: bytes, receipt: int) -> Outputs:
        begin = len(_BEGINNING)
        channel = frame[begin : frame.find(b'"', begin)].decode(errors="replace")
        if frame.startswith(_BEGINNING) and channel in _message:
            return self._data(channel, frame, receipt)
        return self._control(frame, receipt)

    @override
    def tick(self, now: int) -> Outputs:
        return [*self._without_trades(now), *self._candles.over(now)]

    @override
    def renew_books(self, symbols: Collection[str]) -> None:
        for symbol in self._books.keys() & set(symbols):
            self._books[symbol].renew()

    def _subscribe(self, subscriptions: Collection[Subscription], kind: str = "subscribe") -> list[str]:
        products: dict[str, set[str]] = defaultdict(set)
        for subscription in subscriptions:
            products[_CHANNELS[subscription.channel]].add(self._product_of(subscription.symbol))
        return [
            _request(kind, channel, some)
            for channel, of_channel in sorted(products.items())
            for some in batched(sorted(of_channel), _PRODUCTS_PER_FRAME)
        ]

    def _product_of(self, symbol: str) -> str:
        return self._products.get(symbol, symbol)

    def _carried(self, channel: str, product: str) -> Sequence[Subscription]:
        """Return the subscriptions that a channel of the exchange's carries for a product."""
        known = self._routes.get((channel, product))
        if known is None:
            known = self._routes[channel, product] = self._route(channel, product)
        return known

    def _route(self, channel: str, product: str) -> Sequence[Subscription]:
        symbol = product if self._listening_to else self._names.get(product, "")
        carried = (Subscription(ours, symbol) for ours, theirs in _CHANNELS.items() if theirs == channel)
        return [each for each in carried if each.channel in self._listening_to or each in self._asked_for]

    # -- data ----------------------------------------------------------------------------------------

    def _data(self, channel: str, frame: bytes, receipt: int) -> Outputs:
        try:
            message = _message[channel](frame)
            time = rfc3339(message.timestamp)
            self._candles.hear(time)
        except UNREADABLE as error:
            malformed = Malformed(str(error), self._about_unread(channel, frame))
            return [*self._missed(_number(frame)), malformed]
        if self._is_repeated(message.number):
            return (Ignored(f"{channel}, sent again"),)
        missed = self._missed(message.number)
        if channel == "subscriptions":
            return [*missed, *self._acknowledged(message.events, receipt)]
        read = self._readers[channel]
        return [*missed, *chain.from_iterable(read(part, time, receipt) for part in message.events)]

    def _is_repeated(self, sequence: int | None) -> bool:
        """Return whether a message was there before; one that comes late was not.

        Who listens to whatever comes may hear several connections.
        """
        if self._listening_to or sequence is None or sequence >= (self._next_number or 0):
            return False
        return sequence not in self._skipped

    def _missed(self, sequence: int | None) -> Outputs:
        """Break all that the connection carries where a number is missing."""
        if sequence is None:
            return ()
        expected = sequence if self._next_number is None else self._next_number
        self._next_number = max(expected, sequence + 1)
        if sequence <= expected:
            self._skipped.pop(sequence, None)
            return ()
        self._skipped |= dict.fromkeys(range(max(expected, sequence - _MOST_SKIPPED), sequence))
        for excess in list(self._skipped)[:-_MOST_SKIPPED]:
            del self._skipped[excess]
        self._books.clear()
        subscriptions = sorted((self._asked_for or self._flowing) - self._refused)
        renewed = [each for each in subscriptions if _CHANNELS[each.channel] in _RENEWED]
        frames = *self._subscribe(renewed, "unsubscribe"), *self._subscribe(renewed)
        reason = f"message {sequence} came where {expected} was due"
        self._renewed.update(renewed)
        self._standing.clear()
        breaks = [Break(each, reason, renewed=_CHANNELS[each.channel] in _RENEWED) for each in subscriptions]
        return [*breaks, Renew(tuple(renewed), frames)] if renewed else breaks

    def _read(self, channel: str, product: str, make: Callable[..., Outputs], *arguments: Any) -> Outputs:
        """Return what ``make(subscription, *arguments)`` makes of it for each subscription to a product."""
        carried = self._carried(channel, product)
        if not carried:
            return (Ignored(f"{channel} {product}"),)
        outputs: list[AnyRecord | Event] = []
        for subscription in carried:
            if subscription not in self._flowing:
                self._flowing.add(subscription)
                self._pending.discard(subscription)
                outputs.append(Confirmed((subscription,), "data"))
            try:
                outputs += make(subscription, *arguments)
            except UNREADABLE as error:
                outputs.append(Malformed(str(error), (subscription,)))
        return outputs

    def _books_of(self, part: _Book, time: int, receipt: int) -> Outputs:
        return self._read("level2", part.product, self._book, part, time, receipt)

    def _book(self, subscription: Subscription, part: _Book, time: int, receipt: int) -> Outputs:
        bids, asks = _side(part, "bid"), _side(part, "offer")
        symbol = subscription.symbol
        if part.type == "snapshot":
            self._renewed.discard(subscription)
            self._books[symbol] = book = Book(self._exchange.id, symbol, self._exchange.options.storing)
            return [Resync(subscription), *book.begin(bids, asks, time, receipt)]
        known = self._books.get(symbol)
        return known.change(bids, asks, time, receipt) if known else ()

    def _trades_of(self, part: _Trades, time: int, receipt: int) -> Outputs:  # noqa: ARG002
        oldest_first = sorted(part.trades, key=lambda it: (len(it.id), it.id))
        read = (self._read("market_trades", it.product, self._trade, it, receipt) for it in oldest_first)
        outputs = list(chain.from_iterable(read))
        if part.type == "update":
            return outputs
        renewed = {Subscription("trades", it.symbol) for it in outputs if isinstance(it, Trade)}
        return [
            *self._begun_again(self._renewed & renewed),
            *(Repeated((each,)) if isinstance(each, Trade) else each for each in outputs),
        ]

    def _without_trades(self, now: int) -> Outputs:
        """A snapshot without trades names no product: what has stood again for long enough had none."""
        return self._begun_again({each for each, since in self._standing.items() if now - since > _NO_TRADES})

    def _begun_again(self, trades: Collection[Subscription]) -> Outputs:
        self._renewed.difference_update(trades)
        for each in trades:
            self._standing.pop(each, None)
        return [Resync(each) for each in sorted(trades)]

    def _trade(self, subscription: Subscription, it: _Trade, receipt: int) -> Outputs:
        side = "sell" if it.side == "BUY" else "buy"
        start = self._exchange.id, subscription.symbol, rfc3339(it.time), receipt
        return (Trade(*start, side, number(it.size), number(it.price), it.id),)

    def _tickers_of(self, part: _Tickers, time: int, receipt: int) -> Outputs:
        read = (self._read("ticker", it.product, self._ticker, it, time, receipt) for it in part.tickers)
        return list(chain.from_iterable(read))

    def _ticker(self, subscription: Subscription, it: _Ticker, time: int, receipt: int) -> Outputs:
        if not it.bid or not it.ask:
            return ()  # there is no market
        start = self._exchange.id, subscription.symbol, time, receipt
        bid, ask = numbers(it.bid, it.ask)
        if subscription.channel == "ticker":
            return (Ticker(*start, bid, ask),)
        return (L1Book(*start, bid, number(it.bid_size), ask, number(it.ask_size)),)

    def _candles_of(self, part: _Candles, time: int, receipt: int) -> Outputs:
        oldest_first = sorted(part.candles, key=lambda it: it.start)
        read = (self._read("candles", it.product, self._candle, it, time, receipt) for it in oldest_first)
        outputs = list(chain.from_iterable(read))
        if part.type == "update":
            return outputs
        return [Repeated((each,)) if isinstance(each, Candle) else each for each in outputs]

    def _candle(self, subscription: Subscription, it: _Candle, time: int, receipt: int) -> Outputs:
        begin = _seconds(it.start)
        opened, last, high, low, volume = numbers(it.open, it.close, it.high, it.low, it.volume)
        start = self._exchange.id, subscription.symbol, time, receipt
        span = begin, begin + 300 * SECOND, "5m", None
        closed = self._candles.take(Candle(*start, *span, opened, last, high, low, volume, None))
        return (closed,) if closed else ()

    # -- the rest ------------------------------------------------------------------------------------

    def _about_unread(self, channel: str, frame: bytes) -> tuple[Subscription, ...]:
        """Return what a message that cannot be read may be about: the products that are named in it."""
        theirs = "level2" if channel == "l2_data" else channel
        named = [product for product in self._names if f'"{product}"'.encode() in frame]
        return tuple(each for product in named for each in self._carried(theirs, product))

    def _acknowledged(self, events: Sequence[_Subscriptions], receipt: int) -> Outputs:
        """The exchange says what stands by now, all of it each time."""
        standing = {
            each
            for event in events
            for channel, products in event.subscriptions.items()
            for product in products
            for each in self._carried(channel, product)
        }
        trades = {each for each in self._renewed & standing if each.channel == "trades"}
        self._standing = {each: self._standing.get(each, receipt) for each in trades}
        new = standing & self._pending
        self._pending -= new
        return (Confirmed(tuple(sorted(new)), "acknowledgement"),) if new else (Ignored("subscriptions"),)

    def _control(self, frame: bytes, receipt: int) -> Outputs:
        try:
            it = _other(frame)
        except UNREADABLE as error:
            return (Malformed(str(error)),)
        with suppress(*UNREADABLE):
            self._candles.hear(rfc3339(it.timestamp))
        if it.type == "error":
            return self._error(it.message)
        if not it.channel:
            return (Malformed("neither a channel's data nor an error"),)
        if it.channel in _message:
            return self._data(it.channel, frame, receipt)
        return [*self._missed(it.number), Ignored(it.channel)]

    def _error(self, text: str) -> Outputs:
        """One product that is refused costs the whole request: the rest of its channel is asked for again."""
        words = set(text.replace(",", " ").replace(":", " ").replace("[", " ").replace("]", " ").split())
        unanswered = self._pending | self._renewed
        about = {each for each in unanswered if self._product_of(each.symbol) in words}
        refused = {each for each in about if _CHANNELS[each.channel] in words} or about
        if not refused:
            return (Notice(text),)
        self._pending -= refused
        self._renewed -= refused
        self._refused |= refused
        channels = {each.channel for each in refused}
        again = [each for each in unanswered - refused if each.channel in channels]
        return [Refused(tuple(sorted(refused)), text), *map(Send, self._subscribe(again))]


def _request(kind: str, channel: str, products: Collection[str]) -> str:
    request = {"type": kind, "channel": channel} | ({"product_ids": list(products)} if products else {})
    return msgspec.json.encode(request).decode()


def _number(frame: bytes) -> int | None:
    """Return the number of a message that cannot be read otherwise: it did come."""
    try:
        return _other(frame).number
    except UNREADABLE:
        return None


def _side(part: _Book, side: str) -> list[Level]:
    return levels([(level.price, level.size) for level in part.updates if level.side == side])


def _seconds(text: str) -> int:
    if not text.isdecimal() or len(text) > 11:
        raise MalformedError(f"{text!r} is no time in seconds since 1970")
    return int(text) * SECOND


# -- the exchange ----------------------------------------------------------------------------------

_DOCS = "docs.cdp.coinbase.com advanced-trade-apis/websocket/websocket-channels"


class Coinbase(Exchange):
    """COINBASE, Advanced Trade: spot, futures and perpetuals."""

    id = "COINBASE"
    channels: ClassVar[Mapping[str, Channel]] = {
        "trades": Channel(
            records="single trades; the sides that are sent are the makers' and turned round (not verified)",
            loss="sequence",
            flows=False,
            quiet=None,
            source=f"{_DOCS} (market_trades), 2026-11-28",
        ),
        "ticker": Channel(
            records="the best prices at each trade",
            loss="sequence",
            flows=True,
            quiet=None,
            source=f"{_DOCS} (ticker), 2026-11-28",
        ),
        "l1_book": Channel(
            records="the best prices with their sizes at each trade",
            loss="sequence",
            flows=True,
            quiet=None,
            source=f"{_DOCS} (ticker), 2026-11-28",
        ),
        "l2_book": Channel(
            records="each change, of all levels",
            loss="sequence",
            flows=True,
            quiet=600.0,
            source=f"{_DOCS} (level2), 2026-11-28",
        ),
        "candles": Channel(
            records="closed candles of five minutes, of intervals with trades",
            loss="sequence",
            flows=True,
            quiet=None,
            source=f"{_DOCS} (candles), 2026-11-28",
        ),
    }
    limits = Limits(
        subscriptions=_PRODUCTS_PER_CONNECTION * len(_CHANNELS),
        frames_per_second=4.0,  # of eight, for one address
        connections=(8, 1.0),
        weight=(10, 1.0),
        source="docs.cdp.coinbase.com websocket-rate-limits, 2026-11-28; no size of frames is said",
    )
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://advanced-trade-ws.coinbase.com",
        "rest": "https://api.coinbase.com/api/v3/brokerage/market",
    }
    candle_intervals = ("5m",)
    silence = 15.0  # there is a heartbeat every second

    @override
    def listing(self) -> Sequence[str]:
        address = self.endpoint("rest") + "/products"
        return [address, f"{address}?product_type=FUTURE"]

    @override
    def instruments(self, answers: Sequence[bytes]) -> Listing:
        try:
            rows = [row for body in answers for row in _products(body).products]
        except UNREADABLE as error:
            raise MalformedError(f"no listing of {self.id}: {error}") from error
        return read_listing(rows, _instrument)

    @override
    def connections(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[ConnectionPlan]:
        by_symbol: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            if subscription.channel in _CHANNELS:
                by_symbol[subscription.symbol].append(subscription)
        address = self.endpoint("websocket")
        return [
            ConnectionPlan(address, tuple(chain.from_iterable(some)))
            for some in batched(by_symbol.values(), _PRODUCTS_PER_CONNECTION)
        ]

    @override
    def session(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> CoinbaseSession:
        return CoinbaseSession(self, subscriptions, instruments)

    @override
    def listener(self, channels: Collection[str]) -> CoinbaseSession:
        return CoinbaseSession(self, (), {}, listening_to=channels)


def _instrument(raw: msgspec.Raw) -> Instrument | None:
    row = _product(raw)
    if row.alias or row.disabled or row.status == "delisted":
        return None
    if row.type == "FUTURE":
        return _contract(row)
    if row.type != "SPOT":
        raise MalformedError(f"a product of the unknown type {row.type!r}")
    return Instrument(
        symbol=name("spot", row.base, row.quote),
        exchange_symbol=row.id,
        kind="spot",
        base=row.base,
        quote=row.quote,
        tick=row.tick,
        lot=row.lot,
    )


def _contract(row: _Product) -> Instrument:
    """Return a contract under its code, as several are of one currency and expiry: BIP-USD-30Z20."""
    future = row.future
    if future is None:
        raise MalformedError("a contract without its details")
    perpetual = future.expires == "PERPETUAL"
    expiry = None if perpetual or not future.expiry else rfc3339(future.expiry)
    date = "" if perpetual or not future.expiry else contract_date(future.expiry[2:10].replace("-", ""))
    kind: Literal["perpetual", "future"] = "perpetual" if perpetual else "future"
    return Instrument(
        symbol=name(kind, future.code, row.quote, expiry=date),
        exchange_symbol=row.id,
        kind=kind,
        base=future.unit,
        quote=row.quote,
        tick=row.tick,
        lot=row.lot,
        contract_size=number(future.size),
        contract_unit=future.unit,
        settlement=row.quote,
        expiry=expiry,
    )
