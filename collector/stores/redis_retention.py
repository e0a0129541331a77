"""RETENTION: from time to time, what is older, or more, than it says is removed, a bounded number at once.

A clock that is set a year ahead would make everything old. So the age of a record is its distance from the
earliest of three times: this machine's, the server's, and that of the exchange in its newest record.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from collector.records import AnyRecord, Gap
from collector.settings import Retention
from collector.times import SECOND

SECONDS = 5.0  # between two rounds
#: Most records of a key in one round; Redis answers nobody else meanwhile. Streams have the same bound.
MOST = 10_000
#: Seconds by which clocks may differ without a warning.
_DIFFERENCE = 86400.0

#: Count the old members of a sorted set, by ARGV[1], and remove as many, at most ARGV[2]. All in one step:
#: another collector that shares the key (gaps of one symbol) could else remove as many again of what is left.
_BEYOND = "local old = redis.call('ZCARD', KEYS[1]) - ARGV[1]"
_BEFORE = "local old = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[1])"
_REMOVE = """
if old > 0 then redis.call('ZREMRANGEBYRANK', KEYS[1], 0, math.min(old, ARGV[2]) - 1) end
"""

type Commands = list[tuple[Any, ...]]

_log = logging.getLogger(__name__)


class Trimming:
    """Removes from the keys what is not to stay.

    Args:
        retention: what stays.
        keys: of streams, or of sorted sets; more may be added.
        ask: sends commands and returns their answers.
        where: how messages call the server.
    """

    def __init__(
        self,
        retention: Retention,
        keys: Iterable[str],
        ask: Callable[[Commands], Awaitable[list[Any]]],
        where: str,
        *,
        streams: bool,
    ) -> None:
        self._retention, self.keys, self._ask, self._streams = retention, set(keys), ask, streams
        self._where = where
        self._next = 0.0
        self._exchange_time = -math.inf  # the newest
        self._warned = False

    async def trim(self, records: Iterable[AnyRecord]) -> None:
        """Remove what is old when it is time again. Streams keep a little more: their oldest node.

        Args:
            records: what is about to be stored; the exchange's time is taken from it.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + SECONDS
        counts = self._retention.seconds is None
        await (self._remove_beyond_count() if counts else self._remove_before(await self._oldest(records)))

    async def _remove_beyond_count(self) -> None:
        records = self._retention.records or 0
        if self._streams:
            await self._ask([("XTRIM", key, "MAXLEN", "~", records) for key in self.keys])
        else:
            await self._remove_from_sorted_sets(_BEYOND, records)

    async def _remove_before(self, oldest: float) -> None:
        if self._streams:
            first = max(0, int(oldest * 1000))
            await self._ask([("XTRIM", key, "MINID", "~", first) for key in self.keys])
        else:
            await self._remove_from_sorted_sets(_BEFORE, oldest)

    async def _remove_from_sorted_sets(self, old: str, limit: float) -> None:
        await self._ask([("EVAL", old + _REMOVE, 1, key, limit, MOST) for key in self.keys])

    async def _oldest(self, records: Iterable[AnyRecord]) -> float:
        """Return the time, in seconds since 1970, before which records are old by all clocks."""
        ((seconds, microseconds),) = await self._ask([("TIME",)])
        # A receipt in place of the time that an exchange does not tell is our own clock again.
        told = (
            record.timestamp / SECOND
            for record in records
            if not isinstance(record, Gap) and record.timestamp != record.receipt_timestamp
        )
        self._exchange_time = max(self._exchange_time, *told, -math.inf)
        ours = time.time()
        others = {"the server's clock": int(seconds) + int(microseconds) / 1e6}
        if math.isfinite(self._exchange_time):
            others["the exchange's time in its newest record"] = self._exchange_time
        name, earliest = min(others.items(), key=lambda item: item[1])
        self._tell(name, ours - earliest)
        return min(ours, earliest) - (self._retention.seconds or 0)

    def _tell(self, name: str, behind: float) -> None:
        if behind > _DIFFERENCE and not self._warned:
            _log.warning(
                "%s: RETENTION goes by %s, which is %.1f days behind this machine's clock",
                *(self._where, name, behind / _DIFFERENCE),
            )
        self._warned = behind > _DIFFERENCE
