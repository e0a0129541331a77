"""A fleet that the first version of the launcher made, with its store away, goes on under this one."""

import pytest
from comparison import compare, gaps_in
from first_version import as_the_first_version
from stage import docker
from test_rollout import SYMBOLS, Recorded
from waiting import wait_until

pytestmark = [pytest.mark.docker, pytest.mark.slow]


@pytest.fixture
def fleet(tmp_path, stage, image):
    fleet = Recorded(tmp_path, stage, image)
    fleet.control = stage.simulator(image, "--symbols", f"COINBASE={','.join(SYMBOLS)}", "--rate", "20")
    docker("cp", f"{stage.name}-simulator:/simulator/ca.pem", str(tmp_path))
    yield fleet
    fleet.launch("down", "--volumes", "--yes")


def test_records_of_the_first_version_are_stored_once_by_this_one(fleet, capsys):
    fleet.write(shards=2)
    with as_the_first_version():
        fleet.up(capsys)
    fleet.more()
    before = fleet.identities()
    docker("pause", fleet.stage.redis)
    try:
        fleet.more()
        # A collector writes its status every few seconds.
        wait_until(lambda: all(status["spool"]["records"] for status in fleet.statuses(capsys).values()))
        # Nobody is asked: there is no terminal, and no `--yes`. The store is away, so nothing can be tried.
        assert fleet.launch("up", "--no-check", "--wait-timeout", "0") == 0
        assert "3 recreated" in capsys.readouterr().out
    finally:
        docker("unpause", fleet.stage.redis)
    after = fleet.identities()
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in before)
    statuses = wait_until(lambda: all(fleet.statuses(capsys).values()) and fleet.statuses(capsys))
    assert statuses.keys() == before.keys()
    fleet.more()
    fleet.quiet(capsys)

    log, records = fleet.control.log(), fleet.stage.stored()
    comparison = compare(log, records, excuse_cut=False)
    assert comparison.exact, comparison
    assert comparison.matched > 300
    assert {gap.reason for gap in gaps_in(records)} == {"stopped"}
    assert fleet.launch("plan") == 0
