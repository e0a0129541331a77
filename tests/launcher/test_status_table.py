"""The table of `launcher status`, on any terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from rich.cells import cell_len
from rich.console import Console

from collector.health import ChannelStatus, SpoolStatus, Status, StoreStatus
from launcher import overview, status_table
from launcher.engines import Condition, EngineError, Observed
from launcher.overview import Row

NOW = 1_795_000_000.0


def row(collector="coinbase", state="ready", detail="fine", **spool):
    status = Status(
        name=collector,
        exchange="COINBASE",
        started=NOW - 100,
        time=NOW,
        state="ready",
        detail=detail,
        store=StoreStatus(backend="REDIS", state="connected", since=NOW),
        channels={"trades": ChannelStatus(received=9_000, stored=8_000)},
        spool=SpoolStatus(**spool),
        gaps_today=12,
        last_received=NOW - 0.2,
    )
    return Row(collector=collector, state=state, detail=detail, config=None, container=None, status=status)


def drawn(rows, width):
    """The table as a terminal of that many columns shows it."""
    terminal = Console(file=io.StringIO(), width=width, force_terminal=True, no_color=True, color_system=None)
    terminal.print(status_table.table(rows).fitted(width).rich(wrap=False))
    return terminal.file.getvalue().splitlines()


def test_backlog_lag_dropped_and_todays_gaps_are_visible_at_80_columns():
    trouble = row(
        detail="store away: connection refused", records=1_234_567, oldest=NOW - 7_300, dropped=38_991
    )
    heading, line = (" ".join(each.split()) for each in drawn([trouble], 80))
    assert heading.endswith(" BACKLOG LAG DROPPED GAPS TODAY DETAIL")
    assert " 1,234,567 2 h 38,991 12 store away" in line


class Engine:
    """Containers of which the engine knows more than they say."""

    def __init__(self, **condition):
        fields = {"health": None, "said": "", "exit_code": 0, "error": "", "restarts": 0, "started": NOW}
        self._condition = Condition(**fields | condition)

    def key(self, _):
        return b""

    def status(self, *_):
        return None

    def condition(self, _):
        return self._condition

    def passwords(self, _):
        return ("canary",)


@pytest.mark.parametrize(
    ("condition", "state", "why"),
    [
        (
            {"state": "running", "health": "unhealthy", "said": "stuck: no sign of life\nfor canary"},
            "unhealthy",
            "stuck: no sign of life for ***; `launcher restart c` starts it again",
        ),
        (
            {"state": "running", "health": "unhealthy"},
            "unhealthy",
            "its health check fails without saying why; `launcher restart c` starts it again",
        ),
        (
            {"state": "running", "health": "unhealthy", "said": "ready", "unchecked": True},
            "unhealthy",
            "it was paused, and its health has not been checked since",
        ),
        ({"state": "exited"}, "exited", "ended with status 0; `launcher up` starts it again"),
        (
            {"state": "exited", "exit_code": 78},
            "exited",
            "ended with status 78 (wrong settings); fix what `launcher logs c` says;"
            " `launcher up` starts it again",
        ),
        (
            {"state": "exited", "exit_code": 137},
            "exited",
            "ended with status 137 (killed, or out of memory); raise `limits.memory`, if it is limited;"
            " `launcher doctor` tries it; `launcher up` starts it again",
        ),
        (
            {"state": "restarting", "exit_code": 1},
            "restarting",
            "ended with status 1; `launcher logs c` says why",
        ),
        (
            {"state": "exited", "exit_code": 127, "error": "no such file"},
            "exited",
            "no such file; `launcher up` starts it again",
        ),
        (
            {"state": "created", "exit_code": 127, "error": "/data is a file"},
            "created",
            "/data is a file; `launcher up` starts it",
        ),
        ({"state": "created"}, "created", "it was never started; `launcher up` starts it"),
        (
            {"state": "paused"},
            "paused",
            "somebody paused it, and it records nothing; `launcher up` resumes it",
        ),
    ],
)
def test_an_unhealthy_collector_has_a_reason(condition, state, why):
    there = Observed(
        id="1", name="desk-c", fleet="desk", collector="c", config_hash="", manager="launcher", image="image",
        state=condition["state"], health=condition.get("health"), created=0,
    )  # fmt: skip
    (row,) = overview.rows(Engine(**condition), None, [there], 1)
    assert (row.state, row.detail) == (state, why)


@pytest.mark.parametrize(
    ("manager", "config", "state", "said"),
    [
        ("compose", None, "exited", "ended with status 0; `docker compose up` starts it again"),
        ("launcher", "changed", "exited", "ended with status 0; `launcher up` starts it again"),
        ("launcher", "orphan", "exited", "ended with status 0"),  # `up` would remove it
        ("launcher", "foreign", "exited", "ended with status 0"),
        (
            "compose",
            None,
            "paused",
            "somebody paused it, and it records nothing; `docker compose unpause` resumes it",
        ),
    ],
)
def test_a_stopped_collector_has_the_command_that_starts_it(manager, config, state, said):
    there = Observed(
        id="1", name="desk-c", fleet="desk", collector="c", config_hash="", manager=manager, image="image",
        state=state, health=None, created=0,
    )  # fmt: skip
    assert overview._row(Engine(state=state), there, config).detail == said


def test_what_does_not_run_and_cannot_be_read_costs_no_other_its_row():
    """Nothing is read from a container whose folder is gone: the engine mounts it first."""

    class Unreadable(Engine):
        def status(self, container, collector):
            raise EngineError(f"{collector} cannot be read")

    there = [
        Observed(
            id=name, name=name, fleet="desk", collector=name, config_hash="", manager="launcher",
            image="image", state="exited", health=None, created=0,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    rows = overview.rows(Unreadable(state="exited", error="no folder"), None, there, 1)
    assert [(row.collector, row.state, row.detail) for row in rows] == [
        (name, "exited", "no folder; `launcher up` starts it again") for name in ("a", "b")
    ]
    with pytest.raises(EngineError):
        overview.rows(
            Unreadable(state="running"), None, [structs.replace(each, state="running") for each in there], 1
        )


def test_a_wide_terminal_and_a_pipe_show_all():
    lines = status_table.table([row(records=7, oldest=NOW - 61)]).plain().splitlines()
    assert lines == [
        "COLLECTOR  STATE  STORED  LAST RECORD  BACKLOG   LAG  DROPPED  GAPS TODAY  DETAIL",
        "coinbase   ready   8,000      0 s ago        7  61 s        0          12  fine",
    ]


@given(
    st.lists(
        st.builds(
            row,
            collector=st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True),
            state=st.sampled_from(["ready", "degraded", "restarting", "unhealthy"]),
            detail=st.text(max_size=300),
            records=st.integers(0, 10**9),
            oldest=st.none() | st.floats(0, NOW),
            dropped=st.integers(0, 10**9),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(80, 200),
)
def test_no_row_wraps(rows, width):
    lines = drawn(rows, width)
    assert len(lines) == len(rows) + 1
    assert all(cell_len(line) <= width for line in lines)


def test_unhealthy_collectors_come_first_and_stay_on_a_small_terminal():
    rows = [row(f"c{number:03}") for number in range(197)]
    rows += [row("dropping", dropped=1), row("slow", "degraded"), row("gone", "exited")]
    ordered = overview.with_absent(rows, None)
    assert [each.collector for each in ordered[:4]] == ["gone", "slow", "dropping", "c000"]
    shown, rest = status_table.fitting(ordered, 24)
    assert len(shown) == 21
    assert rest == "and 179 more, all fine; --all shows every collector"
    assert (
        status_table.fitting(ordered, 5)[1]
        == "and 198 more, 1 of them with problems; --all shows every collector"
    )
    assert status_table.fitting(ordered[:3], 24) == (ordered[:3], "")


def test_dead_letters_are_shown_and_count_as_unhealthy():
    told = row(put_aside=1)
    assert not told.is_well
    assert status_table.table([told]).rows[0][-1] == "1 dead letter; fine"


def test_control_characters_of_a_detail_are_shown_escaped():
    line = status_table.table([row(detail="a\x1b[2Jb\nc\u2028d")]).plain().splitlines()[1]
    assert line.endswith(r"a\x1b[2Jb\nc\u2028d")
