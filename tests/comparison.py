"""What the simulator sent, compared with what is stored: record by record, content included.

    comparison = compare(simulator.log(), records)
    assert comparison.exact, comparison

Every record of the log must be stored exactly once, and nothing else, except for what no collector can have:

- what was in flight on a connection that the exchange's side cut: the end of what it wrote there;
- what lies in a gap that is stored too;
- what two connections sent while both were open: it counts once; what one of them alone sent then (the book
  or quote that it began with, what a fault took from the other) need not be there, but for trades;
- BINANCE's depth updates that the first snapshot of their connection contains already;
- trades of the past that an exchange repeats on every subscription: they count once, and those of the first
  subscription, before any trade was stored, need not be there; nor do those that a fault has repeated as if
  they were new, where they are from before the first that was stored.

A complete book that follows a delta (SNAPSHOT_INTERVAL) is not in the log: it must be what its deltas made.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from streams import in_seconds

from collector.records import (
    AnyRecord,
    Candle,
    Funding,
    Gap,
    Index,
    L2Book,
    Liquidation,
    OpenInterest,
    Ticker,
    Trade,
    channel_of,
)

#: Why a connection may have lost what was written to it; after a clean close everything arrives.
CUT = ("reset", "quiet", "slow")
SLACK = 0.25  # seconds at least from what is written (the log's time) to its receipt (a gap's)
SAME_TIME = 2e-6  # seconds; floats of this century are good for a quarter of a microsecond

type Entry = Mapping[str, Any]
#: Bids and asks: size by price.
type Book = tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]


@dataclass
class Comparison:
    """How the log and the records differ; ``excused`` are entries that may be absent, and are."""

    matched: int = 0
    missing: list[Entry] = field(default_factory=list)
    unexpected: list[AnyRecord] = field(default_factory=list)
    differing: list[tuple[Entry, AnyRecord]] = field(default_factory=list)
    excused: list[Entry] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Whether everything is stored once, and nothing else."""
        return not (self.missing or self.unexpected or self.differing)

    def __str__(self) -> str:
        counts = ", ".join(
            f"{len(getattr(self, name))} {name}" for name in ("missing", "unexpected", "differing", "excused")
        )
        examples = [*self.missing[:3], *self.unexpected[:3], *self.differing[:3]]
        return "\n".join(
            [f"{self.matched} matched, {counts}", *(f"  {example!s:.500}" for example in examples)]
        )


def compare(log: Iterable[Entry], records: Iterable[AnyRecord], *, excuse_cut: bool = True) -> Comparison:
    """Compares a simulator's ``log`` (entries as ``Simulator.log()`` gives them) with stored ``records``.

    Gaps among the records excuse what lies in them; without ``excuse_cut`` nothing else does.
    """
    log, gaps = list(log), gaps_in(records := list(records))
    records = list(map(in_seconds, records))
    excuses = _Excuses(log if excuse_cut else (), gaps, max(SLACK, _longest_delay(records)))
    sent: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for entry in _told(log):
        if not _never_stored(entry):
            sent[_key(entry)].append(entry)
    stored: dict[tuple[str, str, str], list[AnyRecord]] = defaultdict(list)
    for record in records:
        if not isinstance(record, Gap):
            stored[record.exchange, channel_of(record), record.symbol].append(record)
    comparison = Comparison()
    for key in sorted({*sent, *stored}):
        check = {"trades": _trades, "l2_book": _books}.get(key[1], _in_order)
        check(comparison, sent[key], stored[key], excuses)
    return comparison


class _Lives:
    """When each connection was open."""

    def __init__(self, log: Iterable[Entry]) -> None:
        events = [entry for entry in log if "event" in entry]
        self._opened = {it["connection"]: it["time"] for it in events if it["event"] == "open"}
        self._closed = {it["connection"]: it.get("time", 0.0) for it in events if it["event"] == "closed"}

    def meet(self, earlier: int | None, later: int | None) -> bool:
        """Whether the first was still open when the second was opened."""
        return earlier != later and self._opened.get(later, 0) < self._closed.get(earlier, float("inf"))

    def lasts(self, connection: int | None, time: float) -> bool:
        """Whether it was open then."""
        return time < self._closed.get(connection, float("inf"))


