import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import connection_pace
from collector.catalog import exchanges
from collector.connection_pace import Limit
from collector.shards import Shard

limits = st.builds(Limit, st.integers(1, 30), st.floats(0.1, 300))


@given(limits, st.integers(1, 8), st.integers(1, 20))
def test_no_window_has_more_turns_than_the_limit(limit, shards, connections):
    """Whatever the shards, all together."""
    turns = sorted(limit.turn(number) for number in range(shards * connections))
    for first, beyond in zip(turns, turns[limit.count :], strict=False):
        assert beyond - first >= limit.seconds * 0.999


def test_each_turn_belongs_to_one_shard():
    shards = [Shard(number, 3) for number in (1, 2, 3)]
    turns = [connection_pace.turn("OKX", shard, connection) for connection in range(4) for shard in shards]
    assert turns == [connection_pace.limit_of("OKX").turn(number) for number in range(12)]
    assert connection_pace.turn("OKX", None, 0) == connection_pace.turn("OKX", Shard(1, 8), 0) == 0
    assert connection_pace.turn("OKX", None, 3) == 1


def test_limits_belong_to_existing_exchanges():
    assert {*connection_pace.LIMITS} <= {*exchanges()}
    assert connection_pace.limit_of("GEMINI") == connection_pace.DEFAULT


@pytest.mark.parametrize("exchange", [name for name, it in exchanges().items() if it.by == "cryptostore"])
def test_connections_are_opened_as_the_catalogue_says(exchange):
    limits = exchanges()[exchange].limits
    assert limits
    limit = connection_pace.limit_of(exchange)
    assert (limit.count, limit.seconds) == limits.connections
    assert exchange not in connection_pace.LIMITS  # one place
