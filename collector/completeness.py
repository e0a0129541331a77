"""Up to when data is complete, and what is missing before that, from the notes and gaps in a store.

Each collector notes in its store up to when everything that it saw of a channel and symbol is stored; what it
could not see is a gap there. So the store alone can answer, even when its collectors are gone. Notes also say
since when a pair is recorded: nothing before that is there. Data that was removed later is not noticed.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from types import MappingProxyType
from typing import Any

import msgspec

from collector import stores
from collector.bounds import LATEST
from collector.gap_records import StoredGap
from collector.records import Key
from collector.settings import Settings
from collector.stores import notes as codec
from collector.stores.notes import Note
from collector.symbol_patterns import is_plain
from collector.typed_json import DecodeError


class Interval(msgspec.Struct, frozen=True):
    """From ``since`` to ``until``, in seconds since 1970; None means open."""

    since: float | None = None
    until: float | None = None

    def part(self, start: float, end: float) -> tuple[float, float] | None:
        """Return the part of an interval that lies within this one."""
        start = start if self.since is None else max(start, self.since)
        end = end if self.until is None else min(end, self.until)
        return (start, end) if start <= end else None


class Missing(msgspec.Struct, frozen=True):
    """The part of a gap within the interval; ``count`` is that of the whole gap, None if unknown."""

    start: float
    end: float
    reason: str
    count: int | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """How complete one channel of one symbol is.

    Attributes:
        since: when recording began; None if unknown.
        until: the time up to which everything that was seen is stored; None if no collector has noted any.
        gaps: what is missing, oldest first.
        late: seconds between ``until`` and the end of the interval (or its beginning, if it has no end), if
            that is later.
        early: seconds of the interval before ``since`` (between its end and ``since``, if it has no
            beginning).
    """

    exchange: str
    channel: str
    symbol: str
    until: float | None
    since: float | None = None
    gaps: Sequence[Missing] = ()
    late: float = 0.0
    early: float = 0.0

    @property
    def is_complete(self) -> bool:
        """Whether nothing in the interval is missing, as far as is known."""
        return self.until is not None and not (self.gaps or self.late or self.early)

    @property
    def missing(self) -> float:
        """Seconds that lie in a gap, each counted once."""
        return _covered(self.gaps)

    @property
    def by_reason(self) -> dict[str, list[Missing]]:
        """The gaps by reason, the longest first."""
        found: dict[str, list[Missing]] = defaultdict(list)
        for gap in self.gaps:
            found[gap.reason].append(gap)
        return dict(sorted(found.items(), key=lambda item: -_covered(item[1])))


async def look(settings: Settings, interval: Interval) -> tuple[list[Row], list[str]]:
    """Query a collector's store about what the collector is for.

    Returns a row for each channel and symbol, and what in the store is damaged and ignored. If nothing has
    been stored yet, the rows are those of the channels and symbols requested by name. Raises
    StoreUnavailableError or StoreRefusedError.
    """
    store = stores.create(settings)
    if not isinstance(store, stores.ReadableStore):
        raise TypeError(f"{settings.backend} keeps nothing")
    named = product(settings.channels, filter(is_plain, settings.symbols))
    seen: dict[Key, float | None] = dict.fromkeys(filter(settings.records, named))
    damaged: list[str] = []
    since: Mapping[Key, float] = {}
    found: Sequence[StoredGap] = ()
    try:
        await store.open_to_read()
        notes, damaged = read_notes(await store.notes())
        seen |= pairs(notes, settings.exchange, settings.records)
        since = begun(notes, settings.exchange)
        found = await store.gaps(settings.exchange, sorted({symbol for _, symbol in seen}))
    except stores.NothingStoredError:
        pass
    finally:
        await store.close()
    gaps = []
    for gap in found:
        if _are_times(gap.start, gap.end):
            gaps.append(gap)
        else:
            damaged.append(f"a gap of {gap.missed} of {gap.symbol}")
    return rows(settings.exchange, seen, gaps, interval, since), damaged


def read_notes(texts: Mapping[str, str]) -> tuple[list[Note], list[str]]:
    """Return the notes of all collectors, and the names of damaged ones."""
    notes, damaged = [], []
    for name, text in texts.items():
        try:
            note = codec.read(text)
        except DecodeError:
            note = None
        if note and _are_times(*note.until().values(), *codec.pairs(note.begun).values()):
            notes.append(note)
        else:
            damaged.append(f"the note of collector {name}")
    return notes, damaged


def _are_times(*seconds: float) -> bool:
    """Return whether these are plausible seconds since 1970."""
    return all(0 <= each < LATEST for each in seconds)


def pairs(notes: Iterable[Note], exchange: str, wanted: Callable[[Key], bool]) -> dict[Key, float]:
    """Return up to when the wanted channels and symbols of an exchange have been seen."""
    found: dict[Key, float] = {}
    for note in notes:
        if note.exchange == exchange:
            for key, until in note.until().items():
                if wanted(key):
                    found[key] = max(until, found.get(key, 0.0))
    return found


def begun(notes: Iterable[Note], exchange: str) -> dict[Key, float]:
    """Return since when pairs are recorded, without those for which some note does not say it."""
    found: dict[Key, float] = {}
    unknown: set[Key] = set()
    for note in notes:
        if note.exchange == exchange:
            of_note = codec.pairs(note.begun)
            unknown |= note.until().keys() - of_note.keys()
            for key, since in of_note.items():
                found[key] = min(since, found.get(key, since))
    return {key: since for key, since in found.items() if key not in unknown}


def rows(
    exchange: str,
    seen: Mapping[Key, float | None],
    gaps: Iterable[StoredGap],
    interval: Interval,
    since: Mapping[Key, float] = MappingProxyType({}),
) -> list[Row]:
    """Return a row for each channel and symbol in ``seen``, sorted by name.

    ``since`` says when recording of pairs began, as far as known.
    """
    wanted = interval.since if interval.until is None else interval.until
    missing: dict[Key, set[Missing]] = defaultdict(set)  # two collectors may have seen the same gap
    for gap in gaps:
        if part := interval.part(gap.start, gap.end):
            missing[gap.missed, gap.symbol].add(Missing(*part, gap.reason, gap.count))
    return [
        Row(
            exchange=exchange,
            channel=key[0],
            symbol=key[1],
            since=since.get(key),
            until=until,
            gaps=sorted(missing[key], key=lambda gap: (gap.start, gap.end)),
            late=max(0.0, wanted - until) if wanted and until else 0.0,
            early=_early(interval, since.get(key, 0.0)),
        )
        for key, until in sorted(seen.items())
    ]


def _early(interval: Interval, since: float) -> float:
    if interval.since is None:
        return max(0.0, since - interval.until) if interval.until else 0.0
    end = since if interval.until is None else min(since, interval.until)
    return max(0.0, end - interval.since)


def _covered(gaps: Collection[Missing]) -> float:
    seconds = end = 0.0
    for gap in sorted(gaps, key=lambda gap: gap.start):
        seconds += max(0.0, gap.end - max(gap.start, end))
        end = max(end, gap.end)
    return seconds


def encode(row: Row) -> dict[str, Any]:
    """Return the row as JSON has it; times are ISO 8601, UTC."""
    return {
        "exchange": row.exchange,
        "channel": row.channel,
        "symbol": row.symbol,
        "complete": row.is_complete,
        "since": None if row.since is None else _iso(row.since),
        "until": None if row.until is None else _iso(row.until),
        "early_seconds": round(row.early, 6),
        "late_seconds": round(row.late, 6),
        "missing_seconds": round(row.missing, 6),
        "reasons": {
            reason: {"gaps": len(gaps), "seconds": round(_covered(gaps), 6), "records": _records(gaps)}
            for reason, gaps in row.by_reason.items()
        },
        "gaps": [
            {"start": _iso(gap.start), "end": _iso(gap.end), "reason": gap.reason, "records": gap.count}
            for gap in row.gaps
        ],
    }


def _records(gaps: Collection[Missing]) -> int | None:
    counts = [gap.count for gap in gaps if gap.count is not None]
    return sum(counts) if counts else None


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
