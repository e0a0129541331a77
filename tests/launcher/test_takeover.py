"""Whose a fleet is, on a real engine: what is another's is refused and stays as it is, or is taken over."""

import json
import sys

import pytest
from first_version import as_the_first_version
from fleets import Fleet, docker

pytestmark = pytest.mark.docker

ONE, TWO = {"one": "BTC-USD"}, {"two": "BTC-USD"}
FLEET_ID, OTHER_ID = "id-of-this-fleet", "id-of-another-fleet"


@pytest.fixture
def other(fleet, tmp_path):
    """Another file, in another folder, with the same fleet's name."""
    (tmp_path / "other").mkdir()
    other = Fleet(tmp_path / "other", fleet.image)
    other.name = fleet.name
    return other


@pytest.fixture
def at_a_terminal(monkeypatch):
    """Whoever is asked answers with what is given."""

    def answering(answer):
        for stream in (sys.stdin, sys.stderr):
            monkeypatch.setattr(stream, "isatty", lambda: True)
        monkeypatch.setattr(sys.stdin, "readline", lambda: f"{answer}\n")

    return answering


def everything(fleet):
    """What the engine has with the fleet's name or its label, and what would differ if it were touched."""
    return fleet.identities(), sorted(fleet.things("volume")), sorted(fleet.things("network"))


def test_a_fleet_of_another_owner_is_refused_by_every_command_that_changes_anything(fleet, other, capsys):
    fleet.write(ONE, id=FLEET_ID)
    assert fleet.launch("up") == 0
    before = everything(fleet)
    for keys in ({"id": OTHER_ID}, {}):
        other.write(TWO | ONE, **keys)
        capsys.readouterr()
        for command in ("plan", "up", "restart", "down", "doctor"):
            assert other.launch(command) == 1, command
            said = "".join(capsys.readouterr())
            assert f"another fleet named {fleet.name} runs here: one by " in said, command
            assert f"({fleet.path}), since 20" in said, command
        assert other.launch("down", "--volumes", "--yes") == 1
        for command in "logs", "status":
            assert other.launch(command) == 0
            said = capsys.readouterr()
            assert f"not this file's: one of another fleet {fleet.name}, by " in said.err, command
        assert f"not this file's: one of another fleet {fleet.name}, by " in said.err
        assert f"({fleet.path}), since 20" in said.err
        assert "belongs to another fleet of this name" in said.out
        assert fleet.launch("status") == 0
        assert "another fleet" not in "".join(capsys.readouterr())
    assert everything(fleet) == before

    # A checkout of the same file elsewhere goes on as before.
    other.write(ONE, id=FLEET_ID)
    assert other.launch("up") == 0
    assert other.launch("plan") == 0
    assert everything(fleet) == before

    # Adopted, it is the other's: what is not in its file goes only with a yes.
    other.write(TWO, id=OTHER_ID)
    assert other.launch("up", "--adopt") == 2
    assert "this removes collector one" in capsys.readouterr().err
    assert everything(fleet) == before
    assert other.launch("up", "--adopt", "--yes") == 0
    assert [*fleet.containers()] == ["two"]
    assert other.launch("up") == 0
    capsys.readouterr()
    assert fleet.launch("up") == 1
    assert f"({other.path})" in capsys.readouterr().err
    assert other.launch("down", "--volumes", "--yes") == 0


def test_a_collector_is_removed_only_with_consent(fleet, at_a_terminal, capsys):
    fleet.write(ONE | TWO)
    assert fleet.launch("up") == 0
    fleet.write(ONE)
    before = everything(fleet)
    assert fleet.launch("up") == 2
    said = capsys.readouterr().err
    assert "nothing was touched: this removes collector two, no longer in the file" in said
    assert f"launcher up {fleet.path} --yes" in said
    at_a_terminal("no")
    assert fleet.launch("up") == 2
    assert "Continue? Type yes:" in capsys.readouterr().err
    assert everything(fleet) == before
    assert fleet.launch("up", "--keep-orphans") == 0
    at_a_terminal("yes")
    assert fleet.launch("up") == 0
    assert [*fleet.containers()] == ["one"]


