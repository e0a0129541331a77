"""Gap records: for which reasons there are some, and which ones there are when records are lost."""

import time
from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import structs

from collector.records import AnyRecord, Gap, channel_of

#: gaps/tracker.py says what each means.
Reason = Literal[
    "disconnect",
    "stale",
    "sequence",
    "malformed",
    "stopped",
    "killed",
    "delisted",
    "dropped",
    "forgotten",
    "corrupt",
    "refused",
    "overlap",
]

_TIMES = ("timestamp", "receipt_timestamp", "start", "end")


def in_microseconds(gap: Gap) -> Gap:
    """Return the gap with its times in whole microseconds, which every store holds as they are.

    Some stores hold floats, and others round: of a finer time two would say different things.
    """
    times = {name: round(getattr(gap, name), -3) for name in _TIMES}
    return structs.replace(gap, **times)


class StoredGap(msgspec.Struct, frozen=True):
    """A gap as it is read out of a store: of ``missed`` of ``symbol``; times are float seconds."""

    symbol: str
    missed: str
    start: float
    end: float
    reason: str
    count: int | None


def missing(records: Iterable[AnyRecord], reason: Reason) -> tuple[Gap, ...]:
    """Return the gaps that there are when ``records`` are lost, one for each channel of each symbol.

    A gap among them is not lost with them: it is part of what is missing.
    """
    spans: dict[tuple[type[AnyRecord], str, str], list[int]] = {}
    gaps = []
    for record in records:
        if isinstance(record, Gap):
            gaps.append(record)
            continue
        receipt = record.receipt_timestamp
        span = spans.setdefault((type(record), record.exchange, record.symbol), [receipt, receipt, 0])
        span[0], span[1], span[2] = min(span[0], receipt), max(span[1], receipt), span[2] + 1
    now = time.time_ns()
    for (kind, exchange, symbol), (start, end, count) in spans.items():
        gaps.append(Gap(exchange, symbol, end, now, channel_of(kind), start, end, reason, count))
    return joined(gaps)


def joined(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """One gap for each channel of each symbol, from where the first begins to where the last ends."""
    found: dict[tuple[str, str, str], Gap] = {}
    for gap in gaps:
        key = gap.exchange, gap.symbol, gap.missed
        found[key] = _joined(found[key], gap) if key in found else gap
    return tuple(found.values())


def _joined(one: Gap, two: Gap) -> Gap:
    start, end = min(one.start, two.start), max(one.end, two.end)
    counts = [gap.count for gap in (one, two) if gap.count is not None]
    return Gap(
        *(one.exchange, one.symbol, end, max(one.receipt_timestamp, two.receipt_timestamp), one.missed),
        *(start, end, one.reason if one.count is not None else two.reason, sum(counts) if counts else None),
    )
