"""The log of what was really written: one JSON object a line, appended after the write returned.

A record: ``{"exchange", "channel", "symbol", "content", "time", "connection", "sequence"}``. Channel and
symbol are in cryptofeed's words (``trades``, ``l2_book``; ``BTC-USD``, ``BTC-USDT-PERP``), ``time`` is
seconds since the epoch (UTC), ``connection`` is null for what was answered over REST, ``sequence`` counts the
records of the whole log. Numbers in ``content`` are the text that was on the wire:

- trades: ``{"id", "side", "price", "amount", "timestamp", "type"}``, and ``"snapshot": true`` where
  COINBASE and KRAKEN send it as the past on subscribing (KRAKEN's version 1 in the form of an update),
  ``"repeated": true`` where a fault has them sent again; ``id`` and ``type`` are null where there is none
- ticker: ``{"bid", "bid_size", "ask", "ask_size", "timestamp"}``
- l2_book: ``{"kind": "snapshot" | "delta", "bid": [[price, size], ...], "ask": [...], "timestamp"}``, for
  BINANCE with ``first_update_id`` (deltas) and ``last_update_id``
- candles: ``{"interval", "start", "stop", "open", "high", "low", "close", "volume", "trades", "closed",
  "timestamp"}``; ``start`` and ``stop`` are seconds since the epoch
- funding: ``{"mark_price", "rate", "next_funding_time", "predicted_rate", "timestamp"}``; index: ``{"price",
  "timestamp"}``; both of one message. open_interest: ``{"open_interest", "timestamp"}``; liquidations:
  ``{"side", "quantity", "price", "status", "timestamp"}``

``timestamp`` is the text that the exchange sent, null where it sends none. Other lines tell what happened
around the records: ``{"event": "open" | "closed" | "fault", "exchange", "connection", "time", ...}``;
``closed`` has the ``reason``.

The log is in a file in either case, so that memory stays bounded: in ``--log FILE``, or in a temporary one.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from typing import IO, TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK = 1 << 20  # bytes


class Record(NamedTuple):
    """One thing that a collector should store, in exchange-neutral form."""

    channel: str
    symbol: str
    content: dict[str, object]
    noticed: bool = True  # the protocol tells a client that lacks it

    @property
    def is_update(self) -> bool:
        """Whether it is one of those that follow a snapshot."""
        return not self.content.get("snapshot") and self.content.get("kind") != "snapshot"


class Log:
    """Appends records and events to a file; reads from it what this run wrote."""

    def __init__(self, path: Path | None) -> None:
        self.counts: dict[str, Counter[str]] = {}  # exchange -> channel -> records
        self._file: IO[bytes] = _open(path)
        self._start = self._file.seek(0, 2)
        self._encoder = msgspec.json.Encoder()
        self._sequence = 0

    def record(self, exchange: str, connection: int | None, record: Record) -> None:
        """Log a record that was just written; ``connection`` is None for REST."""
        self.counts.setdefault(exchange, Counter())[record.channel] += 1
        self._append(
            {
                "exchange": exchange,
                "channel": record.channel,
                "symbol": record.symbol,
                "content": record.content,
                "time": time.time(),
                "connection": connection,
                "sequence": self._sequence,
            }
        )
        self._sequence += 1

    def event(self, event: str, exchange: str | None, connection: int | None, **details: object) -> None:
        """Log what happened around the records."""
        entry = {
            "event": event,
            "exchange": exchange,
            "connection": connection,
            "time": time.time(),
            **details,
        }
        self._append(entry)
        self.flush()

    def flush(self) -> None:
        """Hand what was appended to the operating system, so that others who read the file see it."""
        self._file.flush()

    def read(self) -> Iterator[bytes]:
        """What this run has logged so far, in chunks."""
        self.flush()
        position = self._start
        while True:
            chunk = os.pread(self._file.fileno(), CHUNK, position)  # leaves the place where we write alone
            if not chunk:
                return
            position += len(chunk)
            yield chunk

    def close(self) -> None:
        """Write what is left; a temporary file is gone afterwards."""
        self._file.close()

    def _append(self, entry: dict[str, object]) -> None:
        self._file.write(self._encoder.encode(entry) + b"\n")


def _open(path: Path | None) -> IO[bytes]:
    return tempfile.TemporaryFile() if path is None else path.open("ab+")
