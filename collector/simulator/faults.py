"""Faults on demand: what ``POST /faults`` accepts, and the active faults.

Every request names a ``fault`` and may narrow it down by ``exchange`` and ``connection`` (its number, as in
``GET /status``). Faults of open connections take effect at once and are then over; the others stay until they
have struck ``count`` times, until ``seconds`` are over, or until ``DELETE /faults``.

at once, on the open connections that match:
  reset                cut the connection without a closing handshake (TCP reset); what was in flight is lost
  close                close it cleanly, with the websocket ``code`` (default 1001); what was written arrives
  quiet                keep it open and write nothing more, not even heartbeats; what is sent meanwhile
                       is lost to it. After ``seconds``, or at DELETE /faults, it is reset. Default: forever
  announce             say, as the exchange does, that it will be closed; close it cleanly after ``seconds``
                       (default 30), with the websocket ``code`` (not COINBASE, which announces nothing)
  (reset and close with a ``count``: a matching connection is instead dropped the next ``count`` times that it
  is to be sent an update; so ``count: 5`` drops a client that comes back five times in a row)
on the next messages (default count: 1):
  malformed            before an update, send a message that no client can understand; ``kind``:
                       "truncated" (cut in the middle, default), "shape" (good JSON, fields missing) or
                       "nested" (300,000 opening brackets)
  unknown_type         before an update, send a message of a type that no documentation has
  skip_sequence        lose one message with records of ``symbol`` and ``channel``: the sequence number of
                       COINBASE and the update ids of BINANCE have a hole, KRAKEN's checksum no longer holds
  double               send one message with updates of ``symbol`` and ``channel`` twice
  swap                 hold one such message back, and send it after the next message
  snapshot             after an update, send the books of ``symbol`` complete once more, unasked (COINBASE,
                       and KRAKEN's version 2; BINANCE's snapshots come over REST alone)
on what clients ask for (default: until removed):
  deaf                 websockets are accepted, and never written to
  silent               subscriptions of ``symbol`` and ``channel`` are acknowledged, but nothing
                       is sent for them while others are busy: no snapshot either, if the fault is set early
  repeat_trades        after a subscription to trades the last ones are sent again, as if they were new (not
                       on KRAKEN's version 1)
  refuse_connection    websockets are refused with HTTP ``status`` (default 503)
  refuse_subscription  subscriptions of ``symbol`` and ``channel`` get the exchange's own error; BINANCE
                       ignores a stream without a word, as the real one does
  refuse_request       the same, but BINANCE refuses the whole request, and does not say which stream it was
  unreadable_row       a list of instruments has a row that breaks the documentation
  refuse_reference     reference data and depth snapshots are refused with HTTP ``status`` (default 503), and
                       ``Retry-After`` is ``retry_after`` seconds (default 1)
  deaf_reference       such requests are accepted, and never answered
  nested_reference     they are answered with 300,000 opening brackets
  trickle              their answers take ``seconds`` (default 10) to arrive, a little at a time

``channel`` is in cryptofeed's words (trades, ticker, l2_book, candles, funding, liquidations), ``symbol``
too (BTC-USD). ``status``
is one of 429, 500, 502, 503, 504.
"""

from __future__ import annotations

import time
from typing import Literal

import msgspec

from collector.simulator.instruments import Name  # noqa: TC001 - msgspec reads it when it decodes

Kind = Literal[
    "reset",
    "close",
    "quiet",
    "announce",
    "malformed",
    "unknown_type",
    "skip_sequence",
    "double",
    "swap",
    "snapshot",
    "deaf",
    "silent",
    "repeat_trades",
    "refuse_connection",
    "refuse_subscription",
    "refuse_request",
    "unreadable_row",
    "refuse_reference",
    "deaf_reference",
    "nested_reference",
    "trickle",
]
Channel = Literal["trades", "ticker", "l2_book", "candles", "funding", "liquidations"]
DROPS = ("reset", "close")
#: A text whose parser has to go deep, and that ends the process of some.
NESTED = b"[" * 300_000
ONCE = ("malformed", "unknown_type", "skip_sequence", "double", "swap", "snapshot")


class Fault(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A fault as it was asked for; the fields that narrow it down match everything when they are left out."""

    fault: Kind
    exchange: Name | None = None
    connection: int | None = None
    channel: Channel | None = None
    symbol: str | None = None
    count: int | None = None
    seconds: float | None = None
    status: Literal[429, 500, 502, 503, 504] = 503
    retry_after: int = 1
    code: int = 1001
    kind: Literal["truncated", "shape", "nested"] = "truncated"

    def __post_init__(self) -> None:
        """Refuse what would have no effect or no end; ``ValueError`` says what is possible."""
        if self.count is not None and self.count < 1:
            raise ValueError("count is 1 or more")
        if self.seconds is not None and self.seconds <= 0:
            raise ValueError("seconds is more than 0")
        if not 0 <= self.retry_after <= 3600:
            raise ValueError("retry_after is 0 to 3600 seconds")
        if not (1000 <= self.code <= 1014 or 3000 <= self.code <= 4999):
            raise ValueError("code is a websocket close code: 1000 to 1014, or 3000 to 4999")

    @property
    def at_once(self) -> bool:
        """Whether it takes effect on open connections right away, instead of standing."""
        return self.fault in ("quiet", "announce") or (self.fault in DROPS and self.count is None)

    def matches(self, exchange: str, connection: int | None) -> bool:
        """Return whether it is meant for this connection; None stands for a request over REST."""
        return self.exchange in (None, exchange) and self.connection in (None, connection)

    def matches_content(self, channel: str, symbol: str) -> bool:
        """Return whether it is meant for this channel of this symbol."""
        return self.channel in (None, channel) and self.symbol in (None, symbol)


class Faults:
    """The faults that stand."""

    def __init__(self) -> None:
        self._standing: list[tuple[Fault, float | None]] = []  # with the time.monotonic() of its end

    def add(self, fault: Fault) -> None:
        """Let a fault stand."""
        if fault.fault in ONCE and fault.count is None:
            fault.count = 1
        ends = fault.seconds is not None and fault.fault != "trickle"
        self._standing.append((fault, time.monotonic() + (fault.seconds or 0) if ends else None))

    def clear(self) -> None:
        """Take all away."""
        self._standing.clear()

    def standing(self) -> list[Fault]:
        """Return those whose time is not over."""
        now = time.monotonic()
        self._standing = [(fault, end) for fault, end in self._standing if end is None or end > now]
        return [fault for fault, _ in self._standing]

    def take(
        self,
        kind: Kind,
        exchange: str,
        connection: int | None = None,
        content: tuple[str, str] | None = None,
    ) -> Fault | None:
        """The fault of this kind that strikes now, if any; ``content`` is (channel, symbol). Counts it."""
        if not self._standing:
            return None
        for fault in self.standing():
            if (
                fault.fault == kind
                and fault.matches(exchange, connection)
                and (content is None or fault.matches_content(*content))
            ):
                self._count(fault)
                return fault
        return None

    def _count(self, fault: Fault) -> None:
        if fault.count is not None:
            fault.count -= 1
            if fault.count == 0:
                self._standing = [entry for entry in self._standing if entry[0] is not fault]
