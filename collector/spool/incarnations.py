"""Which sequence belongs to which incarnation of a spool: pure arithmetic, without a disk.

An incarnation is one opening of the spool. Its records have the sequences from ``first`` on; those of the one
before it ended at ``before``, and what lies between the two numbers names no record. As ``first`` is the time
of the opening in microseconds, sequences go up whatever became of the folder, and a store's position can be
placed even where a power failure or a backup took its incarnation from us.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import msgspec

from collector.batch import Position


class Incarnation(msgspec.Struct, frozen=True):
    """One opening of the spool: its records have sequences from ``first`` on.

    Those before it ended at ``before``: what lies between the two numbers names no record.
    """

    id: str
    before: int
    first: int


class Ranges:
    """Sequences that no record has: each range from its start to before its end; they may overlap."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        found = sorted(ranges)
        self._begun_at = frozenset(start for start, _ in found)
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._sizes = [0]  # of all ranges before each one, together
        for start, end in found:
            self._add(start if not self._ends else max(start, self._ends[-1]), end)

    def _add(self, start: int, end: int) -> None:
        if start < end:
            self._starts.append(start)
            self._ends.append(end)
            self._sizes.append(self._sizes[-1] + end - start)

    def outside(self, first: int, end: int) -> int:
        """Return how many of the sequences from ``first`` to before ``end`` are in none of the ranges."""
        return max(0, end - first) - max(0, self._before(end) - self._before(first))

    def join(self, end: int, following: int) -> bool:
        """Return whether those from ``following`` on can be the next ones after those before ``end``."""
        if following <= end:
            return following == end
        return end in self._begun_at and not self.outside(end, following)

    def _before(self, sequence: int) -> int:
        """Return how many sequences of the ranges come before ``sequence``."""
        number = bisect_right(self._starts, sequence)
        beyond = max(0, self._ends[number - 1] - sequence) if number else 0
        return self._sizes[number] - beyond


class Incarnations:
    """The incarnations of one spool, oldest first; the last one is the present opening.

    Attributes:
        beginnings: the first sequences of all of them.
    """

    def __init__(self, known: Sequence[Incarnation]) -> None:
        self.known = tuple(known)
        self.beginnings = frozenset(each.first for each in known)

    @property
    def present(self) -> Incarnation:
        """The one of this opening."""
        return self.known[-1]

    @property
    def begun(self) -> int:
        """The first sequence of all; it is the time of the oldest opening in microseconds."""
        return self.known[0].first

    @property
    def apart(self) -> list[tuple[int, int]]:
        """The ranges of sequences between incarnations, which no record has."""
        return [(each.before, each.first) for each in self.known]

    def have(self, incarnation: str) -> bool:
        """Return whether it is one of these, by its id."""
        return any(each.id == incarnation for each in self.known)

    def of(self, sequence: int) -> str:
        """Return the id of the incarnation that a sequence belongs to."""
        return next((each.id for each in reversed(self.known) if each.first <= sequence), self.known[0].id)

    def beginning_of(self, sequence: int) -> int:
        """Return the first sequence of the incarnation that a sequence belongs to."""
        return max((first for first in self.beginnings if first <= sequence), default=self.begun)

    def meaning(self, stored: Position | None, *, end: int, acknowledged: int, exact: bool) -> int:
        """Return the sequence that a store's position means here: the store has all before it.

        Args:
            stored: a position of this spool, or of one that it was copied from; None: it has nothing.
            end: the next sequence of the present incarnation.
            acknowledged: what we know ourselves of how far the store has got.
            exact: whether the spool has surely all that was ever appended to it.
        """
        if stored is None:
            return self.begun
        ends = [following.before for following in self.known[1:]] + [end]
        for each, its_end in zip(self.known, ends, strict=True):
            if each.id == stored.incarnation:
                return min(stored.sequence, its_end)
        if exact:  # a copy of the spool took over meanwhile
            return acknowledged
        # A power failure or a backup took its opening from us: all before it is stored, nothing after it is.
        later = (each.first for each in self.known if each.first > stored.sequence)
        return max(next(later, self.present.first), acknowledged)

    def start(self, wanted: int, *, oldest: int, end: int) -> int:
        """Return where a writer goes on that wants all from ``wanted`` on; there is ``oldest`` to ``end``.

        Where nothing is left of those before the present incarnation, it is within this one: no copy of the
        spool has such a position.
        """
        start = min(max(wanted, oldest), end)
        return max(start, self.present.first) if start >= self.present.before else start


def next_first(before: int, now: int) -> int:
    """Return the first sequence of an incarnation that begins ``now`` (microseconds), after ``before``."""
    return max(before, now)
