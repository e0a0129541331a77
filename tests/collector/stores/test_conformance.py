"""The promise, line by line, for every store; see conformance.py for what a store has to bring."""

import asyncio
import json
import os
import shutil

import pytest
from comparing import digits
from conformance import HARNESSES, NAME, WAYS, Pipeline, deliver
from crashes import die, lives
from holes import a_hundred_holes
from msgspec.structs import replace
from servers import Toxiproxy, free_port
from streams import one_of_each, stream
from waiting import PATIENCE

from collector import lease
from collector import writer as writing
from collector.batch import Batch, Position
from collector.bounds import LATEST
from collector.dead_letters import DeadLetters
from collector.lease import AnotherWriterError
from collector.records import L2Book, Trade, fields, time_fields
from collector.spool.spool import Spool
from collector.stores import PositionLostError, create, mongo, postgres
from collector.stores import notes as codec
from collector.times import SECOND, nanoseconds

pytestmark = pytest.mark.redis


@pytest.fixture(params=HARNESSES, ids=repr)
def harness(request):
    return request.param


in_every_way = pytest.mark.parametrize("harness", [*HARNESSES, *WAYS], indirect=True, ids=repr)
over_a_network = pytest.mark.parametrize(
    "harness", [harness for harness in HARNESSES if harness.network], indirect=True, ids=repr
)


@pytest.fixture
def server(harness):
    with harness.server() as server:
        yield server


@pytest.fixture(scope="module")
def toxiproxy():
    with Toxiproxy() as toxiproxy:
        yield toxiproxy


@pytest.fixture
def faulty(server, toxiproxy):
    """The server behind a faulty proxy."""
    return toxiproxy.proxy(server.host, server.port)


@pytest.fixture(autouse=True)
def impatient(harness, monkeypatch):
    """Real waits, but none that a test has to sit out."""
    monkeypatch.setattr(lease, "PATIENCE", harness.patience)
    monkeypatch.setattr(writing, "MOST_PAUSE", 0.5)
    monkeypatch.setattr(writing, "REFUSED_PAUSE", 0.2)
    monkeypatch.setattr(mongo, "CONNECT_SECONDS", 0.3)
    harness.hurry(monkeypatch)


@in_every_way
async def test_every_record_is_stored_digit_for_digit(harness, server, tmp_path):
    sent = [*one_of_each(), *map(_latest, one_of_each("KRAKEN"))]
    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.send(sent)
        await pipeline.delivered()
    assert harness.per_key(harness.stored(server)) == harness.per_key(sent)


def _latest(record):
    """A record with the latest times that an exchange may send."""
    times = {*time_fields(type(record))} - {"receipt_timestamp"}
    return replace(record, **dict.fromkeys(times, (int(LATEST) - 1) * SECOND))


@in_every_way
async def test_nothing_is_lost_or_stored_twice_whatever_the_store_does(harness, server, tmp_path):
    sent = [*a_hundred_holes(), *stream(6000)][:6000]
    faults = [server.restart, server.kill, server.restart, server.pause, server.kill]

    async def strike(fault):
        await asyncio.sleep(0.1)
        await asyncio.to_thread(fault)
        await asyncio.sleep(0.3)
        if fault == server.pause:
            await asyncio.sleep(0.5)
            server.resume()
        elif fault == server.kill:
            await asyncio.to_thread(server.start)

    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        for index, fault in enumerate(faults):
            await asyncio.gather(
                pipeline.send(sent[index * 1200 : (index + 1) * 1200], pause=0.02), strike(fault)
            )
        await pipeline.delivered()
    assert harness.per_key(harness.stored(server)) == harness.per_key(sent)


@over_a_network
async def test_nothing_is_lost_or_stored_twice_whatever_the_network_does(harness, server, faulty, tmp_path):
    sent = list(stream(8000))

    async def strike():
        for round_ in range(20):
            stream_ = ("upstream", "downstream")[round_ % 2]
            kind, attributes = [
                ("reset_peer", {"timeout": 0}),
                ("timeout", {"timeout": 0}),
                ("limit_data", {"bytes": 999}),
            ][round_ % 3]
            await asyncio.to_thread(faulty.poison, kind, stream_, **attributes)
            await asyncio.sleep(0.05)
            await asyncio.to_thread(faulty.cut)
            await asyncio.to_thread(faulty.heal, kind, stream_)
            await asyncio.to_thread(faulty.mend)
            await asyncio.sleep(0.05)

    async with Pipeline(harness.settings(faulty, tmp_path)) as pipeline:
        await asyncio.gather(pipeline.send(sent, pause=0.02), strike())
        await pipeline.delivered()
    assert harness.per_key(harness.stored(server)) == harness.per_key(sent)


