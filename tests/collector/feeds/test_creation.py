"""Which way an exchange is spoken to."""

import subprocess
import sys

import pytest

from collector.feeds import creation
from collector.feeds.network import Answer
from collector.settings import Settings, SettingsError

SCRIPT = """
import sys
from collector import supervisor
from collector.feeds import creation
from collector.feeds.network import Answer
from collector.settings import Settings
ask = {"EXCHANGE": sys.argv[1], "SYMBOLS": "BTC-USDT", "CHANNELS": "trades", "BACKEND": "TTY"}
creation.access(Settings.read(ask))
print("cryptofeed" in sys.modules)
"""


@pytest.mark.programs
@pytest.mark.parametrize(("exchange", "through_cryptofeed"), [("BINANCE", False), ("BITSTAMP", True)])
def test_a_native_exchange_does_not_import_cryptofeed(exchange, through_cryptofeed):
    command = [sys.executable, "-c", SCRIPT, exchange]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(through_cryptofeed)


def access(**variables):
    ask = {"EXCHANGE": "BINANCE", "SYMBOLS": "BTC-USDT", "CHANNELS": "trades,l2_book", "BACKEND": "TTY"}
    return creation.access(Settings.read(ask | variables))


LISTING = b"""{"symbols":[
 {"symbol":"BTCUSDT","baseAsset":"BTC","quoteAsset":"USDT","status":"TRADING"},
 {"symbol":"","baseAsset":"","quoteAsset":"","status":"TRADING"},
 {"symbol":"ETHUSDT","baseAsset":"ETH","quoteAsset":"USDT","status":"TRADING"}]}"""


class Answers:
    """Answers every request with one body; there is no network."""

    def __init__(self, body, status=200):
        self.body, self.status = body, status

    async def get(self, _url):
        return Answer(self.status, self.body)


async def test_an_unreadable_row_is_left_out_and_named_once(caplog):
    it = access()
    it.network.get = Answers(LISTING).get
    for _ in range(2):
        listed = await it.listed()
    assert dict(listed.types) == {"BTC-USDT": "spot", "ETH-USDT": "spot"}
    (line,) = caplog.messages
    assert "BINANCE: 1 rows of its list were left out: base currency '' and quote currency ''" in line


async def test_a_subscription_without_a_connection_is_a_fault_before_the_start():
    it = access(SYMBOLS="BTC-USDT,ETH-USDT", CHANNELS="trades")
    it.network.get = Answers(LISTING).get
    listed = await it.listed()
    symbols = ["BTC-USDT", "ETH-USDT"]
    assert await it.connections(listed, symbols, ["trades", "l2_book"]) == 1
    with pytest.raises(SettingsError) as caught:
        await it.connections(listed, symbols, ["trades", "funding"])
    assert [str(fault) for fault in caught.value.faults] == [
        f"CHANNELS = 'funding': BINANCE has no funding of {symbol}" for symbol in symbols
    ]
