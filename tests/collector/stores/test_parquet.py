import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import get_args

import first_parquet
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from comparing import digits, per_key
from conformance import Pipeline
from crashing_parquet import AFTER, BATCH, NAME, settings
from every_kind import EVERY_KIND, records
from folders import record_of
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from msgspec.structs import fields, replace
from streams import stream, trades
from waiting import eventually

from collector import bounds
from collector import writer as writing
from collector.batch import Batch, Position
from collector.records import AnyRecord, Gap, L2Book, Trade, channel_of
from collector.settings import Settings
from collector.stores import (
    Holder,
    PositionLostError,
    SharedStore,
    StoreRefusedError,
    StoreUnavailableError,
    parquet,
)
from collector.stores.parquet import VERSION, ParquetStore
from collector.times import SECOND, nanoseconds

D = Decimal


@pytest.fixture
async def store(tmp_path):
    store = ParquetStore(settings(tmp_path))
    yield store
    await store.close()


def batch(records, first=0):
    return Batch("incarnation", first, records)


def files(root):
    """The files that have records."""
    return [path for path in sorted(root.rglob("*.parquet")) if path.name != "empty.parquet"]


def at(sequence):
    return Position("owner", "incarnation", sequence)


def stored(root):
    """All rows of this version by sequence, as the records that they came from."""
    rows = {}
    for kind in get_args(AnyRecord):
        folder = Path(root) / VERSION / f"channel={channel_of(kind)}"
        for row in _rows(folder) if folder.exists() else ():
            assert row["sequence"] not in rows, "stored twice"
            rows[row["sequence"]] = record_of(kind, row)
    return rows


def _rows(folder):
    strings = pa.schema([(name, pa.string()) for name in ("exchange", "symbol", "date")])
    partitioning = ds.partitioning(strings, flavor="hive")
    return ds.dataset(folder, partitioning=partitioning).to_table().to_pylist()


def assert_stored(root, sent):
    rows = stored(root)
    assert set(rows) == set(sent)
    for sequence, record in sent.items():
        assert digits(rows[sequence]) == digits(record)


async def test_every_kind_of_record_comes_back_as_it_was(store, tmp_path):
    assert await store.open(NAME) is None
    assert not await store.commit(NAME, batch(EVERY_KIND, 3), None, at(3 + len(EVERY_KIND)))
    assert_stored(tmp_path, dict(enumerate(EVERY_KIND, 3)))


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.lists(records, max_size=20))
async def test_any_record_comes_back_as_it_was(sent):
    with tempfile.TemporaryDirectory() as folder:
        store = ParquetStore(settings(folder))
        await store.open(NAME)
        assert not await store.commit(NAME, batch(sent), None, at(len(sent)))
        await store.close()
        assert_stored(folder, dict(enumerate(sent)))


async def test_a_number_is_a_double_for_arithmetic_and_an_exact_text(store, tmp_path):
    await store.open(NAME)
    await store.commit(NAME, batch(EVERY_KIND), None, at(len(EVERY_KIND)))
    trades = ds.dataset(tmp_path / "v2" / "channel=trades", partitioning="hive").schema
    assert trades.field("sequence").type == pa.int64()
    assert trades.field("price").type == pa.float64()
    assert trades.field("price_text").type == pa.string()
    assert trades.field("timestamp").type == pa.timestamp("us", "UTC")
    books = ds.dataset(tmp_path / "v2" / "channel=l2_book", partitioning="hive").schema
    assert books.field("bid").type.value_type == pa.struct([("price", pa.float64()), ("size", pa.float64())])
    texts = pa.struct([("price", pa.string()), ("size", pa.string())])
    assert books.field("bid_text").type.value_type == texts


async def test_the_digits_of_the_exchange_are_kept(store, tmp_path):
    texts = ["1.50", "1.5", "0.00000000", "-0", "1E-40", "9" * 40, "12345678901234567890.123456789012345678"]
    sent = [replace(EVERY_KIND[0], price=bounds.number(text)) for text in texts]
    await store.open(NAME)
    assert not await store.commit(NAME, batch(sent), None, at(len(sent)))
    rows = _rows(tmp_path / "v2" / "channel=trades")
    assert [row["price_text"] for row in rows] == [f"{D(text):f}".removeprefix("-") for text in texts]
    assert [row["price"] for row in rows] == [float(text) for text in texts]


async def test_texts_are_encoded_by_a_dictionary(store, tmp_path):
    sent = [replace(EVERY_KIND[0], price=str(price)) for price in range(100)] * 20
    await store.open(NAME)
    await store.commit(NAME, batch(sent), None, at(len(sent)))
    (file,) = tmp_path.glob(f"v2/channel=trades/**/{NAME}-*.parquet")
    group = pq.read_metadata(file).row_group(0)
    column = next(
        group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == "price_text"
    )
    assert "RLE_DICTIONARY" in column.encodings
    assert column.total_compressed_size < 4 * len(sent)


