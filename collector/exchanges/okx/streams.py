"""What an argument of a subscription carries: how the messages of each channel become records."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, override

import msgspec

from collector.exchanges.book import Book
from collector.exchanges.instruments import check_symbol
from collector.exchanges.numbers import (
    UNREADABLE,
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
    Malformed,
    Outputs,
    Refused,
    Renew,
    Repeated,
    Request,
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
_MOST_WAITING = 1000  # changes of a book that wait for its snapshot: those of 100 s at least
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

    def subscribed(self) -> None:
        """Note that the exchange acknowledged a subscription: what comes from now on belongs to it."""

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
        is_repeated = time < self.since and 0 <= receipt - self.since < _REPEATING  # the clock may step back
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
        state = *_state(part, receipt), receipt
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

    It begins with the snapshot that the stream sends first. Changes without one wait for a snapshot by REST,
    and are joined to it by their numbers: OKX has announced that it will send none ("Delist initial snapshot
    and checksum field in order book channels", okx.com/docs-v5/log_en, 2026-02-12: in early August 2026).
    Not verified: whether it does so, and that the answer has the ``seqId`` which that page joins by, and the
    page of the request does not list.
    """

    part = messages.Book
    ask: Callable[["Books"], Request]  # makes the request for a snapshot

    def __init__(self, exchange: "Okx", argument: Argument, subscriptions: Iterable[Subscription]) -> None:
        super().__init__(exchange, argument, subscriptions)
        self._book: Book | None = None
        self._last: int | None = None
        self._waits = False  # it broke, and is subscribed to again
        self._waiting: deque[messages.Book] = deque(maxlen=_MOST_WAITING)  # changes without a book
        self._request: int | None = None
        self._by_request = False  # it began with an answer: the stream has no snapshots
        self._joined = True  # whether a change followed the answer
        self._tried = False  # to subscribe again, for the stream's own snapshot

    @override
    def read(self, part: messages.Book, action: str, receipt: int) -> Outputs:
        if action == "snapshot":
            self._waits = self._by_request = False
            self._joined = True
            return self._begin(part, receipt)
        if action != "update":
            raise MalformedError(f"a book that is neither a snapshot nor an update: {action!r}")
        if self._book:
            return self._change(self._book, part, receipt)
        if self._waits or None in (part.prev_seq_id, part.seq_id):
            return ()  # it belongs to a book that broke, or cannot be joined
        _state(part, receipt)  # what waits can be read
        self._waiting.append(part)
        return self._ask()

    @override
    def subscribed(self) -> None:
        self._waits = False

    def answer(self, status: int, body: bytes, receipt: int) -> Outputs:
        """Begin with the snapshot; the changes that have come since follow it, with its receipt."""
        self._request = None
        if self._book or self._waits:
            return ()  # the stream had one, or is about to have one
        if status != 200:
            return self._ask()
        try:
            answer = messages.snapshot(body)
            if answer.code != "0":
                return self._refused(answer)
            return self._join(answer, receipt) or self._ask()
        except UNREADABLE as error:
            return [Malformed(f"snapshot of the book: {error}", self.subscriptions), *self._try_the_stream()]

    def failed(self) -> Outputs:
        """Ask for the snapshot again, where it is still missing."""
        self._request = None
        return () if self._book or self._waits else self._ask()

    @override
    def renew(self) -> None:
        if self._book:
            self._book.renew()

    @override
    def unread(self, *, complete: bool) -> Outputs:
        if not complete and (self._waits or self._request is not None):
            return ()  # what waits for an answer does not follow without it
        return self._break("a message of the book cannot be read")

    def _ask(self) -> Outputs:
        if self._request is not None:
            return ()
        request = self.ask(self)
        self._request = request.id
        return [request]

    def _try_the_stream(self) -> Outputs:
        """Subscribe once more, for the stream's own snapshot; after that ask again."""
        if self._tried:
            return self._ask()
        self._tried = self._waits = True
        self._waiting.clear()
        return [Send(frame) for frame in self._again()]

    def _refused(self, answer: messages.Snapshot) -> Outputs:
        """Ask again: it may be given later. Codes that begin with 500 are those of a busy service."""
        if answer.code.startswith("500"):
            return self._ask()
        reason = f"no snapshot of the book: {answer.msg} (code {answer.code})"
        return [Refused(self.subscriptions, reason), *self._ask()]

    def _join(self, answer: messages.Snapshot, receipt: int) -> Outputs:
        """Begin with an answer and the changes since; with nothing where it is too old."""
        if len(answer.data) != 1 or answer.data[0].seq_id is None:
            raise MalformedError("it is not one book with its seqId")
        (snapshot,) = answer.data
        later = _since(snapshot.seq_id, list(self._waiting))
        if later is None:
            return ()
        found = [*self._begin(snapshot, receipt)]
        self._by_request, self._joined = True, False
        for part in later:
            found += self.read(part, "update", receipt)
        return found

    def _begin(self, part: messages.Book, receipt: int) -> Outputs:
        state = _state(part, receipt)
        (subscription,) = self.subscriptions
        self._book = Book(self.exchange.id, subscription.symbol, self.exchange.options.storing)
        self._last = part.seq_id
        self._waiting.clear()
        return [Resync(subscription), *self._book.begin(*state, receipt)]

    def _change(self, book: Book, part: messages.Book, receipt: int) -> Outputs:
        bids, asks, time = _state(part, receipt)
        if not self._joined and _is_before(part, self._last):
            return ()  # the snapshot has it
        joins = not self._joined and _reaches_over(part, self._last)
        follows = joins or None in (part.prev_seq_id, self._last) or part.prev_seq_id == self._last
        if part.seq_id == self._last and not follows:
            return ()  # it was sent again
        if not follows:
            return self._break(f"{part.prev_seq_id} is said to come before, {self._last} did", part)
        self._last, self._joined = part.seq_id, True
        if not bids and not asks:  # sent where nothing has changed for 60 s
            return [Confirmed(self.subscriptions, "data")]
        return book.change(bids, asks, time, receipt)

    def _break(self, reason: str, *parts: messages.Book) -> Outputs:
        """Begin again: with an answer and the ``parts`` that do not follow, or with the stream's snapshot."""
        self._book = None
        self._waiting.clear()
        broken = Break(self.subscriptions[0], reason)
        if self._by_request:
            self._waiting.extend(parts)
            return [broken, *self._ask()]
        self._waits = True
        return [broken, Renew(self.subscriptions, self._again())]

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


