"""What is remembered across processes: marks, small facts that the spool keeps beside the records.

A mark is saved together with the records that it speaks of, in one step. It has a name, which says of what
kind it is and what it is about, and a text. All names and texts are written and read here:

- ``seen EXCHANGE CHANNEL SYMBOL`` is ``on N``, while connection N carries the pair and all is well, or
  ``until TIME REASON``, while a gap is open. It changes when one begins or ends.
- ``connection N`` is ``TIME SEQUENCE``: the receipt of the last message that was handled, and the spool's
  next sequence then. It is written once a second, for each connection and not for each pair, because that
  costs next to nothing. A connection's last record after SEQUENCE is a later moment up to which all is
  stored: so after SIGKILL a gap begins with the last record that reached the spool, at no cost before.
- ``question EXCHANGE CHANNEL SYMBOL`` lists what is to be asked before it is known whether there is a gap.
- ``missing EXCHANGE CHANNEL SYMBOL`` lists records whose numbers were skipped and that may still come: they
  are a gap where the process ends before they did.
- ``trade EXCHANGE SYMBOL``, ``candles EXCHANGE SYMBOL`` name the last one that was recorded, and the latest
  time, where the exchange repeats some after each subscription (feeds/repeats.py).
- ``last EXCHANGE CHANNEL SYMBOL`` is the content of the last record of those without numbers, as it was some
  seconds ago: a subscription may begin with it (feeds/intake.py).
- ``ceded EXCHANGE CHANNEL SYMBOL`` has the spans that another collector stores (ceded.py).
- ``listed EXCHANGE ITEM`` says that an item of SYMBOLS has selected something before.
- ``losses told`` lists the spool's losses that are gap records already.
- ``letters gone`` is the identity of the dead letters whose loss is recorded.
- ``writing`` is the batch that is being written by a process that follows a crash (watch.py).
- ``gaps`` is a day (UTC) and its number of gap records.

Times are float seconds, UTC. An empty text means that there is no mark: earlier versions wrote some. One that
is damaged is as good as none; continuity.py says which there are, and what that costs. So is a name that no
version has written: what it named before is unknown.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, cast

import msgspec

from collector import typed_json
from collector.bounds import LATEST
from collector.gap_records import Reason
from collector.records import Key

_MOST = 2**62  # sequences are microseconds since 1970, roughly; what is beyond is none


class DamagedMarkError(ValueError):
    """A mark is not what any version wrote."""


class Mark(msgspec.Struct, frozen=True):
    """A fact that is remembered."""

    @property
    def text(self) -> str:
        """The mark as it is saved; never empty."""
        raise NotImplementedError

    @classmethod
    def read(cls, text: str) -> Self:
        """Return the mark that has this text. Raises ValueError, or DecodeError where it is damaged."""
        raise NotImplementedError


class Slot[M: Mark](msgspec.Struct, frozen=True):
    """Where a mark is kept: its name, and what that says it is about."""

    name: str
    kind: type[M]
    exchange: str = ""
    key: Key | None = None

    def read(self, text: str) -> M:
        """Return the mark with this text. Raises DamagedMarkError."""
        try:
            mark = self.kind.read(text)
        except (ValueError, msgspec.DecodeError) as error:
            raise DamagedMarkError(f"{self.name} {text}"[:200]) from error
        if isinstance(mark, Questions) and any((it.channel, it.symbol) != self.key for it in mark.open):
            raise DamagedMarkError(f"{self.name} {text}"[:200])
        return mark


# -- the kinds -------------------------------------------------------------------------------------------


class Seen(Mark, frozen=True):
    """How a subscription stands: it is ``Carried``, or there is a ``Hole``."""

    @classmethod
    def read(cls, text: str) -> Self:
        """Return whichever of the two it is."""
        kind = Carried if text.startswith("on ") else Hole
        return cast("Self", kind.read(text))


class Carried(Seen, frozen=True):
    """A connection carries it, and all is well."""

    connection: int

    @property
    def text(self) -> str:
        """``on N``."""
        return f"on {self.connection}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``on N``."""
        _, number = text.split()
        return cls(_whole(number))