async def _dies(moment, settings, records):
    """Delivers until that moment."""
    store_class = type(create(settings))
    add, commit = DeadLetters.add, store_class.commit

    def dies_adding(letters, batch, refusals):
        if moment == "after the letters":
            add(letters, batch, refusals)
        die()

    async def dies_committing(store, *arguments):
        if not (refusals := await commit(store, *arguments)) and arguments[1].refused:
            die()
        return refusals

    if moment == "after the commit":
        store_class.commit = dies_committing
    else:
        DeadLetters.add = dies_adding
    await deliver(settings, records)


@pytest.mark.parametrize("moment", ["before the letters", "after the letters", "after the commit"])
def test_a_crash_around_a_refusal_leaves_one_dead_letter(harness, server, tmp_path, moment):
    good = list(stream(20))
    bad = harness.unwritable(next(each for each in good if isinstance(each, Trade)))
    settings = harness.settings(server, tmp_path)
    assert not lives(lambda: asyncio.run(_dies(moment, settings, [*good[:10], bad, *good[10:]])))
    asyncio.run(deliver(settings, []))
    (line,) = (tmp_path / NAME / "dead-letters.jsonl").read_text().splitlines()
    assert json.loads(line)["record"] == json.loads(json.dumps(fields(bad)))
    assert harness.per_key(harness.stored(server)) == harness.per_key(good)


@pytest.mark.parametrize("harness", [each for each in HARNESSES if repr(each) == "POSTGRES"], indirect=True)
async def test_records_that_a_table_accepts_while_refusals_are_sought_are_stored_once(
    harness, server, tmp_path, monkeypatch
):
    """It takes all again just when some of its records are tried alone."""
    book, *sent = [each for each in stream(130) if isinstance(each, Trade) or each == next(stream(1))]
    try_some = postgres._reason_for_all

    async def corrected(*arguments):
        monkeypatch.setattr(postgres, "_reason_for_all", try_some)
        await asyncio.to_thread(harness.correct, server)
        return await try_some(*arguments)

    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.send([book])
        await pipeline.delivered()
        await asyncio.to_thread(harness.spoil, server)
        monkeypatch.setattr(postgres, "_reason_for_all", corrected)
        await pipeline.send(sent)
        await pipeline.delivered()
    assert postgres._reason_for_all is try_some
    assert harness.per_key(harness.stored(server)) == harness.per_key([book, *sent])


@over_a_network  # a folder refuses as a whole: see test_parquet.py
async def test_records_wait_without_dead_letters_if_a_table_refuses_them_all(
    harness, server, tmp_path, caplog, monkeypatch
):
    """A right, a column, an index: somebody changes what the store takes, and nothing is lost by that."""
    monkeypatch.setattr(lease, "PATIENCE", PATIENCE)
    caplog.set_level("INFO")
    sent = list(stream(130))
    first = [each for each in sent[:30] if isinstance(each, L2Book)]
    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.send(first)
        await pipeline.delivered()
        await asyncio.to_thread(harness.spoil, server)
        await pipeline.send(sent[30:])
        await pipeline.until("refused")
        tries = len(caplog.records)
        opened = pipeline.writer._store.open
        again = asyncio.Event()

        async def opens(name):
            again.set()
            return await opened(name)

        pipeline.writer._store.open = opens
        for _ in range(2):
            again.clear()
            await asyncio.wait_for(again.wait(), PATIENCE)
        assert pipeline.writer.state.state == "refused"
        assert len(caplog.records) == tries, "said once"
        assert pipeline.spool.undelivered[0] > 90
        assert not (tmp_path / NAME / "dead-letters.jsonl").exists()
        await asyncio.to_thread(harness.correct, server)
        await pipeline.delivered()
        assert pipeline.writer.state.state == "connected"
    assert pipeline.metrics.put_aside == 0
    assert harness.per_key(harness.stored(server)) == harness.per_key([*first, *sent[30:]])


