"""The spool against a plain list, with a crash or a power failure between any two operations."""

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import closing
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from streams import trades

from collector.batch import Position
from collector.spool.spool import Spool


class Model(RuleBasedStateMachine):
    """``sent`` is what must arrive, ``store`` what did, both by sequence."""

    max_bytes = 2**20

    def __init__(self):
        super().__init__()
        self.loop = asyncio.Runner()
        self.folders = Path(tempfile.mkdtemp())
        self.names = count()
        self.serial = count()
        self.sent, self.store, self.seen = {}, {}, {}
        self.mark = None  # of the last record
        self.store_only = set()  # what a power failure took from the spool after it was stored
        self.position, self.synced, self.power_failed, self.damaged = None, None, False, False
        self.open(self.folders / "first")

    def run(self, work):
        return self.loop.run(work)

    def open(self, folder):
        self.start(folder)
        self.resume()

    def start(self, folder):
        self.spool = self.run(Spool.open(folder, max_bytes=self.max_bytes, keep=0.0, sync=3600.0))
        self.keep_what_is_synced()
        assert self.spool.marks.get("last") == self.mark

    def keep_what_is_synced(self):
        sync = self.spool._threads.sync

        async def synced():
            is_due = await sync()
            self.sync()
            return is_due

        self.spool._threads.sync = synced

    def resume(self):
        start = self.run(self.spool.resume(self.position))
        self.after = start.after

    def copy(self):
        return Path(shutil.copytree(self.spool.folder, self.folders / str(next(self.names))))

    def abort(self):
        """Ends this spool as a crash does."""
        self.spool._tending.cancel()
        self.run(self.spool.abort())

    def lost(self, sequence):
        return any(loss.first <= sequence < loss.end for loss in self.spool.losses)

    @rule(size=st.integers(1, 20))
    def append(self, size):
        records = [next(trades(1, start=next(self.serial))) for _ in range(size)]
        self.sent |= dict(enumerate(records, self.spool.end))
        self.seen |= dict(enumerate(records, self.spool.end))
        self.mark = records[-1].id
        self.run(self.spool.append(records, {"last": self.mark}))

    @rule(limit=st.integers(1, 40), acknowledged=st.booleans(), fixed=st.booleans())
    def store_a_batch(self, limit, acknowledged, fixed):
        batch = self.run(self.spool.read(self.after, limit))
        if batch is None:
            return
        if fixed:
            self.run(self.spool.fix(batch))
        for sequence, record in enumerate(batch.records, batch.first):
            assert sequence not in self.store, "stored twice"
            self.store[sequence] = record
        self.position = Position(self.spool.owner, batch.incarnation, batch.end)
        if acknowledged:
            self.after = self.position
            self.run(self.spool.acknowledge(self.after))
        else:  # the answer was lost: look again
            self.resume()

    @rule(limit=st.integers(2, 40), alone=st.booleans())
    def crash_in_a_fixed_batch(self, limit, alone):
        """It is the same batch afterwards, unless it is to be tried in parts."""
        batch = self.run(self.spool.read(self.after, limit))
        if batch is None:
            return
        self.run(self.spool.fix(batch))
        if alone:
            self.run(self.spool.loosen(self.spool.fixed_after(self.after)))
        self.crash()
        again = self.run(self.spool.read(self.after, 1))
        if not self.damaged:
            assert (again.first, again.end) == (batch.first, batch.first + 1 if alone else batch.end)

    @rule(back=st.integers(1, 30))
    def store_forgets(self, back):
        kept = sorted(self.store)[:-back]
        incarnations = self.spool._file.incarnations.known
        if kept:
            end = kept[-1] + 1
            incarnation = [each.id for each in incarnations if each.first < end][-1]
            self.position = Position(self.spool.owner, incarnation, end)
        else:
            self.position = None
        for sequence in self.store.keys() - kept:
            del self.store[sequence]
            if sequence in self.store_only:
                del self.sent[sequence]  # neither side has a trace of it
        self.resume()

    @rule(number=st.integers(0, 30))
    def damage(self, number):
        """The disk gives back something else for what was appended once."""
        with closing(sqlite3.connect(self.spool.folder / "spool.db")) as db, db:
            (blobs,) = db.execute("SELECT count(*) FROM blobs").fetchone()
            where = "first = (SELECT first FROM blobs ORDER BY first LIMIT 1 OFFSET ?)"
            db.execute(f"UPDATE blobs SET data = zeroblob(size) WHERE {where}", (number % max(blobs, 1),))
        self.damaged = True

    @rule()
    def tend(self):
        self.run(self.spool.tend())

    @rule()
    def crash(self):
        folder = self.copy()
        self.abort()
        self.open(folder)

    @rule()
    def stop_and_start(self):
        self.run(self.spool.close())
        self.open(self.spool.folder)

    @rule()
    def sync(self):
        """What is written so far survives: the spool has seen to that, or the system did by itself."""
        self.synced = self.copy(), self.spool.end, self.mark

    @rule(away=st.booleans())
    def power_failure(self, away):
        """What came after the last sync is gone, as far as the store does not have it.

        The store may be away until another process is there.
        """
        if self.synced is None:
            return
        folder, end, self.mark = self.synced
        before = {
            sequence: record
            for sequence, record in self.sent.items()
            if sequence in self.store or sequence < end
        }
        self.store_only |= {sequence for sequence in self.store if sequence >= end}
        self.abort()
        self.sent, self.synced, self.power_failed = before, None, True
        if away:
            self.start(folder)
            self.append(1)
            self.run(self.spool.tend())
            self.abort()
        self.open(folder)

    def teardown(self):
        try:
            self.resume()
            while batch := self.run(self.spool.read(self.after, 100)):
                for sequence, record in enumerate(batch.records, batch.first):
                    assert sequence not in self.store, "stored twice"
                    self.store[sequence] = record
                self.after = Position(self.spool.owner, batch.incarnation, batch.end)
                self.run(self.spool.acknowledge(self.after))
            assert self.spool.undelivered[0] == 0
            assert all(self.seen[sequence] == record for sequence, record in self.store.items())
            missing = self.sent.keys() - self.store.keys()
            assert all(map(self.lost, missing)), "lost, and nobody says so"
            if not self.power_failed and not self.damaged:  # of a blob that is damaged all counts as lost
                assert sum(loss.count for loss in self.spool.losses) == len(missing)
        finally:
            self.run(self.spool.close())
            self.loop.close()
            shutil.rmtree(self.folders)


class SmallModel(Model):
    """The same with so little room that the oldest go."""

    max_bytes = 3000


TestModel = Model.TestCase
TestSmallModel = SmallModel.TestCase
TestModel.settings = TestSmallModel.settings = settings(
    max_examples=settings.default.max_examples // 4,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
