"""How fast connections to an exchange may be opened from one address, and who opens which of them when.

Many collectors may begin in one moment: the shards of one exchange, or all of a machine that was started
again. Each shard takes its turns by its number, so that nobody has to know of the others: with three shards,
the first opens the 1st, 4th, 7th ... connection, the second the 2nd, 5th, 8th. What is refused all the same
is tried again with a pause that doubles.
"""

from collections.abc import Mapping

import msgspec

from collector import catalog
from collector.shards import Shard


class Limit(msgspec.Struct, frozen=True):
    """``count`` connections may be opened in any ``seconds``."""

    count: int
    seconds: float

    def turn(self, number: int) -> float:
        """Seconds after the first when the ``number``-th, counted from 0, has its turn."""
        spacing = min(SPACING, self.seconds / self.count)
        return number // self.count * self.seconds + number % self.count * spacing


#: Seconds between two turns, where the limit leaves room for that.
SPACING = 0.1

#: Of exchanges that cryptofeed connects to; those of the others are in the catalogue.
LIMITS: Mapping[str, Limit] = {
    "BITFINEX": Limit(20, 60),  # docs.bitfinex.com/docs/ws-public: 20 connections per minute
}
#: Of those that say nothing, or that are not known to.
DEFAULT = Limit(5, 1)


def limit_of(exchange: str) -> Limit:
    """Return the limit of an exchange."""
    known = catalog.exchanges().get(exchange)
    if known and known.limits and known.limits.connections:
        return Limit(*known.limits.connections)
    return LIMITS.get(exchange, DEFAULT)


def turn(exchange: str, shard: Shard | None, connection: int) -> float:
    """Seconds after all shards began when a collector opens its ``connection``-th, counted from 0."""
    number, count = (shard.number - 1, shard.count) if shard else (0, 1)
    return limit_of(exchange).turn(connection * count + number)
