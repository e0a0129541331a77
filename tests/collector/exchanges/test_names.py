"""Symbols have the names that cryptofeed gives them; every intended difference is named here.

The rows have the fields that tell what an instrument is, in the form of the exchanges' lists of 2026.
"""

import msgspec
import pytest
from cryptofeed.exchanges import EXCHANGE_MAP

from collector.exchanges.directory import EXCHANGES
from collector.exchanges.protocol import Options


def binance(symbol, base, quote, **others):
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.01"},
        {"filterType": "LOT_SIZE", "stepSize": "0.001"},
    ]
    return {"symbol": symbol, "baseAsset": base, "quoteAsset": quote, "filters": filters} | others


def usdm(symbol, base, kind, quote="USDT"):
    return binance(symbol, base, quote, status="TRADING", contractType=kind, marginAsset=quote)


def coinm(symbol, base, kind):
    return binance(
        symbol, base, "USD", contractStatus="TRADING", contractType=kind, contractSize=100, marginAsset=base
    )


def coinbase(product, base, quote):
    return {
        "product_id": product,
        "product_type": "SPOT",
        "status": "online",
        "is_disabled": False,
        "base_currency_id": base,
        "quote_currency_id": quote,
        "base_increment": "0.00000001",
        "quote_increment": "0.01",
        "price_increment": "0.01",
    }


def kraken(name):
    return {"wsname": name, "status": "online", "tick_size": "0.1", "lot_decimals": 8}


def okx(name, kind, base="", quote="", **others):
    row = {"instId": name, "instType": kind, "baseCcy": base, "quoteCcy": quote, "state": "live"}
    size = "" if kind == "SPOT" else "0.01"
    return row | {"tickSz": "0.1", "lotSz": "1", "ctVal": size, "ctMult": size and "1"} | others


def bybit(symbol, base, quote, kind=None, **others):
    row = {"symbol": symbol, "baseCoin": base, "quoteCoin": quote, "status": "Trading", "settleCoin": quote}
    lot = {"qtyStep": "0.001"} if kind or "optionsType" in others else {"basePrecision": "0.001"}
    row |= {"priceFilter": {"tickSize": "0.1"}, "lotSizeFilter": lot}
    return row | ({"contractType": kind} if kind else {}) | others


CHRISTMAS = "1798185600000"  # 2026-12-25 08:00

