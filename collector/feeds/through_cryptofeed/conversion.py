"""cryptofeed's objects become records; their books are kept here, and written as deltas and full ones."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from collector.bounds import (
    amount,
    count,
    moment,
    number,
    optional_number,
    optional_text,
    text,
)
from collector.feeds.through_cryptofeed.books import Books, times
from collector.gaps.marks import Hole
from collector.gaps.tracker import Gaps
from collector.receiver import Receiver
from collector.records import (
    AnyRecord,
    Candle,
    Funding,
    Index,
    Key,
    L1Book,
    L2Book,
    L3Book,
    Liquidation,
    OpenInterest,
    Ticker,
    Trade,
)
from collector.settings import Settings

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


class Conversion:
    """Makes records of what cryptofeed calls back with, and puts them into the receiver."""

    def __init__(self, settings: Settings, receiver: Receiver, gaps: Gaps) -> None:
        self._receiver, self._gaps = receiver, gaps
        self._books = {
            channel: Books(
                record,
                snapshot_only=settings.snapshot_only,
                interval=settings.snapshot_interval,
                depth=settings.max_depth,
            )
            for channel, record in (("l2_book", L2Book), ("l3_book", L3Book))
        }

    def callback(
        self, channel: str, awaited: set[str], arrived: Callable[[str, str, float], None]
    ) -> Callback:
        """Return what stores cryptofeed's objects of ``channel``.

        ``arrived(channel, symbol, receipt)`` is called for each object of a symbol in ``awaited``.
        """
        if books := self._books.get(channel):
            return self._book_callback(channel, books, awaited, arrived)
        convert, receiver = _CONVERSIONS[channel], self._receiver
        put = receiver.put

        async def take(it: Any, receipt: float) -> None:
            record = convert(it, receipt)
            put(record)
            if record.symbol in awaited:
                arrived(channel, record.symbol, receipt)
            if receiver.is_due:
                await receiver.make_room()

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
        for channel, symbol in keys:
            if books := self._books.get(channel):
                books.renew(symbol)

    def _book_callback(
        self, channel: str, books: Books, awaited: set[str], arrived: Callable[[str, str, float], None]
    ) -> Callback:
        receiver = self._receiver

        async def take(book: Any, receipt: float) -> None:
            records, broken = books.take(book, receipt)
            for record in records:
                receiver.put(record, 1 + len(record.bid) + len(record.ask))
            if broken is not None:
                self._gaps.report((channel, book.symbol), Hole(broken, "sequence"), receipt)
            if book.symbol in awaited:
                arrived(channel, book.symbol, receipt)
            if receiver.is_due:
                await receiver.make_room()

        return take


def _trade(it: Any, receipt: float) -> Trade:
    side, identity, kind = it.side, it.id, it.type
    return Trade(
        it.exchange,
        it.symbol,
        *times(it.timestamp, receipt),
        side if side in _SIDES else text(side),
        amount(it.amount),
        number(it.price),
        None if identity is None else text(identity),
        None if kind is None else text(kind),
    )


def _ticker(it: Any, receipt: float) -> Ticker:
    return Ticker(it.exchange, it.symbol, *times(it.timestamp, receipt), number(it.bid), number(it.ask))


def _l1_book(it: Any, receipt: float) -> L1Book:
    return L1Book(
        it.exchange,
        it.symbol,
        *times(it.timestamp, receipt),
        number(it.bid_price),
        amount(it.bid_size),
        number(it.ask_price),
        amount(it.ask_size),
    )


def _funding(it: Any, receipt: float) -> Funding:
    return Funding(
        it.exchange,
        it.symbol,
        *times(it.timestamp, receipt),
        optional_number(it.mark_price),
        optional_number(it.rate),
        None if it.next_funding_time is None else moment(it.next_funding_time),
        optional_number(it.predicted_rate),
    )


def _open_interest(it: Any, receipt: float) -> OpenInterest:
    return OpenInterest(it.exchange, it.symbol, *times(it.timestamp, receipt), amount(it.open_interest))


def _liquidation(it: Any, receipt: float) -> Liquidation:
    return Liquidation(
        it.exchange,
        it.symbol,
        *times(it.timestamp, receipt),
        text(it.side),
        amount(it.quantity),
        number(it.price),
        optional_text(it.id),
        optional_text(it.status),
    )


def _index(it: Any, receipt: float) -> Index:
    return Index(it.exchange, it.symbol, *times(it.timestamp, receipt), number(it.price))


def _candle(it: Any, receipt: float) -> Candle:
    return Candle(
        it.exchange,
        it.symbol,
        *times(it.timestamp, receipt),
        moment(it.start),
        moment(it.stop),
        text(it.interval),
        None if it.trades is None else count(it.trades),
        number(it.open),
        number(it.close),
        number(it.high),
        number(it.low),
        amount(it.volume),
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
