"""What is remembered across processes: marks, small facts that the spool keeps beside the records.

A mark is saved in one step with the records that it describes. It has a name, which says its kind and what it
is about, and a text. All names and texts are written and read here:

- ``seen EXCHANGE CHANNEL SYMBOL`` is ``on N``, while connection N carries the pair and all is well, or
  ``until TIME REASON``, while a gap is open. It changes when a gap begins or ends.
- ``connection N`` is ``TIME SEQUENCE``: the receipt of the last message that was handled, and the spool's
  next sequence then. It is written once a second for each connection, not for each pair, which costs almost
  nothing. A record of the connection after SEQUENCE is a later moment up to which everything is stored, so
  after SIGKILL a gap begins with the last record that reached the spool.
- ``question EXCHANGE CHANNEL SYMBOL`` lists what must be answered before it is known whether there is a gap.
- ``missing EXCHANGE CHANNEL SYMBOL`` lists records whose numbers were skipped and that may still come: they
  are a gap if the process ends first.
- ``trade EXCHANGE SYMBOL`` and ``candles EXCHANGE SYMBOL`` identify the last recorded one, and the latest
  time, if the exchange repeats some after each subscription (feeds/repeats.py).
- ``last EXCHANGE CHANNEL SYMBOL`` is the content of the last record, for records without numbers, a few
  seconds ago: a subscription may begin with the same content (feeds/intake.py).
- ``unmarked`` is a gap of all pairs that have no mark, since marks were lost, until the feed has begun.
- ``ceded EXCHANGE CHANNEL SYMBOL`` has the spans that another collector stores (ceded.py).
- ``listed EXCHANGE ITEM`` says that an item of SYMBOLS has selected something before.
- ``losses told`` lists the spool's losses that are gap records already.
- ``letters gone`` is the identity of the dead letters whose loss is recorded.
- ``writing`` is the batch that a process started after a crash is writing (crash_watch.py).
- ``gaps`` is a day (UTC) and its number of gap records.

Times are float seconds, UTC. An empty text means that there is no mark; earlier versions wrote some. A
damaged mark counts as missing, and so does a name that no version writes, since what it named is unknown;
remembered.py finds out what each may have been about.
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

_MOST = 2**62  # sequences are roughly microseconds since 1970; nothing from here on is one


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
        """Return the mark that has this text. Raises ValueError or DecodeError if it is damaged."""
        raise NotImplementedError


class Slot[M: Mark](msgspec.Struct, frozen=True):
    """The place of a mark: its name, and what the name says it is about."""

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
    """The state of a subscription: ``Carried`` or in a ``Hole``."""

    @classmethod
    def read(cls, text: str) -> Self:
        """Read either of the two."""
        kind = Carried if text.startswith("on ") else Hole
        return cast("Self", kind.read(text))


class Carried(Seen, frozen=True):
    """A connection carries the subscription, and no gap is open."""

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
    """An open gap; ``start`` is float seconds, UTC."""

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
    """How far a connection has got: the receipt of its last message, and the next sequence then."""

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
    """Whether a pair was seen before ``end``, when this process first saw it.

    ``hole`` is the gap before that, as far as this collector knows; None if it knows nothing.
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
    """``count`` records between two receipts (float seconds, UTC) have not come, though later ones have."""

    start: float
    end: float
    count: int


class MissingRecords(Mark, frozen=True):
    """The missing records of a subscription."""

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
    """The last record: its number, or time (nanoseconds) if it has none; and the latest time of all."""

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

    Any text is valid: a damaged one matches no record.
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
    """Spans of receipts that another collector stores; the last may have no end (infinity)."""

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
    """Says that an item was listed. Any text does, so that a damaged one cannot prevent a start."""

    @property
    def text(self) -> str:
        """The word yes."""
        return "yes"

    @classmethod
    def read(cls, text: str) -> Self:  # noqa: ARG003 - see the class
        """Read anything."""
        return cls()


class LossesTold(Mark, frozen=True):
    """The losses that are gap records already, named by reasons and sequences."""

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
    """The batch that a process started after a crash is writing.

    Attributes:
        first: the sequence at which it begins.
        size: the most records in it.
        until: the sequence after everything suspected.
        deaths: how often writing it has already ended a collector.
        alone: whether it was a single record the last time.
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

UNMARKED = Slot("unmarked", Hole)
LOSSES_TOLD = Slot("losses told", LossesTold)
LETTERS_GONE = Slot("letters gone", LettersGone)
WRITING = Slot("writing", Suspicion)
GAPS_OF_DAY = Slot("gaps", GapsOfDay)

_SINGLE: dict[str, Slot[Any]] = {
    it.name: it for it in (UNMARKED, LOSSES_TOLD, LETTERS_GONE, WRITING, GAPS_OF_DAY)
}
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
    """Return the mark that the spool has in ``place``; None if there is none or it is damaged."""
    text = saved.get(place.name)
    try:
        return place.read(text) if text else None
    except DamagedMarkError:
        return None


class Marks:
    """The marks of one collector: those that are saved, and those to be saved next.

    Args:
        saved: a live view of those in the spool.
        changed: called when there is something to save.
    """

    def __init__(self, saved: Mapping[str, str], changed: Callable[[], None] = lambda: None) -> None:
        self.saved = saved
        self._changed = changed
        self._unsaved: dict[str, Mark | None] = {}  # None: to be removed

    def get[M: Mark](self, place: Slot[M]) -> M | None:
        """Return the mark that was put last, by any process; None if there is none or it is damaged."""
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
        """Yield an exchange's marks of one kind, with their pairs; skip damaged ones."""
        for name in {**self.saved, **self._unsaved}:
            with contextlib.suppress(DamagedMarkError):
                place = slot(name)
                mark = self.get(place) if place.kind is kind and place.exchange == exchange else None
                if mark is not None and place.key:
                    yield place.key, mark

    def put[M: Mark](self, place: Slot[M], mark: M) -> None:
        """Have ``mark`` saved together with the next records."""
        self._unsaved[place.name] = mark
        self._changed()

    def drop(self, place: Slot[Any]) -> None:
        """Remove the mark in ``place``."""
        self.drop_named(place.name)

    def drop_named(self, name: str) -> None:
        """Remove the mark with this name, which may be damaged."""
        self._unsaved[name] = None
        self._changed()

    @property
    def are_saved(self) -> bool:
        """Whether ``take`` would return nothing."""
        return not self._unsaved

    def take(self) -> dict[str, str]:
        """Return the texts to save, by name, and stop keeping them; an empty one removes the mark."""
        taken, self._unsaved = self._unsaved, {}
        return {name: "" if mark is None else mark.text for name, mark in taken.items()}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _whole(text: str) -> int:
    """Return the number that ``text`` is, in digits only. Raises ValueError."""
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= _MOST:
        raise ValueError(text)
    return int(text)


def _moment(seconds: float) -> float:
    """Return ``seconds``. Raises ValueError if it is not a time."""
    if not 0 <= seconds < LATEST:
        raise ValueError(seconds)
    return seconds


def _end(seconds: float) -> float:
    return seconds if seconds == float("inf") else _moment(seconds)
