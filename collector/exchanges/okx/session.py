"""One connection to OKX."""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import batched, chain
from typing import TYPE_CHECKING, override

from collector.exchanges.asked import Asked
from collector.exchanges.instruments import Instrument
from collector.exchanges.numbers import UNREADABLE
from collector.exchanges.okx import messages, streams
from collector.exchanges.okx.messages import Argument
from collector.exchanges.protocol import (
    Closing,
    Confirmed,
    Event,
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
from collector.times import SECOND

if TYPE_CHECKING:
    from collector.exchanges.okx.exchange import Okx
    from collector.records import AnyRecord

_ARGUMENTS_PER_FRAME = 200  # 64 KB are allowed; an argument takes less than 100 bytes
#: After so long without a message the exchange is asked for one. It closes a connection on which it has sent
#: nothing for 30 s (okx.com/docs-v5, websocket, connect, as others quote it; looked up on 2026-11-28).
_QUIET = 20 * SECOND
#: How a message begins; the argument follows.
_BEGINNING = b'{"arg":'
#: How an error names an argument.
_named = re.compile(r"channel:(?P<channel>[\w-]+)(?:,instId:(?P<id>[\w-]+))?").search


class OkxSession(Session):
    """The state of one connection."""

    def __init__(
        self,
        exchange: "Okx",
        carried: Mapping[Argument, Sequence[Subscription]],
        instruments: Mapping[str, Instrument],
        *,
        listening_to: Collection[str] = (),
    ) -> None:
        self._exchange = exchange
        self._listening_to = frozenset(listening_to)
        self._streams: dict[Argument, streams.Stream] = {}
        self._by_bytes: dict[bytes, streams.Stream] = {}  # by the argument as messages have it
        self._asked = Asked[Argument]()
        self._pending = set(carried)
        self._requests: dict[int, streams.Books] = {}
        self._number = 0
        self._heard = 0
        self._pinged = False
        for argument, subscriptions in carried.items():
            stream = self._add(argument, subscriptions)
            if isinstance(stream, streams.LiquidationOrders):
                stream.names = {instruments[it].exchange_symbol: it for it in stream.symbols()}

    @override
    def opening(self) -> Sequence[str]:
        return [self._subscribe(some) for some in batched(self._streams, _ARGUMENTS_PER_FRAME)]

    @override
    def receive(self, frame: bytes, receipt: int) -> Outputs:
        self._heard, self._pinged = receipt, False
        if frame == b"pong":
            return (Ignored("pong"),)
        if frame.startswith(_BEGINNING):
            stream = self._by_bytes.get(frame[len(_BEGINNING) : frame.find(b"}") + 1])
            if stream:
                return self._data(stream, frame, receipt)
        return self._other(frame, receipt)

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
        """Ask for a sign of life where nothing has come for long."""
        if self._pinged or 0 <= now - (self._heard or now) < _QUIET:  # the clock may step back
            self._heard = self._heard or now
            return ()
        self._pinged = True
        return (Send("ping"),)

    @override
    def renew_books(self, symbols: Collection[str]) -> None:
        for stream in self._streams.values():
            if stream.subscriptions and stream.subscriptions[0].symbol in symbols:
                stream.renew()

    def _subscribe(self, arguments: Sequence[Argument]) -> str:
        self._number += 1
        self._asked.put(self._number, arguments)
        return messages.request("subscribe", arguments, self._number)

    def _request(self, books: streams.Books) -> Request:
        """Return the request for the snapshot of a book."""
        self._number += 1
        self._requests[self._number] = books
        (subscription,) = books.subscriptions
        return Request(self._number, self._exchange.snapshot(books.argument.inst_id), 1, subscription)

    # -- data ----------------------------------------------------------------------------------------

    def _data(self, stream: streams.Stream, frame: bytes, receipt: int) -> Outputs:
        try:
            message = stream.decode(frame)
        except UNREADABLE as error:
            return self._unread(stream, frame, error)
        outputs: list[AnyRecord | Event] = []
        for part in message.data:
            try:
                found = stream.read(part, message.action, receipt)
            except UNREADABLE as error:
                outputs += self._unread(stream, frame, error)
                continue
            if not stream.flows:
                stream.flows = True
                self._pending.discard(stream.argument)
                outputs.append(Confirmed(stream.subscriptions, "data"))
            outputs += found
        return outputs

    def _unread(self, stream: streams.Stream, frame: bytes, error: Exception) -> Outputs:
        follows = () if self._listening_to else stream.unread(complete=b'"snapshot"' in frame)
        return [Malformed(str(error), stream.subscriptions), *follows]

    def _other(self, frame: bytes, receipt: int) -> Outputs:
        try:
            it = messages.other(frame)
        except UNREADABLE as error:
            return (Malformed(str(error)),)
        if it.event:
            return self._event(it.event, it, receipt)
        if it.arg is None or not bytes(it.data):
            return (Malformed("neither data nor an event"),)
        stream = self._stream(it.arg)
        if stream is None:
            return (Ignored(it.arg.channel),)
        if frame.startswith(_BEGINNING):
            self._by_bytes[frame[len(_BEGINNING) : frame.find(b"}") + 1]] = stream
        return self._data(stream, frame, receipt)

    def _stream(self, argument: Argument) -> streams.Stream | None:
        known = self._streams.get(argument) or self._streams.get(_bare(argument))
        if known or not self._listening_to:
            return known
        channels = [
            each for each in self._exchange.channels_of(argument.channel) if each in self._listening_to
        ]
        symbol = argument.inst_id or argument.inst_type
        if not channels or not symbol:
            return None
        carried = [Subscription(channel, symbol) for channel in channels]
        return self._add(argument, carried)

    def _add(self, argument: Argument, subscriptions: Sequence[Subscription]) -> streams.Stream:
        stream = self._streams[argument] = _reader(argument)(self._exchange, argument, subscriptions)
        if isinstance(stream, streams.Books):
            stream.ask = self._request
        return stream

    # -- events --------------------------------------------------------------------------------------

    def _event(self, event: str, it: messages.Other, receipt: int) -> Outputs:
        if event == "error":
            return self._error(it)
        if event == "notice":
            # 64008: "The connection will soon be closed for a service upgrade", half a minute before
            # by okx.com/docs-v5, WebSocket, Notification, of 2026-11-28
            return (Closing(it.msg) if it.code == "64008" else Notice(f"{it.msg} (code {it.code})"),)
        stream = self._stream(it.arg) if it.arg and event == "subscribe" else None
        if stream is None or self._listening_to:
            return (Ignored(event),)
        stream.since = stream.since or receipt
        stream.subscribed()
        self._pending.discard(stream.argument)
        return (Confirmed(stream.subscriptions, "acknowledgement"),)

    def _error(self, it: messages.Other) -> Outputs:
        """Refuse what an error names, and ask again for the rest of its request."""
        reason = f"{it.msg} (code {it.code})"
        asked = tuple(each for each in self._asked.pop(it.id) if each in self._pending)
        named = self._named(it.msg) or (asked if len(asked) == 1 else ())
        if not named:
            halves = batched(asked, (len(asked) + 1) // 2) if asked else ()
            return [Send(self._subscribe(half)) for half in halves] or (Notice(reason),)
        self._pending.difference_update(named)
        refused = tuple(chain.from_iterable(self._streams[each].subscriptions for each in named))
        rest = [each for each in asked if each not in named]
        again = [Send(self._subscribe(rest))] if rest else []
        return [Refused(refused, reason), *again]

    def _named(self, text: str) -> tuple[Argument, ...]:
        found = _named(text)
        if not found:
            return ()
        return tuple(
            argument
            for argument in self._pending
            if argument.channel == found["channel"] and found["id"] in (None, argument.inst_id)
        )


def _bare(argument: Argument) -> Argument:
    """Return an argument without what the exchange may add to it when it repeats it."""
    return Argument(argument.channel, argument.inst_id) if argument.inst_id else argument


def _reader(argument: Argument) -> type[streams.Stream]:
    return streams.READERS.get(argument.channel, streams.Candles)
