"""cryptofeed's classes with our corrections, by exchange."""

from collections.abc import Mapping
from typing import Any

from cryptofeed.exchanges import EXCHANGE_MAP

from collector.feeds.through_cryptofeed import binance, huobi, kucoin, poloniex
from collector.feeds.through_cryptofeed.supervised import Supervised

_CORRECTED: Mapping[str, type[Supervised]] = {
    "KUCOIN": kucoin.Kucoin,
    "POLONIEX": poloniex.Poloniex,
    "BINANCE_TR": binance.BinanceTR,
}

#: Exchanges whose books, in cryptofeed, notice a missing message.
_CHECKING_BOOKS = frozenset(
    {
        "ASCENDEX", "BEQUANT", "BIT.COM", "BITFINEX", "BITGET", "BLOCKCHAIN", "DERIBIT", "FMFW", "GATEIO",
        "HITBTC", "INDEPENDENT_RESERVE", "KRAKEN_FUTURES", "OKCOIN",
    }
)  # fmt: skip


def supervised(exchange: str) -> Any:
    """Return cryptofeed's class for an exchange, with our corrections and what our loop needs."""
    if exchange in _CORRECTED:
        return _CORRECTED[exchange]
    original = EXCHANGE_MAP[exchange]
    checks = {"CHECKS_BOOKS": exchange in _CHECKING_BOOKS}
    return type(original.__name__, (Supervised, original), checks)


huobi.bound_unpacking()
