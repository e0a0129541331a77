"""Starts on one exchange take turns, on a real engine."""

from datetime import datetime

import pytest

pytestmark = pytest.mark.docker


def test_starts_on_one_exchange_take_turns(fleet, capsys):
    asked = {"exchange": "OKX", "channels": ["trades"]}
    of_okx = [{"name": f"okx-{number}", "symbols": f"S{number}-USDT", **asked} for number in range(5)]
    other = {"exchange": "KRAKEN", "symbols": "BTC-USD", "channels": ["trades"]}
    fleet.write({}, collectors=[*of_okx, other])
    assert fleet.launch("up") == 0
    told = capsys.readouterr().err
    assert "for its turn: OKX limits connections" in told
    assert "KRAKEN counts" not in told
    times = sorted(
        datetime.fromisoformat(each["State"]["StartedAt"])
        for name, each in fleet.containers().items()
        if name.startswith("okx")
    )
    in_a_second = [(after - before).total_seconds() for before, after in zip(times, times[3:], strict=False)]
    assert len(in_a_second) == 2
    assert min(in_a_second) >= 1  # OKX takes three connections a second
