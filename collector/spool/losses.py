"""What a spool has lost, oldest first: pure arithmetic on sequences, without a disk."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec import structs

from collector.gap_records import joined
from collector.records import Gap
from collector.spool.incarnations import Incarnations, Ranges

LOSSES_KEPT = 1000
#: Of records that left memory, while the disk accepted nothing, after the store had taken them.
DELIVERED = "delivered"


class Loss(msgspec.Struct, frozen=True):
    """Records that will not reach the store, or that the spool could not send to it again.

    Attributes:
        reason: ``dropped`` (no room), ``corrupt`` (the disk gave back something else), ``forgotten``
            (stored once, lost by the store, and no longer in the spool), ``delivered`` (stored, and never on
            disk: nothing is lost until the store forgets them).
        first: sequence of the first of them; ``end`` is the one after the last.
        count: how many; None if unknown.
        since: receipt of the first, float seconds; None if unknown. ``until``: of the last.
        gaps: what is missing, by channel and symbol; empty if unknown.
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
    """A run of records: from ``first`` to before ``end``, received from ``since`` to ``until``."""

    first: int
    end: int
    since: float = 0.0
    until: float = 0.0


def merged(losses: Sequence[Loss], loss: Loss) -> tuple[Loss, ...]:
    """Return ``losses`` and ``loss``, joined with the last one if it directly follows for the same reason."""
    if losses and (losses[-1].reason, losses[-1].end) == (loss.reason, loss.first):
        return (*losses[:-1], _joined(losses[-1], loss))
    if len(losses) < LOSSES_KEPT:
        return (*losses, loss)
    return (_joined(losses[0], losses[1]), *losses[2:], loss)


def ranges_of(losses: Iterable[Loss]) -> Iterator[tuple[int, int]]:
    """Yield the range of sequences of each loss, its end excluded."""
    return ((loss.first, loss.end) for loss in losses)


def holes(places: Iterable[Place], known: Ranges) -> Iterator[Loss]:
    """Yield what was lost between ``places``, which are in order, and is not in ``known``."""
    before: Place | None = None
    for place in places:
        if before and (count := known.outside(before.end, place.first)):
            yield Loss("corrupt", before.end, place.first, count, before.until, place.since)
        before = place


def forgotten(
    losses: Sequence[Loss], incarnations: Incarnations, wanted: int, start: int, until: float
) -> tuple[Loss | None, tuple[Loss, ...]]:
    """Return what the store forgot and the spool no longer has, or None; and all losses, including it.

    The store has everything before ``wanted``; a writer can resume at ``start``, received at ``until``.
    """
    if any(_is_taken_back(loss, wanted) for loss in losses):
        losses = [
            structs.replace(loss, reason="forgotten") if _is_taken_back(loss, wanted) else loss
            for loss in losses
        ]
    others = [it for it in losses if it.reason != "forgotten" or not wanted <= it.first < start]
    count = Ranges([*ranges_of(others), *incarnations.apart]).outside(wanted, start)
    if not count:
        return None, tuple(losses)
    loss = Loss("forgotten", wanted, start, count, incarnations.beginning_of(wanted) / 1e6, until)
    return loss, (*others, loss)


def _is_taken_back(loss: Loss, wanted: int) -> bool:
    """Return whether these were delivered, to a store that has only what is before ``wanted``."""
    return loss.reason == DELIVERED and loss.end > wanted


def _joined(one: Loss, two: Loss) -> Loss:
    count = None if one.count is None or two.count is None else one.count + two.count
    return Loss(one.reason, one.first, two.end, count, one.since, two.until, joined((*one.gaps, *two.gaps)))
