"""Which of several collectors stores what, told by their notes, on a clock that the test moves."""

import itertools
from types import SimpleNamespace

import hypothesis
import pytest
from hypothesis import strategies as st
from reported import Reported
from streams import timed

from collector.batch import Batch
from collector.gaps import ceded as ceded_module
from collector.gaps import liveness, marks, overlap
from collector.gaps.ceded import Ceded
from collector.gaps.marks import Marks
from collector.gaps.overlap import Overlap
from collector.gaps.tracker import Gaps
from collector.records import Gap, Trade
from collector.settings import Settings, SettingsError
from collector.stores import Holder, notes
from collector.stores.notes import Note

KEYS = [("trades", "BTC-USD"), ("candles", "BTC-USD"), ("trades", "ETH-USD")]
TIMES = st.floats(min_value=0, max_value=4e9)


class Shelf:
    """A store's notes and positions, and a clock that the test moves."""

    def __init__(self):
        self.now = 1000.0
        self.notes = {}
        self.beats = {}

    async def holder(self, name):
        return (
            Holder("owner", f"process of {name}", self.now - self.beats[name]) if name in self.beats else None
        )


class Machine:
    """One collector, as far as it takes part."""

    def __init__(self, shelf, name, keys, interval="1m"):
        self.shelf, self.name = shelf, name
        settings = Settings.read(
            {
                "EXCHANGE": "KRAKEN",
                "SYMBOLS": "BTC-USD,ETH-USD",
                "CHANNELS": "trades,candles",
                "CANDLE_INTERVAL": interval,
                "BACKEND": "REDIS",
                "NAME": name,
            }
        )
        self.subscribed = SimpleNamespace(confirmed=set(keys), pending={})
        self.settings, self.marks, self.heard = settings, Marks({}), {}
        self.start()

    def start(self):
        """A process, after one that was killed maybe."""
        ceded = Ceded("KRAKEN", self.marks)
        self.recorder = Reported()
        self.gaps = Gaps("KRAKEN", self.recorder)
        self.overlap = Overlap(self.settings, self.subscribed, self.gaps, lambda _: None, ceded)

    def beat(self):
        self.shelf.beats[self.name] = self.shelf.now

    async def look(self, found=None):
        """One round, on the notes that are there or that it ``found`` before; and a note of it."""
        await self.read(dict(self.shelf.notes) if found is None else found)
        self.write()

    async def read(self, found):
        """The first half of a round."""
        self.beat()
        await self.overlap.look(found, self.shelf.holder)

    def write(self):
        """The second half."""
        said = {"claims": self.overlap.claims, "choosing": self.overlap.choosing}
        self.shelf.notes[self.name] = Note("KRAKEN", stopped=False, good_for=3.0, seen=[], **said)

    @property
    def stores(self):
        """Nothing before the first look."""
        return set(self.overlap._known) - self.overlap.taken.keys() - self.overlap.undecided


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """One clock for all, which ``turn`` moves."""
    clock = SimpleNamespace(now=1000.0)
    clock.time = clock.monotonic = lambda: clock.now
    monkeypatch.setattr(overlap, "time", clock)
    monkeypatch.setattr(liveness, "time", clock)
    monkeypatch.setattr(ceded_module, "time", clock)
    return clock


def turn(clock, shelf, seconds=1.0):
    clock.now += seconds
    shelf.now += seconds


@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    max_examples=3 * hypothesis.settings.default.max_examples // 2,
)
@hypothesis.given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(KEYS), min_size=1), st.integers(0, 5)), min_size=2, max_size=4
    ),
    st.data(),
)
async def test_exactly_one_collector_stores_each_pair_whenever_they_start(clock, some, data):
    shelf = Shelf()
    machines = [(Machine(shelf, f"c{index}", keys), start) for index, (keys, start) in enumerate(some)]
    for second in range(14):
        running = [machine for machine, start in machines if start <= second]
        found = dict(shelf.notes) if data.draw(st.booleans()) else None
        for machine in data.draw(st.permutations(running)):
            await machine.look(found)
        for one, two in itertools.combinations(running, 2):
            assert not one.stores & two.stores
        turn(clock, shelf)
    wanted = set().union(*(machine.subscribed.confirmed for machine, _ in machines))
    assert set().union(*(machine.stores for machine, _ in machines)) == wanted


