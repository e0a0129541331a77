"""What is said of containers that do not come up: each cause once, with its remedy."""

import threading
import time

import pytest
from msgspec import structs

from collector.health import SpoolStatus, Status, StoreStatus, SubscriptionStatus
from launcher import failures, rollout
from launcher.commands.progress import by_cause
from launcher.engines import Condition, Observed, docker
from launcher.names import LAUNCHER
from launcher.plan import Action, Kind
from launcher.rollout import Event
from launcher.spec import CollectorSpec, Container


def failed(collector, detail, *log, status=None):
    return Event(collector=collector, state="failed", detail=detail, log=log, status=status)


def status(store="connected", state="starting", error=None, refused=None):
    return Status(
        name="fleet-one", exchange="KRAKEN", started=0.0, time=1.0, state=state, detail="as it is",
        store=StoreStatus(backend="REDIS", state=store, since=0.0, error=error), connections=(),
        subscriptions=SubscriptionStatus(confirmed=0, pending=(), refused=refused or {}), channels={},
        spool=SpoolStatus(records=0, bytes=0, dropped=0), last_received=None, last_stored=None,
    )  # fmt: skip


class Sick:
    """An engine on which nothing gets well."""

    def __init__(self, **values):
        self._condition = condition(state="running", exit_code=0, started=0.0, **values)
        self.said = None

    def condition(self, _):
        return self._condition

    def status(self, *_):
        return self.said

    def passwords(self, _):
        return ("canary",)

    def log(self, *_):
        return []


@pytest.mark.parametrize(
    ("values", "speaks", "why"),
    [
        ({"health": "unhealthy", "said": "no route\nfor canary"}, False, "no route for ***"),
        ({"health": "unhealthy"}, False, "it does not listen yet"),
        ({"health": "starting", "said": "too early"}, False, "it does not listen yet"),
        ({"health": "unhealthy", "said": "no status: no such file"}, True, "no status: no such file"),
        ({"health": "starting", "said": "too early"}, True, "no status yet"),
    ],
)
def test_what_does_not_get_healthy_is_told_with_what_its_check_says(values, speaks, why):
    events, is_ill = [], values["health"] == "unhealthy"
    made = rollout.Rollout(Sick(**values), rollout.Options(parallel=1), events.append, threading.Event())
    made._wait([rollout._Started(collector="one", name="fleet-one", id="1", speaks=speaks)], 0.001)
    assert [(event.state, event.detail) for event in events] == [
        ("waiting", why),
        ("failed", f"{'unhealthy, and ' * is_ill}not ready after 0.001 s: {why}"),
    ]
    assert ("`launcher restart one` starts it again" in events[-1].remedy) == is_ill


STARTED = {"collector": "one", "name": "fleet-one", "id": "1", "speaks": True}


def test_what_was_paused_is_ready_once_it_has_written_a_status_since(monkeypatch):
    """Docker calls it unhealthy until the next health check, seconds later."""
    monkeypatch.setattr(rollout, "_LOOK_EVERY", 0.001)
    of_before = status(state="ready")
    written = iter([of_before, of_before, structs.replace(of_before, time=2.0)])
    events, engine = [], Sick(health="unhealthy", said="ready: as it is", unchecked=True)
    engine.status = lambda *_: next(written)
    made = rollout.Rollout(engine, rollout.Options(parallel=1), events.append, threading.Event())
    made._wait([rollout._Started(**STARTED, last_written=of_before.time)], 60)
    assert [(event.state, event.detail) for event in events] == [
        ("waiting", "was paused, and has written no status since"),
        ("ready", "as it is"),
    ]


@pytest.mark.parametrize(
    ("kind", "state"),
    [(Kind.START, "paused"), (Kind.UNCHANGED, "running")],  # resumed by us, or by hand
)
def test_what_was_written_before_a_pause_does_not_count(kind, state):
    engine = Sick(health="unhealthy", unchecked=True)
    engine.said, engine.start = status(state="ready"), lambda _: None
    made = rollout.Rollout(engine, rollout.Options(parallel=1), lambda _: None, threading.Event())
    container = Container(name="fleet-one", image="image:1", network="fleet", environment={}, mounts=())
    spec = CollectorSpec(fleet="fleet", name="one", container=container)
    there = Observed(
        id="1", name="fleet-one", fleet="fleet", collector="one", config_hash="", manager=LAUNCHER,
        image="image:1", state=state, health="unhealthy", created=0,
    )  # fmt: skip
    action = Action(kind=kind, collector="one", reason="", spec=spec, container=there)
    assert made._start(b"", action).last_written == engine.said.time


def test_what_was_paused_and_writes_nothing_is_not_called_unhealthy():
    events, engine = [], Sick(health="unhealthy", said="ready: as it is", unchecked=True)
    engine.said = status(state="ready")
    made = rollout.Rollout(engine, rollout.Options(parallel=1), events.append, threading.Event())
    made._wait([rollout._Started(**STARTED, last_written=engine.said.time)], 0.001)
    assert events[-1].detail == "not ready after 0.001 s: was paused, and has written no status since"


