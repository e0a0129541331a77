"""The exchange's side of a collector: cryptofeed's feeds under our supervision.

cryptofeed knows the protocols: which connections to make, what to subscribe to, how to read a message. What
happens when something fails is ours: see ``connection``, ``subscriptions``, ``reference`` and ``network``.
"""

import asyncio
import logging
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, override

from cryptofeed.exchanges import EXCHANGE_MAP

from collector import pace
from collector.feeds import binance, bybit, coinbase, huobi, kraken, kucoin, okx, poloniex, reference
from collector.feeds.connection import Connection, Patience
from collector.feeds.malformed import QUIET, Malformed
from collector.feeds.network import Network
from collector.feeds.subscriptions import Subscriptions
from collector.feeds.supervised import Supervised
from collector.gaps import Gaps, Key
from collector.receiver import Receiver
from collector.settings import Fault, Settings, SettingsError

LOG = logging.getLogger(__name__)

_CORRECTED: Mapping[str, type[Supervised]] = {
    "COINBASE": coinbase.Coinbase,
    "KRAKEN": kraken.Kraken,
    "KUCOIN": kucoin.Kucoin,
    "OKX": okx.Okx,
    "BYBIT": bybit.Bybit,
    "POLONIEX": poloniex.Poloniex,
    "BINANCE": binance.Binance,
    "BINANCE_US": binance.BinanceUS,
    "BINANCE_TR": binance.BinanceTR,
    "BINANCE_FUTURES": binance.BinanceFutures,
    "BINANCE_DELIVERY": binance.BinanceDelivery,
}

#: Exchanges, as cryptofeed has them, whose books notice that a message is missing.
_CHECKING_BOOKS = frozenset(
    {
        "ASCENDEX", "BEQUANT", "BIT.COM", "BITFINEX", "BITGET", "BLOCKCHAIN", "DERIBIT", "FMFW", "GATEIO",
        "HITBTC", "INDEPENDENT_RESERVE", "KRAKEN_FUTURES", "OKCOIN",
    }
)  # fmt: skip


