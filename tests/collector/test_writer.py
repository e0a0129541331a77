"""What the writer does by itself; what it does with real stores is in stores/test_conformance.py."""

import asyncio
import json
import logging
import resource
import tracemalloc

import pytest
from msgspec.structs import replace
from streams import trades
from waiting import PATIENCE, eventually

from collector import crash_watch, dead_letters, lease, store_state
from collector import writer as writing
from collector.batch import Batch, Position, Refusal
from collector.dead_letters import DeadLetters, letters_in
from collector.gaps import marks
from collector.gaps.continuity import Continuity
from collector.gaps.recorder import Recorder
from collector.gaps.tracker import Gaps
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import Gap, L2Book, Ticker, Trade, channel_of
from collector.spool.database import NoRoomError
from collector.spool.spool import Spool
from collector.stores import PositionLostError, StoreRefusedError, StoreUnavailableError
from collector.writer import Writer


class ListStore:
    """A store in memory: what it has, and what it should do at its next calls."""

    batch_records = 10
    batch_seconds = 0.0
    fixed_batches = False

    def __init__(self):
        self.position, self.stored, self.batches, self.opened, self.closed = None, [], [], 0, False
        self.trouble, self.tried = [], []
        self.refuses = lambda record: getattr(record, "id", None) == "refused"

    async def open(self, name):
        self.opened += 1
        return self.position

    async def commit(self, name, batch, expected, after):
        if self.trouble:
            await self.trouble.pop(0)(self, batch, after)
        if expected != self.position:
            raise PositionLostError("not as it was")
        rows = zip(*batch.kept, strict=True)
        self.tried.append(len(batch.records))
        if refusals := [Refusal(sequence, each, "odd") for sequence, each in rows if self.refuses(each)]:
            return refusals
        self._take(batch, after)
        return []

    def place(self, record):
        return f"the table {channel_of(record)}"

    def _take(self, batch, after):
        self.stored += batch.kept[1]
        self.batches.append((batch.first, batch.end))
        self.position = after

    async def notes(self):
        return {}

    async def note(self, name, note):
        self.noted = note

    async def close(self):
        self.closed = True


async def unavailable(*_):
    raise StoreUnavailableError("away for now")


async def refuses(*_):
    raise StoreRefusedError("go away")


def raising(error):
    raise error


async def commits_and_says_nothing(store, batch, after):
    store._take(batch, after)
    raise StoreUnavailableError("reset")


async def says_nothing(*_):
    await asyncio.sleep(60)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lease, "PATIENCE", 0.1)
    monkeypatch.setattr(writing, "MOST_PAUSE", 0.02)
    monkeypatch.setattr(writing, "REFUSED_PAUSE", 0.02)


@pytest.fixture
def store():
    return ListStore()


@pytest.fixture
async def spool(tmp_path):
    spool = await Spool.open(tmp_path)
    yield spool
    await spool.close()


@pytest.fixture
def continuity(spool):
    gaps = Gaps("COINBASE", Recorder(Receiver(spool, Metrics())))
    return Continuity(spool, gaps, lambda _: None, lambda _: True)


@pytest.fixture
async def writer(store, spool, continuity):
    writer = Writer("name", store, spool, Metrics(), continuity)
    writer.task = asyncio.create_task(writer.run())
    yield writer
    writer.task.cancel()
    await asyncio.wait([writer.task])
    assert store.closed


async def test_no_failure_of_the_store_loses_or_duplicates_records(store, spool, writer):
    store.trouble = [unavailable, commits_and_says_nothing, refuses, says_nothing, commits_and_says_nothing]
    for index in range(10):
        await spool.append(list(trades(20, start=20 * index)))
    await writer.drain(PATIENCE)
    assert store.stored == list(trades(200))
    assert writer.state.state == "connected"


async def test_a_batch_for_which_the_store_is_too_slow_is_tried_in_parts(store, spool, writer):
    """And whatever else it may fail of that is about its size."""
    slow = True

    async def takes_its_time(_store, batch, _after):
        store.trouble = [takes_its_time]
        if slow and len(batch.records) > 3:
            await asyncio.sleep(60)

    store.batch_records, store.trouble = 40, [takes_its_time]
    store.refuses = lambda record: record.id == "0"  # alone, it would not be known who is to blame
    await spool.append(list(trades(200)))
    await eventually(lambda: len(store.stored) >= 20)
    slow = False
    sent = 200
    while max(end - first for first, end in store.batches) < 40:
        await spool.append(list(trades(100, start=sent)))
        sent += 100
        await writer.drain(PATIENCE)
    assert store.stored == list(trades(sent))[1:]


