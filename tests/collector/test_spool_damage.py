"""Every value that a spool keeps, garbled: the next start goes well, and what is not delivered is a loss."""

import asyncio
import json
import random
import shutil
import sqlite3
from contextlib import closing

import pytest
from streams import trades

from collector.continuity import Continuity
from collector.gaps import Gaps, missing
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import Gap, Ticker
from collector.settings import Settings
from collector.spool import Loss, Spool, SpoolError
from collector.spool_file import _TABLES
from collector.stores import Position

VARIABLES = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}
KEY = ("trades", "BTC-USD")
GARBAGE = [
    *(None, 0, -1, 1, 7, 2**40, 2**62, 2**63 - 1, -(2**63), 0.5, float("inf"), 1e300),
    *(
        "",
        "garbage",
        "on",
        "on 9",
        "until",
        "until nan killed",
        "until 1.0 odd",
        "nan 1",
        "inf 1",
        "1e400 x",
        "[{}]",
    ),
    *(b"", b"\xff\x00", b"\x91\x92", b"garbage" * 100),
]
EACH = 5  # of these, for each value


class Carrier:
    handled = 1_700_000_000.0


async def fill(folder):
    """A spool with something in every table, killed in the middle; what the store must get, by sequence."""
    sent, serial = {}, 0
    for opening in range(3):
        spool = await Spool.open(folder, keep=3600.0)
        receiver = Receiver(Settings.read(VARIABLES | {"SPOOL_DIR": str(folder)}), spool, Metrics())
        gaps = Gaps("COINBASE", receiver)
        continuity = Continuity(spool, receiver, gaps, lambda _: True)
        await continuity.begin()
        gaps.carried(Carrier(), [KEY])
        gaps.end(KEY, 1_700_000_000.0)
        receiver.mark("trade COINBASE BTC-USD", "17")
        await receiver.append()
        for _ in range(3):
            records = list(trades(4, start=serial))
            serial += 4
            sent |= dict(enumerate(records, spool.end))
            await spool.append(records)
        if opening == 0:
            batch = await spool.read((await spool.resume(None)).after, 3)
            await spool.fix(batch)
            gaps.begin(KEY, 1_700_000_001.0, "stale")
            await continuity._save()
        if opening == 1:
            (row,) = await spool._on_disk(
                lambda spool=spool: spool._file.db.execute("SELECT max(first) FROM blobs").fetchall()
            )
            spool._file.db.execute("DELETE FROM blobs WHERE first = ?", row)
            lost = [sent.pop(sequence) for sequence in range(row[0], row[0] + 4)]
            gone = missing(lost, "dropped")
            spool._file.lose(Loss("dropped", row[0], row[0] + 4, 4, 1.7e9, 1.7e9 + 1, gone), 0)
            spool._file.dropped.clear()
            await spool.append([Ticker("COINBASE", "BTC-USD", 1.7e9, 1.7e9, *2 * [lost[0].price])])
            sent[spool.end - 1] = (await spool.tail(spool.end - 1))[-1]
        await spool.tend()
        spool._tending.cancel()
        await spool.let_go()
    return sent


async def start(folder):
    """What a collector does at its start; the records that its store gets, and the losses."""
    spool = await Spool.open(folder, keep=3600.0)
    try:
        receiver = Receiver(Settings.read(VARIABLES | {"SPOOL_DIR": str(folder)}), spool, Metrics())
        gaps = Gaps("COINBASE", receiver)
        continuity = Continuity(spool, receiver, gaps, lambda _: True)
        await continuity.begin()
        gaps.carried(Carrier(), [KEY])
        gaps.end(KEY, 1_800_000_000.0)
        continuity.meet("test", {})
        await continuity._save()
        got = {}
        after = (await spool.resume(None)).after
        while batch := await spool.read(after, 5):
            assert batch.first >= after.sequence
            got |= dict(enumerate(batch.records, batch.first))
            after = Position(spool.owner, batch.incarnation, batch.end)
            await spool.acknowledge(after)
        await spool.append(list(trades(1)))
        await spool.tend()
        assert await spool.read(after, 5)
        await continuity._save()
        return got, spool.losses, gaps
    finally:
        await spool.close()


def values(folder):
    """Every stored value: table, condition that finds its row, column."""
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        for table, columns in _TABLES.items():
            rows = db.execute(f"SELECT {columns} FROM {table}").fetchall()
            for number in range(len(rows)):
                for column in columns.split(", "):
                    yield table, number, column


