"""What a spool has lost, oldest first: pure arithmetic of sequences, whose disk is elsewhere."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from collector.gap_records import joined
from collector.records import Gap
from collector.spool.incarnations import Incarnations, Ranges

LOSSES_KEPT = 1000


class Loss(msgspec.Struct, frozen=True):
    """Records that will not reach the store.

    Attributes:
        reason: ``dropped`` (no room), ``corrupt`` (the disk gave back something else), ``forgotten``
            (stored once, lost by the store, and no longer in the spool).
        first: sequence of the first of them; ``end`` is the one after the last.
        count: how many; None if nobody knows.
        since: receipt of the first, float seconds; None if nobody knows. ``until``: of the last.
        gaps: what is missing of which channel and symbol; empty where nobody knows.
    """

    reason: str
    first: int
    end: int
    count: int | None
    since: float | None
    until: float | None
    gaps: tuple[Gap, ...] = ()

    def __str__(self) -> str:
        count = "an unknown number of" if self.count is None else self.count
        return f"{count} records {self.reason} (sequence {self.first} to {self.end - 1})"


class Place(NamedTuple):
    """Where records are: from ``first`` to before ``end``, received from ``since`` to ``until``."""

    first: int
    end: int
    since: float = 0.0
    until: float = 0.0


def merged(losses: Sequence[Loss], loss: Loss) -> tuple[Loss, ...]:
    """Return ``losses`` with ``loss``, which the last one grows into if it goes on where that one ended."""
    if losses and (losses[-1].reason, losses[-1].end) == (loss.reason, loss.first):
        return (*losses[:-1], _joined(losses[-1], loss))
    if len(losses) < LOSSES_KEPT:
        return (*losses, loss)
    return (_joined(losses[0], losses[1]), *losses[2:], loss)


def ranges_of(losses: Iterable[Loss]) -> Iterator[tuple[int, int]]:
    """Yield the sequences of losses: from each first one to before each end."""
    return ((loss.first, loss.end) for loss in losses)


def holes(places: Iterable[Place], known: Ranges) -> Iterator[Loss]:
    """Yield what was lost between the places where records are, in their order, and is not known yet."""
    before: Place | None = None
    for place in places:
        if before and (count := known.outside(before.end, place.first)):
            yield Loss("corrupt", before.end, place.first, count, before.until, place.since)
        before = place


def forgotten(
    losses: Sequence[Loss], incarnations: Incarnations, wanted: int, start: int, until: float
) -> tuple[Loss | None, tuple[Loss, ...]]:
    """Return what the store forgot that the spool has no more, if anything, and all losses with that.

    The store has all before ``wanted``, and a writer can go on from ``start`` (received at ``until``).
    """
    others = [it for it in losses if it.reason != "forgotten" or not wanted <= it.first < start]
    count = Ranges([*ranges_of(others), *incarnations.apart]).outside(wanted, start)
    if not count:
        return None, tuple(losses)
    loss = Loss("forgotten", wanted, start, count, incarnations.beginning_of(wanted) / 1e6, until)
    return loss, (*others, loss)


def _joined(one: Loss, two: Loss) -> Loss:
    count = None if one.count is None or two.count is None else one.count + two.count
    return Loss(one.reason, one.first, two.end, count, one.since, two.until, joined((*one.gaps, *two.gaps)))
