"""Every subscription (channel, symbol) is confirmed, or it is a fault.

Where data must come, only data confirms: exchanges acknowledge what they never send. Where an instrument may
be without any for long, as it is of trades, the exchange's acknowledgement does too.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping

from collector.feeds.overdue import PATIENCE, Overdue
from collector.feeds.silence import Silences
from collector.gap_records import Reason
from collector.gaps.tracker import Gaps
from collector.records import BOOKS, Key

LOG = logging.getLogger(__name__)

#: Seconds that a gap stays open after it has ended, while the next record may tell that nothing is missing.
BRIDGING = 30.0

#: Channels on which data must come, of an exchange that does not say it by itself.
FLOWING = BOOKS | {"ticker", "l1_book", "funding", "index", "open_interest"}


class Subscriptions:
    """What was asked for, and what the exchange made of it.

    Args:
        flows: channels on which data must come.
        quiet, checked, with_trades, with_market: those of ``Silences``.
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
        with_market: Iterable[str] = (),
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
        self._silences = Silences(quiet or {}, checked, with_trades, with_market)
        self._overdue = Overdue(patience)
        self._bridged: dict[Key, float] = {}  # ended then (seconds, UTC), unless nothing is missing
        self._told: dict[Key, str] = {}  # why what was refused

    def ask(self, keys: Iterable[Key]) -> None:
        """These are being asked for, on a connection that is being made."""
        for key in keys:
            self.refused.pop(key, None)
            self._wait(key)

    def lost(self, keys: Iterable[Key], seen: float, reason: Reason) -> None:
        """The connection of these is gone; everything up to ``seen`` (seconds, UTC) had arrived."""
        for key in keys:
            self._silences.drop_doubt(key)
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
            if key in self.confirmed and (key in self._silences or key[1] not in self.awaited[key[0]]):
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
        return [key for key in self.confirmed if key not in self._silences]

    def acknowledge(
        self, channel: str, symbol: str, receipt: float | None = None, *, bridged: bool = False
    ) -> None:
        """The exchange says that the subscription stands; where data must come, that is not enough.

        What comes after ``receipt`` (seconds, UTC; now, where nobody knows it) is seen. Who is busy reads the
        exchange's word later than it came; what came in between is older than now. With ``bridged``, the next
        record tells whether anything is missing.
        """
        key = channel, symbol
        self._overdue.acknowledged(key)
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
        self._silences.hear(key, receipt)
        self._confirm(key)
        if self._silences.lift_doubt(key) or missed_until == 0:
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
        self._silences.drop_doubt(key)

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
            self._bridged.pop(key, None)
            self._told.pop(key, None)
            self._silences.forget(key)
            self._overdue.forget(key)

    async def watch(self) -> None:
        """Log once for each subscription that it stays unconfirmed, or without data, until cancelled."""
        while True:
            await asyncio.sleep(self._overdue.patience / 10)
            self._look_for_silence()
            self._overdue.tell_what_is_pending(self.pending, self.acknowledged, self.notice)
            self._overdue.tell_what_is_silent(self.silent)

    def _look_for_silence(self) -> None:
        """Some of what is silent may be missing.

        Where the next message tells whether something is, there is no gap if nothing was.
        """
        for silent in self._silences.look(self.confirmed, self.awaited):
            (channel, symbol), receipt, lasts = silent
            LOG.warning("no %s of %s for %.0f s", channel, symbol, lasts)
            self.lost([silent.key], receipt, "stale")
            self._silences.doubt(silent)

    def _wait(self, key: Key) -> None:
        self.confirmed.discard(key)
        self.acknowledged.discard(key)
        self._overdue.asked(key)
        self._silences.interrupt(key)
        self.pending.setdefault(key, time.time())
        self.awaited[key[0]].add(key[1])

    def _confirm(self, key: Key) -> bool:
        if key not in self.pending:
            return key in self.confirmed
        del self.pending[key]
        self.acknowledged.discard(key)
        self._overdue.confirmed(key)
        self._told.pop(key, None)
        self.confirmed.add(key)
        return True
