"""The commands that say what can be recorded. Each returns the exit status."""

import argparse
import os
from typing import Any

from collector import catalog
from collector import settings as contract
from collector.settings import SettingsError
from launcher.commands import DONE, FAILED, InputError
from launcher.console import Console, Table

NOT_INSTALLED = (
    "cryptofeed, which knows how to ask an exchange for symbols, is not installed here: "
    "pip install 'cryptostore[collector]'"
)


def exchanges(options: argparse.Namespace, console: Console) -> int:
    """Lists the exchanges with their channels."""
    known = catalog.exchanges()
    table = Table("EXCHANGE", "STATE", "CHANNELS")
    for name, exchange in known.items():
        table.add(name, exchange.state, ",".join(exchange.channels))
    return _show(console, table, known, as_json=options.json)


def channels(options: argparse.Namespace, console: Console) -> int:
    """Lists the channels of an exchange, with the intervals of candles."""
    exchange = catalog.exchanges()[_exchange(options.exchange)]
    table = Table("CHANNEL", "INTERVALS")
    for channel in exchange.channels:
        table.add(channel, ",".join(exchange.candle_intervals) if channel == "candles" else "")
    for channel, trouble in exchange.broken.items():
        console.remark(f"{channel} {trouble}")
    return _show(console, table, exchange, as_json=options.json)


def symbols(options: argparse.Namespace, console: Console) -> int:
    """Lists what the exchange itself lists now, or what patterns select of it."""
    exchange = _exchange(options.exchange)
    try:
        from collector import listing  # noqa: PLC0415 - cryptofeed may be lacking, and takes a second
    except ImportError:
        console.remark(f"launcher: {NOT_INSTALLED}")
        return FAILED
    try:
        found = listing.symbols(exchange, ",".join(options.patterns) or "ALL", os.environ, options.endpoint)
    except SettingsError as error:
        raise InputError(str(error)) from error
    except listing.AwayError as error:
        console.remark(f"launcher: {error}")
        return FAILED
    table = Table("SYMBOL", "TYPE", "TICK", "LOT", "CONTRACT", "EXPIRY")
    for each in found:
        contract_size = f"{each.contract_size} {each.contract_unit or ''}" if each.contract_size else "-"
        expiry = each.expiry[:10] if each.expiry else "-"
        table.add(each.symbol, each.type, each.tick or "-", each.lot or "-", contract_size.strip(), expiry)
    return _show(console, table, found, as_json=options.json)


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
