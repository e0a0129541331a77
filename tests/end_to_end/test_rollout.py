"""A roll-out as the store tells it: what nobody saw is a gap, and all else is there once."""

import json
import time
from collections import Counter, defaultdict
from itertools import pairwise
from typing import NamedTuple

import pytest
from comparison import SLACK, compare, gaps_in
from stage import docker
from test_fleet import Fleet
from waiting import wait_until

from collector.records import Trade
from collector.shards import shard_of

pytestmark = pytest.mark.docker

SYMBOLS = [f"{base}-USD" for base in ("BTC", "LINK", "DOGE", "SHIB")]  # two move to a third shard
CHANNELS = ("trades", "ticker", "l2_book")
KRAKEN = [("KRAKEN", channel, "BTC-USD") for channel in CHANNELS]
COINBASE = [("COINBASE", channel, symbol) for channel in CHANNELS for symbol in SYMBOLS]


class Recorded(Fleet):
    """KRAKEN in one container, COINBASE in some; the simulator's log tells what there was to see."""

    def write(self, shards, **of_kraken):
        self.write_collectors(
            {"exchange": "KRAKEN", "symbols": ["BTC-USD"], **of_kraken},
            {"exchange": "COINBASE", "symbols": "ALL", "shards": shards},
        )

    def write_collectors(self, *collectors, **keys):
        self.path.write_text(
            json.dumps(
                {
                    "fleet": self.name,
                    "image": self.image,
                    "network": {"name": self.stage.name, "external": True},
                    "stores": {"redis": {"backend": "REDISSTREAM", "host": "redis"}},
                    "defaults": {"channels": CHANNELS, "ssl_cert_file": str(self.folder / "ca.pem")},
                    "collectors": collectors,
                    **keys,
                }
            )
        )

    def up(self, capsys):
        """Brings it up; the last event of each collector."""
        assert self.launch("up", "--json", "--yes") == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {event["collector"]: event for event in events if "collector" in event}

    def statuses(self, capsys):
        capsys.readouterr()
        assert self.launch("status", "--json") == 0
        return {row["collector"]: row["status"] for row in json.loads(capsys.readouterr().out)}

    def more(self, keys=(*KRAKEN, *COINBASE)):
        """Waits until something new of everything was sent."""
        before = len(self.control.log())
        wait_until(lambda: {_key(each) for each in self.control.log()[before:]} >= {*keys})

    def quiet(self, capsys):
        """Stops the exchanges, and waits until the store has all that was received."""
        self.control.pause()

        def counts():
            statuses = self.statuses(capsys).values()
            assert all(status for status in statuses)
            stored = [each["stored"] for status in statuses for each in status["channels"].values()]
            return None if any(status["spool"]["records"] for status in statuses) else stored

        before = None
        while (now := wait_until(counts)) != before:
            before = now
            time.sleep(1)


@pytest.fixture
def fleet(tmp_path, stage, image):
    fleet = Recorded(tmp_path, stage, image)
    fleet.control = stage.simulator(image, "--symbols", f"COINBASE={','.join(SYMBOLS)}", "--rate", "20")
    docker("cp", f"{stage.name}-simulator:/simulator/ca.pem", str(tmp_path))
    yield fleet
    fleet.launch("down", "--volumes", "--yes")


def _key(entry):
    return entry.get("exchange"), entry.get("channel"), entry.get("symbol")


@pytest.mark.slow
def test_updates_and_changed_numbers_of_shards_lose_nothing_in_the_store(fleet, capsys):
    fleet.write(shards=2)
    assert fleet.up(capsys).keys() == {"kraken", "coinbase-1", "coinbase-2"}
    fleet.more()
    assert_shares(fleet.statuses(capsys), 2)

    more = rolled_out(fleet, capsys, 2, 3)
    assert "unseen" not in more.told["coinbase-3"]
    fewer = rolled_out(fleet, capsys, 3, 2)
    assert fewer.told["coinbase-3"]["state"] == "removed"
    fleet.quiet(capsys)

    log, records = fleet.control.log(), fleet.stage.stored()
    comparison = compare(log, records, excuse_cut=False)
    assert comparison.exact, comparison
    assert comparison.matched > 300
    assert_one_at_a_time(log)

    gaps = gaps_in(records)
    assert {gap.reason for gap in gaps} == {"stopped"}
    assert_seen_but_for(gaps, more, [*KRAKEN, *COINBASE])
    assert_seen_but_for(gaps, fewer, COINBASE)


class RollOut(NamedTuple):
    """When it began and ended, and the last event of each collector."""

    began: float
    ended: float
    told: dict[str, dict]
    shards: tuple[int, int]  # before and after


