"""What an exchange sends: messages on a websocket, and answers of its REST interface, changed at random.

They begin as those of the exchange's script (tests/scripts), which are as the exchange sends them.
"""

import re
from functools import cache, cached_property
from random import Random

import msgspec
from fuzz import mutation, stored
from scripted import SCRIPTS, Script, address, text_of

from collector.bounds import LATEST, LONGEST_TEXT
from collector.decode.decoder import Decoder
from collector.exchanges.book import Storing
from collector.exchanges.directory import EXCHANGES
from collector.exchanges.instruments import Listing
from collector.exchanges.numbers import MalformedError
from collector.exchanges.protocol import (
    Event,
    Malformed,
    Options,
    Outputs,
    Repeated,
    Request,
    Session,
    Subscription,
)
from collector.records import Record

ORIGIN = 1_790_000_000
RECEIPT = (ORIGIN + 1) * 10**9
_is_number = re.compile(r"-?[0-9]{1,80}(\.[0-9]{1,80})?").fullmatch
_TEXTS = {"side", "id", "type", "status", "interval"}
_TIMES = {"timestamp", "receipt_timestamp", "start", "stop", "next_funding_time"}
_STORINGS = [Storing(), Storing(True), Storing(False, 3, 2)]

type Message = tuple[str, bytes]


class Played:
    """One exchange's script: what it answers, and what it sends on each connection."""

    def __init__(self, name: str) -> None:
        self.script = Script.read(SCRIPTS / f"{name}.jsonl", ORIGIN)
        settings = self.script.collector
        self.exchange = EXCHANGES[name](Options(candle_interval=settings["CANDLE_INTERVAL"]))
        self.wanted = [
            Subscription(channel, symbol)
            for channel in settings["CHANNELS"].split(",")
            for symbol in settings["SYMBOLS"].split(",")
        ]
        self.bodies = [bytes(line.body) for lines in self.script.answers.values() for line in lines]

    def pages(self, answer=lambda url, body: body) -> list[bytes]:
        """Return the answers of the listing; ``answer`` may change each of them."""
        pages = []
        for url in self.exchange.listing():
            following = url
            while following and len(pages) < 20:
                lines = self.script.answers.get(address(following), ())
                page = answer(following, bytes(lines[0].body) if lines else b"{}")
                pages.append(page)
                following = self.exchange.next_page(following, page)
        return pages

    @cached_property
    def listing(self) -> Listing:
        return self.exchange.instruments(self.pages())

    @cached_property
    def plans(self):
        """The plans of the connections, and what comes on each."""
        plans = {
            address(plan.url): plan
            for plan in self.exchange.connections(self.wanted, self.listing.instruments)
        }
        return [
            (plans[each.address], [text_of(step.line.send) for step in each.steps if bytes(step.line.send)])
            for each in self.script.connections
        ]

    @cached_property
    def polls(self):
        return [
            (poll, bytes(self.script.answers[address(poll.url)][0].body))
            for poll in self.exchange.polls(self.wanted, self.listing.instruments)
        ]


played = cache(Played)


class Messages:
    """A session that receives what its exchange sent, with some messages changed, doubled or out of order."""

    name, share = "messages", 0.3

    def draw(self, draw: Random) -> object:
        name = draw.choice(list(EXCHANGES))
        plans = played(name).plans
        number = draw.randrange(len(plans))
        frames = plans[number][1]
        first = draw.randrange(len(frames)) if draw.random() < 0.3 else 0
        messages = [("frame", frame) for frame in frames[first:]]
        for _ in range(draw.choice((1, 1, 2, 4))):
            at = draw.randrange(len(messages))
            messages[at : at + 1] = self._instead(messages[at], name, draw)
        return name, number, draw.randrange(len(_STORINGS)), messages

    def _instead(self, message: Message, name: str, draw: Random) -> list[Message]:
        match draw.randrange(10):
            case 0:
                return [message, message]
            case 1:
                body = draw.choice(played(name).bodies)
                return [message, ("answer", mutation.of_json(body, draw) if draw.random() < 0.7 else body)]
            case 2:
                return [
                    draw.choice((("tick", b""), ("failed", b""), ("renew", b""), ("probe", b""))),
                    message,
                ]
        return [("frame", mutation.of_json(message[1], draw))]

    def attempt(self, case) -> bool:
        name, number, storing, messages = case
        it = played(name)
        plan, _ = it.plans[number]
        options = Options(candle_interval=it.script.collector["CANDLE_INTERVAL"], storing=_STORINGS[storing])
        session = EXCHANGES[name](options).session(plan.subscriptions, it.listing.instruments)
        asked = set(plan.subscriptions)
        session.opening()
        open_requests: list[int] = []
        found: list[Record] = []
        for step, (kind, content) in enumerate(messages):
            outputs = list(_played_on(session, open_requests, kind, content, RECEIPT + step * 10**9))
            assert len(outputs) <= 20 + len(content), f"{len(outputs)} outputs of {len(content)} bytes"
            for output in outputs:
                check(output, asked)
            open_requests += [output.id for output in outputs if isinstance(output, Request)]
            found += [output for output in outputs if isinstance(output, Record)]
            found += [each for output in outputs if isinstance(output, Repeated) for each in output.records]
        frames = [content for kind, content in messages if kind == "frame" and b"\n" not in content]
        if number == 0:
            for shown in Decoder(it.exchange, listings=it.pages(), receipt=RECEIPT).decode(frames):
                msgspec.json.encode(shown)
        stored.check(found)
        return bool(found)


