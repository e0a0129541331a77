"""Outcomes as tables."""

import itertools
from datetime import UTC, datetime

FAULTS = {
    "store": lambda it: it["store"],
    "restarts": lambda it: it["survived"].get("restart_store", 0),
    "resets": lambda it: it["survived"].get("reset_connections", 0),
    "SIGKILLs": lambda it: it["survived"].get("kill_store", 0),
    "collector: SIGKILLs": lambda it: it["survived"].get("kill_collector", 0),
    "restarts ": lambda it: it["survived"].get("restart_collector", 0),
    "drops by the exchange": lambda it: it["survived"].get("drop", 0),
}
ABSENCE = {
    "store": lambda it: it["store"],
    "minutes away": lambda it: f"{it['figures']['minutes away']:.1f}",
    "records/s": lambda it: f"{it['figures']['live records per second']:,.0f}",
    "backlog": lambda it: f"{it['figures']['backlog']:,.0f}",
    "memory, MiB": lambda it: f"{it['figures']['memory before, MiB']:.0f}",
    "while away": lambda it: _more(it, "memory while away, MiB"),
    "draining": lambda it: _more(it, "memory while draining, MiB"),
    "drained in, s": lambda it: f"{it['figures']['drained after, seconds']:.0f}",
    "left then": lambda it: f"{it['figures']['left of the backlog']:,.0f}",
    "stored/s": lambda it: f"{it['figures']['stored per second']:,.0f}",
    "x live": lambda it: f"{it['figures']['times the live rate']:.1f}",
}
ACCOUNT = {
    "sent": lambda it: f"{it['account']['sent']:,}",
    "in gaps": lambda it: it["account"]["excused"],
    "lost": lambda it: it["account"]["lost"],
    "twice": lambda it: it["account"]["twice"],
    "wrong": lambda it: it["account"]["wrong"],
    "out of order": lambda it: it["account"]["disordered"],
    "invented gaps": lambda it: it["account"]["invented"],
    "troubles": lambda it: len(it["troubles"]),
}


def tables(outcomes: list[dict]) -> str:
    """A table for each trial, and what went wrong."""
    text = []
    for trial, columns in ("faults", FAULTS), ("absence", ABSENCE):
        ended = [outcome for outcome in outcomes if outcome["account"]["sent"]]
        rows = [outcome for outcome in ended if outcome["trial"] == trial]
        if rows:
            day = datetime.fromtimestamp(max(row["started"] for row in rows), UTC)
            text.append(f"Soak of {day:%Y-%m-%d}: {trial}\n\n{_table(columns | ACCOUNT, rows)}\n")
    for outcome in outcomes:
        name = f"{outcome['store']} {outcome['trial']}"
        text += [f"{name}: {line}" for line in outcome["account"]["examples"] + outcome["troubles"]]
    return "\n".join(text)


def _more(outcome: dict, figure: str) -> str:
    return f"{outcome['figures'][figure] - outcome['figures']['memory before, MiB']:+.0f}"


def _table(columns: dict, rows: list[dict]) -> str:
    cells = [[name.strip() for name in columns]]
    cells += [[str(column(row)) for column in columns.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [" | ".join(map(_aligned, row, widths, itertools.count())) for row in cells]
    rule = " | ".join("-" * (width - 1) + (":" if index else "-") for index, width in enumerate(widths))
    return "\n".join(f"| {line} |" for line in (lines[0], rule, *lines[1:]))


def _aligned(cell: str, width: int, column: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)
