"""One connection to KRAKEN."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import batched
from typing import TYPE_CHECKING, Any, override

import msgspec

from collector.exchanges.asked import Asked
from collector.exchanges.book import Book
from collector.exchanges.candles import RunningCandles
from collector.exchanges.instruments import Instrument
from collector.exchanges.kraken import messages
from collector.exchanges.kraken.checked_book import CheckedBook
from collector.exchanges.numbers import (
    UNREADABLE,
    Level,
    MalformedError,
    is_one_sided,
    levels,
    raw_amount,
    raw_number,
    raw_traded,
)
from collector.exchanges.protocol import (
    Break,
    Closing,
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
from collector.exchanges.times import later, rfc3339
from collector.records import AnyRecord, Candle, L1Book, Ticker, Trade

if TYPE_CHECKING:
    from collector.exchanges.kraken.exchange import Kraken

_SYMBOLS_PER_FRAME = 50
#: The exchange's channels, by ours.
CHANNELS = {"trades": "trade", "ticker": "ticker", "l1_book": "ticker", "l2_book": "book", "candles": "ohlc"}

_BEGINNING = b'{"channel":"'
_NEVER = "1970-01-01T00:00:00"
_DISAGREES = "the checksum of the book does not match"


class KrakenSession(Session):
    """The state of one connection."""

    def __init__(
        self,
        exchange: "Kraken",
        subscriptions: Sequence[Subscription],
        instruments: Mapping[str, Instrument],
        *,
        listening_to: Collection[str] = (),
    ) -> None:
        self._exchange = exchange
        self._routes = Routes(CHANNELS, subscriptions, instruments, listening_to)
        self._asked = Asked[Subscription]()
        self._number = 0
        self._flowing: set[tuple[str, str]] = set()  # channel and symbol of the exchange's that sent data
        self._books: dict[str, CheckedBook] = {}
        self._waiting: set[str] = set()  # symbols whose books are subscribed to again
        self._tickers: dict[str, messages.Ticker] = {}  # the last ones
        self._depths: dict[str, int] = {}  # as the exchange acknowledged them
        self._candles = RunningCandles()
        self._system: str | None = None  # the exchange's state, as it was told last
        self._readers: Mapping[str, Callable[[Any, str, bool, int], Outputs]] = {
            "book": self._book,
            "trade": self._trades,
            "ticker": self._ticker,
            "ohlc": self._candle,
        }

    @override
    def opening(self) -> Sequence[str]:
        by_channel: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in sorted(self._routes.subscriptions):
            by_channel[CHANNELS[subscription.channel]].append(subscription)
        return [
            self._subscribe(channel, some)
            for channel, subscriptions in by_channel.items()
            for some in batched(subscriptions, _SYMBOLS_PER_FRAME)
        ]

    @override
    def receive(self, frame: bytes, receipt: int) -> Outputs:
        if frame.startswith(_BEGINNING):
            begin = len(_BEGINNING)
            channel = frame[begin : frame.find(b'"', begin)].decode(errors="replace")
            if channel in messages.decode:
                return self._data(channel, frame, receipt)
        return self._other(frame, receipt)

    @override
    def tick(self, now: int) -> Outputs:
        return self._candles.over(now)

    @override
    def probe(self) -> Sequence[str]:
        return ['{"method":"ping"}']

    @override
    def renew_books(self, symbols: Collection[str]) -> None:
        for symbol in self._books.keys() & set(symbols):
            self._books[symbol].book.renew()

    def _subscribe(
        self, channel: str, subscriptions: Sequence[Subscription], method: str = "subscribe"
    ) -> str:
        self._number += 1
        self._asked.put(self._number, subscriptions)
        symbols = sorted({self._routes.exchange_symbol(each.symbol) for each in subscriptions})
        params = {"channel": channel, "symbol": symbols} | self._exchange.parameters(channel)
        request = {"method": method, "params": params, "req_id": self._number}
        return msgspec.json.encode(request).decode()

    # -- data ----------------------------------------------------------------------------------------

    def _data(self, channel: str, frame: bytes, receipt: int) -> Outputs:
        try:
            message = messages.decode[channel](frame)
        except UNREADABLE as error:
            complete = b'"snapshot"' in frame
            return self._unread(error, self._routes.named_in(channel, frame), complete=complete)
        if channel == "status":
            return [self._status(part.system) for part in message.data]
        outputs: list[AnyRecord | Event] = []
        if channel == "trade" and message.type == "snapshot":
            message.data.sort(key=lambda it: it.trade_id)  # in the order of trading
        if channel == "ohlc" and message.timestamp:
            self._hear(message.timestamp, receipt)
        for part in message.data:
            outputs += self._part(channel, part, message.type == "snapshot", receipt)
        return outputs

    def _part(self, channel: str, part: Any, snapshot: bool, receipt: int) -> Outputs:
        about = self._routes.carried(channel, part.symbol)
        if not about:
            return (Ignored(f"{channel} {part.symbol}"),)
        symbol = about[0].symbol
        try:
            outputs = self._readers[channel](part, symbol, snapshot, receipt)
        except UNREADABLE as error:
            return self._unread(error, about, complete=snapshot)
        if (channel, symbol) in self._flowing:
            return outputs
        self._flowing.add((channel, symbol))
        return [Confirmed(about, "data"), *outputs]

    def _unread(self, error: Exception, about: tuple[Subscription, ...], *, complete: bool) -> Outputs:
        """Begin those books again that a message was about which cannot be read.

        Until they do, their changes do not matter; a message that is ``complete`` would have begun them.
        """
        books = [
            symbol for channel, symbol in about if channel == "l2_book" and not self._routes.is_listening
        ]
        books = [each for each in books if complete or each not in self._waiting]
        reason = "a message of the book cannot be read"
        again = [output for symbol in books for output in self._begin_again(symbol, reason)]
        return [Malformed(str(error), about), *again]

    def _book(self, part: messages.Book, symbol: str, snapshot: bool, receipt: int) -> Outputs:
        bids, asks = _levels(part.bids), _levels(part.asks)
        time = _time(part.timestamp, receipt)
        if snapshot:
            self._waiting.discard(symbol)
            self._books[symbol] = new = self._new_book(symbol)
            records = new.book.begin(bids, asks, time, receipt)
            return [Resync(Subscription("l2_book", symbol)), *records, *self._first_check(new, part)]
        checked = self._books.get(symbol)
        if checked is None:
            waits = symbol in self._waiting or self._routes.is_listening
            return () if waits else [self._again(symbol)]  # what it begins with is lost
        change = part.timestamp, bids, asks
        if part.timestamp and change == checked.last:
            return ()  # it was sent again
        checked.last = change
        records = checked.book.change(bids, asks, time, receipt)
        return records if checked.agrees(part.checksum) else self._begin_again(symbol, _DISAGREES)

    def _new_book(self, symbol: str) -> CheckedBook:
        depth = self._depths.get(self._routes.exchange_symbol(symbol), self._exchange.depth)
        return CheckedBook(Book(self._exchange.id, symbol, self._exchange.options.storing, depth=depth))

    def _first_check(self, checked: CheckedBook, part: messages.Book) -> Outputs:
        """Hold the book to its checksums only where that of the snapshot comes out."""
        checked.reproducible = checked.agrees(part.checksum)
        if checked.reproducible:
            return ()
        return (Notice(f"{part.symbol}: the checksum of the book's snapshot does not match: unchecked"),)

    def _begin_again(self, symbol: str, reason: str) -> Outputs:
        self._books.pop(symbol, None)
        return [Break(Subscription("l2_book", symbol), reason), self._again(symbol)]

    def _again(self, symbol: str) -> Renew:
        self._waiting.add(symbol)
        book = (Subscription("l2_book", symbol),)
        methods = "unsubscribe", "subscribe"
        return Renew(book, tuple(self._subscribe("book", book, method) for method in methods))

    def _trades(self, part: messages.Trade, symbol: str, snapshot: bool, receipt: int) -> Outputs:
        amount, price = raw_traded(part.qty), raw_number(part.price)
        start = self._exchange.id, symbol, rfc3339(part.timestamp), receipt
        trade = Trade(*start, part.side, amount, price, str(part.trade_id), part.ord_type)
        return (Repeated((trade,)),) if snapshot else (trade,)

    def _ticker(self, part: messages.Ticker, symbol: str, snapshot: bool, receipt: int) -> Outputs:  # noqa: ARG002
        if part.timestamp and part == self._tickers.get(symbol):
            return ()  # it was sent again
        self._tickers[symbol] = part
        bid, ask = raw_number(part.bid), raw_number(part.ask)
        if is_one_sided(bid, ask):  # there are no best prices, which is no silence
            return [Confirmed(self._routes.carried("ticker", part.symbol), "data")]
        time = _time(part.timestamp, receipt)
        found: list[AnyRecord | Event] = []
        if self._routes.wants(("ticker", symbol)):
            found.append(Ticker(self._exchange.id, symbol, time, receipt, bid, ask))
        if not self._routes.wants(l1_book := Subscription("l1_book", symbol)):
            return found
        if not bytes(part.bid_qty) or not bytes(part.ask_qty):
            return [*found, Malformed("the best prices have no sizes", (l1_book,))]
        sizes = raw_amount(part.bid_qty), raw_amount(part.ask_qty)
        found.append(L1Book(self._exchange.id, symbol, time, receipt, bid, sizes[0], ask, sizes[1]))
        return found

    def _hear(self, timestamp: str, receipt: int) -> None:
        with suppress(MalformedError):  # it only helps
            self._candles.compare(rfc3339(timestamp), receipt)

    def _candle(self, part: messages.Candle, symbol: str, snapshot: bool, receipt: int) -> Outputs:
        begin = rfc3339(part.interval_begin)
        start = self._exchange.id, symbol, begin, receipt
        interval = self._exchange.interval(part.interval)
        if not self._routes.is_listening and interval != self._exchange.options.candle_interval:
            raise MalformedError(f"a candle of another interval, {interval}")
        span = begin, later(begin, part.interval * 60), interval, part.trades
        opened, last, high, low = map(raw_number, (part.open, part.close, part.high, part.low))
        candle = Candle(*start, *span, opened, last, high, low, raw_amount(part.volume), None)
        closed = self._candles.take(candle)
        if closed is None:
            return ()
        return (Repeated((closed,)),) if snapshot else (closed,)

    # -- answers -------------------------------------------------------------------------------------

    def _other(self, frame: bytes, receipt: int) -> Outputs:
        try:
            it = messages.answer(frame)
        except UNREADABLE as error:
            return (Malformed(str(error)),)
        if it.channel in messages.decode:
            return self._data(it.channel, frame, receipt)
        if it.channel is None and it.method == "subscribe":
            return self._answered(it)
        if kind := it.channel or it.method:
            return (Ignored(kind),)
        return (Malformed("neither a channel's data nor an answer"),)

    def _answered(self, it: messages.Answer) -> Outputs:
        if it.result and it.result.symbol and it.result.depth:
            self._depths[it.result.symbol] = it.result.depth
        subscriptions = self._answer_is_about(it)
        acknowledged = it.success or "lready subscribed" in (it.error or "")
        if not subscriptions:
            return (Ignored("subscribe") if acknowledged else Notice(it.error or "a request was refused"),)
        if acknowledged:
            return (Confirmed(subscriptions, "acknowledgement"),)
        if it.symbol or len(subscriptions) == 1:
            return (Refused(subscriptions, it.error or "no reason was given"),)
        return self._halves(subscriptions)

    def _status(self, system: str) -> Event:
        """Read the exchange's state: it is sent at the beginning of a connection, and when it changes.

        Connections go down in maintenance (docs.kraken.com/exchange/guides/websockets/reconnection and
        docs.kraken.com spot-websocket-v2/status, 2026-11-28). One that begins in it waits for its end: else
        there would be a new one again and again.
        """
        begins = self._system is None and not self._routes.is_listening
        self._system = system
        if system == "maintenance" and not begins:
            return Closing("the exchange announces maintenance")
        return Ignored("status") if system == "online" else Notice(f"the exchange's system is {system}")

    def _answer_is_about(self, it: messages.Answer) -> tuple[Subscription, ...]:
        """Return the subscriptions of the symbol that an answer names, else all of its request."""
        asked = self._asked.of(it.req_id)
        named = (it.result.symbol if it.result else None) or it.symbol
        return tuple(each for each in asked if named in (None, self._routes.exchange_symbol(each.symbol)))

    def _halves(self, subscriptions: Sequence[Subscription]) -> Outputs:
        """Ask again for what was refused without a name."""
        channel = CHANNELS[subscriptions[0].channel]
        halves = batched(subscriptions, (len(subscriptions) + 1) // 2)
        return [Send(self._subscribe(channel, half)) for half in halves]


def _time(text: str | None, receipt: int) -> int:
    """Return the exchange's time; the receipt where there is none, or that of 1970: without a market."""
    return rfc3339(text) if text and not text.startswith(_NEVER) else receipt


def _levels(side: Iterable[messages.Level]) -> list[Level]:
    return levels([(str(level.price, "utf-8"), str(level.qty, "utf-8")) for level in side])
