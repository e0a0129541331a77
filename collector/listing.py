"""What an exchange lists now, asked for by itself: for the launcher, which runs no feed."""

import asyncio
from collections.abc import Mapping

from collector import catalog
from collector.feeds import reference, supervised
from collector.feeds.malformed import describe
from collector.feeds.network import Network
from collector.settings import Settings

#: Seconds for the whole answer, which may take several requests.
LIMIT = 60.0

_WAYS = ("HTTPS_PROXY", "SSL_CERT_FILE")


class AwayError(Exception):
    """The exchange does not tell; the message says why."""


def symbols(exchange: str, patterns: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The symbols that ``patterns``, as in SYMBOLS, select of what the exchange lists, each with its type.

    Blocks, for LIMIT at the most. ``environment`` may have HTTPS_PROXY and SSL_CERT_FILE. Raises AwayError,
    and SettingsError where a variable is wrong or a pattern selects nothing.
    """
    channel = catalog.exchanges()[exchange].channels[0]
    needed = {"EXCHANGE": exchange, "SYMBOLS": patterns, "CHANNELS": channel, "BACKEND": "TTY"}
    settings = Settings.read(needed | {way: environment[way] for way in _WAYS if way in environment})
    try:
        listed = asyncio.run(_listed(settings))
    except Exception as error:
        raise AwayError(f"{exchange} does not tell its symbols: {describe(error)}") from error
    return {symbol: listed[symbol] for symbol in reference.select(settings, listed, _Oblivion())}


async def _listed(settings: Settings) -> dict[str, str]:
    feed_class = supervised(settings.exchange)
    feed_class.http_sync = Network(settings).requests()
    async with asyncio.timeout(LIMIT):
        return await reference.in_thread(lambda: reference.listing(feed_class))


class _Oblivion:
    """Nothing is remembered."""

    def mark(self, key: str, value: str) -> None:
        """Forgets it."""

    def recall(self, _key: str) -> str | None:
        """Nothing."""
        return None
