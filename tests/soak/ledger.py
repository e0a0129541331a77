"""What a simulator sent beside what is stored: every record, in an amount of memory that millions allow.

A record is kept as a number of 64 bits made from its content, with its time. A complete book is the sum of
its levels' numbers, so that it can follow the deltas of the log at the cost of what they change.
"""

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from collector.records import Gap

SLACK = 0.25  # seconds between the clock of a gap (receipt) and that of the log (written)
INTERVAL = 1000  # deltas after which a complete book is due: SNAPSHOT_INTERVAL's default
EXAMPLES = 40  # that are told

_MASK = (1 << 64) - 1


class Content(msgspec.Struct):
    """A record of the log; trades and books of COINBASE."""

    timestamp: str
    id: str = ""
    side: str = ""
    price: str = ""
    amount: str = ""
    snapshot: bool = False
    kind: str = ""
    bid: list[tuple[str, str]] = []
    ask: list[tuple[str, str]] = []


class Entry(msgspec.Struct):
    """A line of the log."""

    time: float
    connection: int | None = None
    event: str = ""
    channel: str = ""
    symbol: str = ""
    content: Content | None = None


def microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def trade_digest(side: str, price: float, amount: float, at: int) -> int:
    return hash((side, price, amount, at)) & _MASK


def book_digest(levels: int, at: int) -> int:
    """Of a book or of its changes: the sum of the ``level_digest`` of each, and when (microseconds)."""
    return (levels + hash(("at", at))) & _MASK


def level_digest(side: int, price: float, size: float) -> int:
    return hash((side, price, size))


def levels_digest(bid: Iterable[tuple], ask: Iterable[tuple]) -> int:
    return sum(
        level_digest(side, float(price), float(size))
        for side, levels in enumerate((bid, ask))
        for price, size in levels
    )


@lru_cache(16)
def _whole_seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def _at(text: str) -> int:
    return microseconds(_whole_seconds(text[:19]) + float(f"0{text[19:-1]}"))


class Columns:
    """Rows of numbers, by column: 8 bytes each."""

    def __init__(self, types: str) -> None:
        self._columns = [array(kind) for kind in types]

    def add(self, *row: float) -> None:
        for column, value in zip(self._columns, row, strict=True):
            column.append(value)

    def arrays(self) -> list[np.ndarray]:
        return [np.frombuffer(column, column.typecode) for column in self._columns]


class _Book:
    """A book as its snapshot and its deltas make it."""

    def __init__(self) -> None:
        self.sizes: dict[tuple[int, float], float] = {}
        self.digest = 0

    def change(self, bid: Iterable[tuple], ask: Iterable[tuple]) -> None:
        for side, levels in enumerate((bid, ask)):
            for level in levels:
                price, size = map(float, level)
                if before := self.sizes.pop((side, price), 0.0):
                    self.digest -= level_digest(side, price, before)
                if size:
                    self.sizes[side, price] = size
                    self.digest += level_digest(side, price, size)


class Sent:
    """What the log of a simulator says, by symbol."""

    def __init__(self, log: Path) -> None:
        self.trades = defaultdict(lambda: Columns("QQdB"))  # id, digest, time, whether it is the past
        self.deltas = defaultdict(lambda: Columns("QQd"))  # digest, digest of the book after it, time
        self.snapshots = defaultdict(lambda: Columns("Qd"))  # digest, time
        self.closed: list[float] = []  # when connections ended
        self.records = 0
        self._books: dict[tuple[int | None, str], _Book] = {}
        self._traded: set[str] = set()  # symbols that had trades which were not past
        decode = msgspec.json.Decoder(Entry).decode
        with log.open("rb") as file:
            for line in file:
                self._take(decode(line))

    def _take(self, entry: Entry) -> None:
        if entry.content is None:
            if entry.event == "closed":
                self.closed.append(entry.time)
            return
        self.records += 1
        it, at = entry.content, _at(entry.content.timestamp)
        if entry.channel == "trades":
            digest = trade_digest(it.side, float(it.price), float(it.amount), at)
            past = it.snapshot and entry.symbol not in self._traded
            self.trades[entry.symbol].add(int(it.id), digest, entry.time, past)
            if not past:
                self._traded.add(entry.symbol)
            return
        key = entry.connection, entry.symbol
        if it.kind == "snapshot":
            self._books[key] = book = _Book()
            book.change(it.bid, it.ask)
            self.snapshots[entry.symbol].add(book_digest(book.digest, at), entry.time)
        else:
            book = self._books[key]
            book.change(it.bid, it.ask)
            changes = book_digest(levels_digest(it.bid, it.ask), at)
            self.deltas[entry.symbol].add(changes, book_digest(book.digest, at), entry.time)