class ExchangeFeed:
    """Everything that comes from one exchange, handed to ``receiver``.

    Attributes:
        subscriptions: what was asked for, and what became of it.
        gaps: what was not seen.
        connections: the connections that there are; none before the reference data has come.
        idle: why there is nothing to receive, where that is as it should be.
    """

    def __init__(self, settings: Settings, receiver: Receiver, patience: Patience | None = None) -> None:
        self._settings = settings
        self._receiver = receiver
        self._patience = patience or Patience()
        self._network = Network(settings)
        self.gaps = Gaps(settings.exchange, receiver)
        self._running: asyncio.Task[Any] | None = None
        self.subscriptions = Subscriptions(self.gaps)
        self.connections: list[Connection] = []
        self.idle: str | None = None
        self._asked: set[Key] = set()
        self._feeds: list[Any] = []

    async def run(self) -> None:
        """Receives, for ever. Raises SettingsError where the exchange does not have what is asked for."""
        self._running = asyncio.current_task()
        feed_class = supervised(self._settings.exchange)
        feed_class.http_sync = self._network.requests()
        await self._wait_for_turn()
        listed = await self._list(feed_class)
        symbols = reference.select(self._settings, listed, self._receiver)
        self._tell_what_is_gone(listed)
        part = await self._part(feed_class, symbols, self._settings.channels) if symbols else None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.subscriptions.watch())
                if part:
                    self._begin(part, self._settings.channels, group)
                await self._follow(feed_class, group)
        finally:
            for feed in self._feeds:
                await feed.http_conn.close()

    def _turn(self, connection: int) -> float:
        return pace.turn(self._settings.exchange, self._settings.shard, connection)

    async def _wait_for_turn(self) -> None:
        """Other shards may begin in the same moment."""
        if seconds := self._turn(0):
            LOG.info("waiting %.1f s for our turn: %s counts connections", seconds, self._settings.exchange)
            await asyncio.sleep(seconds)

    async def _list(self, feed_class: Any) -> dict[str, str]:
        what = f"list of {self._settings.exchange}'s symbols"
        return await reference.retried(what, lambda: reference.listing(feed_class))

    async def _part(
        self, feed_class: Any, symbols: list[str], channels: Sequence[str]
    ) -> tuple[Any, list[Any]]:
        """A feed of cryptofeed for some of the symbols and channels, and its connections."""
        what = f"way into {self._settings.exchange}"
        return await reference.retried(what, lambda: self._build(feed_class, symbols, channels))

    async def _follow(self, feed_class: Any, group: asyncio.TaskGroup) -> None:
        """Looks again and again at what the exchange lists, for ever."""
        while True:
            if not self.connections:
                self.idle = f"nothing to record: none of the symbols is of shard {self._settings.shard}"
                LOG.info("%s", self.idle)
            await asyncio.sleep(self._settings.symbols_refresh)
            wanted = reference.wanted(self._settings, await self._list(feed_class))
            carried = {symbol for connection in self.connections for _, symbol in connection.keys}
            if carried and carried.isdisjoint(wanted):
                LOG.warning("%s lists none of our symbols: nothing is changed", self._settings.exchange)
                continue
            for connection in self.connections:
                connection.look(carried.difference(wanted))
                self._asked -= connection.left_out
                connection.left_out.clear()
            self.connections = [connection for connection in self.connections if connection.keys]
            await self._add(feed_class, wanted, group)

    async def _add(self, feed_class: Any, wanted: list[str], group: asyncio.TaskGroup) -> None:
        """Subscribes to what was not asked for yet, on connections of its own."""
        missing: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for symbol in wanted:
            missing[tuple(c for c in self._settings.channels if (c, symbol) not in self._asked)].append(
                symbol
            )
        missing.pop((), None)
        for channels, symbols in missing.items():
            LOG.info("%s lists %s now: subscribing", self._settings.exchange, ", ".join(symbols))
            try:
                self._begin(await self._part(feed_class, symbols, channels), channels, group)
            except SettingsError as error:
                LOG.error("%s", error)  # noqa: TRY400 - it says all; the next look tries again

    def _tell_what_is_gone(self, listed: Mapping[str, str]) -> None:
        """Of what earlier processes saw, and this one would, had the exchange not delisted it."""
        gone = {symbol for _, symbol in self.gaps.earlier if symbol not in listed}
        wanted = [symbol for symbol in gone if self._settings.wants(symbol)]
        self.gaps.delisted((channel, symbol) for channel in self._settings.channels for symbol in wanted)

    async def stop(self) -> None:
        """Ends ``run`` and closes every connection."""
        if self._running and not self._running.done():
            self._running.cancel()
            await asyncio.wait({self._running})

    def _begin(self, part: tuple[Any, list[Any]], channels: Sequence[str], group: asyncio.TaskGroup) -> None:
        """Starts the connections of a part."""
        feed, tools = part
        malformed = Malformed(self._settings.home)
        self._feeds.append(feed)
        self.idle = None
        asked = {(channel, symbol) for channel in channels for symbol in feed.normalized_symbols}
        self._asked |= asked
        self.subscriptions.ask(asked)
        for conn, *_ in tools:
            self._network.equip(conn)
        last = self._turn(len(tools) - 1) - self._turn(0)
        if last >= 1:
            exchange = self._settings.exchange
            LOG.info("opening %d connections within %.0f s: %s counts them", len(tools), last, exchange)
        for position, each in enumerate(tools):
            connection = Connection(feed, each, malformed, self._receiver.forget_books, self._patience)
            self.connections.append(connection)
            self.gaps.carried(connection, connection.keys)
            group.create_task(connection.run(self._turn(position) - self._turn(0)))

    def _build(self, feed_class: Any, symbols: list[str], channels: Sequence[str]) -> tuple[Any, list[Any]]:
        """The feed of cryptofeed and its connections; some classes ask the exchange on the way."""
        settings = self._settings
        callbacks = {channel: self._callback(channel) for channel in channels}
        try:
            feed = _feed(feed_class, settings, self._network, symbols, callbacks)
            feed.subscriptions, feed.memory = self.subscriptions, self._receiver
            self._network.equip(feed.http_conn)
            return feed, feed.connect()
        except ValueError as error:
            # cryptofeed says with it what the exchange cannot do; requests, that an answer was not JSON
            if isinstance(error, OSError):
                raise
            raise SettingsError([_blamed(settings, str(error))]) from error

    def _callback(self, channel: str) -> Any:
        return self._receiver.callback(
            channel, self.subscriptions.awaited[channel], self.subscriptions.arrived
        )


