"""An exchange recorded through cryptofeed, under our supervision.

cryptofeed knows the protocols: which connections to make, what to subscribe to, how to read a message. What
happens when something fails is ours. It takes a second to import, and some 30 MiB: nothing outside of this
package does.
"""

import logging
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, override
from urllib.parse import urlsplit

from cryptofeed.symbols import Symbols

from collector.feeds.access import Access, EmptyListingError, Listed
from collector.feeds.connection import Connection, Patience
from collector.feeds.feed import Feed
from collector.feeds.malformed import QUIET, Malformed
from collector.feeds.reference import in_thread
from collector.feeds.subscriptions import FLOWING
from collector.feeds.through_cryptofeed.connection import CryptofeedConnection
from collector.feeds.through_cryptofeed.conversion import Conversion
from collector.feeds.through_cryptofeed.corrections import supervised
from collector.feeds.through_cryptofeed.network import CryptofeedNetwork
from collector.receiver import Receiver
from collector.records import Key
from collector.settings import Fault, Settings, SettingsError
from collector.symbol_patterns import TYPES, type_by_form


class CryptofeedAccess(Access):
    """An exchange as one of cryptofeed's classes asks it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.network = CryptofeedNetwork(settings)
        self._feed_class = supervised(settings.exchange)
        self._feed_class.http_sync = self.network.requests()

    @property
    @override
    def host(self) -> str:
        return str(urlsplit(str(self._feed_class.websocket_endpoints[0].address)).hostname)

    @override
    async def listed(self) -> Listed:
        return Listed(await in_thread(self._types))

    @override
    async def connections(self, listed: Listed, symbols: Sequence[str], channels: Sequence[str]) -> int:
        _, tools = await in_thread(lambda: self.build(symbols, dict.fromkeys(channels)))
        return len(tools)

    def build(self, symbols: Sequence[str], callbacks: Mapping[str, Any]) -> tuple[Any, list[Any]]:
        """Return a feed of cryptofeed's for the channels that have a callback, and its connections; blocks.

        Some classes ask the exchange on the way. Raises SettingsError if it cannot do what is asked for.
        """
        try:
            feed = _feed(self._feed_class, self.settings, self.network, symbols, callbacks)
            return feed, feed.connect()
        except ValueError as error:
            # cryptofeed says with it what the exchange cannot do; requests, that an answer was not JSON
            if isinstance(error, OSError):
                raise
            raise SettingsError([_blamed(self.settings, str(error))]) from error

    def _types(self) -> dict[str, str]:
        """Return the symbols that the exchange lists now, each with its type; blocks."""
        feed_class = self._feed_class
        symbols = feed_class.symbol_mapping(refresh=True)
        if not symbols:
            raise EmptyListingError(f"{feed_class.id} currently lists no symbols at all")
        told = Symbols.get(feed_class.id)[1].get("instrument_type", {})
        kinds = {symbol: str(told.get(symbol)) for symbol in symbols}
        return {symbol: kind if kind in TYPES else type_by_form(symbol) for symbol, kind in kinds.items()}


class CryptofeedFeed(Feed):
    """What comes from an exchange through cryptofeed's class."""

    _access: CryptofeedAccess

    def __init__(
        self, access: CryptofeedAccess, receiver: Receiver, patience: Patience | None = None
    ) -> None:
        super().__init__(access, receiver, patience, flows=FLOWING)
        self._conversion = Conversion(self._settings, receiver, self.gaps)

    @override
    def renew_books(self, keys: Iterable[Key]) -> None:
        self._conversion.renew_books(keys)

    @override
    async def _open(
        self, listed: Listed, symbols: Sequence[str], channels: Sequence[str]
    ) -> Sequence[Connection]:
        callbacks = {channel: self._callback(channel) for channel in channels}
        feed, tools = await in_thread(lambda: self._access.build(symbols, callbacks))
        feed.subscriptions = self.subscriptions
        self._access.network.equip(feed.http_conn)
        malformed = Malformed(self._settings.home)
        for conn, *_ in tools:
            self._access.network.equip(conn)
        forget = self._conversion.forget_books
        return [CryptofeedConnection(feed, each, malformed, forget, self._patience) for each in tools]

    def _callback(self, channel: str) -> Any:
        awaited, arrived = self.subscriptions.awaited[channel], self.subscriptions.arrived
        return self._conversion.callback(channel, awaited, arrived)


def _feed(
    feed_class: Any,
    settings: Settings,
    network: CryptofeedNetwork,
    symbols: Sequence[str],
    callbacks: Mapping[str, Any],
) -> Any:
    """Return the feed of cryptofeed for some symbols, and for the channels that have a callback."""
    return feed_class(
        symbols=list(symbols),
        channels=list(callbacks),
        callbacks=dict(callbacks),
        max_depth=feed_class.depth(settings.max_depth),
        candle_interval=_candle_interval(feed_class, settings),
        config=str(settings.config) if settings.config else {},
        checksum_validation=feed_class.CHECKSUMS,
        http_proxy=network.proxy,
    )


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
    """Return the interval of candles; cryptofeed checks it whether candles are wanted or not."""
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