async def test_the_state_shows_what_is_wrong_and_since_when(store, spool, writer, caplog):
    caplog.set_level(logging.INFO)
    store.trouble = [unavailable] * 5 + [refuses] * 3
    await spool.append(list(trades(1)))
    seen = []
    while not store.stored:
        if writer.state.error and writer.state.error not in seen:
            seen.append(writer.state.error)
        await asyncio.sleep(0.001)
    assert seen == ["away for now", "go away"]
    lines = [record.message for record in caplog.records if record.name == "collector.store_state"]
    assert lines[0] == "the store is connected"
    assert "the store is unreachable: away for now" in lines
    assert "the store refuses: go away" in lines


async def test_a_new_reason_for_an_unreachable_store_is_logged_at_intervals(
    spool, store, caplog, monkeypatch
):
    monkeypatch.setattr(store_state, "SAY_EVERY", 3600.0)
    writer = Writer("name", store, spool, Metrics())
    tries = [StoreUnavailableError(reason) for reason in ["no route"] + ["no answer"] * 1000]
    store.open = lambda _: asyncio.sleep(0, raising(tries.pop(0)))
    run = asyncio.create_task(writer.run())
    await eventually(lambda: len(tries) < 1000 - 2)  # the other reason is there
    assert [record.message for record in caplog.records] == ["the store is unreachable: no route"]
    monkeypatch.setattr(store_state, "SAY_EVERY", 0.0)
    await eventually(lambda: len(caplog.records) == 2)
    assert caplog.messages[1] == "the store is still away: no answer"
    run.cancel()
    await asyncio.wait([run])


async def test_a_store_that_wants_large_batches_gets_them_except_when_stopping(spool, store):
    store.batch_records, store.batch_seconds = 30, 60.0
    writer = Writer("name", store, spool, Metrics())
    run = asyncio.create_task(writer.run())
    for index in range(7):
        await spool.append(list(trades(5, start=5 * index)))
    await eventually(lambda: store.batches)
    await asyncio.sleep(0.05)
    assert [end - first for first, end in store.batches] == [30]
    await writer.drain(PATIENCE)
    assert [end - first for first, end in store.batches] == [30, 5]
    run.cancel()
    await asyncio.wait([run])


async def test_a_stop_may_coincide_with_the_end_of_the_batch_time(spool, store):
    store.batch_records, store.batch_seconds = 30, 0.05
    writer = Writer("name", store, spool, Metrics())
    run = asyncio.create_task(writer.run())
    await spool.append(list(trades(5)))
    while not (writer._gathering._waiting and writer._gathering._waiting.expired()):  # noqa: ASYNC110 - it is so for one turn
        await asyncio.sleep(0)
    await writer.drain(PATIENCE)
    assert store.stored == list(trades(5))
    run.cancel()
    await asyncio.wait([run])


async def test_fixed_batches_are_tried_again_with_the_same_bounds(spool, store, writer):
    store.fixed_batches = True
    tried, first_try = [], asyncio.Event()

    async def fails(_, batch, __):
        tried.append((batch.first, batch.end))
        first_try.set()
        raise StoreUnavailableError("no")

    store.trouble = [fails, fails]
    await spool.append(list(trades(3)))
    await first_try.wait()
    await spool.append(list(trades(3, start=3)))
    await writer.drain(PATIENCE)
    assert tried[0] == tried[1] == store.batches[0]
    assert store.stored == list(trades(6))


async def test_refused_records_are_kept_and_not_counted(spool, store, writer):
    first, bad, last = trades(3)
    bad.id = "refused"
    await spool.append([first, bad, last])
    await writer.drain(PATIENCE)
    (line,) = (spool.folder / "dead-letters.jsonl").read_text().splitlines()
    letter = json.loads(line)
    assert (letter["reason"], letter["channel"], letter["record"]["amount"]) == ("odd", "trades", "1")
    assert writer._metrics.stored == {"trades": 2}


async def test_a_table_that_refuses_everything_is_waited_for_and_earlier_records_are_stored(
    store, spool, writer, caplog
):
    ticks = [Ticker("X", "A-B", 1, index, "1", "2") for index in range(5)]
    store.refuses = lambda record: isinstance(record, Trade)
    await spool.append([*ticks, *trades(40)])
    await eventually(lambda: len(store.tried) > 6)
    assert writer.state.state == "refused"
    assert "the table trades accepts none of 40 records: odd" in writer.state.error
    assert store.stored == ticks
    assert not (spool.folder / "dead-letters.jsonl").exists()
    assert caplog.text.count("the store refuses") == 1
    assert "is connected again" not in caplog.text
    store.refuses = lambda record: False
    await writer.drain(PATIENCE)
    assert store.stored == [*ticks, *trades(40)]
    assert writer.state.state == "connected"


