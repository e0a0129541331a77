"""Spools that lack something, or have something else: the next start goes well."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from itertools import cycle

import pytest
from fuzz.spools import GARBAGE, KEY, SEEN_AGAIN, Spools, fill, garble, start, values
from streams import in_seconds, trades

from collector.gaps.continuity import Continuity
from collector.gaps.recorder import Recorder
from collector.gaps.tracker import Gaps
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import Gap
from collector.spool import database
from collector.spool.schema import TABLES
from collector.spool.spool import Spool, SpoolError
from collector.times import SECOND


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spool")
    return folder / "whole", asyncio.run(fill(folder / "whole"))


def test_the_spool_of_these_tests_is_sound_and_full(spool, tmp_path, caplog):
    folder, sent = spool
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert {table for table, _, _ in values(copy)} == set(TABLES)
    got, losses, _ = asyncio.run(start(copy))
    assert {sequence: record for sequence, record in got.items() if not isinstance(record, Gap)} == sent
    assert [loss.reason for loss in losses] == ["dropped"]
    assert "damaged" not in caplog.text
    assert "cannot be read" not in caplog.text


@pytest.mark.parametrize("what", ["TABLE marks", "INDEX sizes", "TABLE meta", "TABLE losses"])
def test_a_database_that_lacks_a_table_is_recovered(spool, tmp_path, what, caplog):
    folder, sent = spool
    copy = shutil.copytree(folder, tmp_path / "copy")
    with closing(sqlite3.connect(copy / "spool.db")) as db, db:
        db.execute(f"DROP {what}")
    got, _, _ = asyncio.run(start(copy))
    assert [each for each in got.values() if not isinstance(each, Gap)] == list(sent.values())
    assert "is broken" in caplog.text


@pytest.mark.parametrize("number", [-(2**63), 2**40, 2**63 - 1])
def test_impossible_incarnation_numbers_lose_nothing(spool, tmp_path, number):
    folder, sent = spool
    for row in range(3):
        copy = shutil.copytree(folder, tmp_path / str(row))
        assert garble(copy, "incarnations", row, "number", number)
        with closing(sqlite3.connect(copy / "spool.db")) as db, db:
            db.execute("UPDATE sqlite_sequence SET seq = ?", (number,))
        got, losses, _ = asyncio.run(start(copy))
        assert [each for each in got.values() if not isinstance(each, Gap)] == list(sent.values())
        assert {loss.reason for loss in losses} == {"dropped"}


@pytest.mark.parametrize("text", ["garbage", "on 9", "[{}]", "nan 1"])
def test_every_mark_with_a_damaged_text_is_reported_and_becomes_a_gap(spool, tmp_path, text, caplog):
    folder, sent = spool
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        kept = [name for (name,) in db.execute("SELECT key FROM marks")]
    names = [
        name for name in kept if not name.startswith("listed") and "ticker" not in name
    ]  # any text will do
    assert len(names) == 10
    for name in names:
        caplog.clear()
        copy = shutil.copytree(folder, tmp_path / name.replace(" ", "-"))
        with closing(sqlite3.connect(copy / "spool.db")) as db, db:
            db.execute("UPDATE marks SET value = ? WHERE key = ?", (text, name))
        got, _, _ = asyncio.run(start(copy))
        gaps = [each for each in got.values() if isinstance(each, Gap)]
        assert [each for each in got.values() if not isinstance(each, Gap)] == list(sent.values())
        assert [
            gap.reason for gap in gaps if (gap.missed, gap.symbol, gap.end) == (*KEY, SEEN_AGAIN * SECOND)
        ]
        assert "cannot be read" in caplog.text
        caplog.clear()
        asyncio.run(start(copy))
        assert "cannot be read" not in caplog.text  # it is said once


def test_a_mark_with_a_damaged_name_is_reported_and_puts_every_pair_in_doubt(spool, tmp_path, caplog):
    folder, _ = spool
    copy = shutil.copytree(folder, tmp_path / "copy")
    changed(copy, "UPDATE marks SET key = 'sXen COINBASE trades BTC-USD' WHERE key LIKE 'seen%'")
    got, _, _ = asyncio.run(start(copy))
    (gap,) = [each for each in got.values() if isinstance(each, Gap) and each.end == SEEN_AGAIN * SECOND]
    assert (gap.missed, gap.symbol, gap.reason) == (*KEY, "corrupt")
    assert "cannot be read: sXen COINBASE trades BTC-USD" in caplog.text


@pytest.mark.parametrize("mark", ["seen COINBASE trades BTC-USD", "connection 0"])
async def test_a_garbled_mark_is_reported_and_becomes_a_gap(spool, tmp_path, mark, caplog):
    folder, _ = spool
    copy = await asyncio.to_thread(shutil.copytree, folder, tmp_path / "copy")
    with closing(sqlite3.connect(copy / "spool.db")) as db, db:
        assert db.execute("UPDATE marks SET value = 'gar bled' WHERE key = ?", (mark,)).rowcount == 1
    spool = await Spool.open(copy)
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("COINBASE", Recorder(receiver))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    await continuity.begin()
    gaps.end(KEY, spool.begun + 20)
    seen = {"exchange": "COINBASE", "stopped": False, "good_for": 3.0}
    seen["seen"] = [[spool.begun + 10, {"trades": ["BTC-USD"]}]]  # what the store knows
    continuity.meet("test", {"test": json.dumps(seen)})
    found = [in_seconds(it) for it in receiver._records if isinstance(it, Gap) and it.reason == "corrupt"]
    assert [(gap.start, gap.end) for gap in found] == [(spool.begun + 10, spool.begun + 20)]
    assert "marks that cannot be read" in caplog.text
    await spool.close()


@pytest.mark.parametrize("file", ["spool.db", "spool.db-wal"])
async def test_a_database_deleted_while_in_use_is_noticed(tmp_path, file):
    spool = await Spool.open(tmp_path, sync=0.01)
    await spool.append(list(trades(3)))
    (tmp_path / file).unlink()
    await asyncio.wait([spool._tending])
    with pytest.raises(SpoolError, match=f"{file} was deleted while it was in use"):
        await spool.append(list(trades(1)))
    start = (await spool.resume(None)).after
    assert (await spool.read(start, 10)).records == list(trades(3)), (
        "what is there is delivered before the end"
    )
    await spool.close()


def changed(folder, *statements):
    with closing(sqlite3.connect(folder / "spool.db")) as db, db:
        for statement in statements:
            db.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE losses SET gaps = x'919ba467617073ff'",  # msgpack, whose text is no UTF-8
        "UPDATE marks SET value = CAST(x'ff' AS TEXT)",
        "UPDATE meta SET value = CAST(x'ff' AS TEXT) WHERE key = 'owner'",
    ],
)
def test_a_text_that_is_not_utf_8_is_damaged(spool, tmp_path, change, caplog):
    folder, sent = spool
    copy = shutil.copytree(folder, tmp_path / "copy")
    changed(copy, change)
    got, _, _ = asyncio.run(start(copy))
    assert [each for each in got.values() if not isinstance(each, Gap)] == list(sent.values())
    assert "damaged" in caplog.text or "cannot be read" in caplog.text


def test_a_schema_that_is_not_text_is_recovered(spool, tmp_path, caplog):
    folder, sent = spool
    copy = shutil.copytree(folder, tmp_path / "copy")
    content = (copy / "spool.db").read_bytes()
    (copy / "spool.db").write_bytes(content.replace(b"CREATE INDEX sizes", b"CREATE IN\xff\xff\xff sizes"))
    got, _, _ = asyncio.run(start(copy))
    assert [each for each in got.values() if not isinstance(each, Gap)] == list(sent.values())
    assert "is broken" in caplog.text


def test_an_index_that_disagrees_with_its_table_is_recovered(spool, tmp_path, caplog):
    folder, sent = spool
    copy = shutil.copytree(folder, tmp_path / "copy")
    with closing(sqlite3.connect(copy / "spool.db", isolation_level=None)) as db:
        (sound,) = db.execute("SELECT sql FROM sqlite_master WHERE name = 'sizes'").fetchone()
    for sql in (f"{sound} WHERE count < 0", sound):  # an index of no row, then one that says to be of all
        with closing(sqlite3.connect(copy / "spool.db", isolation_level=None)) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'sizes'", (sql,))
        if sql != sound:
            changed(copy, "REINDEX sizes")
    got, _, _ = asyncio.run(start(copy))
    assert [each for each in got.values() if not isinstance(each, Gap)] == list(sent.values())
    assert "is broken" in caplog.text


def test_an_incarnation_that_is_lost_with_its_copy_is_a_loss_of_unknown_size(spool, tmp_path):
    folder, sent = spool
    copy = shutil.copytree(folder, tmp_path / "copy")
    first = "(SELECT min(number) FROM incarnations)"
    changed(
        copy,
        "DELETE FROM meta WHERE key IN ('acknowledged', 'identity')",
        f"UPDATE incarnations SET first = 'x' WHERE number = {first}",
    )
    got, losses, _ = asyncio.run(start(copy))
    assert len(got) < len(sent)
    assert None in [loss.count for loss in losses]


async def test_a_database_that_breaks_while_in_use_is_recovered_by_the_next_process(
    spool, tmp_path, monkeypatch, caplog
):
    folder, sent = spool
    copy = await asyncio.to_thread(shutil.copytree, folder, tmp_path / "copy")
    opened = await Spool.open(copy)

    def read(*_):
        raise sqlite3.DatabaseError("database disk image is malformed")  # which the check does not see

    monkeypatch.setattr(opened._file, "read", read)
    with pytest.raises(SpoolError, match="disk image is malformed"):
        await opened.read((await opened.resume(None)).after, 10)
    opened._tending.cancel()
    await opened.abort()
    for recovered in (True, False):
        caplog.clear()
        got, _, _ = await asyncio.to_thread(lambda: asyncio.run(start(copy)))
        assert ("is broken: it broke while it was in use" in caplog.text) is recovered
        if recovered:
            assert [each for each in got.values() if not isinstance(each, Gap)] == list(sent.values())


def test_a_database_found_to_be_broken_while_opening_is_recovered(spool, tmp_path, monkeypatch, caplog):
    folder, sent = spool
    copy = shutil.copytree(folder, tmp_path / "copy")
    real, times = database.repair, iter([True])

    def repair(db):
        if next(times, False):
            raise sqlite3.DatabaseError("database disk image is malformed")
        return real(db)

    monkeypatch.setattr(database, "repair", repair)
    got, _, _ = asyncio.run(start(copy))
    assert [each for each in got.values() if not isinstance(each, Gap)] == list(sent.values())
    assert "is broken: database disk image is malformed" in caplog.text


@pytest.mark.parametrize("table", TABLES)
def test_any_stored_value_may_be_garbage(table):
    """The next start goes well all the same, and the promise holds; several at once are the fuzz's."""
    kind, garbage = Spools(), cycle(GARBAGE)
    places = [place for place in kind.places if place[0] == table]
    rows = {row for _, row, _ in places}
    alike = rows - {0, len(rows) // 2, max(rows)} if table == "blobs" else set()
    for place in [place for place in places if place[1] not in alike]:
        kind.attempt(("values", [(*place, next(garbage))], {}))


@pytest.mark.parametrize("beyond", [float("inf"), 2.0**40, -1.0])
@pytest.mark.parametrize("column", ["since", "until"])
def test_an_impossible_time_beside_a_damaged_blob_costs_nothing(column, beyond):
    """What lies between two blobs is a loss from the one's last time to the other's first."""
    kind = Spools()
    for damaged in (5, 6, 7):
        kind.attempt(("values", [("blobs", 6, column, beyond), ("blobs", damaged, "crc", 1)], {}))


async def test_a_damaged_blob_after_a_recovery_costs_no_start(tmp_path):
    """Its place is that of the loss without an end that the recovery left."""
    spool = await Spool.open(tmp_path)
    await spool.close()
    (tmp_path / "spool.db").write_bytes(b"garbage" * 1000)
    spool = await Spool.open(tmp_path)
    (unknown,) = spool.losses
    await spool.append(list(trades(10)))
    await spool.close()
    with closing(sqlite3.connect(tmp_path / "spool.db")) as db, db:
        db.execute("UPDATE blobs SET crc = 1, count = -1")
    spool = await Spool.open(tmp_path)
    (loss,) = spool.losses
    assert (loss.first, loss.since, loss.count) == (unknown.first, unknown.since, None)
    assert loss.until is not None
    await spool.close()
