"""The symbols that are listed unless others are asked for, where prices begin, and each exchange's digits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from zlib import crc32

if TYPE_CHECKING:
    from collections.abc import Mapping

Name = Literal["COINBASE", "KRAKEN", "BINANCE", "BINANCE_FUTURES"]

# What follows a base in a symbol.
QUOTES: Mapping[Name, str] = {
    "COINBASE": "USD",
    "KRAKEN": "USD",
    "BINANCE": "USDT",
    "BINANCE_FUTURES": "USDT-PERP",
}

# Base -> its first price, and the digits after the point on the grid of each exchange.
LISTINGS: Mapping[str, tuple[str, Mapping[Name, int]]] = {
    "BTC": ("68231.47", {"COINBASE": 2, "KRAKEN": 1, "BINANCE": 2, "BINANCE_FUTURES": 1}),
    "ETH": ("3512.27", {"COINBASE": 2, "KRAKEN": 2, "BINANCE": 2, "BINANCE_FUTURES": 2}),
    "SOL": ("148.31", {"COINBASE": 2, "KRAKEN": 2, "BINANCE": 2, "BINANCE_FUTURES": 2}),
    "XRP": ("0.52341", {"COINBASE": 4, "KRAKEN": 5, "BINANCE": 4, "BINANCE_FUTURES": 4}),
    "DOGE": ("0.1234567", {"COINBASE": 5, "KRAKEN": 7, "BINANCE": 5, "BINANCE_FUTURES": 5}),
    "ADA": ("0.451234", {"COINBASE": 4, "KRAKEN": 6, "BINANCE": 4, "BINANCE_FUTURES": 4}),
    "LTC": ("84.12", {"COINBASE": 2, "KRAKEN": 2, "BINANCE": 2, "BINANCE_FUTURES": 2}),
    "LINK": ("14.23112", {"COINBASE": 3, "KRAKEN": 5, "BINANCE": 2, "BINANCE_FUTURES": 3}),
    "DOT": ("6.1234", {"COINBASE": 3, "KRAKEN": 4, "BINANCE": 3, "BINANCE_FUTURES": 3}),
    "AVAX": ("31.22", {"COINBASE": 2, "KRAKEN": 2, "BINANCE": 2, "BINANCE_FUTURES": 3}),
    "BCH": ("451.2", {"COINBASE": 2, "KRAKEN": 2, "BINANCE": 1, "BINANCE_FUTURES": 2}),
    "SHIB": ("0.00001823", {"COINBASE": 8, "KRAKEN": 8, "BINANCE": 8, "BINANCE_FUTURES": 8}),
}


def default_symbols(exchange: Name) -> list[str]:
    """Return the dozen that an exchange lists, in cryptofeed's spelling."""
    return [f"{base}-{QUOTES[exchange]}" for base in LISTINGS]


def first_price(symbol: str, exchange: Name) -> tuple[int, int]:
    """A symbol's first price in ticks, and the digits of a tick; a base that is not listed gets its own."""
    base = symbol.partition("-")[0]
    if base not in LISTINGS:
        return 10_000 + crc32(base.encode()) % 1_000_000, 4
    price, digits = LISTINGS[base]
    whole, _, fraction = price.partition(".")
    return int(whole + fraction.ljust(digits[exchange], "0")[: digits[exchange]]), digits[exchange]