class Stored:
    """What a store holds, by symbol. ``order`` is any number that rises with the store's own order."""

    def __init__(self) -> None:
        self.trades = defaultdict(lambda: Columns("qdQQ"))  # order, receipt, id, digest
        self.books = defaultdict(lambda: Columns("qdQQ"))  # order, receipt, whether it is a delta, digest
        self.gaps: list[Gap] = []
        self.records = 0

    def trade(self, order, symbol, receipt, name, side, price, amount, at) -> None:
        self.trades[symbol].add(
            order, receipt, int(name), trade_digest(side, float(price), float(amount), at)
        )
        self.records += 1

    def book(self, order, symbol, receipt, delta, bid, ask, at) -> None:
        self.books[symbol].add(order, receipt, delta, book_digest(levels_digest(bid, ask), at))
        self.records += 1


@dataclass
class Account:
    """How the two differ.

    Attributes:
        excused: absent, and inside a stored gap, or older than the first subscription.
        wrong: stored, and nothing that was sent, or with another content.
        disordered: stored before what was sent before.
        invented: gaps during which no connection ended.
    """

    sent: int = 0
    stored: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    disordered: int = 0
    excused: int = 0
    gaps: int = 0
    invented: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        return not (self.lost or self.twice or self.wrong or self.disordered or self.invented)

    def tell(self, example: str) -> None:
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


def balance(sent: Sent, stored: Stored) -> Account:
    """Compares everything."""
    account = Account(sent.records, stored.records, gaps=len(stored.gaps))
    for symbol in sorted({*sent.trades, *stored.trades}):
        _Series(account, "trades", symbol, stored.gaps).trades(sent.trades[symbol], stored.trades[symbol])
    for symbol in sorted({*sent.deltas, *stored.books}):
        series = _Series(account, "l2_book", symbol, stored.gaps)
        series.books(sent.deltas[symbol], sent.snapshots[symbol], stored.books[symbol])
    closed = sorted(sent.closed)
    for gap in stored.gaps:
        if bisect_right(closed, gap.end + 1) == bisect_right(closed, gap.start - 1):
            account.invented += 1
            account.tell(f"no cause for {gap}")
    return account


