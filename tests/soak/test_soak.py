"""The long test in short: it runs, finds nothing wrong, and does find what is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ledger import Sent, Stored, balance
from report import tables
from servers import RedisServer, Toxiproxy
from trials import Outcome

from collector.records import Gap

TESTS = Path(__file__).parents[1]
SHORT = {"restarts": 1, "resets": 2, "kills": 1, "collector-kills": 1, "collector-restarts": 0, "drops": 1}


@pytest.fixture
def servers():
    """What a process of its own will run has to be here."""
    for server in (RedisServer(), Toxiproxy()):
        server.remove()
        server.find()


@pytest.mark.redis
@pytest.mark.slow
def test_a_short_soak_of_one_store(servers, tmp_path):
    counts = [f"--{name}={count}" for name, count in SHORT.items()]
    outcomes = tmp_path / "outcomes.json"
    command = [sys.executable, "-m", "soak", "--stores", "REDISSTREAM", "--trials", "faults", *counts]
    soak = subprocess.run(
        [*command, "--json", outcomes, "--logs", tmp_path / "logs"],
        cwd=TESTS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert soak.returncode == 0, soak.stdout + soak.stderr
    (outcome,) = json.loads(outcomes.read_text())
    assert sum(outcome["survived"].values()) == sum(SHORT.values())
    assert outcome["account"]["stored"] > 500
    assert (tmp_path / "logs" / "REDISSTREAM-faults.log").stat().st_size


def test_an_unfinished_trial_is_reported_and_has_no_row():
    outcome = Outcome("MONGO", "absence", started=0.0, troubles=["not within 120 s"])
    assert not outcome.good
    assert tables([outcome.as_dict()]) == "MONGO absence: not within 120 s"


def at(second):
    return f"2026-01-01T00:00:{second:02}.000000Z"


def micros(second):
    return 1767225600_000000 + second * 1_000_000


def trade(second):
    content = {
        "id": str(second),
        "side": "buy",
        "price": "1.50",
        "amount": str(second),
        "timestamp": at(second),
    }
    return _entry(second, "trades", content)


def book(second, kind, size):
    sides = {"bid": [["1.0", size]], "ask": [["2.0", "1"], ["3.0", size]]}
    return _entry(second, "l2_book", {"kind": kind, "timestamp": at(second)} | sides)


def _entry(second, channel, content):
    who = {"channel": channel, "symbol": "BTC-USD", "connection": 1, "time": micros(second) / 1e6}
    return who | {"content": content}


@pytest.fixture
def log(tmp_path):
    """Ten trades, after one of the past, a book, and two changes of it."""
    past = trade(0)
    past["content"]["snapshot"] = True
    entries = [past, *(trade(second) for second in range(1, 11))]
    entries += [book(1, "snapshot", "5"), book(2, "delta", "6.0"), book(3, "delta", "7")]
    path = tmp_path / "log"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return Sent(path)


def stored(trades=range(1, 11), books=((1, 0, 5), (2, 1, 6), (3, 1, 7)), gaps=()):
    """What a store has: trades by second; books by second, whether they are deltas, and size."""
    it = Stored()
    for order, second in enumerate(trades):
        it.trade(order, "BTC-USD", micros(second) / 1e6, str(second), "buy", "1.5", second, micros(second))
    for order, (second, delta, size) in enumerate(books):
        sides = [(1, size)], [(2, 1), (3, size)]
        it.book(order, "BTC-USD", micros(second) / 1e6, delta, *sides, micros(second))
    it.gaps += [
        Gap("COINBASE", "BTC-USD", 0.0, 0.0, "trades", micros(start) / 1e6, micros(end) / 1e6, "killed", None)
        for start, end in gaps
    ]
    return it


def test_an_equal_store_is_exact(log):
    account = balance(log, stored(trades=range(11)))
    assert account.exact, account
    assert (account.sent, account.stored, account.excused) == (14, 14, 0)


def test_history_need_not_be_stored(log):
    account = balance(log, stored())
    assert account.exact, account
    assert account.excused == 1


@pytest.mark.parametrize(
    ("store", "found"),
    [
        (stored(trades=[1, 2, 5, 6, 7, 8, 9, 10]), {"lost": 2}),
        (stored(trades=[1, 2, 3, 4, 5, 6, 7]), {"lost": 3}),
        (stored(trades=[1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10]), {"twice": 1}),
        (stored(trades=[2, 1, 3, 4, 5, 6, 7, 8, 9, 10]), {"disordered": 1}),
        (stored(trades=[*range(1, 11), 20]), {"wrong": 1}),
        (stored(trades=[1, 4, 5, 6, 7, 8, 9, 10], gaps=[(1, 4)]), {"excused": 3, "invented": 1}),
        (stored(trades=[1, 2, 3, 4, 8, 9, 10], gaps=[(4, 6)]), {"excused": 3, "lost": 1, "invented": 1}),
        (stored(books=[(1, 0, 5), (3, 1, 7)]), {"lost": 1}),
        (stored(books=[(2, 1, 6), (3, 1, 7)]), {"lost": 1}),
        (stored(books=[(1, 0, 5), (2, 1, 6), (2, 1, 6), (3, 1, 7)]), {"twice": 1}),
        (stored(books=[(1, 0, 5), (1, 0, 5), (2, 1, 6), (3, 1, 7)]), {"twice": 1}),
        (stored(books=[(1, 0, 5), (2, 1, 6.5), (3, 1, 7)]), {"lost": 1, "wrong": 1}),
        (stored(books=[(1, 0, 5), (2, 1, 6), (2, 0, 6), (3, 1, 7)]), {}),
        (stored(books=[(1, 0, 5), (2, 1, 6), (2, 0, 6.5), (3, 1, 7)]), {"wrong": 1}),
        (stored(books=[(1, 0, 5), (2, 1, 6), (2, 0, 6), (2, 0, 6), (3, 1, 7)]), {"twice": 1}),
    ],
)
def test_differences_are_found(log, store, found):
    account = balance(log, store)
    counts = ("lost", "twice", "wrong", "disordered", "excused", "invented")
    assert {name: getattr(account, name) for name in counts if getattr(account, name)} == {
        "excused": 1
    } | found
