"""What a topic carries: how its messages become records."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, override

import msgspec

from collector.exchanges.book import Book, Side
from collector.exchanges.bybit import messages
from collector.exchanges.instruments import check_symbol
from collector.exchanges.numbers import (
    UNREADABLE,
    ZEROS,
    Level,
    MalformedError,
    amount,
    candle,
    is_one_sided,
    number,
    number_or_none,
    quote,
    sides,
    traded,
)
from collector.exchanges.protocol import (
    Break,
    Confirmed,
    Event,
    Ignored,
    Malformed,
    Outputs,
    Renew,
    Resync,
    Subscription,
)
from collector.exchanges.times import milliseconds, nanoseconds
from collector.records import (
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
from collector.times import MILLISECOND

if TYPE_CHECKING:
    from collector.exchanges.bybit.exchange import Bybit

INTERVALS = {
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
_OURS = {theirs: ours for ours, theirs in INTERVALS.items()}


class Stream:
    """What one topic carries: of one symbol or, of options' trades, of many."""

    data: ClassVar[Any]

    def __init__(self, exchange: "Bybit", topic: str, carried: Mapping[str, Sequence[str]]) -> None:
        self.exchange, self.topic = exchange.id, topic
        self.options = exchange.options
        self.symbols = carried  # channels by symbol
        self.subscriptions = tuple(Subscription(it, symbol) for symbol, of in carried.items() for it in of)
        self.symbol, self.channels = next(iter(carried.items()))
        self.exchange_symbol = topic.rpartition(".")[2]
        self.decode = _decoder(self.data)
        self.flows = False  # whether data has come

    def read(self, message: messages.Message[Any], receipt: int) -> Outputs:
        """Return what a message is stored as. Raises what ``UNREADABLE`` lists."""
        raise NotImplementedError

    def renew(self) -> None:
        """Have a complete book follow the next change, where it is a book."""

    def unread(self, *, complete: bool) -> Outputs:  # noqa: ARG002 - of most nothing follows
        """Return what follows from a message that cannot be read: a book has to begin again.

        Until it does, its changes do not matter; a message that is ``complete`` would have begun it.
        """
        return ()


