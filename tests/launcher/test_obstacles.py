"""What stands in the way of a plan is told once, with its remedy, however many collectors it concerns."""

import pytest
from test_plan import fleet, running, spec

from launcher import obstacles, plan
from launcher.engines import EngineError
from launcher.names import COMPOSE


class Engine:
    """What an engine says that lacks nothing, and on which somebody else has some of the names."""

    def __init__(self, *taken):
        self.taken = {name: f"{place:064x}" for place, name in enumerate(taken)}

    def owners(self, names):
        return {name: self.taken[name] for name in names if name in self.taken}

    def network_fault(self, _fleet):
        return None

    def missing_images(self, _images):
        return []

    def other_program(self, _image):
        return None


SPECS = [spec(f"c{number}") for number in range(7)]


def refused(engine, planned):
    with pytest.raises(EngineError) as caught:
        obstacles.refuse(engine, planned)
    return str(caught.value)


@pytest.mark.parametrize(
    ("taken", "told"),
    [
        (1, "the name desk-c0 is taken by container 000000000000, which is not part of this fleet; give"),
        (
            3,
            "3 names are taken by containers that are not part of this fleet: desk-c0 by 000000000000,"
            " desk-c1 by 000000000000, desk-c2 by 000000000000; give this fleet (`fleet:`) another name, or"
            " rename",
        ),
        (7, "desk-c4 by 000000000000 and 2 more; give this fleet"),
    ],
)
def test_names_taken_by_other_containers_are_obstacles(taken, told):
    planned = plan.make(fleet(*SPECS), [], {})
    engine = Engine(*(each.container.name for each in SPECS[:taken]))
    (found,) = obstacles.find(engine, planned)
    assert found.collectors == tuple(each.name for each in SPECS[:taken])
    assert told in str(found)
    assert refused(engine, planned).count("give this fleet") == 1


@pytest.mark.parametrize(
    ("composed", "told"),
    [
        (1, "desk-c0 is managed by compose; take it down with `docker compose down`, or give"),
        (2, "desk-c0, desk-c1 are managed by compose; take them down with `docker compose down`, or give"),
    ],
)
def test_containers_managed_by_compose_are_obstacles(composed, told):
    there = [running(each, manager=COMPOSE) for each in SPECS[:composed]]
    planned = plan.make(fleet(*SPECS), there, {})
    assert refused(Engine(), planned) == f"nothing was touched: {told} the fleet another name"


def test_all_obstacles_are_reported_at_once():
    planned = plan.make(fleet(*SPECS), [running(SPECS[0], manager=COMPOSE)], {})
    told = refused(Engine("desk-c1"), planned)
    assert "\n  the name desk-c1 is taken" in told
    assert "\n  desk-c0 is managed by compose" in told
