import asyncio
import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from streams import one_of_each, trades
from waiting import PATIENCE

from collector.batch import Position
from collector.records import Candle
from collector.spool import database, recovery
from collector.spool.database import NoRoomError
from collector.spool.losses import merged
from collector.spool.schema import FORMAT
from collector.spool.spool import Loss, Spool, SpoolError
from collector.times import SECOND


async def contents(spool, after=None, limit=100):
    """All records after a position, by sequence."""
    found = {}
    while batch := await spool.read(after, limit):
        assert len(batch.records) <= limit
        found |= dict(enumerate(batch.records, batch.first))
        after = Position(spool.owner, batch.incarnation, batch.end)
    return found


async def records(spool, after=None, limit=100):
    return list((await contents(spool, after, limit)).values())


async def deliver(spool, count):
    """As a writer does with ``count`` records; the position it ends at."""
    after = (await spool.resume(None)).after
    while count and (batch := await spool.read(after, count)):
        after = Position(spool.owner, batch.incarnation, batch.end)
        await spool.acknowledge(after)
        count -= len(batch.records)
    return after


async def reopened(spool, **options):
    await spool.close()
    return await Spool.open(spool.folder, **options)


def crashed(folder):
    """The folder as a crash at this moment leaves it."""
    return Path(shutil.copytree(folder, f"{folder}-crashed"))


def execute(folder, statement):
    with closing(sqlite3.connect(folder / "spool.db")) as db, db:
        db.execute(statement)


def size_of(folder):
    return (folder / "spool.db").stat().st_size


@pytest.fixture
async def spool(tmp_path):
    spool = await Spool.open(tmp_path / "spool")
    yield spool
    await spool.close()


async def test_records_are_read_as_appended_now_and_after_a_stop(tmp_path):
    spool = await Spool.open(tmp_path)
    await spool.append(one_of_each(), {"last": "17"})
    assert await records(spool) == one_of_each()
    assert spool.undelivered[0] == len(one_of_each())
    assert spool.clean is None

    spool = await reopened(spool)
    assert await records(spool) == one_of_each()
    assert spool.marks == {"last": "17"}
    assert spool.clean
    assert spool.undelivered[0] == len(one_of_each())
    await spool.close()


async def test_a_copy_differs_from_the_original_even_on_its_inode(tmp_path):
    folder = tmp_path / "spool"
    spool = await Spool.open(folder)
    await spool.close()
    spool = await Spool.open(folder)
    assert spool.exact
    await spool.abort()
    for _ in range(20):
        inode = (folder / "spool.db").stat().st_ino
        shutil.copytree(folder, tmp_path / "backup", dirs_exist_ok=True)
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "backup", folder)
        spool = await Spool.open(folder)
        assert not spool.exact
        await spool.resume(None)
        await spool.tend()
        await spool.abort()
        if (folder / "spool.db").stat().st_ino == inode:
            break


async def test_appended_records_survive_a_crash_and_keep_their_incarnation(spool):
    await spool.append(list(trades(10)), {"mark": "1"})
    copy = await Spool.open(crashed(spool.folder))
    await copy.append(list(trades(10, start=10)))
    first = await copy.read(None, 100)
    second = await copy.read(Position(copy.owner, first.incarnation, first.end), 100)
    assert (first.incarnation, first.records) == (spool.incarnation, list(trades(10)))
    assert (second.incarnation, second.records) == (copy.incarnation, list(trades(10, start=10)))
    assert second.first >= first.end
    assert copy.marks == {"mark": "1"}
    assert copy.clean is False
    await copy.close()


async def test_appends_at_the_same_time_are_saved_together_in_order(spool):
    await asyncio.gather(*(spool.append([trade]) for trade in trades(100)))
    assert await records(spool, limit=7) == list(trades(100))


async def test_a_cancelled_append_leaves_the_spool_whole(spool):
    append = asyncio.create_task(spool.append(list(trades(10))))
    await asyncio.sleep(0)
    append.cancel()
    await spool.append(list(trades(10, start=10)))
    assert await records(spool) == list(trades(20))


