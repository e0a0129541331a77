"""RETENTION: periodically remove records beyond the configured age or number, a bounded number at a time.

A clock that is a year ahead would make every record look old. So the age of a record is measured from the
earliest of three times: this machine's, the server's, and the exchange's in its newest record.
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
#: Most records of a key removed in one round, while Redis answers no other client. Same bound for streams.
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
    """Removes from the keys what is beyond the retention.

    Args:
        retention: the age or number of records to keep.
        keys: the keys of streams or sorted sets; more may be added.
        ask: sends commands and returns their answers.
        where: the server's name in messages.
        streams: whether the keys are streams.
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
        self._exchange_time = -math.inf  # the newest, seconds
        self._warned = False

    async def trim(self, records: Iterable[AnyRecord]) -> None:
        """Remove what is old if a round is due. Streams keep slightly more: part of their oldest node.

        Args:
            records: those about to be stored, which have the exchange's time.
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
        """Return the time (seconds since 1970) before which records are too old by all clocks."""
        ((seconds, microseconds),) = await self._ask([("TIME",)])
        # If the exchange sends no time, the timestamp is the receipt, which is our own clock.
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
