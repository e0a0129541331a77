"""The spool against a plain list: a crash, a power failure or a full disk between any two operations."""

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from streams import trades

from collector.batch import Position
from collector.spool import spool
from collector.spool.database import NoRoomError, SpoolFile
from collector.spool.losses import DELIVERED
from collector.spool.spool import Spool


class Model(RuleBasedStateMachine):
    """``sent`` is what must arrive, ``store`` what did, both by sequence."""

    max_bytes = 2**20
    unsaved_bytes = 2**20

    def __init__(self):
        super().__init__()
        self.loop = asyncio.Runner()
        self.folders = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(spool, "UNSAVED_BYTES", self.unsaved_bytes)
        self.names = count()
        self.serial = count()
        self.sent, self.store, self.seen = {}, {}, {}
        self.mark = None  # of the last record
        self.store_only = set()  # stored, and gone from the spool with a power failure or a full disk
        self.full, self.saved = False, (0, None)  # until where the records are on disk, and the mark there
        self.memory_lost = False  # with a loss, perhaps
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
        self.full, self.saved = False, (self.spool.end, self.mark)
        assert self.spool.marks.get("last") == self.mark

    def keep_what_is_synced(self):
        sync = self.spool._threads.sync

        async def synced():
            is_due = await sync()
            self.sync()
            return is_due

        self.spool._threads.sync = synced

    def keep(self):
        """Notes what is on disk, if that is all."""
        if not self.spool._recent.unsaved and not self.spool._unsaved_marks:
            self.saved = self.spool.end, self.mark

    def lose_memory(self):
        """What is in memory only is gone with the process, as far as the store does not have it."""
        end, self.mark = self.saved
        self.store_only |= {sequence for sequence in self.store if sequence >= end}
        kept = [sequence for sequence in self.sent if sequence in self.store or sequence < end]
        self.memory_lost |= len(kept) < len(self.sent)
        self.sent = {sequence: self.sent[sequence] for sequence in kept}

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
        return any(loss.first <= sequence < loss.end for loss in self.losses())

    def losses(self):
        return [loss for loss in self.spool.losses if loss.reason != DELIVERED]

    @rule(size=st.integers(1, 20))
    def append(self, size):
        records = [next(trades(1, start=next(self.serial))) for _ in range(size)]
        self.sent |= dict(enumerate(records, self.spool.end))
        self.seen |= dict(enumerate(records, self.spool.end))
        self.mark = records[-1].id
        self.run(self.spool.append(records, {"last": self.mark}))
        self.keep()

    @rule(size=st.integers(1, 20), limit=st.integers(1, 40))
    def fill_the_disk(self, size, limit):
        """Others have filled it: it accepts nothing, until they make room or the process ends."""

        def refuse(*_):
            raise NoRoomError("database or disk is full")

        for name in ("write", "fix", "tend", "locate", "save_losses", "shorten_log", "sync"):
            setattr(self.spool._file, name, refuse)
        self.spool._file.finish = lambda _: None
        self.full = True
        before = set(self.store)
        self.append(size)
        self.store_a_batch(limit, acknowledged=True, fixed=False)
        self.append(size)
        assert not any(map(self.lost, set(self.store) - before)), "stored, and said to be lost"

    @rule()
    def make_room(self):
        for name in [name for name in vars(self.spool._file) if name in vars(SpoolFile)]:
            delattr(self.spool._file, name)
        self.full = False

    @rule(limit=st.integers(1, 40), acknowledged=st.booleans(), fixed=st.booleans())
    def store_a_batch(self, limit, acknowledged, fixed):
        batch = self.run(self.spool.read(self.after, limit))
        if batch is None:
            return
        if fixed and not self.full:
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
        if batch is None or self.full or self.spool._recent.unsaved:
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
        assert self.run(self.spool.tend()) is not self.full
        self.keep()

    @rule()
    def crash(self):
        folder = self.copy()
        self.abort()
        self.lose_memory()
        self.open(folder)

    @rule()
    def stop_and_start(self):
        self.run(self.spool.close())
        self.keep()
        self.lose_memory()
        self.open(self.spool.folder)

    @rule()
    def sync(self):
        """What is written so far survives: the spool has seen to that, or the system did by itself."""
        self.keep()
        self.synced = self.copy(), *self.saved

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
        if self.spool._backlog.lost:  # the store got past what a full disk could not note
            before = {
                sequence: record
                for sequence, record in before.items()
                if sequence in self.store or not self.lost(sequence)
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
            self.make_room()
            self.run(self.spool.tend())
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
            known = not self.power_failed and not self.memory_lost
            if known and not self.damaged:  # of a blob that is damaged all counts as lost
                assert sum(loss.count for loss in self.losses()) == len(missing)
        finally:
            self.patch.undo()
            self.run(self.spool.close())
            self.loop.close()
            shutil.rmtree(self.folders)


class SmallModel(Model):
    """The same with so little room that the oldest go."""

    max_bytes = 3000
    unsaved_bytes = 500


TestModel = Model.TestCase
TestSmallModel = SmallModel.TestCase
TestModel.settings = TestSmallModel.settings = settings(
    max_examples=settings.default.max_examples // 4,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
