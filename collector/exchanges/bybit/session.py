"""One connection to BYBIT."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import batched, chain
from typing import TYPE_CHECKING, override

from collector.exchanges.asked import Asked
from collector.exchanges.bybit import messages, streams
from collector.exchanges.instruments import Instrument
from collector.exchanges.numbers import UNREADABLE, MalformedError
from collector.exchanges.protocol import (
    Confirmed,
    Event,
    Ignored,
    Malformed,
    Notice,
    Outputs,
    Refused,
    Send,
    Session,
    Subscription,
)
from collector.times import SECOND

if TYPE_CHECKING:
    from collector.exchanges.bybit.exchange import Bybit

_PING_INTERVAL = 20 * SECOND
_BEGINNING = b'{"topic":"'


class BybitSession(Session):
    """The state of one connection, which is to one market."""

    def __init__(
        self,
        exchange: "Bybit",
        subscriptions: Sequence[Subscription],
        instruments: Mapping[str, Instrument],
        *,
        listening_to: Collection[str] = (),
    ) -> None:
        self._exchange = exchange
        self._listening_to = frozenset(listening_to)
        self._market = next((instruments[each.symbol].market or "" for each in subscriptions), "")
        self._streams: dict[str, streams.Stream] = {}
        self._by_bytes: dict[bytes, streams.Stream] = {}
        self._asked = Asked[str]()
        self._number = 0
        self._pinged = 0
        for topic, carried in exchange.topics(subscriptions, instruments).items():
            stream = self._add(topic, carried)
            if isinstance(stream, streams.OptionTrades):
                stream.names = {instruments[symbol].exchange_symbol: symbol for symbol in carried}
        self._pending = set(self._streams)

    @override
    def opening(self) -> Sequence[str]:
        most = 10 if self._market == "spot" else 100
        return [self._subscribe(some) for some in batched(self._streams, most)]

    @override
    def receive(self, frame: bytes, receipt: int) -> Outputs:
        begin = len(_BEGINNING)
        if frame.startswith(_BEGINNING):
            stream = self._by_bytes.get(frame[begin : frame.find(b'"', begin)])
            if stream:
                return self._data(stream, frame, receipt)
        return self._other(frame, receipt)

    @override
    def tick(self, now: int) -> Outputs:
        if 0 <= now - self._pinged < _PING_INTERVAL:  # the clock may step back
            return ()
        self._pinged = now
        return (Send('{"op":"ping"}'),)

    @override
    def renew_books(self, symbols: Collection[str]) -> None:
        for stream in self._streams.values():
            if stream.symbol in symbols:
                stream.renew()

    def _add(self, topic: str, carried: Mapping[str, Sequence[str]]) -> streams.Stream:
        stream = streams.reader(topic, self._market)(self._exchange, topic, carried)
        self._streams[topic] = self._by_bytes[topic.encode()] = stream
        return stream

    def _subscribe(self, topics: Sequence[str]) -> str:
        self._number += 1
        self._asked.put(self._number, topics)
        return messages.request("subscribe", topics, self._number)

    def _data(self, stream: streams.Stream, frame: bytes, receipt: int) -> Outputs:
        try:
            outputs = stream.read(stream.decode(frame), receipt)
        except UNREADABLE as error:
            follows = () if self._listening_to else stream.unread(complete=b'"snapshot"' in frame)
            return [Malformed(str(error), stream.subscriptions), *follows]
        if stream.flows:
            return outputs
        stream.flows = True
        self._pending.discard(stream.topic)
        return [Confirmed(stream.subscriptions, "data"), *outputs]

    def _other(self, frame: bytes, receipt: int) -> Outputs:
        try:
            it = messages.other(frame)
            if it.topic is not None:
                return self._topic(it.topic, frame, receipt)
            if it.type == "COMMAND_RESP":
                return self._command_answered(messages.topics(it.data))
        except UNREADABLE as error:
            return (Malformed(str(error)),)
        if it.op == "subscribe":
            return self._answered(it)
        if not it.op and not it.ret_msg:
            return (Malformed("neither data nor an answer"),)
        refused = it.success is False
        return (Notice(it.ret_msg or f"{it.op} is refused") if refused else Ignored(it.op or it.ret_msg),)

    def _topic(self, topic: str, frame: bytes, receipt: int) -> Outputs:
        stream = self._streams.get(topic) or self._listened(topic)
        return self._data(stream, frame, receipt) if stream else (Ignored(topic),)

    def _listened(self, topic: str) -> streams.Stream | None:
        """Return what reads a topic that was not asked for, where all is listened to."""
        word, _, symbol = topic.partition(".")
        channels = [each for each in self._exchange.channels_of(topic) if each in self._listening_to]
        if word not in streams.READERS or not channels:
            return None
        symbol = symbol.rpartition(".")[2]
        if not symbol:
            raise MalformedError(f"the topic {topic!r} names no symbol")
        stream = self._add(topic, {symbol: channels})
        if isinstance(stream, streams.Books):
            stream.waits = True  # who listens subscribes to nothing
        return stream

    # -- answers -------------------------------------------------------------------------------------

    def _answered(self, it: messages.Other) -> Outputs:
        topics = self._asked.of(it.req_id)
        if it.success or "already subscribed" in it.ret_msg:
            if not topics:
                return (Ignored("subscribe"),)
            self._pending.difference_update(topics)
            return (Confirmed(self._subscriptions(topics), "acknowledgement"),)
        named = [topic for topic in topics or self._pending if topic in it.ret_msg]
        if len(topics) == 1 or named:
            return self._refused(named or topics, topics, it.ret_msg)
        halves = batched(topics, (len(topics) + 1) // 2) if topics else ()
        return [Send(self._subscribe(half)) for half in halves] or (Notice(it.ret_msg),)

    def _refused(self, refused: Collection[str], asked: Collection[str], reason: str) -> Outputs:
        """One bad topic refuses the request: ask again for the others."""
        self._pending.difference_update(refused)
        rest = [topic for topic in asked if topic in self._pending]
        again = [Send(self._subscribe(rest))] if rest else []
        return [Refused(self._subscriptions(refused), reason), *again]

    def _command_answered(self, it: messages.Topics) -> Outputs:
        confirmed = [topic for topic in it.success_topics if topic in self._pending]
        failed = [topic for topic in it.fail_topics if topic in self._pending]
        self._pending.difference_update(confirmed, failed)
        events: list[Event] = []
        if confirmed:
            events.append(Confirmed(self._subscriptions(confirmed), "acknowledgement"))
        if failed:
            events.append(Refused(self._subscriptions(failed), "the exchange lists it in failTopics"))
        return events or (Ignored("COMMAND_RESP"),)

    def _subscriptions(self, topics: Iterable[str]) -> tuple[Subscription, ...]:
        return tuple(chain.from_iterable(self._streams[topic].subscriptions for topic in topics))