def _told(log: Sequence[Entry]) -> Iterable[Entry]:
    """The records of the log; what two connections sent while both were open has to be stored once.

    Where the first of them sent it, or the second (``copy_of`` the first): a fault may have changed the order
    on one. What one alone sent then, be it that it began with it, or that a fault took it from the other,
    is optional: it depends on which of the two was recorded. Trades have to be there all the same.
    """
    lives = _Lives(log)
    senders: dict[Any, dict[str, dict[Any, int]]] = defaultdict(lambda: defaultdict(dict))  # by content
    records = [(entry, _key(entry), repr(entry["content"])) for entry in log if "event" not in entry]
    for entry, key, content in records:
        senders[key][content].setdefault(entry["connection"], entry["sequence"])
    carriers: dict[Any, dict[Any, None]] = defaultdict(dict)  # the connections that sent some so far
    for entry, key, content in records:
        connection, sent_by = entry["connection"], senders[key][content]
        others = [it for it in carriers[key] if it != connection and lives.lasts(it, entry["time"])]
        if connection is None:
            others = others[1:]  # one of them asked for it
        else:
            carriers[key][connection] = None
        first, sequence = next(iter(sent_by.items()))
        if key[1] == "trades":
            yield entry
        elif lives.meet(first, connection):
            yield {**entry, "copy_of": sequence}
        else:
            alone = others and sent_by.keys().isdisjoint(others)
            yield {**entry, "optional": True} if alone else entry


def _key(entry: Entry) -> tuple[str, str, str]:
    return entry["exchange"], entry["channel"], entry["symbol"]


def gaps_in(records: Iterable[AnyRecord]) -> list[Gap]:
    """The gaps among the records, their times in seconds."""
    return [in_seconds(record) for record in records if isinstance(record, Gap)]


def _longest_delay(records: Iterable[AnyRecord]) -> float:
    """From a change of a book to its receipt, in seconds: on a slow machine both ends fall behind."""
    changes = [record for record in records if isinstance(record, L2Book) and record.delta]
    return max((change.receipt_timestamp - change.timestamp for change in changes), default=0.0)


class _Excuses:
    """What may be absent."""

    def __init__(self, log: Iterable[Entry], gaps: Iterable[Gap], slack: float) -> None:
        self._gaps, self._slack = list(gaps), slack
        self._cut = {
            entry["connection"]
            for entry in log
            if entry.get("event") == "closed" and entry.get("reason") in CUT
        }

    def cover(self, entry: Entry) -> bool:
        """Whether the entry lies in a gap."""
        return any(
            entry["exchange"] == gap.exchange
            and entry["channel"] == gap.missed
            and entry["symbol"] == gap.symbol
            and gap.start - self._slack <= entry["time"] <= gap.end + self._slack
            for gap in self._gaps
        )

    def lies_in_gap(self, record: AnyRecord) -> bool:
        """Whether the record was received in a gap of its own, whose times are rounded to microseconds."""
        return any(
            (record.exchange, channel_of(record), record.symbol) == (gap.exchange, gap.missed, gap.symbol)
            and gap.start + 1e-6 < record.receipt_timestamp < gap.end - 1e-6
            for gap in self._gaps
        )

    def split(self, entries: Sequence[Entry], absent: Sequence[Entry]) -> tuple[list[Entry], list[Entry]]:
        """The absent ones of ``entries`` that are missing, and those that are excused."""
        gone = {entry["sequence"] for entry in absent}
        in_flight = set()
        for connection in self._cut:
            for entry in reversed([entry for entry in entries if entry["connection"] == connection]):
                if entry["sequence"] not in gone:
                    break
                in_flight.add(entry["sequence"])
        missing = [
            entry
            for entry in absent
            if entry["sequence"] not in in_flight and "optional" not in entry and not self.cover(entry)
        ]
        excused = [entry for entry in absent if entry not in missing]
        return missing, excused


def _never_stored(entry: Entry) -> bool:
    """Cryptofeed hands out candles when they are complete, where the exchange tells."""
    return entry["channel"] == "candles" and entry["content"]["closed"] is False


