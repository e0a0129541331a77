"""Exchange -> spool: records go into the spool in bursts; cryptofeed's objects become records first.

A burst is appended when it is large enough or old enough, whichever comes first; what is in it when the
process is killed is lost, so it is never older than BURST_SECONDS plus one append. When the spool cannot keep
up, the callbacks wait: the websocket's own bounded queue fills, then TCP's, and memory stays flat.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from collector.books import Books
from collector.bounds import (
    LATEST,
    count,
    moment,
    number,
    optional_number,
    optional_text,
    text,
)
from collector.gaps import Lines
from collector.marks import GAPS_OF_DAY, GapsOfDay, Marks
from collector.metrics import Metrics
from collector.records import (
    AnyRecord,
    Candle,
    Funding,
    Gap,
    Index,
    Key,
    L1Book,
    L2Book,
    L3Book,
    Liquidation,
    OpenInterest,
    Ticker,
    Trade,
    counts,
)
from collector.settings import Settings
from collector.spool import Spool

#: A burst is due at this many records, at this weight (records and levels of books), or this old (seconds).
BURST_RECORDS, BURST_WEIGHT, BURST_SECONDS = 500, 20_000, 0.01
#: Weight of what may wait for the spool; about 25 MB.
MOST_WAITING = 100_000

#: Of these exchanges' candles cryptofeed says False (or, for OKX, True), and means "not told".
_CLOSED_UNTOLD = frozenset(
    {
        *("BEQUANT", "BITGET", "CRYPTO.COM", "FMFW", "GATEIO", "GATEIO_FUTURES", "HITBTC", "HUOBI", "KRAKEN"),
        *("KUCOIN", "OKX", "PHEMEX"),
    }
)

_SIDES = frozenset({"buy", "sell"})

#: What cryptofeed calls with an object and the time of its receipt.
type Callback = Callable[[Any, float], Awaitable[None]]


class Receiver:
    """Takes what the feed hands it, and keeps it until the spool has it.

    Attributes:
        marks: what has to survive together with the records.
    """

    def __init__(self, settings: Settings, spool: Spool, metrics: Metrics) -> None:
        self._spool = spool
        self._metrics = metrics
        self._books = {
            channel: Books(
                record,
                snapshot_only=settings.snapshot_only,
                interval=settings.snapshot_interval,
                depth=settings.max_depth,
            )
            for channel, record in (("l2_book", L2Book), ("l3_book", L3Book))
        }
        self._lines = Lines()
        self._records: list[AnyRecord] = []
        self._weight = 0
        self._next = 1  # the weight at which there is something to be said
        self._something = asyncio.Event()  # there is something to append
        self.marks = Marks(spool.marks, self._something.set)
        self._due = asyncio.Event()  # it is a burst
        self._room = asyncio.Event()  # the callbacks may go on
        self._room.set()
        self._appending = asyncio.Lock()
        self.renew_elsewhere: Callable[[set[str]], None] = lambda _: None  # books that are not kept here

    def put(self, record: AnyRecord, weight: int = 1) -> None:
        """Take a record; ``weight`` is one for it and one for each level of a book.

        Who puts something looks at ``is_due`` soon after.
        """
        self._records.append(record)
        self._weight += weight

    @property
    def is_due(self) -> bool:
        """Whether ``make_room`` is to be called."""
        return self._weight >= self._next

    async def make_room(self) -> None:
        """See to it that what was put is appended; wait while too much is waiting."""
        await self._added()

    def callback(
        self, channel: str, awaited: set[str], arrived: Callable[[str, str, float], None]
    ) -> Callback:
        """What stores cryptofeed's objects of ``channel``.

        ``arrived(channel, symbol, receipt)`` is called for each object of a symbol in ``awaited``.
        """
        if books := self._books.get(channel):
            return self._book_callback(channel, books, awaited, arrived)
        convert = _CONVERSIONS[channel]

        async def take(it: Any, receipt: float) -> None:
            record = convert(it, receipt)
            self._records.append(record)
            self._weight += 1
            if record.symbol in awaited:
                arrived(channel, record.symbol, receipt)
            if self._weight >= self._next:
                await self._added()

        return take

    def forget_books(self, keys: Iterable[Key]) -> dict[Key, float]:
        """Something of these may have been missed: their next record is a complete book.

        Returns the receipts of their last records.
        """
        last = {}
        for channel, symbol in keys:
            if (books := self._books.get(channel)) and (receipt := books.forget(symbol)):
                last[channel, symbol] = receipt
        return last

    def renew_books(self, keys: Iterable[Key]) -> None:
        """A complete book follows the next change of each of these."""
        keys = list(keys)
        for channel, symbol in keys:
            if books := self._books.get(channel):
                books.renew(symbol)
        self.renew_elsewhere({symbol for channel, symbol in keys if channel in self._books})

    def report(self, gap: Gap) -> None:
        """Puts a gap on record."""
        self._records.append(gap)
        self._weight += 1
        self.marks.put(GAPS_OF_DAY, GapsOfDay(_today(), self.gaps_today + 1))
        self._lines.add(gap)

    @property
    def gaps_today(self) -> int:
        """How many gap records there were since midnight, UTC, in this process and those before it."""
        last = self.marks.get(GAPS_OF_DAY)
        return last.count if last and last.day == _today() else 0

    @property
    def next_sequence(self) -> int:
        """A sequence that the next record will have, or a later one."""
        return self._spool.end

    async def run(self) -> None:
        """Appends bursts to the spool, for ever."""
        while True:
            await self._something.wait()
            try:
                async with asyncio.timeout(BURST_SECONDS):
                    await self._due.wait()
            except TimeoutError:
                pass
            await self.append()

    async def drain(self) -> None:
        """Returns when everything that was received is in the spool."""
        self._lines.tell()
        while self._records or not self.marks.are_saved or self._appending.locked():
            await self.append()

    def _book_callback(
        self, channel: str, books: Books, awaited: set[str], arrived: Callable[[str, str, float], None]
    ) -> Callback:

        async def take(book: Any, receipt: float) -> None:
            records, broken = books.take(book, receipt)
            for record in records:
                self._records.append(record)
                self._weight += 1 + len(record.bid) + len(record.ask)
            if broken is not None:
                self.report(_break(channel, book, broken, receipt))
            if book.symbol in awaited:
                arrived(channel, book.symbol, receipt)
            if self._weight >= self._next:
                await self._added()

        return take

    async def _added(self) -> None:
        """Sees to it that what was added is appended; waits while too much is waiting."""
        self._something.set()
        missing = BURST_RECORDS - len(self._records)
        if missing > 0 and self._weight < BURST_WEIGHT:
            self._next = self._weight + missing
            return
        self._due.set()
        self._next = MOST_WAITING
        if self._weight >= MOST_WAITING:
            self._room.clear()
            await self._room.wait()

    async def append(self) -> None:
        """Appends what was received and marked so far."""
        async with self._appending:
            records, self._records = self._records, []
            marks = self.marks.take()
            self._weight, self._next = 0, 1
            self._something.clear()
            self._due.clear()
            if records:
                self._metrics.last_received = time.time()
                self._metrics.received.update(counts(records))
            if records or marks:
                await self._spool.append(records, marks)
            self._room.set()


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _break(channel: str, book: Any, start: float, end: float) -> Gap:
    return Gap(book.exchange, book.symbol, end, time.time(), channel, start, end, "sequence", None)


def _time(value: Any, receipt: float) -> float:
    if not value:
        return receipt
    return value if type(value) is float and 0 < value < LATEST else moment(value)


def _trade(it: Any, receipt: float) -> Trade:
    side, identity, kind = it.side, it.id, it.type
    return Trade(
        it.exchange,
        it.symbol,
        _time(it.timestamp, receipt),
        receipt,
        side if side in _SIDES else text(side),
        number(it.amount),
        number(it.price),
        None if identity is None else text(identity),
        None if kind is None else text(kind),
    )


def _ticker(it: Any, receipt: float) -> Ticker:
    return Ticker(
        it.exchange, it.symbol, _time(it.timestamp, receipt), receipt, number(it.bid), number(it.ask)
    )


def _l1_book(it: Any, receipt: float) -> L1Book:
    return L1Book(
        it.exchange,
        it.symbol,
        _time(it.timestamp, receipt),
        receipt,
        number(it.bid_price),
        number(it.bid_size),
        number(it.ask_price),
        number(it.ask_size),
    )


def _funding(it: Any, receipt: float) -> Funding:
    return Funding(
        it.exchange,
        it.symbol,
        _time(it.timestamp, receipt),
        receipt,
        optional_number(it.mark_price),
        optional_number(it.rate),
        None if it.next_funding_time is None else moment(it.next_funding_time),
        optional_number(it.predicted_rate),
    )


def _open_interest(it: Any, receipt: float) -> OpenInterest:
    return OpenInterest(
        it.exchange, it.symbol, _time(it.timestamp, receipt), receipt, number(it.open_interest)
    )


def _liquidation(it: Any, receipt: float) -> Liquidation:
    return Liquidation(
        it.exchange,
        it.symbol,
        _time(it.timestamp, receipt),
        receipt,
        text(it.side),
        number(it.quantity),
        number(it.price),
        optional_text(it.id),
        optional_text(it.status),
    )


def _index(it: Any, receipt: float) -> Index:
    return Index(it.exchange, it.symbol, _time(it.timestamp, receipt), receipt, number(it.price))


def _candle(it: Any, receipt: float) -> Candle:
    return Candle(
        it.exchange,
        it.symbol,
        _time(it.timestamp, receipt),
        receipt,
        moment(it.start),
        moment(it.stop),
        text(it.interval),
        None if it.trades is None else count(it.trades),
        number(it.open),
        number(it.close),
        number(it.high),
        number(it.low),
        number(it.volume),
        None if it.exchange in _CLOSED_UNTOLD else it.closed,
    )


_CONVERSIONS: dict[str, Callable[[Any, float], AnyRecord]] = {
    "trades": _trade,
    "ticker": _ticker,
    "l1_book": _l1_book,
    "funding": _funding,
    "open_interest": _open_interest,
    "liquidations": _liquidation,
    "index": _index,
    "candles": _candle,
}