@cache
def _decoder(data: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(messages.Message[data]).decode


class Trades(Stream):
    """Single trades."""

    data = list[messages.Trade]

    @override
    def read(self, message: messages.Message[list[messages.Trade]], receipt: int) -> Outputs:
        found: list[AnyRecord | Event] = []
        for it in message.data:
            symbol = self._named(it.symbol)
            if symbol is None:
                found.append(Ignored(f"{self.topic} {it.symbol}"))
                continue
            size, price = traded(it.amount), number(it.price)
            start = self.exchange, symbol, it.time * MILLISECOND, receipt
            found.append(Trade(*start, it.side.lower(), size, price, it.id))
        return found

    def _named(self, exchange_symbol: str) -> str | None:
        check_symbol(exchange_symbol, self.exchange_symbol)
        return self.symbol


class OptionTrades(Trades):
    """Trades of all options of a currency."""

    names: Mapping[str, str] | None = None  # by the exchange's; None takes all

    @override
    def _named(self, exchange_symbol: str) -> str | None:
        if self.names is not None:
            return self.names.get(exchange_symbol)
        is_option = exchange_symbol.startswith(f"{self.exchange_symbol}-")
        return exchange_symbol if is_option else super()._named(exchange_symbol)


class Books(Stream):
    """Changes of a book that are numbered: what does not follow breaks it.

    Attributes:
        waits: whether its changes mean nothing until a complete book comes: it is subscribed to again, or
            nobody subscribes.
    """

    data = messages.Book

    def __init__(self, exchange: "Bybit", topic: str, carried: Mapping[str, Sequence[str]]) -> None:
        super().__init__(exchange, topic, carried)
        self._book: Book | None = None
        self._number: int | None = None
        self.waits = False

    @override
    def read(self, message: messages.Message[messages.Book], receipt: int) -> Outputs:
        it, time = message.data, message.time(receipt)
        check_symbol(it.symbol, self.exchange_symbol)
        bids, asks = sides(it.bids, it.asks)
        (subscription,) = self.subscriptions
        if _begins(message):
            self._book = book = Book(self.exchange, self.symbol, self.options.storing)
            self._number, self.waits = it.number, False
            return [Resync(subscription), *book.begin(bids, asks, time, receipt)]
        if self._book is None:
            return () if self.waits else [self._again()]  # what it begins with is lost
        if _is_repeated(it.number, self._number):
            return ()  # it was sent again
        if not _follows(it.number, self._number):
            return self._break(f"update {it.number} came after {self._number}")
        self._number = it.number
        return self._book.change(bids, asks, time, receipt)

    @override
    def renew(self) -> None:
        if self._book:
            self._book.renew()

    @override
    def unread(self, *, complete: bool) -> Outputs:
        if self.waits and not complete:
            return ()
        return self._break("a message of the book cannot be read")

    def _break(self, reason: str) -> Outputs:
        self._book = None
        return [Break(self.subscriptions[0], reason), self._again()]

    def _again(self) -> Renew:
        self.waits = True
        return Renew(self.subscriptions, _again(self.topic))


def _begins(message: messages.Message[messages.Book]) -> bool:
    """Return whether a book is complete, or begins again: 1 does. Raises MalformedError."""
    if message.type is None:
        raise MalformedError("a book that is neither a snapshot nor a delta")
    return message.type == "snapshot" or message.data.number == 1


def _time_or_none(text: str | None) -> int | None:
    return milliseconds(text) if text and text != "0" else None


def _amount_or_none(text: str) -> str | None:
    return amount(text) if text else None


def _is_repeated(number: int | None, last: int | None) -> bool:
    return number is not None and number == last


def _follows(number: int | None, last: int | None) -> bool:
    """Return whether an update follows the last one, or has no number to tell it by."""
    return number is None or last is None or number == last + 1


def _again(topic: str) -> tuple[str, ...]:
    """Return the frames that subscribe again."""
    return tuple(messages.request(operation, [topic]) for operation in ("unsubscribe", "subscribe"))


class BestPrices(Stream):
    """The book of one level; where nothing changes, the same is sent again each 3 s.

    Its updates are numbered by one, too: by the documentation (orderbook, ``u``) and messages of 2023.
    """

    data = messages.Book

    def __init__(self, exchange: "Bybit", topic: str, carried: Mapping[str, Sequence[str]]) -> None:
        super().__init__(exchange, topic, carried)
        self._bids, self._asks = Side(best_is_highest=True), Side(best_is_highest=False)
        self._number: int | None = None
        self._broken = False

    @override
    def read(self, message: messages.Message[messages.Book], receipt: int) -> Outputs:
        it = message.data
        check_symbol(it.symbol, self.exchange_symbol)
        bids, asks = sides(it.bids, it.asks)
        if _begins(message):
            return self._begin(it, bids, asks, message.time(receipt), receipt)
        if self._broken:
            return ()
        if _is_repeated(it.number, self._number):
            return [Confirmed(self.subscriptions, "data")]
        if not _follows(it.number, self._number):
            return self._break(f"update {it.number} came after {self._number}")
        self._number = it.number
        self._bids.change(bids)
        self._asks.change(asks)
        return self._best(message.time(receipt), receipt)

    def _begin(
        self, it: messages.Book, bids: Sequence[Level], asks: Sequence[Level], time: int, receipt: int
    ) -> Outputs:
        if _is_repeated(it.number, self._number) and not self._broken:
            return [Confirmed(self.subscriptions, "data")]
        begun_again = [Resync(each) for each in self.subscriptions] if self._broken else []
        self._number, self._broken = it.number, False
        self._bids.replace(bids)
        self._asks.replace(asks)
        return [*begun_again, *self._best(time, receipt)]

    def _best(self, time: int, receipt: int) -> Outputs:
        bids, asks = list(self._bids.best(1).values()), list(self._asks.best(1).values())
        if not bids or not asks:  # there are no best prices, which is no silence
            return [Confirmed(self.subscriptions, "data")]
        return _best(self, time, receipt, (*bids[0], *asks[0]))

    @override
    def unread(self, *, complete: bool) -> Outputs:
        if self._broken and not complete:
            return ()
        return self._break("a message of the best prices cannot be read")

    def _break(self, reason: str) -> Outputs:
        self._broken = True
        breaks = [Break(each, reason, renewed=True) for each in self.subscriptions]
        return [*breaks, Renew(self.subscriptions, _again(self.topic))]


_CHECKS: Mapping[str, Callable[[str], object]] = {
    "symbol": str,
    "next_funding_time": _time_or_none,
    **dict.fromkeys(("open_interest", "bid_size", "ask_size"), _amount_or_none),
}


class Tickers(Stream):
    """Everything else of a contract, of which changes are sent."""

    data = messages.Ticker

    def __init__(self, exchange: "Bybit", topic: str, carried: Mapping[str, Sequence[str]]) -> None:
        super().__init__(exchange, topic, carried)
        self._state = messages.Ticker("")

    @override
    def read(self, message: messages.Message[messages.Ticker], receipt: int) -> Outputs:
        it, state = message.data, self._state
        check_symbol(it.symbol, self.exchange_symbol)
        found: list[AnyRecord | Event] = list(self._take(it))
        start = self.exchange, self.symbol, message.time(receipt), receipt
        if "funding" in self.channels and (it.funding_rate or it.mark_price or it.next_funding_time):
            mark, rate = number_or_none(state.mark_price), number_or_none(state.funding_rate)
            found.append(Funding(*start, mark, rate, _time_or_none(state.next_funding_time), None))
        if "open_interest" in self.channels and it.open_interest:
            found.append(OpenInterest(*start, number(it.open_interest)))
        if "index" in self.channels and it.index_price:
            found.append(self._index(number(it.index_price), start))
        if it.bid_price and it.ask_price:
            found += self._quote(it, it.bid_price, it.ask_price, start)
        return found

    def _index(self, price: str, start: tuple[str, str, int, int]) -> AnyRecord | Event:
        """Return the index price; zero, as a contract without an index may have it, is none."""
        if price in ZEROS:
            return Confirmed(tuple(each for each in self.subscriptions if each.channel == "index"), "data")
        return Index(*start, price)

    def _quote(
        self, it: messages.Ticker, bid: str, ask: str, start: tuple[str, str, int, int]
    ) -> list[AnyRecord | Event]:
        """Return the best prices of an option; without their sizes they are a ticker alone.

        A price of zero stands for a side on which there is none.
        """
        if is_one_sided(number(bid), number(ask)):
            quotes = tuple(each for each in self.subscriptions if each.channel in ("ticker", "l1_book"))
            return [Confirmed(quotes, "data")] if quotes else []
        if it.bid_size and it.ask_size:
            return [*_best(self, *start[2:], quote(bid, it.bid_size, ask, it.ask_size))]
        l1_books = tuple(each for each in self.subscriptions if each.channel == "l1_book")
        found: list[AnyRecord | Event] = []
        if "ticker" in self.channels:
            found.append(Ticker(*start, number(bid), number(ask)))
        if l1_books:
            found.append(Malformed("the best prices have no sizes", l1_books))
        return found

    def _take(self, it: messages.Ticker) -> Iterator[Event]:
        """Take over what changed; what cannot be read is unknown from then on, and costs itself alone."""
        for field in it.__struct_fields__:
            value = getattr(it, field)
            if value is None:
                continue
            try:
                _CHECKS.get(field, number_or_none)(value)
            except UNREADABLE as error:
                yield Malformed(f"{field}: {error}", self.subscriptions)
                setattr(it, field, None)
                value = None
            setattr(self._state, field, value)


class Liquidations(Stream):
    """Liquidations."""

    data = list[messages.Liquidation]

    @override
    def read(self, message: messages.Message[list[messages.Liquidation]], receipt: int) -> Outputs:
        sent = message.time(receipt)
        return [self._record(it, nanoseconds(it.time, sent), receipt) for it in message.data]

    def _record(self, it: messages.Liquidation, time: int, receipt: int) -> Liquidation:
        check_symbol(it.symbol, self.exchange_symbol)
        quantity, price = traded(it.quantity), number(it.price)
        start = self.exchange, self.symbol, time, receipt
        # Buy: a long position was liquidated, so the order sold
        return Liquidation(*start, "sell" if it.side == "Buy" else "buy", quantity, price, None, None)


class Candles(Stream):
    """Candles; the finished ones are stored."""

    data = list[messages.Kline]

    @override
    def read(self, message: messages.Message[list[messages.Kline]], receipt: int) -> Outputs:
        time = message.time(receipt)
        return [self._record(it, time, receipt) for it in message.data if it.confirm]

    def _record(self, it: messages.Kline, time: int, receipt: int) -> Candle:
        if it.interval not in _OURS or it.interval != self.topic.split(".")[1]:
            raise MalformedError(f"a candle of another interval, {it.interval!r}")
        if it.start >= it.end:
            raise MalformedError("a candle that ends before it begins")
        opened, last, high, low, volume = candle(it.open, it.close, it.high, it.low, it.volume)
        start = self.exchange, self.symbol, time, receipt
        span = it.start * MILLISECOND, it.end * MILLISECOND, _OURS[it.interval], None
        return Candle(*start, *span, opened, last, high, low, volume, True)


def _best(stream: Stream, time: int, receipt: int, prices: Sequence[str]) -> list[AnyRecord]:
    """Return the best prices as the channels of a stream have them."""
    bid, bid_size, ask, ask_size = prices
    start = stream.exchange, stream.symbol, time, receipt
    found: list[AnyRecord] = []
    if "ticker" in stream.channels:
        found.append(Ticker(*start, bid, ask))
    if "l1_book" in stream.channels:
        found.append(L1Book(*start, bid, bid_size, ask, ask_size))
    return found


READERS: Mapping[str, type[Stream]] = {
    "publicTrade": Trades,
    "orderbook": Books,
    "tickers": Tickers,
    "kline": Candles,
    "allLiquidation": Liquidations,
}


def reader(topic: str, market: str) -> type[Stream]:
    """Return what reads a topic of a market; without one, it may be of any."""
    if topic.startswith("orderbook.1."):
        return BestPrices
    word = topic.partition(".")[0]
    return OptionTrades if word == "publicTrade" and market in ("option", "") else READERS[word]
