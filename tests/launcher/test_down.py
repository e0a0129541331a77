"""What is taken away, and what is kept because nobody else has it."""

import json

import pytest
from fleets import docker

pytestmark = pytest.mark.docker


def spools(fleet):
    return [name for name in fleet.things("volume") if name.endswith("-spool")]


def test_a_spool_with_unstored_records_is_kept(fleet, capsys):
    fleet.write({"full": "NOT-STORED", "empty": "BTC-USD"})
    assert fleet.launch("up") == 0
    assert fleet.launch("down", "--volumes") == 1
    said = capsys.readouterr()
    assert f"volume {fleet.name}-full-spool holds 1,234 records that are not stored" in said.err
    assert "there is no terminal to ask on; --yes removes it" in said.err
    assert "1 volume removed, 1 volume kept" in said.out
    assert spools(fleet) == [f"{fleet.name}-full-spool"]
    # Its container is gone, its status is in the volume.
    assert fleet.launch("down", "--volumes") == 1
    assert "holds 1,234 records" in capsys.readouterr().err
    assert fleet.launch("down", "--volumes", "--yes") == 0
    assert not spools(fleet)


def test_a_spool_with_dead_letters_is_kept(fleet, capsys):
    fleet.write({"one": "DEAD-LETTERS"})
    assert fleet.launch("up") == 0
    assert fleet.launch("down", "--volumes") == 1
    assert f"volume {fleet.name}-one-spool holds 99 bytes of dead letters" in capsys.readouterr().err
    assert len(spools(fleet)) == 1
    assert fleet.launch("down", "--volumes", "--yes") == 0


def test_a_spool_of_a_collector_that_was_killed_is_kept(fleet, capsys):
    """What it said last may be older than what it received last."""
    fleet.write({"killed": "BTC-USD", "other": "BTC-USD"})
    assert fleet.launch("up") == 0
    docker("kill", f"{fleet.name}-killed")  # the engine does not restart it
    assert fleet.launch("down") == 0
    said = capsys.readouterr()
    assert "killed: its spool is kept: it may hold records that are not stored" in said.err
    assert "other: its spool" not in said.err
    for _ in range(2):  # with the other's volume, and alone
        assert fleet.launch("down", "--volumes") == 1
        assert f"{fleet.name}-killed-spool may hold records that are not stored" in capsys.readouterr().err
        assert spools(fleet) == [f"{fleet.name}-killed-spool"]
    assert fleet.launch("down", "--volumes", "--yes") == 0


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_spool_whose_status_is_damaged_is_kept(fleet, capsys, tmp_path, text):
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    (tmp_path / "status.json").write_text(text)
    docker("stop", f"{fleet.name}-one")
    docker("cp", f"{tmp_path}/status.json", f"{fleet.name}-one:/spool/{fleet.name}-one/status.json")
    assert fleet.launch("down", "--volumes") == 1
    assert "may hold records that are not stored" in capsys.readouterr().err
    assert len(spools(fleet)) == 1


def test_a_spool_of_a_collector_that_never_began_goes(fleet):
    fleet.write({"one": "WRONG-SETTINGS"})
    assert fleet.launch("up") == 1
    assert fleet.launch("down", "--volumes") == 0
    assert not fleet.things("volume")


def test_a_collector_that_leaves_the_file_keeps_its_records(fleet, capsys):
    fleet.write({"full": "NOT-STORED", "other": "BTC-USD"})
    assert fleet.launch("up") == 0
    fleet.write({"other": "BTC-USD"})
    capsys.readouterr()
    assert fleet.launch("up", "--yes") == 0
    assert "its spool is kept: it holds 1,234 records that are not stored" in capsys.readouterr().out
    assert len(spools(fleet)) == 2


def test_down_without_volumes_says_what_is_in_them(fleet, capsys):
    fleet.write({"full": "NOT-STORED"})
    assert fleet.launch("up") == 0
    assert fleet.launch("down") == 0
    said = capsys.readouterr()
    assert "full: its spool is kept: it holds 1,234 records that are not stored" in said.err
    assert "1 volume kept (--volumes removes it)" in said.out


def test_a_spool_is_removed_even_if_its_container_is_already_gone(fleet):
    fleet.write({"one": "BTC-USD", "two": "BTC-USD"})
    assert fleet.launch("up") == 0
    assert fleet.launch("down", "one") == 0
    assert len(spools(fleet)) == 2
    assert fleet.launch("down", "one", "--volumes") == 0
    assert spools(fleet) == [f"{fleet.name}-two-spool"]


def test_a_container_with_only_the_fleets_label_is_left_alone(fleet, capsys):
    """As the containers of a stack that was rendered have it."""
    fleet.write({"one": "BTC-USD"})
    stranger = docker("create", "--label", f"cryptostore.fleet={fleet.name}", fleet.image)
    try:
        assert fleet.launch("up") == 0
        assert fleet.launch("down", "--volumes") == 0
        assert docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"id={stranger}") == stranger
        assert "left alone" in capsys.readouterr().err
    finally:
        docker("rm", "--volumes", stranger)


def test_a_fleet_whose_image_is_gone_can_be_removed(fleet, tmp_path):
    standin, fleet.image = fleet.image, fleet.name
    fleet.build(f"FROM {standin}\nLABEL of={fleet.name}\n", tmp_path)
    fleet.write({"one": "BTC-USD"})
    assert fleet.launch("up") == 0
    docker("stop", "--time", "1", f"{fleet.name}-one")
    docker("image", "rm", "--force", fleet.name)
    assert fleet.launch("down", "--volumes") == 0
    assert not fleet.containers()
    assert not fleet.things("volume")


def test_every_volume_that_cannot_be_removed_is_named_and_the_others_are_removed(fleet, capsys):
    fleet.write({"one": "BTC-USD", "two": "BTC-USD", "three": "BTC-USD"})
    assert fleet.launch("up") == 0
    used = [f"{fleet.name}-{name}-spool" for name in ("one", "two")]
    strangers = [docker("create", "--volume", f"{volume}:/theirs", fleet.image) for volume in used]
    try:
        assert fleet.launch("down", "--volumes") == 1
        said = capsys.readouterr()
        assert all(f"volume {volume} cannot be removed: " in said.err for volume in used)
        assert "3 removed" in said.out
        assert "1 volume removed, 2 volumes kept" in said.out
        assert spools(fleet) == used
    finally:
        docker("rm", "--volumes", *strangers)


def test_recorded_data_is_not_removed_without_consent(fleet, capsys):
    fleet.write({"one": "BTC-USD"}, stores={"files": {"backend": "PARQUET"}})
    assert fleet.launch("up") == 0
    assert fleet.launch("down", "--volumes") == 1
    assert f"volume {fleet.name}-data holds the data recorded into it" in capsys.readouterr().err
    assert fleet.launch("down", "--volumes", "--yes") == 0
    assert not fleet.things("volume")


def test_status_of_a_removed_fleet(fleet, capsys):
    fleet.write({"one": "BTC-USD"})
    capsys.readouterr()
    assert fleet.launch("status", "--json") == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)] == ["absent"]