async def test_a_time_converted_from_a_float_keeps_its_microseconds(store, tmp_path):
    times = [nanoseconds(1.7e9 + micro / 1e6) for micro in range(0, 10**6, 997)]
    sent = [replace(EVERY_KIND[0], timestamp=time) for time in times]
    await store.open(NAME)
    await store.commit(NAME, batch(sent), None, at(len(sent)))
    rows = stored(tmp_path)
    assert [rows[sequence].timestamp for sequence in range(len(sent))] == times


async def test_partitions_are_named_as_hive_readers_expect(store, tmp_path):
    symbols = ["BTC/USD", "a=b", "100%", "..", "../../etc", "ü"]
    before_midnight, midnight = 1735689599_999000000, 1735689600 * SECOND
    sent = [replace(EVERY_KIND[0], symbol=symbol, receipt_timestamp=before_midnight) for symbol in symbols]
    sent.append(replace(sent[0], receipt_timestamp=midnight))
    await store.open(NAME)
    await store.commit(NAME, batch(sent), None, at(len(sent)))
    assert_stored(tmp_path, dict(enumerate(sent)))
    folders = {str(path.parent.relative_to(tmp_path / "v2")) for path in files(tmp_path)}
    assert "channel=trades/exchange=COINBASE/symbol=BTC%2FUSD/date=2024-12-31" in folders
    assert "channel=trades/exchange=COINBASE/symbol=BTC%2FUSD/date=2025-01-01" in folders
    assert len(folders) == 7


@pytest.mark.parametrize(
    "change",
    [
        {"price": "NaN"},
        {"amount": "-Infinity"},
        {"price": "1E+400"},
        {"receipt_timestamp": 10**21},
        {"side": "\ud800"},
        {"symbol": "\ud800"},
        {"symbol": "/" * 100},
    ],
    ids=str,
)
async def test_a_record_that_does_not_fit_is_refused_and_the_rest_is_stored(store, tmp_path, change):
    sent = dict(enumerate([EVERY_KIND[0]] * 9, 100))
    sent[104] = replace(EVERY_KIND[0], **change)
    await store.open(NAME)
    whole = batch(list(sent.values()), 100)
    refusals = await store.commit(NAME, whole, None, at(109))
    assert [refusal.sequence for refusal in refusals] == [104]
    assert refusals[0].reason
    assert not await store.commit(NAME, whole.without(refusals), None, at(109))
    del sent[104]
    assert_stored(tmp_path, sent)


async def test_a_batch_that_is_tried_again_refuses_the_same(store, tmp_path):
    sent = [EVERY_KIND[0], replace(EVERY_KIND[0], price="NaN")]
    await store.open(NAME)
    refusals = await store.commit(NAME, batch(sent), None, at(2))
    assert not await store.commit(NAME, batch(sent).without(refusals), None, at(2))
    next(tmp_path.glob("_positions/*.json")).unlink()
    assert await store.commit(NAME, batch(sent), None, at(2)) == refusals
    assert_stored(tmp_path, {0: sent[0]})


async def test_the_position_moves_with_the_data_and_is_checked(store):
    await store.open(NAME)
    await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))
    with pytest.raises(PositionLostError):
        await store.commit(NAME, batch([EVERY_KIND[0]], 1), None, at(2))
    await store.commit(NAME, batch([EVERY_KIND[0]], 1), at(1), at(2))
    assert await store.open(NAME) == at(2)
    assert await store.open("another") is None


async def test_a_dataset_that_was_removed_is_noticed(store, tmp_path):
    await store.open(NAME)
    await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))
    next(tmp_path.glob("_positions/*.json")).unlink()
    with pytest.raises(PositionLostError):
        await store.commit(NAME, batch([EVERY_KIND[0]], 1), at(1), at(2))


async def test_the_first_files_come_soon_and_each_later_one_after_twice_as_long(store):
    """Who watches the first minute sees that records are stored."""
    await store.open(NAME)
    waits = []
    for number in range(6):
        waits.append(store.batch_seconds)
        await store.commit(
            NAME, batch([EVERY_KIND[0]], number), at(number) if number else None, at(number + 1)
        )
    assert waits == [2, 4, 8, 16, 30, 30]