class Hole(Seen, frozen=True):
    """A gap whose end has not come; ``start`` is float seconds, UTC."""

    start: float
    reason: Reason

    @property
    def text(self) -> str:
        """``until TIME REASON``."""
        return f"until {self.start!r} {self.reason}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``until TIME REASON``."""
        word, start, reason = text.split()
        if word != "until":
            raise ValueError(text)
        return msgspec.convert({"start": _moment(float(start)), "reason": reason}, cls)


class Progress(Mark, frozen=True):
    """How far a connection has got: the receipt of its last message, and the spool's next sequence then."""

    until: float
    sequence: int

    @property
    def text(self) -> str:
        """``TIME SEQUENCE``."""
        return f"{self.until!r} {self.sequence}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``TIME SEQUENCE``."""
        until, sequence = text.split()
        return cls(_moment(float(until)), _whole(sequence))


class Question(msgspec.Struct, frozen=True):
    """A pair is seen from ``end`` on, for the first time in this process: was it seen before?

    ``hole`` is what this collector knows of it.
    """

    channel: str
    symbol: str
    hole: Hole | None
    end: float


class Questions(Mark, frozen=True):
    """The open questions about a subscription."""

    open: tuple[Question, ...]

    @property
    def text(self) -> str:
        """The questions as JSON."""
        return _json(self.open)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a JSON list of questions."""
        questions = typed_json.decode(text, tuple[Question, ...])
        for question in questions:
            _moment(question.end)
            if question.hole:
                _moment(question.hole.start)
        return cls(questions)


class Missing(msgspec.Struct, frozen=True, array_like=True):
    """So many records between two receipts (float seconds, UTC) have not come, though later ones have."""

    start: float
    end: float
    count: int


class MissingRecords(Mark, frozen=True):
    """What is missing of a subscription."""

    spans: tuple[Missing, ...]

    @property
    def text(self) -> str:
        """The spans as JSON: ``[[START, END, COUNT], ...]``."""
        return _json(self.spans)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a JSON list of spans."""
        spans = typed_json.decode(text, tuple[Missing, ...])
        for span in spans:
            _moment(span.start)
            _moment(span.end)
            if span.count <= 0:
                raise ValueError(text)
        return cls(spans)


class LastRecorded(Mark, frozen=True):
    """The last record: its number, or its time (nanoseconds) where it has none; the latest time of all."""

    last: int
    newest: int | None = None

    @property
    def text(self) -> str:
        """``LAST NEWEST``, or ``LAST`` alone."""
        return f"{self.last}" if self.newest is None else f"{self.last} {self.newest}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``LAST NEWEST``; an unknown NEWEST is missing, or the word None."""
        last, _, newest = text.partition(" ")
        return cls(_whole(last), None if newest in {"", "None"} else _whole(newest))


class LastContent(Mark, frozen=True):
    """The content of the last record: an exchange may begin the next subscription with it.

    Any text will do: one that is damaged is the content of no record.
    """

    content: str

    @property
    def text(self) -> str:
        """The content itself."""
        return self.content

    @classmethod
    def read(cls, text: str) -> Self:
        """Read any text."""
        return cls(text)


class Ceded(Mark, frozen=True):
    """What another collector stores: spans of receipts, the last of which may have no end (infinity)."""

    spans: tuple[tuple[float, float], ...]

    @property
    def text(self) -> str:
        """``START,END START,END ...``."""
        return " ".join(f"{start!r},{end!r}" for start, end in self.spans)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``START,END START,END ...``."""
        spans = [each.split(",") for each in text.split()]
        if not spans:
            raise ValueError(text)
        return cls(tuple((_moment(float(start)), _end(float(end))) for start, end in spans))


class Listed(Mark, frozen=True):
    """It was listed. Any text says that: a damaged one must not keep a collector from starting."""

    @property
    def text(self) -> str:
        """The word yes."""
        return "yes"

    @classmethod
    def read(cls, text: str) -> Self:  # noqa: ARG003 - see the class
        """Read anything."""
        return cls()


class LossesTold(Mark, frozen=True):
    """The losses, named by their reasons and sequences, that are gap records already."""

    losses: frozenset[str]

    @property
    def text(self) -> str:
        """The names as a JSON list."""
        return _json(sorted(self.losses))

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a JSON list of names."""
        return cls(typed_json.decode(text, frozenset[str]))


