import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest
from spooled import spooled
from streams import trades

from collector.batch import Position
from collector.feeds.repeats import Repeats
from collector.gaps import marks, tracker
from collector.gaps.continuity import Continuity
from collector.gaps.marks import Hole, LastRecorded, Progress, last_recorded
from collector.gaps.recorder import Recorder
from collector.gaps.tracker import Gaps
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import Gap, Trade
from collector.spool.spool import NoRoomError, Spool
from collector.stores import notes as codec
from collector.stores.notes import Note
from collector.times import SECOND

TRADES, ETHER = ("trades", "BTC-USD"), ("trades", "ETH-USD")
VARIABLES = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}


async def test_a_question_open_at_the_stop_is_left_to_the_next_process(tmp_path):
    spool = await Spool.open(tmp_path)
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("KRAKEN", Recorder(receiver))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    gaps.take_up({("trades", "BTC-USD"): Hole(1.0, "killed")}, [])
    gaps.end(("trades", "BTC-USD"), 2.0)
    await continuity.stop()
    continuity.meet("test", {})
    assert continuity.asking  # an answer would not be saved any more
    assert continuity.note(spool.end, good_for=1.0) is None
    await spool.close()


async def test_how_long_nothing_was_seen_is_known_once_every_question_is_answered(tmp_path):
    spool = await Spool.open(tmp_path)
    gaps = Gaps("KRAKEN", Recorder(Receiver(spool, Metrics())))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    gaps.take_up({TRADES: Hole(1.0, "stopped"), ETHER: Hole(1.0, "stopped")}, [])
    assert gaps.unseen is None
    gaps.end(TRADES, 2.0)
    assert gaps.unseen is None
    continuity.meet("test", {})
    assert gaps.unseen == 1.0
    gaps.end(ETHER, 2.5)
    assert gaps.unseen is None  # not what the first of them says
    continuity.hear({})
    assert gaps.unseen == 1.5
    await spool.close()


async def test_without_a_gap_nothing_was_missed(tmp_path):
    spool = await Spool.open(tmp_path)
    gaps = Gaps("KRAKEN", Recorder(Receiver(spool, Metrics())))
    gaps.end(TRADES, 2.0)
    Continuity(spool, gaps, lambda _: None, lambda _: True).meet("test", {})
    assert gaps.unseen == 0
    await spool.close()


@pytest.mark.parametrize(
    ("in_store", "hole", "begun"),
    [
        (None, None, {TRADES: 3}),
        (None, Hole(1.2, "killed"), {TRADES: 2}),  # what the process before had in its spool was stored, too
        ({"begun": [(1.0, {"trades": ["BTC-USD"]})]}, Hole(2.0, "killed"), {TRADES: 1}),
        ({"begun": []}, Hole(2.0, "killed"), {}),  # noted by a collector of an earlier version
        (
            {"begun": [(1.0, {"trades": ["ETH-USD"]})], "seen": [(2.0, {"trades": ["ETH-USD"]})]},
            None,
            {TRADES: 3, ETHER: 1},
        ),
    ],
)
async def test_a_note_says_since_when_a_pair_is_recorded(tmp_path, in_store, hole, begun):
    spool = await Spool.open(tmp_path)
    gaps = Gaps("KRAKEN", Recorder(Receiver(spool, Metrics())))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    if hole:
        gaps.take_up({TRADES: hole}, [])
    notes = {}
    if in_store:
        told = {"seen": [(2.0, {"trades": ["BTC-USD"]})]} | in_store
        notes["test"] = codec.encode(Note(exchange="KRAKEN", stopped=True, good_for=1.0, **told))
    continuity.meet("test", notes)
    gaps.end(TRADES, 2.5)
    continuity.hear(notes)
    await continuity._save()
    note = continuity.note(spool.end, good_for=1.0)
    assert codec.pairs(codec.read(codec.encode(note)).begun) == begun
    assert note.until()[TRADES] == 2.5
    await spool.close()