def connections(settings: Settings, feed_class: Any, symbols: list[str]) -> int:
    """How many connections the symbols take. Blocks where an exchange is asked; raises what goes wrong."""
    feed = _feed(feed_class, settings, Network(settings), symbols, dict.fromkeys(settings.channels))
    return len(feed.connect())


def _feed(
    feed_class: Any,
    settings: Settings,
    network: Network,
    symbols: list[str],
    callbacks: Mapping[str, Any],
) -> Any:
    """The feed of cryptofeed for some symbols, and for the channels that have a callback."""
    return feed_class(
        symbols=symbols,
        channels=list(callbacks),
        callbacks=dict(callbacks),
        max_depth=feed_class.depth(settings.max_depth),
        candle_interval=_candle_interval(feed_class, settings),
        config=str(settings.config) if settings.config else {},
        checksum_validation=feed_class.CHECKSUMS,
        http_proxy=network.proxy,
    )


def supervised(exchange: str) -> Any:
    """The class of cryptofeed for an exchange, with our corrections and what our loop needs."""
    if exchange in _CORRECTED:
        return _CORRECTED[exchange]
    original = EXCHANGE_MAP[exchange]
    checks = {"CHECKS_BOOKS": exchange in _CHECKING_BOOKS}
    return type(original.__name__, (Supervised, original), checks)


#: What cryptofeed complains of in words like these is a matter of that variable; of any other, of SYMBOLS.
_BLAMED = (
    ("CONFIG", re.compile(r"\bkey_|auth keys|\bconfig\b")),
    ("CANDLE_INTERVAL", re.compile("[Cc]andle interval")),
    ("CHANNELS", re.compile(r"^(?!.*ymbol).*hannel")),
)


def _blamed(settings: Settings, complaint: str) -> Fault:
    name = next((name for name, words in _BLAMED if words.search(complaint)), "SYMBOLS")
    values = {
        "CONFIG": str(settings.config or ""),
        "CANDLE_INTERVAL": settings.candle_interval,
        "CHANNELS": ",".join(settings.channels),
        "SYMBOLS": f"{','.join(settings.symbols)} on {','.join(settings.channels)}",
    }
    return Fault(name, values[name], f"{settings.exchange}: {complaint}")


def _candle_interval(feed_class: Any, settings: Settings) -> str:
    """The interval of candles; cryptofeed checks it whether candles are wanted or not."""
    offered = feed_class.valid_candle_intervals
    if "candles" in settings.channels or offered is NotImplemented:
        return settings.candle_interval
    return str(min(offered))


class _Seldom(logging.Filter):
    """Lets through one line of each kind in a minute, without its traceback, and none that we say better."""

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        record.exc_info = None
        now = time.monotonic()
        if "Failed to parse symbol information" in record.msg or now < self._next.get(record.msg, 0.0):
            return False
        self._next[record.msg] = now + QUIET
        return True


logging.getLogger("feedhandler").addFilter(_Seldom())
huobi.bound_unpacking()
