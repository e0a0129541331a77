"""One connection to an exchange of the BINANCE family."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import batched
from typing import TYPE_CHECKING, override

import msgspec

from collector.exchanges.binance import messages, streams
from collector.exchanges.instruments import Instrument, check_symbol
from collector.exchanges.numbers import UNREADABLE, MalformedError
from collector.exchanges.protocol import (
    Closing,
    Confirmed,
    Ignored,
    Malformed,
    Notice,
    Outputs,
    Refused,
    Request,
    Send,
    Session,
    Subscription,
)

if TYPE_CHECKING:
    from collector.exchanges.binance.exchange import Binance

FRAME_BYTES = 4000
_LIFETIME = (24 * 60 - 10) * 60 * 10**9  # nanoseconds; the exchange closes after 24 hours

#: How a message of combined streams begins; the stream's name follows.
_COMBINED = b'{"stream":"'
_NAME = len(_COMBINED)

#: What reads a stream, by the word in its name.
_READERS: Mapping[str, type[streams.Stream]] = {
    "trade": streams.Trades,
    "aggTrade": streams.AggregateTrades,
    "bookTicker": streams.Quotes,
    "depth": streams.Books,
    "markPrice": streams.MarkPrices,
    "forceOrder": streams.Liquidations,
    "kline": streams.Candles,
}
#: Events that are not called as their streams are.
_WORDS = {"depthUpdate": "depth", "markPriceUpdate": "markPrice"}
#: What a stream's name says after its symbol: a word, how many levels, and more: depth20@100ms, kline_1m.
_suffix = re.compile(r"(?P<word>[A-Za-z]+)(?P<levels>[0-9]*)").match


class BinanceSession(Session):
    """The state of one connection.

    Args:
        exchange: the exchange.
        carried: the subscriptions of each stream, by its name.
        instruments: those of the subscriptions.
        listening_to: channels that are read of whatever comes, for who has no subscriptions.
    """

    def __init__(
        self,
        exchange: "Binance",
        carried: Mapping[str, Sequence[Subscription]],
        instruments: Mapping[str, Instrument],
        *,
        listening_to: Collection[str] = (),
    ) -> None:
        self._exchange = exchange
        self._instruments = instruments
        self._listening_to = frozenset(listening_to)
        self._streams: dict[bytes, streams.Stream] = {}  # by name
        self._events: dict[tuple[str, str], streams.Stream] = {}  # by word and symbol, both the exchange's
        self._asked: dict[int, Sequence[str]] = {}  # names of streams by request that is not answered
        self._requests: dict[int, streams.Books] = {}
        self._number = 0
        self._opened: int | None = None
        self._closing = False
        for stream, subscriptions in carried.items():
            self._add(stream, subscriptions[0].symbol, [each.channel for each in subscriptions])

    @override
    def opening(self) -> Sequence[str]:
        names = [name.decode() for name in self._streams]
        return [self._subscribe(some) for some in _in_frames(names)]

    @override
    def receive(self, frame: bytes, receipt: int) -> Outputs:
        stream = self._streams.get(frame[_NAME : frame.find(b'"', _NAME)])
        if stream is None or not frame.startswith(_COMBINED):
            return self._other(frame, receipt)
        return self._read(stream, frame, receipt)

    @override
    def answer(self, request: int, status: int, body: bytes, receipt: int) -> Outputs:
        return self._requests.pop(request).answer(status, body, receipt)

    @override
    def failed(self, request: int, reason: str) -> Outputs:
        return self._requests.pop(request).failed()

    @override
    def answered_by(self, body: bytes) -> int | None:
        try:
            messages.snapshot(body)
        except UNREADABLE:
            return None
        return next(iter(self._requests), None)

    @override
    def tick(self, now: int) -> Outputs:
        if self._opened is None or now < self._opened:  # the clock may step back
            self._opened = now
        if self._closing or now - self._opened < _LIFETIME:
            return ()
        self._closing = True
        return (Closing("the exchange closes a connection after 24 hours"),)

    def request(self, books: streams.Books) -> Request:
        """Return the request for the snapshot of a book."""
        self._number += 1
        self._requests[self._number] = books
        (subscription,) = books.subscriptions
        url, weight = self._exchange.snapshot(self._exchange_symbol(subscription.symbol))
        return Request(self._number, url, weight, subscription)

    def _exchange_symbol(self, symbol: str) -> str:
        return symbol if self._listening_to else self._instruments[symbol].exchange_symbol

    @override
    def probe(self) -> Sequence[str]:
        """Streams may be quiet; a request is answered all the same."""
        self._number += 1
        return [msgspec.json.encode({"method": "LIST_SUBSCRIPTIONS", "id": self._number}).decode()]

    @override
    def follow(self, before: Session) -> None:
        if isinstance(before, BinanceSession):
            for name, stream in self._streams.items():
                if known := before._streams.get(name):  # noqa: SLF001 - one of our own
                    stream.follow(known)

    @override
    def renew_books(self, symbols: Collection[str]) -> None:
        for stream in self._streams.values():
            if stream.symbol in symbols:
                stream.renew()

    def _add(self, name: str, symbol: str, channels: Sequence[str]) -> streams.Stream:
        suffix = _suffix(name.partition("@")[2])
        word, partial = (suffix["word"], suffix["levels"]) if suffix else ("", "")
        reader = self._exchange.partial_books if partial else _READERS[word]
        storing = self._exchange.options.storing
        chained = self._exchange.channels["l2_book"].loss == "chain"
        interval = name.partition("@kline_")[2]
        of = self._exchange_symbol(symbol)
        place = streams.Place(
            self._exchange.id, symbol, of, tuple(channels), storing, self.request, chained, interval
        )
        stream = reader(place)
        stream.word = word
        self._streams[name.encode()] = self._events[word, of] = stream
        return stream

    def _subscribe(self, names: Sequence[str]) -> str:
        self._number += 1
        self._asked[self._number] = names
        request = {"method": "SUBSCRIBE", "params": names, "id": self._number}
        return msgspec.json.encode(request).decode()

    def _read(self, stream: streams.Stream, frame: bytes, receipt: int, *, bare: bool = False) -> Outputs:
        try:
            message = stream.bare(frame) if bare else stream.combined(frame).data
            check_symbol(message.symbol, stream.exchange_symbol)
            outputs = stream.read(message, receipt)
        except UNREADABLE as error:
            event = _event(frame, bare=bare)
            if event and _WORDS.get(event, event) != stream.word:
                return (Ignored(event),)  # a new kind of event
            follows = () if self._listening_to else stream.unread()
            return [Malformed(str(error), stream.subscriptions), *follows]
        if stream.flows:
            return outputs
        stream.flows = True
        return [Confirmed(stream.subscriptions, "data"), *outputs]

    def _other(self, frame: bytes, receipt: int) -> Outputs:
        """Read what does not begin with the name of a stream of ours."""
        try:
            it = messages.anything(frame)
            data = frame if it.stream is None else bytes(it.data)
            inner = messages.anything(data) if data.startswith(b"{") else messages.Anything()
            event = inner.event or ("bookTicker" if _is_quote(it, inner) else None)
            stream = self._stream(it.stream, event, inner)
        except UNREADABLE as error:
            return (Malformed(str(error)),)
        if inner.event == "serverShutdown":  # developers.binance.com, spot web-socket-streams, 2026-11-28
            self._closing = True
            return (Closing("the exchange shuts this server down"),)
        if it.stream is None and event is None:
            return self._answered(it, frame)
        if stream:
            return self._read(stream, data, receipt, bare=True)
        return (Ignored(event or str(it.stream)),)

    def _stream(self, name: str | None, event: str | None, it: messages.Anything) -> streams.Stream | None:
        """Return what reads an event; the stream is named on the address of combined ones alone."""
        of_stream, _, suffix = (name or "").partition("@")
        found = _suffix(suffix)
        word = _WORDS.get(event or "", event) or (found["word"] if found else "")
        named = it.symbol or (it.order.symbol if isinstance(it.order, messages.Symbol) else "")
        symbol = named or of_stream.upper()
        known = self._events.get((word, symbol))
        channels = [each for each in self._exchange.channels_of(word) if each in self._listening_to]
        if not known and not channels:
            return None
        if named.lower() != of_stream and not of_stream.startswith("!"):  # !forceOrder@arr is of all
            check_symbol(named, of_stream or named)
        if known:
            return known
        if not symbol:
            raise MalformedError(f"a {word} names no symbol")
        named_so = name if found and found["word"] == word else None
        return self._add(named_so or f"{symbol.lower()}@{word}", symbol, channels)

    def _answered(self, it: messages.Anything, frame: bytes) -> Outputs:
        """Read the answer to a request of ours: a result or an error."""
        error = it.error or (messages.Error(it.code, it.message or "") if it.code is not None else None)
        if error is None and not bytes(it.result):
            begins = frame[:60].decode(errors="replace")
            return (Malformed(f"neither an event nor an answer to a request: {begins}"),)
        names = self._asked.pop(it.id, ()) if isinstance(it.id, int) else ()
        if error:
            return self._refused(names, f"{error.message} (code {error.code})")
        if not names:
            return (Ignored("answer"),)
        return (Confirmed(self._subscriptions(names), "acknowledgement"),)

    def _refused(self, names: Sequence[str], reason: str) -> Outputs:
        """One bad stream refuses all of a request, and is not named: ask again in halves."""
        if not names:
            return (Notice(reason),)
        if len(names) == 1:
            return (Refused(self._subscriptions(names), reason),)
        return [Send(self._subscribe(half)) for half in batched(names, (len(names) + 1) // 2)]

    def _subscriptions(self, names: Sequence[str]) -> tuple[Subscription, ...]:
        return tuple(each for name in names for each in self._streams[name.encode()].subscriptions)


def _is_quote(it: messages.Anything, inner: messages.Anything) -> bool:
    """Return whether an event without its type is one of the best prices, as spot sends them."""
    return it.stream is None and inner.symbol is not None and bool(bytes(inner.update))


def _event(frame: bytes, *, bare: bool) -> str | None:
    """Return the kind of event that a message is, where that can be read."""
    try:
        return messages.anything(frame if bare else bytes(messages.anything(frame).data)).event
    except UNREADABLE:
        return None


def _in_frames(streams: Sequence[str]) -> Iterator[Sequence[str]]:
    """Share streams out among requests that the server answers."""
    frame: list[str] = []
    for stream in streams:
        if frame and len(msgspec.json.encode([*frame, stream])) > FRAME_BYTES:
            yield frame
            frame = []
        frame.append(stream)
    if frame:
        yield frame
