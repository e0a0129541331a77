"""Every subscription (channel, symbol) is confirmed by the exchange's word or by data, or it is a fault."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable

from collector.gaps import Gaps, Key, Reason

LOG = logging.getLogger(__name__)

#: Seconds after which somebody should know that a subscription has not been confirmed.
PATIENCE = 60.0

BOOKS = frozenset({"l2_book", "l3_book"})


class Subscriptions:
    """What was asked for, and what the exchange made of it.

    Attributes:
        confirmed: the exchange said yes, or sent data, on the connection that there is now.
        pending: it did neither yet; with the time (seconds, UTC) since when.
        refused: it said no; with its reason.
        awaited: by channel, the symbols whose first data on this connection has not come.
    """

    def __init__(self, gaps: Gaps, patience: float = PATIENCE) -> None:
        self.confirmed: set[Key] = set()
        self.pending: dict[Key, float] = {}
        self.refused: dict[Key, str] = {}
        self.awaited: dict[str, set[str]] = defaultdict(set)
        self._gaps = gaps
        self._patience = patience
        self._warned: set[Key] = set()
        self._told: dict[Key, str] = {}

    def ask(self, keys: Iterable[Key]) -> None:
        """These are being asked for, on a connection that is being made."""
        for key in keys:
            self.refused.pop(key, None)
            self._wait(key)

    def lost(self, keys: Iterable[Key], seen: float, reason: Reason) -> None:
        """The connection of these is gone; everything up to ``seen`` (seconds, UTC) had arrived."""
        for key in keys:
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
            if key in self.confirmed and key[1] not in self.awaited[key[0]]:
                self._gaps.end(key, end)

    def acknowledge(self, channel: str, symbol: str) -> None:
        """The exchange says that the subscription stands."""
        if (
            self._confirm((channel, symbol)) and channel not in BOOKS
        ):  # a book is seen again once it is complete
            self._gaps.end((channel, symbol), time.time())

    def arrived(self, channel: str, symbol: str, receipt: float) -> None:
        """The first data of a subscription has come."""
        self.awaited[channel].discard(symbol)
        self._confirm((channel, symbol))
        self._gaps.end((channel, symbol), receipt)

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
        self.refused[key] = reason
        if self._told.get(key) != reason:
            self._told[key] = reason
            LOG.error("the exchange refuses %s %s: %s", channel, symbol, reason)

    def drop(self, keys: Iterable[Key]) -> None:
        """Nothing is expected of these any more; their gaps, if they were ever seen, stay open."""
        for key in keys:
            self.pending.pop(key, None)
            self.refused.pop(key, None)
            self.awaited[key[0]].discard(key[1])

    async def watch(self) -> None:
        """Says once of each subscription that it stays unconfirmed; for ever."""
        while True:
            await asyncio.sleep(self._patience / 10)
            late = time.time() - self._patience
            overdue = {key for key, since in self.pending.items() if since < late} - self._warned
            if overdue:
                self._warned |= overdue
                names = ", ".join(f"{channel} {symbol}" for channel, symbol in sorted(overdue))
                LOG.warning("not confirmed within %.0f s, and still waited for: %s", self._patience, names)

    def _wait(self, key: Key) -> None:
        self.confirmed.discard(key)
        self.pending.setdefault(key, time.time())
        self.awaited[key[0]].add(key[1])

    def _confirm(self, key: Key) -> bool:
        if key not in self.pending:
            return key in self.confirmed
        del self.pending[key]
        self._warned.discard(key)
        self._told.pop(key, None)
        self.confirmed.add(key)
        return True
