"""Records gaps: each becomes a record on its way to the store, and is logged."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from collector.gap_records import in_microseconds
from collector.gaps.marks import GAPS_OF_DAY, GapsOfDay, Marks
from collector.records import AnyRecord, Gap
from collector.times import SECOND

LOG = logging.getLogger(__name__)

#: Seconds for which gaps are gathered into one log line.
GATHER = 0.5
#: Reasons of gaps during which no collector was running.
BETWEEN_PROCESSES = ("stopped", "killed")
#: The most symbols that a log line names.
NAMED = 20


class Burst(Protocol):
    """Records and marks on their way into the spool."""

    marks: Marks

    def put(self, record: AnyRecord) -> None:
        """Add a record."""

    @property
    def next_sequence(self) -> int:
        """A sequence that the next record will have, or a later one."""

    async def append(self) -> None:
        """Append what was put and marked so far, and wait until it is saved."""


class Recorder:
    """Records gaps.

    Attributes:
        marks: facts that are saved together with the records.
    """

    def __init__(self, burst: Burst) -> None:
        self._burst = burst
        self.marks = burst.marks
        self._lines = Lines()
        self._between: tuple[int, int] | None = None

    def report(self, gap: Gap) -> None:
        """Record a gap."""
        gap = in_microseconds(gap)
        self._burst.put(gap)
        if gap.reason in BETWEEN_PROCESSES:
            start, end = self._between or (gap.start, gap.end)
            self._between = max(start, gap.start), max(end, gap.end)
        self.marks.put(GAPS_OF_DAY, GapsOfDay(_today(), self.today + 1))
        self._lines.add(gap)

    @property
    def unseen(self) -> float:
        """Seconds from what the previous process saw last until this one saw everything, as reported so far.

        Subscriptions that the previous process no longer recorded have been unseen for longer.
        """
        return (self._between[1] - self._between[0]) / SECOND if self._between else 0.0

    @property
    def today(self) -> int:
        """The number of gap records since midnight, UTC, in this process and earlier ones."""
        last = self.marks.get(GAPS_OF_DAY)
        return last.count if last and last.day == _today() else 0

    @property
    def next_sequence(self) -> int:
        """A sequence that the next record will have, or a later one."""
        return self._burst.next_sequence

    async def save(self) -> None:
        """Save what was reported and marked so far; on return it survives the process."""
        await self._burst.append()

    def tell(self) -> None:
        """Log the gaps that are still being gathered."""
        self._lines.tell()


class Lines:
    """Logs gaps: one line for all that began at the same moment for the same reason."""

    def __init__(self) -> None:
        self._gaps: list[Gap] = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, gap: Gap) -> None:
        """Log a gap within GATHER seconds."""
        self._gaps.append(gap)
        if not self._timer:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self.tell)

    def tell(self) -> None:
        """Log the gathered gaps now."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        alike: dict[tuple[str, int, str], list[Gap]] = defaultdict(list)
        for gap in self._gaps:
            alike[gap.exchange, gap.start, gap.reason].append(gap)
        self._gaps = []
        for gaps in alike.values():
            LOG.warning("%s", _line(gaps))


def _line(gaps: Sequence[Gap]) -> str:
    first, end = gaps[0], max(gap.end for gap in gaps)
    channels, symbols = sorted({gap.missed for gap in gaps}), sorted({gap.symbol for gap in gaps})
    more = f" and {len(symbols) - NAMED} more" if len(symbols) > NAMED else ""
    counts, lasted = {gap.count for gap in gaps}, (end - first.start) / SECOND
    count = f", {sum(gap.count or 0 for gap in gaps)} records" if None not in counts else ""
    return (
        f"gap: {first.exchange} {','.join(channels)} {','.join(symbols[:NAMED])}{more}: not seen for "
        f"{lasted:.3f} s, from {_utc(first.start)} to {_utc(end)} ({first.reason}{count})"
    )


def _utc(time: int) -> str:
    moment = datetime.fromtimestamp(time / SECOND, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
