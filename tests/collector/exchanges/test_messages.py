"""What becomes of an exchange's messages when one lacks a field, cannot be read, or comes again."""

import json
import re
from itertools import chain

import pytest
from played import ALL, ORIGIN, RECEIPT, Played
from scripted import SCRIPTS, Script, address, text_of

from collector.exchanges.protocol import Break, Malformed, Renew, Request
from collector.records import L2Book, Record, Trade

#: When messages are received; no exchange says that it is then.
NOW = RECEIPT + 1
#: Channels of which one stream tells.
TOGETHER = {"funding", "open_interest", "index"}


class Connections(Played):
    """The connections of a script, each with the frames that are sent on it."""

    @classmethod
    def of(cls, path):
        return cls(Script.read(path, ORIGIN))

    def __iter__(self):
        instruments = self.listing.instruments
        for plan in self.exchange.connections(self.wanted, instruments):
            (connection,) = (it for it in self.script.connections if it.address == address(plan.url))
            frames = [text_of(step.line.send) for step in connection.steps if bytes(step.line.send)]
            yield plan, [frame for frame in frames if frame.startswith(b"{")]

    def outputs(self, plan, frames):
        """What a new connection makes of frames, frame by frame, its requests answered."""
        session = self.exchange.session(plan.subscriptions, self.listing.instruments)
        session.opening()
        return [list(self.answered(session, session.receive(frame, NOW))) for frame in frames]

    def answered(self, session, outputs, most=3):
        for output in outputs:
            if isinstance(output, Request) and most:
                again = session.answer(output.id, 200, self.body(output.url), NOW)
                yield from self.answered(session, again, most - 1)
            else:
                yield output

    def messages(self):
        """Each message that becomes records: its connection, all frames of that, and its place among them."""
        for plan, frames in self:
            for number, outputs in enumerate(self.outputs(plan, frames)):
                if records(outputs):
                    yield plan, frames, number


def records(outputs, but=()):
    return [each for each in outputs if isinstance(each, Record) and channel(each) not in but]


def channel(record):
    return record.__struct_config__.tag


def faults(outputs):
    return [each for each in chain(*outputs) if isinstance(each, Break | Malformed)]


