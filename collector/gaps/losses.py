"""What the spool lost, and what the store forgot, becomes gap records.

That is when the store has taken what comes after: then such a loss cannot grow any more.
"""

import time
from collections.abc import Callable, Iterable, Mapping

from msgspec import structs

from collector.gaps import marks
from collector.gaps.marks import LossesTold
from collector.gaps.tracker import Gaps
from collector.records import BOOKS, AnyRecord, Gap, Key, channel_of
from collector.spool.spool import Loss, Spool
from collector.times import nanoseconds


class Losses:
    """The losses of one collector's spool; ``renew_books`` has complete books follow."""

    def __init__(self, spool: Spool, gaps: Gaps, renew_books: Callable[[Iterable[Key]], None]) -> None:
        self._spool, self._gaps, self._renew_books = spool, gaps, renew_books
        self._recorder, self._marks = gaps.recorder, gaps.recorder.marks
        self._told: set[str] = set()

    def begin(self) -> None:
        """Take up what earlier processes recorded."""
        told = self._marks.get(marks.LOSSES_TOLD)
        self._told = set(told.losses) if told else set()

    def put_aside(self, records: Iterable[AnyRecord]) -> None:
        """These are dead letters: changes of a book mean nothing without those before."""
        changed = {(channel_of(each), each.symbol) for each in records}
        self._renew_books(key for key in changed if key[0] in BOOKS)

    def report(self, stored: Mapping[Key, float]) -> None:
        """Record what can no longer grow; up to ``stored`` the store had each pair."""
        losses = [loss for loss in self._spool.losses if self._is_over(loss) and _id(loss) not in self._told]
        for loss in losses:
            for gap in loss.gaps or self._spread(loss, stored):
                self._report(gap)
        if losses:
            self._told |= {_id(loss) for loss in losses}
            self._told &= {_id(loss) for loss in self._spool.losses}
            self._marks.put(marks.LOSSES_TOLD, LossesTold(frozenset(self._told)))

    def _report(self, gap: Gap) -> None:
        """Changes of a book mean nothing without those before: its gap ends where a complete one comes."""
        now = time.time_ns()
        if gap.missed in BOOKS:
            self._renew_books([(gap.missed, gap.symbol)])
            gap = structs.replace(gap, end=max(gap.end, now), timestamp=max(gap.end, now))
        self._recorder.report(structs.replace(gap, receipt_timestamp=now))

    def _is_over(self, loss: Loss) -> bool:
        """Whether it cannot grow; the end of the spool that a corrupt one lacks is a gap of the start."""
        over = (
            loss.end <= self._spool.acknowledged
            if loss.reason == "forgotten"
            else loss.end < self._spool.acknowledged
        )
        return over and loss.since is not None and loss.until is not None

    def _spread(self, loss: Loss, stored: Mapping[Key, float]) -> Iterable[Gap]:
        """A loss of which nobody knows what was in it may be of anything."""
        for channel, symbol in self._gaps.seen_until():
            start, end = loss.since or 0.0, loss.until or 0.0
            if loss.reason == "forgotten":
                start = max(start, stored.get((channel, symbol), 0.0))
            start, end = sorted((nanoseconds(start), nanoseconds(end)))
            yield Gap(self._gaps.exchange, symbol, end, end, channel, start, end, loss.reason, loss.count)


def _id(loss: Loss) -> str:
    return f"{loss.reason} {loss.first} {loss.end}"
