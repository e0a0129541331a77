"""Tables where there is little room, and signals while something is shown."""

import io
import signal

import pytest
from rich.console import Console as RichConsole
from waiting import PATIENCE

from launcher.commands.progress import interrupt
from launcher.console import Table


def test_a_narrow_terminal_keeps_names_and_omits_the_least_important_columns():
    table = Table("COLLECTOR", "STATE", ">STORED", ">AGE", "DETAIL", spare=("AGE", "STORED"))
    table.add("binance-futures", "degraded", "1,234", "0.3 s ago", "store away: connection refused")
    assert table.fitted(200).plain() == table.plain()
    assert table.fitted(60).plain().splitlines() == [
        "COLLECTOR        STATE     STORED        AGE  DETAIL",
        "binance-futures  degraded   1,234  0.3 s ago  store away: c…",
    ]
    assert table.fitted(50).plain().splitlines()[1] == "binance-futures  degraded   1,234  store away: co…"
    assert table.fitted(40).plain().splitlines()[1] == "binance-futures  degraded  store away: …"
    assert table.fitted(20).plain().splitlines()[1] == "binance-futures  degraded"


def test_a_narrow_terminal_gives_long_lists_more_lines_and_cuts_nothing():
    table = Table("COLLECTOR", "EXCHANGE", "BACKEND", "CHANNELS", "SYMBOLS")
    table.add("binance-futures", "BINANCE_FUTURES", "REDISSTREAM", "trades,ticker,l2_book", "BTC-USD,ETH-USD")
    text = io.StringIO()
    RichConsole(file=text, width=60).print(table.rich(wrap=True))
    shown = text.getvalue()
    assert shown.splitlines()[1].startswith("binance-futures  ")
    assert sorted("".join(shown.split())) == sorted("".join([*table.columns, *table.rows[0]]))


@pytest.mark.timeout(20)
def test_a_signal_is_heard_at_any_moment_even_as_a_wait_for_it_begins():
    told = []
    with interrupt(lambda: told.append("stopping")) as stop:
        with stop._cond:  # as wait() holds it for a moment
            signal.raise_signal(signal.SIGINT)
        assert stop.wait(PATIENCE)
    assert told == ["stopping"]
