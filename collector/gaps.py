"""What a gap is, where one begins and where it ends.

A gap is an interval in which the exchange could not be seen. Continuity belongs to a subscription (channel,
symbol): its gap begins at the last moment up to which everything had been seen, and ends with the
exchange's acknowledgement of the new subscription, or with its first data; that of an order book ends with
the first complete book.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Literal

import msgspec

#: A subscription: channel and symbol, both in cryptofeed's words.
type Key = tuple[str, str]

Reason = Literal["disconnect", "stale", "sequence", "malformed"]

#: Seconds for which gaps that end shortly after one another are gathered into one.
GATHER = 0.5


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing of ``channels`` x ``symbols`` was surely seen from ``start`` to ``end`` (seconds, UTC)."""

    exchange: str
    channels: tuple[str, ...]
    symbols: tuple[str, ...]
    start: float
    end: float
    reason: Reason

    def __str__(self) -> str:
        return (
            f"{self.exchange} {','.join(self.channels)} {','.join(self.symbols)}: not seen for "
            f"{self.end - self.start:.3f} s, from {_utc(self.start)} to {_utc(self.end)} ({self.reason})"
        )


class Gaps:
    """The gaps that are open; each is handed to ``report`` when it has ended."""

    def __init__(self, exchange: str, report: Callable[[Gap], None]) -> None:
        self._exchange = exchange
        self._report = report
        self._open: dict[Key, tuple[float, Reason]] = {}
        self._ended: dict[Key, tuple[float, float, Reason]] = {}
        self._flush: asyncio.TimerHandle | None = None

    def begin(self, key: Key, start: float, reason: Reason) -> None:
        """Nothing is seen of ``key`` from ``start`` on; a gap that is open already goes on."""
        if ended := self._ended.pop(key, None):
            start, _, reason = ended  # it ended a moment ago: one gap, not two
        self._open.setdefault(key, (start, reason))

    def end(self, key: Key, end: float) -> None:
        """``key`` is seen again from ``end`` on."""
        if key not in self._open:
            return
        start, reason = self._open.pop(key)
        self._ended[key] = (start, end, reason)
        if not self._flush:
            self._flush = asyncio.get_running_loop().call_later(GATHER, self.flush)

    def flush(self) -> None:
        """Reports what has ended, as few gaps as can say it."""
        if self._flush:
            self._flush.cancel()
            self._flush = None
        ended, self._ended = self._ended, {}
        for gap in _merge(self._exchange, ended):
            self._report(gap)


def _merge(exchange: str, ended: dict[Key, tuple[float, float, Reason]]) -> Iterable[Gap]:
    """One gap for all subscriptions that were lost in one moment; their ends differ by GATHER at most."""
    lost: dict[tuple[float, Reason], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    ends: dict[tuple[float, Reason], float] = defaultdict(float)
    for (channel, symbol), (start, end, reason) in ended.items():
        lost[start, reason][channel].append(symbol)
        ends[start, reason] = max(ends[start, reason], end)
    for (start, reason), symbols_of in lost.items():
        channels_of: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for channel, symbols in symbols_of.items():
            channels_of[tuple(sorted(symbols))].append(channel)
        for symbols_alike, channels in channels_of.items():
            yield Gap(
                exchange=exchange,
                channels=tuple(sorted(channels)),
                symbols=symbols_alike,
                start=start,
                end=ends[start, reason],
                reason=reason,
            )


def _utc(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
