"""The loop over one connection, on a stand-in for cryptofeed's connection that does what it is told."""

import asyncio
import contextlib
import logging
import sys
import time

import aiohttp
import pytest
from cryptofeed.exceptions import BadChecksum
from reported import Reported
from waiting import eventually

from collector.feeds.backoff import Backoff
from collector.feeds.connection import Patience
from collector.feeds.malformed import LARGEST_FILE, Malformed
from collector.feeds.subscriptions import Subscriptions
from collector.feeds.through_cryptofeed.connection import CryptofeedConnection
from collector.feeds.through_cryptofeed.supervised import Supervised
from collector.gaps.tracker import Gaps

KEY = ("l2_book", "BTC-USD")


class Wire:
    """Has the face of cryptofeed's connections; ``say`` puts a message on it."""

    uuid = "X.ws.1"
    subscription = None

    def __init__(self):
        self.messages = asyncio.Queue()
        self.last_message = None
        self.received = 0
        self.opened = 0

    def say(self, *messages):
        for message in messages:
            self.messages.put_nowait(message)

    @contextlib.asynccontextmanager
    async def connect(self):
        self.opened += 1
        self.last_message = None
        yield self

    async def read(self):
        while (message := await self.messages.get()) is not None:
            self.received += 1
            self.last_message = time.time()
            yield message


class Feed(Supervised):
    id = "X"

    def carried(self, connection):
        return [KEY]


class Rig:
    """A connection on a wire, and what it made of it."""

    def __init__(self, folder, subscribe=None, **patience):
        self.wire, self.gaps, self.forgotten, self.handled = Wire(), Reported(), [], []
        self.fails = {}
        self.feed = Feed()
        self.feed.subscriptions = Subscriptions(Gaps("X", self.gaps))
        patience = Patience(**{"shortest_pause": 0.01, "longest_pause": 0.05} | patience)
        self.connection = CryptofeedConnection(
            self.feed,
            (self.wire, subscribe or self._subscribe, self._handle, self._authenticate),
            Malformed(folder),
            self._forget,
            patience,
        )

    def _forget(self, keys):
        self.forgotten += keys
        return {}

    async def _authenticate(self, conn):
        pass

    async def _subscribe(self, conn):
        pass

    async def _handle(self, message, conn, timestamp):
        self.handled.append(message)
        if message in self.fails:
            raise self.fails[message]
        self.feed.subscriptions.arrived(*KEY, timestamp)

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.connection.run())
        yield
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()


async def test_a_clean_close_is_a_gap_and_the_book_starts_over(tmp_path):
    rig, began = Rig(tmp_path), time.time()
    async with rig.running():
        rig.wire.say("one", None)
        await eventually(lambda: rig.wire.opened == 2)
        assert KEY in rig.feed.subscriptions.pending
        assert rig.forgotten == [KEY]
        rig.wire.say("two")
        await eventually(lambda: rig.gaps)
    (gap,) = rig.gaps
    assert gap.reason == "disconnect"
    assert began <= gap.start < gap.end <= time.time()


async def test_the_gap_begins_with_the_last_message_that_was_handled(tmp_path):
    rig = Rig(tmp_path)
    async with rig.running():
        rig.wire.say("one")
        await eventually(lambda: rig.handled)
        seen = rig.wire.last_message
        await asyncio.sleep(0.05)
        rig.fails["two"] = BadChecksum("of a book")
        rig.wire.say("two")
        await eventually(lambda: rig.wire.opened == 2)
        rig.wire.say("three")
        await eventually(lambda: rig.gaps)
    assert rig.gaps[0].start == seen
    assert rig.gaps[0].reason == "sequence"


async def test_messages_that_cannot_be_handled_are_kept(tmp_path, caplog):
    rig = Rig(tmp_path)
    type(rig.feed).CHECKS_BOOKS = True
    rig.fails = {"two": KeyError("price")}
    async with rig.running():
        rig.wire.say("one", "two", b"three")
        await eventually(lambda: len(rig.handled) == 3)
    assert rig.wire.opened == 1
    assert "KeyError: 'price'" in (tmp_path / "malformed.jsonl").read_text()


async def test_a_book_without_checks_is_not_trusted_after_a_failed_message(tmp_path):
    rig = Rig(tmp_path)
    type(rig.feed).CHECKS_BOOKS = False
    rig.fails = {"two": KeyError("price")}
    async with rig.running():
        rig.wire.say("one", "two")
        await eventually(lambda: rig.wire.opened == 2)
        rig.wire.say("three")
        await eventually(lambda: rig.gaps)
    assert rig.gaps[0].reason == "malformed"


