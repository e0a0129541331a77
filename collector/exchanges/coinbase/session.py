"""One connection to COINBASE."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import batched, chain
from typing import TYPE_CHECKING, Any, override

import msgspec

from collector.exchanges.book import Book
from collector.exchanges.candles import RunningCandles
from collector.exchanges.coinbase import messages
from collector.exchanges.instruments import Instrument
from collector.exchanges.numbers import (
    UNREADABLE,
    Level,
    candle,
    is_one_sided,
    levels,
    number,
    numbers,
    quote,
    traded,
)
from collector.exchanges.protocol import (
    Break,
    Confirmed,
    Event,
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
from collector.exchanges.routes import Routes
from collector.exchanges.times import later, rfc3339, seconds
from collector.records import AnyRecord, Candle, L1Book, Ticker, Trade
from collector.times import SECOND

if TYPE_CHECKING:
    from collector.exchanges.coinbase.exchange import Coinbase

_PRODUCTS_PER_FRAME = 50
_NO_TRADES = 10 * SECOND  # nanoseconds in which a snapshot of trades follows the acknowledgement
_MOST_SKIPPED = 100  # numbers of messages that may come late
#: What is subscribed to, by our channels.
CHANNELS = {
    "trades": "market_trades",
    "ticker": "ticker",
    "l1_book": "ticker",
    "l2_book": "level2",
    "candles": "candles",
}
#: What is begun again after a loss: these send a snapshot.
_RENEWED = ("level2", "market_trades")

_BEGINNING = b'{"channel":"'


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
        self._routes = Routes(CHANNELS, subscriptions, instruments, listening_to)
        self._pending = set(subscriptions)  # neither acknowledged nor refused
        self._refused: set[Subscription] = set()
        self._flowing: set[Subscription] = set()
        self._next_number: int | None = None
        self._skipped: dict[int, None] = {}  # numbers that have not come, the last of them
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
        return [*self._subscribe(self._routes.subscriptions), _request("subscribe", "heartbeats", ())]

    @override
    def receive(self, frame: bytes, receipt: int) -> Outputs:
        begin = len(_BEGINNING)
        channel = frame[begin : frame.find(b'"', begin)].decode(errors="replace")
        if frame.startswith(_BEGINNING) and channel in messages.decode:
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
            products[CHANNELS[subscription.channel]].add(self._routes.exchange_symbol(subscription.symbol))
        return [
            _request(kind, channel, some)
            for channel, of_channel in sorted(products.items())
            for some in batched(sorted(of_channel), _PRODUCTS_PER_FRAME)
        ]

    # -- data ----------------------------------------------------------------------------------------

    def _data(self, channel: str, frame: bytes, receipt: int) -> Outputs:
        try:
            message = messages.decode[channel](frame)
            time = rfc3339(message.timestamp) if message.timestamp else receipt
            if message.timestamp:
                self._candles.hear(time)
        except UNREADABLE as error:
            about = self._routes.named_in("level2" if channel == "l2_data" else channel, frame)
            return [
                *self._missed(_number(frame)),
                Malformed(str(error), about),
                *self._books_unread(about, complete=b'"snapshot"' in frame),
            ]
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
        if self._routes.is_listening or sequence is None or sequence >= (self._next_number or 0):
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
        subscriptions = sorted((self._routes.subscriptions or self._flowing) - self._refused)
        renewed = [each for each in subscriptions if CHANNELS[each.channel] in _RENEWED]
        frames = *self._subscribe(renewed, "unsubscribe"), *self._subscribe(renewed)
        reason = f"message {sequence} came where {expected} was due"
        self._renewed.update(renewed)
        self._standing.clear()
        breaks = [Break(each, reason, renewed=CHANNELS[each.channel] in _RENEWED) for each in subscriptions]
        return [*breaks, Renew(tuple(renewed), frames)] if renewed else breaks

    def _read(self, channel: str, product: str, make: Callable[..., Outputs], *arguments: Any) -> Outputs:
        """Return what ``make(subscription, *arguments)`` makes of it for each subscription to a product."""
        carried = self._routes.carried(channel, product)
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
                part = arguments[0]
                complete = isinstance(part, messages.Book) and part.type == "snapshot"
                unread = self._books_unread((subscription,), complete=complete)
                outputs += [Malformed(str(error), (subscription,)), *unread]
        return outputs

    def _books_unread(self, about: Iterable[Subscription], *, complete: bool) -> Outputs:
        """Begin those books again that a message was about which cannot be read.

        Until they do, their changes do not matter; a message that is ``complete`` would have begun them.
        """
        books = [each for each in about if each.channel == "l2_book" and not self._routes.is_listening]
        books = [each for each in books if complete or each not in self._renewed]
        for each in books:
            self._books.pop(each.symbol, None)
        self._renewed.update(books)
        reason = "a message of the book cannot be read"
        frames = *self._subscribe(books, "unsubscribe"), *self._subscribe(books)
        return [*(Break(each, reason) for each in books), Renew(tuple(books), frames)] if books else []

    def _books_of(self, part: messages.Book, time: int, receipt: int) -> Outputs:
        return self._read("level2", part.product, self._book, part, time, receipt)

    def _book(self, subscription: Subscription, part: messages.Book, time: int, receipt: int) -> Outputs:
        bids, asks = _side(part, "bid"), _side(part, "offer")
        symbol = subscription.symbol
        if part.type == "snapshot":
            self._renewed.discard(subscription)
            self._books[symbol] = book = Book(self._exchange.id, symbol, self._exchange.options.storing)
            return [Resync(subscription), *book.begin(bids, asks, time, receipt)]
        known = self._books.get(symbol)
        return known.change(bids, asks, time, receipt) if known else ()

    def _trades_of(self, part: messages.Trades, time: int, receipt: int) -> Outputs:  # noqa: ARG002
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

    def _trade(self, subscription: Subscription, it: messages.Trade, receipt: int) -> Outputs:
        side = "sell" if it.side == "BUY" else "buy"
        start = self._exchange.id, subscription.symbol, rfc3339(it.time), receipt
        return (Trade(*start, side, traded(it.size), number(it.price), it.id),)

    def _tickers_of(self, part: messages.Tickers, time: int, receipt: int) -> Outputs:
        read = (self._read("ticker", it.product, self._ticker, it, time, receipt) for it in part.tickers)
        return list(chain.from_iterable(read))

    def _ticker(self, subscription: Subscription, it: messages.Ticker, time: int, receipt: int) -> Outputs:
        if is_one_sided(it.bid, it.ask):  # there are no best prices, which is no silence
            return (Confirmed((subscription,), "data"),)
        start = self._exchange.id, subscription.symbol, time, receipt
        if subscription.channel == "ticker":
            bid, ask = numbers(it.bid, it.ask)
            return (Ticker(*start, bid, ask),)
        return (L1Book(*start, *quote(it.bid, it.bid_size, it.ask, it.ask_size)),)

    def _candles_of(self, part: messages.Candles, time: int, receipt: int) -> Outputs:
        oldest_first = sorted(part.candles, key=lambda it: it.start)
        read = (self._read("candles", it.product, self._candle, it, time, receipt) for it in oldest_first)
        outputs = list(chain.from_iterable(read))
        if part.type == "update":
            return outputs
        return [Repeated((each,)) if isinstance(each, Candle) else each for each in outputs]

    def _candle(self, subscription: Subscription, it: messages.Candle, time: int, receipt: int) -> Outputs:
        begin = seconds(it.start)
        opened, last, high, low, volume = candle(it.open, it.close, it.high, it.low, it.volume)
        start = self._exchange.id, subscription.symbol, time, receipt
        span = begin, later(begin, 300), "5m", None
        closed = self._candles.take(Candle(*start, *span, opened, last, high, low, volume, None))
        return (closed,) if closed else ()

    # -- the rest ------------------------------------------------------------------------------------

    def _acknowledged(self, events: Sequence[messages.Subscriptions], receipt: int) -> Outputs:
        """The exchange says what stands by now, all of it each time."""
        standing = {
            each
            for event in events
            for channel, products in event.subscriptions.items()
            for product in products
            for each in self._routes.carried(channel, product)
        }
        trades = {each for each in self._renewed & standing if each.channel == "trades"}
        self._standing = {each: self._standing.get(each, receipt) for each in trades}
        new = standing & self._pending
        self._pending -= new
        return (Confirmed(tuple(sorted(new)), "acknowledgement"),) if new else (Ignored("subscriptions"),)

    def _control(self, frame: bytes, receipt: int) -> Outputs:
        try:
            it = messages.other(frame)
        except UNREADABLE as error:
            return (Malformed(str(error)),)
        with suppress(*UNREADABLE):
            self._candles.hear(rfc3339(it.timestamp))
        if it.type == "error":
            return self._error(it.message)
        if not it.channel:
            return (Malformed("neither a channel's data nor an error"),)
        if it.channel in messages.decode:
            return self._data(it.channel, frame, receipt)
        return [*self._missed(it.number), Ignored(it.channel)]

    def _error(self, text: str) -> Outputs:
        """One product that is refused costs the whole request: the rest of its channel is asked for again."""
        words = set(text.replace(",", " ").replace(":", " ").replace("[", " ").replace("]", " ").split())
        unanswered = self._pending | self._renewed
        about = {each for each in unanswered if self._routes.exchange_symbol(each.symbol) in words}
        refused = {each for each in about if CHANNELS[each.channel] in words} or about
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
        return messages.other(frame).number
    except UNREADABLE:
        return None


def _side(part: messages.Book, side: str) -> list[Level]:
    return levels([(level.price, level.size) for level in part.updates if level.side == side])
