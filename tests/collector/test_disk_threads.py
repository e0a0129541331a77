"""What a spool's threads owe to those who wait for them, and to those who have ceased to."""

import asyncio
import threading

import pytest

from collector.spool.database import SpoolFile
from collector.spool.schema import SpoolError
from collector.spool.threads import DiskThreads


@pytest.fixture
async def threads(tmp_path):
    threads = DiskThreads(SpoolFile(tmp_path))
    yield threads
    await threads.end()


async def test_work_is_done_in_its_order_though_nobody_waits_for_it_any_more(threads):
    begun, go_on, done = threading.Event(), threading.Event(), []

    def first():
        begun.set()
        go_on.wait()
        done.append("first")

    waiting = [asyncio.create_task(threads.work(work)) for work in (first, lambda: done.append("second"))]
    await asyncio.to_thread(begun.wait)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    go_on.set()
    await threads.work(done.append, "third")
    assert done == ["first", "second", "third"]


async def test_an_error_reaches_who_waits_and_the_next_work_is_done(threads):
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


def test_work_outlives_the_loop_that_asked_for_it(tmp_path):
    threads, go_on, done = DiskThreads(SpoolFile(tmp_path)), threading.Event(), threading.Event()

    def work():
        go_on.wait()
        done.set()

    async def ask():
        asyncio.create_task(threads.work(work))  # noqa: RUF006 - the loop is closed before it ends
        await asyncio.sleep(0)

    asyncio.run(ask())
    go_on.set()
    assert done.wait(10)
    asyncio.run(threads.end())