@pytest.mark.parametrize(("predecessor", "bound"), [("ready", "most"), ("degraded", "least")])
def test_what_is_ready_at_the_last_moment_has_not_failed_though_it_does_not_know_what_it_missed(
    predecessor, bound
):
    """Nor does the launcher know how long a predecessor had seen nothing that was not ready."""
    events, engine = [], Sick(health="healthy")
    engine.said = status(state="ready")
    made = rollout.Rollout(engine, rollout.Options(parallel=1), events.append, threading.Event())
    started = {"collector": "one", "name": "fleet-one", "id": "1", "speaks": True, "since": time.monotonic()}
    before = structs.replace(status(state=predecessor), started=-1.0)
    made._wait([rollout._Started(**started, predecessor=before)], 0.001)
    assert [event.state for event in events] == ["waiting", "ready"]
    assert events[-1].detail.startswith(f"as it is; at {bound} ")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("No such image: cryptostore:latest", "the engine has no image cryptostore:latest; build or pull it"),
        (
            'error mounting "/records" to rootfs at "/data": mount /records:/data: not a directory: unknown',
            "/records on the engine's machine is a file, not a folder; move it away",
        ),
        (
            "mount /records:/var/lib/docker/overlay2/1/merged/data, flags: 0x5000: not a directory",
            "/records on the engine's machine is a file, not a folder; move it away",
        ),
        ("anything else", "anything else"),
    ],
)
def test_what_the_engine_says_is_told_with_what_to_do(text, told):
    assert docker._reason(text).startswith(told)


def names(groups):
    return [[event.collector for event in alike] for alike in groups]


def test_a_cause_shared_by_forty_is_reported_once():
    same = [failed(f"c{number}", f"fleet-c{number} cannot be created: no room") for number in range(40)]
    assert names(by_cause([*same, failed("other", "no network")])) == [
        [f"c{n}" for n in range(40)],
        ["other"],
    ]


def test_logs_tell_causes_apart_but_for_names_and_times():
    first = failed("a", "ended with status 1", "2026-01-01T00:00:01Z a: no such file")
    same = failed("b", "ended with status 1", "2026-01-01T00:00:02Z b: no such file")
    other = failed("c", "ended with status 1", "2026-01-01T00:00:02Z c: out of memory")
    assert names(by_cause([first, same, other])) == [["a", "b"], ["c"]]


def test_the_log_does_not_matter_if_the_status_names_the_cause():
    events = [failed(name, "store away", f"{name} stored 7", status=status("away")) for name in ("a", "b")]
    assert names(by_cause(events)) == [["a", "b"]]


def condition(**values):
    told = {
        "state": "exited",
        "health": None,
        "said": "",
        "exit_code": 1,
        "error": "",
        "restarts": 0,
        "started": 0.0,
    }
    return Condition(**told | values)


CAUSES = {
    "78": (failures.of_death(condition(exit_code=78)), "status 78 (wrong settings)", "fix"),
    "137": (failures.of_death(condition(exit_code=137)), "out of memory", "`limits.memory`"),
    "1": (failures.of_death(condition()), "ended with status 1", "its log"),
    "restarts": (failures.of_death(condition(state="running", restarts=3)), "restarted 3 times", "its log"),
    "silent": (failures.of_delay(5, "it has said nothing yet", None), "after 5 s: it has", "--wait-timeout"),
    "away": (failures.of_delay(5, "store away", status("away")), "5 s: store away", "`launcher doctor`"),
    "pending": (failures.of_delay(5, "waiting for 2", status()), "waiting for 2", "--wait-timeout"),
    "store": (failures.of_status(status("refused", error="NOAUTH")), "the store: NOAUTH", "`password`"),
    "symbol": (failures.of_status(status(refused={"trades X": "no"})), "trades X: no", "symbols KRAKEN`"),
}


@pytest.mark.parametrize(("cause", "detail", "remedy"), CAUSES.values(), ids=CAUSES)
def test_each_cause_has_its_remedy(cause, detail, remedy):
    assert detail in cause.detail
    assert remedy in cause.remedy


def test_a_collector_that_becomes_ready_by_itself_has_not_failed():
    assert failures.of_status(status("away")) is None


def test_an_overlap_is_the_cause_and_the_other_collector_is_named():
    overlapping = {
        f"trades {symbol}": "collector one (process 7 on host) stores it already" for symbol in "ABCDE"
    }
    left_out = structs.replace(
        status(state="degraded"), subscriptions=SubscriptionStatus(confirmed=5, overlapping=overlapping)
    )
    cause = failures.of_delay(60.0, "left out 5 of the subscriptions", left_out)
    assert cause.detail == (
        "not ready after 60 s: left out 5 of its subscriptions: trades A, trades B, trades C and 2 more:"
        " collector one (process 7 on host) stores it already"
    )
    assert cause.remedy.startswith("stop the other collector, leave these symbols out")
    assert "allow_overlap: true" in cause.remedy


@pytest.mark.parametrize(("restarts", "told"), [(1, "once"), (7, "7 times")])
def test_the_number_of_restarts_is_shown(restarts, told):
    assert (
        failures.of_death(condition(state="running", restarts=restarts)).detail
        == f"exited, and was restarted {told}"
    )
