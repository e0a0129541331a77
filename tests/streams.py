"""Records for tests: one of every kind, and as many as a test likes."""

from decimal import Decimal

from msgspec import structs

from collector import bounds
from collector import records as r
from collector.times import nanoseconds

D = Decimal
AT = 1_700_000_000.0
_AT, _LATER = nanoseconds(AT), nanoseconds(0.01)  # tests make millions


def written(record):
    """The record with its Decimals as the texts that records have, and its float seconds as nanoseconds."""
    return timed(type(record)(**{name: _written(getattr(record, name)) for name in record.__struct_fields__}))


def timed(record):
    """The record with its float seconds as nanoseconds."""
    times = {name: getattr(record, name) for name in r.time_fields(type(record))}
    return structs.replace(
        record, **{name: nanoseconds(time) for name, time in times.items() if isinstance(time, float)}
    )


def _written(value):
    if isinstance(value, list | tuple):
        return type(value)(map(_written, value))
    return bounds.written(value) if isinstance(value, Decimal) else value


def in_seconds(record):
    """The record with its times as float seconds."""
    return structs.replace(record, **{name: r.fields(record)[name] for name in r.time_fields(type(record))})


def one_of_each(exchange="COINBASE", symbol="BTC-USD", at=AT):
    """Every channel's record, with the values that get lost first: tiny, huge, trailing zeros, nothing."""
    who = (exchange, symbol, at + 0.123456, at + 1.654321)
    bid = [(D("100.10"), D("1.50")), (D("1E-8"), D("0.00000001"))]
    records = [
        r.Trade(*who, "buy", D("0.00000001"), D("100.10"), "17", "limit"),
        r.Trade(*who, "sell", D("1E-8"), D("12345678901234567890.123456789012345678"), None, None),
        r.Ticker(*who, D("100.1"), D("100.20")),
        r.L1Book(*who, D("1"), D("2.0"), D("3.00"), D("4E+3")),
        r.L2Book(*who, False, bid, [(D("101"), D("2E-8"))]),
        r.L2Book(*who, True, [(D("100.10"), D("0"))], []),
        r.L3Book(*who, False, [("a", D("1.0"), D("2")), ("b", D("1.0"), D("3"))], [("c", D("9"), D("1"))]),
        r.L3Book(*who, True, [], [("c", D("9"), D("0"))]),
        r.Funding(*who, D("100.5"), D("-0.00010"), at + 28800, D("0.0001")),
        r.Funding(*who, None, None, None, None),
        r.OpenInterest(*who, D("12345.678900")),
        r.Liquidation(*who, "sell", D("1.0"), D("2"), None, "filled"),
        r.Index(*who, D("42")),
        r.Candle(*who, at, at + 59.999, "1m", None, D("1"), D("2.0"), D("3"), D("0.5"), D("1E+2"), None),
        r.Candle(*who, at, at + 60, "1m", 7, D("1"), D("2"), D("3"), D("0.5"), D("5"), True),
        r.Gap(*who, "trades", at + 1, at + 2.5, "dropped", 17),
        r.Gap(*who, "l2_book", at + 1, at + 2.5, "disconnect", None),
    ]
    return list(map(written, records))


def trades(number, start=0, symbol="BTC-USD"):
    """``number`` different trades, 1 ms apart, two by two in one frame."""
    for index in range(start, start + number):
        at = _AT + index // 2 * 1_000_000
        yield r.Trade("COINBASE", symbol, at, at + _LATER, "buy", str(index), "1.10", str(index), None)


def stream(number, symbols=("BTC-USD", "ETH-USD")):
    """``number`` records: trades and book deltas of several symbols."""
    for index in range(number):
        symbol = symbols[index % len(symbols)]
        at = _AT + index // 4 * 1_000_000
        if index % 3:
            yield r.Trade("COINBASE", symbol, at, at + _LATER, "buy", str(index), "1.10", str(index), None)
        else:
            yield r.L2Book("COINBASE", symbol, at, at + _LATER, True, [("1.10", str(index))], [])