async def test_a_missing_store_is_waited_for(harness, server, tmp_path):
    server.stop()
    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.send(stream(10))
        await pipeline.until(harness.stopped)
        assert harness.place(server) in pipeline.writer.state.error
        server.start()
        await pipeline.delivered()
    assert harness.per_key(harness.stored(server)) == harness.per_key(stream(10))


@pytest.mark.parametrize("harness", WAYS, indirect=True, ids=repr)
async def test_wrong_credentials_are_refused_and_never_shown(harness, server, tmp_path, caplog):
    caplog.set_level("DEBUG")
    server.password = "canary%2Fnary"
    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.until("refused")
        assert harness.place(server) in pipeline.writer.state.error
        assert "nary" not in pipeline.writer.state.error + caplog.text


async def test_records_left_by_a_stopped_collector_are_delivered_by_the_next(harness, server, tmp_path):
    settings = harness.settings(server, tmp_path)
    sent = list(stream(300))
    async with Pipeline(settings) as pipeline:
        await pipeline.send(sent[:100])
        await pipeline.delivered()
    server.stop()
    async with Pipeline(settings) as pipeline:
        await pipeline.send(sent[100:200])
    server.start()
    async with Pipeline(settings) as pipeline:
        await pipeline.send(sent[200:])
        await pipeline.delivered()
    assert harness.per_key(harness.stored(server)) == harness.per_key(sent)


async def test_a_power_failure_makes_no_new_record_look_like_a_repeat(harness, server, tmp_path):
    """The spool goes back to an earlier state; the store does not."""
    settings = harness.settings(server, tmp_path)
    sent = list(stream(300))
    async with Pipeline(settings) as pipeline:
        await pipeline.send(sent[:100])
        await pipeline.delivered()
        synced = shutil.copytree(settings.home, tmp_path / "synced")
        await pipeline.send(sent[100:200])
        await pipeline.delivered()
    shutil.rmtree(settings.home)
    synced.rename(settings.home)
    async with Pipeline(settings) as pipeline:
        await pipeline.send(sent[200:])
        await pipeline.delivered()
    assert harness.per_key(harness.stored(server)) == harness.per_key(sent)


async def test_a_deleted_spool_stores_nothing_twice(harness, server, tmp_path):
    settings = harness.settings(server, tmp_path)
    sent = list(stream(200))
    async with Pipeline(settings) as pipeline:
        await pipeline.send(sent[:100])
        await pipeline.delivered()
    shutil.rmtree(settings.home)
    async with Pipeline(settings) as pipeline:
        await pipeline.send(sent[100:])
        await pipeline.delivered()
    assert harness.per_key(harness.stored(server)) == harness.per_key(sent)


async def test_clock_steps_lose_nothing_and_keep_the_order(harness, server, tmp_path):
    def at(index, receipt):
        first, time = one_of_each()[0], nanoseconds(receipt)
        return replace(first, timestamp=time, receipt_timestamp=time, id=str(index), type=None)

    receipts = [1_700_000_000.0 + step for step in (0, 1, 1, -3600, -3600, -3599, 7200, 0.5, 0.5)]
    sent = [at(index, receipt) for index, receipt in enumerate(receipts)]
    settings = harness.settings(server, tmp_path)
    async with Pipeline(settings) as pipeline:
        await pipeline.send(sent[:4])
        await pipeline.delivered()
    async with Pipeline(settings) as pipeline:
        await pipeline.send(sent[4:], burst=2)
        await pipeline.delivered()
    assert harness.per_key(harness.stored(server)) == harness.per_key(sent)


async def test_an_unexpected_position_stores_nothing(harness, server, tmp_path):
    store = create(harness.settings(server, tmp_path))
    assert await store.open(NAME) is None
    records = list(stream(4))
    first, second, other = (
        Position("owner", "run", 2),
        Position("owner", "run", 4),
        Position("other", "run", 2),
    )
    await store.commit(NAME, Batch("run", 0, records[:2]), None, first)
    for wrong in (None, other, second):
        with pytest.raises(PositionLostError):
            await store.commit(NAME, Batch("run", 2, records[2:]), wrong, second)
    assert await store.open(NAME) == first
    assert harness.per_key(harness.stored(server)) == harness.per_key(records[:2])
    await store.close()