async def test_a_refused_lone_record_waits_until_its_table_accepts_another(store, spool, writer):
    """Only that shows that it is the record, and not the table; it may come many batches later."""
    bad = next(trades(1))
    bad.id = "refused"
    ticks = [Ticker("X", "A-B", 1, index, "1", "2") for index in range(30)]
    await spool.append([bad, *ticks])
    await eventually(lambda: writer.state.state == "refused")
    assert "wait until another record for it" in writer.state.error
    assert not store.stored
    await spool.append(list(trades(1, start=1)))
    await writer.drain(PATIENCE)
    assert store.stored == [*ticks, *trades(1, start=1)]
    (line,) = (spool.folder / "dead-letters.jsonl").read_text().splitlines()
    assert json.loads(line)["record"]["id"] == "refused"


async def test_a_refusal_that_lasts_is_logged_again_and_again(store, spool, writer, caplog, monkeypatch):
    monkeypatch.setattr(store_state, "SAY_EVERY", 0.1)
    store.refuses = lambda record: True
    await spool.append(list(trades(3)))
    await eventually(lambda: caplog.text.count("the store still refuses: the table trades accepts none") >= 2)
    assert caplog.text.count("the store still refuses") < len(store.tried) / 2


async def test_dead_letters_dropped_to_make_room_are_a_gap_with_their_count(
    store, spool, writer, continuity, monkeypatch, caplog
):
    """Whatever kills the collector in that moment: the gap is there, and once."""
    monkeypatch.setattr(dead_letters, "LETTERS_BYTES", 2000)
    rotate = DeadLetters.rotate

    def fails(letters):
        monkeypatch.setattr(DeadLetters, "rotate", rotate)
        raise OSError("in between")

    sent = list(trades(200))
    for trade in sent[::2]:
        trade.id = "refused"
    for first in range(0, 200, 20):
        if first == 100:
            monkeypatch.setattr(DeadLetters, "rotate", fails)
        await spool.append(sent[first : first + 20])
        await writer.drain(PATIENCE)
    gaps = [each for each in store.stored if isinstance(each, Gap)]
    files = sorted(spool.folder.glob("dead-letters*"))
    kept = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert [file.name for file in files] == ["dead-letters.1.jsonl", "dead-letters.jsonl"]
    assert all(file.stat().st_size < 6000 for file in files)
    assert sum(gap.count for gap in gaps) + len(kept) == 100
    assert {(gap.reason, gap.missed, gap.symbol) for gap in gaps} == {("refused", "trades", "BTC-USD")}
    lost = [each.receipt_timestamp for each in sent[::2]][: 100 - len(kept)]
    assert (gaps[0].start, gaps[-1].end) == (lost[0], lost[-1])
    assert len(gaps) > 2
    recorder = continuity._gaps.recorder
    assert recorder.today == len(gaps)
    recorder.tell()
    told = [line for line in caplog.messages if line.startswith("gap: COINBASE trades BTC-USD: not seen for")]
    assert len(told) == len(gaps)


async def test_dead_letters_stay_until_their_gap_is_on_the_disk(store, spool, writer, monkeypatch):
    monkeypatch.setattr(dead_letters, "LETTERS_BYTES", 2000)

    def full(*_):
        raise NoRoomError("database or disk is full")

    def kept():
        files = sorted(spool.folder.glob("dead-letters*"))
        return [json.loads(line)["sequence"] for file in files for line in file.read_text().splitlines()]

    sent = list(trades(200))
    for trade in sent[::2]:
        trade.id = "refused"
    with monkeypatch.context() as patch:
        patch.setattr(spool._file, "tend", full)
        first = spool.end
        await spool.append(sent)
        await eventually(lambda: "the gap that dead letters leave" in (writer.state.error or ""))
        assert kept()[0] == first
    await writer.drain(PATIENCE)
    gaps = [each for each in store.stored if isinstance(each, Gap)]
    assert sum(gap.count for gap in gaps) + len(kept()) == 100
    assert kept()[0] > first


def test_the_letters_that_go_are_never_all_in_memory(tmp_path):
    """The collector that they belong to may have no more memory than it needs every day."""
    letters = DeadLetters(tmp_path)
    batch = Batch("run", 0, list(trades(10_000)))
    letters.add(batch, [Refusal(index, trade, "odd") for index, trade in enumerate(batch.records)])
    size = letters_in(tmp_path)
    assert size == letters.path.stat().st_size
    letters.rotate()
    assert letters_in(tmp_path) == size
    tracemalloc.start()
    leaving = letters.leaving()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [gap.count for gap in leaving.gaps] == [10_000]
    assert most < 500_000


