import asyncio
import resource
import subprocess
import sys
import time
from pathlib import Path
from threading import Lock, Thread

import first_parquet
import pyarrow.parquet as pq
import pytest
from crashing_compaction import compact
from crashing_parquet import NAME, settings
from every_kind import EVERY_KIND
from msgspec.structs import replace
from waiting import eventually

from collector.batch import Batch, Position
from collector.records import Gap, L2Book, Trade
from collector.stores import parquet_compaction
from collector.stores.parquet import ParquetStore
from collector.stores.parquet_compaction import Compaction
from collector.times import SECOND

DAY = 86400
TRADE = EVERY_KIND[0]
assert isinstance(TRADE, Trade)


def at(sequence):
    return Position("owner", "incarnation", sequence)


async def store_batches(root, number, *, days_ago=2.0, name=NAME, first=0, record=TRADE):
    """Stores ``number`` batches of three records."""
    store = ParquetStore(settings(root))
    position = await store.open(name)
    receipt = time.time_ns() - int(days_ago * DAY * SECOND)
    for start in range(first, first + 3 * number, 3):
        records = [replace(record, receipt_timestamp=receipt) for _ in range(3)]
        await store.commit(name, Batch("incarnation", start, records), position, position := at(start + 3))
    await store.close()


def files(root):
    there = root.glob("v2/channel=*/**/*.parquet")
    return sorted(path.name for path in there if path.name != "empty.parquet")


def sequences(root):
    """The sequences in the dataset, file by file, as a reader sees them who lists it once."""
    tables = [
        pq.read_table(path, partitioning=None) for path in sorted(root.glob("v2/channel=*/**/*.parquet"))
    ]
    return [sequence for table in tables for sequence in table["sequence"].to_pylist()]


COMPACT_CLOSED_DAYS = ParquetStore._compact_closed_days


@pytest.fixture(autouse=True)
def by_hand(monkeypatch):
    """Compaction takes place where a test asks for it."""
    monkeypatch.setattr(ParquetStore, "_compact_closed_days", lambda self: None)


@pytest.mark.parametrize(("symbols", "left"), [("BTC-USD", 1), ("*-USD", 1), ("ALL,!BTC-*", 3)])
async def test_a_collector_compacts_the_closed_days_of_its_symbols(symbols, left, tmp_path):
    await store_batches(tmp_path, 3)
    store = ParquetStore(settings(tmp_path, symbols))
    COMPACT_CLOSED_DAYS(store)
    store._background.shutdown()
    assert len(files(tmp_path)) == left


