"""Forty collectors on a real engine: up, edited, drifted by hand, rolled, taken down."""

import json
from collections import Counter

import pytest
from engines import STANDIN
from fleets import docker

# Forty containers that start at once leave nothing for others.
pytestmark = [pytest.mark.docker, pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(600)]

PARALLELISM = 8
#: The stand-in, asked for its health as seldom as the collector: forty a second are too many for two cores.
IMAGE = f"""
FROM {STANDIN}
HEALTHCHECK --interval=10s --timeout=30s --start-period=60s CMD echo ready: fine
"""


@pytest.fixture
def forty(fleet, tmp_path):
    """The fleet, with an image of its own name that can be moved."""
    fleet.image = f"{fleet.name}:latest"
    fleet.build(IMAGE, tmp_path)
    docker("network", "create", fleet.name)
    yield fleet
    fleet.remove()
    docker("rmi", fleet.image)


def test_a_fleet_of_forty(forty, tmp_path, capsys):
    def said(*arguments, status=0):
        capsys.readouterr()
        assert forty.launch(*arguments, "--json") == status
        return capsys.readouterr().out

    def kinds(status):
        actions = json.loads(said("plan", status=status))["actions"]
        return {each["collector"]: each["action"] for each in actions if each["action"] != "unchanged"}

    def up(*arguments):
        *events, counts = map(json.loads, said("up", "--wait-timeout", "5m", *arguments).splitlines())
        del counts["fleet"]
        return events, {word: count for word, count in counts.items() if count}

    # Engines of this age take a container's end off a network late, or never, where many end at once.
    network = {"name": forty.name, "external": True}
    parts = {f"part-{number:02}": "BTC-USD" for number in range(40)}
    forty.write(parts, network=network)
    assert up()[1] == {"created": 40}
    assert up()[1] == {"unchanged": 40}

    # Edited: three get other symbols, three another limit; one is new, one is gone, one has another name.
    parts |= dict.fromkeys(["part-00", "part-01", "part-02"], "ETH-USD") | {"new": "BTC-USD"}
    del parts["part-38"], parts["part-39"]
    forty.write(parts | {"renamed": "BTC-USD"}, network=network)
    file = json.loads(forty.path.read_text())
    for collector in file["collectors"][3:6]:
        collector["limits"] = {"memory": "64MiB"}
    forty.path.write_text(json.dumps(file))
    before = forty.identities()
    expected = dict.fromkeys(["part-00", "part-01", "part-02"], "recreate")
    expected |= dict.fromkeys(["part-03", "part-04", "part-05"], "update")
    expected |= {"new": "create", "renamed": "create", "part-38": "remove", "part-39": "remove"}
    assert kinds(2) == expected
    assert up("--yes")[1] == {"created": 2, "updated": 3, "recreated": 3, "removed": 2, "unchanged": 32}
    after = forty.identities()
    assert {name for name in before if after.get(name) != before[name]} == {
        name for name, kind in expected.items() if kind in ("recreate", "remove")
    }

    # Changed by hand.
    docker("update", "--memory", "128m", "--memory-swap", "128m", f"{forty.name}-part-03")
    docker("stop", "--time", "1", f"{forty.name}-part-04")
    docker("rm", "--force", "--volumes", f"{forty.name}-part-05")
    assert kinds(2) == {"part-03": "update", "part-04": "start", "part-05": "create"}
    assert up()[1] == {"updated": 1, "started": 1, "created": 1, "unchanged": 37}

    # The tag goes elsewhere: all are replaced, a few at a time.
    forty.build(f"{IMAGE}LABEL newer=yes\n", tmp_path)
    assert Counter(kinds(2).values()) == {"recreate": 40}
    events, counts = up("--parallelism", str(PARALLELISM), "--no-check")  # test_converge.py has the checks
    assert counts == {"recreated": 40}
    assert PARALLELISM / 2 <= most_at_once(events) <= PARALLELISM
    assert {each["Config"]["Labels"].get("newer") for each in forty.containers().values()} == {"yes"}
    assert kinds(0) == {}

    gone = json.loads(said("down").splitlines()[-1])
    assert (gone["removed"], gone["failed"], len(gone["kept"])) == (40, 0, 42)  # spools of those removed, too
    assert not forty.containers()
    said("down", "--volumes", "--yes")
    assert not forty.things("volume")


def most_at_once(events):
    """The most collectors that were between their old and their new container at one time."""
    replaced, most = set(), 0
    for event in events:
        if event["state"] == "recreating":
            replaced.add(event["collector"])
        elif event["state"] == "ready":
            replaced.discard(event["collector"])
        most = max(most, len(replaced))
    return most