async def test_wait_returns_when_there_are_records(spool):
    waiting = asyncio.create_task(spool.wait(None, 2))
    await asyncio.sleep(0.01)
    await spool.append(list(trades(1)))
    start = (await spool.resume(None)).after
    waiting.cancel()
    waiting = asyncio.create_task(spool.wait(start, 2))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    await spool.append(list(trades(1, start=1)))
    await asyncio.wait_for(waiting, PATIENCE)


async def test_a_huge_append_makes_small_batches(spool):
    await spool.append(list(trades(50_000)))
    assert await records(spool, limit=10_000) == list(trades(50_000))


async def test_the_oldest_undelivered_record_is_known_in_memory_and_on_disk(spool, monkeypatch):
    assert await spool.oldest() is None
    monkeypatch.setattr("collector.spool.spool.MEMORY_BYTES", 0)  # what is saved is on disk alone
    first, second = list(trades(3)), list(trades(3, 10))
    await spool.append(first)
    await spool.append(second)
    assert await spool.oldest() == first[0].receipt_timestamp / SECOND
    await deliver(spool, 3)
    assert await spool.oldest() == second[0].receipt_timestamp / SECOND
    monkeypatch.undo()
    await spool.append(list(trades(3, 20)))
    assert await spool.oldest() == second[0].receipt_timestamp / SECOND
    await deliver(spool, 9)
    assert await spool.oldest() is None


async def test_the_delivered_tail_is_kept_and_sent_again(spool):
    await spool.append(list(trades(10)))
    after = await deliver(spool, 10)
    await spool.tend()
    assert spool.undelivered == (0, 0)
    assert await spool.read(after, 10) is None
    start = await spool.resume(Position(after.owner, after.incarnation, after.sequence - 4))
    assert start.forgotten is None
    assert await records(spool, start.after) == list(trades(10))[6:]
    assert spool.undelivered[0] == 4


async def test_records_older_than_the_tail_are_forgotten_and_counted(tmp_path):
    spool = await Spool.open(tmp_path, keep=0.0)
    for index in range(10):
        await spool.append(list(trades(3, start=3 * index)))
    await deliver(spool, 21)
    await spool.tend()
    await spool.tend()
    start = await spool.resume(None)
    assert (start.forgotten.reason, start.forgotten.count) == ("forgotten", 21)
    assert await records(spool, start.after) == list(trades(9, start=21))
    await spool.close()


async def test_what_the_store_forgot_is_known_after_a_crash_however_soon(tmp_path):
    spool = await Spool.open(tmp_path / "first", keep=0.0, sync=3600.0)
    for index in range(10):
        await spool.append(list(trades(3, start=3 * index)))
    await deliver(spool, 21)
    await spool.tend()
    await spool.tend()
    start = await spool.resume(None)
    rest = await spool.read(start.after, 9)  # the store has it, and the collector crashes
    again = await Spool.open(crashed(spool.folder))
    resumed = await again.resume(Position(spool.owner, rest.incarnation, rest.end))
    assert (resumed.forgotten, list(again.losses)) == (None, [start.forgotten])
    await spool.close()
    await again.close()


async def test_a_store_that_is_ahead_of_the_spool_is_followed(spool):
    await spool.append(list(trades(10)))
    first = await spool.read(None, 4)
    start = await spool.resume(Position(spool.owner, first.incarnation, first.end))
    assert await records(spool, start.after) == list(trades(10))[4:]
    assert spool.undelivered[0] == 6


async def test_a_position_that_this_copy_never_knew_means_that_all_older_was_stored(spool):
    await spool.append(list(trades(10)))
    backup = await Spool.open(crashed(spool.folder))
    await backup.append(list(trades(10, start=10)))
    start = await backup.resume(Position(backup.owner, "a later run", 10**18))
    assert await records(backup, start.after) == list(trades(10, start=10))
    await backup.close()


