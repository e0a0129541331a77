"""A field of no importance that a message lacks costs nothing: a time, a number that only checks, a count."""

import msgspec
import pytest
from spoiling import MISSING, changed, decoded, places, read, records, scripted

from collector.exchanges.binance.exchange import BinanceFutures
from collector.exchanges.coinbase.exchange import Coinbase
from collector.exchanges.directory import EXCHANGES
from collector.exchanges.instruments import Instrument
from collector.exchanges.kraken.exchange import Kraken
from collector.exchanges.protocol import Malformed, Request, Subscription
from collector.records import Record, channel_of

#: What no channel needs but trades: their repetitions are known by their times and ids.
UNIMPORTANT = {
    "BINANCE": {"E", "n"},
    "BINANCE_US": {"E", "n"},
    "BINANCE_FUTURES": {"E", "n", "X"},
    "BINANCE_DELIVERY": {"E", "n", "X"},
    "BYBIT": {"T", "ts", "u"},
    "COINBASE": {"sequence_num", "timestamp"},
    "KRAKEN": {"checksum", "timestamp", "trades"},
    "OKX": {"fundingTime", "prevSeqId", "seqId", "ts"},
}
NOW = 1_790_000_000 * 10**9
BEST = {
    BinanceFutures: {
        "stream": "btcusd@bookTicker",
        "data": {"e": "bookTicker", "u": 4, "E": 5, "T": 5, "s": "BTCUSD", "b": "1", "a": "2"},
    },
    Coinbase: {
        "channel": "ticker", "timestamp": "2026-07-19T17:54:39Z", "sequence_num": 0,
        "events": [
            {"type": "update", "tickers": [{"product_id": "BTCUSD", "best_bid": "1", "best_ask": "2"}]}
        ],
    },
    Kraken: {
        "channel": "ticker", "type": "update", "data": [{"symbol": "BTCUSD", "bid": 1.0, "ask": 2.0}],
    },
}  # fmt: skip


def test_each_exchange_is_tried():
    assert UNIMPORTANT.keys() == EXCHANGES.keys()


@pytest.mark.parametrize("name", UNIMPORTANT)
def test_a_message_without_a_field_of_no_importance_is_recorded(name):
    tried = set()
    for frames, listings in scripted(name):
        for number, frame in enumerate(frames):
            message, before = read(frame), frames[:number]
            was = records(decoded(name, listings, before, message))
            if not was or was[0]["channel"] == "trades":
                continue
            for path in [each for each in places(message) if each[-1] in UNIMPORTANT[name]]:
                now = records(decoded(name, listings, before, changed(message, path, MISSING)))
                assert [it["channel"] for it in now] == [it["channel"] for it in was], path
                tried.add(path[-1])
    assert tried == UNIMPORTANT[name]


def connected(exchange, *channels):
    """A session for some channels of one symbol."""
    listed = Instrument(symbol="BTC-USD", exchange_symbol="BTCUSD", kind="spot", base="BTC", quote="USD")
    return exchange().session([Subscription(each, "BTC-USD") for each in channels], {"BTC-USD": listed})


def test_a_book_of_binance_without_times_is_recorded():
    it, found = connected(BinanceFutures, "l2_book"), []
    for number in (7, 8, 9):
        data = {
            "e": "depthUpdate",
            "U": number,
            "u": number,
            "pu": number - 1,
            "b": [["1", f"{number}"]],
            "a": [],
        }
        frame = msgspec.json.encode({"stream": "btcusd@depth@100ms", "data": data})
        for output in it.receive(frame, NOW + number):
            found.append(output)
            if isinstance(output, Request):
                found += it.answer(output.id, 200, b'{"lastUpdateId":7,"bids":[["1","7"]],"asks":[]}', NOW)
    books = [each for each in found if isinstance(each, Record)]
    assert [(each.delta, each.timestamp) for each in books] == [
        (False, NOW),
        (True, NOW + 8),
        (True, NOW + 9),
    ]
    assert not [each for each in found if isinstance(each, Malformed)]


@pytest.mark.parametrize("exchange", BEST)
def test_best_prices_without_sizes_are_a_ticker_and_malformed_as_an_l1_book(exchange):
    outputs = connected(exchange, "ticker", "l1_book").receive(msgspec.json.encode(BEST[exchange]), NOW)
    assert [channel_of(each) for each in outputs if isinstance(each, Record)] == ["ticker"]
    (malformed,) = [each for each in outputs if isinstance(each, Malformed)]
    assert malformed.about == (Subscription("l1_book", "BTC-USD"),)
