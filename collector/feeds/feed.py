"""Everything that comes from one exchange: connections are opened, kept up, and follow what is listed.

Supervision works with a ``Feed``, of which there are two kinds: one that drives an exchange that we speak to
ourselves (``direct``), and one that drives a class of cryptofeed's (``through_cryptofeed``).
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from collector import connection_pace
from collector.feeds import reference
from collector.feeds.access import Access, Listed
from collector.feeds.connection import Connection, Patience
from collector.feeds.subscriptions import Subscriptions
from collector.gaps.recorder import Recorder
from collector.gaps.tracker import Gaps
from collector.receiver import Receiver
from collector.records import BOOKS, Key
from collector.settings import SettingsError

LOG = logging.getLogger(__name__)


class Feed(ABC):
    """Everything that comes from one exchange, handed to ``receiver``.

    Attributes:
        subscriptions: what was asked for, and what became of it.
        gaps: what was not seen.
        connections: the connections that there are; none before the reference data has come.
        idle: why there is nothing to receive, where that is as it should be.
        failure: why the last attempt to read the reference data failed; None if it did not.
        listed: what the exchange lists, where it was asked already before this begins.
    """

    def __init__(
        self,
        access: Access,
        receiver: Receiver,
        patience: Patience | None,
        *,
        flows: Iterable[str],
        quiet: Mapping[str, float] | None = None,
        checked: Iterable[str] = (),
        with_trades: Iterable[str] = BOOKS,
        with_market: Iterable[str] = (),
    ) -> None:
        self._access = access
        self._settings = access.settings
        self._receiver = receiver
        self._patience = patience or Patience()
        self._running: asyncio.Task[Any] | None = None
        self._asked = set[Key]()
        self.gaps = Gaps(self._settings.exchange, Recorder(receiver))
        self.subscriptions = Subscriptions(
            self.gaps, flows, quiet, checked=checked, with_trades=with_trades, with_market=with_market
        )
        self.connections: list[Connection] = []
        self.idle: str | None = None
        self.failure: str | None = None
        self.listed: Listed | None = None

    @abstractmethod
    async def _open(
        self, listed: Listed, symbols: Sequence[str], channels: Sequence[str]
    ) -> Sequence[Connection]:
        """Return connections, not begun yet, that carry the channels of the symbols.

        Raises SettingsError if the exchange does not have what is asked for.
        """

    async def run(self) -> None:
        """Receive, until cancelled. Raises SettingsError if the exchange does not have what is asked for."""
        self._running = asyncio.current_task()
        try:
            await self._wait_for_turn()
            listed, self.listed = self.listed or await self._list(), None
            symbols = reference.select(self._settings, listed.types, self._receiver.marks)
            reference.remember(self._settings, listed.types, self._receiver.marks)
            self._tell_what_is_gone(listed)
            channels = self._settings.channels
            opened = await self._retried(listed, symbols, channels) if symbols else []
            async with asyncio.TaskGroup() as group:
                group.create_task(self.subscriptions.watch())
                if opened:
                    self._begin(opened, symbols, channels, group)
                await self._follow(group)
        finally:
            for connection in self.connections:
                await connection.close()
            await self._access.close()

    async def stop(self) -> None:
        """End ``run`` and close every connection."""
        if self._running and not self._running.done():
            self._running.cancel()
            await asyncio.wait({self._running})

    def _turn(self, connection: int) -> float:
        return connection_pace.turn(self._settings.exchange, self._settings.shard, connection)

    async def _wait_for_turn(self) -> None:
        """Other shards may begin in the same moment."""
        if seconds := self._turn(0):
            LOG.info("waiting %.1f s for our turn: %s limits connections", seconds, self._settings.exchange)
            await asyncio.sleep(seconds)

    async def _list(self) -> Listed:
        what = f"list of {self._settings.exchange}'s symbols"
        listed, patience = self._access.listed, self._access.patience
        return await reference.retried(what, listed, note=self._note, patience=patience)

    async def _retried(
        self, listed: Listed, symbols: Sequence[str], channels: Sequence[str]
    ) -> Sequence[Connection]:
        what = f"way into {self._settings.exchange}"
        return await reference.retried(what, lambda: self._open(listed, symbols, channels), note=self._note)

    def _note(self, failure: str | None) -> None:
        self.failure = failure

    async def _follow(self, group: asyncio.TaskGroup) -> None:
        """Read the exchange's list at intervals, until cancelled."""
        while True:
            if not self.connections:
                self.idle = f"nothing to record: none of the symbols is of shard {self._settings.shard}"
                LOG.info("%s", self.idle)
            await asyncio.sleep(self._settings.symbols_refresh)
            listed = await self._list()
            wanted = reference.wanted(self._settings, listed.types)
            carried = {symbol for connection in self.connections for _, symbol in connection.keys}
            if carried and carried.isdisjoint(wanted):
                LOG.warning("%s lists none of our symbols: nothing is changed", self._settings.exchange)
                continue
            for connection in self.connections:
                connection.look(carried.difference(wanted))
                self._asked -= connection.left_out
                connection.left_out.clear()
            await self._part_with_the_empty()
            await self._add(listed, wanted, group)

    async def _part_with_the_empty(self) -> None:
        for connection in self.connections:
            if not connection.keys:
                self.gaps.parted(connection)
                await connection.close()
        self.connections = [connection for connection in self.connections if connection.keys]

    async def _add(self, listed: Listed, wanted: list[str], group: asyncio.TaskGroup) -> None:
        """Subscribe to what was not asked for yet, on connections of its own."""
        missing: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for symbol in wanted:
            missing[tuple(c for c in self._settings.channels if (c, symbol) not in self._asked)].append(
                symbol
            )
        missing.pop((), None)
        for channels, symbols in missing.items():
            LOG.info("%s lists %s now: subscribing", self._settings.exchange, ", ".join(symbols))
            try:
                opened = await self._retried(listed, symbols, channels)
            except SettingsError as error:
                LOG.error("%s", error)  # noqa: TRY400 - it says all; the next look tries again
            else:
                self._begin(opened, symbols, channels, group)

    def _tell_what_is_gone(self, listed: Listed) -> None:
        """Of what earlier processes saw, and this one would, had the exchange not delisted it."""
        gone = {symbol for _, symbol in self.gaps.earlier if symbol not in listed.types}
        wanted = [symbol for symbol in gone if self._settings.wants(symbol)]
        self.gaps.delisted((channel, symbol) for channel in self._settings.channels for symbol in wanted)

    def _begin(
        self,
        opened: Sequence[Connection],
        symbols: Iterable[str],
        channels: Sequence[str],
        group: asyncio.TaskGroup,
    ) -> None:
        """Start connections, each at its turn."""
        self.idle = None
        asked = {(channel, symbol) for channel in channels for symbol in symbols}
        carried = {key for connection in opened for key in connection.keys}
        self._asked |= asked
        self.subscriptions.ask(asked)
        for channel, symbol in sorted(asked - carried):
            reason = f"{self._settings.exchange} sends no {channel} for it"
            self.subscriptions.refuse(channel, symbol, reason)
        last = self._turn(len(opened) - 1) - self._turn(0)
        if last >= 1:
            exchange = self._settings.exchange
            LOG.info("opening %d connections within %.0f s: %s limits them", len(opened), last, exchange)
        for position, connection in enumerate(opened):
            self.connections.append(connection)
            self.gaps.carried(connection, connection.keys)
            group.create_task(connection.run(self._turn(position) - self._turn(0)))
        self.gaps.all_carried()

    def renew_books(self, keys: Iterable[Key]) -> None:
        """Have a complete book follow the next change of each of these that is one."""
        symbols = {symbol for channel, symbol in keys if channel in BOOKS}
        for connection in self.connections:
            connection.renew_books(symbols)
