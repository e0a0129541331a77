"""What a person reads when a collector cannot begin or go on."""

import os

import pytest

from collector import supervisor
from collector.settings import Settings
from collector.stores.terminal import ClosedOutputError

WHAT = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}
ANOTHER = 65534


@pytest.fixture
def somebody():
    """The tests may be root's, to whom nothing is forbidden."""
    if os.geteuid():
        yield os.geteuid()
        return
    os.seteuid(ANOTHER)
    yield ANOTHER
    os.seteuid(0)


async def test_a_spool_in_a_folder_of_another_user_says_who_must_own_it(tmp_path, request, caplog):
    tmp_path.chmod(0o500)
    user = request.getfixturevalue("somebody")
    settings = Settings.read(WHAT | {"SPOOL_DIR": str(tmp_path / "spool")})
    assert await supervisor.collect(settings) == supervisor.DIED
    (line,) = [record.message for record in caplog.records if record.name == "collector.supervisor"]
    assert line.startswith(f"cannot open the spool in SPOOL_DIR = {tmp_path}")
    assert line.endswith(f"it must belong to user {user}, who runs the collector (chown {user} ...)")


def test_a_closed_standard_output_is_logged_in_one_line(caplog):
    death = supervisor._Death("writer", ClosedOutputError("standard output cannot be written: Broken pipe"))
    (record,) = caplog.records
    assert (
        record.message
        == "writer failed: ClosedOutputError: standard output cannot be written: Broken pipe; exiting"
    )
    assert not record.exc_info
    assert death.exit_status == supervisor.DIED
