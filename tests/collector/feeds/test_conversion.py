"""Every channel's objects, as cryptofeed makes them, become records."""

from decimal import Decimal

import pytest
from cryptofeed import types
from spooled import spooled
from streams import written

from collector.feeds.through_cryptofeed.conversion import Conversion
from collector.gaps.recorder import Recorder
from collector.gaps.tracker import Gaps
from collector.metrics import Metrics
from collector.receiver import Receiver
from collector.records import (
    Candle,
    Funding,
    Gap,
    Index,
    L1Book,
    L2Book,
    L3Book,
    Liquidation,
    OpenInterest,
    Ticker,
    Trade,
    decode,
    encode,
)
from collector.settings import Settings
from collector.spool.spool import Spool
from collector.times import nanoseconds

D = Decimal
RECEIPT = 1700000000.5
TIME = 1700000000.25
PLACE = ("BYBIT", "BTC-USD-PERP")


def settings(folder, **variables):
    return Settings.read(
        {
            "EXCHANGE": "BYBIT",
            "SYMBOLS": "BTC-USD-PERP",
            "CHANNELS": "trades",
            "BACKEND": "TTY",
            "SPOOL_DIR": str(folder),
            **variables,
        }
    )


@pytest.fixture
async def spool(tmp_path):
    spool = await Spool.open(tmp_path)
    yield spool
    await spool.close()


@pytest.fixture
def receiver(spool, tmp_path):
    return Receiver(spool, Metrics())


@pytest.fixture
def conversion(receiver, tmp_path):
    return Conversion(settings(tmp_path), receiver, Gaps("BYBIT", Recorder(receiver)))


def callback(conversion, channel):
    return conversion.callback(channel, set(), lambda *_: None)


async def stored(receiver, spool):
    await receiver.drain()
    return await spooled(spool)


@pytest.mark.parametrize(
    ("channel", "it", "record"),
    [
        (
            "trades",
            types.Trade(*PLACE, "buy", D("0.10"), D("1.500"), TIME, id="7", type="limit"),
            Trade(*PLACE, TIME, RECEIPT, "buy", D("0.10"), D("1.500"), "7", "limit"),
        ),
        (
            "trades",
            types.Trade(*PLACE, "sell", D(1), D(2), 0),
            Trade(*PLACE, RECEIPT, RECEIPT, "sell", D(1), D(2), None, None),
        ),
        (
            "ticker",
            types.Ticker(*PLACE, D("1.10"), D("1.20"), None),
            Ticker(*PLACE, RECEIPT, RECEIPT, D("1.10"), D("1.20")),
        ),
        (
            "l1_book",
            types.L1Book(*PLACE, D(1), D(2), D(3), D(4), TIME),
            L1Book(*PLACE, TIME, RECEIPT, D(1), D(2), D(3), D(4)),
        ),
        (
            "funding",
            types.Funding(*PLACE, None, D("0.0001"), None, TIME),
            Funding(*PLACE, TIME, RECEIPT, None, D("0.0001"), None, None),
        ),
        (
            "funding",
            types.Funding(*PLACE, D(9), D("-0.0001"), TIME + 60, TIME, predicted_rate=D(0)),
            Funding(*PLACE, TIME, RECEIPT, D(9), D("-0.0001"), TIME + 60, D(0)),
        ),
        (
            "open_interest",
            types.OpenInterest(*PLACE, D("123.4"), None),
            OpenInterest(*PLACE, RECEIPT, RECEIPT, D("123.4")),
        ),
        (
            "liquidations",
            types.Liquidation(*PLACE, "sell", D(3), D(4), None, "filled", TIME),
            Liquidation(*PLACE, TIME, RECEIPT, "sell", D(3), D(4), None, "filled"),
        ),
        ("index", types.Index(*PLACE, D("5.5"), TIME), Index(*PLACE, TIME, RECEIPT, D("5.5"))),
        (
            "candles",
            types.Candle(*PLACE, 60.0, 120.0, "1m", 5, D(1), D(2), D(3), D("0.5"), D(9), True, TIME),
            Candle(
                *PLACE, TIME, RECEIPT, 60.0, 120.0, "1m", 5, D(1), D(2), D(3), D("0.5"), D(9), True
            ),
        ),
        (
            "candles",
            types.Candle("KRAKEN", "A-B", 60.0, 120.0, "1m", None, D(1), D(2), D(3), D(1), D(9), None, None),
            Candle(
                "KRAKEN", "A-B", RECEIPT, RECEIPT, 60.0, 120.0, "1m", None,
                D(1), D(2), D(3), D(1), D(9), None,
            ),
        ),
        (
            "l2_book",
            types.OrderBook(*PLACE, bids={D(1): D(2)}, asks={D(3): D(4)}),
            L2Book(*PLACE, RECEIPT, RECEIPT, False, [(D(1), D(2))], [(D(3), D(4))]),
        ),
        (
            "l3_book",
            types.OrderBook(*PLACE, bids={D(1): {"a": D(2)}}),
            L3Book(*PLACE, RECEIPT, RECEIPT, False, [("a", D(1), D(2))], []),
        ),
    ],
)  # fmt: skip
async def test_each_kind_of_object_becomes_its_record(channel, it, record, conversion, receiver, spool):
    await callback(conversion, channel)(it, RECEIPT)
    (found,) = await stored(receiver, spool)
    assert found == written(record)