@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    max_examples=3 * hypothesis.settings.default.max_examples,
)
@hypothesis.given(st.data())
async def test_exactly_one_collector_stores_each_pair_however_slow_the_store(clock, data):
    """What is read, and what is written, may be as old as it likes; signs of life come in time."""
    shelf = Shelf()
    machines = [Machine(shelf, name, data.draw(st.sets(st.sampled_from(KEYS), min_size=1))) for name in "abc"]
    reading = {machine.name: False for machine in machines}
    for machine in data.draw(st.lists(st.sampled_from(machines), min_size=20, max_size=80)):
        if data.draw(st.integers(0, 9)) == 0:
            machine.start()  # its process was killed
            reading[machine.name] = False
        elif reading[machine.name]:
            machine.write()
            reading[machine.name] = False
        else:
            try:
                await machine.read(dict(shelf.notes))
                reading[machine.name] = True
            except SettingsError:  # nothing was left for it for long: it ends, and is started again
                machine.start()
        for one, two in itertools.combinations(machines, 2):
            assert not one.stores & two.stores
        turn(clock, shelf, data.draw(st.sampled_from([0.0, 0.3, 1.0])))
        for each in machines:
            each.beat()


async def test_a_ceded_pair_is_taken_over_when_the_other_shows_no_sign_of_life(clock):
    shelf = Shelf()
    one, two = Machine(shelf, "one", KEYS), Machine(shelf, "two", KEYS)
    for _ in range(3):
        await one.look()
        turn(clock, shelf)
    for _ in range(3):
        one.beat()
        await two.look()
        turn(clock, shelf)
    assert two.overlap.taken.keys() == set(KEYS)
    assert one.stores == set(KEYS)
    turn(clock, shelf, 13.0)
    for _ in range(2):
        await two.look()
        turn(clock, shelf)
    assert not two.stores
    for _ in range(2):
        await two.look()
        turn(clock, shelf)
    assert two.stores == set(KEYS)
    one.overlap.reconnect()  # it was cut off, and comes back
    for _ in range(2):
        two.beat()
        await one.look()
        turn(clock, shelf)
    assert not one.stores
    batch = Batch("run", 0, [_trade(990.0), _trade(clock.now), _gap(clock.now)])
    assert one.overlap.without(batch).kept == ([0], [batch.records[0]])
    assert two.overlap.without(Batch("run", 0, [_trade(clock.now)])).kept[0] == range(1)


@pytest.mark.parametrize("earlier", [60.0, 0.7])
async def test_records_received_by_two_before_one_claimed_them_are_stored_once(clock, earlier):
    """The later of the two is the first to reach the store."""
    shelf = Shelf()
    one, two = Machine(shelf, "one", KEYS[:1]), Machine(shelf, "two", KEYS[:1])
    two.gaps.end(KEYS[0], clock.now - earlier)
    one.gaps.end(KEYS[0], clock.now)
    for each in (one, one, one, two, two, two):
        turn(clock, shelf)
        one.beat()
        await each.look()
    assert (one.stores, two.stores) == ({KEYS[0]}, set())
    alone, both = _trade(1000.0 - 59.0), [_trade(1000.0 - 0.2), _trade(1000.0 + 0.2)]
    assert two.overlap.without(Batch("run", 0, [alone, *both])).kept[1] == [alone]
    (gap,) = two.recorder
    assert (gap.missed, gap.reason, gap.start, gap.end) == (
        "trades", "overlap", 1000.0 - min(earlier, overlap.SKEW), 1000.0,
    )  # fmt: skip
    assert two.overlap.without(Batch("run", 0, [timed(gap)])).kept[1] == [timed(gap)]
    assert one.overlap.without(Batch("run", 0, both)).kept[1] == both


@pytest.mark.parametrize("restart", ["while it is left out", "after it was taken over"])
async def test_ceded_records_in_the_spool_are_not_stored_after_a_restart(clock, restart):
    shelf = Shelf()
    one, two = Machine(shelf, "one", KEYS), Machine(shelf, "two", KEYS)
    for _ in range(3):
        await one.look()
        turn(clock, shelf)
    for _ in range(4):
        one.beat()
        await two.look()
        turn(clock, shelf)
    waiting = _trade(clock.now - 0.5)
    if restart == "while it is left out":
        two.start()
    turn(clock, shelf, 20.0)
    for _ in range(5):
        await two.look()
        turn(clock, shelf)
    if restart == "after it was taken over":
        two.start()
        for _ in range(3):
            await two.look()
            turn(clock, shelf)
    assert two.stores == set(KEYS)
    batch = Batch("run", 0, [waiting, _trade(clock.now)])
    assert two.overlap.without(batch).kept == ([1], [batch.records[1]])


