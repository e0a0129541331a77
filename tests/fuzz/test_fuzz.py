"""5,000 inputs that nobody would write by hand; ``make soak SOAK='--trials fuzz'`` goes on for 30 minutes.

What is drawn is the same each time, so a failure comes again; its text says how to see it alone.
"""

import itertools

import pytest
from fuzz import fleets
from fuzz.kinds import KINDS
from fuzz.long import run
from fuzz.trials import BYTES, SECONDS, FuzzError, attempt, bounded

INPUTS = 5_000
PARTS = 4  # of a kind, so that several processes share it
SEED = 1


def test_the_shares_of_all_kinds_add_up_to_one():
    assert sum(kind.share for kind in KINDS.values()) == pytest.approx(1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # in pymongo's own
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", KINDS)
def test_any_input_is_accepted_or_reported(name, part):
    kind = KINDS[name]
    count = round(INPUTS * kind.share / PARTS)
    sound = sum(attempt(kind, SEED, number) for number in range(part * count, (part + 1) * count))
    assert count / 50 < sound, "hardly any input gets further than the first look at it"


def test_a_leaked_secret_is_found_unless_the_file_shows_it_openly(monkeypatch):
    """The word of a password may come to stand in the name of a database, which is no secret."""
    text = b"fleet: desk\nstores: {p: {backend: POSTGRES, host: h, database: %b, password: hunter2}}\n"
    text += b"collectors: [{exchange: COINBASE, symbols: BTC-USD, channels: trades, store: p}]\n"
    assert KINDS["fleets"].attempt([text % b"hunter2"])
    assert KINDS["fleets"].attempt([text % b"d"])
    leaking = {"compose": lambda _fleet: {"compose.yaml": "services: {} # hunter2"}}
    monkeypatch.setattr(fleets, "FORMATS", leaking)
    with pytest.raises(AssertionError, match=r"compose\.yaml"):
        KINDS["fleets"].attempt([text % b"d"])


class Greedy:
    """Takes what its input says."""

    name, share = "greedy", 1.0

    def draw(self, draw):
        return draw.choice(("time", "memory", "error"))

    def attempt(self, case):
        if case == "time":
            while True:
                pass
        if case == "memory":
            bytearray(2 * BYTES)
        raise LookupError(case)


class GreedyInTurn(Greedy):
    """Fails in each way within three inputs, however few fit into its time."""

    def __init__(self):
        self._cases = itertools.cycle(("error", "memory", "time"))

    def draw(self, draw):
        return next(self._cases)


def test_an_input_that_exceeds_the_bounds_is_stopped_and_kept(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("fuzz.trials.SECONDS", SECONDS / 20)
    monkeypatch.setattr("fuzz.long.KINDS", {"greedy": GreedyInTurn()})
    causes = set()
    for number in range(20):
        with pytest.raises(FuzzError, match=f"greedy, seed 1, number {number}: ") as found:
            attempt(Greedy(), 1, number)
        causes.add(type(found.value.__cause__).__name__)
    assert causes == {"TooLongError", "MemoryError", "LookupError"}
    assert not run(0.02, 7, tmp_path)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 3, "one of each failure"
    assert "seed 7" in capsys.readouterr().err
    assert any("'memory'" in path.read_text() for path in kept)


def test_the_bounds_end_with_the_input():
    with bounded():
        pass
    assert len(bytearray(2 * BYTES)) == 2 * BYTES
