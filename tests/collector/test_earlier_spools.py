"""Spools that an earlier version wrote, whose numbers were Decimals: ``spools/`` has some of its files.

Beside each is what it had been given and had not delivered, with the numbers written out.
"""

import asyncio
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from waiting import PATIENCE

from collector.batch import Position
from collector.metrics import Metrics
from collector.records import channel_of, decode, encode
from collector.spool.spool import Spool
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
    fields = [[getattr(it, name) for name in it.__struct_fields__] for it in records]
    named = [[channel_of(it), *values] for it, values in zip(records, fields, strict=True)]
    return json.loads(json.dumps(named))


@pytest.fixture(params=FILES)
def name(request):
    return request.param


@pytest.fixture
def file(tmp_path, name):
    return shutil.copy(FOLDER / f"{name}.db", tmp_path / "spool.db")


@pytest.fixture
def expected(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


async def test_what_an_earlier_version_left_is_delivered(tmp_path, file, expected):
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


def test_what_this_version_writes_an_earlier_one_reads(file):
    """Its records have the same form: a roll-back needs no other spool."""
    with sqlite3.connect(file) as db:
        blobs = [blob for (blob,) in db.execute("SELECT data FROM blobs")]
    assert blobs
    for blob in blobs:
        again = encode(decode(blob))
        assert decode(again) == decode(blob)
        assert again == blob or b"E-" in blob
