import json
import time

import pytest

from collector import cli, health
from collector.health import ConnectionStatus, Status, StoreStatus, SubscriptionStatus
from collector.settings import Settings

CONNECTED = StoreStatus(backend="REDIS", state="connected", since=1.0)
AWAY = StoreStatus(backend="REDIS", state="away", since=1.0, error="connection refused")
CONFIRMED = SubscriptionStatus(confirmed=2)
COLLECTOR = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "REDIS"}


def status(**changes):
    fields = {
        "name": "c",
        "exchange": "COINBASE",
        "started": 100.0,
        "time": 1000.0,
        "state": "ready",
        "detail": "fine",
        "store": CONNECTED,
    }
    return Status(**(fields | changes))


def test_a_status_is_read_as_written(tmp_path):
    written = status(
        connections=(ConnectionStatus(id="1", state="open", since=2.0),), subscriptions=CONFIRMED
    )
    health.write(tmp_path, written)
    assert health.read(tmp_path) == written
    assert [path.name for path in tmp_path.iterdir()] == [health.STATUS_FILE]


def test_a_collector_is_alive_while_its_file_is_recent(tmp_path):
    health.write(tmp_path, status(last_stored=997.0))
    assert health.check(tmp_path, now=1001.0) == (True, "ready: fine; stored 3 s ago")
    healthy, line = health.check(tmp_path, now=1000.0 + health.STALE + 1)
    assert not healthy
    assert line == "stuck: no sign of life for 16 s (was ready: fine)"


def test_a_missing_file_is_unhealthy(tmp_path):
    healthy, line = health.check(tmp_path)
    assert not healthy
    assert line.startswith(
        f"no status: {tmp_path / health.STATUS_FILE} does not exist; did the collector start"
    )


def test_an_unreachable_store_is_degraded_not_unhealthy(tmp_path):
    state, detail = health.judge(AWAY, CONFIRMED, was_ready=True)
    assert (state, detail) == ("degraded", "store away: connection refused")
    health.write(tmp_path, status(state=state, detail=detail, store=AWAY))
    assert health.check(tmp_path, now=1000.0)[0]


REFUSED = StoreStatus(backend="REDIS", state="refused", since=1.0, error="wrong password")


@pytest.mark.parametrize(
    ("ready", "fields"),
    [
        (True, {}),
        (False, {"state": "starting"}),
        (False, {"state": "starting", "store": REFUSED}),
        (False, {"state": "degraded", "store": REFUSED, "last_received": 990.0}),
        (False, {"state": "degraded", "store": AWAY, "last_received": 990.0}),
        (False, {"state": "degraded"}),  # refused by the exchange from the start, all of it
        (True, {"state": "degraded", "last_received": 990.0}),
        (False, {"state": "stopping", "last_received": 990.0}),
    ],
)
def test_a_collector_is_ready_if_it_stores_what_it_receives(tmp_path, ready, fields):
    health.write(tmp_path, status(**fields))
    assert health.check(tmp_path, now=1000.0)[0]
    assert health.check(tmp_path, now=1000.0, ready=True)[0] == ready
    assert not health.check(tmp_path, now=2000.0, ready=True)[0]


@pytest.mark.parametrize(
    ("pending", "acknowledged", "said"),
    [
        (["trades A"], [], "1 subscription: trades A"),
        (["trades A", "trades B"], [], "2 subscriptions: trades A, trades B"),
        (
            ["trades A", "l2_book A"],
            ["l2_book A", "confirmed long ago"],
            "2 subscriptions: trades A, l2_book A; 1 of them acknowledged, but no data has come",
        ),
        (
            ["a", "b", "c", "d", "e"],
            ["a", "b", "c", "d", "e"],
            "5 subscriptions: a, b, c and 2 more acknowledged, but no data has come",
        ),
    ],
)
def test_health_names_what_is_waited_for(pending, acknowledged, said):
    waiting = SubscriptionStatus(pending=tuple(pending), acknowledged=tuple(acknowledged))
    assert health.judge(CONNECTED, waiting, was_ready=True) == ("degraded", f"waiting for {said}")