async def test_a_clock_stepping_back_keeps_no_gap_open(tmp_path, monkeypatch):
    """What ceased has ceased, whatever the clock says: the hour after the step is seen."""
    monkeypatch.setattr(sys.modules[__name__], "KEY", ("trades", "BTC-USD"))
    rig = Rig(tmp_path)
    rig.fails = {"two": KeyError("price")}
    right = time.time
    with monkeypatch.context() as fast:
        fast.setattr(time, "time", lambda: right() + 3600)
        task = asyncio.create_task(rig.connection.run())
        rig.wire.say("one", "two")
        await eventually(lambda: len(rig.handled) == 2)
    await eventually(lambda: rig.gaps)
    assert rig.gaps[0].reason == "malformed"
    task.cancel()


async def test_a_failure_of_the_network_in_a_handler_costs_the_connection(tmp_path):
    rig = Rig(tmp_path)
    rig.fails = {"one": aiohttp.ClientConnectionError("no snapshot")}
    async with rig.running():
        rig.wire.say("one")
        await eventually(lambda: rig.wire.opened == 2)
    assert not (tmp_path / "malformed.jsonl").exists()


async def test_a_task_that_cryptofeed_starts_does_not_die_unseen(tmp_path, caplog):
    polls = []

    async def subscribe(conn):
        async def poll():
            await asyncio.sleep(0.01)
            raise ValueError("the poll failed")

        polls.append(asyncio.create_task(poll()))

    rig = Rig(tmp_path, subscribe)
    async with rig.running():
        await eventually(lambda: len(polls) == 3)
    assert "ValueError: the poll failed" in caplog.text
    assert all(poll.done() for poll in polls)


async def test_tasks_that_cryptofeed_starts_end_with_the_connection(tmp_path):
    polls = []

    async def subscribe(conn):
        polls.append(asyncio.create_task(asyncio.sleep(60)))

    rig = Rig(tmp_path, subscribe)
    async with rig.running():
        rig.wire.say(None)
        await eventually(lambda: len(polls) == 2)
        assert polls[0].cancelled()


async def test_a_waiting_handler_is_not_silence(tmp_path):
    rig = Rig(tmp_path, silence=0.2)

    async def slow(message, conn, timestamp):
        await asyncio.sleep(0.6)  # a loaded machine makes it longer, which changes nothing
        rig.handled.append(message)
        rig.opened_when_handled = rig.wire.opened

    rig.connection._handler = slow
    async with rig.running():
        rig.wire.say("one")
        await eventually(lambda: rig.handled)
        assert rig.opened_when_handled == 1
        await eventually(lambda: rig.wire.opened == 2)


async def test_pauses_grow_to_their_bound_and_shrink_after_use(tmp_path):
    rig = Rig(tmp_path, shortest_pause=0.01, longest_pause=0.08, useful=3600)
    async with rig.running():
        for _ in range(5):
            rig.wire.say(None)
        await eventually(lambda: rig.wire.opened == 6)
        assert rig.connection._backoff._next == 0.08
        rig.connection._patience = Patience(useful=0)  # any use will do
        rig.wire.say(None)
        await eventually(lambda: rig.wire.opened == 7)
        assert rig.connection._backoff._next == 0.02  # doubled once, from the shortest


def test_pauses_are_bounded_and_random():
    backoff = Backoff(0.25, 30)
    pauses = [backoff.pause() for _ in range(100)]
    assert max(pauses) <= 30
    assert len(set(pauses)) == 100
    assert pauses[0] <= 0.25
    backoff.reset()
    assert backoff.pause() <= 0.25


def test_the_file_of_malformed_messages_is_bounded_and_rarely_logged(tmp_path, caplog):
    malformed = Malformed(tmp_path)
    for _ in range(40):
        malformed.keep("X.ws.1", "x" * 2**20, ValueError("no"))
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < LARGEST_FILE + 2**21
    assert len(caplog.records) == 1


def test_a_full_disk_costs_only_the_malformed_message(tmp_path, caplog):
    Malformed(tmp_path / "missing").keep("X.ws.1", b"\xff", ValueError("no"))
    assert "not kept" in caplog.text


@pytest.fixture(autouse=True)
def _all_lines(caplog):
    caplog.set_level(logging.INFO)
