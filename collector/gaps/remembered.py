"""What earlier processes left in the spool's marks, read by the next one."""

from collections.abc import Mapping
from typing import Any

from collector.gaps import marks
from collector.gaps.marks import (
    Carried,
    DamagedMarkError,
    Hole,
    Missing,
    MissingRecords,
    Progress,
    Question,
    Questions,
    Seen,
    Slot,
)
from collector.records import Gap, Key, channel_of
from collector.spool.spool import Spool
from collector.times import SECOND

#: Marks without which it is unknown until when their pair was seen.
_TELL_WHAT_WAS_SEEN = (Seen, Questions, MissingRecords)


class Remembered:
    """What earlier processes remembered about one exchange.

    Attributes:
        damaged: the texts of unreadable marks, by name.
        doubtful: the pairs that these may have been about; it is unknown until when they were seen.
        nameless: whether a mark's name was unreadable, so that it may have been about any pair.
    """

    def __init__(self, exchange: str, saved: Mapping[str, str]) -> None:
        self.holes: dict[Key, Hole] = {}
        self.questions: list[Question] = []
        self.missing: dict[Key, tuple[Missing, ...]] = {}
        self.damaged: dict[str, str] = {}
        self.doubtful: set[Key] = set()
        self.nameless = False
        self._on: dict[Key, int] = {}
        self._connections: dict[int, Progress] = {}
        for name, text in saved.items():
            try:
                place = marks.slot(name)
            except DamagedMarkError:
                self.nameless = True
                self.damaged[name] = text
                continue
            if text and place.exchange in {exchange, ""}:
                self._take(place, text)
        for key, number in [*self._on.items()]:
            if number not in self._connections:
                del self._on[key]
                self._doubt(marks.seen(exchange, key), Carried(number).text)

    def _take(self, place: Slot[Any], text: str) -> None:
        key = place.key
        try:
            mark = place.read(text)
        except DamagedMarkError:
            self._doubt(place, text)
            return
        match mark, key:
            case Progress(), None:
                self._connections[int(place.name.split()[1])] = mark
            case Carried(), (_, _):
                self._on[key] = mark.connection
            case Hole(), (_, _):
                self.holes[key] = mark
            case Questions(), (_, _):
                self.questions += mark.open
            case MissingRecords(), (_, _):
                self.missing[key] = mark.spans

    def _doubt(self, place: Slot[Any], text: str) -> None:
        self.damaged[place.name] = text
        self.nameless |= place == marks.UNMARKED
        if place.kind in _TELL_WHAT_WAS_SEEN and place.key:
            self.doubtful.add(place.key)

    async def look_at_the_tail(self, spool: Spool) -> None:
        """Advance each connection's progress to its last record on disk, which may be newer than its mark."""
        sequences = {self._connections[number].sequence for number in self._on.values()}
        if not sequences:
            return
        for record in await spool.tail(min(sequences)):
            number = self._on.get((channel_of(record), record.symbol))
            if number is not None and not isinstance(record, Gap):
                self._connections[number] = Progress(record.receipt_timestamp / SECOND, 0)

    def seen(self) -> dict[Key, float]:
        """Return the pairs that were being seen when the process ended, and until when (seconds, UTC)."""
        return {key: self._connections[number].until for key, number in self._on.items()}
