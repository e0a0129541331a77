"""What collectors of a fleet record twice, where it takes the exchange's list to know."""

import pytest

from launcher import fleet, overlap
from launcher.overlap import find
from launcher.selection import narrowed

LISTED = ["BTC-EUR", "BTC-USD", "ETH-EUR", "ETH-USD"]
BASE = {"exchange": "KRAKEN", "channels": "[trades]", "store": "one"}


@pytest.fixture
def overlaps(tmp_path, monkeypatch):
    """What is found of some collectors, and which of them were asked about."""
    monkeypatch.chdir(tmp_path)

    def overlaps(*collectors, only=(), profiles=()):
        lines = [
            "- {" + ", ".join(f"{key}: {value}" for key, value in (BASE | each).items()) + "}"
            for each in collectors
        ]
        stores = "one: {backend: REDIS, host: redis}, other: {backend: REDIS, host: redis, database: 1}"
        text = "\n".join(["fleet: desk", f"stores: {{{stores}}}", "collectors:", *lines, ""])
        (tmp_path / "fleet.yaml").write_text(text)
        asked = []

        def ask(specs):
            asked.extend(spec.name for spec in specs)
            return {spec.name: taken(spec.container.environment) for spec in specs}

        found = narrowed(
            fleet.load(tmp_path.joinpath("fleet.yaml").relative_to(tmp_path), {}), only, profiles
        )
        return [str(each) for each in find(found.collectors, ask, found.beside)], asked

    return overlaps


def taken(variables):
    """What a collector takes of the list; a shard every second symbol."""
    selection = overlap.Selection.parse(variables["SYMBOLS"].split(","))
    symbols = selection.select(dict.fromkeys(LISTED, "spot"))
    which, _, of = variables.get("SHARD", "1/1").partition("/")
    return symbols[int(which) - 1 :: int(of)]


def test_each_overlap_is_reported_once_with_all_collectors_and_their_places(overlaps):
    found, asked = overlaps(
        {"name": "a", "symbols": "'*-USD'"},
        {"name": "b", "symbols": "'BTC-*'"},
        {"name": "c", "symbols": "BTC-USD"},
        {"name": "d", "symbols": "ALL"},
    )
    assert asked == ["a", "b", "c", "d"]
    a, b, c = "a (fleet.yaml:4:72)", "b (fleet.yaml:5:72)", "c (fleet.yaml:6:72)"
    assert [each.partition("; ")[0] for each in found] == [
        f"fleet.yaml:7:72: symbols: trades of {what} into the same store, too"
        for what in (
            f"'BTC-USD': collectors {a}, {b} and {c} record it",
            f"'ETH-USD': collector {a} records it",
            f"'BTC-EUR': collector {b} records it",
        )
    ]
    assert found[0].endswith(
        "leave it out of all but one, or set `allow_overlap: true` to store it more than once"
    )


def test_selected_collectors_are_compared_only_with_those_running_beside_them(overlaps):
    found, asked = overlaps(
        {"name": "a", "symbols": "'*-USD'"},
        {"name": "b", "symbols": "'BTC-*'"},
        {"name": "c", "symbols": "ALL", "profiles": "[night]"},
        {"name": "d", "symbols": "'ETH-USD'", "store": "other"},
        only=["a"],
    )
    assert asked == ["a", "b"]
    (fault,) = found
    assert fault.startswith(
        "fleet.yaml:4:72: symbols: trades of 'BTC-USD': collector b (fleet.yaml:5:72) records it"
    )
    assert overlaps(
        {"name": "a", "symbols": "'*-USD'"},
        {"name": "b", "symbols": "'BTC-*'"},
        {"name": "c", "symbols": "'ETH-EUR'"},
        only=["c"],
    ) == ([], ["c", "a", "b"])


@pytest.mark.parametrize(
    "other",
    [
        {"store": "other"},
        {"exchange": "COINBASE"},
        {"channels": "[ticker]"},
        {"channels": "[candles]", "candle_interval": "1h"},
        {"allow_overlap": "true"},
    ],
)
def test_no_exchange_is_asked_if_patterns_cannot_overlap(overlaps, other):
    both = {"channels": "[candles]"} if "candle_interval" in other else {}
    assert overlaps(
        {"name": "a", "symbols": "ALL"} | both, {"name": "b", "symbols": "ALL"} | both | other
    ) == ([], [])


def test_patterns_that_select_nothing_in_common_are_fine(overlaps):
    found, asked = overlaps({"name": "a", "symbols": "'*-USD'"}, {"name": "b", "symbols": "'*-EUR'"})
    assert (found, asked) == ([], ["a", "b"])


def test_shards_of_one_collector_do_not_overlap_and_count_as_one(overlaps):
    found, _ = overlaps({"name": "a", "symbols": "ALL", "shards": 2}, {"name": "b", "symbols": "'*-USD'"})
    (only,) = found
    assert "trades of 'BTC-USD' and 1 more: collector a (fleet.yaml:4:72) records them" in only


def test_plain_symbols_need_no_request_and_overlap_if_profiles_run_together(overlaps):
    found, asked = overlaps(
        {"name": "a", "symbols": "BTC-USD", "profiles": "[x]"},
        {"name": "b", "symbols": "BTC-USD", "profiles": "[y]"},
        profiles=["x", "y"],
    )
    assert asked == []
    assert len(found) == 1
