"""Which sequence belongs to which incarnation of a spool: pure arithmetic, without a disk.

An incarnation is one opening of the spool. Its records have the sequences from ``first`` on; those of the
previous one end before ``before``, and no record has a sequence in between. ``first`` is the time of the
opening in microseconds, so sequences increase whatever happened to the folder, and a store's position can be
located even if a power failure or a restored backup removed its incarnation here.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from collector.batch import Position


class Incarnation(msgspec.Struct, frozen=True):
    """One opening of the spool: its records have sequences from ``first`` on.

    Those of the previous one end before ``before``; no record has a sequence in between.
    """

    id: str
    before: int
    first: int


class Ranges:
    """Ranges of sequences that no record has, each including its start but not its end; they may overlap."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        found = sorted(ranges)
        self._begun_at = frozenset(start for start, _ in found)
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._sizes = [0]  # the total size of the ranges before each one
        for start, end in found:
            self._add(start if not self._ends else max(start, self._ends[-1]), end)

    def _add(self, start: int, end: int) -> None:
        if start < end:
            self._starts.append(start)
            self._ends.append(end)
            self._sizes.append(self._sizes[-1] + end - start)

    def outside(self, first: int, end: int) -> int:
        """Return how many sequences from ``first`` to before ``end`` are outside all ranges."""
        return max(0, end - first) - max(0, self._before(end) - self._before(first))

    def join(self, end: int, following: int) -> bool:
        """Return whether records from ``following`` on can directly follow those before ``end``."""
        if following <= end:
            return following == end
        return end in self._begun_at and not self.outside(end, following)

    def _before(self, sequence: int) -> int:
        """Return how many sequences before ``sequence`` are in the ranges."""
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
        """The incarnation of this opening."""
        return self.known[-1]

    @property
    def begun(self) -> int:
        """The first sequence of all, which is the time of the oldest known opening in microseconds."""
        return self.known[0].first

    @property
    def apart(self) -> list[tuple[int, int]]:
        """The ranges of sequences between incarnations, which no record has."""
        return [(each.before, each.first) for each in self.known]

    def have(self, incarnation: str) -> bool:
        """Return whether this id is one of theirs."""
        return any(each.id == incarnation for each in self.known)

    def lack(self, stored: Position) -> bool:
        """Return whether a position is beyond the end of its incarnation, which is not the present one."""
        ends = {each.id: following.before for each, following in pairwise(self.known)}
        return stored.sequence > ends.get(stored.incarnation, stored.sequence)

    def of(self, sequence: int) -> str:
        """Return the id of the incarnation that a sequence belongs to."""
        return next((each.id for each in reversed(self.known) if each.first <= sequence), self.known[0].id)

    def beginning_of(self, sequence: int) -> int:
        """Return the first sequence of the incarnation that a sequence belongs to."""
        return max((first for first in self.beginnings if first <= sequence), default=self.begun)

    def meaning(self, stored: Position | None, *, end: int, acknowledged: int, exact: bool) -> int:
        """Return the sequence that a store's position means here: the store has everything before it.

        Args:
            stored: a position of this spool, or of one that it was copied from; None if there is none.
            end: the next sequence of the present incarnation.
            acknowledged: the sequence up to which we know the store to be.
            exact: whether nothing that was ever appended can be missing from the spool.
        """
        if stored is None:
            return self.begun
        ends = [following.before for following in self.known[1:]] + [end]
        for each, its_end in zip(self.known, ends, strict=True):
            if each.id == stored.incarnation:
                return min(stored.sequence, its_end)
        if exact:  # a copy of the spool has taken over meanwhile
            return acknowledged
        # A power failure or a backup removed its opening: everything before that is stored, nothing after it.
        later = (each.first for each in self.known if each.first > stored.sequence)
        return max(next(later, self.present.first), acknowledged)

    def start(self, wanted: int, *, oldest: int, end: int) -> int:
        """Return where a writer resumes that needs everything from ``wanted`` on.

        Records from ``oldest`` to before ``end`` exist. If none of earlier incarnations is left, the result
        is within the present one, because no copy of the spool has such a position.
        """
        start = min(max(wanted, oldest), end)
        return max(start, self.present.first) if start >= self.present.before else start


def next_first(before: int, now: int) -> int:
    """Return the first sequence of an incarnation that begins ``now`` (microseconds), after ``before``."""
    return max(before, now)
