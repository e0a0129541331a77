"""The exchanges that are spoken to by us, by cryptofeed's id."""

from collections.abc import Mapping

from collector.exchanges.binance.exchange import Binance, BinanceDelivery, BinanceFutures, BinanceUS
from collector.exchanges.kraken import Kraken
from collector.exchanges.protocol import Exchange

EXCHANGES: Mapping[str, type[Exchange]] = {
    exchange.id: exchange for exchange in (Binance, BinanceUS, BinanceFutures, BinanceDelivery, Kraken)
}