def test_a_saved_plan_includes_the_consent(fleet, tmp_path):
    fleet.write(ONE | TWO)
    assert fleet.launch("up") == 0
    fleet.write(ONE)
    assert fleet.launch("plan", "--out", str(tmp_path / "plan.json")) == 2
    assert fleet.launch("up", "--plan", str(tmp_path / "plan.json")) == 0
    assert [*fleet.containers()] == ["one"]


def test_down_of_a_fleet_by_name_alone_asks_for_consent(fleet, capsys):
    from launcher import cli  # noqa: PLC0415

    fleet.write(ONE)
    assert fleet.launch("up") == 0
    assert cli.main(["down", "--fleet", fleet.name]) == 2
    said = capsys.readouterr().err
    assert f"this removes one of fleet {fleet.name}, which " in said
    assert f"({fleet.path}) made" in said
    assert cli.main(["down", "--fleet", fleet.name, "--yes"]) == 0
    assert not fleet.containers()


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ({"id": FLEET_ID}, "has the `id` of this file, too"),
        ({}, "was made from fleet.yaml in this folder, when that had no `id`"),
    ],
)
def test_the_fleet_of_an_earlier_name_is_told_and_removed_by_it(fleet, other, before, told, capsys):
    from launcher import cli  # noqa: PLC0415

    fleet.write(ONE, **before)
    assert fleet.launch("up") == 0
    other.name = f"{fleet.name}-new"
    if not before:
        other.path = fleet.path  # it gets its id and its new name where it is
    other.write(ONE, id=FLEET_ID)
    try:
        for command, status in ("plan", 2), ("up", 0):
            capsys.readouterr()
            assert other.launch(command) == status
            assert f"fleet {fleet.name} {told}: one by " in capsys.readouterr().err
        assert other.launch("up") == 0
        assert "earlier name" not in capsys.readouterr().err  # nothing is done
        assert cli.main(["down", "--fleet", fleet.name, "--yes"]) == 0
        assert not fleet.containers()
        assert [*other.containers()] == ["one"]
    finally:
        other.remove()


@pytest.mark.parametrize("fleet_id", [None, FLEET_ID])
def test_containers_of_the_first_version_are_taken_over_without_asking(fleet, fleet_id, capsys):
    password = {"redis": {"backend": "REDIS", "host": "redis", "password": "canary"}}
    with as_the_first_version():
        fleet.write(ONE | TWO, stores=password)
        assert fleet.launch("up") == 0
    before = fleet.containers()
    spools = {name for name in fleet.things("volume") if name.endswith("spool")}
    assert not any("cryptostore.owner" in each["Config"]["Labels"] for each in before.values())
    fleet.write(ONE | TWO, stores=password, **({"id": fleet_id} if fleet_id else {}))
    capsys.readouterr()
    assert fleet.launch("plan") == 2
    assert "recreate: owner changed\n" in capsys.readouterr().out
    assert fleet.launch("up") == 0
    after = fleet.containers()
    assert all(after[name]["Id"] != before[name]["Id"] for name in before)
    assert all("cryptostore.seal" in each["Config"]["Labels"] for each in after.values())
    assert {name for name in fleet.things("volume") if name.endswith("spool")} == spools
    assert fleet.launch("plan") == 0
    assert fleet.launch("down", "--volumes") == 0
    assert not fleet.things("volume")


def test_containers_of_the_first_version_are_refused_if_the_file_lacks_some(fleet, capsys):
    with as_the_first_version():
        fleet.write(ONE | TWO)
        assert fleet.launch("up") == 0
    fleet.write(ONE)
    before = everything(fleet)
    for command in ("up", "down", "restart"):
        assert fleet.launch(command, *(["--yes"] if command != "restart" else [])) == 1
        assert "this file does not have two" in capsys.readouterr().err
    assert everything(fleet) == before
    assert fleet.launch("up", "--adopt", "--yes") == 0
    assert [*fleet.containers()] == ["one"]


