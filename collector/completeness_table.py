"""Reading times and showing completeness as people write and read them; see completeness.py."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from collector.settings import duration

#: Those of the columns that are aligned to the right begin with ``>``.
HEADINGS = "EXCHANGE", "CHANNEL", "SYMBOL", "COMPLETE UNTIL", ">GAPS", ">MISSING", "REASONS"


def moment(text: str) -> float:
    """Read a date, a time in ISO 8601 (UTC unless it has an offset) or an age; return seconds since 1970.

    Raises ValueError.
    """
    with contextlib.suppress(ValueError):
        return time.time() - duration(text) if text[-1:].isalpha() and text[-1:] != "Z" else _parsed(text)
    raise ValueError(f"{text!r} is not a time such as 2026-11-28, 2026-11-28T08:30 or 2h")


def check_order(since: float | None, until: float | None) -> None:
    """Raise ValueError if an interval ends before it begins."""
    if since is not None and until is not None and since > until:
        raise ValueError("--since is later than --until; swap them")


def _parsed(text: str) -> float:
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def cells(told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells for an encoded row, in the order of HEADINGS."""
    reasons = [f"{reason} {_span(about['seconds'])}" for reason, about in told["reasons"].items()]
    if told["early_seconds"]:
        reasons.insert(0, f"not recorded before {told['since'][:19]}Z")
    if told["late_seconds"]:
        reasons.append(f"not stored yet {_span(told['late_seconds'])}")
    return (
        *(str(told[name]) for name in ("exchange", "channel", "symbol")),
        f"{told['until'][:19]}Z" if told["until"] else "never seen",
        f"{len(told['gaps']):,}",
        _span(told["missing_seconds"] + told["early_seconds"]),
        ", ".join(reasons),
    )


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return encoded rows as text in columns."""
    lines = [[heading.removeprefix(">") for heading in HEADINGS], *map(cells, found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if heading.startswith(">") else cell.ljust(width)
            for heading, cell, width in zip(HEADINGS, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
