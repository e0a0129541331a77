"""POLONIEX: cryptofeed returns a trade's id as its exchange, and its amount in the quote currency."""

from decimal import Decimal
from typing import Any, ClassVar, override

import cryptofeed.exchanges
from cryptofeed.defines import BUY, SELL, TRADES
from cryptofeed.types import Trade

from collector.feeds.through_cryptofeed.supervised import Supervised


class Poloniex(Supervised, cryptofeed.exchanges.Poloniex):  # type: ignore[misc]  # cryptofeed is untyped
    """POLONIEX's public market data."""

    CHECKS_BOOKS: ClassVar[bool] = True

    @override
    async def _trade(self, msg: dict[str, Any], timestamp: float) -> None:
        for it in msg["data"]:
            trade = Trade(
                self.id,
                self.exchange_symbol_to_std_symbol(it["symbol"]),
                SELL if it["takerSide"] == "sell" else BUY,
                Decimal(it["quantity"]),
                Decimal(it["price"]),
                self.timestamp_normalize(it["ts"]),
                id=str(it["id"]),
                raw=it,
            )
            await self.callback(TRADES, trade, timestamp)