#: Of each exchange: the answers that list its instruments.
LISTS = {
    "BINANCE": [
        {
            "symbols": [
                binance("BTCUSDT", "BTC", "USDT", status="TRADING"),
                binance("1000SATSUSDT", "1000SATS", "USDT", status="TRADING"),
                binance("ETHBTC", "ETH", "BTC", status="TRADING"),
                binance("OLDUSDT", "OLD", "USDT", status="BREAK"),
                binance("HALTUSDT", "HALT", "USDT", status="HALT"),
            ]
        }
    ],
    "BINANCE_US": [{"symbols": [binance("BTCUSD", "BTC", "USD", status="TRADING")]}],
    "BINANCE_FUTURES": [
        {
            "symbols": [
                usdm("BTCUSDT", "BTC", "PERPETUAL"),
                usdm("1000SHIBUSDT", "1000SHIB", "PERPETUAL"),
                usdm("BTCUSDT_261225", "BTC", "CURRENT_QUARTER"),
                usdm("ETHUSDT_270326", "ETH", "NEXT_QUARTER"),
                usdm("TSLAUSDT", "TSLA", "TRADIFI_PERPETUAL"),
            ]
        }
    ],
    "BINANCE_DELIVERY": [
        {
            "symbols": [
                coinm("BTCUSD_PERP", "BTC", "PERPETUAL"),
                coinm("BTCUSD_261225", "BTC", "CURRENT_QUARTER"),
            ]
        }
    ],
    "COINBASE": [
        {"products": [coinbase("BTC-USD", "BTC", "USD"), coinbase("ETH-BTC", "ETH", "BTC")]},
        {"products": []},
    ],
    "KRAKEN": [
        {
            "error": [],
            "result": {
                "XXBTZUSD": kraken("XBT/USD"),
                "XDGEUR": kraken("XDG/EUR"),
                "XETHXXBT": kraken("ETH/XBT"),
                "AAPLxUSD": kraken("AAPLx/USD"),
            },
        },
        {"error": [], "result": {}},
    ],
    "OKX": [
        {"code": "0", "data": rows}
        for rows in (
            [okx("BTC-USDT", "SPOT", "BTC", "USDT")],
            [okx("BTC-USD-SWAP", "SWAP", ctVal="100", ctMult="1", ctValCcy="USD", settleCcy="BTC")],
            [okx("BTC-USDT-261225", "FUTURES", expTime=CHRISTMAS)],
            [
                okx("BTC-USD-261225-92000-C", "OPTION", expTime=CHRISTMAS, stk="92000"),
                okx("BTC-USD-261225-92000-P", "OPTION", expTime=CHRISTMAS, stk="92000"),
            ],
            [],
        )
    ],
    "BYBIT": [
        {"retCode": 0, "result": {"category": category, "list": rows, "nextPageCursor": ""}}
        for category, rows in (
            ("spot", [bybit("BTCUSDT", "BTC", "USDT"), bybit("BTCEUR", "BTC", "EUR")]),
            (
                "linear",
                [
                    bybit("ETHUSDT", "ETH", "USDT", "LinearPerpetual"),
                    bybit("BTCPERP", "BTC", "USDC", "LinearPerpetual"),
                    bybit("BTC-25DEC26", "BTC", "USDC", "LinearFutures", deliveryTime=CHRISTMAS),
                    bybit("BTCUSDT-25DEC26", "BTC", "USDT", "LinearFutures", deliveryTime=CHRISTMAS),
                ],
            ),
            (
                "inverse",
                [
                    bybit("BTCUSD", "BTC", "USD", "InversePerpetual"),
                    bybit("BTCUSDZ26", "BTC", "USD", "InverseFutures", deliveryTime=CHRISTMAS),
                ],
            ),
            (
                "option",
                [
                    bybit(
                        "BTC-25DEC26-92000-C-USDT",
                        *("BTC", "USDT"),
                        optionsType="Call",
                        deliveryTime=CHRISTMAS,
                    )
                ],
            ),
        )
    ],
}


def names_of_ours(exchange):
    listing = EXCHANGES[exchange](Options()).instruments([msgspec.json.encode(it) for it in LISTS[exchange]])
    assert not listing.unread
    return {*listing.instruments}


def names_of_cryptofeed(exchange):
    answers = LISTS[exchange]
    if exchange == "BYBIT":
        answers = answers[:2]  # it fails on inverse contracts and options
    several = exchange in ("OKX", "BYBIT")
    return {*EXCHANGE_MAP[exchange]._parse_symbol_data(answers if several else answers[0])[0]}


#: What only we list, and what only cryptofeed does.
OURS = {
    "BINANCE": {"HALT-USDT"},  # trading goes on soon
    "BINANCE_FUTURES": {"TSLA-USDT-PERP"},
    "BYBIT": {"BTC-USD-PERP", "BTC-USD-26Z25", "BTC-USDT-92000-26Z25-call"},
}
THEIRS = {
    "BINANCE_FUTURES": {
        *("BTC-USDT-PINDEX", "1000SHIB-USDT-PINDEX"),  # the channel `index` of the contract itself
        "TSLA-USDT",  # a perpetual taken for spot
    },
}


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_names_are_cryptofeeds(exchange):
    ours, theirs = names_of_ours(exchange), names_of_cryptofeed(exchange)
    assert ours
    assert ours - theirs == OURS.get(exchange, set())
    assert theirs - ours == THEIRS.get(exchange, set())
