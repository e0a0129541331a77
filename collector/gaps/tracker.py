"""What a gap is, and where it begins and ends.

A gap is an interval in which records of one channel of one symbol are missing, or may be. Continuity is a
property of such a pair on its exchange, not of a connection, a process or a collector's name. Each pair has
gap records of its own, so one query answers "is trades of BTC-USD complete between A and B?". A gap's times
are receipts: it begins with the last one up to which everything is known to be stored or on its way there,
and ends when the exchange acknowledges the new subscription or sends its first data; that of an order book
ends with the first complete book. If an exchange repeats its last records, the gap ends where these begin; if
they, or their numbers, show that nothing is missing, there is none. Records at the very edges of a gap may be
stored as well.

Reasons:

- ``disconnect``: the connection was lost; ``stale``: it was open, but nothing came.
- ``sequence``: the exchange's numbers or checksums showed that something was missed.
- ``malformed``: a message could not be understood; it is kept aside, unchanged.
- ``stopped``, ``killed``: no collector was running, after a stop or after its process or machine died.
- ``delisted``: the exchange no longer lists the symbol. Such a gap is continued at every start.
- ``dropped``: the spool or its disk was full. One gap for each pair, from the first dropped record to the
  last, written when the store has taken what comes after; ``count`` is exact.
- ``forgotten``: the store lost what it had acknowledged, and the spool no longer had it.
- ``corrupt``: the spool's disk returned something other than was written.
- ``refused``: the store refused the records, and the dead letters later removed them to make room.
- ``overlap``: several collectors started at once, and one of them stores the pair from the gap's end on.
  Before that, others may have received what that one did not.

Whatever must survive the process is in the spool's marks (marks.py). continuity.py handles what happens
between two processes.
"""

import itertools
import logging
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from collector.gap_records import Reason
from collector.gaps import marks
from collector.gaps.marks import Carried, Hole, Missing, Progress, Question, Questions
from collector.gaps.recorder import Recorder
from collector.records import Gap, Key
from collector.times import nanoseconds

LOG = logging.getLogger(__name__)

#: The most delisted pairs whose last sighting is remembered: options expire every day.
MOST_DELISTED = 1000


class Carrier(Protocol):
    """A connection that carries subscriptions."""

    @property
    def handled(self) -> float | None:
        """Receipt (seconds, UTC) of the last message that is done with."""