def test_a_volume_of_another_is_refused_before_anything_is_made(fleet, capsys):
    spool = f"{fleet.name}-one-spool"
    fleet.write(ONE, network={"name": f"{fleet.name}-outside", "external": True})
    for labels, why in (
        ((), "its labels name no fleet"),
        (("cryptostore.fleet=other", "cryptostore.managed-by=launcher"), "belongs to fleet other"),
        (
            (f"cryptostore.fleet={fleet.name}", "cryptostore.owner=0123456789abcdef"),
            "to another fleet",
        ),
    ):
        docker("volume", "create", *(f"--label={label}" for label in labels), spool)
        try:
            for command in ("plan", "up", "doctor"):
                assert fleet.launch(command) == 1
                said = "".join(capsys.readouterr())
                assert f"volume {spool} " in said
                assert why in said
                assert f"network {fleet.name}-outside does not exist" in said  # whatever else is in the way
            assert everything(fleet) == ({}, [spool], [])
        finally:
            docker("volume", "rm", spool)
    docker("volume", "create", spool)
    fleet.write(ONE)
    assert fleet.launch("up", "--adopt") == 0
    assert fleet.launch("plan") == 0  # a container of ours has it


def test_fleets_with_ambiguous_names_share_no_spool(fleet, tmp_path):
    """Fleet `a` with collector `b-c`, and fleet `a-b` with `c`; each is there while the other is not."""
    (tmp_path / "longer").mkdir()
    longer = Fleet(tmp_path / "longer", fleet.image)
    longer.name = f"{fleet.name}-b"
    try:
        fleet.write({"b-c": "BTC-USD"}, id=FLEET_ID)
        longer.write({"c": "BTC-USD"}, id=OTHER_ID)
        assert fleet.launch("up") == 0
        assert longer.launch("up") == 1  # the engine has one container of a name
        assert fleet.launch("down") == 0
        assert longer.launch("up") == 0
        assert spool(longer.containers()["c"]) == f"{longer.name}_c_spool"
        assert longer.launch("down", "--volumes") == 0
        assert fleet.launch("up") == 0
        assert spool(fleet.containers()["b-c"]) == f"{fleet.name}_b-c_spool"
    finally:
        longer.remove()


def spool(container):
    (name,) = (each["Name"] for each in container["Mounts"] if each["Destination"] == "/spool")
    return name


def test_nothing_with_forged_labels_is_removed(fleet, capsys):
    fleet.write(ONE)
    assert fleet.launch("up") == 0
    (ours,) = fleet.containers().values()
    copied = [f"--label={name}={value}" for name, value in ours["Config"]["Labels"].items()]
    labels = {"cryptostore.fleet": fleet.name, "cryptostore.managed-by": "launcher"}
    plain = [f"--label={name}={value}" for name, value in labels.items()]
    orphan = docker("create", *plain, "--label=cryptostore.collector=gone", fleet.image)
    double = docker("create", "--name", f"{fleet.name}-double", *copied, fleet.image)
    volumes = [f"{fleet.name}-important", f"{fleet.name}-x_spool", f"{fleet.name}_one_spool"]
    for volume in volumes:
        docker("volume", "create", *(copied if volume.endswith("one_spool") else plain), volume)
    network = f"{fleet.name}-market"
    docker("network", "create", *plain, "--label=cryptostore.seal=0", network)
    try:
        assert fleet.launch("up", "--yes") == 0
        said = capsys.readouterr().err
        assert "has the labels of fleet" in said
        assert f"{fleet.name}-double is left alone" in said
        assert fleet.launch("down", "--volumes", "--yes") == 0
        said = capsys.readouterr().err
        assert all(f"volume {volume} is left alone" in said for volume in volumes)
        assert docker("volume", "ls", "--quiet", "--filter", f"name={fleet.name}").split() == sorted(volumes)
        assert docker("network", "ls", "--quiet", "--filter", f"name={network}")
        there = docker(
            "ps", "--all", "--quiet", "--no-trunc", "--filter", f"label=cryptostore.fleet={fleet.name}"
        )
        assert {*there.split()} == {orphan, double}
    finally:
        docker("rm", "--force", "--volumes", orphan, double)
        docker("network", "rm", network)


def test_status_and_plan_as_json_do_not_reveal_the_id(fleet, capsys):
    fleet.write(ONE, id=FLEET_ID)
    assert fleet.launch("up") == 0
    capsys.readouterr()
    assert fleet.launch("status", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["config"] == "current"
    assert FLEET_ID not in json.dumps(row)