def _played_on(session: Session, requests: list[int], kind: str, content: bytes, now: int) -> Outputs:
    """Return what a session makes of one step; ``requests`` are open, and the oldest is answered."""
    match kind:
        case "frame":
            return session.receive(content, now)
        case "tick":
            return session.tick(now)
        case "probe":
            assert all(isinstance(each, str) for each in session.probe())
        case "renew":
            session.renew_books(["BTC-USD", "BTC-USDT", "BTC-USDT-PERP"])
        case "answer" if requests:
            session.answered_by(content)
            return session.answer(requests.pop(0), 200, content, now)
        case "failed" if requests:
            return session.failed(requests.pop(0), "it is away")
    return ()


def check(output: Record | Event, asked: set[Subscription]) -> None:
    """See that a record can be stored and was asked for, and that an event is about what was asked for."""
    match output:
        case Repeated(records=records):
            for record in records:
                check(record, asked)
        case Record():
            assert (output.__struct_config__.tag, output.symbol) in asked, output
            for field in output.__struct_fields__:
                _check_field(field, getattr(output, field), output)
        case Malformed(reason=reason, about=about):
            assert reason.encode()
            assert set(about) <= asked, about
        case Event():
            assert msgspec.json.encode(output)
            assert set(getattr(output, "subscriptions", ())) <= asked, output
        case _:
            raise AssertionError(output)


def _check_field(field: str, value: object, record: Record) -> None:
    match field:
        case "exchange" | "symbol" | "delta" | "closed":
            return
        case "number":
            assert value is None or (type(value) is int and -(2**63) <= value < 2**63), record
        case "trades":
            assert value is None or (type(value) is int and 0 <= value < 2**63), record
        case "bid" | "ask" if isinstance(value, list):
            for *order, price, size in value:
                assert _is_number(price), record
                assert _is_number(size), record
                assert all(len(each) <= LONGEST_TEXT for each in order), record
        case _ if field in _TIMES:
            assert value is None or (type(value) is int and 0 <= value < LATEST * 10**9), record
        case _ if field in _TEXTS:
            assert value is None or (type(value) is str and len(value) <= LONGEST_TEXT), record
            assert value is None or value.encode() is not None
            assert field != "side" or value in ("buy", "sell"), record
        case _:
            assert value is None or _is_number(value), record


class Answers:
    """Answers of a listing, of a poll and of what follows, changed at random."""

    name, share = "answers", 0.14

    def draw(self, draw: Random) -> object:
        name = draw.choice(list(EXCHANGES))
        it = played(name)
        if it.polls and draw.random() < 0.3:
            number = draw.randrange(len(it.polls))
            return name, "poll", number, [mutation.of_json(it.polls[number][1], draw)]
        pages = it.pages()
        for _ in range(draw.choice((1, 1, 2))):
            at = draw.randrange(len(pages))
            pages[at] = mutation.of_json(pages[at], draw)
        return name, "listing", 0, pages

    def attempt(self, case) -> bool:
        name, what, number, bodies = case
        it = played(name)
        if what == "poll":
            poll, _ = it.polls[number]
            outputs = it.exchange.read_poll(poll.subscription, poll.exchange_symbol, bodies[0], RECEIPT)
            for output in outputs:
                check(output, {poll.subscription})
            return any(isinstance(output, Record) for output in outputs)
        for body in bodies:
            assert isinstance(it.exchange.next_page(it.exchange.listing()[0], body), str | None)
        try:
            listing = it.exchange.instruments(bodies)
        except MalformedError as error:
            assert str(error).encode()
            return False
        symbols = list(listing.instruments)
        for symbol in symbols:
            assert symbol.isprintable(), symbol
            assert len(symbol) <= 64, symbol
            assert not set(symbol) & set(" ,*?[]!/\\'\"=%"), symbol
        asked = [Subscription(channel, symbol) for channel in it.exchange.channels for symbol in symbols[:10]]
        plans = it.exchange.connections(asked, listing.instruments)
        carried = [each for plan in plans for each in plan.subscriptions]
        assert len(carried) == len(set(carried))
        for plan in plans:
            it.exchange.session(plan.subscriptions, listing.instruments).opening()
        it.exchange.polls(asked, listing.instruments)
        return bool(symbols)
