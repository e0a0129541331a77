"""A collector's signs of life in its store."""

import asyncio
import time
from types import SimpleNamespace

import pytest
from streams import trades

from collector import lease
from collector.batch import Batch, Position
from collector.lease import AnotherWriterError, Lease
from collector.spool.spool import Spool
from collector.stores import Holder, SharedStore


class SlowStore(SharedStore):
    """A store that takes ``seconds`` for a commit, by a clock of its own."""

    batch_records, batch_seconds, fixed_batches = 10, 0.0, False

    def __init__(self):
        self.now, self.seconds = 1000.0, 0.0

    async def commit(self, name, batch, expected, after):
        self.now += self.seconds
        return []


@pytest.fixture
async def spool(tmp_path):
    spool = await Spool.open(tmp_path)
    yield spool
    await spool.close()


@pytest.mark.parametrize("renews", [False, True])
async def test_others_may_have_taken_over_while_the_store_took_its_time(spool, monkeypatch, renews):
    """The sign of life that came with it says nothing of the time before."""
    store = SlowStore()
    monkeypatch.setattr(lease, "time", SimpleNamespace(monotonic=lambda: store.now))
    await spool.append(list(trades(2)))
    held = Lease("name", store, spool)
    held.begin(None, (await spool.resume(None)).after)
    await held.renew()
    assert not await held.may_be_lost()
    store.seconds = 8.0
    if renews:
        await held.renew()
    else:
        batch = await spool.read(held.after, 2)
        assert isinstance(batch, Batch)
        await held.commit(batch)
    assert await held.may_be_lost()
    assert not await held.may_be_lost()


@pytest.mark.parametrize("alive", [False, True])
async def test_a_sign_of_life_in_the_future_is_not_waited_for(spool, monkeypatch, alive):
    """The store's clock was set back since; a collector that is alive gives signs all the same."""
    monkeypatch.setattr(lease, "GONE", 4.0 if alive else 1.0)
    begun = time.monotonic()

    class SetBack(SlowStore):
        async def open(self, name):
            return Position("another", "run", 0)

        async def holder(self, name):
            idle = time.monotonic() - begun
            return Holder("another", "process 7", idle % 2 if alive and idle > 1 else idle - 3600)

    held = Lease("name", SetBack(), spool)
    if alive:
        with pytest.raises(AnotherWriterError):
            await asyncio.wait_for(held.open(), 10)
    else:
        assert await asyncio.wait_for(held.open(), 10) == Position("another", "run", 0)
