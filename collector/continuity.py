"""What was seen before this process: told by the spool, and by the store.

The spool's marks (gaps.py) say how far the process before had got. They are not enough:

- the spool may have been lost, set back by a power failure, or restored from a backup;
- the collector may have another name, with another spool, or symbols that another collector recorded.

So every collector leaves a *note* in the store, at most once a second: its exchange and, for each channel and
symbol, the moment up to which all that was seen is stored. It is written after the commit that makes it true.
A store that forgets its last commits forgets the notes that speak of them too, so that a note never says more
than what the store has.

When a channel of a symbol is seen for the first time in a process, that is a *question*: when was it seen
last? The answer is the latest moment that the spool and all notes know, whatever the name over it: there the
gap begins. Where another collector is alive and has seen it past the moment in which we saw it first, there
is none. Whether it is alive, its next note tells, or the lack of one. Where nobody has ever seen it, there is
no gap either. While the store is away, questions wait, in the spool's marks.

Exchanges repeat the last trades when they are subscribed to. Of these, the newer ones than the last that was
recorded are stored, where it is sure which that is; otherwise none are: they lie in a gap.

What the spool lost (dropped, corrupt), and what the store forgot, become gap records here too, when the store
has taken what comes after: then such a loss cannot grow any more.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

import msgspec
from msgspec import structs

from collector import notes as codec
from collector import typed_json
from collector.bounds import LATEST
from collector.gaps import LAST_RECORDED, Gaps, Hole, Key, Missing, Question, Recorder, last_recorded
from collector.notes import Note
from collector.records import AnyRecord, Gap, channel_of
from collector.spool import Loss, Spool

LOG = logging.getLogger(__name__)

BOOKS = ("l2_book", "l3_book")
#: Seconds between two marks of how far we have got.
PERIOD = 1.0


class _Heard(msgspec.Struct):
    """A note, and when it was heard first, by time.monotonic()."""

    text: str
    note: Note
    until: dict[Key, float]
    left: frozenset[Key]
    at: float


class Continuity:
    """One collector's; ``begin`` comes before anything is received.

    ``wants`` tells whether a pair is what the collector is for.

    Attributes:
        noted: what our note in the store says of what was seen.
    """

    def __init__(self, spool: Spool, recorder: Recorder, gaps: Gaps, wants: Callable[[Key], bool]) -> None:
        self._spool, self._recorder, self._gaps = spool, recorder, gaps
        self._wants = cache(wants)
        self._name = ""
        self._heard: dict[str, _Heard] = {}
        self._stored: dict[Key, float] = {}  # our own note, as the store had it when it was connected
        self._snapshot: tuple[int, dict[Key, float]] | None = None  # true once the store has that sequence
        self._stopped = False
        self._told: set[str] = set()
        self.noted = codec.blank(gaps.exchange)

    # -- the spool -----------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Takes up what earlier processes marked."""
        marks = _Marks(self._gaps.exchange, self._spool.marks)
        await marks.look_at_the_tail(self._spool)
        ended = partial(Hole, reason="stopped" if self._spool.clean else "killed")
        holes = marks.holes | {key: ended(start) for key, start in marks.seen().items()}
        holes |= {key: Hole(self._spool.begun, "corrupt") for key in marks.doubtful}
        if marks.garbled:
            LOG.error("the spool has %d marks that cannot be read: %s", len(marks.garbled), marks.garbled[0])
        if not self._spool.marks_whole:
            self._gaps.unmarked = Hole(self._spool.begun, "corrupt")
        if self._spool.mended:
            since = next(loss.since for loss in reversed(self._spool.losses) if loss.since and not loss.until)
            holes = {key: Hole(min(hole.start, since), "corrupt") for key, hole in holes.items()}
            if not self._spool.marks_whole:
                self._gaps.unmarked = Hole(since, "corrupt")
        self._gaps.take_up(holes, marks.questions)
        for key, missing in marks.missing.items():
            self._gaps.report_missing(key, missing)
        if not self._spool.exact:
            for mark in self._spool.marks:
                if mark.partition(" ")[0] in LAST_RECORDED.values():
                    self._forget(mark)
        self._told = _told(self._spool.marks.get("losses told"))
        await self._recorder.append()

    async def run(self) -> None:
        """Keeps marks up to date, for ever."""
        while True:
            await asyncio.sleep(PERIOD)
            await self._save()

    async def stop(self) -> None:
        """Nothing more will be received: marks how far we have got."""
        self._stopped, self._snapshot = True, None
        await self._save()

    async def _save(self) -> None:
        self._report_losses()
        seen = self._gaps.seen_until()
        self._gaps.save()
        await self._recorder.append()
        if self._snapshot is None:
            self._snapshot = self._spool.end, seen

    def _report_losses(self) -> None:
        losses = [loss for loss in self._spool.losses if self._is_over(loss) and _id(loss) not in self._told]
        for loss in losses:
            for gap in loss.gaps or self._spread(loss):
                self._report(gap)
        if losses:
            self._told |= {_id(loss) for loss in losses}
            self._told &= {_id(loss) for loss in self._spool.losses}
            self._recorder.mark("losses told", msgspec.json.encode(sorted(self._told)).decode())

    def _report(self, gap: Gap) -> None:
        """Changes of a book mean nothing without those before: its gap ends where a complete one comes."""
        now = time.time()
        if gap.missed in BOOKS:
            self._recorder.renew_books([(gap.missed, gap.symbol)])
            gap = structs.replace(gap, end=max(gap.end, now), timestamp=max(gap.end, now))
        self._recorder.report(structs.replace(gap, receipt_timestamp=now))

    def is_put_aside(self, records: Iterable[AnyRecord]) -> None:
        """These are dead letters: changes of a book mean nothing without those before."""
        changed = {(channel_of(each), each.symbol) for each in records}
        self._recorder.renew_books(key for key in changed if key[0] in BOOKS)

    def _is_over(self, loss: Loss) -> bool:
        """Whether it cannot grow; the end of the spool that a corrupt one lacks is a gap of the start."""
        over = (
            loss.end <= self._spool.acknowledged
            if loss.reason == "forgotten"
            else loss.end < self._spool.acknowledged
        )
        return over and loss.since is not None and loss.until is not None

    def _spread(self, loss: Loss) -> Iterable[Gap]:
        """A loss of which nobody knows what was in it may be of anything."""
        for channel, symbol in self._gaps.seen_until():
            start, end = loss.since or 0.0, loss.until or 0.0
            if loss.reason == "forgotten":
                start = max(start, self._stored.get((channel, symbol), 0.0))
            start, end = sorted((start, end))
            yield Gap(self._gaps.exchange, symbol, end, end, channel, start, end, loss.reason, loss.count)

    # -- the store -----------------------------------------------------------------------------------

    @property
    def asking(self) -> bool:
        """Whether there is a question that notes may answer."""
        return bool(self._gaps.questions)

    @property
    def notes(self) -> dict[str, Note]:
        """The notes of all collectors as they were heard last, by name."""
        return {name: heard.note for name, heard in self._heard.items()}

    def note(self, stored: int, good_for: float) -> Note | None:
        """What is to be noted in a store that has all before the sequence ``stored``, if anything."""
        if self.asking or self._snapshot is None or self._snapshot[0] > stored:
            return None
        _, seen = self._snapshot
        self._snapshot = None
        until = self._stored | seen
        ours = {
            key: moment
            for key, moment in until.items()
            if self._wants(key) and key not in self._gaps.elsewhere
        }
        left = {key: moment for key, moment in until.items() if key not in ours}
        self.noted = Note(
            self._gaps.exchange, self._stopped, good_for, codec.moments(ours), codec.moments(left)
        )
        return self.noted

    def meet(self, name: str, notes: Mapping[str, str]) -> None:
        """The store is connected, where we are ``name``."""
        first, self._name = not self._name, name
        self.hear(notes)
        if first:
            self._doubt_trades()
        own = self._heard.get(name)
        is_ours = own is not None and own.note.exchange == self._gaps.exchange
        self._stored = own.until if own and is_ours else {}
        self.noted = own.note if own and is_ours else codec.blank(self._gaps.exchange)

    def _doubt_trades(self) -> None:
        """Another collector, or we before the spool was lost, recorded some since: the last is not known."""
        for heard in self._heard.values():
            for (channel, symbol), until in heard.until.items():
                hole = self._gaps.earlier.get((channel, symbol))
                if heard.note.exchange == self._gaps.exchange and hole and until > hole.start:
                    self._forget(last_recorded(self._gaps.exchange, (channel, symbol)))

    def _forget(self, mark: str) -> None:
        if mark in self._spool.marks:
            self._recorder.mark(mark, "")

    def hear(self, notes: Mapping[str, str]) -> None:
        """Answers the questions that these notes, by collectors' names, can answer."""
        self._heard = {name: heard for name, heard in self._heard.items() if name in notes}
        for name, text in notes.items():
            if name not in self._heard or self._heard[name].text != text:
                note = codec.decode(name, text)
                left = frozenset(codec.pairs(note.left))
                self._heard[name] = _Heard(text, note, note.until(), left, time.monotonic())
        if self._stopped:
            return  # a gap would not be saved any more: the next process asks again
        for question in list(self._gaps.questions):
            self._answer(question)

    def _answer(self, question: Question) -> None:
        key = question.channel, question.symbol
        hole = question.hole
        for name, heard in self._heard.items():
            until = heard.until.get(key)
            if until is None or heard.note.exchange != self._gaps.exchange:
                continue
            if name != self._name:
                if until >= question.end:
                    self._gaps.answered(question)
                    return
                may_live = not heard.note.stopped and time.monotonic() - heard.at < heard.note.good_for
                if may_live and key not in heard.left:
                    return  # its next note tells
            if hole is None or until > hole.start:
                stopped = heard.note.stopped or key in heard.left
                ours = hole is not None and hole.reason == "corrupt" and name == self._name
                hole = Hole(until, "corrupt" if ours else "stopped" if stopped else "killed")
        if hole:
            self._gaps.report(key, hole, question.end)
        self._gaps.answered(question)