@pytest.mark.parametrize("ahead", [0.0, 3600.0])
async def test_the_last_record_of_the_other_is_not_stored_again_when_it_arrives_late(clock, ahead):
    """Unless its clock is wrong, which tells nothing."""
    shelf = Shelf()
    one, two = Machine(shelf, "one", KEYS), Machine(shelf, "two", KEYS)
    for _ in range(3):
        await one.look()
        turn(clock, shelf)
    for _ in range(3):
        one.beat()
        await two.look()
        turn(clock, shelf)
    assert two.overlap.taken.keys() == set(KEYS)
    left = notes.moments(dict.fromkeys(KEYS, clock.now + ahead))
    shelf.notes["one"] = Note("KRAKEN", stopped=True, good_for=3.0, seen=left)
    del shelf.beats["one"]
    ended = clock.now
    while two.overlap.taken:
        turn(clock, shelf, 0.5)
        await two.look()
    waited = 0.0 if ahead else overlap.SKEW
    assert ended + waited <= clock.now < ended + waited + 2


def _handed_over(ceded, count, start=10.0):
    """Another collector stores a pair for a second, again and again; return what was received then."""
    for number in range(count):
        ceded.begin(KEYS[0], start + 10 * number)
        ceded.end(KEYS[0], start + 10 * number + 1)
    return [_trade(start + 10 * number + 0.5) for number in range(count)]


def test_however_often_a_pair_is_handed_over_nothing_that_waits_in_the_spool_is_stored_twice():
    machine = Machine(Shelf(), "two", KEYS)
    overlap = machine.overlap
    theirs = _handed_over(overlap._ceded, 40)
    ours = [_trade(trade.receipt_timestamp / 10**9 + 5) for trade in theirs]
    machine.start()  # what it knows outlives it
    for number in range(40):
        batch = Batch("run", 2 * number, [theirs[number], ours[number]])
        assert machine.overlap.without(batch).kept[1] == [ours[number]]
        _handed_over(machine.overlap._ceded, 1, 2000.0 + number)
    (mark,) = (mark for _, mark in machine.marks.of_pairs("KRAKEN", marks.Ceded))
    assert len(mark.spans) < 60  # those that the spool is past are forgotten


def test_a_collector_that_is_started_again_and_again_beside_another_keeps_a_bounded_list():
    remembered = Marks({})
    for _ in range(100):  # all of it is another's: it ends, and nothing has come meanwhile
        Ceded("KRAKEN", remembered).begin(KEYS[0], 500.0)
    (mark,) = (mark for _, mark in remembered.of_pairs("KRAKEN", marks.Ceded))
    assert mark.spans == ((500.0, float("inf")),)


def test_what_earlier_processes_were_past_is_forgotten():
    remembered = Marks({})
    for number in range(100):  # each time another one has it
        ceded = Ceded("KRAKEN", remembered)
        ceded.begin(KEYS[0], 500.0 + number)
        ceded.reach(1001.0 + number)
    (mark,) = (mark for _, mark in remembered.of_pairs("KRAKEN", marks.Ceded))
    assert len(mark.spans) < 20


def test_records_that_a_restarted_collector_stores_itself_are_not_left_out_after_another_restart(clock):
    remembered = Marks({})
    Ceded("KRAKEN", remembered).begin(KEYS[0], 500.0)  # and is killed
    Ceded("KRAKEN", remembered)  # stores it itself, and is killed before the store has it
    clock.now += 60.0
    ceded = Ceded("KRAKEN", remembered)
    assert ceded.has(_trade(999.0))
    assert not ceded.has(_trade(1030.0))


def test_records_stored_by_another_are_not_the_last_that_we_recorded():
    """Exchanges repeat the last trades: what the other one stored of them is known to it alone."""
    ours, others = marks.last_recorded("KRAKEN", KEYS[0]), marks.last_recorded("KRAKEN", KEYS[2])
    remembered = Marks({ours.name: "7 7", others.name: "7 7"})
    for key, end in ((KEYS[0], 5.0), (KEYS[2], float("inf"))):
        remembered.put(marks.ceded("KRAKEN", key), marks.Ceded(((1.0, end),)))
    Ceded("KRAKEN", remembered)
    assert remembered.get(ours) is not None
    assert remembered.get(others) is None