async def test_a_note_waits_for_the_gap_of_what_is_lost_while_the_disk_is_full(tmp_path, monkeypatch):
    """A crash forgets the loss, and the gap that the next process finds begins where the note ends."""

    def full(*_):
        raise NoRoomError("database or disk is full")

    spool = await Spool.open(tmp_path, sync=3600.0)
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("KRAKEN", Recorder(receiver))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    continuity.meet("test", {})
    gaps.end(TRADES, 2.0)
    continuity.hear({})
    with monkeypatch.context() as patch:
        for name in ("write", "save_losses"):
            patch.setattr(spool._file, name, full)
        patch.setattr("collector.spool.spool.UNSAVED_BYTES", 4000)
        while not spool.losses:
            await spool.append(list(trades(3)))
        patch.setattr("collector.spool.spool.UNSAVED_BYTES", 10**6)
        (loss,) = spool.losses
        await continuity._save()
        assert continuity.note(spool.end, good_for=1.0) is None
        batch = await spool.read((await spool.resume(None)).after, 100)
        await spool.acknowledge(Position(spool.owner, batch.incarnation, batch.end))
        assert batch.first == loss.end
        await continuity._save()
        assert continuity.note(batch.end, good_for=1.0) is None
        *_, gap = await spooled(spool)
        assert (gap.reason, gap.count) == ("dropped", loss.count)
        assert continuity.note(spool.end, good_for=1.0) is not None
    await spool.close()


async def test_what_was_delivered_while_the_disk_was_full_is_no_gap(tmp_path, monkeypatch):
    def full(*_):
        raise NoRoomError("database or disk is full")

    spool = await Spool.open(tmp_path, sync=3600.0)
    gaps = Gaps("KRAKEN", Recorder(Receiver(spool, Metrics())))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    continuity.meet("test", {})
    gaps.end(TRADES, 2.0)
    continuity.hear({})
    with monkeypatch.context() as patch:
        patch.setattr(spool._file, "write", full)
        patch.setattr("collector.spool.spool.UNSAVED_BYTES", 1000)
        for _ in range(10):
            await spool.append(list(trades(10)))
            batch = await spool.read(Position(spool.owner, spool.incarnation, spool.acknowledged), 100)
            await spool.acknowledge(Position(spool.owner, batch.incarnation, batch.end))
            await continuity._save()
    await spool.append(list(trades(1)))
    assert [(loss.reason, loss.count) for loss in spool.losses] == [("delivered", 90)]
    await continuity._save()
    assert continuity.note(spool.end, good_for=1.0) is not None
    assert {type(record) for record in await spooled(spool)} == {Trade}
    await spool.close()


async def test_a_note_forgets_since_when_it_recorded_what_was_delisted_long_ago(tmp_path):
    spool = await Spool.open(tmp_path)
    gaps = Gaps("KRAKEN", Recorder(Receiver(spool, Metrics())))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    gone = [(1.0, {"trades": ["SOL-USD"]})]
    own = Note(exchange="KRAKEN", stopped=True, good_for=1.0, seen=[], begun=gone)
    continuity.meet("test", {"test": codec.encode(own)})
    await continuity._save()
    assert continuity.note(spool.end, good_for=1.0).begun == []
    await spool.close()


@pytest.mark.parametrize("wants", [True, False])
async def test_the_last_trade_of_a_pair_recorded_elsewhere_is_ignored(tmp_path, wants):
    """Another shard may have recorded it until it comes back, with what the exchange repeats."""
    spool = await Spool.open(tmp_path)
    await spool.append([], {last_recorded("KRAKEN", TRADES).name: LastRecorded(7, 7).text})
    await spool.close()
    spool = await Spool.open(tmp_path)
    gaps = Gaps("KRAKEN", Recorder(Receiver(spool, Metrics())))
    await Continuity(spool, gaps, lambda _: None, lambda _: wants).begin()
    assert (gaps.recorder.marks.get(last_recorded("KRAKEN", TRADES)) is not None) == wants
    await spool.close()


@pytest.mark.parametrize("full", [False, True])
async def test_the_last_trade_is_unknown_where_the_store_has_some_that_the_disk_did_not_take(
    tmp_path, monkeypatch, full
):
    """What an exchange repeats after the mark may be stored already."""

    def refuse(*_):
        raise NoRoomError("database or disk is full")

    last = last_recorded("KRAKEN", TRADES)
    spool = await Spool.open(tmp_path, sync=3600.0)
    await spool.append(list(trades(3)), {last.name: LastRecorded(3).text})
    if full:
        monkeypatch.setattr(spool._file, "write", refuse)
    await spool.append(list(trades(3)), {last.name: LastRecorded(6).text})
    batch = await spool.read((await spool.resume(None)).after, 100)
    stored = Position(spool.owner, batch.incarnation, batch.end)
    await spool.acknowledge(stored)
    assert len(batch.records) == 6
    await spool.abort()
    spool = await Spool.open(tmp_path)
    gaps = Gaps("KRAKEN", Recorder(Receiver(spool, Metrics())))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    await continuity.begin()
    continuity.meet("test", {}, stored)
    assert gaps.recorder.marks.get(last) == (None if full else LastRecorded(6))
    await spool.close()


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("damage", ["database", "mark"])
async def test_what_a_repair_lost_is_known_to_whoever_comes_after_a_kill(tmp_path, damage, again):
    """The process that repaired it is killed before it could save what that means."""
    spool = await Spool.open(tmp_path)
    marked = {marks.seen("KRAKEN", TRADES).name: "on 0", marks.connection(0).name: Progress(2e9, 0).text}
    await spool.append(list(trades(1000)), marked)
    await spool.close()
    if damage == "database":
        with (tmp_path / "spool.db").open("r+b") as file:
            file.write(bytes(8192))
    else:
        with closing(sqlite3.connect(tmp_path / "spool.db")) as db, db:
            db.execute("UPDATE marks SET value = x'07' WHERE key LIKE 'seen%'")
    if again:
        await (await Spool.open(tmp_path)).abort()
    spool = await Spool.open(tmp_path)
    gaps = Gaps("KRAKEN", Recorder(Receiver(spool, Metrics())))
    await Continuity(spool, gaps, lambda _: None, lambda _: True).begin()
    assert gaps.unmarked is not None
    assert gaps.unmarked.reason == "corrupt"
    await spool.append(list(trades(1)))
    await spool.close()
    spool = await Spool.open(tmp_path)
    assert (spool.mended, spool.marks_whole) == (False, True)
    await spool.close()


