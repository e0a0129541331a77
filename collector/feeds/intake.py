"""What comes of an exchange's messages is taken in: records go to the receiver, events to who must know."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from collector import records
from collector.bounds import LONGEST_TEXT
from collector.exchanges.protocol import (
    Confirmed,
    Event,
    Exchange,
    Ignored,
    Notice,
    Outputs,
    Refused,
    Repeated,
)
from collector.exchanges.quotes import NumberedBook, NumberedL1Book, NumberedTicker, stored
from collector.feeds.contents import UNNUMBERED, Contents
from collector.feeds.malformed import QUIET
from collector.feeds.repeats import Loss, Repeats
from collector.feeds.subscriptions import Subscriptions
from collector.gaps.marks import Hole
from collector.gaps.tracker import Gaps
from collector.printable import printable
from collector.receiver import Receiver
from collector.records import BOOKS, Key, channel_of
from collector.times import SECOND

LOG = logging.getLogger(__name__)


class Intake:
    """Takes in what the sessions and polls of one exchange make of messages."""

    def __init__(
        self, exchange: Exchange, subscriptions: Subscriptions, gaps: Gaps, receiver: Receiver
    ) -> None:
        self._exchange, self._subscriptions, self._gaps = exchange, subscriptions, gaps
        self._receiver = receiver
        contiguous = [channel for channel, it in exchange.channels.items() if it.loss == "ids"]
        self.repeats = Repeats(exchange.id, exchange.identity, contiguous, receiver.marks)
        self._last_books: dict[Key, int] = {}  # receipts
        self._last_quotes: dict[str, dict[str, Any]] = defaultdict(dict)  # by channel and symbol
        self._begun: dict[str, set[str]] = defaultdict(set)  # symbols: the last may be repeated
        self._last: dict[str, dict[str, Any]] = defaultdict(dict)  # others without numbers, in the same way
        self._contents = Contents(exchange.id, receiver.marks)
        self._renewed: set[Key] = set()  # what broke and is subscribed to again
        self._told: dict[str, float] = {}
        self._takers: dict[type[Any], Callable[[Any], None]] = {
            kind: self._once(channel) for kind, channel in _ONCE.items()
        }
        for kind in (records.Ticker, NumberedTicker, records.L1Book, NumberedL1Book):
            self._takers[kind] = self._quotes(channel_of(kind))
        for book in (records.L2Book, records.L3Book):
            self._takers[book] = self._books(channel_of(book))
        take = self._takers[records.L2Book]
        self._takers[NumberedBook] = lambda it: take(it.stored)

    def take(
        self, outputs: Outputs, receipt: int, act: Callable[[Event, int], None] | None = None
    ) -> list[Event]:
        """Take in what came at ``receipt``; return the events that concern the connection.

        ``act`` is called with each of them at its place among the records: what a message tells to be missing
        is missing before the records that the same message brings.
        """
        left: list[Event] = []
        takers = self._takers
        for output in outputs:
            taker = takers.get(type(output))
            if taker is not None:
                taker(output)
            elif isinstance(output, Event) and not self._is_taken(output, receipt):
                left.append(output)
                if act:
                    act(output, receipt)
        return left

    def recall(self, recorded: Iterable[records.AnyRecord]) -> None:
        """Take up what earlier processes recorded last; ``recorded`` is the newest of it, oldest first."""
        self._contents.recall(recorded)

    def broke(self, key: Key, handled: float, *, renewed: bool) -> None:
        """Something of ``key`` is missing: of a book since its last record, else since ``handled``.

        Where it is ``renewed``, until ``resynchronised``; else until its next record.
        """
        if renewed:
            self._renewed.add(key)
        last = self._last_books.pop(key, None)
        seen = handled if last is None else min(handled, last / SECOND)
        self.repeats.interrupt([key])
        self._subscriptions.lost([key], seen, "sequence")

    def resynchronised(self, key: Key, receipt: int) -> None:
        """``key`` is in step with the exchange; a book is seen with the record of it, which follows."""
        self._subscriptions.begins_anew(key)
        if key in self._renewed:
            self._renewed.discard(key)
            if key[0] not in BOOKS:
                self._stands(key, receipt)

    def last_quotes(self, keys: Iterable[Key]) -> list[Any]:
        """Return the last best prices of these."""
        return [
            self._last_quotes[channel][symbol]
            for channel, symbol in keys
            if symbol in self._last_quotes.get(channel, ())
        ]

    def begin(self, keys: Iterable[Key]) -> None:
        """A connection for these is being opened."""
        keys = list(keys)
        self._renewed.difference_update(keys)
        self.repeats.interrupt(keys)
        for channel, symbol in keys:
            self._last_books.pop((channel, symbol), None)
            if symbol in self._last_quotes[channel] or self._contents.are_recalled((channel, symbol)):
                self._begun[channel].add(symbol)

    def forget(self, keys: Iterable[Key]) -> None:
        """These are not listed any more, and nothing of them is taken in."""
        keys = list(keys)
        self._report(self.repeats.forget(keys))
        self._renewed.difference_update(keys)
        for channel, symbol in keys:
            self._last_books.pop((channel, symbol), None)
            for kept in (self._last_quotes, self._last):
                kept[channel].pop(symbol, None)
            self._contents.forget((channel, symbol))
            self._begun[channel].discard(symbol)

    def report_losses(self, now: int) -> None:
        """Report what has not come by ``now``: numbered records, and what would bridge a gap."""
        self._report(self.repeats.overdue(now))
        self._subscriptions.give_up_bridges(now / SECOND)
        self._contents.mark(now, self._last_quotes, self._last)

    def _report(self, losses: Iterable[Loss]) -> None:
        for key, start, end, count in losses:
            self._gaps.report(key, Hole(start / SECOND, "sequence"), end / SECOND, count)

    # -- records -------------------------------------------------------------------------------------

    def _once(self, channel: str) -> Callable[[Any], None]:
        """Return what takes a record that is stored unless it was before."""
        is_new: Callable[[str, Any], bool] = self.repeats.is_new
        if channel in UNNUMBERED:
            is_new = self._new_since_restart(channel)
        put = self._receiver.put
        awaited = self._subscriptions.awaited[channel]

        def take(it: Any) -> None:
            if is_new(channel, it):
                put(it)
            if it.symbol in awaited:
                self._arrived(channel, it)

        return take

    def _new_since_restart(self, channel: str) -> Callable[[str, Any], bool]:
        """Return what tells whether a record is new, also by what earlier processes recorded last."""
        last = self._last[channel]

        def is_new(channel: str, it: Any) -> bool:
            if not self.repeats.is_new(channel, it):
                return False
            last[it.symbol] = it
            return not self._contents.is_recalled(channel, it)

        return is_new

    def _quotes(self, channel: str) -> Callable[[Any], None]:
        """Return what takes best prices: the session itself knows whether they were sent before.

        A new session knows nothing: some exchanges begin a subscription with what they sent last.
        """
        put, awaited = self._receiver.put, self._subscriptions.awaited[channel]
        last, begun, identity = self._last_quotes[channel], self._begun[channel], self._exchange.identity

        def is_the_last_again(it: Any) -> bool:
            begun.discard(it.symbol)
            before = last.get(it.symbol)
            if before is None:
                last[it.symbol] = it
                return self._contents.is_recalled(channel, it)
            return it.timestamp != it.receipt_timestamp and identity(it) == identity(before)

        def take(it: Any) -> None:
            if it.symbol not in begun or not is_the_last_again(it):
                put(stored(it))
                last[it.symbol] = it
            if it.symbol in awaited:
                self._arrived(channel, it)

        return take

    def _books(self, channel: str) -> Callable[[Any], None]:
        """Return what takes books, complete ones and changes."""
        put, awaited, last = self._receiver.put, self._subscriptions.awaited[channel], self._last_books

        def take(it: Any) -> None:
            symbol = it.symbol
            last[channel, symbol] = it.receipt_timestamp
            put(it, 1 + len(it.bid) + len(it.ask))
            if symbol in awaited:
                self._subscriptions.arrived(channel, symbol, it.receipt_timestamp / SECOND)

        return take

    def _arrived(self, channel: str, it: Any, *, repeated: bool = False) -> None:
        if (channel, it.symbol) in self._renewed:
            return
        missed = self.repeats.bridge(channel, it, repeated=repeated)
        if missed is not None:
            receipt = it.receipt_timestamp / SECOND
            self._subscriptions.arrived(channel, it.symbol, receipt, missed_until=missed / SECOND)

    def _stands(self, key: Key, receipt: int) -> None:
        """``key`` is seen from ``receipt`` on; what comes next of it may tell that nothing is missing."""
        self._subscriptions.arrived(*key, receipt / SECOND, bridged=self.repeats.tells(key))

    # -- events --------------------------------------------------------------------------------------

    def _is_taken(self, event: Event, receipt: int) -> bool:
        """Return whether an event is done with; the others concern the connection."""
        match event:
            case Repeated(repeated):
                self._repeated(repeated)
            case Confirmed(subscriptions, by):
                self._confirmed(subscriptions, by, receipt)
            case Refused(subscriptions, reason):
                for channel, symbol in subscriptions:
                    self._subscriptions.refuse(channel, symbol, printable(reason[:LONGEST_TEXT]))
            case Notice(text):
                self._notice(printable(text[:LONGEST_TEXT]))
            case Ignored():
                pass
            case _:
                return False
        return True

    def _repeated(self, repeated: Iterable[records.AnyRecord]) -> None:
        for record in repeated:
            channel = _ONCE.get(type(record))
            if channel is None:
                self._takers[type(record)](record)
                continue
            if self.repeats.fills(channel, record):
                self._receiver.put(record)
            if record.symbol in self._subscriptions.awaited[channel]:
                self._arrived(channel, record, repeated=True)

    def _confirmed(self, subscriptions: Iterable[Key], by: str, receipt: int) -> None:
        """Data confirms, but for a book: that is seen once it is complete.

        Where an exchange says that nothing has changed, the subscription is not silent.
        """
        for channel, symbol in subscriptions:
            key = channel, symbol
            if by == "acknowledgement":
                bridged = self.repeats.tells(key)
                self._subscriptions.acknowledge(channel, symbol, receipt / SECOND, bridged=bridged)
            elif channel not in BOOKS or key in self._subscriptions.confirmed:
                self._stands(key, receipt)

    def _notice(self, text: str) -> None:
        self._subscriptions.notice = text
        now = time.monotonic()
        if now >= self._told.get(text, 0.0):
            self._told = {text: until for text, until in self._told.items() if until > now}
            self._told[text] = now + QUIET
            LOG.warning("%s says: %s", self._exchange.id, text)


#: Records that are told from those before, with their channels.
_ONCE: dict[type[Any], str] = {
    kind: channel_of(kind)
    for kind in (
        *(records.Trade, records.Funding, records.OpenInterest, records.Liquidation, records.Index),
        records.Candle,
    )
}
