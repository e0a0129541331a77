"""Determines what was seen before this process, from the spool and from the store.

The spool's marks (marks.py) say how far the previous process had got. They are not enough:

- the spool may have been lost, set back by a power failure, or restored from a backup;
- the collector may have another name, with another spool, or symbols that another collector recorded.

So every collector writes a *note* into the store, at most once a second: its exchange and, for each channel
and symbol, the moment up to which everything seen is stored. It is written after the commit that makes it
true. A store that forgets its last commits forgets the notes that describe them too, so a note never claims
more than the store has.

When a process sees a channel of a symbol for the first time, that raises a *question*: when was it seen
last? The answer is the latest moment that the spool or any collector's note has: there the gap begins. There
is none if another collector is alive and has seen the pair beyond the moment at which we first saw it;
whether it is alive shows in its next note, or the lack of one. If no collector has ever seen the pair, there
is no gap either. While the store is unavailable, questions wait in the spool's marks.

Exchanges repeat the last trades after a subscription. Those newer than the last recorded one are stored if it
is certain which that is; otherwise none are stored, because they lie in a gap.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

import msgspec

from collector.batch import Position
from collector.dead_letters import Leaving
from collector.gaps import marks
from collector.gaps.losses import Losses
from collector.gaps.marks import (
    DamagedMarkError,
    Hole,
    LastContent,
    LastRecorded,
    LettersGone,
    Question,
)
from collector.gaps.remembered import Remembered
from collector.gaps.tracker import Gaps
from collector.records import AnyRecord, Key
from collector.spool.spool import Spool
from collector.stores import notes as codec
from collector.stores.notes import Moment, Note

LOG = logging.getLogger(__name__)

#: Seconds between marks of how far we have got.
PERIOD = 1.0


class _Heard(msgspec.Struct):
    """A collector's latest note, and when it was first read, by time.monotonic()."""

    text: str
    note: Note
    until: dict[Key, float]
    left: frozenset[Key]
    at: float