@pytest.mark.parametrize(
    ("channel", "it", "numbers"),
    [
        ("trades", types.Trade(*PLACE, "buy", 3, "1.50", TIME), {"amount": D(3), "price": D("1.50")}),
        ("ticker", types.Ticker(*PLACE, 5, "1.2", 1700000000), {"bid": D(5), "ask": D("1.2")}),
        ("funding", types.Funding(*PLACE, 9, 0, None, TIME), {"mark_price": D(9), "rate": D(0)}),
        ("candles", types.Candle(*PLACE, 1, 2, "1m", D(7), 1, "2", 3, 1.5, 9, True, TIME),
         {"trades": 7, "open": D(1), "close": D(2), "low": D("1.5")}),
    ],
)  # fmt: skip
async def test_numbers_of_any_json_type_become_text_or_integers(
    channel, it, numbers, conversion, receiver, spool
):
    """Some of cryptofeed's classes hand out whole numbers and texts."""
    await callback(conversion, channel)(it, RECEIPT)
    (record,) = receiver._records
    assert decode(encode([record])) == [record]
    texts = {name: number if type(number) is int else str(number) for name, number in numbers.items()}
    assert {name: getattr(record, name) for name in numbers} == texts


@pytest.mark.parametrize("bid", [None, "", True, "much"])
async def test_a_value_that_is_not_a_number_is_malformed(bid, conversion, receiver):
    with pytest.raises(ValueError, match="is not a number"):
        await callback(conversion, "ticker")(types.Ticker(*PLACE, bid, D(1), TIME), RECEIPT)
    assert not receiver._records


async def test_an_amount_below_zero_is_malformed(conversion, receiver):
    one, below = D(1), D("-0.5")
    for channel, it in (
        ("trades", types.Trade(*PLACE, "buy", below, one, TIME)),
        ("l1_book", types.L1Book(*PLACE, one, below, one, one, TIME)),
        ("l1_book", types.L1Book(*PLACE, one, one, one, below, TIME)),
        ("open_interest", types.OpenInterest(*PLACE, below, None)),
        ("liquidations", types.Liquidation(*PLACE, "sell", below, one, None, "filled", TIME)),
        ("candles", types.Candle(*PLACE, 60, 120, "1m", 5, one, one, one, one, below, True, TIME)),
    ):
        with pytest.raises(ValueError, match="is below zero, which an amount cannot be"):
            await callback(conversion, channel)(it, RECEIPT)
    assert not receiver._records


POISON = [
    *("1e999999999", "-1e41", "1e-41", "0e-999999", "1" * 41, "0." + "1" * 41),
    *("NaN", "sNaN", "Infinity", "-Infinity"),
]


@pytest.mark.parametrize("text", POISON)
@pytest.mark.parametrize("convert", [D, str], ids=["Decimal", "text"])
async def test_a_number_out_of_bounds_is_malformed_wherever_it_comes(
    text, convert, conversion, receiver, spool
):
    value, one = convert(text), D(1)
    book = types.OrderBook(*PLACE, bids={D(9): D(2)})
    await callback(conversion, "l2_book")(book, RECEIPT)
    hostile = [
        ("trades", types.Trade(*PLACE, "buy", one, value, TIME)),
        ("trades", types.Trade(*PLACE, "buy", value, one, TIME)),
        ("ticker", types.Ticker(*PLACE, value, one, TIME)),
        ("l1_book", types.L1Book(*PLACE, one, one, one, value, TIME)),
        ("funding", types.Funding(*PLACE, None, value, None, TIME)),
        ("open_interest", types.OpenInterest(*PLACE, value, None)),
        ("liquidations", types.Liquidation(*PLACE, "sell", one, value, None, "filled", TIME)),
        ("index", types.Index(*PLACE, value, TIME)),
        ("candles", types.Candle(*PLACE, 60, 120, "1m", 5, one, one, value, one, one, True, TIME)),
    ]
    hostile.append(("l2_book", types.OrderBook(*PLACE[:1], "A-B", bids={one: value})))
    hostile.append(("l3_book", types.OrderBook(*PLACE, bids={one: {"a": value}})))
    for side in ("bid", "ask"):
        for level in ((one, value), (value, one)):
            changed = types.OrderBook(*PLACE, bids={D(9): D(2)})
            changed.delta = {"bid": [], "ask": []} | {side: [(one, one), level]}
            hostile.append(("l2_book", changed))
    for channel, it in hostile:
        with pytest.raises(ValueError, match="is not a number"):
            await callback(conversion, channel)(it, RECEIPT)
    assert len(await stored(receiver, spool)) == 1  # the book from before