def test_a_dead_letter_is_written_once_even_if_the_process_is_killed_meanwhile(tmp_path):
    path = tmp_path / "dead-letters.jsonl"
    batch = Batch("run", 10, list(trades(4)))
    refusals = [Refusal(10 + index, trade, "odd") for index, trade in enumerate(batch.records)]
    DeadLetters(tmp_path).add(batch, refusals[:3])
    text = path.read_bytes()
    for cut in (0, 1, 100, len(text) - 1, len(text)):
        path.write_bytes(text[:cut])
        letters = DeadLetters(tmp_path)
        letters.add(batch, refusals[:2])
        letters.add(batch, refusals)
        kept = [json.loads(line)["sequence"] for line in path.read_text().splitlines()]
        assert sorted(kept) == [10, 11, 12, 13], cut
    letters.add(Batch("another", 10, batch.records), refusals[:1])
    assert len(path.read_text().splitlines()) == 5


def test_a_store_that_was_set_back_gets_no_dead_letter_twice(tmp_path):
    """Not even after a restart, and if the position is in an earlier run of the collector."""
    (trade,) = trades(1)

    def put_aside(letters, incarnation, first):
        letters.add(Batch(incarnation, first, [trade]), [Refusal(first, trade, "odd")])

    letters = DeadLetters(tmp_path)
    for again in (letters, letters, DeadLetters(tmp_path)):
        put_aside(again, "earlier", 10)
        put_aside(again, "earlier", 20)
        put_aside(again, "present", 30)
    kept = [json.loads(line)["sequence"] for line in letters.path.read_text().splitlines()]
    assert kept == [10, 20, 30]


def test_a_disk_that_fills_up_within_a_dead_letter_costs_none(tmp_path):
    """The room ends within a line; when there is some again, each letter is there, whole and once."""
    letters = DeadLetters(tmp_path)
    batch = Batch("run", 0, list(trades(400)))
    refusals = [Refusal(index, trade, "odd") for index, trade in enumerate(batch.records)]
    letters.add(batch, refusals[:10])
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            letters.add(batch, refusals)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    letters.add(batch, refusals)
    kept = [json.loads(line)["sequence"] for line in letters.path.read_text().splitlines()]
    assert kept == list(range(400))


async def test_a_batch_waits_until_its_bounds_can_be_saved(spool, store, writer):
    """Nothing is tried whose bounds a crash would take away; and a full disk ends nobody."""
    store.fixed_batches = True
    file = spool._file
    (pages,) = file.db.execute("PRAGMA page_count").fetchone()
    await spool._on_disk(file.db.execute, f"PRAGMA max_page_count = {pages}")
    sent = list(trades(2000))
    for index in range(0, 2000, 100):
        await spool.append(sent[index : index + 100])
    while writer.state.state != "away":  # noqa: ASYNC110 - the state is for people, it has no event
        await asyncio.sleep(0.005)
    assert "no space in the spool for the bounds of a batch" in writer.state.error
    await spool._on_disk(file.db.execute, "PRAGMA max_page_count = 100000")
    await writer.drain(20)
    assert store.stored == sent


async def test_refused_records_wait_until_their_dead_letters_can_be_saved(spool, store, writer):
    """The position does not move over what is nowhere."""
    first, bad, last = trades(3)
    bad.id = "refused"
    (spool.folder / "dead-letters.jsonl").mkdir()
    await spool.append([first, bad, last])
    await eventually(lambda: writer.state.state == "away")
    assert "no space for the records it refuses" in writer.state.error
    assert not store.stored
    (spool.folder / "dead-letters.jsonl").rmdir()
    await writer.drain(PATIENCE)
    assert store.stored == [first, last]


async def test_records_undelivered_at_the_stop_stay_in_the_spool(spool, store, writer):
    store.trouble = [unavailable] * 10_000
    await spool.append(list(trades(5)))
    await writer.drain(0.1)
    assert spool.undelivered[0] == 5


async def test_a_store_that_forgot_gets_the_tail_and_a_gap_for_the_rest(spool, store, writer, caplog):
    for index in range(3):
        await spool.append(list(trades(10, start=10 * index)))
        await writer.drain(PATIENCE)
    first, _ = store.batches[1]
    store.position = Position(spool.owner, spool.incarnation, first)
    del store.stored[10:]
    await spool.append(list(trades(1, start=30)))
    await writer.drain(PATIENCE)
    assert store.stored == list(trades(31))
    assert "forgotten" not in caplog.text


