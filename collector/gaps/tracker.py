"""What a gap is, where one begins and where it ends.

A gap is an interval in which records of one channel of one symbol are missing, or may be. Continuity belongs
to such a pair, on its exchange: not to a connection, nor to a process, nor to a collector's name. There is a
gap record for each pair, so that "is trades of BTC-USD complete between A and B?" is one look. Its times are
receipts: it begins with the last one up to which all is known to be stored or on its way there, and ends with
the exchange's acknowledgement of the new subscription, or with its first data; that of an order book ends
with the first complete book. Where an exchange repeats its last records, it ends where these begin; there is
none where they, or their numbers, tell that nothing is missing. Records of the gap's very edges may be there
as well.

Reasons:

- ``disconnect``, ``stale``: the connection was lost; it was open, and nothing came.
- ``sequence``: the exchange's numbers or checksums told that something was missed.
- ``malformed``: a message could not be understood; it is kept aside, raw.
- ``stopped``, ``killed``: no collector was running, after a stop or after its process or machine died.
- ``delisted``: the exchange does not list the symbol any more. Such a gap grows at every start.
- ``dropped``: the spool's bound, or its disk's. One for each pair, from the first record that was dropped to
  the last, written when the store has taken what comes after; ``count`` is exact.
- ``forgotten``: the store lost what it had acknowledged, and the spool had it no longer.
- ``corrupt``: the spool's disk gave back something else than was written.
- ``refused``: the store refused the records, and the dead letters that held them had to make room for others.
- ``overlap``: several collectors started at once, and one stores it from the gap's end on. Before that,
  others may have received what that one did not.

What has to survive the process is in the spool's marks (marks.py).
The rest, what happens between two processes, is continuity.py's.
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

#: Pairs that are not listed any more of which we know when they were seen last: options expire every day.
MOST_DELISTED = 1000


class Carrier(Protocol):
    """A connection."""

    @property
    def handled(self) -> float | None:
        """Receipt (seconds, UTC) of the last message that is done with."""


class Gaps:
    """How each subscription stands.

    Attributes:
        earlier: the gaps that earlier processes left open, by pair.
        unmarked: that of a pair that is not among them; None if there is none.
        questions: what has to be asked before it is known whether there is a gap.
        elsewhere: what another collector stores: what is missed of it here is no gap.
        recorder: where gap records go, and what survives with them.
    """

    def __init__(self, exchange: str, recorder: Recorder) -> None:
        self.earlier: dict[Key, Hole] = {}
        self.unmarked: Hole | None = None
        self.questions: list[Question] = []
        self.elsewhere: set[Key] = set()
        self.exchange = exchange
        self.recorder, self._marks = recorder, recorder.marks
        self._holes: dict[Key, Hole] = {}
        self._seen: dict[Key, float] = {}  # what is seen now, with the moment since when
        self._known: dict[Key, float] = {}  # what was seen in this process, with the moment since when
        self._carriers: dict[int, Carrier] = {}
        self._carrier_of: dict[Key, int] = {}
        self._delisted = 0  # so many more since it was looked whether there are too many

    def take_up(self, holes: Mapping[Key, Hole], questions: Iterable[Question]) -> None:
        """Earlier processes left these open."""
        self.earlier |= holes
        self.questions += questions
        for key, hole in holes.items():
            self._mark_hole(key, hole)

    def carried(self, carrier: Carrier, keys: Iterable[Key]) -> None:
        """``carrier`` is the connection of these."""
        number = next(number for number in itertools.count() if number not in self._carriers)
        self._carriers[number] = carrier
        self._carrier_of |= dict.fromkeys(keys, number)

    def parted(self, carrier: Carrier) -> None:
        """``carrier`` carries nothing any more."""
        self._carriers = {number: it for number, it in self._carriers.items() if it is not carrier}
        left = self._carriers
        self._carrier_of = {key: number for key, number in self._carrier_of.items() if number in left}

    def begin(self, key: Key, start: float, reason: Reason) -> None:
        """Nothing is surely seen of ``key`` from ``start`` on; a gap that is open already goes on."""
        if self._seen.pop(key, None) is not None:
            self._holes[key] = Hole(start, reason)
            self._mark_hole(key, self._holes[key])
            self._delisted += reason == "delisted"
            if self._delisted > MOST_DELISTED // 4:  # not for each of the hundreds that expire together
                self._forget_the_first_delisted()

    def end(self, key: Key, end: float) -> None:
        """``key`` is seen from ``end`` on."""
        if key in self._seen or key in self.elsewhere:
            return
        self._seen[key] = end
        if key in self._known:
            self.report(key, self._holes.pop(key), end)
        else:
            self._known[key] = end
            self._ask(key, Question(*key, self.earlier.get(key, self.unmarked), end))
        self._mark_carrier(self._mark_carried(key), end)

    def is_open(self, key: Key) -> bool:
        """Return whether there is a gap of ``key`` that has begun in this process."""
        return key in self._holes

    def withdraw(self, key: Key) -> None:
        """Nothing was missing since ``begin``: there is no gap."""
        hole = self._holes.pop(key, None)
        if hole and key in self._known:
            self._seen[key] = hole.start
            self._mark_carried(key)

    def cede(self, key: Key, until: float | None) -> None:
        """Another collector stores ``key``; we did until then (seconds, UTC), or this process never did."""
        self.elsewhere.add(key)
        self._seen.pop(key, None)
        seen, hole = self._known.pop(key, None), self._holes.pop(key, None)
        if until is not None:
            self.earlier[key] = hole or Hole(until, "stopped")
        else:  # nothing was stored: whether there is a gap is asked when we take it back
            for each in [it for it in self.questions if (it.channel, it.symbol, it.end) == (*key, seen)]:
                self.answered(each)
        if key in self.earlier:
            self._mark_hole(key, self.earlier[key])
        else:
            self._marks.drop(marks.seen(self.exchange, key))

    def seen_since(self, key: Key) -> float | None:
        """Return the moment in which this process saw ``key`` first."""
        return self._known.get(key)

    def report_overlap(self, key: Key, start: float, end: float) -> None:
        """Record that we store nothing from ``start``, and another collector everything from ``end``."""
        self.report(key, Hole(start, "overlap"), end)

    def take_back(self, key: Key, start: float | None) -> None:
        """We store ``key`` again: from ``start`` on (seconds, UTC), or from when it is seen next."""
        self.elsewhere.discard(key)
        if start is not None:
            self.end(key, start)

    def delisted(self, keys: Iterable[Key]) -> None:
        """The exchange does not list these any more; earlier processes saw them."""
        now = time.time()
        known = [key for key in keys if key in self.earlier]
        for key in sorted(known, key=lambda key: self.earlier[key].start):
            self.report(key, Hole(self.earlier.pop(key).start, "delisted"), now)
            self.earlier[key] = Hole(now, "delisted")
            self._mark_hole(key, self.earlier[key])
        self._forget_the_first_delisted()

    def _forget_the_first_delisted(self) -> None:
        """Bound what is known of those: where one is listed again, nobody has ever seen it."""
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
        """Record that ``hole`` ended at ``end``; the clock may have stepped back in between."""
        start, end = sorted((hole.start, end))
        channel, symbol = key
        begun, ended = nanoseconds(start), nanoseconds(end)
        self.recorder.report(
            Gap(self.exchange, symbol, ended, time.time_ns(), channel, begun, ended, hole.reason, count)
        )

    def report_missing(self, key: Key, missing: Iterable[Missing]) -> None:
        """Record what an earlier process was still waiting for; its mark is removed."""
        for each in missing:
            self.report(key, Hole(each.start, "sequence"), each.end, each.count)
        self._marks.drop(marks.missing(self.exchange, key))

    def answered(self, question: Question) -> None:
        """It need not be asked any more."""
        self.questions.remove(question)
        self._mark_questions((question.channel, question.symbol))

    def save(self) -> None:
        """Marks how far each connection has got."""
        for number, carrier in self._carriers.items():
            if carrier.handled:
                self._mark_carrier(number, carrier.handled)

    def seen_until(self) -> dict[Key, float]:
        """Return the moment up to which each pair was seen."""
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
        """Remember that all is well with ``key``; return the number of its connection."""
        number = self._carrier_of.get(key, 0)
        self._marks.put(marks.seen(self.exchange, key), Carried(number))
        return number

    def _mark_carrier(self, number: int, handled: float) -> None:
        self._marks.put(marks.connection(number), Progress(handled, self.recorder.next_sequence))
