"""The table of ``launcher status``: one line for each collector, those with problems first."""

from collections.abc import Sequence

from collector.health import SpoolStatus
from launcher.console import Table
from launcher.names import COMPOSE
from launcher.overview import Row

_UNITS = (("d", 86400), ("h", 3600), ("min", 60))
#: Lines of a terminal that are not rows: the heading, the number of hidden rows, and the next prompt.
_OTHER_LINES = 3


def table(rows: Sequence[Row]) -> Table:
    """Return the table of all rows."""
    shown = Table(
        *("COLLECTOR", "STATE", ">STORED", ">LAST RECORD", ">BACKLOG", ">LAG", ">DROPPED", ">GAPS TODAY"),
        "DETAIL",
        spare=("STORED", "LAST RECORD"),
    )
    for row in rows:
        run = f"process of `launcher run` ({row.process})" if row.process else ""
        remarks = filter(None, [_remark(row), _dead_letters(row), row.detail, run])
        shown.add(row.collector, row.state, *_figures(row), "; ".join(remarks))
    return shown


def _figures(row: Row) -> tuple[str, ...]:
    if not (status := row.status):
        return ("-",) * 6
    spool = status.spool
    return (
        f"{row.stored:,}",
        f"{_age(row.seen - status.last_received)} ago" if status.last_received else "-",
        f"{spool.records:,}",
        _lag(row, spool),
        f"{spool.dropped:,}",
        "-" if status.gaps_today is None else f"{status.gaps_today:,}",
    )


def _lag(row: Row, spool: SpoolStatus) -> str:
    """Return how far the store lags behind: the age of the oldest record that it does not have."""
    if not spool.records:
        return _age(0)
    return _age(row.seen - spool.oldest) if spool.oldest else "-"


def _age(seconds: float) -> str:
    for unit, length in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _remark(row: Row) -> str:
    if row.container and row.container.manager == COMPOSE:
        return "managed by compose"
    remarks = {
        "changed": "the file has changed",
        "orphan": "not in the file",
        "foreign": "belongs to another fleet of this name",
    }
    return remarks.get(row.config or "", "")


def _dead_letters(row: Row) -> str:
    count = row.status.spool.put_aside if row.status else 0
    return f"{count:,} dead letter{'' if count == 1 else 's'}" if count else ""


def fitting(rows: Sequence[Row], lines: int) -> tuple[Sequence[Row], str]:
    """Return the first rows, as many as fit on ``lines`` of a terminal, and a sentence about the others."""
    room = max(1, lines - _OTHER_LINES)
    if len(rows) <= room + 1:
        return rows, ""
    rest = rows[room:]
    troubled = sum(not row.is_well for row in rest)
    what = f"{troubled} of them with problems" if troubled else "all fine"
    return rows[:room], f"and {len(rest)} more, {what}; --all shows every collector"
