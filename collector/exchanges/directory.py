"""The exchanges that are supported natively, by cryptofeed's id."""

from collections.abc import Mapping

from collector.exchanges.binance.exchange import Binance, BinanceDelivery, BinanceFutures, BinanceUS
from collector.exchanges.bybit.exchange import Bybit
from collector.exchanges.coinbase.exchange import Coinbase
from collector.exchanges.kraken.exchange import Kraken
from collector.exchanges.okx.exchange import Okx
from collector.exchanges.protocol import Exchange

_ALL: tuple[type[Exchange], ...] = (
    Binance,
    BinanceDelivery,
    BinanceFutures,
    BinanceUS,
    Bybit,
    Coinbase,
    Kraken,
    Okx,
)
EXCHANGES: Mapping[str, type[Exchange]] = {exchange.id: exchange for exchange in _ALL}