@over_a_network  # a file's lock tells by itself
async def test_a_holder_shows_when_it_was_last_seen_and_releases_the_position(harness, server, tmp_path):
    def at(sequence):
        return Position("owner", "run", sequence)

    async def commits(expected):
        await store.commit(NAME, Batch("run", 0, []), expected, at(0))

    store = create(harness.settings(server, tmp_path))
    await store.open(NAME)
    assert await store.holder(NAME) is None
    await commits(None)
    holder = await store.holder(NAME)
    assert holder.owner == "owner"
    assert holder.who.startswith(f"process {os.getpid()} on ")
    assert 0 <= holder.idle < PATIENCE
    await store.release(NAME, at(1))  # not its position
    assert (await store.holder(NAME)).idle < PATIENCE
    await store.release(NAME, at(0))
    assert (await store.holder(NAME)).idle > 1e9
    await commits(at(0))
    assert (await store.holder(NAME)).idle < PATIENCE
    await store.close()


@over_a_network  # as above
async def test_of_two_simultaneous_commits_one_fails_with_an_error(harness, server, tmp_path):
    records, after = list(stream(100)), Position("owner", "run", 100)
    stores = [create(harness.settings(server, tmp_path)) for _ in range(2)]
    await asyncio.gather(*(store.open(NAME) for store in stores))
    results = await asyncio.gather(
        *(store.commit(NAME, Batch("run", 0, records), None, after) for store in stores),
        return_exceptions=True,
    )
    await asyncio.gather(*(store.close() for store in stores))
    (lost,) = (result for result in results if result)
    assert isinstance(lost, PositionLostError)
    assert harness.per_key(harness.stored(server)) == harness.per_key(records)


async def test_a_second_collector_of_the_same_name_stops_and_names_the_first(
    harness, server, tmp_path, monkeypatch
):
    monkeypatch.setattr(lease, "BEAT", 0.3)
    async with Pipeline(harness.settings(server, tmp_path / "first")) as first:
        await first.send(stream(10))
        await first.delivered()
        async with Pipeline(harness.settings(server, tmp_path / "second")) as second:
            await asyncio.wait([second.task], timeout=PATIENCE)
            with pytest.raises(AnotherWriterError, match=r"process \d+ on .*NAME"):
                second.task.result()
        await first.send(stream(10))
        await first.delivered()
    assert len(harness.stored(server)) == 20


async def test_a_second_collector_takes_over_when_the_first_has_died(harness, server, tmp_path, monkeypatch):
    monkeypatch.setattr("collector.stores.GONE", 1.5)
    sent = list(stream(200))
    first = await Spool.open(tmp_path / "first")
    store = create(harness.settings(server, tmp_path))
    await store.open(NAME)
    await store.commit(NAME, Batch("run", 0, sent[:100]), None, Position(first.owner, "run", 100))
    await first.close()
    await store.close()  # without a word that it goes, as after SIGKILL
    async with Pipeline(harness.settings(server, tmp_path / "second")) as second:
        await second.send(sent[100:])
        await second.delivered()
    assert harness.per_key(harness.stored(server)) == harness.per_key(sent)


@over_a_network  # a file's lock tells by itself
async def test_only_one_of_two_copies_of_a_spool_writes(harness, server, faulty, tmp_path, monkeypatch):
    """The copy is refused while the first is alive. When the first comes back after it, that one is."""
    monkeypatch.setattr(lease, "BEAT", 0.3)
    sent = list(stream(400))
    settings = harness.settings(server, tmp_path / "first")
    async with Pipeline(harness.settings(faulty, tmp_path / "first")) as first:
        await first.send(sent[:100])
        await first.delivered()
        copied = harness.settings(server, tmp_path / "copy")
        shutil.copytree(settings.home, copied.home)
        with pytest.raises(AnotherWriterError, match=r"process \d+ on .*with a copy of our spool"):
            async with Pipeline(copied) as copy:
                await asyncio.wait_for(copy.task, PATIENCE)
        await first.send(sent[100:200])
        await first.delivered()
        await asyncio.to_thread(faulty.cut)
        await first.send(sent[200:300])
        monkeypatch.setattr("collector.stores.GONE", 1.5)
        async with Pipeline(copied) as copy:
            await copy.send(sent[300:])
            await copy.delivered()
            await asyncio.to_thread(faulty.mend)
            with pytest.raises(AnotherWriterError, match="with a copy of our spool"):
                await asyncio.wait_for(first.task, PATIENCE)
    async with Pipeline(settings) as first:
        await first.delivered()
    assert sorted(map(digits, harness.stored(server))) == sorted(map(digits, sent))


