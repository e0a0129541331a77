"""How fast connections to an exchange may be opened from one address, and whose turn it is.

Many collectors may start at the same moment: the shards of one exchange, or all on a machine that was
rebooted. Each shard takes turns by its number, without knowing the others: with three shards, the first opens
the 1st, 4th, 7th ... connection, the second the 2nd, 5th, 8th. A connection that is refused nevertheless is
tried again after a pause that doubles each time.
"""

from collections.abc import Mapping

import msgspec

from collector import catalog
from collector.shards import Shard


class Limit(msgspec.Struct, frozen=True):
    """``count`` connections may be opened within any ``seconds``."""

    count: int
    seconds: float

    def turn(self, number: int) -> float:
        """Return when connection ``number`` (from 0) may be opened, in seconds after the first."""
        spacing = min(SPACING, self.seconds / self.count)
        return number // self.count * self.seconds + number % self.count * spacing


#: Seconds between two turns, if the limit allows that.
SPACING = 0.1

#: Limits of exchanges recorded through cryptofeed; those of native exchanges are in the catalogue.
LIMITS: Mapping[str, Limit] = {
    "BITFINEX": Limit(20, 60),  # docs.bitfinex.com/docs/ws-public: 20 connections per minute
}
#: For exchanges without a documented limit.
DEFAULT = Limit(5, 1)


def limit_of(exchange: str) -> Limit:
    """Return the limit of an exchange."""
    known = catalog.exchanges().get(exchange)
    if known and known.limits and known.limits.connections:
        return Limit(*known.limits.connections)
    return LIMITS.get(exchange, DEFAULT)


def turn(exchange: str, shard: Shard | None, connection: int) -> float:
    """Return when a collector opens its ``connection``-th (from 0), in seconds after all shards started."""
    number, count = (shard.number - 1, shard.count) if shard else (0, 1)
    return limit_of(exchange).turn(connection * count + number)
