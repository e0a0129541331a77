"""``plan --resolve``: the exchange is a simulated one, the engine a real one on which nothing is made."""

import json

import pytest
from simulated import Simulator

from launcher import resolve

pytestmark = pytest.mark.docker

SYMBOLS = ["ADA-USD", "BTC-USD", "DOT-USD", "ETH-BTC", "ETH-USD", "SOL-USD"]
SHARDED = {"exchange": "KRAKEN", "symbols": "*-USD", "channels": ["trades", "ticker"], "shards": 2}


@pytest.fixture(scope="module")
def simulator():
    with Simulator(symbols={"KRAKEN": SYMBOLS, "COINBASE": ["BTC-USD"]}) as simulator:
        yield simulator


@pytest.fixture
def plan(fleet, simulator, monkeypatch, capsys):
    """Plans collectors; the exit status, and what was printed."""
    for name, value in simulator.environment.items():
        monkeypatch.setenv(name, value)

    def plan(*collectors, options=()):
        fleet.write({}, collectors=collectors)
        status = fleet.launch("plan", "--resolve", *options)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return plan


def test_the_symbols_of_each_shard_are_shown(plan, fleet):
    whole = {"exchange": "COINBASE", "symbols": "BTC-USD", "channels": ["trades"]}
    status, out, _ = plan(SHARDED, whole, options=["--json"])
    assert status == 2
    rows = {each["collector"]: each for each in json.loads(out)["resolved"]}
    assert {name: each["shard"] for name, each in rows.items()} == {
        "kraken-1": "1/2",
        "kraken-2": "2/2",
        "coinbase": None,
    }
    shares = [set(rows[name]["symbols"]) for name in ("kraken-1", "kraken-2")]
    assert shares[0] | shares[1] == {each for each in SYMBOLS if each.endswith("-USD")}
    assert not shares[0] & shares[1]
    for name, share in zip(("kraken-1", "kraken-2"), shares, strict=True):
        assert rows[name]["subscriptions"] == 2 * len(share)
        assert rows[name]["connections"] >= 1
    assert rows["coinbase"]["symbols"] == ["BTC-USD"]
    assert not fleet.containers()


def test_an_oversized_shard_is_warned_about(plan, monkeypatch):
    monkeypatch.setattr(resolve, "MOST_SUBSCRIPTIONS", 5)
    status, out, err = plan(SHARDED | {"shards": 1})
    assert status == 2
    assert (
        "kraken-1   1/1               10            1        5  ADA-USD, BTC-USD, DOT-USD and 2 more" in out
    )
    assert "warning: kraken-1: 10 subscriptions (connections: 1) are many for one container" in err
    assert "set `shards: 2`" in err


def test_all_unlisted_symbols_are_reported_at_once(plan):
    wrong = SHARDED | {"name": "wrong", "symbols": ["BTC-USDD", "*-EUR"]}
    status, out, err = plan(
        SHARDED, wrong | {"shards": 1}, {"exchange": "COINBASE", "symbols": "NO-USD", "channels": "trades"}
    )
    assert (status, out) == (1, "")
    assert [line.partition("; did you mean ")[0] for line in err.splitlines()] == [
        "launcher: wrong-1: SYMBOLS = 'BTC-USDD': KRAKEN lists no such symbol",
        "launcher: wrong-1: SYMBOLS = '*-EUR': KRAKEN lists no symbols like that",
        "launcher: coinbase: SYMBOLS = 'NO-USD': COINBASE lists no such symbol",
    ]


def test_symbols_selected_by_two_collectors_are_refused(plan, fleet, simulator, capsys):
    other = {"name": "other", "exchange": "KRAKEN", "symbols": "ETH-*", "channels": "trades"}
    fault = "symbols: trades of 'ETH-USD': collector "
    assert plan(SHARDED, other)[0] == 1
    for command in (
        ("plan", "--resolve"),
        ("plan", "--resolve", "--only", "other"),
        ("up",),
        ("up", "--only", "kraken-1"),
        ("doctor",),
        ("run",),
    ):
        assert fleet.launch(*command) != 0, command
        said = "".join(capsys.readouterr())
        assert said.count(fault) == 1, command
    assert not fleet.containers()
    simulator.fault("refuse_reference", status=503, count=9)
    assert fleet.launch("up", "--wait-timeout", "0") == 0
    assert "would record the same was not tried: KRAKEN does not return" in capsys.readouterr().err


def test_an_unreachable_exchange_is_named(plan, simulator, monkeypatch):
    simulator.fault("refuse_reference", status=503, count=1)
    status, out, err = plan(SHARDED)
    assert (status, out) == (1, "")
    assert "KRAKEN does not return its symbols" in err
    assert "; try again later" in err
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert "; `endpoint` in the file (rest=https://HOST) asks at another address" in plan(SHARDED)[2]


def test_simulated_exchanges_are_not_asked(fleet, capsys):
    fleet.write({"one": "BTC-USD"}, source="simulated")
    assert fleet.launch("plan", "--resolve") == 1
    assert "simulated" in capsys.readouterr().err