class _Series:
    """One channel of one symbol."""

    def __init__(self, account: Account, channel: str, symbol: str, gaps: Iterable[Gap]) -> None:
        self._account, self._name = account, f"{channel} {symbol}"
        self._gaps = [gap for gap in gaps if gap.missed == channel and gap.symbol == symbol]
        self._optional: np.ndarray | None = None  # which need not be stored

    def trades(self, sent: Columns, stored: Columns) -> None:
        """By their ids, which rise; snapshots repeat some, and the first one tells of the past."""
        keys, digests, times, past = sent.arrays()
        keys, first = np.unique(keys, return_index=True)
        receipts, found, contents = _in_order(stored)
        self._optional = past[first].astype(bool)
        places, known = self._match(keys, times[first], found, receipts)
        self._wrong(receipts[known][digests[first][places] != contents[known]], "another content")

    def books(self, deltas: Columns, snapshots: Columns, stored: Columns) -> None:
        receipts, is_delta, found = _in_order(stored)
        is_delta = is_delta.astype(bool)
        keys, after, times = deltas.arrays()
        first = np.sort(np.unique(keys, return_index=True)[1])
        places, known = self._match(keys[first], times[first], found[is_delta], receipts[is_delta])
        books, written = snapshots.arrays()
        news = np.sort(np.unique(books, return_index=True)[1])
        starts = ~is_delta & np.isin(found, books)
        self._match(books[news], written[news], found[starts], receipts[starts])
        made = np.zeros(len(found), np.uint64)  # by each delta
        made[np.flatnonzero(is_delta)[known]] = after[first][places]
        self._copies(~is_delta & ~starts, is_delta, made, found, receipts)

    def _copies(self, copies, is_delta, made, found, receipts) -> None:
        """Complete books that follow a delta: each is what the deltas made, and comes when it is due."""
        at = np.flatnonzero(copies)
        same = (at > 0) & (found[at] == made[at - 1])
        again = (at > 0) & ~same & (found[at] == found[at - 1])
        self._twice(receipts[at[again]])
        self._wrong(receipts[at[~same & ~again]], "a book that its deltas do not make")
        complete = np.flatnonzero(np.concatenate(([True], ~is_delta, [True])))
        late = np.flatnonzero(np.diff(complete) - 1 > INTERVAL)
        self._account.lost += len(late)
        if len(late):
            self._tell(f"{len(late)} complete books did not come when due")

    def _match(self, keys, times, found, receipts):
        """Finds each of ``found`` among ``keys``; where, and which of them are there at all."""
        account = self._account
        if not len(keys):
            self._wrong(receipts, "never sent")
            return np.zeros(0, int), np.zeros(len(found), bool)
        by_key = np.argsort(keys)
        places = by_key[np.searchsorted(keys, found, sorter=by_key).clip(max=len(keys) - 1)]
        known = keys[places] == found
        places = places[known]
        self._wrong(receipts[~known], "never sent")
        order = np.argsort(places, kind="stable")
        again = order[1:][np.diff(places[order]) == 0]
        self._twice(receipts[known][again])
        turns = np.flatnonzero(np.diff(np.delete(places, again)) < 0)
        account.disordered += len(turns)
        for turn in turns[:3]:
            self._tell(f"out of order after {receipts[known][turn]:.6f}")
        received = np.full(len(keys), np.nan)
        received[places[::-1]] = receipts[known][::-1]
        self._absent(times, received)
        return places, known

    def _absent(self, times, received) -> None:
        """What is not there is lost, unless a gap has it; a gap's clock is the receipt, which may lag."""
        here = ~np.isnan(received)
        before = np.maximum.accumulate(np.where(here, np.arange(len(times)), -1))
        lost = []
        for place in np.flatnonzero(~here):
            last = before[place]
            lag = max(0.0, received[last] - times[last]) if last >= 0 else 0.0
            optional = self._optional is not None and self._optional[place]
            if optional or self._in_a_gap(times[place], lag):
                self._account.excused += 1
            else:
                lost.append(place)
        self._account.lost += len(lost)
        for run in np.split(lost, np.flatnonzero(np.diff(lost) > 1) + 1) if lost else []:
            first, last = int(run[0]), int(run[-1])
            neighbour = received[before[first]] if before[first] >= 0 else float("nan")
            self._tell(
                f"{len(run)} lost, written {times[first]:.6f} to {times[last]:.6f}; "
                f"the one before was received at {neighbour:.6f}"
            )

    def _in_a_gap(self, written: float, lag: float) -> bool:
        return any(gap.start - SLACK <= written + lag and written - SLACK <= gap.end for gap in self._gaps)

    def _twice(self, receipts) -> None:
        self._account.twice += len(receipts)
        if len(receipts):
            self._tell(f"{len(receipts)} twice, received {receipts[0]:.6f} to {receipts[-1]:.6f}")

    def _wrong(self, receipts, why: str) -> None:
        self._account.wrong += len(receipts)
        if len(receipts):
            self._tell(f"{len(receipts)} {why}, the first received at {receipts[0]:.6f}")

    def _tell(self, example: str) -> None:
        self._account.tell(f"{self._name}: {example}")


def _in_order(stored: Columns) -> list[np.ndarray]:
    """The columns without ``order``, by it."""
    order, *columns = stored.arrays()
    by = np.argsort(order, kind="stable")
    return [column[by] for column in columns]