async def test_records_between_two_power_failures_are_delivered(spool, tmp_path):
    """The store is away from the first failure to the second: its position is of the opening that is gone."""
    synced = Path(shutil.copytree(spool.folder, tmp_path / "synced"))
    lost = await Spool.open(crashed(spool.folder))
    await lost.append(list(trades(10)))
    position = await deliver(lost, 10)
    await lost.close()
    between = await Spool.open(synced)
    await between.append(list(trades(10, start=10)))
    after = await Spool.open(crashed(between.folder))
    await after.append(list(trades(10, start=20)))
    start = await after.resume(position)
    assert await records(after, start.after) == list(trades(20, start=10))
    await between.close()
    await after.close()


@pytest.mark.parametrize("stop", [Spool.abort, Spool.close])
async def test_a_power_failure_is_remembered_until_the_store_is_there(spool, tmp_path, stop):
    """The store has all from before it, by a position that the spool has lost."""
    await spool.append(list(trades(5)))
    synced = Path(shutil.copytree(spool.folder, tmp_path / "synced"))
    lost = await Spool.open(crashed(spool.folder))
    await lost.append(list(trades(5, start=5)))
    position = await deliver(lost, 10)
    await lost.close()
    between = await Spool.open(synced)
    await between.append(list(trades(10, start=10)))
    await between.tend()
    await stop(between)
    after = await Spool.open(synced)
    start = await after.resume(position)
    assert await records(after, start.after) == list(trades(10, start=10))
    assert start.forgotten is None
    assert not after.exact
    await after.tend()
    await after.abort()
    after = await Spool.open(synced)
    assert after.exact
    await after.close()


async def test_a_position_of_another_spool_is_ignored(spool):
    await spool.append(list(trades(10)))
    await deliver(spool, 4)
    start = await spool.resume(Position("another", "run", 7))
    assert await records(spool, start.after) == list(trades(10))[4:]


async def test_at_the_bound_the_oldest_records_are_dropped_but_never_those_in_flight(tmp_path):
    spool = await Spool.open(tmp_path, max_bytes=4000)
    for index in range(20):
        await spool.append(list(trades(3, start=3 * index)))
    in_flight = await spool.read(None, 3)
    for index in range(20, 100):
        await spool.append(list(trades(3, start=3 * index)))
    found = await contents(spool)
    kept = list(found.values())
    assert kept[:3] == list(in_flight.records)
    assert kept[3:] == list(trades(300))[-len(kept[3:]) :]
    assert len(kept) > 30
    assert spool.dropped == 300 - len(kept)
    assert sum(loss.count for loss in spool.losses) == spool.dropped
    assert {loss.reason for loss in spool.losses} == {"dropped"}
    assert spool.undelivered[0] == len(kept)
    losses, owner = spool.losses, spool.owner
    spool = await reopened(spool, max_bytes=4000)
    assert (spool.losses, spool.owner) == (losses, owner)
    await spool.close()


async def test_the_delivered_tail_is_dropped_before_undelivered_records(tmp_path):
    spool = await Spool.open(tmp_path, max_bytes=4000)
    for index in range(15):
        await spool.append(list(trades(3, start=3 * index)))
    await deliver(spool, 45)
    for index in range(15, 25):
        await spool.append(list(trades(3, start=3 * index)))
    assert spool.dropped == 0
    assert spool.undelivered[0] == 30
    await spool.close()


async def test_what_was_dropped_is_known_after_a_power_failure(tmp_path):
    """Dropped within the last second; the store has what comes after that, so it is past what came back."""
    spool = await Spool.open(tmp_path / "first", max_bytes=4000, sync=3600.0)
    sync, synced = spool._threads.sync, []

    async def and_keep():
        due = await sync()
        synced.append(Path(shutil.copytree(spool.folder, tmp_path / f"synced-{len(synced)}")))
        return due

    spool._threads.sync = and_keep
    for index in range(10):
        await spool.append(list(trades(3, start=3 * index)))
    await spool.tend()
    while not spool.losses:
        await spool.append(list(trades(3)))
    (loss,) = spool.losses
    batch = await spool.read(None, 3)
    assert batch.first == loss.end
    again = await Spool.open(synced[-1])
    start = await again.resume(Position(spool.owner, batch.incarnation, batch.end))
    assert (list(again.losses), start.forgotten) == ([loss], None)
    await spool.close()
    await again.close()