async def test_a_note_that_knows_more_than_a_damaged_spool_is_not_set_back(tmp_path):
    """A pair is seen seconds after the start; meanwhile a note was left, which others and we may read."""
    spool = await Spool.open(tmp_path)
    await spool.append([], {marks.seen("KRAKEN", TRADES).name: "on"})
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("KRAKEN", Recorder(receiver))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    await continuity.begin()
    stored = spool.begun + 3600.0
    own = Note(exchange="KRAKEN", stopped=True, good_for=1.0, seen=[(stored, {"trades": ["BTC-USD"]})])
    continuity.meet("test", {"test": codec.encode(own)})
    await continuity._save()
    note = continuity.note(spool.end, good_for=1.0)
    gaps.end(TRADES, stored + 60.0)
    continuity.hear({"test": codec.encode(note)})
    await receiver.append()
    (gap,) = await spooled(spool)
    assert (gap.reason, gap.start / SECOND) == ("corrupt", pytest.approx(stored, abs=1e-3))
    await spool.close()


@pytest.mark.parametrize("seen", [[], [TRADES]])
async def test_a_pair_not_seen_between_the_loss_of_its_mark_and_a_kill_has_a_gap(tmp_path, seen):
    spool = await Spool.open(tmp_path)
    await spool.append(list(trades(3)), {"sewn KRAKEN trades ETH-USD": "on 0"})
    begun = spool.begun
    await spool.abort()
    for keys in (seen, [TRADES, ETHER]):
        spool = await Spool.open(tmp_path)
        receiver = Receiver(spool, Metrics())
        gaps = Gaps("KRAKEN", Recorder(receiver))
        continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
        await continuity.begin()
        if keys:
            gaps.carried(SimpleNamespace(handled=None), [TRADES, ETHER])
            gaps.all_carried()
        for key in keys:
            gaps.end(key, begun + 60.0)
        receiver.put(next(iter(trades(1))))
        await receiver.append()
        if keys != [TRADES, ETHER]:
            await spool.abort()
    continuity.meet("test", {})
    await receiver.append()
    found = [gap for gap in await spooled(spool) if isinstance(gap, Gap) and gap.symbol == "ETH-USD"]
    assert [gap.reason for gap in found] == ["corrupt"]
    await spool.close()


async def test_a_pair_listed_after_marks_were_lost_has_no_gap(tmp_path):
    spool = await Spool.open(tmp_path)
    await spool.append([], {"sewn KRAKEN trades ETH-USD": "on 0"})
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("KRAKEN", Recorder(receiver))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    await continuity.begin()
    continuity.meet("test", {})
    for key in (TRADES, ETHER):
        gaps.carried(SimpleNamespace(handled=None), [key])
        gaps.all_carried()
        gaps.end(key, spool.begun + 60.0)
    continuity.hear({})
    await receiver.append()
    assert [gap.symbol for gap in await spooled(spool)] == ["BTC-USD"]
    await spool.close()


async def test_a_damaged_note_is_reported_and_ignored(tmp_path, caplog):
    spool = await Spool.open(tmp_path)
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("KRAKEN", Recorder(receiver))
    continuity = Continuity(spool, gaps, lambda _: None, lambda _: True)
    gaps.take_up({("trades", "BTC-USD"): Hole(1.0, "killed")}, [])
    gaps.end(("trades", "BTC-USD"), 2.0)
    for _ in range(2):
        continuity.meet("test", {"test": '{"exchange":"KRAK', "other": '{"exchange": 7}'})
    assert not continuity.asking  # what the spool knows has answered
    assert [gap.reason for gap in receiver._records] == ["killed"]
    told = [record.getMessage() for record in caplog.records if "damaged" in record.getMessage()]
    assert len(told) == 2
    assert "collector test" in told[0]
    await spool.close()