@hypothesis.given(st.text())
def test_a_damaged_mark_of_a_ceded_pair_costs_nothing(text):
    ceded = Ceded("KRAKEN", Marks({"ceded KRAKEN trades BTC-USD": text, "ceded KRAKEN": text}))
    ceded.begin(KEYS[0], 1.0)
    assert ceded.has(_trade(2.0))


async def test_candles_of_another_interval_do_not_overlap(clock):
    shelf = Shelf()
    one, two = Machine(shelf, "one", [KEYS[1]]), Machine(shelf, "two", [KEYS[1]], interval="1h")
    for _ in range(3):
        await one.look()
        await two.look()
        turn(clock, shelf)
    assert one.stores == two.stores == {KEYS[1]}


async def test_a_long_dead_collector_is_not_waited_for_and_one_that_may_live_is(clock):
    shelf = Shelf()
    one, two = Machine(shelf, "one", KEYS), Machine(shelf, "two", KEYS)
    await one.look()
    turn(clock, shelf)
    await one.look()
    for _ in range(13):
        turn(clock, shelf)
        await two.look()
        assert two.overlap.undecided == set(KEYS)
        assert not two.overlap.is_settled
    turn(clock, shelf, 3.0)
    for _ in range(3):
        await two.look()
        turn(clock, shelf)
    assert two.overlap.is_settled
    assert two.stores == set(KEYS)


async def test_a_dead_collector_is_not_waited_for_until_a_clock_that_was_set_back_is_right_again(clock):
    """The store's own: by that, the last sign of life is in the future."""
    shelf = Shelf()
    one, two = Machine(shelf, "one", KEYS[:2]), Machine(shelf, "two", KEYS)
    for _ in range(3):
        await one.look()
        turn(clock, shelf)
    for _ in range(3):
        one.beat()
        await two.look()
        turn(clock, shelf)
    shelf.now -= 3600
    for _ in range(6):
        one.beat()
        await two.look()
        turn(clock, shelf, 5.0)
        assert two.stores == set(KEYS[2:])
    shelf.now -= 3600
    for _ in range(8):
        await two.look()
        turn(clock, shelf, 5.0)
    assert two.stores == set(KEYS)


async def test_a_collector_with_nothing_left_for_long_fails_and_names_the_other(clock):
    shelf = Shelf()
    one, two = Machine(shelf, "one", KEYS), Machine(shelf, "two", KEYS)
    await one.look()
    turn(clock, shelf)
    await one.look()

    async def insist():
        for _ in range(40):
            one.beat()
            await two.look()
            turn(clock, shelf)

    with pytest.raises(
        SettingsError, match=r"by collector one \(process of one\); stop it, ask for"
    ) as fault:
        await insist()
    assert clock.now - 1000.0 >= overlap.HANDOVER
    assert fault.value.faults[0].variable == "SYMBOLS"


@hypothesis.given(
    st.dictionaries(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters=",")), st.text()), TIMES
    )
)
def test_claims_in_a_note_are_read_as_written(times):
    note = Note("KRAKEN", stopped=False, good_for=3.0, seen=[], claims=notes.moments(times))
    assert notes.pairs(notes.decode("test", notes.encode(note)).claims) == times


def test_channels_of_the_same_symbols_name_these_once():
    symbols = [f"A{number}-USD" for number in range(1000)]
    times = {(channel, symbol): 1.0 for channel in ("trades", "l2_book", "ticker") for symbol in symbols}
    ((moment, channels),) = notes.moments(times)
    assert moment == 1.0
    assert channels == {"trades,l2_book,ticker": sorted(symbols)}


def test_a_note_of_an_earlier_version_claims_nothing():
    text = (
        '{"exchange":"KRAKEN","stopped":false,"good_for":3.0,"seen":[[1.0,{"trades":["BTC-USD"]}]],"left":[]}'
    )
    note = notes.decode("old", text)
    assert note.claims == []
    assert note.until() == {("trades", "BTC-USD"): 1.0}


def _trade(receipt):
    return timed(Trade("KRAKEN", "BTC-USD", receipt, receipt, "buy", "1", "1", "7", None))


def _gap(receipt):
    return timed(Gap("KRAKEN", "BTC-USD", receipt, receipt, "trades", receipt - 1, receipt, "stopped", None))
