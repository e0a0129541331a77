"""SHARD: which of several collectors takes a symbol, by rendezvous hashing.

For each symbol, every shard draws a number from a hash of the two, and the highest number wins. So the place
of each symbol is independent of the others: a new symbol moves no other, and a ninth shard takes from each of
the eight only the symbols for which it draws a higher number, a ninth of all.
"""

import hashlib
import re

import msgspec

#: Most shards. With more, placing a symbol would take long, and each container would have little to do.
MOST = 100


class Shard(msgspec.Struct, frozen=True):
    """Shard ``number``, from 1 on, of ``count``."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``3/8``. Raises ValueError."""
        match = re.fullmatch(r"([0-9]{1,3})\s*/\s*([0-9]{1,3})", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]) <= MOST:
            raise ValueError(f"takes a shard and their number, such as 1/8 to 8/8, {MOST} at most")
        return cls(int(match[1]), int(match[2]))

    def takes(self, symbol: str) -> bool:
        """Return whether the symbol belongs to this shard."""
        return shard_of(symbol, self.count) == self.number

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def shard_of(symbol: str, count: int) -> int:
    """Return the number of the shard, of ``count``, that a symbol belongs to."""
    return max(range(1, count + 1), key=lambda number: _draw(symbol, number))


def _draw(symbol: str, number: int) -> bytes:
    return hashlib.blake2b(f"{number} {symbol}".encode(), digest_size=8).digest()