async def test_a_gap_that_ended_a_while_ago_does_not_set_back_how_far_its_connection_has_got(tmp_path):
    """Whether something was missing was told by the next record alone; a kill follows at once."""
    spool = await Spool.open(tmp_path)
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("KRAKEN", Recorder(receiver))
    connection = SimpleNamespace(handled=50.0)
    gaps.carried(connection, [TRADES, ETHER])
    for key in (TRADES, ETHER):
        gaps.end(key, 50.0)
    gaps.begin(ETHER, 60.0, "disconnect")
    connection.handled = 100.0
    gaps.save()
    gaps.end(ETHER, 70.0)
    await receiver.append()
    await spool.abort()
    spool = await Spool.open(tmp_path)
    gaps = Gaps("KRAKEN", Recorder(Receiver(spool, Metrics())))
    await Continuity(spool, gaps, lambda _: None, lambda _: True).begin()
    assert {key: hole.start for key, hole in gaps.earlier.items()} == {TRADES: 100.0, ETHER: 100.0}
    await spool.close()


async def test_a_trade_that_a_killed_process_awaited_is_a_gap(tmp_path):
    spool = await Spool.open(tmp_path)
    receiver = Receiver(spool, Metrics())
    it = Repeats("KRAKEN", lambda record: record, ["trades"], receiver.marks)
    for number in (5, 8):
        assert it.is_new(
            "trades", Trade("KRAKEN", "BTC-USD", number, number * SECOND, "buy", "1", "2", str(number))
        )
    await receiver.append()
    await spool.close()  # nothing reports what is missing: a process that is killed does not
    spool = await Spool.open(tmp_path)
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("KRAKEN", Recorder(receiver))
    await Continuity(spool, gaps, lambda _: None, lambda _: True).begin()
    (gap,) = await spooled(spool)
    assert (gap.missed, gap.symbol, gap.start, gap.end) == (*TRADES, 5 * SECOND, 8 * SECOND)
    assert (gap.reason, gap.count) == ("sequence", 2)
    assert not spool.marks.get("missing KRAKEN trades BTC-USD")
    await spool.close()


async def test_a_garbled_mark_of_an_awaited_trade_puts_its_pair_in_doubt(tmp_path):
    spool = await Spool.open(tmp_path)
    await spool.append([], {"missing KRAKEN trades BTC-USD": "[[1.0,"})
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("KRAKEN", Recorder(receiver))
    await Continuity(spool, gaps, lambda _: None, lambda _: True).begin()
    assert gaps.earlier["trades", "BTC-USD"].reason == "corrupt"
    await spool.close()


EXPIRED = [("trades", f"BTC-USD-{day}-C") for day in range(10, 20)]


async def symbols_known_after(folder, happens):
    """The symbols of marks that are left when ``happens`` has been done to the gaps of a process."""
    spool = await Spool.open(folder)
    receiver = Receiver(spool, Metrics())
    gaps = Gaps("KRAKEN", Recorder(receiver))
    await Continuity(spool, gaps, lambda _: None, lambda _: True).begin()
    happens(gaps, receiver)
    await receiver.append()
    await spool.close()
    spool = await Spool.open(folder)
    await spool.close()
    return [
        {mark.split(" ")[-1] for mark in spool.marks if mark.startswith(kind)}
        for kind in ("seen", "trade", "question")
    ]


async def test_a_bounded_number_of_delisted_symbols_is_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(tracker, "MOST_DELISTED", 3)

    def expire(gaps, receiver):
        for at, key in enumerate([*EXPIRED, ("trades", "BTC-USD")]):
            gaps.end(key, at + 1.0)
            receiver.marks.put(last_recorded("KRAKEN", key), LastRecorded(7))
        for at, key in enumerate(EXPIRED[:-1]):
            gaps.begin(key, at + 2.0, "delisted")

    last = {symbol for _, symbol in EXPIRED[-4:]}  # the last one is listed yet
    assert await symbols_known_after(tmp_path, expire) == [{"BTC-USD"} | last] * 3
    last = {symbol for _, symbol in EXPIRED[-3:]}
    known = await symbols_known_after(tmp_path, lambda gaps, _: gaps.delisted(EXPIRED))
    assert known == [{"BTC-USD"} | last] * 3
