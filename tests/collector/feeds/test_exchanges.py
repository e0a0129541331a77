"""Corrections of exchanges that the simulator does not speak for: their own messages, handed to the class."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import cryptofeed
import pytest
from cryptofeed.symbols import Symbols
from spooled import spooled

from collector.feeds.through_cryptofeed.conversion import Conversion
from collector.feeds.through_cryptofeed.corrections import supervised
from collector.feeds.through_cryptofeed.feed import _blamed
from collector.gaps.recorder import Recorder
from collector.gaps.tracker import Gaps
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import Trade
from collector.settings import Settings
from collector.spool.spool import Spool
from collector.times import MILLISECOND, SECOND


async def test_every_connection_to_kucoin_has_a_fresh_address(monkeypatch):
    Symbols.set("KUCOIN", {"BTC-USDT": "BTC-USDT"}, {})
    asked = []

    class Answers:
        def write(self, address, **options):
            asked.append(address)
            server = {"endpoint": "wss://ws-api.kucoin.com/", "pingInterval": 18000}
            return {"data": {"token": f"t{len(asked)}", "instanceServers": [server]}}

    feed_class = supervised("KUCOIN")
    monkeypatch.setattr(feed_class, "http_sync", Answers(), raising=False)
    feed = feed_class(symbols=["BTC-USDT"], channels=["trades"], config={})
    ((conn, *_),) = feed.connect()
    addresses = [(await conn.authentication(conn.address, conn.ws_kwargs))[0] for _ in range(2)]
    assert addresses == ["wss://ws-api.kucoin.com/?token=t2", "wss://ws-api.kucoin.com/?token=t3"]
    Symbols.clear()


def test_log_lines_of_cryptofeed_are_few_and_short(caplog):
    log = logging.getLogger("feedhandler")
    for number in range(100):
        log.warning("%s: Invalid message of a test %s", "X", number)
    log.error("%s: Failed to parse symbol information: %s", "X", "no", exc_info=ValueError())
    assert len(caplog.records) == 1
    assert caplog.records[0].exc_info is None


@pytest.mark.parametrize(
    ("module", "complaint", "variable"),
    [
        ("exchanges/kucoin", "Kucoin has a limit of 300 symbols per connection", "SYMBOLS"),
        ("exchanges/phemex", "only allows a maximum of 100 symbol/channel subscriptions", "SYMBOLS"),
        ("exchanges/binance", "Premium Index Symbols only allowed on Candle data feed", "SYMBOLS"),
        ("exchanges/binance", "Private channels should be subscribed in separate feeds", "CHANNELS"),
        ("exchanges/coinbase", "You must provide key_id and key_secret in config to retrieve", "CONFIG"),
        ("feed", "Authenticated channel subscribed to, but no auth keys provided", "CONFIG"),
        ("feed", "Candle interval must be one of", "CANDLE_INTERVAL"),
    ],
)
def test_an_error_of_cryptofeed_is_attributed_to_the_right_variable(module, complaint, variable):
    source = Path(cryptofeed.__file__).parent / f"{module}.py"
    assert complaint in source.read_text()
    about = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}
    settings = Settings.read(about)
    fault = _blamed(settings, complaint)
    assert fault.variable == variable
    assert complaint in str(fault)


async def through_the_spool(folder, exchange, pairs, messages, address="wss://x/v5/public/linear"):
    """The records that are read back from disk after an exchange's messages."""
    Symbols.set(exchange, pairs, {})
    spool = await Spool.open(folder)
    channels = ["trades", "ticker", "candles", "funding", "open_interest", "index", "liquidations"]
    feed_class = supervised(exchange)
    channels = [channel for channel in channels if channel in feed_class.websocket_channels]
    variables = {"EXCHANGE": exchange, "SYMBOLS": ",".join(pairs), "CHANNELS": "trades", "BACKEND": "TTY"}
    receiver = Receiver(spool, Metrics())
    conversion = Conversion(Settings.read(variables), receiver, Gaps(exchange, Recorder(receiver)))
    callbacks = {channel: conversion.callback(channel, set(), lambda *_: None) for channel in channels}
    feed = feed_class(symbols=list(pairs), channels=channels, callbacks=callbacks, config={})
    subscription = {kind: list(pairs.values()) for kind in ("tickers", "funding", "open_interest", "index")}
    connection = SimpleNamespace(address=address, subscription=subscription, uuid=exchange)
    for message in messages:
        await feed.message_handler(message, connection, 1671187816.0)
    await receiver.drain()
    await spool.close()
    Symbols.clear()
    again = await Spool.open(folder)
    records = await spooled(again)
    await again.close()
    return records


async def test_poloniex_trades_are_of_poloniex_and_in_the_base_currency(tmp_path):
    """Fields as in https://api-docs.poloniex.com/spot/websocket/market-data."""
    trade = {
        "symbol": "BTC_USDT", "amount": "364.89973", "quantity": "0.017", "takerSide": "sell",
        "createTime": 1661120814818, "price": "21464.69", "id": "60183607", "ts": 1661120814823,
    }  # fmt: skip
    other = trade | {"id": "60183608", "takerSide": "buy"}
    message = json.dumps({"channel": "trades", "data": [trade, other]})
    records = await through_the_spool(tmp_path, "POLONIEX", {"BTC-USDT": "BTC_USDT"}, [message])
    place = ("POLONIEX", "BTC-USDT", 1661120814823 * MILLISECOND, 1671187816 * SECOND)
    assert records == [
        Trade(*place, "sell", "0.017", "21464.69", "60183607", None),
        Trade(*place, "buy", "0.017", "21464.69", "60183608", None),
    ]