def leaves(value, path=()):
    """The path to each named field of a message that is no list or object."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    elif isinstance(path[-1], str):
        yield path


def read(frame):
    """A message, its numbers with a point as marked texts: they keep their digits."""
    return json.loads(frame, parse_float="@{}@".format)


def changed(frames, number, path, change):
    """The frames, with a field of one of them changed."""
    message = holder = read(frames[number])
    for key in path[:-1]:
        holder = holder[key]
    change(holder, path[-1])
    text = json.dumps(message, separators=(",", ":")).replace('"@', "").replace('@"', "")
    return [*frames[:number], text.encode(), *frames[number + 1 :]]


def left_out(holder, key):
    del holder[key]


def unreadable(holder, key):
    holder[key] = {"no": "value"}


def another(holder, key):
    """Another value of the same kind."""
    value = holder[key]
    if isinstance(value, bool):
        holder[key] = not value
    elif isinstance(value, int):
        holder[key] = value + 1
    elif isinstance(value, str):
        holder[key] = value[:-1] + "7@" if value.startswith("@") else value + "7"


#: What no record shows, but by which messages are told apart and joined to a snapshot; and of the candle that
#: has begun, which is stored when the next one does.
_JOINED = {"stream", "E", "U", "u"}
_BEGUN = {"start", "interval", "open", "close", "high", "low", "volume", "trades"}
NEEDED = {"BINANCE": _JOINED, "COINBASE": _BEGUN, "KRAKEN": _BEGUN}


@ALL
def test_a_field_that_changes_nothing_may_be_missing(path):
    it, tried = Connections.of(path), 0
    for plan, frames, number in it.messages():
        expected = it.outputs(plan, frames)
        for field in leaves(read(frames[number])):
            if field[-1] in NEEDED.get(it.exchange.id.partition("_")[0], ()):
                continue
            if it.outputs(plan, changed(frames, number, field, another)) == expected:
                outputs = it.outputs(plan, changed(frames, number, field, left_out))
                assert records(outputs[number]) == records(expected[number]), field
                tried += 1
    assert tried


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("BYBIT", "u"),
        ("BYBIT", "ts"),
        ("COINBASE", "sequence_num"),
        ("KRAKEN", "checksum"),
        ("OKX", "seqId"),
        ("OKX", "prevSeqId"),
    ],
)
def test_a_message_without_its_check_field_is_still_taken(name, field):
    it, tried = Connections.of(SCRIPTS / f"{name}.jsonl"), 0
    for plan, frames in it:
        without = frames
        for number, frame in enumerate(frames):
            for path in leaves(read(frame)):
                if path[-1] == field:
                    without = changed(without, number, path, left_out)
                    tried += 1
        outputs = it.outputs(plan, without)
        assert len(records(chain(*outputs))) == len(records(chain(*it.outputs(plan, frames))))
        assert not faults(outputs)
    assert tried


@ALL
def test_an_unreadable_field_costs_only_what_its_message_concerns(path):
    it = Connections.of(path)
    for plan, frames, number in it.messages():
        expected = it.outputs(plan, frames)
        about = set(map(channel, records(expected[number])))
        about |= TOGETHER if about & TOGETHER else set()
        for field in leaves(read(frames[number])):
            outputs = it.outputs(plan, changed(frames, number, field, unreadable))
            bad = [each for each in outputs[number] if isinstance(each, Malformed)]
            assert {subscription.channel for each in bad for subscription in each.about} <= about, field
            rest = [[records(of, but=about) for of in each] for each in (outputs, expected)]
            assert rest[0] == rest[1], field


@ALL
def test_a_duplicate_message_breaks_nothing(path):
    it = Connections.of(path)
    for plan, frames in it:
        expected = [records(of) for of in it.outputs(plan, frames)]
        for number in range(len(frames)):
            outputs = it.outputs(plan, [*frames[: number + 1], *frames[number:]])
            assert not faults(outputs)
            again = records(outputs.pop(number + 1))
            assert not [each for each in again if isinstance(each, L2Book) and each.delta]
            assert [records(of) for of in outputs] == expected


@ALL
def test_a_message_about_a_book_is_one_record(path):
    it = Connections.of(path)
    for plan, frames in it:
        for outputs in it.outputs(plan, frames):
            assert sum(isinstance(each, L2Book) for each in outputs) <= 1


#: Spot sends none with its best prices, and REST none with its books.
WITHOUT_TIME = {(name, of) for name in ("BINANCE", "BINANCE_US") for of in ("ticker", "l2_book")}


@ALL
def test_the_time_of_the_exchange_is_kept(path):
    it = Connections.of(path)
    for plan, frames in it:
        for record in records(chain(*it.outputs(plan, frames))):
            assert record.timestamp != NOW or (record.exchange, channel(record)) in WITHOUT_TIME


def with_row(answer, row):
    """The answer of a listing with one more row."""
    message = rows = json.loads(answer)
    while isinstance(rows, dict):
        inner = [rows[key] for key in ("symbols", "products", "result", "list", "data") if key in rows]
        if not inner:
            rows["BAD"] = row
            break
        (rows,) = inner
    else:
        rows.append(row)
    return json.dumps(message).encode()


@ALL
@pytest.mark.parametrize("row", [None, 7, "x", [], {}, {"symbol": 7}, {"instId": ""}, {"product_id": ""}])
def test_an_unreadable_row_is_left_out_alone(path, row):
    it = Connections.of(path)
    answers = [answer for url in it.exchange.listing() for answer in it.pages(url)]
    listed = it.exchange.instruments(answers)
    for number, answer in enumerate(answers):
        bad = with_row(answer, row)
        found = it.exchange.instruments([*answers[:number], bad, *answers[number + 1 :]])
        assert found.instruments == listed.instruments
        assert len(found.unread) == len(listed.unread) + 1
        assert found.unread[-1].reason


#: How rows of a listing name their parts: the exchange's own name, and the steps of price and amount.
FIELDS = {
    "BINANCE": ({"symbol"}, {"tickSize"}, {"stepSize"}),
    "BYBIT": ({"symbol"}, {"tickSize"}, {"qtyStep", "basePrecision"}),
    "COINBASE": ({"product_id"}, {"price_increment"}, {"base_increment"}),
    "KRAKEN": ({"wsname"}, {"tick_size"}, {"lot_decimals"}),
    "OKX": ({"instId"}, {"tickSz"}, {"lotSz"}),
}
#: What says of which kind a row is, or how large a contract: without it, it would be another.
KIND = {"contractType", "contractSize", "ctVal", "product_type", "instType", "future_product_details"}


def listings(path):
    """Each field of an exchange's listing, with what makes the listing with another value of it."""
    it = Connections.of(path)
    answers = [answer for url in it.exchange.listing() for answer in it.pages(url)]
    for number, answer in enumerate(answers):
        for field in leaves(json.loads(answer)):

            def changed_to(change, number=number, answer=answer, field=field):
                spoilt, *_ = changed([answer], 0, field, change)
                return it.exchange.instruments([*answers[:number], spoilt, *answers[number + 1 :]])

            yield it, field[-1], changed_to