@pytest.mark.parametrize("field", ["amount", "bid"])
async def test_a_number_without_bounds_that_an_earlier_version_took_is_put_aside(tmp_path, store, field):
    huge = "1E+999999999"
    sent = list(trades(3))
    bad = replace(sent[1], amount=huge)
    if field == "bid":
        bad = L2Book("X", "A-B", 1, 2, True, [("1", huge)], [])
    spool = await Spool.open(tmp_path)
    await spool.append([sent[0], bad, sent[2]])
    await spool.close()
    spool = await Spool.open(tmp_path)
    writer = Writer("name", store, spool, Metrics())
    running = asyncio.create_task(writer.run())
    await writer.drain(PATIENCE)
    running.cancel()
    await asyncio.wait([running])
    await spool.close()
    assert store.stored == [sent[0], sent[2]]
    (line,) = (tmp_path / "dead-letters.jsonl").read_text().splitlines()
    assert "1E+999999999" in line
    assert "is not a number of at most 40 digits" in json.loads(line)["reason"]


async def run_once(folder, store, records=()):
    """One process, until its writer fails or has stored everything; how many records are left."""
    spool = await Spool.open(folder)
    await spool.append(records)
    writer = Writer("name", store, spool, Metrics())
    running = asyncio.create_task(writer.run())
    drained = asyncio.create_task(writer.drain(PATIENCE))
    await asyncio.wait([running, drained], return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    drained.cancel()
    await asyncio.wait([running, drained])
    await spool.close()
    return spool.undelivered[0]


async def test_a_record_that_makes_the_writer_fail_is_put_aside_after_some_starts(tmp_path, store):
    """A clean stop follows such an error, and still it is known which batch it was."""

    def memory_error(record):
        if getattr(record, "id", None) == "poison":
            raise MemoryError
        return False

    store.refuses = memory_error
    sent = list(trades(10))
    sent[6].id = "poison"
    left = await run_once(tmp_path, store, sent)
    for _ in range(8):
        left = left and await run_once(tmp_path, store)
    assert store.stored == [each for each in sent if each.id != "poison"]
    (line,) = (tmp_path / "dead-letters.jsonl").read_text().splitlines()
    assert json.loads(line)["record"]["id"] == "poison"


async def test_what_follows_a_record_that_makes_the_writer_fail_is_not_tried_alone(tmp_path, store):
    """Alone, a refused record does not show whether it or its table is what is wrong: it would wait."""

    def memory_error(record):
        if record.id == "poison":
            raise MemoryError
        return record.id == "refused"

    store.refuses = memory_error
    sent = list(trades(10))
    sent[3].id, sent[6].id = "poison", "refused"
    left = await run_once(tmp_path, store, sent)
    async with asyncio.timeout(PATIENCE / 4):
        while left:
            left = await run_once(tmp_path, store)
    assert store.stored == [each for each in sent if each.id not in ("poison", "refused")]


@pytest.mark.parametrize("trouble", [unavailable, refuses, says_nothing])
async def test_a_collector_killed_while_its_store_is_away_suspects_no_batch(
    tmp_path, store, trouble, caplog, monkeypatch
):
    monkeypatch.setattr(crash_watch, "ENCODED", 0.0)
    for start in range(6):
        spool = await Spool.open(tmp_path)
        if not start:
            await spool.append(list(trades(3)))
        store.trouble = [trouble] * 1000
        writer = Writer("name", store, spool, Metrics())
        running = asyncio.create_task(writer.run())
        await eventually(lambda: len(store.trouble) < 1000)
        await eventually(lambda spool=spool: not spool.marks.get(marks.WRITING.name))
        await spool.append((), {"mark": str(start)})  # as it does every second
        running.cancel()
        await asyncio.wait([running])
        spool._tending.cancel()
        await spool.abort()
    assert "have crashed the collector" not in caplog.text
    store.trouble = []
    spool = await Spool.open(tmp_path)
    writer = Writer("name", store, spool, Metrics())
    running = asyncio.create_task(writer.run())
    await writer.drain(PATIENCE)
    running.cancel()
    await asyncio.wait([running])
    await spool.close()
    assert store.stored == list(trades(3))


async def test_a_broken_spool_ends_the_writer(spool, store, writer):
    await spool._on_disk(spool._file.db.execute, "DROP TABLE blobs")
    with pytest.raises(Exception, match="no such table"):
        await spool.append(list(trades(1)))
    with pytest.raises(Exception, match="no such table"):
        await asyncio.wait_for(writer.task, PATIENCE)
