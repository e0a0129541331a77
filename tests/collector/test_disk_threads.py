"""What a spool's threads owe to those who wait for them."""

import pytest

from collector.spool.database import SpoolFile
from collector.spool.schema import SpoolError
from collector.spool.threads import DiskThreads


@pytest.fixture
async def threads(tmp_path):
    threads = DiskThreads(SpoolFile(tmp_path))
    yield threads
    await threads.end()


async def test_an_error_reaches_its_caller_and_later_work_is_done(threads):
    with pytest.raises(ZeroDivisionError):
        await threads.work(lambda: 1 / 0)
    assert await threads.work(pow, 2, 5) == 32
    assert threads.failure is None


async def test_an_error_of_the_disk_is_remembered(threads):
    def fail():
        raise OSError("it is gone")

    with pytest.raises(SpoolError, match="it is gone"):
        await threads.work(fail)
    with pytest.raises(SpoolError, match="it is gone"):
        threads.see_that_it_is_well()
