"""Damaged spools, and damaged notes in the store: the next start goes well, and what is lost is told."""

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import closing
from functools import cached_property
from pathlib import Path
from random import Random

from fuzz import mutation
from streams import trades

from collector import completeness
from collector.batch import Position
from collector.completeness import Interval
from collector.crash_watch import CrashWatch
from collector.gap_records import missing
from collector.gaps import marks
from collector.gaps.ceded import Ceded
from collector.gaps.continuity import Continuity
from collector.gaps.recorder import Recorder
from collector.gaps.tracker import Gaps
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import Gap, Ticker
from collector.spool.schema import TABLES
from collector.spool.spool import Loss, Spool, SpoolError
from collector.times import SECOND

VARIABLES = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}
KEY = ("trades", "BTC-USD")
SEEN_AGAIN = 1_800_000_000
GARBAGE = [
    *(None, 0, -1, 1, 7, 2**40, 2**62, 2**63 - 1, -(2**63), 0.5, float("inf"), 1e300),
    *("", "garbage", "on", "on 9", "until", "until nan killed", "until 1.0 odd", "nan 1", "inf 1", "1e400 x"),
    "[{}]",
    *("0 1 2 3", "on " * 99, "\x00", "x" * 70_000, "[" * 3000, '[{"channel":1}]', "until 1e308 killed"),
    *(b"", b"\xff\x00", b"\x91\x92", b"garbage" * 100),
]
NOTE = (
    b'{"exchange":"COINBASE","stopped":false,"good_for":3.0,'
    b'"seen":[[1700000005.5,{"trades,ticker":["BTC-USD"]}]],"left":[[1700000001.0,{"trades":["ETH-USD"]}]],'
    b'"claims":[[1700000000.0,{"trades":["BTC-USD"]}]]}'
)


class Carrier:
    handled = 1_700_000_000.0


async def fill(folder):
    """A spool with something in every table, killed in the middle; what the store must get, by sequence."""
    sent, serial = {}, 0
    for opening in range(3):
        spool = await Spool.open(folder, keep=3600.0)
        receiver = Receiver(spool, Metrics())
        gaps = Gaps("COINBASE", Recorder(receiver))
        continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
        await continuity.begin()
        gaps.carried(Carrier(), [KEY])
        gaps.end(KEY, 1_700_000_000.0)
        _mark_every_kind(receiver.marks)
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
            await spool.append([Ticker("COINBASE", "BTC-USD", *2 * [17 * 10**17], *2 * [lost[0].price])])
            sent[spool.end - 1] = (await spool.tail(spool.end - 1))[-1]
        await spool.tend()
        spool._tending.cancel()
        await spool.abort()
    return sent


def _mark_every_kind(remembered):
    """Puts those that ``Gaps`` and ``Continuity`` do not put by themselves."""
    exchange = "COINBASE"
    remembered.put(marks.last_recorded(exchange, KEY), marks.LastRecorded(17, 1_700_000_000))
    remembered.put(marks.missing(exchange, KEY), marks.MissingRecords((marks.Missing(1.7e9, 1.7e9, 2),)))
    remembered.put(marks.last_content(exchange, ("ticker", "BTC-USD")), marks.LastContent("[1.5]"))
    remembered.put(marks.ceded(exchange, KEY), marks.Ceded(((1.6e9, 1.6e9 + 1),)))
    remembered.put(marks.listed(exchange, "BTC-USD"), marks.Listed())
    remembered.put(marks.LOSSES_TOLD, marks.LossesTold(frozenset({"dropped 1 2"})))
    remembered.put(marks.LETTERS_GONE, marks.LettersGone("run 7 100"))
    remembered.put(marks.WRITING, marks.Suspicion(7, 10, 17))
    remembered.put(marks.GAPS_OF_DAY, marks.GapsOfDay("2026-01-31", 3))


def _has_a_count_that_nothing_tells(what, damages) -> bool:
    """Return whether a blob has another count, and its data is damaged as well."""
    if what != "values":
        return False
    damaged = {(row, column) for table, row, column, _ in damages if table == "blobs"}
    return any({(row, "data"), (row, "crc")} & damaged for row, column in damaged if column == "count")


