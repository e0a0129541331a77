"""The BINANCE family: what is subscribed can be asked for; a book that cannot begin costs nothing else."""

import itertools
import logging
import time
from collections.abc import Mapping
from typing import Any, ClassVar, override

import aiohttp
import cryptofeed.exchanges
from cryptofeed.defines import CANDLES, L2_BOOK, OPEN_INTEREST

from collector.bounded_json import decode
from collector.feeds.backoff import Backoff
from collector.feeds.http import retry_after
from collector.feeds.malformed import describe
from collector.feeds.through_cryptofeed.supervised import Supervised, is_poll
from collector.records import Key

LOG = logging.getLogger(__name__)


class _SnapshotError(Exception):
    """A depth snapshot could not be had; when to try again is set."""


class BinanceFamily(Supervised):
    """Mixed into each of cryptofeed's BINANCE classes."""

    SILENCE: ClassVar[float] = 30.0  # a stream may be quiet, but the exchange answers when it is asked
    CHECKS_BOOKS: ClassVar[bool] = True  # updates are numbered

    # cryptofeed's
    valid_depths: list[int]
    candle_interval: str
    depth_interval: str
    _l2_book: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._numbers = itertools.count(1)
        self._resting: dict[str, tuple[Backoff, float]] = {}  # by pair: no snapshot before that time

    @override
    @classmethod
    def depth(cls, asked: int) -> int:
        """As deep as this goes the snapshot, and levels below would be missing once the book moves."""
        return 0 if asked <= 1000 else min(asked, cls.valid_depths[-1])

    @override
    def carried(self, connection: Any) -> list[Key]:
        if is_poll(connection):
            return [key for key in super().carried(connection) if key[0] == OPEN_INTEREST]
        streams = set(connection.address.partition("streams=")[2].split("/"))
        return [key for stream, key in self._streams().items() if stream in streams]

    async def subscribe(self, connection: Any) -> None:
        """The address has subscribed to everything; what is left is to ask whether it took."""
        await super().subscribe(connection)  # type: ignore[misc]
        if not is_poll(connection):
            await self.probe(connection)

    @override
    async def probe(self, connection: Any) -> None:
        if not is_poll(connection):
            await connection.write(f'{{"method":"LIST_SUBSCRIPTIONS","id":{next(self._numbers)}}}')

    @override
    async def message_handler(self, message: Any, connection: Any, timestamp: float) -> None:
        if not message.startswith('{"stream"') and not is_poll(connection):
            answer = decode(message)
            if "stream" not in answer:
                self._answered(answer, connection)
                return
        try:  # noqa: SIM105 - contextlib costs half a microsecond for every message
            await super(Supervised, self).message_handler(message, connection, timestamp)  # type: ignore[misc]
        except _SnapshotError:
            pass  # without a snapshot there is no book yet, and only the book waits for it

    def _answered(self, answer: dict[str, Any], connection: Any) -> None:
        if not isinstance(answer.get("result"), list):
            LOG.warning("%s says: %.200s", self.id, answer)
            return
        listed = set(answer["result"])
        streams = self._streams()
        mine = set(self.carried(connection))
        for stream, (channel, symbol) in streams.items():
            if (channel, symbol) not in mine:
                continue
            if stream not in listed:
                self.subscriptions.refuse(channel, symbol, f"the exchange does not list the stream {stream}")
            elif channel != L2_BOOK or symbol not in self._resting:
                self.subscriptions.acknowledge(channel, symbol)

    def _streams(self) -> Mapping[str, Key]:
        """Return the names of all streams, as cryptofeed puts them into the address."""
        streams = {}
        for channel, pairs in self.subscription.items():
            standard = self.exchange_channel_to_std(channel)
            kind = channel
            if standard == CANDLES:
                kind += self.candle_interval
            elif standard == L2_BOOK:
                kind += f"@{self.depth_interval}"
            for pair in pairs:
                name = pair if pair.startswith("p") else pair.lower()
                streams[f"{name}@{kind}"] = (standard, self.exchange_symbol_to_std_symbol(pair))
        return streams

    async def _snapshot(self, pair: str) -> None:
        symbol = self.exchange_symbol_to_std_symbol(pair)
        backoff, at = self._resting.get(symbol) or (Backoff(shortest=1.0), 0.0)
        if time.monotonic() < at:
            raise _SnapshotError
        try:
            await super()._snapshot(pair)  # type: ignore[misc]
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            pause = max(backoff.pause(), retry_after(error))
            self._resting[symbol] = backoff, time.monotonic() + pause
            self.subscriptions.doubt(L2_BOOK, symbol)
            LOG.warning(
                "%s %s: no snapshot of the book: %s; again in %.1f s", self.id, symbol, describe(error), pause
            )
            raise _SnapshotError from error
        self._resting.pop(symbol, None)


class BinanceTR(BinanceFamily, cryptofeed.exchanges.BinanceTR):  # type: ignore[misc]  # cryptofeed is untyped
    """BINANCE_TR."""