def garble(folder, table, number, column, value):
    """Whether SQLite takes it."""
    columns = _TABLES[table].split(", ")
    with closing(sqlite3.connect(folder / "spool.db")) as db:
        row = db.execute(f"SELECT * FROM {table} LIMIT 1 OFFSET {number}").fetchone()
        names = [name for name, *_ in db.execute(f"SELECT * FROM {table} LIMIT 0").description or ()]
        keys = " AND ".join(f"{name} IS ?" for name in names)
        try:
            with db:
                db.execute(f"UPDATE {table} SET {column} = ? WHERE {keys}", (value, *row))
        except sqlite3.IntegrityError:
            return False
        assert column in columns
        return True


@pytest.fixture(scope="module")
def spool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spool")
    return folder / "whole", asyncio.run(fill(folder / "whole"))


def test_the_spool_of_these_tests_is_sound_and_full(spool, tmp_path, caplog):
    folder, sent = spool
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert {table for table, _, _ in values(copy)} == set(_TABLES)
    got, losses, _ = asyncio.run(start(copy))
    assert {sequence: record for sequence, record in got.items() if not isinstance(record, Gap)} == sent
    assert [loss.reason for loss in losses] == ["dropped"]
    assert "damaged" not in caplog.text
    assert "cannot be read" not in caplog.text


def test_whatever_value_is_garbled_the_start_goes_well_and_the_rest_is_a_loss(spool, tmp_path, caplog):
    folder, sent = spool
    dice = random.Random(43)
    tried = 0
    for table, number, column in values(folder):
        for value in dice.sample(GARBAGE, EACH):
            copy = shutil.copytree(folder, tmp_path / "copy")
            if garble(copy, table, number, column, value):
                case = f"{table} row {number} {column} = {value!r}"
                try:
                    got, losses, _ = asyncio.run(start(copy))
                except Exception as error:
                    raise AssertionError(case) from error
                records = [record for record in got.values() if not isinstance(record, Gap)]
                assert list(got) == sorted(got), case
                assert len({repr(record) for record in records}) == len(records), f"twice: {case}"
                assert all(record in sent.values() for record in records), case
                missing = len(sent) - len(records)
                corrupt = [loss.count for loss in losses if loss.reason != "dropped"]
                assert not missing or None in corrupt or sum(corrupt) >= missing, f"lost: {case}"
                tried += 1
            shutil.rmtree(copy)
    assert tried > 300


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
def test_numbers_of_incarnations_that_nobody_gave_lose_nothing(spool, tmp_path, number):
    folder, sent = spool
    for row in range(3):
        copy = shutil.copytree(folder, tmp_path / str(row))
        assert garble(copy, "incarnations", row, "number", number)
        with closing(sqlite3.connect(copy / "spool.db")) as db, db:
            db.execute("UPDATE sqlite_sequence SET seq = ?", (number,))
        got, losses, _ = asyncio.run(start(copy))
        assert [each for each in got.values() if not isinstance(each, Gap)] == list(sent.values())
        assert {loss.reason for loss in losses} == {"dropped"}


@pytest.mark.parametrize("mark", ["seen COINBASE trades BTC-USD", "connection 0"])
async def test_a_garbled_mark_is_said_and_a_gap(spool, tmp_path, mark, caplog):
    folder, _ = spool
    copy = await asyncio.to_thread(shutil.copytree, folder, tmp_path / "copy")
    with closing(sqlite3.connect(copy / "spool.db")) as db, db:
        assert db.execute("UPDATE marks SET value = 'gar bled' WHERE key = ?", (mark,)).rowcount == 1
    spool = await Spool.open(copy)
    receiver = Receiver(Settings.read(VARIABLES | {"SPOOL_DIR": str(copy)}), spool, Metrics())
    gaps = Gaps("COINBASE", receiver)
    continuity = Continuity(spool, receiver, gaps, lambda _: True)
    await continuity.begin()
    gaps.end(KEY, spool.begun + 20)
    seen = {"exchange": "COINBASE", "stopped": False, "good_for": 3.0}
    seen["seen"] = [[spool.begun + 10, {"trades": ["BTC-USD"]}]]  # what the store knows
    continuity.meet("test", {"test": json.dumps(seen)})
    found = [each for each in receiver._records if isinstance(each, Gap) and each.reason == "corrupt"]
    assert [(gap.start, gap.end) for gap in found] == [(spool.begun + 10, spool.begun + 20)]
    assert "marks that cannot be read" in caplog.text
    await spool.close()


@pytest.mark.parametrize("file", ["spool.db", "spool.db-wal"])
async def test_a_database_that_is_deleted_while_it_is_in_use_is_noticed(tmp_path, file):
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
