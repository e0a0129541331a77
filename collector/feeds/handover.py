"""Takeover of a connection that the exchange is about to close by another: nothing missing, nothing twice.

For a while both connections deliver the same data. The old one is recorded as before; records of the new one
are held. The new one takes over only once it is certain, for every subscription, that the old one has
delivered everything from before the new one began. From then on the new one is recorded, except for what the
old one has delivered already: however far it lags, until it is past that. If it does not become certain, the
new one is dropped and the old one stays.

A subscription switches over at a place: a number or a time of the exchange's. ``Repeats`` recognises trades
and candles that have numbers, on whichever connection they arrive.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from operator import itemgetter

import msgspec

from collector.exchanges import quotes
from collector.exchanges.protocol import (
    Break,
    Closing,
    Confirmed,
    Malformed,
    Outputs,
    Refused,
    Renew,
    Repeated,
    Resync,
    Subscription,
)
from collector.feeds.repeats import MOST_MISSING, number_of
from collector.records import BOOKS, AnyRecord, Key, L2Book, L3Book, Record, channel_of
from collector.times import SECOND

#: The most records that are held, of all subscriptions together.
MOST_HELD = 50_000
#: Seconds that the two connections have to agree, once the new one has all subscriptions.
GRACE = 5.0
#: Nanoseconds by which records may be out of order in channels that have none.
DISORDER = 10 * SECOND
#: Numbers what is held, in the order of receipt: receipts themselves go back where a clock is set.
_NUMBERS = itertools.count()
_QUOTES = frozenset({"ticker", "l1_book"})
#: Channels whose records both connections deliver as they happen; some others begin with their last state.
_PROMPT = BOOKS | _QUOTES | {"trades"}
#: Channels in which a symbol's records have an order; in others, records are recognised by their identity.
_ORDERED = BOOKS | _QUOTES | {"funding", "index", "open_interest"}


class HandoverError(Exception):
    """The new connection cannot take over."""


class NoPlaceError(HandoverError):
    """No connection could take over: nothing says at which place."""


class _Changeover:
    """One subscription on both connections.

    Attributes:
        last: the record of the old connection with the highest place.
        there: the identities of the old connection's records at that place.
        moves: whether the old connection has delivered a record since the new one had all subscriptions.
        is_past: whether the new connection has delivered something from after what the old one delivered.
        beginning: the complete book that the new connection began with, numbered as what is ``held``.
        first: the first record that the new connection delivered as it happened.
        newest: the newest record of the new connection.
        held: the new connection's records after its beginning, each with its number in the order of receipt.
    """

    def __init__(self, channel: str, identity: Callable[[AnyRecord], object]) -> None:
        self._identity = identity
        self._is_prompt, self._is_quote = channel in _PROMPT, channel in _QUOTES
        self._is_book, self._is_ordered = channel in BOOKS, channel in _ORDERED
        self.last: AnyRecord | None = None
        self.there: list[object] = []
        self.moves = self.is_past = False
        self.beginning: tuple[int, AnyRecord] | None = None
        self.first: AnyRecord | None = None
        self.newest: AnyRecord | None = None
        self.held: deque[tuple[int, AnyRecord]] = deque()

    @property
    def is_over(self) -> bool:
        """Whether nothing that the old connection delivered can come on the new one any more."""
        return self.is_past or self.last is None

    @property
    def reach(self) -> int | None:
        """The place that the old connection has reached; None if unknown."""
        return None if self.last is None else _place(self.last)

    def note(self, record: AnyRecord, *, begins: bool) -> None:
        """Note a record of the old connection.

        A record that begins a book may have a later time than the changes that follow it.
        """
        self.moves = True
        place, reach = _place(record), self.reach
        if place is None or begins:
            return
        if reach is None or place > reach:
            self.last = record
            if self._is_ordered:
                self.there.clear()
        if place >= (reach or place) if self._is_ordered else number_of(record) is None:
            self.there.append(self._identity(record))

    def hold(self, record: AnyRecord) -> int:
        """Hold a record of the new connection; return how many more are held now.

        Raises NoPlaceError if the exchange gives it neither a number nor a time.
        """
        if self._is_book and self.beginning is None:
            self.beginning = next(_NUMBERS), record
            return 0
        place = _place(record)
        if place is None:
            raise NoPlaceError("the exchange's messages have neither a time nor a number")
        if self._is_prompt and self.first is None and not self._is_state(record, place):
            self.first = record
        self.newest = record
        self.held.append((next(_NUMBERS), record))
        return 1 - self._trim()

    def is_reached(self, *, in_time: bool) -> bool:
        """Return whether the old connection has delivered everything from before the new one began.

        Args:
            in_time: whether the old connection has delivered something from after the new one had all
                subscriptions.
        """
        if self.first is not None:
            return self.has_reached(self.first)
        return in_time and (not self._is_prompt or not self.moves or self._agrees())

    def has_reached(self, record: AnyRecord) -> bool:
        """Return whether the old connection has delivered a record of the new one, or a later one."""
        place, reach = _place(record), self.reach
        if place is None or reach is None:
            return False
        if place != reach:
            return place < reach
        return place != record.timestamp or self._identity(record) in self.there

    def passes(self, record: AnyRecord) -> bool:
        """Return whether the old connection has not delivered a record of the new one."""
        place, reach = _place(record), self.reach
        if place is None or reach is None or number_of(record) is not None:
            self.is_past = True
            return True
        if place > (reach if self._is_ordered else reach + DISORDER):
            self.is_past = True
        if self._is_ordered and place != reach:
            return place > reach
        if place != record.timestamp:
            return False  # no two records have the same number
        if _is_whole(record) and self.last is not None and not _is_whole(self.last):
            return False  # the complete book that follows a change
        return self._identity(record) not in self.there

    def _is_state(self, record: AnyRecord, place: int) -> bool:
        """Return whether a quote only repeats the last one under a new time, as a subscription may begin."""
        if not self._is_quote or self.held or self.last is None:
            return False
        return place > (self.reach or 0) and _content(record) == _content(self.last)

    def _agrees(self) -> bool:
        if not self._is_quote or self.newest is None or self.last is None:
            return False
        return _content(self.newest) == _content(self.last)

    def _trim(self) -> int:
        """Drop what the old connection has delivered as well; return the number of records dropped."""
        reach, count = self.reach, 0
        if reach is None or not (self._is_ordered or number_of(self.held[0][1]) is not None):
            return 0
        lowest = reach if self._is_ordered else reach - MOST_MISSING
        while self.held and (_place(self.held[0][1]) or 0) < lowest:
            self.held.popleft()
            count += 1
        return count


class Handover:
    """The same subscriptions on two connections.

    Args:
        keys: the subscriptions.
        confirmed: the subscriptions confirmed on the old connection, kept up to date by their owner.
        identity: returns equal values for two deliveries of one record.
    """

    def __init__(
        self, keys: Iterable[Key], confirmed: AbstractSet[Key], identity: Callable[[AnyRecord], object]
    ) -> None:
        self._keys, self._confirmed, self._identity = set(keys), confirmed, identity
        self._standing = self._keys & confirmed  # on the old connection
        self._following: set[Key] = set()  # confirmed on the new one, its books complete
        self._acknowledged: set[Subscription] = set()
        self._refused: dict[Subscription, Refused] = {}
        self._repeated: list[Repeated] = []
        self._changes: dict[Key, _Changeover] = {}
        self._broken = False  # whether a subscription of the old one broke since there are two
        self._stood: float | None = None  # when the new one had all subscriptions
        self._past: set[Key] = set()  # in which the new one is past the old one since ``settle`` was called
        self._proofs: dict[Key, AnyRecord] = {}  # the first records of the new one after that
        self._count = 0  # of records held

    # -- while there are two ---------------------------------------------------------------------------

    def note(self, outputs: Outputs) -> None:
        """Note what the old connection delivered."""
        begins: set[Key] = set()
        for it in outputs:
            match it:
                case Record():
                    key = _key(it)
                    self._change(key).note(it, begins=key in begins)
                    begins.discard(key)
                case Resync(subscription):
                    begins.add(subscription)
                case Break():
                    self._broken = True

    def note_lag(self, outputs: Outputs) -> None:
        """Note what the old connection delivers while it lags behind the one before it: it is not quiet."""
        for it in outputs:
            if isinstance(it, Record):
                self._change(_key(it)).moves = True

    def hold(self, outputs: Outputs) -> None:
        """Hold what the new connection delivered. Raises HandoverError if something is wrong with it."""
        for it in outputs:
            match it:
                case Record():
                    self._hold(it)
                case Repeated():
                    self._repeated.append(it)
                    self._count += len(it.records)
                case Confirmed(subscriptions):
                    self._acknowledged.update(subscriptions)
                    self._following.update(key for key in subscriptions if key[0] not in BOOKS)
                case Refused(subscriptions, reason):
                    if not self._standing.isdisjoint(subscriptions):
                        raise HandoverError(f"a subscription is refused: {reason}")
                    self._refused |= dict.fromkeys(subscriptions, it)
                case Break(reason=reason) | Malformed(reason=reason) | Closing(reason=reason):
                    raise HandoverError(reason)
                case Renew():
                    raise HandoverError("a subscription breaks")
        if self._count > MOST_HELD:
            raise HandoverError(f"it delivers more than {MOST_HELD} records before it can take over")

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget subscriptions that are no longer wanted."""
        self._keys.difference_update(keys)
        self._standing.difference_update(keys)

    def is_ready(self, now: float) -> bool:
        """Return whether the new connection can take over ``now`` (seconds, by a clock that nobody sets).

        Raises HandoverError if a subscription of the old one broke, or if the two do not agree in time.
        """
        self._standing |= self._keys & self._confirmed
        if self._broken or not self._standing <= self._confirmed:
            raise HandoverError("a subscription of the old connection broke")
        if not self._standing <= self._following:
            self._stood, self._proofs = None, {}
            return False
        if self._stood is None:
            self._stood = now
            for change in self._changes.values():
                change.moves = False
        waited = now - self._stood > GRACE
        in_time = waited or self._is_proven
        behind = [key for key in self._standing if not self._change(key).is_reached(in_time=in_time)]
        if waited and behind:
            named = " ".join(min(behind))
            raise HandoverError(f"the two connections do not agree on {named} ({len(behind)} in all)")
        return not behind

    @property
    def _is_proven(self) -> bool:
        """Whether the old connection has delivered something from after the new one had all subscriptions.

        It has then delivered everything from before as well.
        """
        return any(self._change(key).has_reached(record) for key, record in self._proofs.items())

    def _hold(self, record: AnyRecord) -> None:
        key = _key(record)
        self._count += self._change(key).hold(record)
        self._following.add(key)
        if self._stood is not None and key[0] in _PROMPT:
            self._proofs.setdefault(key, record)

    def _change(self, key: Key) -> _Changeover:
        found = self._changes.get(key)
        if found is None:
            found = self._changes[key] = _Changeover(key[0], self._identity)
        return found

    # -- when there is one -----------------------------------------------------------------------------

    def held(self) -> Outputs:
        """Return what only the new connection has delivered so far, in the order of receipt.

        Of subscriptions that were not confirmed on the old one that is everything, except for a quote that
        the old one had delivered before.
        """
        numbered: list[tuple[int, AnyRecord]] = []
        for key, change in self._changes.items():
            if key in self._standing or key[0] in _QUOTES:
                numbered += [each for each in change.held if change.passes(each[1])]
            else:
                numbered += [change.beginning, *change.held] if change.beginning else change.held
            change.held.clear()
        later = [it for _, it in sorted(numbered, key=itemgetter(0))]
        begun = [Resync(Subscription(*key)) for key in sorted(self._following - self._standing)]
        self._past = {key for key in self._standing if self._change(key).is_over}
        confirmed = Confirmed(tuple(sorted(self._acknowledged)), "acknowledgement")
        return [*begun, *self._repeated, *later, confirmed, *dict.fromkeys(self._refused.values())]

    def without_old(self, outputs: Outputs) -> Outputs:
        """Return ``outputs`` of the new connection without what the old one has delivered already."""
        return [it for it in outputs if not isinstance(it, Record) or self._passes(it)]

    @property
    def is_settled(self) -> bool:
        """Whether nothing of what the old connection delivered can come any more, of any subscription."""
        return not self._standing

    def settle(self, *, everything: bool) -> set[Key]:
        """Return, each of them once, the subscriptions in which nothing from the old one can come any more.

        With ``everything``, nothing more is waited for.
        """
        settled = self._standing if everything else self._past & self._standing
        self._standing, self._past = self._standing - settled, set()
        return settled

    def _passes(self, record: AnyRecord) -> bool:
        key = _key(record)
        if key not in self._standing:
            return True
        change = self._change(key)
        passes = change.passes(record)
        if change.is_over:
            self._past.add(key)
        return passes


def _place(record: AnyRecord) -> int | None:
    """Return what orders a symbol's records, a number or a time; None if the record has neither."""
    number = number_of(record)
    if number is not None:
        return number
    found = quotes.place(record)
    return None if found == record.receipt_timestamp else found


def _content(record: AnyRecord) -> tuple[object, ...]:
    return msgspec.structs.astuple(quotes.stored(record))[4:]


def _is_whole(record: AnyRecord) -> bool:
    return isinstance(record, L2Book | L3Book) and not record.delta


def _key(record: Record) -> Key:
    return channel_of(record), record.symbol
