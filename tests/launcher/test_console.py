"""Tables where there is little room."""

from launcher.console import Table


def test_a_narrow_terminal_shows_names_whole_and_leaves_out_what_matters_least():
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
