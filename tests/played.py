"""The script of an exchange, played on the pure exchange: no socket, no clock."""

import dataclasses
from collections import deque

import pytest
from scripted import SCRIPTS, Script, address, comparable, text_of

from collector.exchanges.directory import EXCHANGES
from collector.exchanges.protocol import (
    Break,
    Malformed,
    Options,
    Refused,
    Renew,
    Request,
    Send,
    Subscription,
)
from collector.records import Record

ORIGIN = 1_790_000_000
RECEIPT = (ORIGIN + 1) * 10**9

#: For a test of every exchange that is spoken to by us.
ALL = pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.jsonl")), ids=lambda path: path.stem)


@dataclasses.dataclass
class Played:
    """A script as the pure exchange plays it."""

    script: Script
    records: list[Record] = dataclasses.field(default_factory=list)
    bad: list[object] = dataclasses.field(default_factory=list)  # events that no script wants

    def __post_init__(self):
        settings = self.script.collector
        self.exchange = EXCHANGES[settings["EXCHANGE"]](Options(candle_interval=settings["CANDLE_INTERVAL"]))
        self.wanted = [
            Subscription(channel, symbol)
            for channel in settings["CHANNELS"].split(",")
            for symbol in settings["SYMBOLS"].split(",")
        ]
        self.listing = self.exchange.instruments(
            [answer for url in self.exchange.listing() for answer in self.pages(url)]
        )

    def body(self, url):
        return bytes(self.script.answers[address(url)][0].body)

    def pages(self, url):
        while url:
            answer = self.body(url)
            yield answer
            url = self.exchange.next_page(url, answer)

    def play(self):
        instruments = self.listing.instruments
        plans = {address(it.url): it for it in self.exchange.connections(self.wanted, instruments)}
        assert plans.keys() == {connection.address for connection in self.script.connections}
        for connection in self.script.connections:
            session = self.exchange.session(plans[connection.address].subscriptions, instruments)
            self.play_on(connection, session)
        for poll in self.exchange.polls(self.wanted, instruments):
            about = poll.subscription, poll.exchange_symbol
            self.take(self.exchange.read_poll(*about, self.body(poll.url), RECEIPT), None, deque())

    def play_on(self, connection, session):
        sent = deque(session.opening())
        for step in connection.steps:
            if expected := bytes(step.line.expect):
                assert sent, f"{step.place}: nothing is sent where {expected!r} is expected"
                assert comparable(sent.popleft().encode()) == comparable(expected), step.place
            elif bytes(step.line.send):
                self.take(session.receive(text_of(step.line.send), RECEIPT), session, sent)
        assert not sent

    def take(self, outputs, session, sent):
        for output in outputs:
            match output:
                case Record():
                    self.records.append(output)
                case Send(frame=frame):
                    sent.append(frame)
                case Renew(frames=frames):
                    sent += frames
                case Request(id=number, url=url):
                    self.take(session.answer(number, 200, self.body(url), RECEIPT), session, sent)
                case Break() | Refused() | Malformed():
                    self.bad.append(output)