@pytest.mark.parametrize(
    ("written", "healthy", "ready", "detail"),
    [
        ({}, True, True, "ready: fine; nothing stored yet"),
        ({"state": "starting"}, True, False, "starting: fine; nothing stored yet"),
        ({"state": "failed", "detail": "bad \x1b"}, False, False, "failed: bad \\x1b; nothing stored yet"),
        ({"time": 1.0}, False, False, "stuck: no sign of life for"),
        (None, False, False, "no status: "),
    ],
)
def test_health_as_json_has_the_verdict_and_the_whole_status(
    written, healthy, ready, detail, tmp_path, monkeypatch, capsys
):
    for name, value in COLLECTOR.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SPOOL_DIR", str(tmp_path))
    home = Settings.read(COLLECTOR | {"SPOOL_DIR": str(tmp_path)}).home
    home.mkdir(parents=True)
    if written is not None:
        health.write(home, status(**({"time": time.time()} | written)))
    for arguments, well in (["health"], healthy), (["health", "--ready"], ready):
        assert cli.main([*arguments, "--json"]) == (0 if well else 1)
        said = capsys.readouterr().out
        assert said.strip().isprintable()
        answer = json.loads(said)
        assert (answer["healthy"], answer["ready"]) == (healthy, ready)
        assert answer["detail"].startswith(detail)
        store = {"backend": "REDIS", "state": "connected", "since": 1.0, "error": None}
        assert (answer["status"] or {}).get("store") == (store if written is not None else None)
        assert cli.main(arguments) == (0 if well else 1)
        assert capsys.readouterr().out.startswith(detail)


def test_a_failed_collector_is_unhealthy(tmp_path):
    health.write(tmp_path, status(state="failed", detail="writer died"))
    assert health.check(tmp_path, now=1000.0) == (False, "failed: writer died; nothing stored yet")


def test_ready_means_store_reached_and_every_subscription_confirmed():
    pending = SubscriptionStatus(confirmed=1, pending=("trades BTC-USD",))
    for count, said in (1, "1 subscription"), (2, "2 subscriptions"):
        confirmed = SubscriptionStatus(confirmed=count)
        expected = ("ready", f"{said}, store connected")
        assert health.judge(CONNECTED, confirmed, was_ready=False) == expected
    assert health.judge(CONNECTED, pending, was_ready=False)[0] == "starting"
    assert health.judge(CONNECTED, SubscriptionStatus(), was_ready=False)[0] == "starting"
    assert health.judge(AWAY, CONFIRMED, was_ready=False)[0] == "starting"
    refused = SubscriptionStatus(confirmed=1, refused={"trades FOO-USD": "no such product"})
    assert health.judge(CONNECTED, refused, was_ready=False) == (
        "degraded",
        "the exchange refused 1: trades FOO-USD: no such product",
    )


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        ({"trades A": "no such product"}, "trades A: no such product"),
        (
            dict.fromkeys(("trades A", "trades B", "ticker A", "ticker B", "l2_book A"), "no such product")
            | {"trades C": "not in your region"},
            "trades A, trades B, ticker A and 2 more: no such product; trades C: not in your region",
        ),
        (
            {f"trades {symbol}": f"{symbol} is unknown" for symbol in "ABCDE"},
            "trades A: A is unknown; trades B: B is unknown; trades C: C is unknown; and 2 more, for other"
            " reasons",
        ),
    ],
    ids=["one", "of two reasons", "of many reasons"],
)
def test_refused_and_omitted_subscriptions_are_named_by_reason(reasons, told):
    refused = SubscriptionStatus(confirmed=1, refused=reasons)
    assert health.judge(CONNECTED, refused, was_ready=True)[1] == (
        f"the exchange refused {len(reasons)}: {told}"
    )
    left_out = SubscriptionStatus(confirmed=1, overlapping=reasons)
    assert health.judge(CONNECTED, left_out, was_ready=True)[1] == (
        f"left out {len(reasons)} of the subscriptions: {told}"
    )


def test_a_collector_that_cannot_ask_the_exchange_says_why():
    failure = "no list of KRAKEN's symbols: TimeoutError"
    assert health.judge(CONNECTED, SubscriptionStatus(), was_ready=False, failure=failure) == (
        "starting",
        "no list of KRAKEN's symbols: TimeoutError; trying again",
    )
    assert health.judge(CONNECTED, CONFIRMED, was_ready=True, failure=failure)[0] == "ready"


def test_a_collector_that_has_nothing_to_record_is_ready_when_its_store_is():
    nothing = SubscriptionStatus()
    assert health.judge(AWAY, nothing, was_ready=False, idle="nothing to record")[0] == "starting"
    assert health.judge(CONNECTED, nothing, was_ready=False, idle="nothing to record") == (
        "ready",
        "nothing to record, store connected",
    )
