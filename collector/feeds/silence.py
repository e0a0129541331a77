"""One channel of a symbol may fall silent beside others: what silence is unusual, and whose.

Of some channels data comes by the clock. Of those that change when the market moves, how often depends on
the market: their silence is unusual after so many times the longest one so far, or beside trades.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from collector.records import BOOKS, Key

#: Channels on which something comes when the market moves, not by the clock, on every exchange.
CHANGES = BOOKS | {"ticker", "l1_book"}
#: Their silence is unusual after so many times the longest one so far, of so many; and after so many trades.
UNUSUAL, FEW, TRADES = 20, 30, 3


class Silent(NamedTuple):
    """A subscription that is unusually silent: its last data (seconds, UTC), and for how many seconds."""

    key: Key
    receipt: float
    lasts: float


class Silences:
    """What was heard of each subscription, and when it was silent for how long.

    Args:
        quiet: seconds without data that are normal, of channels on which longer ones are not; where the
            market decides, only what is unusual for the symbol is not.
        checked: channels of which the next message tells whether one before it is missing.
        with_trades: channels that change with each trade.
        with_market: channels, beside ``CHANGES``, on which something comes when the market moves.
    """

    def __init__(
        self,
        quiet: Mapping[str, float],
        checked: Iterable[str],
        with_trades: Iterable[str],
        with_market: Iterable[str] = (),
    ) -> None:
        self._quiet, self._checked = quiet, frozenset(checked)
        self._with_market = CHANGES.union(with_market)
        self._with_trades = frozenset(with_trades)
        self._heard: dict[Key, tuple[float, float]] = {}  # data: its receipt, and time.monotonic() then
        self._lengths: dict[Key, tuple[int, float]] = {}  # how many were seen, and the longest (seconds)
        self._trades: dict[Key, int] = {}  # of the symbol since ``key``, that changes with them, is silent
        self._doubted: dict[Key, float] = {}  # checked, and unusually silent since, by time.monotonic()

    def __contains__(self, key: Key) -> bool:
        """Return whether data of ``key`` has come since it was asked for."""
        return key in self._heard

    def hear(self, key: Key, receipt: float) -> None:
        """Note that data has come."""
        channel, symbol = key
        now = time.monotonic()
        if channel in self._with_market and key in self._heard:
            self._learn(key, now - self._heard[key][1])
        if channel == "trades" and key in self._heard:
            for silent in [(each, symbol) for each in CHANGES if (each, symbol) in self._trades]:
                self._trades[silent] += 1
        self._trades.pop(key, None)
        self._heard[key] = receipt, now

    def interrupt(self, key: Key) -> None:
        """``key`` is asked for again, and silent until it begins."""
        self._heard.pop(key, None)

    def forget(self, key: Key) -> None:
        """Nothing is expected of ``key`` any more."""
        for known in (self._heard, self._lengths, self._trades, self._doubted):
            known.pop(key, None)

    def look(self, confirmed: AbstractSet[Key], awaited: Mapping[str, set[str]]) -> Iterator[Silent]:
        """Yield what of the confirmed is unusually silent; await what would end a long silence."""
        now = time.monotonic()
        for key, (receipt, heard) in list(self._heard.items()):
            channel, symbol = key
            if channel not in self._quiet or key not in confirmed:
                continue
            lasts = now - heard
            if symbol not in awaited[channel]:
                awaited[channel].add(symbol)
            elif lasts > self._quiet[channel]:
                if self._is_unusual(key, lasts):
                    yield Silent(key, receipt, lasts)
                elif channel in self._with_trades:
                    self._trades.setdefault(key, 0)
                    awaited["trades"].add(symbol)

    def doubt(self, silent: Silent) -> None:
        """Have the next message of it tell whether something is missing, where it can."""
        if silent.key[0] in self._checked:
            self._doubted[silent.key] = time.monotonic() - silent.lasts

    def lift_doubt(self, key: Key) -> bool:
        """Data of ``key`` has come that follows the last; return whether there was a doubt."""
        since = self._doubted.pop(key, None)
        if since is not None:
            self._learn(key, time.monotonic() - since)
        return since is not None

    def drop_doubt(self, key: Key) -> None:
        """What comes next of ``key`` does not tell whether something before it is missing."""
        self._doubted.pop(key, None)

    def _is_unusual(self, key: Key, silence: float) -> bool:
        """Return whether a silence that is long for a lively market is long for this one.

        Where there are trades, and no change of what changes with them, it is not the market that is quiet.
        """
        if key[0] not in self._with_market or self._trades.get(key, 0) >= TRADES:
            return True
        count, longest = self._lengths.get(key, (0, 0.0))
        return count >= FEW and silence > UNUSUAL * longest

    def _learn(self, key: Key, silence: float) -> None:
        count, longest = self._lengths.get(key, (0, 0.0))
        self._lengths[key] = count + 1, max(longest, silence)
