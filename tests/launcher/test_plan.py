import pytest

from launcher import plan
from launcher.engines import Observed
from launcher.plan import COMPOSE, LAUNCHER, Kind
from launcher.spec import CollectorSpec, Container, FleetSpec, Network


def spec(name, **environment):
    container = Container(
        name=f"desk-{name}", image="image:1", network="desk", environment=environment, mounts=()
    )
    return CollectorSpec(fleet="desk", name=name, container=container)


def running(spec, **changes):
    """The container of a spec as it is while nothing is wrong."""
    as_made = {
        "id": f"id-{spec.name}",
        "name": spec.container.name,
        "fleet": spec.fleet,
        "collector": spec.name,
        "config_hash": spec.config_hash,
        "manager": LAUNCHER,
        "image": spec.container.image,
        "state": "running",
        "health": "healthy",
        "created": 0,
    }
    return Observed(**as_made | changes)


def fleet(*collectors, simulator=None):
    return FleetSpec(name="desk", network=Network(name="desk"), collectors=collectors, simulator=simulator)


ONE, TWO, SIMULATOR = spec("one"), spec("two"), spec("simulator")


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({}, Kind.UNCHANGED, "is as the file says"),
        ({"health": "unhealthy"}, Kind.UNCHANGED, "is as the file says"),
        ({"state": "restarting"}, Kind.UNCHANGED, "is as the file says"),
        ({"config_hash": "other"}, Kind.RECREATE, "its configuration changed"),
        ({"config_hash": "other", "state": "exited"}, Kind.RECREATE, "its configuration changed"),
        ({"image": "sha256:0123"}, Kind.RECREATE, "image:1 is another image now"),
        ({"state": "exited"}, Kind.START, "is stopped"),
        ({"state": "created"}, Kind.START, "was never started"),
        ({"state": "paused"}, Kind.START, "is paused"),
        ({"state": "dead"}, Kind.RECREATE, "is dead"),
        ({"manager": COMPOSE}, Kind.CONFLICT, "desk-one is managed by compose"),
        ({"manager": COMPOSE, "config_hash": "other"}, Kind.CONFLICT, "desk-one is managed by compose"),
    ],
)
def test_a_container_of_the_file(changes, kind, reason):
    (action,) = plan.make(fleet(ONE), [running(ONE, **changes)]).actions
    assert (action.kind, action.reason, action.collector) == (kind, reason, "one")
    assert action.spec is ONE


def test_what_is_not_there_is_created():
    (action,) = plan.make(fleet(ONE), []).actions
    assert (action.kind, action.container) == (Kind.CREATE, None)


@pytest.mark.parametrize(("keep", "kind"), [(False, Kind.REMOVE), (True, Kind.KEEP)])
def test_an_orphan(keep, kind):
    actions = plan.make(fleet(ONE), [running(TWO), running(ONE)], keep_orphans=keep).actions
    assert [(action.collector, action.kind) for action in actions] == [("one", Kind.UNCHANGED), ("two", kind)]


def test_an_orphan_of_compose_is_no_business_of_ours():
    (action,) = plan.make(fleet(ONE), [running(TWO, manager=COMPOSE), running(ONE)]).actions
    assert action.collector == "one"


@pytest.mark.parametrize("keep", [False, True])
def test_a_second_container_of_a_collector_goes_in_any_case(keep):
    there = [running(ONE), running(ONE, name="desk-one.next", id="next", state="created")]
    actions = plan.make(fleet(ONE), there, keep_orphans=keep).actions
    assert [action.kind for action in actions] == [Kind.UNCHANGED, Kind.REMOVE]
    assert actions[1].container.id == "next"


def test_the_simulator_comes_first_and_the_others_keep_the_order_of_the_file():
    actions = plan.make(fleet(TWO, ONE, simulator=SIMULATOR), []).actions
    assert [action.collector for action in actions] == ["simulator", "two", "one"]


def test_a_plan_knows_its_actions_by_kind():
    planned = plan.make(fleet(ONE, TWO), [running(ONE)])
    assert [action.collector for action in planned.of(Kind.CREATE, Kind.RECREATE)] == ["two"]
