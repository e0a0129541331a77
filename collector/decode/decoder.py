"""What becomes of an exchange's messages, without a network and without a store.

Lines are read as one connection would receive them, and answered with JSON objects, one a line: records,
events, and what was malformed. So a person finds out what a message means, and a test reads a recording.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import structs

from collector.exchanges.numbers import UNREADABLE
from collector.exchanges.protocol import Event, Exchange, Ignored, Malformed, Outputs, Repeated, Subscription
from collector.exchanges.quotes import stored
from collector.records import Record, channel_of

#: A longer line is no message of an exchange; websockets are read with a bound as well.
MAX_LINE_BYTES = 32 * 2**20
_BASE64 = b"base64:"

_is_reply = re.compile(rb'\s*\{\s*"(answer|poll)"\s*:').match


class _Reply(msgspec.Struct):
    """A line that answers a request by its id, or brings the answer to a poll of a channel and symbol."""

    body: msgspec.Raw
    answer: int | None = None
    status: int = 200
    poll: str = ""
    symbol: str = ""


#: What is printed for a line of which nothing is stored by itself: a candle that is not closed, a repetition.
_NOTHING = Ignored("nothing to store")
_reply = msgspec.json.Decoder(_Reply).decode


class Decoder:
    """Reads lines as one connection to an exchange would.

    Args:
        exchange: a natively supported exchange.
        listings: answers that list its instruments; without them symbols are not known.
        answers: bodies of REST, each the answer to the oldest open request of its kind.
        channels, symbols: what was asked for, in cryptofeed's names; everything where there are none.
        receipt: when the lines were received, in nanoseconds since 1970.

    Attributes:
        malformed: how many lines were.
        answers: those that no request has asked for yet.

    Raises MalformedError if a listing is none.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        listings: Sequence[bytes] = (),
        answers: Sequence[bytes] = (),
        channels: Sequence[str] = (),
        symbols: Sequence[str] = (),
        receipt: int,
    ) -> None:
        self._exchange = exchange
        self._session = exchange.listener(channels or list(exchange.channels))
        instruments = exchange.instruments(listings).instruments if listings else {}
        self._exchange_symbols = {symbol: each.exchange_symbol for symbol, each in instruments.items()}
        self._names = {exchange_symbol: symbol for symbol, exchange_symbol in self._exchange_symbols.items()}
        self._symbols = frozenset(symbols)
        self._receipt = receipt
        self.answers = list(answers)
        self.malformed = 0

    def decode(self, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        """Yield what the lines mean, as objects for JSON."""
        for line in lines:
            if frame := line.strip():
                found = [*self._read(frame), *self._answered()] or [_NOTHING]
                self.malformed += any(isinstance(each, Malformed) for each in found)
                for each in found:
                    if isinstance(each, Repeated):
                        yield from (
                            self._shown_record(record) | {"repeated": True} for record in each.records
                        )
                    else:
                        yield self._shown(each, frame)

    def _read(self, line: bytes) -> Outputs:
        if len(line) > MAX_LINE_BYTES:
            return [Malformed(f"a line of more than {MAX_LINE_BYTES} bytes")]
        if line.startswith(_BASE64):
            try:
                return self._session.receive(
                    base64.b64decode(line.removeprefix(_BASE64), validate=True), self._receipt
                )
            except binascii.Error as error:
                return [Malformed(f"not base64: {error}")]
        if _is_reply(line):
            return self._replied(line)
        request = self._session.answered_by(line)
        if request is not None:
            return self._session.answer(request, 200, line, self._receipt)
        return self._session.receive(line, self._receipt)

    def _replied(self, line: bytes) -> Outputs:
        try:
            it = _reply(line)
            body = bytes(it.body)
            if it.answer is not None:
                return self._session.answer(it.answer, it.status, body, self._receipt)
            symbol = self._exchange_symbols.get(it.symbol, it.symbol)
            return self._exchange.read_poll(Subscription(it.poll, symbol), symbol, body, self._receipt)
        except (*UNREADABLE, LookupError) as error:
            return [Malformed(str(error.args[0] if error.args else error))]

    def _answered(self) -> Iterator[Any]:
        """Yield what the answers mean that a request waits for."""
        for body in list(self.answers):
            request = self._session.answered_by(body)
            if request is not None:
                self.answers.remove(body)
                yield from self._session.answer(request, 200, body, self._receipt)

    def _shown(self, it: Record | Event, frame: bytes) -> dict[str, Any]:
        if isinstance(it, Record):
            return self._shown_record(it)
        if isinstance(it, Malformed):
            shown = {"malformed": it.reason, "frame": _text(frame)}
            return shown | {"about": self._places(it.about)} if it.about else shown
        fields: dict[str, Any] = msgspec.to_builtins(it)
        for name in it.__struct_fields__:
            value = getattr(it, name)
            if isinstance(value, Subscription):
                fields[name] = self._place(value)
            elif name == "subscriptions":
                fields[name] = self._places(value)
        return fields

    def _shown_record(self, record: Any) -> dict[str, Any]:
        name = self._names.get(record.symbol)
        if self._symbols and name not in self._symbols:
            return {"event": "ignored", "kind": f"{record.symbol}, which was not asked for"}
        start = {"channel": channel_of(record), "exchange": record.exchange}
        fields = structs.asdict(stored(record))
        rest = {field: fields[field] for field in fields if field not in ("exchange", "symbol")}
        return {"record": start | self._symbol(record.symbol) | rest}

    def _places(self, subscriptions: Iterable[Subscription]) -> list[dict[str, Any]]:
        return [self._place(subscription) for subscription in subscriptions]

    def _place(self, subscription: Subscription) -> dict[str, Any]:
        return {"channel": subscription.channel} | self._symbol(subscription.symbol)

    def _symbol(self, exchange_symbol: str) -> dict[str, str | None]:
        return {"symbol": self._names.get(exchange_symbol), "exchange_symbol": exchange_symbol}


def _text(frame: bytes) -> str:
    try:
        return frame.decode()
    except UnicodeDecodeError:
        return (_BASE64 + base64.b64encode(frame)).decode()