def to(value):
    def change(holder, key):
        holder[key] = value

    return change


@ALL
def test_an_instrument_without_a_name_is_never_listed(path):
    tried = 0
    for it, field, listing in listings(path):
        for change in (left_out, to(""), to(None), to("-"), to("/")):
            listed = listing(change)
            for symbol, instrument in listed.instruments.items():
                assert all(symbol.split("-")), symbol
                assert instrument.exchange_symbol
            if field in FIELDS[it.exchange.id.partition("_")[0]][0] and change == left_out:
                told = len(listed.unread) > len(it.listing.unread)
                assert told or listed.instruments == it.listing.instruments
                tried += 1
    assert tried


@ALL
@pytest.mark.parametrize("wrong", ["", "NaN", "-1", "0", "x"])
def test_an_unreadable_step_costs_only_the_step(path, wrong):
    tried = 0
    for it, field, listing in listings(path):
        _, ticks, lots = FIELDS[it.exchange.id.partition("_")[0]]
        if field in ticks | lots and field != "lot_decimals":
            for change in (left_out, to(wrong)):
                listed = listing(change)
                assert listed.instruments.keys() == it.listing.instruments.keys()
                for instrument in listed.instruments.values():
                    assert instrument.tick is None or float(instrument.tick) > 0
                    assert instrument.lot is None or float(instrument.lot) > 0
                tried += 1
    assert tried


#: What is not traded any more.
GONE = {
    "BINANCE": {"status": "BREAK", "contractStatus": "CLOSE"},
    "BYBIT": {"status": "Closed"},
    "COINBASE": {"status": "delisted"},
    "KRAKEN": {"status": "cancel_only"},
    "OKX": {"state": "expired"},
}


def first_row(answer, name):
    """The first row of a listing, under another name of the exchange's."""
    rows = json.loads(answer)
    while isinstance(rows, dict):
        inner = [rows[key] for key in ("symbols", "products", "result", "list", "data") if key in rows]
        rows = inner[0] if inner else list(rows.values())
    row = rows[0]
    return row | {name: f"X{row[name]}"}