class LettersGone(Mark, frozen=True):
    """The dead letters whose loss is recorded."""

    identity: str

    @property
    def text(self) -> str:
        """Their identity."""
        return self.identity

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an identity: an incarnation, a sequence and a size."""
        _, sequence, size = text.split(" ")
        _whole(sequence)
        _whole(size)
        return cls(text)


class Suspicion(Mark, frozen=True):
    """What is being written, by a process that follows a crash.

    Attributes:
        first: the position before it.
        size: how many records at most.
        until: the position after all that is suspected.
        deaths: how often that has ended a collector already.
        alone: the last time it was one record.
    """

    first: int
    size: int
    until: int
    deaths: int = 0
    alone: bool = False

    @property
    def text(self) -> str:
        """The suspicion as a JSON object."""
        return _json(self)

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a JSON object."""
        return typed_json.decode(text, cls)


class GapsOfDay(Mark, frozen=True):
    """The day (UTC, ``2026-01-31``) of the last gap record, and how many there were on that day."""

    day: str
    count: int

    @property
    def text(self) -> str:
        """``DAY COUNT``."""
        return f"{self.day} {self.count}"

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``DAY COUNT``."""
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{1,15}", text, re.ASCII):
            raise ValueError(text)
        day, count = text.split()
        return cls(day, int(count))


# -- their places ----------------------------------------------------------------------------------------

LOSSES_TOLD = Slot("losses told", LossesTold)
LETTERS_GONE = Slot("letters gone", LettersGone)
WRITING = Slot("writing", Suspicion)
GAPS_OF_DAY = Slot("gaps", GapsOfDay)

_SINGLE: dict[str, Slot[Any]] = {it.name: it for it in (LOSSES_TOLD, LETTERS_GONE, WRITING, GAPS_OF_DAY)}
_OF_PAIRS: dict[str, type[Mark]] = {
    "seen": Seen,
    "question": Questions,
    "missing": MissingRecords,
    "ceded": Ceded,
    "last": LastContent,
}
#: How the marks of the last records begin, by channel.
_LAST_RECORDED = {"trades": "trade", "candles": "candles"}


def seen(exchange: str, key: Key) -> Slot[Seen]:
    """Return the place of how a subscription stands."""
    return _of_pair("seen", exchange, key, Seen)


def questions(exchange: str, key: Key) -> Slot[Questions]:
    """Return the place of the open questions about a subscription."""
    return _of_pair("question", exchange, key, Questions)


def missing(exchange: str, key: Key) -> Slot[MissingRecords]:
    """Return the place of what is missing of a subscription."""
    return _of_pair("missing", exchange, key, MissingRecords)


def ceded(exchange: str, key: Key) -> Slot[Ceded]:
    """Return the place of what another collector stores of a subscription."""
    return _of_pair("ceded", exchange, key, Ceded)


def last_content(exchange: str, key: Key) -> Slot[LastContent]:
    """Return the place of the content of a subscription's last record."""
    return _of_pair("last", exchange, key, LastContent)


def connection(number: int) -> Slot[Progress]:
    """Return the place of how far a connection has got."""
    return Slot(f"connection {number}", Progress)


def last_recorded(exchange: str, key: Key) -> Slot[LastRecorded]:
    """Return the place of the last record of a subscription."""
    channel, symbol = key
    kind = _LAST_RECORDED.get(channel, channel)
    return Slot(f"{kind} {exchange} {symbol}", LastRecorded, exchange, key)


def listed(exchange: str, item: str) -> Slot[Listed]:
    """Return the place of whether an item of SYMBOLS has selected something."""
    return Slot(f"listed {exchange} {item}", Listed, exchange)