def _reaches_over(part: messages.Book, last: int | None) -> bool:
    """Return whether a change is the first after the book of the number ``last``, or has it within."""
    before, number = part.prev_seq_id, part.seq_id
    if before is None or number is None or last is None:
        return False
    return before == last or before < last < number


def _is_before(part: messages.Book, last: int | None) -> bool:
    """Return whether the book of the number ``last`` has a change; not where the numbers begin again."""
    before, number = part.prev_seq_id, part.seq_id
    if before is None or number is None or last is None:
        return False
    return before < last and before <= number <= last


def _since(last: int | None, parts: Sequence[messages.Book]) -> Sequence[messages.Book] | None:
    """Return the changes that come after the book of the number ``last``; None where some are missing."""
    for place in reversed(range(len(parts))):
        if parts[place].seq_id == last:
            return parts[place + 1 :]
        if _reaches_over(parts[place], last):
            return parts[place:]
    return [] if all(_is_before(part, last) for part in parts) else None


def _state(part: messages.Book, receipt: int) -> tuple[list[Level], list[Level], int]:
    """Return the bids and asks of a message, and its time."""
    return _side(part.bids), _side(part.asks), _time(part.ts, receipt)


def _side(side: list[messages.Level]) -> list[Level]:
    return levels([(price, size) for price, size, _, _ in side])
