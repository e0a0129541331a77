import msgspec
import pytest

from launcher import plan
from launcher.engines import Change, Observed
from launcher.names import COMPOSE, LAUNCHER
from launcher.plan import Kind
from launcher.spec import CollectorSpec, Container, FleetSpec, Mount, Network


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


SYMBOLS = Change(key="SYMBOLS", old="BTC-USD", new="ETH-USD")
MEMORY = Change(key="memory", old="64 MiB", new="128 MiB", in_place=True)
IMAGE = Change(key="image", old="image:1 (0123)", new="image:1 (4567)")
OWNER = Change(key="owner", old=None, new="0123456789abcdef")
SECRET = Change(key="secret password", old="***", new="***")


@pytest.mark.parametrize(
    ("how", "changes", "kind", "reason"),
    [
        ({}, [], Kind.UNCHANGED, "matches the file"),
        ({"config_hash": "older"}, [], Kind.UNCHANGED, "matches the file"),
        ({"health": "unhealthy"}, [], Kind.UNCHANGED, "matches the file"),
        ({"state": "restarting"}, [], Kind.UNCHANGED, "matches the file"),
        ({"config_hash": "other"}, [SYMBOLS], Kind.RECREATE, "SYMBOLS changed"),
        ({"config_hash": "other"}, [SYMBOLS, MEMORY], Kind.RECREATE, "SYMBOLS changed"),
        ({"config_hash": "other", "state": "exited"}, [SYMBOLS], Kind.RECREATE, "SYMBOLS changed"),
        ({"config_hash": "other"}, [MEMORY], Kind.UPDATE, "memory changed"),
        ({}, [MEMORY], Kind.UPDATE, "memory changed by hand"),
        ({"state": "exited"}, [MEMORY], Kind.UPDATE, "memory changed by hand"),
        ({}, [SYMBOLS], Kind.RECREATE, "SYMBOLS changed by hand"),
        ({}, [SECRET], Kind.RECREATE, "secret password changed"),
        ({}, [OWNER], Kind.RECREATE, "owner changed"),
        ({}, [IMAGE], Kind.RECREATE, "its image has changed"),
        ({"state": "exited"}, [], Kind.START, "is stopped"),
        ({"state": "created"}, [], Kind.START, "was never started"),
        ({"state": "paused"}, [], Kind.START, "is paused"),
        ({"state": "dead"}, [], Kind.RECREATE, "is dead"),
        ({"manager": COMPOSE}, [], Kind.CONFLICT, "desk-one is managed by compose"),
        ({"manager": COMPOSE}, [SYMBOLS], Kind.CONFLICT, "desk-one is managed by compose"),
    ],
)
def test_a_container_of_the_file_is_kept_or_changed(how, changes, kind, reason):
    container = running(ONE, **how)
    (action,) = plan.make(fleet(ONE), [container], {container.id: changes}).actions
    assert (action.kind, action.reason, action.collector) == (kind, reason, "one")
    assert action.spec is ONE


def test_a_missing_container_is_created():
    (action,) = plan.make(fleet(ONE), [], {}).actions
    assert (action.kind, action.container) == (Kind.CREATE, None)


@pytest.mark.parametrize(("keep", "kind"), [(False, Kind.REMOVE), (True, Kind.KEEP)])
def test_an_orphan(keep, kind):
    actions = plan.make(fleet(ONE), [running(TWO), running(ONE)], {}, keep_orphans=keep).actions
    assert [(action.collector, action.kind) for action in actions] == [("one", Kind.UNCHANGED), ("two", kind)]


def test_an_orphan_of_compose_is_left_alone():
    (action,) = plan.make(fleet(ONE), [running(TWO, manager=COMPOSE), running(ONE)], {}).actions
    assert action.collector == "one"


@pytest.mark.parametrize("keep", [False, True])
def test_a_second_container_of_a_collector_is_always_removed(keep):
    there = [running(ONE), running(ONE, name="desk-one.next", id="next", state="created")]
    actions = plan.make(fleet(ONE), there, {}, keep_orphans=keep).actions
    assert [action.kind for action in actions] == [Kind.UNCHANGED, Kind.REMOVE]
    assert actions[1].container.id == "next"


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("suffix", [".secrets", ".check"])
def test_what_a_collector_needed_for_a_moment_goes_without_consent(keep, suffix):
    left = running(TWO, name=f"desk-two{suffix}", id="left", state="created")
    planned = plan.make(fleet(ONE), [running(ONE), left, running(TWO)], {}, keep_orphans=keep)
    assert [(action.kind, action.reason) for action in planned.actions] == [
        (Kind.UNCHANGED, "matches the file"),
        (Kind.REMOVE, f"desk-two{suffix} is left over from an interrupted command"),
        (Kind.KEEP if keep else Kind.REMOVE, "is not in the file"),
    ]
    assert [action.container.id for action in planned.removals] == ([] if keep else ["id-two"])


def test_the_simulator_comes_first_and_the_others_keep_the_order_of_the_file():
    actions = plan.make(fleet(TWO, ONE, simulator=SIMULATOR), [], {}).actions
    assert [action.collector for action in actions] == ["simulator", "two", "one"]


def test_a_plan_knows_its_actions_by_kind():
    planned = plan.make(fleet(ONE, TWO), [running(ONE)], {})
    assert [action.collector for action in planned.of(Kind.CREATE, Kind.RECREATE)] == ["two"]


def test_a_hash_covers_only_the_effective_configuration():
    """Of this very text since the first version: another one would make every container anew."""
    container = Container(
        name="desk-one", image="image:1", network="desk", environment={"B": "2", "A": "1"}, mounts=()
    )
    other_order = msgspec.structs.replace(container, environment={"A": "1", "B": "2"})
    hashes = {
        CollectorSpec(fleet="desk", name="one", container=each).config_hash
        for each in (container, other_order)
    }
    assert hashes == {"067fd3b99a8402a8"}


def test_the_hash_does_not_depend_on_secrets():
    def hash_of(password, source):
        secret_file = Mount(kind="bind", source=source, target="/run/secrets/ca.pem", read_only=True)
        container = Container(
            name="desk-one",
            image="image:1",
            network="desk",
            environment={"PASSWORD": password, "SSL_CERT_FILE": "/run/secrets/ca.pem"},
            mounts=(secret_file,),
        )
        return CollectorSpec(
            fleet="desk", name="one", container=container, secrets=frozenset({"PASSWORD"})
        ).config_hash

    assert hash_of("hunter2", "/home/one/ca.pem") == hash_of("another", "/srv/ca.pem")