async def test_a_sync_is_done_again_if_another_one_was_in_its_way(spool):
    """That one began before what is to be synced now was written."""
    syncing, asked = spool._file._syncing, []

    class Busy:
        def execute(self, statement):
            asked.append(statement)
            busy = SimpleNamespace(fetchone=lambda: (1, -1, -1))
            return busy if len(asked) == 1 else syncing.execute(statement)

    await spool.append(list(trades(10)))
    spool._file._syncing = Busy()
    await spool.fix(await spool.read(None, 7))
    assert asked == ["PRAGMA wal_checkpoint(PASSIVE)"] * 2
    spool._file._syncing = syncing


async def test_fixed_bounds_are_the_same_after_a_crash(spool):
    await spool.append(list(trades(10)))
    await spool.fix(await spool.read(None, 7))
    start = (await spool.resume(None)).after
    copy = await Spool.open(crashed(spool.folder))
    for each in spool, copy:
        assert len((await each.read(start, 2)).records) == 7
    await copy.close()


async def test_fixed_bounds_are_forgotten_with_the_records(tmp_path):
    spool = await Spool.open(tmp_path, keep=0.0, sync=3600)
    after = (await spool.resume(None)).after
    for _ in range(5):
        await spool.append(list(trades(10)))
        batch = await spool.read(after, 10)
        await spool.fix(batch)
        after = Position(spool.owner, batch.incarnation, batch.end)
        await spool.acknowledge(after)
        await spool.tend()
    await spool.append(list(trades(10)))
    waiting = await spool.read(after, 7)
    await spool.fix(waiting)
    await spool.tend()
    assert spool._file.bounds == {waiting.first: waiting.end}
    await spool.close()


async def test_fixed_bounds_hold_where_the_records_before_them_were_dropped(tmp_path):
    """The batch was tried, and its store failed in the middle of it; more came meanwhile."""
    spool = await Spool.open(tmp_path, max_bytes=60_000, sync=3600)
    await spool.append(list(trades(150)))
    start = (await spool.resume(None)).after
    first = await spool.read(start, 150)
    await spool.fix(first)
    while not spool.dropped:
        await spool.append(list(trades(50)))
    after = Position(spool.owner, first.incarnation, first.end)
    await spool.acknowledge(after)
    tried = await spool.read(after, 15_000)
    assert tried.first > first.end
    await spool.fix(tried)
    await spool.append(list(trades(20)))
    again = await spool.read((await spool.resume(after)).after, 15_000)
    assert (again.first, again.end) == (tried.first, tried.end)
    start = spool.fixed_after(after)
    assert start == Position(spool.owner, tried.incarnation, tried.first)
    await spool.loosen(start)
    assert (await spool.read(after, 10)).end == tried.first + 10
    assert spool.fixed_after(after) == after
    await spool.close()


async def test_a_full_disk_drops_the_oldest_records_and_carries_on(tmp_path):
    spool = await Spool.open(tmp_path, sync=0.05)
    await spool.append(list(trades(1)))
    full = 400
    await spool._on_disk(spool._file.db.execute, f"PRAGMA max_page_count = {full}")
    for index in range(1, 300):
        await spool.append(list(trades(200, start=200 * index)))
    kept = await records(spool)
    assert kept == list(trades(60_000))[-len(kept) :]
    assert len(kept) + spool.dropped == 59_801
    assert spool.undelivered[0] == len(kept)
    assert size_of(tmp_path) <= full * 4096
    await spool.close()


def refuse(*_):
    raise NoRoomError("database or disk is full")