@ALL
def test_two_instruments_with_one_name_are_both_left_out_and_named(path):
    it = Connections.of(path)
    family = it.exchange.id.partition("_")[0]
    answers = [answer for url in it.exchange.listing() for answer in it.pages(url)]
    (name,) = FIELDS[family][0]
    row = first_row(answers[0], name)
    listed = it.exchange.instruments([with_row(answers[0], row), *answers[1:]])
    if family == "KRAKEN":  # its names are made of the currencies: another name is another instrument
        assert listed.instruments.keys() > it.listing.instruments.keys()
        return
    (gone,) = it.listing.instruments.keys() - listed.instruments.keys()
    told = [row.reason for row in listed.unread]
    assert told[-2:] == [f"2 instruments would be {gone}"] * 2


@ALL
def test_an_instrument_that_is_no_longer_traded_is_not_listed(path):
    it = Connections.of(path)
    family = it.exchange.id.partition("_")[0]
    answers = [answer for url in it.exchange.listing() for answer in it.pages(url)]
    (name,) = FIELDS[family][0]
    row = first_row(answers[0], name) | GONE[family]
    listed = it.exchange.instruments([with_row(answers[0], row), *answers[1:]])
    assert listed.instruments == it.listing.instruments
    assert len(listed.unread) == len(it.listing.unread)


@ALL
def test_a_contract_is_not_listed_as_something_else(path):
    for it, field, listing in listings(path):
        if field in KIND:
            for change in (left_out, to(None), to("")):
                listed = listing(change)
                assert listed.instruments.items() <= it.listing.instruments.items(), field


#: What no amount is.
NO_AMOUNT = pytest.mark.parametrize("wrong", [b'"NaN"', b'"-1"'])


def with_sizes(frame, wrong):
    """The message with another size of each level; None where it has none."""
    found, count = re.subn(rb'(\["[0-9.]+",|"qty":|"new_quantity":)"?[0-9.]+"?', rb"\1" + wrong, frame)
    return found if count else None


@ALL
@NO_AMOUNT
def test_an_impossible_amount_is_malformed(path, wrong):
    it = Connections.of(path)
    found = 0
    for plan, frames, number in it.messages():
        (outputs,) = it.outputs(plan, frames[number : number + 1])
        if not any(isinstance(each, Trade) for each in outputs):
            continue
        changed = re.sub(rb'("q":|"v":|"size":|"qty":|"sz":)"?[0-9.]+"?', rb"\1" + wrong, frames[number])
        (outputs,) = it.outputs(plan, [changed])
        assert not records(outputs)
        assert any(isinstance(each, Malformed) for each in outputs)
        found += 1
    assert found


@ALL
@NO_AMOUNT
def test_an_unreadable_book_message_restarts_that_book(path, wrong):
    it = Connections.of(path)
    found = 0
    for plan, frames in it:
        for number, frame in enumerate(frames):
            changed = with_sizes(frame, wrong)
            if changed is None:
                continue
            session = it.exchange.session(plan.subscriptions, it.listing.instruments)
            session.opening()

            def received(frames, session=session):
                return [
                    each for frame in frames for each in it.answered(session, session.receive(frame, NOW))
                ]

            before = [each for each in received(frames[:number]) if isinstance(each, L2Book)]
            outputs = session.receive(changed, NOW)
            about = {
                each.channel for output in outputs if isinstance(output, Malformed) for each in output.about
            }
            if "l2_book" not in about:
                continue
            found += 1
            # without a book, BINANCE's next update asks for the snapshot
            asks = not before and it.exchange.id.startswith("BINANCE")
            assert asks or any(isinstance(each, Renew | Request) for each in outputs)
            assert not before or any(isinstance(each, Break) for each in outputs)
            if before:  # the next ones do not matter
                again = it.answered(session, session.receive(changed, NOW))
                assert not any(isinstance(each, Break | Renew) for each in again) or b'"snapshot"' in changed
            after = [each for each in received(frames[number + 1 :]) if isinstance(each, L2Book)]
            assert not after or not after[0].delta, "a change of a book that is not right"
    assert found > 1