def rolled_out(fleet, capsys, before, after):
    """Makes the fleet another one, and waits until something of everything has come since."""
    fleet.write(after, snapshot_interval=500)  # so KRAKEN has changed after the start, and never again
    began = time.time()
    told = fleet.up(capsys)
    ended = time.time()
    fleet.more()
    assert_shares(fleet.statuses(capsys), after)
    return RollOut(began, ended, told, (before, after))


def assert_seen_but_for(gaps, roll_out, keys):
    """Each of ``keys`` has one gap in the roll-out, and nothing else has; they are as long as was told."""
    gaps = [gap for gap in gaps if roll_out.began < gap.start < roll_out.ended]
    assert sorted((gap.exchange, gap.missed, gap.symbol) for gap in gaps) == sorted(keys)
    lasted = defaultdict(list)
    for gap in gaps:
        assert gap.start < gap.end < roll_out.ended
        shard = shard_of(gap.symbol, roll_out.shards[1])
        name = "kraken" if gap.exchange == "KRAKEN" else f"coinbase-{shard}"
        lasted[name].append((gap.start, gap.end))
    for name, spans in lasted.items():
        starts, ends = zip(*spans, strict=True)
        if (unseen := roll_out.told[name].get("unseen")) is None:
            continue
        longest = max(ends) - max(starts)
        if "at most" in roll_out.told[name]["detail"]:  # it did not find that out in time
            assert longest < unseen
        else:
            assert longest == pytest.approx(unseen, abs=0.001)


def assert_shares(statuses, count):
    """Each symbol is subscribed to by its shard."""
    for number in range(1, count + 1):
        symbols = [symbol for symbol in SYMBOLS if shard_of(symbol, count) == number]
        confirmed = statuses[f"coinbase-{number}"]["subscriptions"]["confirmed"]
        assert confirmed == len(symbols) * len(CHANNELS), (number, count)


def assert_one_at_a_time(log):
    """No connection was sent anything of a channel and a symbol before the one before it had ended."""
    spans = defaultdict(dict)
    for entry in log:
        if "channel" in entry:
            times = spans[_key(entry)].setdefault(entry["connection"], [])
            times.append(entry["time"])
    assert {*spans} == {*KRAKEN, *COINBASE}
    for key, connections in spans.items():
        ordered = sorted(connections.values())
        assert len(ordered) == (2 if key in KRAKEN else 3), key
        assert all(one[-1] < other[0] for one, other in pairwise(ordered)), key


@pytest.mark.slow
def test_symbols_that_collectors_exchange_in_one_roll_out(fleet, capsys):
    """One update at a time: each leaves out what another still has, and is ready once it lets go of that."""
    names = ("first", "second", "third")

    def write(*symbols):
        coinbase = [
            {"name": name, "exchange": "COINBASE", "symbols": some}
            for name, some in zip(names, symbols, strict=False)
        ]
        fleet.write_collectors(*coinbase, parallelism=1)

    write(["BTC-USD", "LINK-USD"], ["DOGE-USD", "SHIB-USD"])
    fleet.up(capsys)
    fleet.more(COINBASE)
    began = time.time()
    write(["BTC-USD", "DOGE-USD"], ["LINK-USD"], ["SHIB-USD"])
    told = fleet.up(capsys)
    assert {name: each["state"] for name, each in told.items()} == dict.fromkeys(names, "ready")
    wait_until(lambda: all(map(is_whole, fleet.statuses(capsys).values())))
    ended = time.time()
    fleet.more(COINBASE)
    fleet.quiet(capsys)

    records = fleet.stage.stored()
    gaps = gaps_in(records)
    assert {(gap.missed, gap.symbol) for gap in gaps} == {key[1:] for key in COINBASE}
    assert all(began < gap.start < gap.end < ended + 1 for gap in gaps)
    assert_each_trade_once_but_for(gaps, fleet.control.log(), records)


def is_whole(status):
    return status["state"] == "ready" and not status["subscriptions"]["overlapping"]


def assert_each_trade_once_but_for(gaps, log, records):
    """What two collectors received at a time is stored by one; only a trade has an id to tell that by."""
    found = Counter((each.symbol, each.id) for each in records if isinstance(each, Trade))
    assert len(found) > 300
    assert {*found.values()} == {1}
    lost = [
        each
        for each in log
        if each.get("channel") == "trades"
        and not each["content"].get("snapshot")
        and (each["symbol"], each["content"]["id"]) not in found
        and not any(
            (gap.missed, gap.symbol) == ("trades", each["symbol"])
            and gap.start - SLACK <= each["time"] <= gap.end + SLACK
            for gap in gaps
        )
    ]
    assert not lost, (len(lost), lost[:3], gaps)
