"""Candles of exchanges that do not say when one is closed: when the next begins, or it is long over."""

from collections.abc import Sequence

from msgspec import structs

from collector.records import Candle
from collector.times import SECOND

#: Nanoseconds between two ticks, which come every second, beyond which the clock was set.
_LEAP = 60 * SECOND
#: Nanoseconds after a candle's end in which the exchange may still tell of its trades.
_GRACE = 10 * SECOND


class RunningCandles:
    """The candle under way of each symbol, in the state in which it was told of last."""

    def __init__(self) -> None:
        self._running: dict[str, Candle] = {}
        self._time: int | None = None  # the exchange's, where it tells it: our clock may be ahead of it
        self._ahead = 0  # nanoseconds by which our clock is ahead of the exchange's, as far as is known
        self._ticked: int | None = None

    def hear(self, time: int) -> None:
        """Note the exchange's time, of which it tells all the time."""
        self._time = time

    def compare(self, time: int, receipt: int) -> None:
        """Note the exchange's time, of which it tells now and then, and our own of the same moment."""
        self._ahead, self._ticked = receipt - time, receipt

    def take(self, candle: Candle) -> Candle | None:
        """Take the state of a candle; return the one before, if this begins a new one."""
        before = self._running.get(candle.symbol)
        if before and candle.start < before.start:
            return None
        self._running[candle.symbol] = candle
        if before is None or before.start == candle.start:
            return None
        return _closed(before, candle.receipt_timestamp)

    def over(self, now: int) -> Sequence[Candle]:
        """Return the candles that have been over for long enough, where no trade has begun the next one."""
        leap = 0 if self._ticked is None else now - self._ticked
        if not 0 <= leap <= _LEAP:
            self._ahead += leap
        self._ticked = now
        now, receipt = now - self._ahead if self._time is None else self._time, now
        over = [candle for candle in self._running.values() if now > candle.stop + _GRACE]
        for candle in over:
            del self._running[candle.symbol]
        return [_closed(candle, receipt) for candle in over]


def _closed(candle: Candle, receipt: int) -> Candle:
    return structs.replace(candle, timestamp=candle.stop, receipt_timestamp=receipt, closed=True)
