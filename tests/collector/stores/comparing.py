"""Records as text, to compare what was stored with what was sent."""

from decimal import Decimal

from collector import records as r


def digits(record):
    """A record as text, digit for digit: 1.50 is not 1.5, but 1E-8 is 0.00000001."""
    return r.channel_of(record), *map(_digits, r.fields(record).values())


def _digits(value):
    if isinstance(value, list | tuple):
        return tuple(_digits(each) for each in value)
    if isinstance(value, float):
        return f"{value:.6f}"  # microseconds are what all stores keep
    return f"{value:f}" if isinstance(value, Decimal) else repr(value)


def per_key(records):
    """Records by channel and symbol, in their order, digit for digit."""
    found = {}
    for record in records:
        found.setdefault((r.channel_of(record), record.symbol), []).append(digits(record))
    return found
