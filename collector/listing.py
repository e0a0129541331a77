"""Ask an exchange what it lists now, for the launcher, which runs no feed."""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any

import aiohttp
import msgspec

from collector import catalog
from collector.exchanges.times import rfc3339_text
from collector.feeds import creation, reference
from collector.feeds.access import Access, Listed
from collector.feeds.malformed import describe
from collector.settings import Settings, SettingsError

#: Seconds for the whole answer, over all its requests.
LIMIT = 60.0

_NO_CONNECTION = (OSError, aiohttp.ClientConnectionError, aiohttp.ClientHttpProxyError)
_WAYS = ("HTTPS_PROXY", "SSL_CERT_FILE")
#: The variables that determine which subscriptions a collector makes.
_TELLING = ("EXCHANGE", "SYMBOLS", "CHANNELS", "SHARD", "CANDLE_INTERVAL", "MAX_DEPTH", "ENDPOINT")


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What one collector would record of what an exchange lists.

    ``subscriptions`` is its symbols times its channels; ``connections`` how many it would open for them.
    """

    symbols: tuple[str, ...]
    subscriptions: int
    connections: int


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol that an exchange lists. None stands for what the exchange, or cryptofeed, does not say.

    Attributes:
        type: as in SYMBOLS: spot, perpetual, futures, option ...
        exchange_symbol: the exchange's own name.
        tick, lot: the smallest steps of a price and of an amount, as decimal text.
        contract_size: the size of a contract, in ``contract_unit``; None if amounts are in the base currency.
        settlement: the currency in which profit and loss are paid.
        expiry: UTC, as in 2026-12-25T08:00:00Z.
    """

    symbol: str
    type: str
    exchange_symbol: str | None = None
    base: str | None = None
    quote: str | None = None
    tick: str | None = None
    lot: str | None = None
    contract_size: str | None = None
    contract_unit: str | None = None
    settlement: str | None = None
    expiry: str | None = None
    strike: str | None = None


class UnreachableError(Exception):
    """The exchange did not return what it lists; the message says why.

    ``answered`` says that it could be reached.
    """

    def __init__(self, exchange: str, why: Exception) -> None:
        super().__init__(f"{exchange} does not return its symbols: {describe(why)}")
        self.exchange = exchange
        # The errors of requests are OSErrors, even those about an answer.
        self.answered = not isinstance(why, _NO_CONNECTION) or getattr(why, "response", None) is not None


def symbols(
    exchange: str, patterns: str, environment: Mapping[str, str], endpoint: str = ""
) -> list[Listing]:
    """Return the symbols that ``patterns``, as in SYMBOLS, select from those listed at ``endpoint``.

    Blocks for up to LIMIT seconds. ``environment`` may have HTTPS_PROXY and SSL_CERT_FILE. Raises
    UnreachableError, and SettingsError if a variable is wrong or a pattern selects nothing.
    """
    about = catalog.exchanges()[exchange]
    channel = next((each for each in about.channels if each not in about.keys), about.channels[0])
    asked = {"EXCHANGE": exchange, "SYMBOLS": patterns, "CHANNELS": channel, "ENDPOINT": endpoint}
    settings = _settings(asked, environment)
    listed = _within_limit(exchange, _listed(creation.access(settings)))
    selected = reference.select(settings, listed.types)
    return [_listing(symbol, listed) for symbol in selected]


def _listing(symbol: str, listed: Listed) -> Listing:
    kind = listed.types[symbol]
    instrument = listed.instruments.get(symbol)
    if instrument is None:
        return Listing(symbol=symbol, type=kind)
    names = [*Listing.__struct_fields__[2:]]
    said = {name: getattr(instrument, name) for name in names}
    said["expiry"] = None if instrument.expiry is None else rfc3339_text(instrument.expiry)
    return Listing(symbol=symbol, type=kind, **said)


def shares(
    exchange: str, collectors: Mapping[str, Mapping[str, str]], environment: Mapping[str, str]
) -> dict[str, Share | SettingsError]:
    """Return what each collector would record of what the exchange lists now, by the collectors' names.

    ``collectors`` are the variables of each. Asks the exchange once at each of its addresses, as
    ``environment`` says. Blocks and raises as ``symbols`` does, except that a collector
    with wrong settings has its error in the answer.
    """
    read: dict[str, Settings | SettingsError] = {}
    for name, variables in collectors.items():
        try:
            read[name] = _settings(
                {each: variables[each] for each in _TELLING if each in variables}, environment
            )
        except SettingsError as error:
            read[name] = error
    listed: dict[str | None, Listed] = {}
    found: dict[str, Share | SettingsError] = {}
    for name, settings in read.items():
        if isinstance(settings, SettingsError):
            found[name] = settings
            continue
        address = settings.endpoint.get("rest")
        if address not in listed:
            listed[address] = _within_limit(exchange, _listed(creation.access(settings)))
        found[name] = _share(settings, listed[address])
    return found


async def _listed(access: Access) -> Listed:
    try:
        return await access.listed()
    finally:
        await access.close()


async def _connections(access: Access, listed: Listed, symbols: list[str]) -> int:
    try:
        return await access.connections(listed, symbols, access.settings.channels)
    finally:
        await access.close()


def _counted(settings: Settings, listed: Listed, symbols: list[str]) -> int:
    return _within_limit(settings.exchange, _connections(creation.access(settings), listed, symbols))


def _share(settings: Settings, listed: Listed) -> Share | SettingsError:
    try:
        selected = reference.select(settings, listed.types)
        made = _counted(settings, listed, selected) if selected else 0
    except SettingsError as error:
        return error
    return Share(
        symbols=tuple(selected), subscriptions=len(selected) * len(settings.channels), connections=made
    )


def _settings(variables: Mapping[str, str], environment: Mapping[str, str]) -> Settings:
    ways = {way: environment[way] for way in _WAYS if way in environment}
    return Settings.read({**variables, **ways, "BACKEND": "TTY"})


def _within_limit[T](exchange: str, work: Coroutine[Any, Any, T]) -> T:
    async def within() -> T:
        async with asyncio.timeout(LIMIT):
            return await work

    try:
        return asyncio.run(within())
    except SettingsError:
        raise
    except Exception as error:
        raise UnreachableError(exchange, error) from error
