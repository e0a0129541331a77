"""Streams of the BINANCE family: how the messages of each become records."""

from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, override

import msgspec

from collector import records
from collector.exchanges.binance import messages
from collector.exchanges.book import Book, Storing
from collector.exchanges.numbers import (
    UNREADABLE,
    Level,
    MalformedError,
    candle,
    is_one_sided,
    number,
    number_or_none,
    numbers,
    quote,
    raw_sides,
    traded,
)
from collector.exchanges.protocol import (
    Break,
    Confirmed,
    Malformed,
    Notice,
    Outputs,
    Refused,
    Request,
    Resync,
    Subscription,
)
from collector.exchanges.quotes import NumberedBook, NumberedL1Book, NumberedTicker
from collector.exchanges.times import nanoseconds
from collector.times import MILLISECOND

_UNREAD = "a message of the book cannot be read"
_QUOTES_REMEMBERED = 16  # numbers of the last best prices
_MOST_WAITING = 1000  # updates of a book that wait for its snapshot
_MOST_BEHIND = 20  # updates that wait for the connection before to get as far
#: Statuses of HTTP below 500 that say: later. 403 is the firewall's, which may limit rates as well
#: (developers.binance.com/docs/binance-spot-api-docs/rest-api/http-return-codes, 2026-11-28).
_TRANSIENT = frozenset({403, 408, 418, 429})


#: What is known of a forced order; None for what is not.
_STATUSES: Mapping[str, str] = {
    "FILLED": "filled",
    **dict.fromkeys(("NEW", "PARTIALLY_FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH"), "unfilled"),
}


class Place(msgspec.Struct, frozen=True):
    """What a stream belongs to.

    Attributes:
        exchange: id of the exchange.
        channels, symbol: what the stream carries, in cryptofeed's names.
        exchange_symbol: the symbol in the exchange's.
        storing: how books are stored.
        request: makes the request for a snapshot of a book.
        chained: each update of a book names the one before it.
        interval: of candles, where the stream's name says it.
    """

    exchange: str
    symbol: str
    exchange_symbol: str
    channels: tuple[str, ...]
    storing: Storing
    request: "Callable[[Books], Request]"
    chained: bool = False
    interval: str = ""


@cache
def _decoders(message: Any) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """Return what decodes a message as combined streams send it, and as a bare one does."""
    return msgspec.json.Decoder(messages.Combined[message]).decode, msgspec.json.Decoder(message).decode


class Stream:
    """One stream of a connection."""

    message: ClassVar[Any]

    def __init__(self, place: Place) -> None:
        self.exchange, self.symbol = place.exchange, place.symbol
        self.exchange_symbol = place.exchange_symbol
        self.subscriptions = tuple(Subscription(channel, place.symbol) for channel in place.channels)
        self.combined, self.bare = _decoders(self.message)
        self.flows = False  # whether data has come
        self.word = ""  # in its name

    def read(self, message: Any, receipt: int) -> Outputs:
        """Return what a message, received at ``receipt``, is stored as. Raises MalformedError."""
        raise NotImplementedError

    def follow(self, before: "Stream") -> None:
        """Begin where the same stream of an earlier connection is, where that saves a request."""

    def renew(self) -> None:
        """Have a complete book follow the next change, where it is a book."""

    def unread(self) -> Outputs:
        """Return what follows from a message that cannot be read: a book has to begin again."""
        return ()


class Trades(Stream):
    """Single trades."""

    message = messages.Trade

    @override
    def read(self, message: messages.Trade, receipt: int) -> Outputs:
        side = "sell" if message.buyer_is_maker else "buy"
        size, price = traded(message.amount), number(message.price)
        time, identity = message.time * MILLISECOND, str(message.id)
        return (records.Trade(self.exchange, self.symbol, time, receipt, side, size, price, identity),)


class AggregateTrades(Trades):
    """Fills of one order at one price, as one trade."""

    message = messages.AggregateTrade


class Quotes(Stream):
    """The best prices, for ``ticker`` and ``l1_book``."""

    message = messages.Quote

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._ticker, self._l1_book = "ticker" in place.channels, "l1_book" in place.channels
        self._l1_books = tuple(each for each in self.subscriptions if each.channel == "l1_book")
        self._last = -1
        self._numbers: deque[int] = deque(maxlen=_QUOTES_REMEMBERED)

    @override
    def read(self, message: messages.Quote, receipt: int) -> Outputs:
        if (update := message.number) is not None:
            if update <= self._last and update in self._numbers:
                return ()  # it was sent again
            self._last = max(update, self._last)
            self._numbers.append(update)
        bid, ask = message.bid, message.ask
        if (bid < "1" or ask < "1") and is_one_sided(bid, ask):  # as texts: it is faster than to look closer
            return (Confirmed(self.subscriptions, "data"),)  # there are no best prices, which is no silence
        time = receipt if message.time is None else message.time * MILLISECOND
        place = self.exchange, self.symbol, time, receipt
        found: list[records.AnyRecord] = []
        if self._ticker:
            bid, ask = numbers(bid, ask)
            found.append(
                records.Ticker(*place, bid, ask)
                if update is None
                else NumberedTicker(*place, bid, ask, update)
            )
        if not self._l1_book:
            return found
        if not message.bid_size or not message.ask_size:
            return [*found, Malformed("the best prices have no sizes", self._l1_books)]
        best = quote(message.bid, message.bid_size, message.ask, message.ask_size)
        found.append(
            records.L1Book(*place, *best) if update is None else NumberedL1Book(*place, *best, update)
        )
        return found


