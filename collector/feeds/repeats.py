"""Telling what was recorded before from what is new: once, for all exchanges.

Exchanges send records again: the last trades after each subscription, a message twice, the same on two
connections. Live ones are stored unless they were before; those that an exchange repeats are stored where
they are newer than the last that was recorded: they fill a hole. What is older than the first that was ever
recorded is history, and left out.

Where trades have numbers, the numbers tell it, exactly, in whatever order they come; and where the exchange
numbers them without holes, a number that stays out tells that a trade is missing. Elsewhere the identity of a
record tells it (``Exchange.identity``), among the last of each symbol.

After an interruption the first one tells what it cost: nothing, where its number follows the last one that
was recorded, or where what is repeated reaches back to that one; else what came before the repetition.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from collector.gaps import marks
from collector.gaps.marks import LastRecorded, Marks, Missing, MissingRecords, Slot
from collector.records import AnyRecord, Candle, Key, Liquidation, Trade
from collector.times import SECOND

#: Records of one symbol: trades, and whatever else there is.
MOST_REMEMBERED, FEW_REMEMBERED = 500, 16
#: Numbers below the highest one that may still come; and below the first of all.
MOST_MISSING, FEW_MISSING = 200, 20
#: Nanoseconds in which a missing number may still come: messages may overtake each other.
LATE = 2 * SECOND

NEVER = 2**63  # nanoseconds: by then nothing is waited for

#: Digits of a number that is one: others are names.
_LONGEST_NUMBER = 18


class Loss(NamedTuple):
    """So many records of ``key`` between two receipts (nanoseconds) have not come."""

    key: Key
    start: int
    end: int
    records: int


class Numbered:
    """Records that have numbers: trades by their ids, candles by their beginnings.

    Args:
        last: the number of the last one that was recorded; None if none ever was.
        newest: the latest time of the exchange of those that were recorded, where that is known.
        dense: numbers follow each other closely, so one that was left out may come later.
        contiguous: there are no holes between them.
    """

    def __init__(self, last: int | None, newest: int | None, *, dense: bool, contiguous: bool) -> None:
        self.last = -1 if last is None else last
        self._first = self.last  # up to this one is history
        self._history = last is None  # what is repeated now is
        self._dense, self._contiguous = dense, contiguous
        self._missing: dict[int, tuple[int, int]] = {}  # receipts of those around; 0: of no account
        self._lost: dict[tuple[int, int], int] = {}  # by these receipts, how many are not waited for
        self._receipt = 0  # of the last one on this connection
        self._newest = newest  # of the last one or since
        self._before: int | None = None  # the last one before an interruption that is not bridged yet
        self._lag = 0  # nanoseconds from the exchange's time to the receipt, before an interruption
        self.has_changed = False  # what ``unsettled`` tells, since somebody reset it

    def is_new(self, number: int, time: int, receipt: int) -> bool:
        """Return whether a live one was not seen before; note it."""
        newest = self._newest
        if number == self.last + 1 and newest is not None and time >= newest:  # as nearly all do
            self.last, self._newest, self._receipt, self._history = number, time, receipt, False
            return True
        if newest is None and number <= self.last:
            self._reset(number)  # nobody knows better
        self._note_time(number, time)
        last = self.last
        if number > last:
            if last < 0:
                self._begin(number)
            elif self._dense and number > last + 1:
                self._skip(last, number, receipt)
            self._history = False
            self.last, self._receipt = number, receipt
            return True
        return self._found(number)

    def fills(self, number: int, time: int) -> bool:
        """Return whether a repeated one is newer than what was recorded; note it."""
        self._note_time(number, time)
        if self._history:
            self.last = self._first = max(self.last, number)
            return False
        if number > self.last:
            if self._dense and number > self.last + 1:
                self._skip(self.last, number, self._receipt)
            self.last = number
            return True
        return number > self._first and self._found(number)

    @property
    def is_interrupted(self) -> bool:
        """Whether it is not told yet what an interruption cost."""
        return self._before is not None

    def bridge(self, number: int, time: int, receipt: int, *, repeated: bool) -> int | None:
        """Return up to which receipt something is missing before ``number``, the first after an interruption.

        0 where nothing is: it follows the last one from before, or what is repeated reaches back to that one.
        None if it tells nothing, as it is an old one that was sent late.
        """
        before = self._before
        if before is None:
            return receipt
        if number <= before and not repeated:
            return None
        self._before, self._receipt = None, self._receipt or receipt
        if number <= before or (self._contiguous and number == before + 1):
            return 0
        return min(receipt, time + self._lag) if repeated else receipt

    @property
    def unsettled(self) -> dict[tuple[int, int], int]:
        """How many are missing between which receipts, and not reported yet."""
        counts = dict(self._lost)
        for span in self._missing.values():
            if span[0]:
                counts[span] = counts.get(span, 0) + 1
        return counts

    def _found(self, number: int) -> bool:
        """Return whether ``number`` was missing; it is no more."""
        span = self._missing.pop(number, None)
        self.has_changed |= span is not None and span[0] > 0
        return span is not None

    def _note_time(self, number: int, time: int) -> None:
        """What is later than all that was seen was not seen: its number says that they start over."""
        newest = self._newest
        if number >= self.last:
            self._newest = time if newest is None or time > newest else newest
        elif newest is not None and time > newest:
            self._newest = time
            if number not in self._missing:
                self._reset(number)

    def _reset(self, number: int) -> None:
        self.last = self._first = number - 1
        self._before = None
        self._wait_for(0)

    @property
    def mark(self) -> LastRecorded:
        """What has to be remembered."""
        return LastRecorded(self.last, self._newest)

    def interrupt(self) -> None:
        """What comes next comes after an interruption: what is missing between lies in a gap."""
        if self._receipt and self._newest is not None:
            self._lag = self._receipt - self._newest
        self._receipt = 0
        self._before = None if self.last < 0 else self.last
        self._history = self.last < 0

    def overdue(self, now: int) -> Iterator[tuple[int, int, int]]:
        """Yield the losses (start, end, count) that were not made good in time."""
        for number, span in self._missing.items():
            if span[0] and _is_late(span[1], now):
                self._lose(span, 1)
                self._missing[number] = (0, 0)
        for span in [span for span in self._lost if _is_late(span[1], now)]:
            self.has_changed = True
            yield *span, self._lost.pop(span)

    def _begin(self, number: int) -> None:
        """The first one of all; those before it are live too, where they come later."""
        self._first = number - 1
        if self._dense:
            self._missing = dict.fromkeys(range(max(0, number - FEW_MISSING), number), (0, 0))

    def _skip(self, last: int, number: int, receipt: int) -> None:
        span = (self._receipt, receipt) if self._contiguous and self._receipt else (0, 0)
        lowest = max(last + 1, number - MOST_MISSING)
        self._lose(span, lowest - last - 1)
        self._missing |= dict.fromkeys(range(lowest, number), span)
        self._wait_for(MOST_MISSING)
        self.has_changed |= span[0] > 0

    def _wait_for(self, count: int) -> None:
        """Wait for so many of those that are missing, the latest; the others are lost."""
        for number in list(self._missing)[: max(0, len(self._missing) - count)]:
            self._lose(self._missing.pop(number), 1)

    def _lose(self, span: tuple[int, int], count: int) -> None:
        if span[0] and count:
            self._lost[span] = self._lost.get(span, 0) + count


def _is_late(receipt: int, now: int) -> bool:
    """Return whether what is missing since ``receipt`` comes no more; the clock may have stepped back."""
    return not 0 <= now - receipt <= LATE


class Identified:
    """Records that have no numbers.

    Two that are equal in one message are two: two orders may be liquidated at one moment, price and amount.
    What names itself or is a state (``receipt`` is None then) is one, wherever it is.

    Args:
        last: the time of the newest that was recorded; None if none ever was.
        remembered: how many are remembered.
    """

    def __init__(self, last: int | None, remembered: int) -> None:
        self._remembered = remembered
        self.last = -1 if last is None else last
        self._floor = last  # what is repeated and not newer was recorded, or is history
        self._history = last is None
        self._seen: OrderedDict[object, _Sightings] = OrderedDict()

    def is_new(self, identity: object, time: int, receipt: int | None) -> bool:
        """Return whether a live one was not seen before; note it."""
        if known := self._seen.get(identity):
            return known.has_more(receipt)
        self._history = False
        self._note(identity, time, receipt)
        return True

    def fills(self, identity: object, time: int, receipt: int | None) -> bool:
        """Return whether a repeated one is newer than what was recorded; note it."""
        if known := self._seen.get(identity):
            return known.has_more(receipt) and known.was_new
        new = not self._history and (self._floor is None or time > self._floor)
        self._note(identity, time, receipt, was_new=new)
        if self._history:
            self._floor = max(self._floor or 0, time)
        return new

    @property
    def mark(self) -> LastRecorded:
        """What has to be remembered."""
        return LastRecorded(self.last)

    def interrupt(self) -> None:
        """What comes next comes after an interruption."""
        self._history = self.last < 0

    def _note(self, identity: object, time: int, receipt: int | None, *, was_new: bool = True) -> None:
        if self._floor is None:
            self._floor = time - 1
        self.last = max(self.last, time)
        self._seen[identity] = _Sightings(time, receipt, was_new=was_new)
        if len(self._seen) > self._remembered:
            self._floor = max(self._floor, self._seen.popitem(last=False)[1].time)


class _Sightings:
    """Equal records: how many the message with the most of them had, and how many the last one has yet."""

    __slots__ = ("_count", "_most", "_receipt", "time", "was_new")

    def __init__(self, time: int, receipt: int | None, *, was_new: bool) -> None:
        self.time, self.was_new = time, was_new
        self._receipt, self._count, self._most = receipt, 1, 1

    def has_more(self, receipt: int | None) -> bool:
        """Note one more, in the message of ``receipt``; return whether no message had as many."""
        if receipt is None:
            return False
        self._count = self._count + 1 if receipt == self._receipt else 1
        self._receipt = receipt
        if self._count <= self._most:
            return False
        self._most = self._count
        return True


class Repeats:
    """What one exchange repeats.

    Args:
        exchange: cryptofeed's id.
        identity: what makes two sightings of a record one.
        contiguous: channels whose numbers have no holes.
        remembered: what survives the process.
    """

    def __init__(
        self,
        exchange: str,
        identity: Callable[[AnyRecord], object],
        contiguous: Collection[str],
        remembered: Marks,
    ) -> None:
        self._exchange, self._identity, self._marks = exchange, identity, remembered
        self._contiguous = contiguous
        self._numbered: dict[Key, Numbered] = {}
        self._identified: dict[Key, Identified] = {}
        self._marked: dict[Key, Slot[LastRecorded]] = {}  # what the exchange repeats, and where that is kept

    def is_new(self, channel: str, record: AnyRecord) -> bool:
        """Return whether a live record was not recorded before."""
        key = channel, record.symbol
        number = number_of(record)
        if number is not None:
            numbered = self._numbered.get(key) or self._number(key)
            new = numbered.is_new(number, record.timestamp, record.receipt_timestamp)
            if numbered.has_changed:
                self._mark_missing(key, numbered)
        else:
            identified = self._identified.get(key) or self._identify(key)
            identity, receipt = self._identity_of(record)
            new = identified.is_new(identity, record.timestamp, receipt)
        if new and self._marked and key in self._marked:
            self._mark(key)
        return new

    def fills(self, channel: str, record: AnyRecord) -> bool:
        """Return whether a record that the exchange repeats is newer than what was recorded."""
        key = channel, record.symbol
        if key in self._marked and self._marked[key] not in self._marks:
            # gaps/ has forgotten it: somebody else recorded some since
            self._numbered.pop(key, None)
            self._identified.pop(key, None)
        self._marked.setdefault(key, marks.last_recorded(self._exchange, key))
        number = number_of(record)
        if number is not None:
            numbered = self._numbered.get(key) or self._number(key)
            new = numbered.fills(number, record.timestamp)
            if numbered.has_changed:
                self._mark_missing(key, numbered)
        else:
            identified = self._identified.get(key) or self._identify(key)
            identity, receipt = self._identity_of(record)
            new = identified.fills(identity, record.timestamp, receipt)
        self._mark(key)
        return new

    def tells(self, key: Key) -> bool:
        """Return whether what comes next of ``key`` tells what an interruption cost."""
        numbered = self._numbered.get(key)
        return bool(numbered and numbered.is_interrupted) and (
            key[0] in self._contiguous or key in self._marked
        )

    def bridge(self, channel: str, record: AnyRecord, *, repeated: bool) -> int | None:
        """Return up to which receipt (nanoseconds) something is missing before ``record``.

        0 where nothing is, None if the record does not tell.
        """
        numbered, number = self._numbered.get((channel, record.symbol)), number_of(record)
        if numbered is None or number is None:
            return record.receipt_timestamp
        return numbered.bridge(number, record.timestamp, record.receipt_timestamp, repeated=repeated)

    def interrupt(self, keys: Iterable[Key]) -> None:
        """These are being subscribed to again."""
        for key in keys:
            for state in (self._numbered.get(key), self._identified.get(key)):
                if state:
                    state.interrupt()

    def forget(self, keys: Iterable[Key]) -> list[Loss]:
        """These are not listed any more; return what is still missing of them.

        The mark of the last one stays: they may be listed again.
        """
        losses: list[Loss] = []
        for key in keys:
            if numbered := self._numbered.pop(key, None):
                losses += (Loss(key, *loss) for loss in numbered.overdue(NEVER))
                if numbered.has_changed:
                    self._mark_missing(key, numbered)
            self._identified.pop(key, None)
            self._marked.pop(key, None)
        return losses

    def overdue(self, now: int) -> Iterator[Loss]:
        """Yield the numbered records that were left out and have not come since."""
        for key, numbered in self._numbered.items():
            for loss in numbered.overdue(now):
                yield Loss(key, *loss)
            if numbered.has_changed:
                self._mark_missing(key, numbered)

    def _number(self, key: Key) -> Numbered:
        contiguous = key[0] in self._contiguous
        last, newest = self._recall(key)
        state = Numbered(last, newest, dense=key[0] == "trades", contiguous=contiguous)
        self._numbered[key] = state
        return state

    def _identify(self, key: Key) -> Identified:
        remembered = MOST_REMEMBERED if key[0] == "trades" else FEW_REMEMBERED
        state = self._identified[key] = Identified(self._recall(key)[0], remembered)
        return state

    def _identity_of(self, record: AnyRecord) -> tuple[object, int | None]:
        """Return what a record is known by, and its receipt, unless it names itself or is a state."""
        if type(record) is Trade and record.id:
            return record.id, None
        happens = isinstance(record, Trade | Liquidation)
        return self._identity(record), record.receipt_timestamp if happens else None

    def _recall(self, key: Key) -> tuple[int | None, int | None]:
        """Return the last one that was recorded, and the latest time, where they are known."""
        place = marks.last_recorded(self._exchange, key)
        mark = self._marks.get(place)
        if mark is None:
            return None, None
        self._marked[key] = place
        return mark.last, mark.newest

    def _mark(self, key: Key) -> None:
        state = self._numbered.get(key) or self._identified[key]
        self._marks.put(self._marked[key], state.mark)

    def _mark_missing(self, key: Key, numbered: Numbered) -> None:
        """Remember what is missing: whoever finds the mark reports it, should this process be killed."""
        numbered.has_changed = False
        place = marks.missing(self._exchange, key)
        unsettled = numbered.unsettled.items()
        if unsettled:
            spans = tuple(Missing(start / SECOND, end / SECOND, count) for (start, end), count in unsettled)
            self._marks.put(place, MissingRecords(spans))
        else:
            self._marks.drop(place)


def number_of(record: AnyRecord) -> int | None:
    """Return the number of a record that has one."""
    if type(record) is Trade:
        text = record.id
        return int(text) if text and len(text) <= _LONGEST_NUMBER and text.isdecimal() else None
    return record.start if type(record) is Candle else None
