"""Records as gaps what the spool lost and what the store forgot.

A loss is recorded once the store has taken what comes after it, because then it can no longer grow.
"""

import time
from collections.abc import Callable, Iterable, Mapping

from msgspec import structs

from collector.gaps import marks
from collector.gaps.marks import LossesTold
from collector.gaps.tracker import Gaps
from collector.records import BOOKS, AnyRecord, Gap, Key, channel_of
from collector.spool.losses import DELIVERED, Loss
from collector.spool.spool import Spool
from collector.times import nanoseconds


class Losses:
    """The losses of one collector's spool; ``renew_books`` requests complete books."""

    def __init__(self, spool: Spool, gaps: Gaps, renew_books: Callable[[Iterable[Key]], None]) -> None:
        self._spool, self._gaps, self._renew_books = spool, gaps, renew_books
        self._recorder, self._marks = gaps.recorder, gaps.recorder.marks
        self._told: set[str] = set()

    def begin(self) -> None:
        """Read which losses earlier processes recorded."""
        told = self._marks.get(marks.LOSSES_TOLD)
        self._told = set(told.losses) if told else set()

    def put_aside(self, records: Iterable[AnyRecord]) -> None:
        """Renew the books of dead letters: changes of a book are useless without the previous ones."""
        changed = {(channel_of(each), each.symbol) for each in records}
        self._renew_books(key for key in changed if key[0] in BOOKS)

    def report(self, stored: Mapping[Key, float]) -> None:
        """Record the losses that can no longer grow; ``stored`` says until when the store had each pair."""
        losses = [loss for loss in self._lost() if self._is_over(loss) and _id(loss) not in self._told]
        for loss in losses:
            for gap in loss.gaps or self._spread(loss, stored):
                self._report(gap)
        if losses:
            self._told |= {_id(loss) for loss in losses}
            self._told &= {_id(loss) for loss in self._spool.losses}
            self._marks.put(marks.LOSSES_TOLD, LossesTold(frozenset(self._told)))

    @property
    def are_kept(self) -> bool:
        """Whether no loss is in memory only: each is on the spool's disk, or a gap record before ``end``."""
        return self._spool.losses_are_saved or all(_id(loss) in self._told for loss in self._lost())

    def _lost(self) -> Iterable[Loss]:
        """Yield what the store does not have."""
        return (loss for loss in self._spool.losses if loss.reason != DELIVERED)

    def _report(self, gap: Gap) -> None:
        """Record a gap; that of a book lasts until now, when a complete book is requested."""
        now = time.time_ns()
        if gap.missed in BOOKS:
            self._renew_books([(gap.missed, gap.symbol)])
            gap = structs.replace(gap, end=max(gap.end, now), timestamp=max(gap.end, now))
        self._recorder.report(structs.replace(gap, receipt_timestamp=now))

    def _is_over(self, loss: Loss) -> bool:
        """Return whether a loss can no longer grow.

        A corrupt one without an end is recorded as a gap at the start instead.
        """
        over = (
            loss.end <= self._spool.acknowledged
            if loss.reason == "forgotten"
            else loss.end < self._spool.acknowledged
        )
        return over and loss.since is not None and loss.until is not None

    def _spread(self, loss: Loss, stored: Mapping[Key, float]) -> Iterable[Gap]:
        """Yield a gap for every pair, for a loss whose content is unknown."""
        for channel, symbol in self._gaps.seen_until():
            start, end = loss.since or 0.0, loss.until or 0.0
            if loss.reason == "forgotten":
                start = max(start, stored.get((channel, symbol), 0.0))
            start, end = sorted((nanoseconds(start), nanoseconds(end)))
            yield Gap(self._gaps.exchange, symbol, end, end, channel, start, end, loss.reason, loss.count)


def _id(loss: Loss) -> str:
    return f"{loss.reason} {loss.first} {loss.end}"