async def test_a_second_collector_of_the_same_name_learns_of_the_first(store, tmp_path):
    await store.open(NAME)
    assert await store.holder(NAME) is None
    await store.commit(NAME, batch([EVERY_KIND[0]]), None, at(1))
    second = ParquetStore(settings(tmp_path))
    assert await second.open(NAME) == at(1)
    me = f"process {os.getpid()} on {os.uname().nodename}"
    assert await second.holder(NAME) == Holder("owner", me, idle=0)
    with pytest.raises(StoreRefusedError, match="another collector named"):
        await second.commit(NAME, batch([EVERY_KIND[0]], 1), at(1), at(2))
    await store.close()
    assert await second.holder(NAME) == Holder("owner", me, idle=float("inf"))
    assert not await second.commit(NAME, batch([EVERY_KIND[0]], 1), at(1), at(2))
    await second.close()


def test_collectors_on_several_machines_reach_it(tmp_path):
    assert isinstance(ParquetStore(settings(tmp_path)), SharedStore)


async def test_a_heartbeat_writes_no_file(store, tmp_path):
    await store.open(NAME)
    await store.commit(NAME, batch([]), None, at(0))
    assert not files(tmp_path)
    assert store.batch_seconds < 5


async def test_channels_without_records_read_as_empty_tables_from_the_start(tmp_path):
    store = ParquetStore(settings(tmp_path, channels="trades,l2_book"))
    await store.open(NAME)
    await store.commit(NAME, batch([]), None, at(0))
    await store.close()
    for kind in (Trade, L2Book, Gap):
        folder = tmp_path / "v2" / f"channel={channel_of(kind)}"
        table = ds.dataset(folder, partitioning="hive").to_table()
        assert table.num_rows == 0
        assert {field.name for field in fields(kind)} <= set(table.column_names)
    there = sorted(tmp_path.rglob("*.parquet"))
    assert len(there) == 3
    again = ParquetStore(settings(tmp_path, channels="trades,l2_book"))
    await again.open(NAME)
    await again.commit(NAME, batch([EVERY_KIND[0]]), at(0), at(1))
    await again.close()
    assert [file for file in sorted(tmp_path.rglob("*.parquet")) if file.name == "empty.parquet"] == there
    assert_stored(tmp_path, {0: EVERY_KIND[0]})


@pytest.mark.parametrize("folder", ["file", "file/data"])
async def test_a_file_where_a_folder_should_be_is_named(tmp_path, folder):
    (tmp_path / "file").write_text("")
    store = ParquetStore(settings(tmp_path / folder))
    with pytest.raises(StoreRefusedError, match=rf"cannot write to .*/{folder}.*; a file is where a folder"):
        await store.open(NAME)


async def test_a_folder_that_becomes_read_only_is_reported_and_the_records_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_FIRST_SECONDS", 0.05)
    monkeypatch.setattr(writing, "REFUSED_PAUSE", 0.1)
    with tempfile.TemporaryDirectory() as place, nobody_special(place):
        data = Path(place, "data")
        options = {"BACKEND": "PARQUET", "PARQUET_DIR": str(data), "SPOOL_DIR": place, "NAME": NAME}
        settings = Settings.read(options | {"EXCHANGE": "COINBASE", "SYMBOLS": "A-B", "CHANNELS": "trades"})
        async with Pipeline(settings) as pipeline:
            await pipeline.send(trades(10))
            await pipeline.delivered()
            folders = [Path(folder) for folder, _, _ in os.walk(data)]
            for folder in folders:
                folder.chmod(0o500)
            await pipeline.send(trades(10, start=10))
            await pipeline.until("refused")
            assert (
                f"must belong to user {os.geteuid()}, who runs the collector" in pipeline.writer.state.error
            )
            assert pipeline.spool.undelivered[0] == 10
            for folder in folders:
                folder.chmod(0o700)
            await pipeline.delivered()
        assert [row.id for _, row in sorted(stored(data).items())] == [each.id for each in trades(20)]