async def test_never_more_than_a_row_group_is_in_memory(tmp_path, monkeypatch):
    """Neither of whole books, of which few are large, nor of a day that was merged before."""
    levels = [(f"{price}.5", "1.25") for price in range(2000)]
    book = next(replace(each, bid=levels, ask=levels) for each in EVERY_KIND if isinstance(each, L2Book))
    monkeypatch.setattr(parquet_compaction, "_BYTES", 2**20)
    written = []
    write_table = pq.ParquetWriter.write_table

    def write(writer, table, **options):
        written.append(table.nbytes)
        write_table(writer, table, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", write)
    for first in (0, 60):
        await store_batches(tmp_path, 20, first=first, record=book)
        written.clear()
        compact(tmp_path)
        assert len(files(tmp_path)) == 1
        assert max(written) < 2**21
    assert sequences(tmp_path) == list(range(120))


async def test_files_of_the_first_version_are_compacted_among_themselves(tmp_path):
    record = replace(TRADE, receipt_timestamp=time.time_ns() - 2 * DAY * SECOND)
    for first in (100, 103):
        old = first_parquet.write(tmp_path, NAME, [record] * 3, first)
    await store_batches(tmp_path, 40)
    store = ParquetStore(settings(tmp_path))
    COMPACT_CLOSED_DAYS(store)
    store._background.shutdown()
    (merged,) = old.parent.glob("*.parquet")
    assert pq.read_table(merged, partitioning=None)["price"].type == first_parquet.NUMBER
    assert pq.read_metadata(merged).num_rows == 6
    assert len(files(tmp_path)) == 1
    assert sequences(tmp_path) == list(range(120))


async def test_files_of_two_versions_in_one_folder_stay_as_they_are(tmp_path, caplog):
    """Somebody moved them there."""
    await store_batches(tmp_path, 2)
    (folder,) = tmp_path.glob("v2/channel=trades/*/symbol=BTC-USD/*")
    old = first_parquet.write(tmp_path, NAME, [TRADE], 100)
    old.rename(folder / old.name)
    before = sorted(folder.glob("*.parquet"))
    compact(tmp_path)
    assert sorted(folder.glob("*.parquet")) == before
    assert "were not merged" in caplog.text


async def test_gaps_are_compacted_as_records_are(tmp_path):
    gap = next(record for record in EVERY_KIND if isinstance(record, Gap))
    await store_batches(tmp_path, 3, record=gap)
    store = ParquetStore(settings(tmp_path))
    COMPACT_CLOSED_DAYS(store)
    store._background.shutdown()
    assert len(files(tmp_path)) == 1
    assert sequences(tmp_path) == list(range(9))


async def test_the_files_of_a_day_become_one_in_their_order(tmp_path):
    await store_batches(tmp_path, 5)
    assert len(files(tmp_path)) == 5
    compact(tmp_path)
    (merged,) = files(tmp_path)
    assert merged.startswith("merged-")
    assert sequences(tmp_path) == list(range(15))
    assert pq.ParquetFile(next(tmp_path.rglob(merged))).num_row_groups == 1
    await store_batches(tmp_path, 2, first=15)
    compact(tmp_path)
    assert len(files(tmp_path)) == 1
    assert sequences(tmp_path) == list(range(21))
    assert not list((tmp_path / "_compaction").rglob("*.parquet"))
    assert not list(tmp_path.rglob(".merged"))


async def test_unacknowledged_files_stay_as_they_are(tmp_path):
    await store_batches(tmp_path, 4)
    await store_batches(tmp_path, 1, name="unknown", first=100)
    positions = {NAME: 6}
    folder = next(tmp_path.glob("v2/channel=trades/*/symbol=BTC-USD/*"))
    (folder / "not-ours.parquet").write_bytes(next(folder.glob("unknown-*")).read_bytes())
    Compaction(tmp_path, positions.get, Lock()).run([folder])
    found = files(tmp_path)
    assert [name.split("-")[0] for name in found] == [NAME, NAME, "merged", "not", "unknown"]
    assert sorted(sequences(tmp_path)) == sorted([*range(12), 100, 101, 102, 100, 101, 102])


async def test_a_reader_sees_every_record_once_at_any_moment(tmp_path):
    await store_batches(tmp_path, 20)
    done, seen = [], []

    def read():
        while not done:
            try:
                seen.append(sequences(tmp_path))
            except FileNotFoundError:  # listed before the exchange, read after it
                continue

    reader = Thread(target=read)
    reader.start()
    for start in (60, 66, 72):
        before = len(seen)
        compact(tmp_path)
        await store_batches(tmp_path, 2, first=start)
        await eventually(lambda before=before: len(seen) > before + 1)  # one began after the change
    done.append(True)
    reader.join()
    for found in seen:
        assert sorted(found) == list(range(len(found)))
        assert len(found) >= 60


@pytest.mark.parametrize("how", ["killed", "power"])
def test_killed_at_any_change_a_reader_sees_every_record_once(tmp_path, how):
    asyncio.run(store_batches(tmp_path / "dataset", 3))
    script = Path(__file__).with_name("crashing_compaction.py")
    run = subprocess.run([sys.executable, script, tmp_path, how], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    crashes = int(run.stdout)
    assert crashes > 15
    for change in range(crashes):
        root = tmp_path / str(change)
        assert sequences(root) == list(range(9))
        compact(root)
        assert sequences(root) == list(range(9))
        assert len(files(root)) == 1
        assert not list((root / "_compaction").rglob("*.parquet"))


async def test_a_file_that_another_collector_adds_meanwhile_is_kept(tmp_path, monkeypatch):
    await store_batches(tmp_path, 2)
    folder = next(tmp_path.glob("v2/channel=trades/*/symbol=BTC-USD/*"))
    late = next(folder.iterdir()).read_bytes()
    exchange = parquet_compaction._exchange

    def exchange_and_then(one, other):
        (folder / "another-incarnation-000000000000-000000000003.parquet").write_bytes(late)
        exchange(one, other)

    monkeypatch.setattr(parquet_compaction, "_exchange", exchange_and_then)
    compact(tmp_path)
    assert [name.split("-")[0] for name in files(tmp_path)] == ["another", "merged"]
    assert len(sequences(tmp_path)) == 9


async def test_a_stopped_compaction_leaves_everything_as_it_was(tmp_path):
    await store_batches(tmp_path, 3)
    before = files(tmp_path)
    compaction = Compaction(tmp_path, lambda name: 10**9, Lock())
    compaction.stop()
    compaction.run(tmp_path.glob("v2/channel=trades/*/symbol=BTC-USD/*"))
    assert files(tmp_path) == before
    compact(tmp_path)
    assert len(files(tmp_path)) == 1


async def test_a_compaction_that_fails_on_a_full_disk_leaves_nothing_there(tmp_path, caplog):
    await store_batches(tmp_path, 3)
    before = files(tmp_path)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        compact(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert "were not merged" in caplog.text
    assert files(tmp_path) == before
    assert not list((tmp_path / "_compaction").rglob("*.parquet"))
    compact(tmp_path)
    assert len(files(tmp_path)) == 1


async def test_the_store_compacts_closed_days_and_no_other(tmp_path, monkeypatch):
    monkeypatch.undo()
    await store_batches(tmp_path, 2, days_ago=2)
    await store_batches(tmp_path, 2, days_ago=0, first=6)
    store = ParquetStore(settings(tmp_path))
    await store.open(NAME)
    record = replace(TRADE, receipt_timestamp=time.time_ns())
    await store.commit(NAME, Batch("incarnation", 12, [record]), at(12), at(13))
    await asyncio.to_thread(store._background.shutdown)
    await store.close()
    assert [name.split("-")[0] for name in files(tmp_path)] == [*[NAME] * 3, "merged"]
    assert sorted(sequences(tmp_path)) == list(range(13))
