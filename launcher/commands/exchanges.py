"""The commands that show what can be recorded. Each returns the exit status."""

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from collector import catalog
from collector import settings as contract
from collector.settings import SettingsError
from launcher.commands import DONE, FAILED, InputError
from launcher.console import Console, Table

if TYPE_CHECKING:
    from collector.listing import UnreachableError

NOT_INSTALLED = (
    "cryptofeed, which knows how to ask an exchange for symbols, is not installed here: "
    "pip install 'cryptostore[collector]'"
)


def exchanges(options: argparse.Namespace, console: Console) -> int:
    """List the exchanges with their channels."""
    known = catalog.exchanges()
    table = Table("EXCHANGE", "BY", "STATE", "CHANNELS")
    for name, exchange in known.items():
        table.add(name, "-" if exchange.issue else exchange.by, exchange.state, ",".join(exchange.channels))
    return _show(console, table, known, as_json=options.json)


def channels(options: argparse.Namespace, console: Console) -> int:
    """List the channels of an exchange: their records, how a loss is noticed, how long silence is normal."""
    name = _exchange(options.exchange)
    exchange = catalog.exchanges()[name]
    if options.json:
        return _show(console, Table(), exchange, as_json=True)
    if exchange.by == "cryptostore":
        table = Table("CHANNEL", "LOSS", "SILENCE", "RECORDS")
        for channel, about in exchange.about.items():
            silence = f"{about.quiet:g} s" if about.quiet else "any"
            table.add(channel, about.loss, silence, about.records)
    else:
        table = Table("CHANNEL")
        for channel in exchange.channels:
            table.add(channel)
    console.table(table)
    for line in _notes(name, exchange):
        console.say(line)
    return DONE


def _notes(name: str, exchange: catalog.Exchange) -> Iterator[str]:
    """Yield what applies to the whole exchange; keys of the fleet file are in backquotes."""
    way = "natively" if exchange.by == "cryptostore" else "through cryptofeed"
    state = f"; {exchange.state}" if exchange.state else ""
    yield f"{name} is supported {way}{state}"
    for channel, issue in {**exchange.broken, **exchange.keys}.items():
        yield f"{channel} {issue}"
    if exchange.channels:
        yield f"in a fleet file: `channels: [{', '.join(exchange.channels)}]`, or some of these"
    if exchange.candle_intervals:
        yield f"`candle_interval` is one of {', '.join(exchange.candle_intervals)}"
    if exchange.regions:
        yield f"`endpoint` may be {' or '.join(exchange.regions)}"
    if exchange.limits:
        yield f"limits of the exchange: {exchange.limits} ({exchange.limits.source})"


def symbols(options: argparse.Namespace, console: Console) -> int:
    """List what the exchange lists now, or what patterns select from it."""
    exchange = _exchange(options.exchange)
    try:
        from collector import listing  # noqa: PLC0415 - slow; cryptofeed may be missing
    except ImportError:
        console.remark(f"launcher: {NOT_INSTALLED}")
        return FAILED
    try:
        found = listing.symbols(exchange, ",".join(options.patterns) or "ALL", os.environ, options.endpoint)
    except SettingsError as error:
        raise InputError(str(error)) from error
    except listing.UnreachableError as error:
        console.remark(f"launcher: {error}; {advice(error, '--endpoint')}")
        return FAILED
    table = Table("SYMBOL", "TYPE", "TICK", "LOT", "CONTRACT", "EXPIRY")
    for each in found:
        contract_size = f"{each.contract_size} {each.contract_unit or ''}" if each.contract_size else "-"
        expiry = each.expiry[:10] if each.expiry else "-"
        table.add(each.symbol, each.type, each.tick or "-", each.lot or "-", contract_size.strip(), expiry)
    return _show(console, table, found, as_json=options.json)


def advice(error: "UnreachableError", endpoint: str) -> str:
    """Return what to do if an exchange cannot be asked; ``endpoint`` names the place for another address."""
    if error.answered:
        return "try again later"
    exchange = catalog.exchanges()[error.exchange]
    proxy = (
        "if this machine needs a proxy, set HTTPS_PROXY, and SSL_CERT_FILE if it has an authority of its own"
    )
    if not exchange.endpoints:
        return proxy
    such_as = " or ".join([*exchange.regions, "rest=https://HOST"])
    return f"{proxy}; {endpoint} ({such_as}) asks at another address"


def _exchange(text: str) -> str:
    try:
        return contract.exchange(text)
    except ValueError as error:
        raise InputError(f"exchange {text}: {error}") from error


def _show(console: Console, table: Table, whole: Any, *, as_json: bool) -> int:
    if as_json:
        console.json(whole)
    else:
        console.table(table)
    return DONE