@contextlib.contextmanager
def nobody_special(place):
    """The tests may be root's, to whom nothing is forbidden."""
    if os.geteuid():
        yield
        return
    os.chown(place, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_write_that_fails_leaves_nothing_and_is_tried_again(store, tmp_path):
    await store.open(NAME)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(StoreUnavailableError, match="File too large"):
            await store.commit(NAME, batch(EVERY_KIND), None, at(len(EVERY_KIND)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.glob(f"_tmp/{NAME}/*"))
    await store.commit(NAME, batch(EVERY_KIND), None, at(len(EVERY_KIND)))
    assert_stored(tmp_path, dict(enumerate(EVERY_KIND)))


def test_killed_between_any_two_changes_and_tried_again_all_is_stored_once(tmp_path):
    script = Path(__file__).with_name("crashing_parquet.py")
    path = os.pathsep.join(filter(None, sys.path))  # of the tests' own modules too
    run = subprocess.run(
        [sys.executable, script, tmp_path],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    crashes = int(run.stdout)
    assert crashes > 20
    for change in range(crashes + 1):
        assert_stored(tmp_path / str(change), dict(zip(count(BATCH.first), BATCH.records, strict=False)))
        assert not list((tmp_path / str(change)).glob(f"_tmp/{NAME}/*"))
        assert AFTER.incarnation in (tmp_path / str(change) / "_positions" / f"{NAME}.json").read_text()


async def test_one_channel_reads_as_one_table(store, tmp_path):
    await store.open(NAME)
    trades = [replace(EVERY_KIND[0], symbol=symbol) for symbol in ("BTC-USD", "ETH-USD")]
    await store.commit(NAME, batch([*trades, *EVERY_KIND[2:]]), None, at(1))
    await store.commit(NAME, batch(trades, 100), at(1), at(102))
    table = ds.dataset(tmp_path / "v2" / "channel=trades", partitioning="hive").to_table()
    assert table.num_rows == 4
    names = {field.name for field in fields(Trade)} | {"sequence", "date", "price_text", "amount_text"}
    assert set(table.column_names) == names


@pytest.fixture
def pipeline_settings(tmp_path, monkeypatch):
    """Settings for a spool and a writer that commit often and try again soon."""
    monkeypatch.setattr(parquet, "_FIRST_SECONDS", 0.02)
    monkeypatch.setattr(parquet, "_LATER_SECONDS", 0.02)
    monkeypatch.setattr(writing, "MOST_PAUSE", 0.05)
    return replace(settings(tmp_path / "data"), spool_dir=tmp_path / "spool", name=NAME)


async def test_a_volume_that_keeps_disappearing_has_every_record_once(pipeline_settings, tmp_path):
    data, sent = pipeline_settings.parquet_dir, list(stream(4000))
    volume, nothing = tmp_path / "volume", tmp_path / "nothing"
    volume.mkdir()
    nothing.write_text("no folder")
    data.symlink_to(volume)

    def mount(what):
        """Put it in the folder's place at once, so that the writer makes no folder in between."""
        link = tmp_path / "link"
        link.symlink_to(what)
        link.replace(data)

    async def strike():
        for _ in range(8):
            await asyncio.sleep(0.1)
            mount(nothing)
            await asyncio.sleep(0.1)
            mount(volume)

    async with Pipeline(pipeline_settings) as pipeline:
        await pipeline.until("connected")
        await asyncio.gather(pipeline.send(sent, pause=0.02), strike())
        await pipeline.delivered()
    assert_stored_in_order(data, sent)


async def test_the_first_file_does_not_wait_for_a_large_one(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_LATER_SECONDS", 3600)
    async with Pipeline(replace(settings(tmp_path / "data"), spool_dir=tmp_path / "spool")) as pipeline:
        await pipeline.send([EVERY_KIND[0]])
        await eventually(lambda: files(tmp_path))


def assert_stored_in_order(data, sent):
    """Each symbol's records of a channel are those that were sent, in their order."""
    assert per_key(row for _, row in sorted(stored(data).items())) == per_key(sent)


async def test_a_batch_that_the_first_version_began_is_stored_once(store, tmp_path):
    """Its files of this batch are there, its position is not."""
    books = [record for record in EVERY_KIND if isinstance(record, L2Book)]
    old = first_parquet.write(tmp_path, NAME, EVERY_KIND[:2])
    begun = batch([*EVERY_KIND[:2], *books])
    old = old.rename(old.with_name(f"{NAME}-incarnation-{0:012}-{begun.end:012}.parquet"))
    await store.open(NAME)
    assert not await store.commit(NAME, begun, None, at(begun.end))
    assert_stored(tmp_path, dict(enumerate(books, 2)))
    assert old.exists()


async def test_a_power_failure_brings_back_no_part_of_a_batch_that_is_tried_in_parts(
    store, tmp_path, monkeypatch
):
    """What is removed is gone for good before anything is stored in its stead."""
    sent = [replace(EVERY_KIND[0], symbol=symbol) for symbol in ("BTC-USD", "ETH-USD")]
    await store.open(NAME)
    await store.commit(NAME, batch(sent), None, at(2))
    removed, fsync, unlink = set(), os.fsync, Path.unlink

    def noted(path):
        removed.add(path)
        unlink(path)

    def kept(descriptor):
        fsync(descriptor)
        folder = Path(f"/proc/self/fd/{descriptor}").readlink()
        removed.difference_update([path for path in removed if path.parent == folder])

    monkeypatch.setattr(Path, "unlink", noted)
    monkeypatch.setattr(os, "fsync", kept)
    before = set(files(tmp_path))
    await store.discard(NAME, at(0))
    assert len(before - set(files(tmp_path))) == 2
    assert not removed


async def test_a_batch_begun_by_the_first_version_can_be_tried_in_parts(store, tmp_path):
    old = first_parquet.write(tmp_path, NAME, EVERY_KIND[:2])
    await store.open(NAME)
    await store.discard(NAME, at(0))
    assert not old.exists()