class Gaps:
    """The state of each subscription: seen, or in a gap.

    Attributes:
        earlier: the gaps that earlier processes left open, by pair.
        unmarked: the gap of every pair that is not among them, until ``all_carried``; None if they have none.
        questions: what must be answered before it is known whether there is a gap.
        elsewhere: the pairs that another collector stores: missing them here is not a gap.
        recorder: records gaps and keeps the marks.
    """

    def __init__(self, exchange: str, recorder: Recorder) -> None:
        self.earlier: dict[Key, Hole] = {}
        self.unmarked: Hole | None = None
        self.questions: list[Question] = []
        self.elsewhere: set[Key] = set()
        self.exchange = exchange
        self.recorder, self._marks = recorder, recorder.marks
        self._holes: dict[Key, Hole] = {}
        self._seen: dict[Key, float] = {}  # pairs seen at present, and since when
        self._known: dict[Key, float] = {}  # pairs seen in this process, and since when
        self._carriers: dict[int, Carrier] = {}
        self._carrier_of: dict[Key, int] = {}
        self._delisted = 0  # delisted since the last check of MOST_DELISTED

    def take_up(self, holes: Mapping[Key, Hole], questions: Iterable[Question]) -> None:
        """Take over the gaps and questions that earlier processes left open."""
        self.earlier |= holes
        self.questions += questions
        for key, hole in holes.items():
            self._mark_hole(key, hole)

    def carried(self, carrier: Carrier, keys: Iterable[Key]) -> None:
        """Note that ``carrier`` is the connection of ``keys``."""
        number = next(number for number in itertools.count() if number not in self._carriers)
        self._carriers[number] = carrier
        self._carrier_of |= dict.fromkeys(keys, number)

    def all_carried(self) -> None:
        """Note that everything is carried by now that earlier processes may have recorded."""
        if self.unmarked:
            lost = {key: self.unmarked for key in self._carrier_of if key not in self.earlier}
            self.take_up(lost, ())
            self.unmarked = None
            self._marks.drop(marks.UNMARKED)

    def parted(self, carrier: Carrier) -> None:
        """Note that ``carrier`` no longer carries anything."""
        self._carriers = {number: it for number, it in self._carriers.items() if it is not carrier}
        left = self._carriers
        self._carrier_of = {key: number for key, number in self._carrier_of.items() if number in left}

    def begin(self, key: Key, start: float, reason: Reason) -> None:
        """Open a gap of ``key`` at ``start`` (seconds, UTC); one that is open already continues."""
        if self._seen.pop(key, None) is not None:
            self._holes[key] = Hole(start, reason)
            self._mark_hole(key, self._holes[key])
            self._delisted += reason == "delisted"
            if self._delisted > MOST_DELISTED // 4:  # not for each of the hundreds that expire together
                self._forget_the_first_delisted()

    def end(self, key: Key, end: float) -> None:
        """Note that ``key`` is seen from ``end`` (seconds, UTC) on, and record its gap, if any."""
        if key in self._seen or key in self.elsewhere:
            return
        self._seen[key] = end
        if key in self._known:
            self.report(key, self._holes.pop(key), end)
        else:
            self._known[key] = end
            self._ask(key, Question(*key, self.earlier.get(key, self.unmarked), end))
        number = self._mark_carried(key)
        carrier = self._carriers.get(number)
        self._mark_carrier(number, max(end, (carrier and carrier.handled) or 0.0))

    def is_open(self, key: Key) -> bool:
        """Return whether a gap of ``key`` that began in this process is open."""
        return key in self._holes

    def withdraw(self, key: Key) -> None:
        """Cancel the open gap of ``key``: nothing was missed."""
        hole = self._holes.pop(key, None)
        if hole and key in self._known:
            self._seen[key] = hole.start
            self._mark_carried(key)

    def cede(self, key: Key, until: float | None) -> None:
        """Leave ``key`` to another collector; we stored it until ``until`` (seconds, UTC), or None: never."""
        self.elsewhere.add(key)
        self._seen.pop(key, None)
        seen, hole = self._known.pop(key, None), self._holes.pop(key, None)
        if until is not None:
            self.earlier[key] = hole or Hole(until, "stopped")
        else:  # nothing was stored; taking it back asks whether there is a gap
            for each in [it for it in self.questions if (it.channel, it.symbol, it.end) == (*key, seen)]:
                self.answered(each)
        if key in self.earlier:
            self._mark_hole(key, self.earlier[key])
        else:
            self._marks.drop(marks.seen(self.exchange, key))

    @property
    def in_doubt(self) -> set[Key]:
        """The pairs of which damage in the spool hid until when earlier processes saw them."""
        return {key for key, hole in self.earlier.items() if hole.reason == "corrupt"}

    def seen_since(self, key: Key) -> float | None:
        """Return when this process first saw ``key`` (seconds, UTC); None if it has not."""
        return self._known.get(key)

    def report_overlap(self, key: Key, start: float, end: float) -> None:
        """Record that we store nothing from ``start``, and another collector everything from ``end``."""
        self.report(key, Hole(start, "overlap"), end)

    def take_back(self, key: Key, start: float | None) -> None:
        """Store ``key`` again from ``start`` (seconds, UTC), or from when it is next seen."""
        self.elsewhere.discard(key)
        if start is not None:
            self.end(key, start)

    def delisted(self, keys: Iterable[Key]) -> None:
        """Record the gaps of pairs that earlier processes saw and the exchange no longer lists."""
        now = time.time()
        known = [key for key in keys if key in self.earlier]
        for key in sorted(known, key=lambda key: self.earlier[key].start):
            self.report(key, Hole(self.earlier.pop(key).start, "delisted"), now)
            self.earlier[key] = Hole(now, "delisted")
            self._mark_hole(key, self.earlier[key])
        self._forget_the_first_delisted()

    def _forget_the_first_delisted(self) -> None:
        """Forget the oldest delisted pairs beyond MOST_DELISTED; relisted, they count as never seen."""
        self._delisted = 0
        holes = self.earlier | self._holes
        delisted = [key for key, hole in holes.items() if hole.reason == "delisted" and key not in self._seen]
        for key in delisted[:-MOST_DELISTED]:
            for known in (self.earlier, self._holes, self._known, self._carrier_of):
                known.pop(key, None)
            self.questions = [it for it in self.questions if (it.channel, it.symbol) != key]
            for place in (marks.seen, marks.questions, marks.last_recorded, marks.last_content):
                self._marks.drop(place(self.exchange, key))

    def report(self, key: Key, hole: Hole, end: float, count: int | None = None) -> None:
        """Record the gap from ``hole.start`` to ``end``; the clock may have stepped back in between."""
        start, end = sorted((hole.start, end))
        channel, symbol = key
        begun, ended = nanoseconds(start), nanoseconds(end)
        self.recorder.report(
            Gap(self.exchange, symbol, ended, time.time_ns(), channel, begun, ended, hole.reason, count)
        )

    def report_missing(self, key: Key, missing: Iterable[Missing]) -> None:
        """Record as gaps what an earlier process was still waiting for, and remove its mark."""
        for each in missing:
            self.report(key, Hole(each.start, "sequence"), each.end, each.count)
        self._marks.drop(marks.missing(self.exchange, key))

    def answered(self, question: Question) -> None:
        """Remove a question that has been answered."""
        self.questions.remove(question)
        self._mark_questions((question.channel, question.symbol))

    @property
    def unseen(self) -> float | None:
        """Seconds from what the previous process saw last until this one saw all; None: not known yet."""
        return None if self.questions or not self._known else self.recorder.unseen

    def save(self) -> None:
        """Mark how far each connection has got."""
        for number, carrier in self._carriers.items():
            if carrier.handled:
                self._mark_carrier(number, carrier.handled)

    def seen_until(self) -> dict[Key, float]:
        """Return until when (seconds, UTC) each pair was seen."""
        handled = {number: carrier.handled or 0.0 for number, carrier in self._carriers.items()}
        carrier_of = self._carrier_of
        seen = {
            key: max(since, handled[carrier_of[key]]) if key in carrier_of else since
            for key, since in self._seen.items()
        }
        return {key: hole.start for key, hole in {**self.earlier, **self._holes}.items()} | seen

    def _ask(self, key: Key, question: Question) -> None:
        self.questions.append(question)
        self._mark_questions(key)

    def _mark_questions(self, key: Key) -> None:
        place = marks.questions(self.exchange, key)
        asked = tuple(each for each in self.questions if (each.channel, each.symbol) == key)
        if asked:
            self._marks.put(place, Questions(asked))
        else:
            self._marks.drop(place)

    def _mark_hole(self, key: Key, hole: Hole) -> None:
        self._marks.put(marks.seen(self.exchange, key), hole)

    def _mark_carried(self, key: Key) -> int:
        """Mark ``key`` as carried; return the number of its connection."""
        number = self._carrier_of.get(key, 0)
        self._marks.put(marks.seen(self.exchange, key), Carried(number))
        return number

    def _mark_carrier(self, number: int, handled: float) -> None:
        self._marks.put(marks.connection(number), Progress(handled, self.recorder.next_sequence))
