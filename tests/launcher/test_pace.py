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
    assert capsys.readouterr().err.count("1 s for its turn: OKX counts connections") == 2
    started = {
        name: datetime.fromisoformat(each["State"]["StartedAt"]).timestamp()
        for name, each in fleet.containers().items()
    }
    times = sorted(time for name, time in started.items() if name.startswith("okx"))
    created = min(started.values())
    assert times[3] - created > 0.7
    assert started["kraken"] - created < 1.5
