"""Records that a store refuses, or that crash the collector, with more crashes at any step beside these."""

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from streams import trades

from collector.batch import Refusal
from collector.dead_letters import DeadLetters
from collector.metrics import Metrics
from collector.spool.spool import Spool
from collector.stores import PositionLostError, StoreRefusedError
from collector.writer import Writer

#: Each beside good ones, which show that it is not their table that is wrong.
UNITS = (["good"], ["good", "odd", "good"], ["good", "unwritable", "good"], ["good", "poison", "good"])
MOST_STARTS = 200


class KilledError(BaseException):
    """The process ends here."""


class Fuse:
    """Kills the process at the step at which it has burnt down."""

    def __init__(self):
        self.left = None

    def burn(self):
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KilledError


class Store:
    """A store in memory; poison kills who brings it. What came together is one file of ``stored``."""

    batch_records, batch_seconds, fixed_batches = 4, 0.0, False

    def __init__(self, fuse):
        self.fuse, self.position, self.stored, self.before = fuse, None, {}, [(None, {})]

    async def open(self, _):
        self.fuse.burn()
        return self.position

    async def notes(self):
        return {}

    def place(self, _):
        return "the table"

    async def commit(self, _name, batch, expected, after):
        self.fuse.burn()
        rows = list(zip(*batch.kept, strict=True))
        if expected != self.position:
            raise PositionLostError
        bad = ("odd", "unwritable")
        refused = [Refusal(*row, "bad", row[1].type == "unwritable") for row in rows if row[1].type in bad]
        if not refused:
            self.add(batch, rows)
            self.position = after
            self.before.append((after, dict(self.stored)))
        self.fuse.burn()
        return refused

    def add(self, batch, rows):
        if any(record.type == "poison" for _, record in rows):
            raise KilledError
        self.stored[batch.first, batch.end] = [sequence for sequence, _ in rows]

    @property
    def sequences(self):
        return Counter(chain(*self.stored.values()))


class FolderStore(Store):
    """The same with two files for a batch, which are not there at once: those that are stay as they are."""

    fixed_batches = True

    def add(self, batch, rows):
        for odd in (0, 1):
            if (batch.first, batch.end, odd) not in self.stored:
                of_file = [row for row in rows if row[0] % 2 == odd]
                if any(record.type == "poison" for _, record in of_file):
                    raise KilledError
                self.stored[batch.first, batch.end, odd] = [sequence for sequence, _ in of_file]
            self.fuse.burn()

    async def discard(self, _name, position):
        for file in [file for file in self.stored if file[0] == position.sequence]:
            self.fuse.burn()
            del self.stored[file]

    async def note(self, *_):
        """Nobody asks for one."""

    async def close(self):
        """Nothing is open."""


class Model(RuleBasedStateMachine):
    """``sent`` is what must be stored, or put aside for what its type says."""

    store_class = Store

    def __init__(self):
        super().__init__()
        self.loop = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp())
        self.patch = pytest.MonkeyPatch()
        self.fuse = Fuse()
        self.store = self.store_class(self.fuse)
        self.sent, self.serial, self.set_back_once = {}, count(), False
        add = DeadLetters.add

        def burning(letters, *what):
            self.fuse.burn()
            add(letters, *what)
            self.fuse.burn()

        self.patch.setattr(DeadLetters, "add", burning)
        self.start()

    def start(self):
        self.spool = self.loop.run(Spool.open(self.folder, keep=3600.0, sync=3600.0))

    def stop(self, *, cleanly):
        self.spool._tending.cancel()
        self.loop.run(self.spool.close() if cleanly else self.spool.abort())

    @rule(units=st.lists(st.sampled_from(UNITS), min_size=1, max_size=4))
    def append(self, units):
        records = [next(trades(1, start=next(self.serial))) for _ in chain(*units)]
        for record, kind in zip(records, chain(*units), strict=True):
            record.type = kind
        self.sent |= dict(enumerate(records, self.spool.end))
        self.loop.run(self.spool.append(records))

    @rule()
    def restart(self):
        self.stop(cleanly=True)
        self.start()

    @rule(data=st.data())
    def set_back(self, data):
        """The store forgets what it took last."""
        self.store.position, stored = data.draw(st.sampled_from(self.store.before))
        self.store.stored = dict(stored)
        self.set_back_once = True

    @rule(left=st.none() | st.integers(0, 12))
    def deliver(self, left):
        """One process, until it is killed or has nothing to do."""
        self.fuse.left = left
        writer = Writer("name", self.store, self.spool, Metrics())
        try:
            with suppress(StoreRefusedError):
                self.loop.run(self._deliver(writer))
        except KilledError:
            self.stop(cleanly=False)
            self.start()
        finally:
            writer._watch._cancel()
            self.fuse.left = None

    @staticmethod
    async def _deliver(writer):
        await writer._connect()
        spool = writer._spool
        while batch := await spool.read(writer._lease.after, writer._watch.size or writer._size.most):
            await writer._commit(batch)

    def letters(self):
        lines = chain(*(file.read_text().splitlines() for file in self.folder.glob("dead-letters*")))
        return Counter(json.loads(line)["sequence"] for line in lines)

    def teardown(self):
        try:
            for _ in range(MOST_STARTS):
                self.deliver(None)
                if not self.spool.undelivered[0]:
                    break
            letters = self.letters()
            stored = self.store.sequences
            assert set(letters.values()) <= {1}, "put aside twice"
            assert set(stored.values()) <= {1}, "stored twice"
            for sequence, record in self.sent.items():
                if record.type != "good":
                    assert letters[sequence], "neither stored nor put aside"
                    assert sequence not in stored
                elif not self.set_back_once:  # it may have been alone in too many crashes
                    assert (sequence in stored) != (sequence in letters)
                else:
                    assert sequence in stored or sequence in letters
        finally:
            self.patch.undo()
            self.stop(cleanly=True)
            self.loop.close()
            shutil.rmtree(self.folder)


class FolderModel(Model):
    """The same with a store of files."""

    store_class = FolderStore


TestModel = Model.TestCase
TestFolderModel = FolderModel.TestCase
TestModel.settings = TestFolderModel.settings = settings(
    max_examples=settings.default.max_examples // 10,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
