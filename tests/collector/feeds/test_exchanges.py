"""Corrections of exchanges that the simulator does not speak for: their own messages, handed to the class."""

import json
import logging
from pathlib import Path

import cryptofeed
import pytest
from cryptofeed.exceptions import MissingSequenceNumber
from cryptofeed.symbols import Symbols

from collector.feeds import _blamed, supervised
from collector.settings import Settings


def okx_book(action, before, number, bids=()):
    """Fields as in https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel."""
    update = {"asks": [], "bids": bids, "ts": "1700000000123", "checksum": 0, "prevSeqId": before}
    return json.dumps(
        {
            "arg": {"channel": "books", "instId": "BTC-USDT"},
            "action": action,
            "data": [update | {"seqId": number}],
        }
    )


@pytest.fixture
def okx():
    Symbols.set("OKX", {"BTC-USDT": "BTC-USDT"}, {})
    books = []

    async def keep(book, receipt):
        books.append(book.delta)

    feed_class = supervised("OKX")
    feed = feed_class(
        symbols=["BTC-USDT"],
        channels=["l2_book"],
        callbacks={"l2_book": keep},
        checksum_validation=feed_class.CHECKSUMS,
        config={},
    )
    yield feed, books
    Symbols.clear()


async def test_okx_books_are_checked_by_their_numbers(okx):
    feed, books = okx
    level = [["100.5", "2", "0", "1"]]
    await feed.message_handler(okx_book("snapshot", -1, 10, level), None, 1.0)
    await feed.message_handler(okx_book("update", 10, 15, level), None, 2.0)
    await feed.message_handler(okx_book("update", 15, 15), None, 3.0)  # nothing has changed
    with pytest.raises(MissingSequenceNumber, match="BTC-USDT: 20 came after 15"):
        await feed.message_handler(okx_book("update", 20, 21, level), None, 4.0)
    assert len(books) == 3


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


def test_lines_of_cryptofeed_are_few_and_short(caplog):
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
def test_what_cryptofeed_complains_of_is_blamed_on_the_right_variable(module, complaint, variable):
    source = Path(cryptofeed.__file__).parent / f"{module}.py"
    assert complaint in source.read_text()
    about = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}
    settings = Settings.read(about)
    fault = _blamed(settings, complaint)
    assert fault.variable == variable
    assert complaint in str(fault)