def slot(name: str) -> Slot[Any]:
    """Return the place that has this name. Raises DamagedMarkError if no version writes such a name."""
    kind, _, about = name.partition(" ")
    exchange, _, rest = about.partition(" ")
    found: Slot[Any] | None = _SINGLE.get(name)
    if kind in _OF_PAIRS:
        channel, _, symbol = rest.partition(" ")
        found = _of_pair(kind, exchange, (channel, symbol), _OF_PAIRS[kind])
    elif kind in _LAST_RECORDED.values():
        channel = next(channel for channel, word in _LAST_RECORDED.items() if word == kind)
        found = last_recorded(exchange, (channel, rest))
    elif kind == "listed":
        found = listed(exchange, rest)
    elif kind == "connection" and about.isdecimal() and len(about) < 10:
        found = connection(int(about))
    if found is None or found.name != name or name.endswith(" ") or "  " in name:
        raise DamagedMarkError(name[:200])
    return found


def _of_pair[M: Mark](word: str, exchange: str, key: Key, kind: type[M]) -> Slot[M]:
    return Slot(f"{word} {exchange} {key[0]} {key[1]}", kind, exchange, key)


# -- what is remembered ----------------------------------------------------------------------------------


def recall[M: Mark](saved: Mapping[str, str], place: Slot[M]) -> M | None:
    """Return what the spool remembers; None if it is nothing, or damaged."""
    text = saved.get(place.name)
    try:
        return place.read(text) if text else None
    except DamagedMarkError:
        return None


class Marks:
    """The marks of one collector: those that are saved, and those that are to be saved next.

    Args:
        saved: those in the spool, as they are at any moment.
        changed: called when there is something to be saved.
    """

    def __init__(self, saved: Mapping[str, str], changed: Callable[[], None] = lambda: None) -> None:
        self.saved = saved
        self._changed = changed
        self._unsaved: dict[str, Mark | None] = {}  # None: to be removed

    def get[M: Mark](self, place: Slot[M]) -> M | None:
        """Return what was put last, by this process or an earlier one; None for nothing, or damage."""
        if place.name in self._unsaved:
            return cast("M | None", self._unsaved[place.name])
        return recall(self.saved, place)

    def __contains__(self, place: object) -> bool:
        if not isinstance(place, Slot):
            return False
        if place.name in self._unsaved:
            return self._unsaved[place.name] is not None
        return bool(self.saved.get(place.name))

    def of_pairs[M: Mark](self, exchange: str, kind: type[M]) -> Iterator[tuple[Key, M]]:
        """Yield what is remembered of one kind about an exchange's subscriptions, but for what is damaged."""
        for name in {**self.saved, **self._unsaved}:
            with contextlib.suppress(DamagedMarkError):
                place = slot(name)
                mark = self.get(place) if place.kind is kind and place.exchange == exchange else None
                if mark is not None and place.key:
                    yield place.key, mark

    def put[M: Mark](self, place: Slot[M], mark: M) -> None:
        """Remember ``mark`` together with the records that come next."""
        self._unsaved[place.name] = mark
        self._changed()

    def drop(self, place: Slot[Any]) -> None:
        """Remember nothing there any more."""
        self.drop_named(place.name)

    def drop_named(self, name: str) -> None:
        """Remember nothing under a name, which may be damaged."""
        self._unsaved[name] = None
        self._changed()

    @property
    def are_saved(self) -> bool:
        """Whether ``take`` would return nothing."""
        return not self._unsaved

    def take(self) -> dict[str, str]:
        """Return the texts of what is to be saved, by name; an empty one where nothing is remembered."""
        taken, self._unsaved = self._unsaved, {}
        return {name: "" if mark is None else mark.text for name, mark in taken.items()}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _whole(text: str) -> int:
    """Return a number of digits alone. Raises ValueError for any other."""
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= _MOST:
        raise ValueError(text)
    return int(text)


def _moment(seconds: float) -> float:
    """Return a time. Raises ValueError for what is none."""
    if not 0 <= seconds < LATEST:
        raise ValueError(seconds)
    return seconds


def _end(seconds: float) -> float:
    return seconds if seconds == float("inf") else _moment(seconds)
