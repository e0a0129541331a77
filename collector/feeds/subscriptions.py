"""Every subscription (channel, symbol) is confirmed, or it is a fault.

Where data must come, only data confirms: exchanges acknowledge what they never send. Where an instrument may
be without any for long, as it is of trades, the exchange's acknowledgement does too.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

from collector.gap_records import Reason
from collector.gaps.tracker import Gaps
from collector.records import Key

LOG = logging.getLogger(__name__)

#: Seconds after which somebody should know that a subscription has not been confirmed.
PATIENCE = 60.0

#: Seconds after which it is told that an acknowledged subscription, which may be quiet, has brought nothing.
LONG_SILENCE = 900.0

#: Seconds that a gap stays open after it has ended, while the next record may tell that nothing is missing.
BRIDGING = 30.0

BOOKS = frozenset({"l2_book", "l3_book"})
#: Channels on which something comes when the market moves, not by the clock: how often depends on the market.
CHANGES = BOOKS | {"ticker", "l1_book"}
#: Their silence is unusual after so many times the longest one so far, of so many; and after so many trades.
UNUSUAL, FEW, TRADES = 20, 30, 3
#: Channels on which data must come, of an exchange that does not say it by itself.
FLOWING = BOOKS | {"ticker", "l1_book", "funding", "index", "open_interest"}


class Subscriptions:
    """What was asked for, and what the exchange made of it.

    Args:
        flows: channels on which data must come.
        quiet: seconds without data that are normal, of channels on which longer ones are not; where the
            market decides, only what is unusual for the symbol is not.
        checked: channels of which the next message tells whether one before it is missing.
        with_trades: channels that change with each trade.
        patience: seconds after which somebody should know that a subscription has not been confirmed.

    Attributes:
        confirmed: the exchange said yes, or sent data, on the connection that there is now.
        pending: it did not yet; with the time (seconds, UTC) since when.
        acknowledged: those of the pending ones to which it said yes, and of which no data has come.
        refused: it said no; with its reason.
        awaited: by channel, the symbols of which ``arrived`` should hear when data comes.
    """

    def __init__(
        self,
        gaps: Gaps,
        flows: Iterable[str] = FLOWING,
        quiet: Mapping[str, float] | None = None,
        *,
        checked: Iterable[str] = (),
        with_trades: Iterable[str] = BOOKS,
        patience: float = PATIENCE,
    ) -> None:
        self.confirmed: set[Key] = set()
        self.pending: dict[Key, float] = {}
        self.acknowledged: set[Key] = set()
        self.refused: dict[Key, str] = {}
        self.awaited: dict[str, set[str]] = defaultdict(set)
        self._notice = ""
        self._gaps = gaps
        self._flows = frozenset(flows)
        self._quiet = quiet or {}
        self._checked = frozenset(checked)
        self._with_trades = frozenset(with_trades)
        self._heard: dict[Key, tuple[float, float]] = {}  # data: its receipt, and time.monotonic() then
        self._silences: dict[Key, tuple[int, float]] = {}  # how many were seen, and the longest (seconds)
        self._traded: dict[
            Key, int
        ] = {}  # trades of the symbol since ``key``, that changes with them, is silent
        self._bridged: dict[Key, float] = {}  # ended then (seconds, UTC), unless nothing is missing
        self._doubted: dict[Key, float] = {}  # checked, and unusually silent since, by time.monotonic()
        self._patience = patience
        self._since: dict[Key, float] = {}  # acknowledged, by time.time()
        self._warned: set[Key] = set()
        self._warned_of_silence: set[Key] = set()
        self._told: dict[Key, str] = {}

    def ask(self, keys: Iterable[Key]) -> None:
        """These are being asked for, on a connection that is being made."""
        for key in keys:
            self.refused.pop(key, None)
            self._wait(key)

    def lost(self, keys: Iterable[Key], seen: float, reason: Reason) -> None:
        """The connection of these is gone; everything up to ``seen`` (seconds, UTC) had arrived."""
        for key in keys:
            self._doubted.pop(key, None)
            self._bridged.pop(key, None)
            if key in self.confirmed:
                self._gaps.begin(key, seen, reason)
                self._wait(key)

    def missed(self, keys: Iterable[Key], seen: float) -> None:
        """A message after ``seen`` (seconds, UTC) could not be handled; it may have been any of these's."""
        for key in keys:
            self._gaps.begin(key, seen, "malformed")

    def seen(self, keys: Iterable[Key], end: float) -> None:
        """The last such message came at ``end`` (seconds, UTC)."""
        for key in keys:
            if key in self.confirmed and (key in self._heard or key[1] not in self.awaited[key[0]]):
                self._gaps.end(key, end)

    @property
    def notice(self) -> str:
        """What the exchange said last that names no subscription; empty where nothing is pending."""
        return self._notice if self.pending else ""

    @notice.setter
    def notice(self, text: str) -> None:
        self._notice = text

    @property
    def silent(self) -> list[Key]:
        """Confirmed by the exchange's word alone: no data has come of these."""
        return [key for key in self.confirmed if key not in self._heard]

    def acknowledge(
        self, channel: str, symbol: str, receipt: float | None = None, *, bridged: bool = False
    ) -> None:
        """The exchange says that the subscription stands; where data must come, that is not enough.

        What comes after ``receipt`` (seconds, UTC; now, where nobody knows it) is seen. Who is busy reads the
        exchange's word later than it came; what came in between is older than now. With ``bridged``, the next
        record tells whether anything is missing.
        """
        key = channel, symbol
        self._since.setdefault(key, time.time())
        if channel in self._flows:
            if key in self.pending:
                self.acknowledged.add(key)
        elif self._confirm(key):
            self._end(key, time.time() if receipt is None else receipt, bridged=bridged)

    def arrived(
        self,
        channel: str,
        symbol: str,
        receipt: float,
        *,
        missed_until: float | None = None,
        bridged: bool = False,
    ) -> None:
        """Data of a subscription that was awaited has come; it stands, though the exchange refused it.

        Where it was lost, something is missing before ``receipt`` (seconds, UTC), or before ``missed_until``
        where that is known: 0 where nothing is. With ``bridged``, the next record tells it.
        """
        key = channel, symbol
        if self.refused.pop(key, None):
            self.pending[key] = receipt
        if not bridged:
            self.awaited[channel].discard(symbol)
        self._note(key, receipt)
        self._confirm(key)
        if since := self._doubted.pop(key, None):
            self._learn(key, time.monotonic() - since)
            self._gaps.withdraw(key)
        if missed_until == 0:
            self._gaps.withdraw(key)
        self._end(key, receipt if missed_until is None else missed_until, bridged=bridged)

    def give_up_bridges(self, now: float) -> None:
        """End the gaps whose next record has not come by ``now`` (seconds, UTC); the clock may step back."""
        for key in [key for key, end in self._bridged.items() if not 0 <= now - end <= BRIDGING]:
            self._gaps.end(key, self._bridged.pop(key))

    def _end(self, key: Key, end: float, *, bridged: bool) -> None:
        if bridged and self._gaps.is_open(key):
            self._bridged.setdefault(key, end)
        else:
            self._gaps.end(key, min(end, self._bridged.pop(key, end)))

    def begins_anew(self, key: Key) -> None:
        """What comes next of ``key`` does not tell whether something before it is missing."""
        self._doubted.pop(key, None)

    def doubt(self, channel: str, symbol: str) -> None:
        """The subscription stands, but nothing can come of it now; only data confirms it again."""
        if (channel, symbol) in self.confirmed:
            self._wait((channel, symbol))

    def refuse(self, channel: str, symbol: str, reason: str) -> None:
        """The exchange says no."""
        key = (channel, symbol)
        if key not in self.pending:
            return
        del self.pending[key]
        self.acknowledged.discard(key)
        self.refused[key] = reason
        if self._told.get(key) != reason:
            self._told[key] = reason
            LOG.error("the exchange refuses %s %s: %s", channel, symbol, reason)

    def drop(self, keys: Iterable[Key]) -> None:
        """Nothing is expected of these any more; their gaps, if they were ever seen, stay open."""
        for key in keys:
            self.pending.pop(key, None)
            self.acknowledged.discard(key)
            self.refused.pop(key, None)
            self.awaited[key[0]].discard(key[1])
            self._since.pop(key, None)
            self._heard.pop(key, None)
            self._silences.pop(key, None)
            self._traded.pop(key, None)
            self._doubted.pop(key, None)
            self._bridged.pop(key, None)
            self._told.pop(key, None)
            self._warned.discard(key)
            self._warned_of_silence.discard(key)

    async def watch(self) -> None:
        """Say once of each subscription that it stays unconfirmed, or without data; for ever."""
        while True:
            await asyncio.sleep(self._patience / 10)
            self._look_for_silence()
            self._tell_what_is_pending(time.time() - self._patience)
            self._tell_what_is_silent(time.time() - LONG_SILENCE)

    def _look_for_silence(self) -> None:
        """One channel of a symbol may fall silent beside others: then some of it may be missing.

        Where the next message tells whether something is, there is no gap if nothing was.
        """
        now = time.monotonic()
        for key, (receipt, heard) in list(self._heard.items()):
            channel, symbol = key
            if channel not in self._quiet or key not in self.confirmed:
                continue
            silence = now - heard
            if symbol not in self.awaited[channel]:
                self.awaited[channel].add(symbol)
            elif silence > self._quiet[channel]:
                if self._is_unusual(key, silence):
                    LOG.warning("nothing came of %s %s for %.0f s", channel, symbol, silence)
                    self.lost([key], receipt, "stale")
                    if channel in self._checked:
                        self._doubted[key] = heard
                elif channel in self._with_trades:
                    self._traded.setdefault(key, 0)
                    self.awaited["trades"].add(symbol)

    def _is_unusual(self, key: Key, silence: float) -> bool:
        """Return whether a silence that is long for a lively market is long for this one.

        Where there are trades, and no change of what changes with them, it is not the market that is quiet.
        """
        if key[0] not in CHANGES:
            return True
        count, longest = self._silences.get(key, (0, 0.0))
        if self._traded.get(key, 0) >= TRADES:
            return True
        return count >= FEW and silence > UNUSUAL * longest

    def _learn(self, key: Key, silence: float) -> None:
        count, longest = self._silences.get(key, (0, 0.0))
        self._silences[key] = count + 1, max(longest, silence)

    def _note(self, key: Key, receipt: float) -> None:
        """Note that data has come."""
        channel, symbol = key
        now = time.monotonic()
        if channel in CHANGES and key in self._heard:
            self._learn(key, now - self._heard[key][1])
        if channel == "trades" and key in self._heard:
            for silent in [(each, symbol) for each in CHANGES if (each, symbol) in self._traded]:
                self._traded[silent] += 1
        self._traded.pop(key, None)
        self._heard[key] = receipt, now

    def _tell_what_is_pending(self, late: float) -> None:
        overdue = {key for key, since in self.pending.items() if since < late} - self._warned
        self._warned |= overdue
        said = f"; the exchange says: {self.notice}" if self.notice else ""
        for keys, what in (
            (overdue & self.acknowledged, "acknowledged, but no data has come"),
            (overdue - self.acknowledged, "not confirmed"),
        ):
            if keys:
                waiting = f"{what} within {self._patience:.0f} s, and still waited for"
                LOG.warning("%s: %s%s", waiting, _named(keys), said)

    def _tell_what_is_silent(self, late: float) -> None:
        silent = {key for key in self.silent if self._since.get(key, late) < late} - self._warned_of_silence
        self._warned_of_silence |= silent
        if silent:
            minutes = LONG_SILENCE / 60
            LOG.warning("acknowledged, and no data in %.0f minutes: %s", minutes, _named(silent))

    def _wait(self, key: Key) -> None:
        self.confirmed.discard(key)
        self.acknowledged.discard(key)
        self._since.pop(key, None)
        self._heard.pop(key, None)
        self.pending.setdefault(key, time.time())
        self.awaited[key[0]].add(key[1])

    def _confirm(self, key: Key) -> bool:
        if key not in self.pending:
            return key in self.confirmed
        del self.pending[key]
        self.acknowledged.discard(key)
        self._warned.discard(key)
        self._told.pop(key, None)
        self.confirmed.add(key)
        return True


def _named(keys: Iterable[Key]) -> str:
    return ", ".join(f"{channel} {symbol}" for channel, symbol in sorted(keys))
