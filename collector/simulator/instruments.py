"""The symbols that are listed unless others are asked for, where their prices begin, and each exchange's digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple
from zlib import crc32

Name = Literal["COINBASE", "KRAKEN", "BINANCE"]


class Listing(NamedTuple):
    """A first price without its decimal point, and the digits after the point on each exchange's grid."""

    start: str
    COINBASE: int
    KRAKEN: int
    BINANCE: int


LISTINGS: Mapping[str, Listing] = {
    "BTC": Listing("68231.47", 2, 1, 2),
    "ETH": Listing("3512.27", 2, 2, 2),
    "SOL": Listing("148.31", 2, 2, 2),
    "XRP": Listing("0.52341", 4, 5, 4),
    "DOGE": Listing("0.1234567", 5, 7, 5),
    "ADA": Listing("0.451234", 4, 6, 4),
    "LTC": Listing("84.12", 2, 2, 2),
    "LINK": Listing("14.23112", 3, 5, 2),
    "DOT": Listing("6.1234", 3, 4, 3),
    "AVAX": Listing("31.22", 2, 2, 2),
    "BCH": Listing("451.2", 2, 2, 1),
    "SHIB": Listing("0.00001823", 8, 8, 8),
}
QUOTES: Mapping[Name, str] = {"COINBASE": "USD", "KRAKEN": "USD", "BINANCE": "USDT"}


def default_symbols(exchange: Name) -> list[str]:
    return [f"{base}-{QUOTES[exchange]}" for base in LISTINGS]


def digits_of(symbol: str, exchange: Name) -> tuple[int, int]:
    """The first price in ticks and the digits of a tick; a base that is not listed here gets a price of its own."""
    base = symbol.split("-")[0]
    listing = LISTINGS.get(base)
    if listing is None:
        return 10_000 + crc32(base.encode()) % 1_000_000, 4
    digits: int = getattr(listing, exchange)
    whole, _, fraction = listing.start.partition(".")
    return int(whole + fraction.ljust(digits, "0")[:digits]), digits
