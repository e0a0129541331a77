"""Records and marks reach the spool in bursts."""

import asyncio

import pytest
from spooled import spooled
from streams import trades
from waiting import PATIENCE, eventually

from collector import receiver as module
from collector.gaps.marks import GAPS_OF_DAY, GapsOfDay, LastRecorded, Listed, last_recorded, listed, recall
from collector.gaps.recorder import Recorder
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import Gap, Ticker
from collector.spool.spool import Spool

TRADE = next(trades(1))


@pytest.fixture
async def spool(tmp_path):
    spool = await Spool.open(tmp_path)
    yield spool
    await spool.close()


@pytest.fixture
def receiver(spool):
    return Receiver(spool, Metrics())


async def receive(receiver):
    receiver.put(TRADE)
    if receiver.is_due:
        await receiver.make_room()


async def stored(receiver, spool):
    await receiver.drain()
    return await spooled(spool)


async def test_a_burst_is_appended_when_it_is_large_or_old(receiver, spool):
    appending = asyncio.create_task(receiver.run())
    await receive(receiver)
    start = (await spool.resume(None)).after
    await asyncio.wait_for(spool.wait(start), PATIENCE)
    assert len((await spool.read(start, 1000)).records) == 1
    for _ in range(module.BURST_RECORDS):
        await receive(receiver)
    await asyncio.wait_for(spool.wait(start, 1 + module.BURST_RECORDS), PATIENCE)
    appending.cancel()


async def test_receiving_waits_when_the_spool_cannot_keep_up(receiver, spool, monkeypatch):
    monkeypatch.setattr(module, "MOST_WAITING", 600)

    async def flood():
        for _ in range(1000):
            await receive(receiver)

    flooding = asyncio.create_task(flood())
    await eventually(lambda: len(receiver._records) == 600)
    await asyncio.sleep(0.05)
    assert not flooding.done()
    assert len(receiver._records) == 600
    appending = asyncio.create_task(receiver.run())
    await asyncio.wait_for(flooding, PATIENCE)
    appending.cancel()
    assert len(await stored(receiver, spool)) == 1000


async def test_marks_are_stored_with_the_records(receiver, spool):
    place = last_recorded("KRAKEN", ("trades", "BTC-USD"))
    receiver.marks.put(place, LastRecorded(7))
    await receive(receiver)
    assert receiver.marks.get(place) == LastRecorded(7)
    assert place.name not in spool.marks
    await receiver.drain()
    assert recall(spool.marks, place) == receiver.marks.get(place) == LastRecorded(7)
    receiver.marks.drop(place)  # what is forgotten is so at once, not when the spool has it
    assert receiver.marks.get(place) is None
    await receiver.drain()
    assert place.name not in spool.marks


async def test_todays_gaps_are_counted_across_restarts_and_reset_at_midnight(receiver, spool):
    gap = Gap("KRAKEN", "BTC-USD", 2000, 2000, "trades", 1000, 2000, "disconnect", None)
    recorder = Recorder(receiver)
    recorder.report(gap)
    recorder.report(gap)
    assert recorder.today == 2
    assert await stored(receiver, spool) == [gap, gap]
    after_restart = Recorder(Receiver(spool, Metrics()))
    after_restart.report(gap)
    assert after_restart.today == 3
    after_restart.marks.put(GAPS_OF_DAY, GapsOfDay("2026-01-31", 3))
    assert after_restart.today == 0


async def test_marks_alone_are_stored_too(receiver, spool):
    appending = asyncio.create_task(receiver.run())
    receiver.marks.put(listed("KRAKEN", "BTC-USD"), Listed())
    await eventually(lambda: "listed KRAKEN BTC-USD" in spool.marks)
    appending.cancel()


async def test_received_records_are_counted(spool):
    metrics = Metrics()
    receiver = Receiver(spool, metrics)
    await receive(receiver)
    receiver.put(Ticker("KRAKEN", "BTC-USD", 1, 1, "1", "2"))
    await receiver.drain()
    assert metrics.received == {"trades": 1, "ticker": 1}
    assert metrics.last_received is not None