def _in_order(
    comparison: Comparison, sent: Sequence[Entry], stored: Sequence[AnyRecord], excuses: _Excuses
) -> None:
    """The records are the entries, in their order."""
    absent, position = [], 0
    there: set[int] = set()
    for record in stored:
        left = (i for i in range(position, len(sent)) if _once(sent[i]) not in there)
        found = next((i for i in left if _same(sent[i], record)), None)
        if found is None:
            comparison.unexpected.append(record)
            continue
        absent += sent[position:found]
        position = found + 1
        there.add(_once(sent[found]))
        comparison.matched += 1
    firsts = [entry for entry in sent if "copy_of" not in entry]
    absent = [entry for entry in [*absent, *sent[position:]] if entry["sequence"] not in there]
    _settle(comparison, firsts, [entry for entry in absent if "copy_of" not in entry], excuses)


def _once(entry: Entry) -> int:
    """What is the same for an entry and its copies."""
    return entry.get("copy_of", entry["sequence"])


def _settle(
    comparison: Comparison, sent: Sequence[Entry], absent: Sequence[Entry], excuses: _Excuses
) -> None:
    missing, excused = excuses.split(sent, absent)
    comparison.missing += missing
    comparison.excused += excused


def _trades(
    comparison: Comparison, sent: Sequence[Entry], stored: Sequence[AnyRecord], excuses: _Excuses
) -> None:
    """Trades count once, however often an exchange repeats them; live ones of one connection are each one."""
    repeats: dict[Any, Counter[tuple[int, bool, bool]]] = defaultdict(Counter)
    entries: dict[Any, Entry] = {}
    for entry in sent:
        key = _trade_key(entry["content"])
        why = "snapshot" in entry["content"], "repeated" in entry["content"]
        repeats[key][entry["connection"], *why] += 1
        entries[key] = entry
    expected = {key: max(counts.values()) for key, counts in repeats.items()}
    by_id = {entry["content"]["id"]: entry for entry in sent if entry["content"]["id"]}
    there: Counter[Any] = Counter()
    for record in stored:
        key = _trade_record_key(record)
        there[key] += 1
        if there[key] <= expected.get(key, 0):
            comparison.matched += 1
        elif key not in expected and record.id in by_id:
            comparison.differing.append((by_id[record.id], record))
            there[_trade_key(by_id[record.id]["content"])] += 1
        else:
            comparison.unexpected.append(record)
    begun = min((record.receipt_timestamp for record in stored), default=float("inf"))
    repeated = [entry for entry in sent if entry["content"].get("snapshot")]
    past = {_trade_key(entry["content"]) for entry in repeated if entry["time"] <= begun}
    absent = [
        entry
        for entry in sent
        if there[_trade_key(entry["content"])] < expected[_trade_key(entry["content"])]
        and not (entry["content"].get("snapshot") and _trade_key(entry["content"]) in past)
        and not (entry["content"].get("repeated") and _seconds(entry["content"]["timestamp"]) < begun)
    ]
    missing, excused = excuses.split(sent, absent)
    comparison.missing += missing
    comparison.excused += excused


def _trade_key(content: Entry) -> tuple[Any, ...]:
    return (
        content["id"],
        content["side"],
        Decimal(content["price"]),
        Decimal(content["amount"]),
        round(_seconds(content["timestamp"]) * 1e6),
        content["type"],
    )


def _trade_record_key(trade: Trade) -> tuple[Any, ...]:
    numbers = Decimal(trade.price), Decimal(trade.amount)
    return (trade.id, trade.side, *numbers, round(trade.timestamp * 1e6), trade.type)


def _books(
    comparison: Comparison, sent: Sequence[Entry], stored: Sequence[AnyRecord], excuses: _Excuses
) -> None:
    """Snapshots and deltas, each in their order, and books that are what their deltas made."""
    snapshots = [entry for entry in sent if entry["content"]["kind"] == "snapshot"]
    deltas = [entry for entry in sent if entry["content"]["kind"] == "delta"]
    copies = _check_copies(comparison, stored, excuses)
    started = Comparison()
    _in_order(started, snapshots, [r for r in stored if not r.delta and id(r) not in copies], excuses)
    followed = Comparison()
    _in_order(followed, deltas, [r for r in stored if r.delta], excuses)
    for part in (started, followed):
        comparison.matched += part.matched
        comparison.unexpected += part.unexpected
        comparison.excused += part.excused
    comparison.missing += started.missing
    absent = {entry["sequence"] for entry in (*followed.missing, *followed.excused)}
    contained = _contained([entry for entry in deltas if "copy_of" not in entry], snapshots, absent)
    comparison.missing += [entry for entry in followed.missing if entry["sequence"] not in contained]
    comparison.excused += [entry for entry in followed.missing if entry["sequence"] in contained]


