"""What each exchange is asked, and what its messages become, value for value, as its script has it.

The records of a script were worked out from the exchange's documentation, not from what reads the messages.
"""

import json
import re
from collections import deque

import msgspec
from played import ALL, ORIGIN, RECEIPT, Played
from scripted import SCRIPTS, Script, address, text_of

from collector.exchanges.directory import EXCHANGES
from collector.exchanges.protocol import Request

TIMES = {"timestamp", "start", "stop", "next_funding_time"}


def shown(record):
    """A record as a script has it."""
    fields = msgspec.structs.asdict(record)
    del fields["exchange"], fields["receipt_timestamp"]
    fields.pop("number", None)  # it is not stored
    for name in TIMES & fields.keys():
        fields[name] = seconds(fields[name])
    for name, value in fields.items():
        if isinstance(value, bool | int):
            fields[name] = str(value).lower()
        elif isinstance(value, list):
            fields[name] = [[*level] for level in value]
    return {"channel": record.__struct_config__.tag} | fields


def seconds(nanoseconds):
    return None if nanoseconds is None else f"{nanoseconds // 10**9}.{nanoseconds % 10**9 // 10**6:03}"


def by_stream(records):
    streams = {}
    for record in records:
        streams.setdefault((record["channel"], record["symbol"]), []).append(record)
    return streams


@ALL
def test_messages_become_the_records_of_the_script(path):
    played = Played(Script.read(path, ORIGIN))
    played.play()
    without_time = {"timestamp": seconds(RECEIPT)}  # where the exchange sends none, it is the receipt
    expected = [without_time | record for record in played.script.records]
    assert by_stream(map(shown, played.records)) == by_stream(expected)
    assert not played.bad


@ALL
def test_each_channel_that_the_exchange_offers_is_in_its_script(path):
    script = Script.read(path)
    offered = EXCHANGES[script.collector["EXCHANGE"]].channels.keys() - {
        "l1_book"
    }  # it is read where ticker is
    assert (
        {record["channel"] for record in script.records}
        == offered
        == {*script.collector["CHANNELS"].split(",")}
    )


def test_each_exchange_has_a_script():
    assert {path.stem for path in SCRIPTS.glob("*.jsonl")} == EXCHANGES.keys()


class PlayedTwice(Played):
    """Each connection has a twin, on which the same comes a moment before."""

    def play_on(self, connection, session):
        twin = self.exchange.session(
            [each for each in self.wanted if each in self.carried(connection)], self.listing.instruments
        )
        twin.opening()
        receive = session.receive

        def receive_twice(frame, receipt):
            self.answer(twin, twin.receive(frame, receipt))
            return receive(frame, receipt)

        session.receive = receive_twice
        super().play_on(connection, session)

    def carried(self, connection):
        plans = self.exchange.connections(self.wanted, self.listing.instruments)
        return next(it.subscriptions for it in plans if address(it.url) == connection.address)

    def answer(self, twin, outputs):
        for output in outputs:
            if isinstance(output, Request):
                self.answer(twin, twin.answer(output.id, 200, self.body(output.url), RECEIPT))


@ALL
def test_messages_on_one_connection_do_not_affect_another(path):
    alone, beside = Played(Script.read(path, ORIGIN)), PlayedTwice(Script.read(path, ORIGIN))
    alone.play()
    beside.play()
    assert beside.records == alone.records
    assert not beside.bad


def spoilt(frame):
    """The frame as often as it has numbers, each time with another one that is none."""
    message = json.loads(frame)

    def spoil(value, put):
        if isinstance(value, dict | list):
            for key in list(value) if isinstance(value, dict) else range(len(value)):
                yield from spoil(value[key], lambda new, of=value, at=key: of.__setitem__(at, new))
        elif type(value) in (int, float) or (
            isinstance(value, str) and re.fullmatch(r"[0-9]+\.?[0-9]*", value)
        ):
            for bad in ("NaN",) if isinstance(value, str) else ("@1e400@", "@1e99@"):
                put(bad)
                yield json.dumps(message).replace('"@', "").replace('@"', "").encode()
            put(value)

    yield from spoil(message, None)


@ALL
def test_no_stored_number_is_anything_but_a_number(path):
    played = Played(Script.read(path, ORIGIN))
    instruments = played.listing.instruments
    for plan in played.exchange.connections(played.wanted, instruments):
        (connection,) = (it for it in played.script.connections if it.address == address(plan.url))
        frames = [text_of(step.line.send) for step in connection.steps if bytes(step.line.send)]
        for number, frame in enumerate(frames):
            if not frame.startswith(b"{"):
                continue
            for bad in spoilt(frame):
                session = played.exchange.session(plan.subscriptions, instruments)
                session.opening()
                played.records, sent = [], deque()
                for before in frames[:number]:
                    played.take(session.receive(before, RECEIPT), session, sent)
                played.take(session.receive(bad, RECEIPT), session, sent)
                for record in played.records:
                    stored = msgspec.structs.asdict(record) | {"id": None}  # which is a name
                    assert not re.search("NaN|e400|e99", str(stored)), bad
