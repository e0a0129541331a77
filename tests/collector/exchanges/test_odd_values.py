"""A message with one odd value in it: malformed, with its reason, or a right record; never silence.

Each message of the scripts, and of the recordings where they are, is sent with a value of chance changed.
"""

import contextlib
import re
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from played import ALL, RECEIPT
from spoiling import (
    IN_A_LIST,
    MISSING,
    OTHER_CASE,
    changed,
    decoded,
    places,
    read,
    records,
    scripted,
    written,
)

from collector.exchanges.directory import EXCHANGES

#: Recorded messages, which are not the project's to publish.
RECORDINGS = Path(__file__).parents[4] / "shared" / "messages"
CHANGES = 8 * settings.default.max_examples  # of each exchange's script, and of its recordings
MOST_BEFORE = 12  # messages that come before the changed one

ODD = [
    *(MISSING, OTHER_CASE, IN_A_LIST, None, True, "", " 1", "zzz", {"no": "value"}, [], ["1", "2"]),
    *(7, -1, 0, 1.5, 10**25, 10**400, "-1", "0", "+1", "1e5", "NaN", "1e400", "9" * 41, "x" * 300),
]
AMOUNTS = {"amount", "quantity", "volume", "open_interest", "bid_size", "ask_size"}
PRICES = {"price", "bid", "ask", "bid_price", "ask_price", "mark_price", "open", "close", "high", "low"}
LEVELS = {"b", "a", "bids", "asks", "updates"}  # what is stored of a book comes of earlier messages as well
TRADED = {("trades", "amount"), ("liquidations", "quantity")}
TIMES = {"timestamp", "receipt_timestamp", "start", "stop", "next_funding_time"}
_is_number = re.compile(r"-?[0-9]{1,80}(\.[0-9]{1,80})?").fullmatch


def recorded(name):
    for path in sorted((RECORDINGS / name.replace("BINANCE_US", "BINANCE")).glob("*.json*")):
        if not path.name.endswith("received_ns.jsonl"):
            lines = [line for line in path.read_bytes().splitlines()[:40] if line.startswith(b"{")]
            yield lines, ()


class Sent:
    """A message of a connection, as it was sent."""

    def __init__(self, name, frames, number, listings):
        self.name, self.listings = name, listings
        self.before = frames[max(0, number - MOST_BEFORE) : number]
        self.message = read(frames[number])

    def decoded(self, message):
        """What ``collector decode`` says of a message in its place."""
        return decoded(self.name, self.listings, self.before, message)

    @cached_property
    def records(self):
        return records(self.decoded(self.message))


def sent(name, connections):
    return [
        Sent(name, frames, number, listings)
        for frames, listings in connections
        for number in range(len(frames))
    ]


def spoilt(messages, seed):
    """Messages, each with the path to a value and an odd one for it."""
    draw = Random(seed)
    for _ in range(CHANGES):
        each = draw.choice(messages)
        yield each, draw.choice(list(places(each.message))), draw.choice(ODD)


def check(record):
    """See that a record is one: nothing in it that no exchange could have meant."""
    channel = record["channel"]
    for field, value in record.items():
        if field in TIMES:
            assert value is None or 0 < value < 10**19, record
        elif isinstance(value, list):
            for *_, price, size in value:
                assert _is_number(price), record
                assert _is_number(size), record
                assert not size.startswith("-"), record
        elif field in AMOUNTS | PRICES | {"rate", "predicted_rate"}:
            assert value is None or _is_number(value), record
            assert field not in AMOUNTS or not value.startswith("-"), record
            assert (channel, field) not in TRADED or Decimal(value), record
    assert record.get("id") != "", record
    assert record.get("side") in (None, "buy", "sell"), record
    assert "start" not in record or record["start"] < record["stop"], record
    assert record["exchange_symbol"], record


def said(odd):
    """What a field of a record may be that has an odd value."""
    yield from (None, RECEIPT)
    if isinstance(odd, bool):
        yield from (True, "sell", "buy")
    elif isinstance(odd, int | float):
        yield from (str(odd), odd, odd * 10**6)
    elif isinstance(odd, str):
        yield from (odd, odd.lower())
        with contextlib.suppress(InvalidOperation):
            yield format(Decimal(odd), "f")
    elif isinstance(odd, list):
        for each in odd:
            yield from said(each)


def sent_at(message):
    """The times that a message has besides those of its records, which stand in for one that is missing."""
    return [value * 10**6 for value in message.values() if isinstance(value, int)]


def explains(odd, before, after, stand_ins):
    """Whether a record with an odd value differs from the one without it in that value alone."""
    if before["exchange_symbol"] != after["exchange_symbol"] or before["channel"] != after["channel"]:
        return before["channel"] == after["channel"]
    possible = list(said(odd))
    for field, value in after.items():
        if value == before[field]:
            continue
        if isinstance(value, list) and isinstance(before[field], list):
            new = [level for level in value if level not in before[field]]
            if all(any(part in possible for part in level) for level in new):
                continue
        if value not in possible and (field, value) not in (("timestamp", time) for time in stand_ins):
            return False
    return True


def see(each, path, odd):
    """Send a message with an odd value, and compare what is made of it with what is made without."""
    message = changed(each.message, path, odd)
    if odd is OTHER_CASE or odd is IN_A_LIST:
        holder = message
        for key in path:
            holder = holder[key]
        odd = holder
    shown = each.decoded(message)
    assert shown, f"nothing is said of {written(message)[:500]!r}"
    for line in shown:
        assert "malformed" not in line or line["malformed"]
    for record in records(shown):
        check(record)
        if each.records and not LEVELS & set(path):
            known = (explains(odd, was, record, sent_at(message)) for was in each.records)
            assert any(known), (path, odd, record, each.records)


@ALL
def test_an_odd_value_is_malformed_or_stored_as_it_was_sent(path):
    for case in spoilt(sent(path.stem, scripted(path.stem)), f"{path.stem} 1"):
        see(*case)


@ALL
@pytest.mark.parametrize("odd", ["-1", "0"])
def test_no_stored_amount_is_negative_and_no_trade_is_of_zero(path, odd):
    messages = sent(path.stem, scripted(path.stem))
    assert messages
    for each in messages:
        for place in places(each.message):
            see(each, place, odd)


@pytest.mark.skipif(not RECORDINGS.exists(), reason="there are no recorded messages beside the project")
@pytest.mark.parametrize("name", sorted(EXCHANGES))
def test_an_odd_value_in_what_was_recorded(name):
    for case in spoilt(sent(name, recorded(name)), f"{name} 2"):
        see(*case)