async def start(folder, notes=None):
    """Do what a collector does at its start; return the records that its store gets, and the losses."""
    spool = await Spool.open(folder, keep=3600.0)
    try:
        receiver = Receiver(spool, Metrics())
        gaps = Gaps("COINBASE", Recorder(receiver))
        continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
        Ceded("COINBASE", receiver.marks)
        await continuity.begin()
        CrashWatch(spool).begin(spool.acknowledged)
        gaps.carried(Carrier(), [KEY])
        gaps.end(KEY, float(SEEN_AGAIN))
        continuity.meet("test", notes or {})
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
        for table, columns in TABLES.items():
            rows = db.execute(f"SELECT {columns} FROM {table}").fetchall()
            for number in range(len(rows)):
                for column in columns.split(", "):
                    yield table, number, column


def garble(folder, table, number, column, value):
    """Whether SQLite takes it."""
    columns = TABLES[table].split(", ")
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


#: The bytes of a database that say whether it is a spool, and of which format: any other one is refused.
IDENTITY = range(60, 72)


class Spools:
    """A spool with one to three values garbled, or bytes of its file; and notes beside it in the store."""

    name, share = "spools", 0.02

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")

    @cached_property
    def _whole(self):
        folder = Path(self._folder.name) / "whole"
        sent = asyncio.run(fill(folder))
        return folder, sent, list(values(folder))

    @property
    def places(self):
        """Every stored value."""
        return self._whole[2]

    def draw(self, draw: Random) -> object:
        folder, _, places = self._whole
        notes = {}
        if draw.random() < 0.5:
            notes = {
                name: mutation.of_json(NOTE, draw).decode(errors="replace") for name in ("test", "other")
            }
        if draw.random() < 0.2:
            size = (folder / "spool.db").stat().st_size
            damage = draw.randrange(size), bytes(draw.randrange(256) for _ in range(draw.choice((1, 4, 64))))
            return "bytes", [damage], notes
        count = draw.choice((1, 1, 1, 2, 3))
        return "values", [(*draw.choice(places), draw.choice(GARBAGE)) for _ in range(count)], notes

    def attempt(self, case) -> bool:
        what, damages, notes = case
        whole, sent, _ = self._whole
        folder = Path(self._folder.name) / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        if what == "values":
            for damage in damages:
                garble(folder, *damage)
        else:
            with (folder / "spool.db").open("r+b") as file:
                for offset, content in damages:
                    file.seek(offset)
                    file.write(content)
        try:
            got, losses, _ = asyncio.run(start(folder, notes))
        except SpoolError as error:
            assert what == "bytes"
            ((offset, content),) = damages
            if offset < IDENTITY.stop and offset + len(content) > IDENTITY.start:
                assert "move" in str(error), error  # whoever reads that knows what to do
                return False
            # It broke while it was in use: the process ends, and the next one recovers.
            got, losses, _ = asyncio.run(start(folder, notes))
        records = [record for record in got.values() if not isinstance(record, Gap)]
        assert list(got) == sorted(got), "out of order"
        assert len({repr(record) for record in records}) == len(records), "twice"
        assert all(record in sent.values() for record in records), "made up"
        corrupt = [loss.count for loss in losses if loss.reason != "dropped"]
        lost = len(sent) - len(records)
        told = not lost or None in corrupt or sum(corrupt) >= lost
        assert told or _has_a_count_that_nothing_tells(what, damages), f"{lost} lost without a word: {losses}"
        gaps = [record for record in got.values() if isinstance(record, Gap)]
        none = what == "values" and any(it[0] == "marks" and not it[3] for it in damages)  # an empty text
        assert (
            notes or none or any((it.missed, it.symbol, it.end) == (*KEY, SEEN_AGAIN * SECOND) for it in gaps)
        ), "no gap"
        read, _ = completeness.read_notes(notes)
        seen = completeness.pairs(read, "COINBASE", lambda _key: True)
        completeness.rows("COINBASE", seen, gaps, Interval())
        return bool(records)
