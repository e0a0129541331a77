"""RETENTION: from time to time, what is older, or more, than it says is removed, a bounded number at once."""

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from collector.settings import Retention

SECONDS = 5.0  # between two rounds
#: Most records of a key in one round; Redis answers nobody else meanwhile. Streams have the same bound.
MOST = 10_000

type Commands = list[tuple[Any, ...]]


class Trimming:
    """Removes from the keys what is not to stay.

    Args:
        retention: what stays.
        keys: of streams, or of sorted sets; more may be added.
        ask: sends commands and returns their answers.
    """

    def __init__(
        self,
        retention: Retention,
        keys: Iterable[str],
        ask: Callable[[Commands], Awaitable[list[Any]]],
        *,
        streams: bool,
    ) -> None:
        self._retention, self.keys, self._ask, self._streams = retention, set(keys), ask, streams
        self._next = 0.0

    async def trim(self) -> None:
        """Does so when it is time again. Streams keep a little more: their oldest node."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + SECONDS
        if self._streams:
            await self._ask(self._from_streams())
        else:
            await self._from_sorted_sets()

    def _from_streams(self) -> Commands:
        seconds, records = self._retention.seconds, self._retention.records
        if seconds is None:
            return [("XTRIM", key, "MAXLEN", "~", records) for key in self.keys]
        oldest = int((time.time() - seconds) * 1000)
        return [("XTRIM", key, "MINID", "~", oldest) for key in self.keys]

    async def _from_sorted_sets(self) -> None:
        seconds, records = self._retention.seconds, self._retention.records
        if seconds is None:
            counts = await self._ask([("ZCARD", key) for key in self.keys])
            old = [count - (records or 0) for count in counts]
        else:
            before = f"({time.time() - seconds}"
            old = await self._ask([("ZCOUNT", key, "-inf", before) for key in self.keys])
        await self._ask(
            [
                ("ZREMRANGEBYRANK", key, 0, min(count, MOST) - 1)
                for key, count in zip(self.keys, old, strict=True)
                if count > 0
            ]
        )
