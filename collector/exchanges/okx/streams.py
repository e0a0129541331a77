"""What an argument of a subscription carries: how the messages of each channel become records."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, override

import msgspec

from collector.exchanges.book import Book
from collector.exchanges.instruments import check_symbol
from collector.exchanges.numbers import (
    Level,
    MalformedError,
    amount,
    candle,
    levels,
    number,
    number_or_none,
    traded,
)
from collector.exchanges.okx import messages
from collector.exchanges.okx.messages import Argument
from collector.exchanges.protocol import (
    Break,
    Confirmed,
    Ignored,
    Outputs,
    Renew,
    Repeated,
    Resync,
    Send,
    Subscription,
)
from collector.exchanges.times import later, milliseconds
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
from collector.times import SECOND

if TYPE_CHECKING:
    from collector.exchanges.okx.exchange import Okx

_REPEATING = 10 * SECOND  # nanoseconds after a subscription in which trades from before it may come
_DAY = 24 * 3600
INTERVALS = {
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


class Stream:
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

    def unread(self, *, complete: bool) -> Outputs:  # noqa: ARG002 - of most nothing follows
        """Return what follows from a message that cannot be read: a book has to begin again.

        Until it does, its changes do not matter; a message that is ``complete`` would have begun it.
        """
        return ()

    def symbols(self) -> Sequence[str]:
        """Return the symbols that it is of."""
        return [subscription.symbol for subscription in self.subscriptions]


@cache
def _decoder(part: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(messages.Data[part]).decode


class Trades(Stream):
    """Single trades.

    Those from before the subscription come right after it. Later ones are live, whatever our clock says.
    """

    part = messages.Trade

    @override
    def read(self, part: messages.Trade, action: str, receipt: int) -> Outputs:
        check_symbol(part.inst_id, self.argument.inst_id)
        time, size, price = milliseconds(part.ts), traded(part.sz), number(part.px)
        start = self.exchange.id, self.subscriptions[0].symbol, time, receipt
        trade = Trade(*start, part.side, size, price, part.trade_id)
        is_repeated = time < self.since and receipt - self.since < _REPEATING
        return (Repeated((trade,)),) if is_repeated else (trade,)


class BestPrices(Stream):
    """The best prices, for ``ticker`` and ``l1_book``."""

    part = messages.Book
    _last: int | None = None

    @override
    def read(self, part: messages.Book, action: str, receipt: int) -> Outputs:
        if part.seq_id is not None and part.seq_id == self._last:
            return ()  # it was sent again
        self._last = part.seq_id
        bids, asks = _side(part.bids), _side(part.asks)
        if not bids or not asks:  # there are no best prices, which is no silence
            return [Confirmed(self.subscriptions, "data")]
        (bid, bid_size), (ask, ask_size) = bids[0], asks[0]
        found: list[AnyRecord] = []
        for channel, symbol in self.subscriptions:
            start = self.exchange.id, symbol, _time(part.ts, receipt), receipt
            if channel == "ticker":
                found.append(Ticker(*start, bid, ask))
            elif channel == "l1_book":
                found.append(L1Book(*start, bid, bid_size, ask, ask_size))
        return found


class WholeBooks(Stream):
    """A few best levels, all of them each time."""

    part = messages.Book

    def __init__(self, exchange: "Okx", argument: Argument, subscriptions: Iterable[Subscription]) -> None:
        super().__init__(exchange, argument, subscriptions)
        self._book = Book(exchange.id, self.subscriptions[0].symbol, exchange.options.storing)
        self._broken = False

    @override
    def read(self, part: messages.Book, action: str, receipt: int) -> Outputs:
        state = _side(part.bids), _side(part.asks), _time(part.ts, receipt), receipt
        if self._broken:
            self._broken = False
            return [Resync(self.subscriptions[0]), *self._book.begin(*state)]
        return self._book.show(*state) if self.flows else self._book.begin(*state)

    @override
    def unread(self, *, complete: bool) -> Outputs:
        """Return that something is missing until the next one, which is all of them again."""
        self._broken = True
        return (Break(self.subscriptions[0], "a message of the book cannot be read"),)

    @override
    def renew(self) -> None:
        self._book.renew()


class Books(Stream):
    """Changes of a book that name the one before: what does not follow breaks it.

    Attributes:
        begun: whether a complete book has come, or nothing is to be done if none does.
    """

    part = messages.Book

    def __init__(self, exchange: "Okx", argument: Argument, subscriptions: Iterable[Subscription]) -> None:
        super().__init__(exchange, argument, subscriptions)
        self._book: Book | None = None
        self._last: int | None = None
        self._waits = False  # it broke, and is subscribed to again
        self.begun = False

    @override
    def read(self, part: messages.Book, action: str, receipt: int) -> Outputs:
        bids, asks, time = _side(part.bids), _side(part.asks), _time(part.ts, receipt)
        (subscription,) = self.subscriptions
        if action == "snapshot":
            self._book = book = Book(self.exchange.id, subscription.symbol, self.exchange.options.storing)
            self._last, self._waits, self.begun = part.seq_id, False, True
            return [Resync(subscription), *book.begin(bids, asks, time, receipt)]
        if action != "update":
            raise MalformedError(f"a book that is neither a snapshot nor an update: {action!r}")
        follows = None in (part.prev_seq_id, self._last) or part.prev_seq_id == self._last
        if not self.begun and not self._waits:  # what it begins with is lost
            self.begun = True
            return [*map(Send, self._again())]
        if self._book is None or (part.seq_id == self._last and not follows):
            return ()  # it belongs to a book that broke, or was sent again
        if not follows:
            return self._break(f"{part.prev_seq_id} is said to come before, {self._last} did")
        self._last = part.seq_id
        if not bids and not asks:  # sent where nothing has changed for 60 s
            return [Confirmed((subscription,), "data")]
        return self._book.change(bids, asks, time, receipt)

    @override
    def renew(self) -> None:
        if self._book:
            self._book.renew()

    @override
    def unread(self, *, complete: bool) -> Outputs:
        if self._waits and not complete:
            return ()
        return self._break("a message of the book cannot be read")

    def _break(self, reason: str) -> Outputs:
        self._book, self._waits = None, True
        return [Break(self.subscriptions[0], reason), Renew(self.subscriptions, self._again())]

    def _again(self) -> tuple[str, ...]:
        """Return the frames that subscribe again."""
        return tuple(messages.request(kind, [self.argument]) for kind in ("unsubscribe", "subscribe"))


class FundingRates(Stream):
    """The rate of the coming settlement."""

    part = messages.Funding

    @override
    def read(self, part: messages.Funding, action: str, receipt: int) -> Outputs:
        check_symbol(part.inst_id, self.argument.inst_id)
        time = _time(part.ts, receipt)
        rates = number_or_none(part.funding_rate), number_or_none(part.next_funding_rate)
        start = self.exchange.id, self.subscriptions[0].symbol, time, receipt
        settlement = milliseconds(part.funding_time) if part.funding_time else None
        return (Funding(*start, None, rates[0], settlement, rates[1]),)


class OpenInterests(Stream):
    """Open contracts."""

    part = messages.OpenInterest

    @override
    def read(self, part: messages.OpenInterest, action: str, receipt: int) -> Outputs:
        check_symbol(part.inst_id, self.argument.inst_id)
        symbol = self.subscriptions[0].symbol
        return (OpenInterest(self.exchange.id, symbol, _time(part.ts, receipt), receipt, amount(part.oi)),)


class Indices(Stream):
    """An index, for every instrument that follows it."""

    part = messages.Index

    @override
    def read(self, part: messages.Index, action: str, receipt: int) -> Outputs:
        check_symbol(part.inst_id, self.argument.inst_id)
        price, time = number(part.idx_px), _time(part.ts, receipt)
        return [Index(self.exchange.id, symbol, time, receipt, price) for symbol in self.symbols()]


class LiquidationOrders(Stream):
    """Liquidations of all instruments of a type."""

    part = messages.Liquidations

    def __init__(self, exchange: "Okx", argument: Argument, subscriptions: Iterable[Subscription]) -> None:
        super().__init__(exchange, argument, subscriptions)
        self.names: dict[str, str] | None = None  # by the exchange's; None takes all

    @override
    def read(self, part: messages.Liquidations, action: str, receipt: int) -> Outputs:
        symbol = part.inst_id if self.names is None else self.names.get(part.inst_id)
        if symbol is None:
            return (Ignored(f"liquidation-orders {part.inst_id}"),)
        return [self._record(symbol, detail, receipt) for detail in part.details]

    def _record(self, symbol: str, it: messages.LiquidationDetail, receipt: int) -> Liquidation:
        quantity, price = traded(it.sz), number(it.bk_px)
        start = self.exchange.id, symbol, _time(it.ts, receipt), receipt
        return Liquidation(*start, it.side, quantity, price, None, None)


class Candles(Stream):
    """Candles; the finished ones are stored."""

    part = list[str]  # begin, open, high, low, close, volume, two more volumes, whether it is closed

    @override
    def read(self, part: list[str], action: str, receipt: int) -> Outputs:
        if len(part) < 9:
            raise MalformedError("a candle of fewer than nine fields")
        if part[8] != "1":
            return ()
        begin, interval = milliseconds(part[0]), self.argument.channel.removeprefix("candle")
        if interval not in INTERVALS:
            raise MalformedError(f"a candle of the unknown interval {interval!r}")
        opened, high, low, last, volume = part[1:6]
        opened, last, high, low, volume = candle(opened, last, high, low, volume)
        stop = later(begin, INTERVALS[interval])
        start = self.exchange.id, self.subscriptions[0].symbol, stop, receipt
        return (Candle(*start, begin, stop, interval, None, opened, last, high, low, volume, True),)


#: What reads a channel of the exchange's.
READERS: Mapping[str, type[Stream]] = {
    "trades-all": Trades,
    "bbo-tbt": BestPrices,
    "books": Books,
    "books5": WholeBooks,
    "funding-rate": FundingRates,
    "open-interest": OpenInterests,
    "index-tickers": Indices,
    "liquidation-orders": LiquidationOrders,
}


def _time(text: str | None, receipt: int) -> int:
    """Return the time of a message; its receipt where it has none."""
    return receipt if text is None else milliseconds(text)


def _side(side: list[messages.Level]) -> list[Level]:
    return levels([(price, size) for price, size, _, _ in side])