class _Marks:
    """What the marks of earlier processes say about one exchange.

    Attributes:
        garbled: marks that cannot be read.
        doubtful: the pairs that these may have been about; nobody knows up to when they were seen.
    """

    def __init__(self, exchange: str, marks: Mapping[str, str]) -> None:
        self.holes: dict[Key, Hole] = {}
        self.questions: list[Question] = []
        self.missing: dict[Key, list[Missing]] = {}
        self.garbled: list[str] = []
        self.doubtful: set[Key] = set()
        self._on: dict[Key, str] = {}
        self._connections: dict[str, tuple[float, int]] = {}
        for mark, value in marks.items():
            kind, _, rest = mark.partition(" ")
            try:
                if kind == "connection":
                    self._connections[rest] = _progress(value)
                elif kind in ("seen", "question", "missing") and rest.startswith(f"{exchange} "):
                    _, channel, symbol = rest.split(" ", 2)
                    self._take((channel, symbol), kind, value)
            except (ValueError, msgspec.DecodeError):
                self.garbled.append(f"{mark} {value}"[:200])
                if kind != "connection" and rest.count(" ") >= 2:
                    _, channel, symbol = rest.split(" ", 2)
                    self.doubtful.add((channel, symbol))
        lost = {key for key, number in self._on.items() if number not in self._connections}
        self.doubtful |= lost
        self._on = {key: number for key, number in self._on.items() if key not in lost}

    def _take(self, key: Key, kind: str, value: str) -> None:
        if kind == "question":
            questions = typed_json.decode(value or "[]", list[Question])
            if any((each.channel, each.symbol) != key for each in questions):
                raise ValueError(value)
            moments = [each.end for each in questions]
            moments += [each.hole.start for each in questions if each.hole]
            if not all(map(_is_moment, moments)):
                raise ValueError(value)
            self.questions += questions
            return
        if kind == "missing":
            missing = typed_json.decode(value or "[]", list[Missing])
            if not all(
                _is_moment(each.start) and _is_moment(each.end) and each.count > 0 for each in missing
            ):
                raise ValueError(value)
            if missing:
                self.missing[key] = missing
            return
        if not value:  # it was never stored: another collector did that
            return
        word, *rest = value.split()
        if word == "on":
            (self._on[key],) = rest
        elif word == "until":
            start, reason = rest
            self.holes[key] = msgspec.convert({"start": _moment(start), "reason": reason}, Hole)
        else:
            raise ValueError(value)

    async def look_at_the_tail(self, spool: Spool) -> None:
        """A connection's last record is as good as a mark."""
        sequences = {self._connections[number][1] for number in self._on.values()}
        if not sequences:
            return
        for record in await spool.tail(min(sequences)):
            number = self._on.get((channel_of(record), record.symbol))
            if number and not isinstance(record, Gap):
                self._connections[number] = record.receipt_timestamp, 0

    def seen(self) -> dict[Key, float]:
        """The pairs that were seen when the process ended, and up to when."""
        return {key: self._connections[number][0] for key, number in self._on.items()}


def _progress(value: str) -> tuple[float, int]:
    until, sequence = value.split()
    number = int(sequence)
    if not 0 <= number < 2**62:
        raise ValueError(value)
    return _moment(until), number


def _moment(text: str) -> float:
    moment = float(text)
    if not _is_moment(moment):
        raise ValueError(text)
    return moment


def _is_moment(seconds: float) -> bool:
    return 0 <= seconds < LATEST


def _told(text: str | None) -> set[str]:
    """Return the losses that were told; rather one twice than one never."""
    try:
        return set(typed_json.decode(text or "[]", list[str]))
    except msgspec.DecodeError as error:
        LOG.error("the spool has a mark that cannot be read: losses told: %s", error)  # noqa: TRY400
        return set()


def _id(loss: Loss) -> str:
    return f"{loss.reason} {loss.first} {loss.end}"