def sides_of(record: L2Book) -> Book:
    """Bids and asks of a record."""
    return _side(record.bid), _side(record.ask)


def apply_delta(book: Book, changes: Book) -> None:
    """Makes the changes in the sides of a book; a size of 0 removes its level."""
    for side, levels in zip(book, changes, strict=True):
        side.update(levels)
        for price in [price for price, size in levels.items() if not size]:
            del side[price]


def _check_copies(comparison: Comparison, stored: Sequence[AnyRecord], excuses: _Excuses) -> set[int]:
    """The complete books that follow a delta of the same message; each must be what its deltas made.

    After a gap there is no book until a complete one comes.
    """
    gap = False
    copies: set[int] = set()
    book: Book | None = None
    previous: L2Book | None = None
    for record in stored:
        sides = sides_of(record)
        if excuses.lies_in_gap(record):
            book, gap = None, True
        if record.delta and book is not None:
            apply_delta(book, sides)
        elif record.delta and not gap:
            comparison.unexpected.append(record)  # a delta of no book
        elif (
            previous is not None and previous.delta and previous.receipt_timestamp == record.receipt_timestamp
        ):
            copies.add(id(record))
            if book != sides and not gap:
                comparison.unexpected.append(record)
            book, gap = sides, False
        elif not record.delta:
            book, gap = sides, False
        previous = record
    return copies


def _contained(deltas: Sequence[Entry], snapshots: Sequence[Entry], absent: set[int]) -> set[int]:
    """BINANCE: the absent updates at the start of a connection that a snapshot contains."""
    newest = max((entry["content"].get("last_update_id", -1) for entry in snapshots), default=-1)
    contained: set[int] = set()
    following: set[int] = set()
    for entry in deltas:
        if entry["sequence"] not in absent:
            following.add(entry["connection"])
        elif (
            entry["connection"] not in following
            and entry["content"].get("last_update_id", newest + 1) <= newest
        ):
            contained.add(entry["sequence"])
    return contained


def _same(entry: Entry, record: AnyRecord) -> bool:
    content = entry["content"]
    if content["timestamp"] and abs(record.timestamp - _seconds(content["timestamp"])) > SAME_TIME:
        return False
    match record:
        case Ticker():
            return _same_numbers(content, record, "bid", "ask")
        case L2Book():
            return all(_same_side(content[side], getattr(record, side)) for side in ("bid", "ask"))
        case Candle():
            return _same_candle(content, record)
        case Funding():
            following = _seconds(content["next_funding_time"])
            return (
                _same_numbers(content, record, "mark_price", "rate") and following == record.next_funding_time
            )
        case Liquidation():
            words = content["side"], content["status"]
            return _same_numbers(content, record, "quantity", "price") and words == (
                record.side,
                record.status,
            )
        case Index():
            return _same_numbers(content, record, "price")
        case OpenInterest():
            return _same_numbers(content, record, "open_interest")
    raise AssertionError(f"no comparison for {record}")


def _same_numbers(content: Entry, record: AnyRecord, *names: str) -> bool:
    return all(Decimal(content[name]) == Decimal(getattr(record, name)) for name in names)


def _same_side(sent: Sequence[Sequence[str]], stored: Sequence[Sequence[str]]) -> bool:
    return len(sent) == len(stored) and _side(sent) == _side(stored)


def _side(levels: Sequence[Sequence[str]]) -> dict[Decimal, Decimal]:
    return {Decimal(price): Decimal(size) for price, size in levels}


def _same_candle(content: Entry, candle: Candle) -> bool:
    numbers = ("open", "high", "low", "close", "volume")
    return (
        _same_numbers(content, candle, *numbers)
        and abs(content["stop"] - candle.stop) < SAME_TIME
        and content["trades"] == candle.trades
        and content["closed"] == candle.closed
    )


def _seconds(text: str) -> float:
    """Seconds since 1970 of a time as the exchanges write it: ISO 8601, seconds, or milliseconds."""
    if "T" in text:
        whole, _, fraction = text.rstrip("Z").partition(".")
        return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")
    return float(text) if "." in text else int(text) / 1000
