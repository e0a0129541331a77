"""``launcher exchanges``, ``channels`` and ``symbols``; the exchange is a simulated one."""

import json
import sys

import pytest
from simulated import Simulator

from collector import catalog
from launcher import cli


@pytest.fixture(scope="module")
def simulator():
    with Simulator(symbols={"KRAKEN": ["ETH-USD", "BTC-USD", "ETH-BTC"]}) as simulator:
        yield simulator


@pytest.fixture
def launch(capsys, monkeypatch, simulator):
    """Runs a command; its exit status, and what it printed."""
    for name, value in simulator.environment.items():
        monkeypatch.setenv(name, value)

    def launch(*arguments):
        status = cli.main(arguments)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return status, printed.out, printed.err

    return launch


def test_exchanges(launch):
    status, out, _ = launch("exchanges")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [*catalog.exchanges()]
    told = json.loads(launch("exchanges", "--json")[1])
    assert told["KRAKEN"]["channels"] == [*catalog.exchanges()["KRAKEN"].channels]


def test_channels(launch):
    assert launch("channels", "kraken")[1].splitlines()[1:] == [
        *("trades", "ticker", "l1_book", "l2_book"),
        "candles  15d,15m,1d,1h,1m,1w,30m,4h,5m",
    ]
    assert json.loads(launch("channels", "KRAKEN", "--json")[1])["channels"][0] == "trades"
    assert launch("channels", "krakn") == (2, "", "exchange krakn: no such exchange; did you mean KRAKEN?\n")


def test_symbols(launch):
    status, out, _ = launch("symbols", "kraken")
    assert (status, out.splitlines()) == (
        0,
        ["SYMBOL   TYPE", "BTC-USD  spot", "ETH-BTC  spot", "ETH-USD  spot"],
    )
    status, out, _ = launch("symbols", "kraken", "ETH-*", "!*-BTC", "--json")
    assert (status, json.loads(out)) == (0, [{"symbol": "ETH-USD", "type": "spot"}])


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("*-usd", "SYMBOLS = '*-usd': KRAKEN lists no symbols like that; did you mean *-USD?"),
        ("!*-USD", "SYMBOLS = '!*-USD': only leaves out; ALL,!*-USD is everything else"),
        ("type:option", "SYMBOLS = 'type:option': KRAKEN lists none; there are spot"),
    ],
)
def test_patterns_that_select_nothing(launch, pattern, said):
    assert launch("symbols", "kraken", pattern) == (2, "", f"{said}\n")


def test_an_exchange_that_is_away(launch, monkeypatch, simulator):
    simulator.fault("refuse_reference", status=503, count=1)
    status, out, err = launch("symbols", "kraken")
    assert (status, out) == (1, "")
    assert "KRAKEN does not tell its symbols" in err
    assert "503" in err
    monkeypatch.setenv("HTTPS_PROXY", "nowhere")
    assert launch("symbols", "kraken")[0] == 2


def test_without_cryptofeed(launch, monkeypatch):
    monkeypatch.setitem(sys.modules, "collector.listing", None)
    monkeypatch.delattr("collector.listing", raising=False)
    status, out, err = launch("symbols", "kraken")
    assert (status, out) == (1, "")
    assert "pip install 'cryptostore[collector]'" in err
