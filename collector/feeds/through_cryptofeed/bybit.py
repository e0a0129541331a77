"""BYBIT: cryptofeed hands out milliseconds for seconds, and whether a candle is closed for its trades."""

from typing import Any, override

import cryptofeed.exchanges
from cryptofeed.defines import CANDLES, FUNDING, INDEX, LIQUIDATIONS, OPEN_INTEREST, TICKER
from cryptofeed.types import Candle, Funding, Index, Liquidation, OpenInterest, Ticker

from collector.feeds.through_cryptofeed.supervised import Supervised


class Bybit(Supervised, cryptofeed.exchanges.Bybit):  # type: ignore[misc]  # cryptofeed is untyped
    """BYBIT's public market data."""

    @override
    async def callback(self, data_type: str, obj: Any, receipt_timestamp: float) -> None:
        corrected = _CORRECTIONS.get(data_type)
        await super().callback(data_type, corrected(obj) if corrected else obj, receipt_timestamp)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _candle(it: Any) -> Any:
    return Candle(
        *(it.exchange, it.symbol, it.start / 1000, it.stop / 1000, it.interval, None),
        *(it.open, it.close, it.high, it.low, it.volume, bool(it.trades), _seconds(it.timestamp)),
        raw=it.raw,
    )


def _ticker(it: Any) -> Any:
    return Ticker(it.exchange, it.symbol, it.bid, it.ask, _seconds(it.timestamp), raw=it.raw)


def _funding(it: Any) -> Any:
    times = _seconds(it.next_funding_time), _seconds(it.timestamp)
    return Funding(it.exchange, it.symbol, it.mark_price, it.rate, *times, it.predicted_rate, raw=it.raw)


def _open_interest(it: Any) -> Any:
    return OpenInterest(it.exchange, it.symbol, it.open_interest, _seconds(it.timestamp), raw=it.raw)


def _index(it: Any) -> Any:
    return Index(it.exchange, it.symbol, it.price, _seconds(it.timestamp), raw=it.raw)


def _liquidation(it: Any) -> Any:
    return Liquidation(
        *(it.exchange, it.symbol, it.side, it.quantity, it.price, it.id, it.status, _seconds(it.timestamp)),
        raw=it.raw,
    )


#: Those of trades and books are seconds already.
_CORRECTIONS = {
    CANDLES: _candle,
    TICKER: _ticker,
    FUNDING: _funding,
    OPEN_INTEREST: _open_interest,
    INDEX: _index,
    LIQUIDATIONS: _liquidation,
}