class Continuity:
    """The continuity of one collector's subscriptions; call ``begin`` before anything is received.

    ``wants`` says whether the collector is meant to record a pair; ``renew_books`` requests complete books.

    Attributes:
        noted: our latest note.
    """

    def __init__(
        self,
        spool: Spool,
        gaps: Gaps,
        renew_books: Callable[[Iterable[Key]], None],
        wants: Callable[[Key], bool],
    ) -> None:
        self._spool, self._gaps, self._marks = spool, gaps, gaps.recorder.marks
        self._losses = Losses(spool, gaps, renew_books)
        self._wants = cache(wants)
        self._name = ""
        self._heard: dict[str, _Heard] = {}
        self._stored: dict[Key, float] = {}  # our own note, as the store had it at connection
        self._begun: dict[Key, float] = {}
        self._begun_noted: list[Moment] = []  # the same, in the form of a note
        self._snapshot: tuple[int, dict[Key, float]] | None = None  # for the store that has that sequence
        self._stopped = False
        self.noted = codec.blank(gaps.exchange)

    # -- the spool -----------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Take over what earlier processes marked."""
        left = Remembered(self._gaps.exchange, self._spool.marks)
        await left.look_at_the_tail(self._spool)
        ended = partial(Hole, reason="stopped" if self._spool.clean else "killed")
        holes = left.holes | {key: ended(start) for key, start in left.seen().items()}
        holes |= {key: Hole(self._spool.begun, "corrupt") for key in left.doubtful}
        self._drop(left.damaged)
        self._gaps.unmarked = self._marks.get(marks.UNMARKED)
        if not self._spool.marks_whole or left.nameless:
            self._gaps.unmarked = Hole(self._spool.begun, "corrupt")
        if self._spool.mended:
            since = next(loss.since for loss in reversed(self._spool.losses) if loss.since and not loss.until)
            holes = {key: Hole(min(hole.start, since), "corrupt") for key, hole in holes.items()}
            if not self._spool.marks_whole:
                self._gaps.unmarked = Hole(since, "corrupt")
        self._gaps.take_up(holes, left.questions)
        if self._gaps.unmarked:
            self._marks.put(marks.UNMARKED, self._gaps.unmarked)
        for key, missing in left.missing.items():
            self._gaps.report_missing(key, missing)
        self._forget_last_records(exact=self._spool.exact)
        self._losses.begin()
        await self._gaps.recorder.save()

    def _drop(self, damaged: Mapping[str, str]) -> None:
        """Drop damaged marks; what they may have been about is recorded and saved together with that."""
        if damaged:
            name, text = next(iter(damaged.items()))
            LOG.error("the spool has %d marks that cannot be read: %.200s", len(damaged), f"{name} {text}")
        for name in damaged:
            self._marks.drop_named(name)

    def _forget_last_records(self, *, exact: bool) -> None:
        """Drop the marks of last records that may be out of date.

        The collector that records the pair now, or we where the spool is not ``exact``, may have stored
        records that it does not know.
        """
        for name in self._spool.marks:
            with contextlib.suppress(DamagedMarkError):
                place = marks.slot(name)
                is_ours = place.key is not None and self._wants(place.key)
                if place.kind in (LastRecorded, LastContent) and not (is_ours and exact):
                    self._marks.drop(place)

    async def run(self) -> None:
        """Keep marks up to date, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD)
            await self._save()

    async def stop(self) -> None:
        """Mark how far we have got, after the last record was received."""
        self._stopped, self._snapshot = True, None
        await self._save()
        self._gaps.recorder.tell()

    async def _save(self) -> None:
        self._losses.report(self._stored)
        seen = self._gaps.seen_until()
        self._gaps.save()
        await self._gaps.recorder.save()
        # A note of ours hides from the process after a crash what is lost before that and in memory only.
        if self._snapshot is None and self._losses.are_kept:
            self._snapshot = self._spool.end, seen

    def is_put_aside(self, records: Iterable[AnyRecord]) -> None:
        """Note that these records became dead letters."""
        self._losses.put_aside(records)

    async def give_up(self, letters: Leaving) -> bool:
        """Record as gaps the dead letters that go, before they do; return False if that was done before."""
        gone = LettersGone(letters.identity)
        if self._marks.get(marks.LETTERS_GONE) == gone:
            return False
        self._marks.put(marks.LETTERS_GONE, gone)
        for gap in letters.gaps:
            self._gaps.recorder.report(gap)
        await self._gaps.recorder.save()
        return True

    # -- the store -----------------------------------------------------------------------------------

    @property
    def asking(self) -> bool:
        """Whether there is a question that notes may answer."""
        return bool(self._gaps.questions)

    @property
    def notes(self) -> dict[str, Note]:
        """The latest notes of all collectors, by name."""
        return {name: heard.note for name, heard in self._heard.items()}

    def note(self, stored: int, good_for: float) -> Note | None:
        """Return the note for a store that has everything before ``stored``; None if there is nothing new.

        Args:
            stored: a sequence.
            good_for: seconds after which, without another note, others take us for dead.
        """
        if self.asking or self._snapshot is None or self._snapshot[0] > stored:
            return None
        _, seen = self._snapshot
        self._snapshot = None
        until = self._stored | seen
        for key in until.keys() & self._stored.keys() & self._gaps.in_doubt:
            until[key] = max(until[key], self._stored[key])  # the store knows more than a damaged spool
        ours = {
            key: moment
            for key, moment in until.items()
            if self._wants(key) and key not in self._gaps.elsewhere
        }
        left = {key: moment for key, moment in until.items() if key not in ours}
        self._note_what_begins(seen, until)
        self.noted = Note(
            self._gaps.exchange,
            self._stopped,
            good_for,
            codec.moments(ours),
            codec.moments(left),
            begun=self._begun_noted,
        )
        return self.noted

    def _note_what_begins(self, seen: Iterable[Key], noted: Mapping[Key, float]) -> None:
        """Note since when pairs that are new to the store are recorded, by this process or the marks.

        Forget the pairs that are no longer noted because they were delisted long ago.
        """
        gone = self._begun.keys() - noted.keys()
        for key in gone:
            del self._begun[key]
        new = {key for key in seen if key not in self._begun and key not in self._stored}
        for key in new:
            hole, since = self._gaps.earlier.get(key), self._gaps.seen_since(key)
            if hole or since:
                self._begun[key] = math.ceil(min(hole.start if hole else math.inf, since or math.inf))
        if new or gone:
            self._begun_noted = codec.moments(self._begun)

    def meet(self, name: str, notes: Mapping[str, str], stored: Position | None = None) -> None:
        """Take in the notes of a store that was just connected, in which our name is ``name``.

        Our position in it is ``stored``.
        """
        first, self._name = not self._name, name
        self.hear(notes)
        if first:
            self._doubt_trades()
            if stored and self._spool.lacks(stored):
                self._forget_last_records(exact=False)
        own = self._heard.get(name)
        is_ours = own is not None and own.note.exchange == self._gaps.exchange
        self._stored = own.until if own and is_ours else {}
        self._begun = codec.pairs(own.note.begun) if own and is_ours else {}
        self._begun_noted = codec.moments(self._begun)
        self.noted = own.note if own and is_ours else codec.blank(self._gaps.exchange)

    def _doubt_trades(self) -> None:
        """Drop the mark of a last record if a note is newer: which record is the last is then unknown.

        Another collector has recorded some since, or we have, before the spool was lost.
        """
        for heard in self._heard.values():
            for (channel, symbol), until in heard.until.items():
                hole = self._gaps.earlier.get((channel, symbol))
                if heard.note.exchange == self._gaps.exchange and hole and until > hole.start:
                    self._marks.drop(marks.last_recorded(self._gaps.exchange, (channel, symbol)))

    def hear(self, notes: Mapping[str, str]) -> None:
        """Take in the notes of all collectors, by name, and answer the questions that they can answer."""
        self._heard = {name: heard for name, heard in self._heard.items() if name in notes}
        for name, text in notes.items():
            if name not in self._heard or self._heard[name].text != text:
                note = codec.decode(name, text)
                left = frozenset(codec.pairs(note.left))
                self._heard[name] = _Heard(text, note, note.until(), left, time.monotonic())
        if self._stopped:
            return  # a gap could not be saved any more: the next process asks again
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
                    return  # its next note decides
            if hole is None or until > hole.start:
                stopped = heard.note.stopped or key in heard.left
                ours = hole is not None and hole.reason == "corrupt" and name == self._name
                hole = Hole(until, "corrupt" if ours else "stopped" if stopped else "killed")
        if hole:
            self._gaps.report(key, hole, question.end)
        self._gaps.answered(question)