class MarkPrices(Stream):
    """Mark and index price, for ``funding`` and ``index``."""

    message = messages.MarkPrice

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._funding, self._index = "funding" in place.channels, "index" in place.channels

    @override
    def read(self, message: messages.MarkPrice, receipt: int) -> Outputs:
        start = self.exchange, self.symbol, nanoseconds(message.time, receipt), receipt
        found: list[records.AnyRecord] = []
        if self._funding:
            # A future has no funding: its rate is empty, and its time 0.
            mark, rate = number(message.mark_price), number_or_none(message.rate)
            found.append(
                records.Funding(*start, mark, rate, message.next_funding * MILLISECOND or None, None)
            )
        if self._index and (index := number_or_none(message.index_price)):
            found.append(records.Index(*start, index))
        return found


class Liquidations(Stream):
    """Forced orders."""

    message = messages.ForcedOrder

    @override
    def read(self, message: messages.ForcedOrder, receipt: int) -> Outputs:
        order = message.order
        quantity, price = traded(order.quantity), number(order.price)
        status = _STATUSES.get(order.status)
        start = self.exchange, self.symbol, nanoseconds(message.time, receipt), receipt
        return (records.Liquidation(*start, order.side.lower(), quantity, price, None, status),)


class Candles(Stream):
    """Candles; the finished ones are stored."""

    message = messages.KlineEvent

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._interval = place.interval

    @override
    def read(self, message: messages.KlineEvent, receipt: int) -> Outputs:
        it = message.kline
        if self._interval not in ("", it.interval):
            raise MalformedError(f"a candle of another interval, {it.interval!r}")
        if it.start >= it.stop:
            raise MalformedError("a candle that ends before it begins")
        if not it.closed:
            return ()
        place = self.exchange, self.symbol, nanoseconds(message.time, receipt), receipt
        span = it.start * MILLISECOND, it.stop * MILLISECOND, it.interval, it.trades
        opened, closed, high, low, volume = candle(it.open, it.close, it.high, it.low, it.volume)
        return (records.Candle(*place, *span, opened, closed, high, low, volume, True),)


class PartialBooks(Stream):
    """The best levels, all of them each time.

    On a connection that takes over from another they are stored whole each time until it goes on alone: what
    changed might be since a state that the other one did not see.
    """

    message: ClassVar[Any] = messages.Snapshot

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._book = Book(place.exchange, place.symbol, place.storing)
        self._broken = self._follows = False

    @override
    def read(self, message: messages.Snapshot, receipt: int) -> Outputs:
        time = nanoseconds(message.time, receipt)
        state = *raw_sides(message.bids, message.asks), time, receipt
        begins = self._broken or not self.flows
        books = self._book.begin(*state) if begins else self._book.show(*state)
        if self._follows and books and not begins:
            books = [self._book.complete(time, receipt)]
        begun_again = [Resync(self.subscriptions[0])] if self._broken else []
        self._broken = False
        if message.time is None:
            return [*begun_again, *(NumberedBook.of(book, message.last) for book in books)]
        return [*begun_again, *books]

    @override
    def follow(self, before: Stream) -> None:
        self._follows = True

    @override
    def unread(self) -> Outputs:
        """Return that something is missing until the next one, which is all of them again."""
        self._broken = True
        return (Break(self.subscriptions[0], _UNREAD),)

    @override
    def renew(self) -> None:
        self._follows = False
        self._book.renew()


class PartialUpdates(PartialBooks):
    """The same, in the form that derivatives send: fields of an update, with all of the best levels."""

    message = messages.Update

    @override
    def read(self, message: Any, receipt: int) -> Outputs:
        snapshot = messages.Snapshot(message.last, message.bids, message.asks, message.time)
        return super().read(snapshot, receipt)