async def test_records_stay_in_memory_while_the_disk_is_full(tmp_path, monkeypatch):
    spool = await Spool.open(tmp_path, sync=0.05)
    write = spool._file.write

    monkeypatch.setattr(spool._file, "write", refuse)
    for index in range(100):
        await spool.append(list(trades(10, start=10 * index)), {"mark": str(index)})
    assert await records(spool) == list(trades(1000))
    monkeypatch.setattr(spool._file, "write", write)
    await spool.tend()
    copy = await Spool.open(crashed(tmp_path))
    assert await records(copy) == list(trades(1000))
    assert copy.marks == {"mark": "99"}
    await copy.close()
    await spool.close()


async def deliver_all(spool, after):
    while batch := await spool.read(after, 100):
        after = Position(spool.owner, batch.incarnation, batch.end)
        await spool.acknowledge(after)
    return after


async def outlive_a_full_disk(spool, patch):
    """Appends 500 records, and delivers 400: from the 100th on memory kept those of the last append only.

    Returns where the store was before those 290, and where it is.
    """
    await spool.append(list(trades(100)))
    before = after = await deliver_all(spool, (await spool.resume(None)).after)
    with patch.context() as full:
        full.setattr("collector.spool.spool.UNSAVED_BYTES", 1000)
        full.setattr(spool._file, "write", refuse)
        for index in range(10, 40):
            await spool.append(list(trades(10, start=10 * index)))
            after = await deliver_all(spool, after)
    await spool.append(list(trades(100, start=400)))
    return before, after


async def test_what_was_delivered_while_the_disk_was_full_is_not_lost(tmp_path, monkeypatch):
    spool = await Spool.open(tmp_path / "spool", sync=3600.0)
    _, after = await outlive_a_full_disk(spool, monkeypatch)
    assert (spool.dropped, spool.undelivered[0]) == (0, 100)
    assert [(loss.reason, loss.count) for loss in spool.losses] == [("delivered", 290)]
    copy = await Spool.open(crashed(spool.folder), keep=0.0)
    assert [(loss.reason, loss.count) for loss in copy.losses] == [("delivered", 290)]
    start = await copy.resume(after)
    assert (start.after, start.forgotten) == (after, None)
    assert await records(copy, after) == list(trades(100, start=400))
    await copy.acknowledge(Position(copy.owner, copy.incarnation, copy.end))
    await copy.tend()
    assert not copy.losses  # nothing older is left that could be read before it
    await copy.close()
    await spool.close()


async def test_what_was_delivered_while_the_disk_was_full_is_lost_if_the_store_forgets_it(
    tmp_path, monkeypatch
):
    spool = await Spool.open(tmp_path / "spool", sync=3600.0)
    before, _ = await outlive_a_full_disk(spool, monkeypatch)
    copy = await Spool.open(crashed(spool.folder))
    assert (await copy.resume(before)).after == before
    (loss,) = copy.losses
    assert (loss.reason, loss.first, loss.count) == ("forgotten", before.sequence, 290)
    assert [(gap.missed, gap.reason, gap.count) for gap in loss.gaps] == [("trades", "forgotten", 290)]
    assert await records(copy, before) == list(trades(110, start=390))
    again = await Spool.open(crashed(copy.folder))
    assert list(again.losses) == [loss]  # as if a crash followed at once
    await again.close()
    await copy.close()
    await spool.close()


async def test_only_one_process_can_open_a_spool(spool):
    with pytest.raises(SpoolError, match=rf"in use by process {os.getpid()} on "):
        await Spool.open(spool.folder)


async def test_an_opening_that_fails_keeps_no_lock(tmp_path, monkeypatch):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(recovery.socket, "gethostname", full)  # what is written into the lock's file
        with pytest.raises(SpoolError, match="No space left") as raised:
            await Spool.open(tmp_path)
    error = raised.value  # whoever keeps it keeps no file open
    await (await Spool.open(tmp_path)).close()
    assert error.__traceback__


async def test_an_unknown_format_is_refused_and_left_unchanged(tmp_path):
    await (await Spool.open(tmp_path)).close()
    execute(tmp_path, f"PRAGMA user_version = {FORMAT + 1}")
    before = (tmp_path / "spool.db").read_bytes()
    with pytest.raises(
        SpoolError, match=f"has format {FORMAT + 1}, this version reads {FORMAT - 1} and {FORMAT}"
    ):
        await Spool.open(tmp_path)
    assert (tmp_path / "spool.db").read_bytes() == before


