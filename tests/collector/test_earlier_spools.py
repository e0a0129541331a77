"""Spools that an earlier version wrote, whose numbers were Decimals: ``spools/`` has some of its files.

Beside each is what it had been given and had not delivered, with the numbers written out.
"""

import asyncio
import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import msgspec
import pytest
from streams import one_of_each
from waiting import PATIENCE

from collector.batch import Position
from collector.bounds import LATEST
from collector.metrics import Metrics
from collector.records import Funding, channel_of, decode, encode, encode_for_earlier_versions, fields
from collector.spool import database
from collector.spool.schema import EARLIER_FORMAT, FORMAT
from collector.spool.spool import Spool
from collector.times import SECOND
from collector.writer import Writer

FOLDER = Path(__file__).parent / "spools"
FILES = ["in_the_middle_of_a_batch", "with_gaps_open", "with_losses"]


class ListStore:
    """A store in memory whose batches keep their bounds."""

    batch_records = 100
    batch_seconds = 0.0
    fixed_batches = True

    def __init__(self, position):
        self.position, self.batches = position, []

    async def open(self, _name):
        return self.position

    async def commit(self, _name, batch, expected, after):
        assert expected == self.position
        self.batches.append(batch.kept[1])
        self.position = after
        return []

    async def discard(self, *_):
        pass

    async def close(self):
        pass


def told(records):
    return json.loads(json.dumps([[channel_of(it), *fields(it).values()] for it in records]))


@pytest.fixture(params=FILES)
def name(request):
    return request.param


@pytest.fixture
def file(tmp_path, name):
    return shutil.copy(FOLDER / f"{name}.db", tmp_path / "spool.db")


@pytest.fixture
def expected(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


async def test_records_left_by_an_earlier_version_are_delivered(tmp_path, file, expected):
    spool = await Spool.open(file.parent)
    assert not spool.mended
    assert expected["marks"].items() <= spool.marks.items()
    losses = [[it.reason, it.count, it.since, it.until, told(it.gaps)] for it in spool.losses]
    assert losses == expected["losses"]
    (before, *_) = spool._file.incarnations.known
    store = ListStore(Position(spool.owner, before.id, before.first + expected["acknowledged"]))
    writer = Writer("name", store, spool, Metrics())
    running = asyncio.create_task(writer.run())
    await writer.drain(PATIENCE)
    running.cancel()
    await asyncio.wait([running])
    await spool.close()
    assert told([record for batch in store.batches for record in batch]) == expected["records"]
    if expected["bounds"]:
        assert len(store.batches[0]) == expected["bounds"]
    assert not (tmp_path / "dead-letters.jsonl").exists()


def user_version(file):
    with sqlite3.connect(file) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


async def test_records_added_before_the_old_ones_are_stored_stay_readable_to_the_earlier_version(file):
    """So a roll-back works as long as it is of use."""
    with sqlite3.connect(file) as db:
        left = [blob for (blob,) in db.execute("SELECT data FROM blobs")]
    for blob in left:
        assert encode_for_earlier_versions(decode(blob)) == blob or b"E-" in blob
    spool = await Spool.open(file.parent)
    added = one_of_each()
    await spool.append(added)
    await spool.tend()
    await spool.close()
    assert user_version(file) == EARLIER_FORMAT
    with sqlite3.connect(file) as db:
        (blob,) = db.execute("SELECT data FROM blobs ORDER BY first DESC LIMIT 1").fetchone()
    assert msgspec.msgpack.decode(blob) == told(added)
    assert decode(blob) == added


@pytest.mark.parametrize("seconds", [0, 1, 2**63 // SECOND, 2**63 // SECOND + 1, int(LATEST) - 1])
def test_every_time_that_is_received_may_be_written_as_earlier_versions_did(seconds):
    """Funding beyond 2262 is nonsense, but must not cost the records beside it."""
    records = one_of_each()
    record = next(each for each in records if isinstance(each, Funding) and each.next_funding_time)
    record.next_funding_time = seconds * SECOND
    assert decode(encode_for_earlier_versions(records)) == records
    assert decode(encode(records)) == records


@contextlib.contextmanager
def full_at_commit(db):
    db.execute("BEGIN IMMEDIATE")
    yield
    db.execute("ROLLBACK")
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


async def test_a_format_that_could_not_be_raised_is_still_written(file, monkeypatch, caplog):
    """What is written goes by what the file says, or the earlier version would read times wrongly."""
    spool = await Spool.open(file.parent)
    await spool.append(one_of_each())
    await spool.acknowledge(Position(spool.owner, spool.incarnation, spool.end))

    with monkeypatch.context() as patch:
        patch.setattr(database, "transaction", full_at_commit)
        await spool.tend()
    assert "database or disk is full" in caplog.text
    await spool.append(added := one_of_each("KRAKEN"))
    await spool.close()
    assert user_version(file) == EARLIER_FORMAT
    with sqlite3.connect(file) as db:
        (blob,) = db.execute("SELECT data FROM blobs ORDER BY first DESC LIMIT 1").fetchone()
    assert msgspec.msgpack.decode(blob) == told(added)


async def test_the_format_is_raised_once_all_old_records_are_stored(file):
    spool = await Spool.open(file.parent)
    await spool.append(one_of_each())
    end = spool.end
    await spool.acknowledge(Position(spool.owner, spool.incarnation, end - 1))
    await spool.tend()
    assert user_version(file) == FORMAT
    await spool.append(one_of_each("KRAKEN"))
    batch = await spool.read(Position(spool.owner, spool.incarnation, end - 1), 100)
    assert batch.records == [*one_of_each()[-1:], *one_of_each("KRAKEN")]
    await spool.close()
    spool = await Spool.open(file.parent)
    batch = await spool.read(Position(spool.owner, spool.incarnation, end), 100)
    assert batch.records == one_of_each("KRAKEN")
    await spool.close()
    with sqlite3.connect(file) as db:
        (blob,) = db.execute("SELECT data FROM blobs ORDER BY first DESC LIMIT 1").fetchone()
    assert blob == encode(one_of_each("KRAKEN"))