class Books(Stream):
    """Changes of a book, joined to a snapshot that is asked for.

    "How to manage a local order book correctly" (spot and derivatives, read 2026-11-28): updates wait until
    the snapshot is there; those before it are dropped; the first one has to reach over its number; from then
    on each one has to follow the one before. What does not follow breaks the book, which begins again.

    The book of a connection that this one takes over from is as good as a snapshot: it too is the book after
    an update whose number is known. It costs nothing, where a minute allows for 24 snapshots of 5000 levels.
    """

    message = messages.Update

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self._make_request, self._chained = place.request, place.chained
        self._subscription = self.subscriptions[0]
        self._book = Book(place.exchange, place.symbol, place.storing)
        self._waiting: deque[messages.Update] = deque(maxlen=_MOST_WAITING)
        self._last: int | None = None  # number of the last update; None while there is no book
        self._joined = False  # whether an update followed the snapshot
        self._unchecked = False  # whether it was told that the link of the chain is missing
        self._request: int | None = None
        self._before: Books | None = None  # of the connection before, until we begin

    @override
    def read(self, message: messages.Update, receipt: int) -> Outputs:
        bids, asks = raw_sides(message.bids, message.asks)
        if self._last is None:
            self._waiting.append(message)
            return self._begin_where_it_is(self._before, receipt) if self._before else self._ask()
        if message.last <= self._last:
            return ()  # the snapshot has it, or it was sent again
        if not self._follows(message):
            return self._leaves_a_hole(message)
        self._last, self._joined = message.last, True
        changes = self._book.change(bids, asks, nanoseconds(message.time, receipt), receipt)
        return changes if message.previous is not None or not self._chained else [*self._tell(), *changes]

    def answer(self, status: int, body: bytes, receipt: int) -> Outputs:
        """Begin with the snapshot; the updates that have come since follow it, with its receipt."""
        self._request = None
        if status != 200:
            return self._no_snapshot(status, body)
        try:
            snapshot = messages.snapshot(body)
            bids, asks = raw_sides(snapshot.bids, snapshot.asks)
        except UNREADABLE as error:
            return [Malformed(f"snapshot of the book: {error}", self.subscriptions), *self._ask()]
        time = nanoseconds(snapshot.time, receipt)
        return self._join(snapshot.last, (bids, asks), time, receipt) or self._ask()

    @override
    def follow(self, before: Stream) -> None:
        self._before = before if isinstance(before, Books) and before.reach is not None else None

    @property
    def reach(self) -> int | None:
        """The number of the last update that is in the book; None while there is no book."""
        return self._last

    @property
    def sides(self) -> tuple[list[Level], list[Level]]:
        """All levels of the book: bids, asks."""
        return [*self._book.bids.best().values()], [*self._book.asks.best().values()]

    def _begin_where_it_is(self, before: "Books", receipt: int) -> Outputs:
        """Begin with the book of the connection before, once it has all that came before our first update."""
        reach = before.reach
        if reach is None or len(self._waiting) > _MOST_BEHIND:
            self._before = None
            return self._ask()
        first = self._waiting[0]
        if first.first > reach + 1 and first.previous != reach:
            return ()
        return self._join(reach, before.sides, receipt, receipt)

    def _join(self, last: int, sides: tuple[list[Level], list[Level]], time: int, receipt: int) -> Outputs:
        """Begin with the book after update ``last`` and what came since; with nothing where it is too old."""
        later = [update for update in self._waiting if update.last > last]
        self._last = last
        self._joined = any(update.last == last for update in self._waiting)
        if later and not self._follows(later[0]):
            self._last = None
            return ()
        self._waiting.clear()
        self._before = None
        found: list[Any] = [Resync(self._subscription), *self._book.begin(*sides, time, receipt)]
        for update in later:
            if update.last <= self._last:
                continue  # it was sent again
            if not self._follows(update):
                return [*found, *self._leaves_a_hole(update)]
            self._last, self._joined = update.last, True
            changed = raw_sides(update.bids, update.asks)
            found += self._book.change(*changed, nanoseconds(update.time, receipt), receipt)
        return found

    @override
    def renew(self) -> None:
        self._book.renew()

    def failed(self) -> Outputs:
        """Ask for the snapshot again."""
        self._request = None
        return self._ask()

    def _no_snapshot(self, status: int, body: bytes) -> Outputs:
        """Ask again: also what is refused may be given later, as after a pause of trading."""
        if status >= 500 or status in _TRANSIENT:
            return self._ask()
        said = body[:200].decode(errors="replace")
        refused = Refused(self.subscriptions, f"no snapshot of the book: status {status}: {said}")
        return [refused, *self._ask()]

    def _tell(self) -> Outputs:
        if self._unchecked:
            return ()
        self._unchecked = True
        return (Notice(f"{self.symbol}: updates of the book do not name the one before: unchecked"),)

    def _ask(self) -> Outputs:
        if self._request is not None:
            return ()
        request = self._make_request(self)
        self._request = request.id
        return [request]

    @override
    def unread(self) -> Outputs:
        return () if self._last is None else self._break(_UNREAD)

    def _break(self, reason: str, *updates: messages.Update) -> Outputs:
        """Begin again, with a snapshot and the ``updates`` that do not follow."""
        self._last = None
        self._waiting.clear()
        self._waiting.extend(updates)
        return [Break(self._subscription, reason), *self._ask()]

    def _leaves_a_hole(self, update: messages.Update) -> Outputs:
        expected = f"expected the update after {self._last}, got {update.first} to {update.last}"
        return self._break(expected, update)

    def _follows(self, update: messages.Update) -> bool:
        """Return whether nothing is missing between the book and ``update``, as far as it tells.

        The numbers of derivatives' updates leave holes: one that does not name the one before is unchecked.
        """
        last = self._last or 0
        if update.previous is None:
            return update.first <= last + 1 or (self._chained and self._joined)
        return update.previous == last or (not self._joined and update.first <= last)