def test_an_unreadable_position_or_note_costs_nothing(harness, server, tmp_path, caplog):
    """Nor right after a SIGKILL, when the spool has not noted yet what was acknowledged."""

    async def is_killed(records):
        async with Pipeline(settings, sync=60) as pipeline:
            await pipeline.send(records)
            await pipeline.delivered()
            await pipeline.writer._store.note(NAME, "of ours")
            die()

    async def reads():
        store = create(settings)
        position, notes = await store.open(NAME), await store.notes()
        await store.close()
        return position, notes

    sent = list(stream(2400, symbols=("BTC-USD",)))
    settings = harness.settings(server, tmp_path)
    assert not lives(lambda: asyncio.run(is_killed(sent[:2200])))
    before, _ = asyncio.run(reads())
    damaged = harness.damage(server, 0)
    asyncio.run(deliver(settings, sent[2200:2300]))
    harness.damage(server, 1)
    asyncio.run(deliver(settings, sent[2300:]))
    assert harness.per_key(harness.stored(server)) == harness.per_key(sent)
    assert caplog.text.count("the position is damaged and starts over") == 2 * damaged
    after, _ = asyncio.run(reads())
    assert after.owner == before.owner


@over_a_network  # files are made of many records
async def test_a_single_record_does_not_wait_for_others(harness, server, tmp_path):
    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.until("connected")
        for record in stream(3):
            await pipeline.spool.append([record])
            await pipeline.delivered()


@over_a_network
async def test_a_port_where_something_else_listens_is_an_error_that_says_where(harness, tmp_path, server):
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", free_port())
    server.given, server.port = server.given, listener.sockets[0].getsockname()[1]
    async with Pipeline(harness.settings(server, tmp_path)) as pipeline:
        await pipeline.until("away")
        assert str(server.port) in pipeline.writer.state.error
    listener.close()


async def test_a_collector_can_tell_whether_another_is_alive(harness, server, tmp_path):
    settings = harness.settings(server, tmp_path)
    one, two, after = create(settings), create(settings), Position("spool", "run", 0)
    for name, store in ("one", one), ("two", two):
        assert await store.open(name) is None
        await store.commit(name, Batch("run", 0, ()), None, after)
    found = await two.holder("one")
    assert not found.is_gone
    assert f"process {os.getpid()} on " in found.who
    assert not (await one.holder("two")).is_gone
    assert await two.holder("three") is None
    await one.release("one", after)
    await one.close()
    assert (await two.holder("one")).is_gone
    await two.close()


async def test_a_collector_reads_the_notes_of_its_exchange_and_recognises_damaged_ones(
    harness, server, tmp_path
):
    texts = {
        (NAME, "COINBASE"): codec.encode(codec.blank("COINBASE")),
        ("other", "COINBASE"): '{"exchange":"COINBASE", damaged',
        ("elsewhere", "BINANCE"): codec.encode(codec.blank("BINANCE")),
        ("alike", "BINANCE_US"): codec.encode(codec.blank("BINANCE_US")),
    }
    found = {}
    for (name, exchange), text in texts.items():
        store = create(
            harness.settings(server, tmp_path, EXCHANGE=exchange, SYMBOLS="ALL", CHANNELS="trades")
        )
        await store.open(name)
        await store.note(name, text)
        found[exchange] = await store.notes()
        await store.close()
    assert found == {
        exchange: {name: text for (name, of), text in texts.items() if of == exchange}
        for _, exchange in texts
    }


async def test_notes_are_kept_for_every_collector_to_read(harness, server, tmp_path):
    for name, text in (NAME, "first"), ("another", "of another"), (NAME, "last"):
        store = create(harness.settings(server, tmp_path))
        await store.open(name)
        await store.note(name, text)
        notes = await store.notes()
        await store.close()
    assert notes == {NAME: "last", "another": "of another"}