async def test_somebody_elses_database_is_refused(tmp_path):
    execute(tmp_path, "CREATE TABLE precious(thing)")
    with pytest.raises(SpoolError, match="not a spool"):
        await Spool.open(tmp_path)


async def test_a_folder_that_cannot_be_used_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match=r"file/spool.*Not a directory"):
        await Spool.open(tmp_path / "file" / "spool")


@pytest.mark.parametrize("where", [0.1, 0.3, 0.5, 0.7, 0.9, 0.99])
async def test_a_corrupt_database_yields_its_good_records_and_is_kept(tmp_path, where, caplog):
    spool = await Spool.open(tmp_path)
    for index in range(100):
        await spool.append(list(trades(100, start=100 * index)))
    owner = spool.owner
    await spool.close()
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek(int(size_of(tmp_path) * where) // 4096 * 4096)
        file.write(os.urandom(8192))

    spool = await Spool.open(tmp_path)
    found = await contents(spool)
    sent = {record.id: record for record in trades(10_000)}
    assert all(sent[record.id] == record for record in found.values())
    assert list(found) == sorted(found)
    missing = 10_000 - len(found)
    assert missing <= 1000
    if missing:
        assert sum(loss.count or 0 for loss in spool.losses) <= missing
        assert spool.losses
    assert spool.owner == owner
    if list(tmp_path.glob("spool.broken-*.db")):
        assert "is broken" in caplog.text
    await spool.append(list(trades(1)))
    await spool.close()


async def test_a_header_that_sqlite_does_not_support_is_damage_too(tmp_path):
    spool = await Spool.open(tmp_path)
    await spool.append(list(trades(100)))
    await spool.close()
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek(44)  # sqlite.org/fileformat.html, 2026-11-28: the schema format number, 1 to 4
        file.write(b"\0\0\0\x09")
    spool = await Spool.open(tmp_path)
    assert [loss.reason for loss in spool.losses] == ["corrupt"]
    assert (tmp_path / "spool.broken-1.db").exists()
    await spool.append(list(trades(1)))
    await spool.close()


@pytest.mark.parametrize("step", range(1, 10))
async def test_a_recovery_that_is_killed_can_be_repeated(tmp_path, monkeypatch, step):
    spool = await Spool.open(tmp_path)
    for index in range(100):
        await spool.append(list(trades(100, start=100 * index)))
    await spool.close()
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek(size_of(tmp_path) // 2)
        file.write(os.urandom(8192))
    steps = iter(range(step))

    def until_killed(work):
        def worked(*arguments, **named):
            if next(steps, None) is None:
                raise SystemExit  # nobody handles it
            return work(*arguments, **named)

        return worked

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "stored_losses", until_killed(recovery.stored_losses))  # after the records
        for name in ("replace", "unlink"):
            patch.setattr(Path, name, until_killed(getattr(Path, name)))
        with contextlib.suppress(SystemExit):
            await (await Spool.open(tmp_path)).abort()
    spool = await Spool.open(tmp_path)
    found = await contents(spool)
    assert len(found) > 9000
    assert sum(loss.count or 0 for loss in spool.losses) == 10_000 - len(found)
    await spool.close()


async def test_unreadable_records_are_skipped_and_counted(tmp_path, caplog):
    spool = await Spool.open(tmp_path)
    await spool.append(list(trades(5)))
    wrong = Candle("X", "A-B", 1, 2, 1, 2, "1m", True, *5 * ["1"], None)  # True is no count
    await spool.append([wrong])
    await spool.append(list(trades(5, start=5)))
    await spool.abort()  # a crash
    spool = await Spool.open(tmp_path)
    assert await records(spool) == list(trades(10))
    (loss,) = spool.losses
    assert (loss.reason, loss.count) == ("corrupt", 1)
    assert "that cannot be read" in caplog.text
    await spool.close()


async def test_a_damaged_blob_is_skipped_and_counted(tmp_path):
    spool = await Spool.open(tmp_path)
    for index in range(3):
        await spool.append(list(trades(5, start=5 * index)))
    await spool.close()
    execute(
        tmp_path, "UPDATE blobs SET data = zeroblob(size) WHERE first = (SELECT min(first) + 5 FROM blobs)"
    )
    spool = await Spool.open(tmp_path)
    assert await records(spool) == [*trades(5), *trades(5, start=10)]
    (loss,) = spool.losses
    assert (loss.reason, loss.count) == ("corrupt", 5)
    assert spool.undelivered[0] == 10
    again = await Spool.open(crashed(tmp_path))
    assert list(again.losses) == [loss]
    await again.close()
    await spool.close()


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SQLite format 3\0" + bytes(5000)])
async def test_garbage_is_put_aside(tmp_path, content):
    for _ in range(5):
        (tmp_path / "spool.db").write_bytes(content)
        spool = await Spool.open(tmp_path)
        await spool.append(list(trades(1)))
        assert await records(spool) == list(trades(1))
        await spool.close()
    assert len(list(tmp_path.glob("spool.broken-*.db"))) <= 3


async def test_the_file_shrinks_when_most_of_it_is_empty(tmp_path):
    spool = await Spool.open(tmp_path, keep=0.0)
    for index in range(60):
        await spool.append(list(trades(5000, start=5000 * index)))
    await spool.tend()
    size = size_of(tmp_path)
    await deliver(spool, 300_000)
    for _ in range(12):
        await spool.tend()
    assert size_of(tmp_path) < size * 0.6
    await spool.close()


_APPENDER = """
import asyncio, sys
from pathlib import Path
from streams import trades
from waiting import PATIENCE
from collector.spool.spool import Spool

async def main():
    spool = await Spool.open(Path(sys.argv[1]), sync=0.02)
    sent = 0
    while True:
        await spool.append(list(trades(7, start=sent)))
        sent += 7
        print(sent, flush=True)

asyncio.run(main())
"""


async def test_sigkill_loses_nothing_after_append_has_returned(tmp_path):
    for _ in range(3):
        folder = tmp_path / str(_)
        command = [sys.executable, "-c", _APPENDER, str(folder)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else has to run
            command, stdout=subprocess.PIPE, text=True, env=environment
        )
        told = 0
        while told < 3000:
            told = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().split("\n")
        process.wait()
        told = max([told, *(int(line) for line in rest[:-1])])
        spool = await Spool.open(folder)
        found = await records(spool)
        assert found == list(trades(len(found)))
        assert len(found) >= told
        await spool.close()


def test_adjacent_losses_are_merged():
    losses = ()
    for first in (0, 5, 20):
        losses = merged(losses, Loss("dropped", first, first + 5, 5, float(first), first + 4.0))
    assert losses == (Loss("dropped", 0, 10, 10, 0.0, 9.0), Loss("dropped", 20, 25, 5, 20.0, 24.0))


async def test_an_append_does_not_wait_for_a_sync_and_the_log_is_still_reset(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "LOG_BYTES", 2**20)
    spool = await Spool.open(tmp_path, sync=3600)
    begun, may_end = threading.Event(), threading.Event()
    sync = spool._file.sync

    def slow():
        due = sync()
        begun.set()
        assert may_end.wait(PATIENCE)
        return due

    monkeypatch.setattr(spool._file, "sync", slow)
    for index in range(20):
        await spool.append(list(trades(5000, start=5000 * index)))
    log = tmp_path / "spool.db-wal"
    length = log.stat().st_size
    assert length > 2**20
    tending = asyncio.create_task(spool.tend())
    await asyncio.to_thread(begun.wait, PATIENCE)
    await spool.append(list(trades(10)))
    assert not tending.done()
    may_end.set()
    await tending
    for index in range(10):
        await spool.append(list(trades(5000, start=5000 * index)))
    assert log.stat().st_size < 1.1 * length
    await spool.close()
