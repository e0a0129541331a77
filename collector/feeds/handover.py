"""One connection takes over from another that the exchange is about to close: nothing missing, nothing twice.

For a while both bring the same. The old one is recorded, as ever; what the new one brings is held, until all
that was subscribed to stands there and the old one has got as far as the new one began. Then the old one is
let go, and what is held follows: of each subscription what is later than the last record of the old
connection, by the exchange's number or time (``Record.place``). The same content at the same place is one.

Trades and what else ``Repeats`` tells apart need no place here: it does, on whichever connection they come.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterable

import msgspec

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
from collector.exchanges.records import AnyRecord, L2Book, L3Book, Record
from collector.feeds.subscriptions import BOOKS
from collector.records import Key

#: Records that are held of all subscriptions together; more are held only where the old connection is dead.
MOST_HELD = 50_000
#: What is told apart by its place; the rest by ``Repeats``.
_PLACED = BOOKS | {"ticker", "l1_book"}
#: Of these both connections bring each record soon.
_PROMPT = _PLACED | {"trades"}


class HandoverError(Exception):
    """The new connection cannot take over."""


class _Last(msgspec.Struct):
    """How far the old connection has got with a subscription: its last record, and what it brought there."""

    record: AnyRecord
    there: list[object]

    @property
    def place(self) -> int:
        return self.record.place


class Handover:
    """What two connections bring of the same subscriptions.

    Args:
        keys: what stands on the old one, and has to on the new one.
        identity: what makes two sightings of a record one.
    """

    def __init__(self, keys: Iterable[Key], identity: Callable[[AnyRecord], object]) -> None:
        self._identity = identity
        self._standing = frozenset(keys)
        self._awaited = set(self._standing)
        self._broken = False  # something of the old one, since there are two
        self._confirmed: set[Subscription] = set()
        self._begun: set[Subscription] = set()  # in step on the new one
        self._last: dict[Key, _Last] = {}
        self._held: dict[Key, deque[AnyRecord]] = defaultdict(deque)
        self._first: dict[Key, int] = {}  # place of the first one that the new connection brought live
        self._whole: set[Key] = set()  # books that are held from their beginning
        self._repeated: list[Repeated] = []
        self._count = 0

    # -- while there are two ---------------------------------------------------------------------------

    def note(self, outputs: Outputs) -> None:
        """Note what the old connection brought."""
        for it in outputs:
            self._broken |= isinstance(it, Break)
            if not isinstance(it, Record):
                continue
            last = self._last.get(_key(it))
            if last is None or it.place > last.place:
                self._last[_key(it)] = _Last(it, [self._identity(it)])
            elif it.place == last.place:
                last.there.append(self._identity(it))

    def hold(self, outputs: Outputs) -> None:
        """Hold what the new connection brought. Raises HandoverError where it is not in order."""
        for it in outputs:
            match it:
                case Record():
                    self._hold(it)
                case Repeated():
                    self._repeated.append(it)
                    self._count += len(it.records)
                case Confirmed(subscriptions):
                    self._confirmed.update(subscriptions)
                    self._awaited.difference_update(key for key in subscriptions if key[0] not in BOOKS)
                case Resync(subscription):
                    self._begun.add(subscription)
                case Refused(subscriptions, reason) if not self._awaited.isdisjoint(subscriptions):
                    raise HandoverError(f"it is refused: {reason}")
                case Break(reason=reason) | Malformed(reason=reason) | Closing(reason=reason):
                    raise HandoverError(reason)
                case Renew():
                    raise HandoverError("a subscription breaks")
        if self._count > MOST_HELD:
            raise HandoverError(f"it brings more than {MOST_HELD} records before all of it stands")

    def _hold(self, record: AnyRecord) -> None:
        key, held = _key(record), self._held[_key(record)]
        if _is_whole(record):
            self._awaited.discard(key)
            self._whole.add(key)
            self._count -= len(held)
            held.clear()
        elif key[0] in _PROMPT and not _is_timeless(record):
            self._first.setdefault(key, record.place)
        held.append(record)
        self._count += 1
        last = self._last.get(key) if key in self._standing else None
        while last and len(held) > 1 and held[1].place < last.place:
            held.popleft()
            self._whole.discard(key)
            self._count -= 1

    @property
    def stands(self) -> bool:
        """Whether all that stood on the old connection does so on the new one, with its books in step.

        Where something of the old one broke meanwhile, the new one does not tell what is missing.
        """
        return not self._awaited and not self._broken

    def check(self) -> None:
        """Raise HandoverError where something of the old connection broke."""
        if self._broken:
            raise HandoverError("a subscription of the old connection broke")

    @property
    def behind(self) -> list[Key]:
        """Of what the old connection has not got as far as the new one began."""
        return [
            key
            for key, first in self._first.items()
            if key in self._standing and (key not in self._last or self._last[key].place < first)
        ]

    # -- when there is one -----------------------------------------------------------------------------

    def held(self) -> Outputs:
        """Return what the new connection brought so far and the old one did not, in the order of receipt."""
        later = [it for key, records in self._held.items() for it in self._later(key, records)]
        later.sort(key=lambda it: it.receipt_timestamp)
        confirmed = Confirmed(tuple(sorted(self._confirmed)), "acknowledgement")
        begun = [Resync(each) for each in sorted(self._begun - self._standing)]
        return [confirmed, *begun, *self._repeated, *later]

    def without_old(self, outputs: Outputs) -> Outputs:
        """Return what the new connection brings now but for what the old one had brought already."""
        return [it for it in outputs if not isinstance(it, Record) or self._passes(it)]

    def _later(self, key: Key, records: Iterable[AnyRecord]) -> Iterable[AnyRecord]:
        """Return what follows the last record of the old connection, or all of what did not stand there.

        A book begins with the complete one where that is the first to follow.
        """
        records = list(records)
        if key not in self._standing:
            self._last.pop(key, None)
            return records
        first = next((it for it in records if not _is_whole(it)), None)
        if key in self._whole and first is not None and self._is_later(key, first):
            self._last.pop(key, None)
            return records
        return [it for it in records if not _is_whole(it) and self._passes(it)]

    def _passes(self, record: AnyRecord) -> bool:
        key = _key(record)
        if key not in self._last or key[0] not in _PLACED:
            return True
        if not self._is_later(key, record):
            return False
        if record.place > self._last[key].place:
            del self._last[key]
        return True

    def _is_later(self, key: Key, record: AnyRecord) -> bool:
        last = self._last.get(key)
        if last is None:
            return True
        if _is_timeless(record):
            return _content(record) != _content(last.record)
        if record.place != last.place:
            return record.place > last.place
        is_news = record.place == record.timestamp and not _is_whole(record)
        return is_news and self._identity(record) not in last.there


def _is_timeless(record: AnyRecord) -> bool:
    """Return whether the exchange tells neither a time nor a number of it."""
    return record.place == record.receipt_timestamp


def _content(record: AnyRecord) -> tuple[object, ...]:
    return msgspec.structs.astuple(record)[4:]


def _is_whole(record: AnyRecord) -> bool:
    return isinstance(record, L2Book | L3Book) and not record.delta


def _key(record: Record) -> Key:
    return str(record.__struct_config__.tag), record.symbol