@pytest.mark.parametrize("text", ["1" * 40, "-1e40", "1e-40", "0.0000", "0e-8", "99999.99999999"])
async def test_a_number_within_the_bounds_is_stored_digit_for_digit(text, conversion, receiver, spool):
    await callback(conversion, "trades")(types.Trade(*PLACE, "buy", D(1), D(text), TIME), RECEIPT)
    (record,) = await stored(receiver, spool)
    assert record.price == f"{D(text):f}"


async def test_a_book_that_failed_starts_again_with_a_complete_one(conversion, receiver, spool):
    take = callback(conversion, "l2_book")
    with pytest.raises(ValueError, match="is not a number"):
        await take(types.OrderBook(*PLACE, bids={D(1): D("1e50")}), RECEIPT)
    book = types.OrderBook(*PLACE, bids={D(1): D(2)})
    book.delta = {"bid": [(D(1), D(2))], "ask": []}
    await take(book, RECEIPT)
    (record,) = await stored(receiver, spool)
    assert not record.delta


@pytest.mark.parametrize(
    "it",
    [
        types.Trade(*PLACE, "buy", D(1), D(1), TIME, id="7" * 257),
        types.Trade(*PLACE, "b" * 257, D(1), D(1), TIME),
        types.Trade(*PLACE, "buy", D(1), D(1), TIME, type="\ud800"),
        types.Trade(*PLACE, "buy", D(1), D(1), TIME * 1000),
        types.Trade(*PLACE, "buy", D(1), D(1), float("nan")),
        types.Trade(*PLACE, "buy", D(1), D(1), float("-inf")),
        types.Trade(*PLACE, "buy", D(1), D(1), -TIME),
    ],
    ids=["long id", "long side", "half a character", "milliseconds", "nan", "inf", "before 1970"],
)
async def test_a_text_or_a_time_out_of_bounds_is_malformed(it, conversion, receiver):
    with pytest.raises(ValueError):  # noqa: PT011 - each has its own words
        await callback(conversion, "trades")(it, RECEIPT)
    assert not receiver._records


@pytest.mark.parametrize("trades", [-1, 2**63, 10**5000], ids=["negative", "64 bits", "endless"])
async def test_a_count_beyond_64_bits_is_malformed(trades, conversion):
    it = types.Candle(*PLACE, 60.0, 120.0, "1m", trades, D(1), D(1), D(1), D(1), D(1), True, TIME)
    with pytest.raises(ValueError, match="is not a count"):
        await callback(conversion, "candles")(it, RECEIPT)


async def test_the_first_object_of_a_symbol_is_reported(conversion):
    told = []
    awaited = {"BTC-USD-PERP"}

    def arrived(*news):
        told.append(news)
        awaited.discard(news[1])

    take = conversion.callback("trades", awaited, arrived)
    for _ in range(2):
        await take(types.Trade(*PLACE, "buy", D(1), D(2), TIME), RECEIPT)
    assert told == [("trades", "BTC-USD-PERP", RECEIPT)]


async def test_a_book_that_starts_over_is_a_gap(conversion, receiver):
    take = callback(conversion, "l2_book")
    book = types.OrderBook(*PLACE, bids={D(1): D(2)})
    await take(book, RECEIPT)
    book.delta = {"bid": [(D(1), D(3))], "ask": []}
    await take(book, RECEIPT + 1)
    book.delta = None
    await take(book, RECEIPT + 2)
    (gap,) = [it for it in receiver._records if isinstance(it, Gap)]
    assert (gap.missed, gap.symbol) == ("l2_book", "BTC-USD-PERP")
    assert (gap.start, gap.end, gap.reason) == (
        *(nanoseconds(RECEIPT + 1), nanoseconds(RECEIPT + 2)),
        "sequence",
    )
    conversion.forget_books([("l2_book", "BTC-USD-PERP")])
    await take(book, RECEIPT + 3)
    assert len([it for it in receiver._records if isinstance(it, Gap)]) == 1
