"""Repair values that are wrong although SQLite finds the database sound, in the caller's transaction.

A damaged value costs itself and what it describes, but never prevents a start. Whatever is redundant is
restored: the owner and the incarnations have a sealed copy; a blob's header is made again from its data if
the checksum is right; a blob with a wrong sequence is put back into the hole that it left. Everything else
is dropped, and what it may have described becomes a loss.
"""

import math
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from collector import records as codec
from collector import typed_json
from collector.bounds import LATEST
from collector.gap_records import joined, missing
from collector.records import AnyRecord, Gap
from collector.spool.incarnations import Ranges
from collector.spool.losses import DELIVERED, Place
from collector.spool.schema import encoder

#: The key of the sealed copy in the table ``meta``.
SEAL = "identity"
#: Sequences are roughly microseconds since 1970; anything from here on is not a sequence.
_MOST = 2**62
_LONGEST_ID = 64
_REASONS = ("dropped", "corrupt", "forgotten", DELIVERED)
_META: dict[str, type] = {
    "owner": str,
    "clean": int,
    "file": str,
    "boot": str,
    "acknowledged": int,
    "exact": int,
    "marks_lost": int,
    SEAL: str,
}

type _Incarnation = tuple[str, int, int]


class _Identity(msgspec.Struct):
    """The content of the sealed copy."""

    owner: str
    incarnations: list[_Incarnation]


def seal(owner: str, incarnations: Iterable[_Incarnation]) -> str:
    """Return a copy of both with a checksum."""
    text = msgspec.json.encode(_Identity(owner, list(incarnations)))
    return f"{zlib.crc32(text):08x} {text.decode()}"


def repair(db: sqlite3.Connection) -> list[str]:
    """Repair unsound values, in the caller's transaction; return what was wrong, a few words each."""
    faults: list[str] = []
    _repair_meta(db, faults)
    faults += _deleted(db, "bounds", "first", _is_bound)
    marks = _deleted(db, "marks", "key", _is_mark)
    _repair_losses(db, faults)
    _repair_headers(db, faults)
    _repair_order(db, faults)
    _repair_acknowledged(db, faults)
    if marks:
        lose_marks(db)
    return faults + marks


def lose_marks(db: sqlite3.Connection) -> None:
    """Note that marks are lost, for each opening until a record follows: who is killed has told nobody."""
    db.execute("INSERT OR REPLACE INTO meta SELECT 'marks_lost', coalesce(max(first + count), 0) FROM blobs")


def decoded(data: object, crc: object) -> list[AnyRecord] | None:
    """Return the records of a blob; None if it is not what was written, or cannot be decoded."""
    if not isinstance(data, bytes) or zlib.crc32(data) != crc:
        return None
    try:
        return codec.decode(data)
    except msgspec.DecodeError:
        return None


# -- who it is -------------------------------------------------------------------------------------------


def _repair_meta(db: sqlite3.Connection, faults: list[str]) -> None:
    meta = dict(db.execute("SELECT key, value FROM meta"))
    for key, value in list(meta.items()):
        if not isinstance(key, str) or not isinstance(value, _META.get(key, object)):
            db.execute("DELETE FROM meta WHERE key IS ?", (key,))
            faults.append(f"{_shown(key)} is {_shown(value)}")
            del meta[key]
    sealed = _unsealed(meta.get(SEAL))
    if SEAL in meta and sealed is None:
        faults.append("the copy of owner and incarnations is damaged")
    if sealed and meta.get("owner") != sealed.owner:
        faults.append(f"owner is {_shown(meta.get('owner'))}")
        db.execute("INSERT OR REPLACE INTO meta VALUES ('owner', ?)", (sealed.owner,))
    rows = db.execute("SELECT number, id, before, first FROM incarnations ORDER BY number").fetchall()
    right = sealed.incarnations if sealed else [row[1:] for row in rows if _is_incarnation(row[1:])]
    given = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'incarnations'").fetchone()
    numbered = _are_numbered([row[0] for row in rows]) and given == (rows[-1][:1] if rows else given)
    if [row[1:] for row in rows] != right or not numbered:
        faults.append("the incarnations are damaged")
        if not sealed and len(right) < len(rows):  # which records belonged to the others is unknown
            (oldest,) = db.execute("SELECT coalesce(min(first), 0) FROM blobs").fetchone()
            _lose(db, Place(oldest, oldest), None, (0.0, time.time()), ())
        db.execute("DELETE FROM incarnations")
        db.execute("DELETE FROM sqlite_sequence")
        right = sorted(right, key=lambda each: each[2])
        db.executemany("INSERT INTO incarnations(id, before, first) VALUES (?, ?, ?)", right)


def _are_numbered(numbers: Sequence[int]) -> bool:
    """Return whether these are consecutive numbers, as SQLite assigns them."""
    first = numbers[0] if numbers else 1
    return 0 < first < _MOST and list(numbers) == [first + index for index in range(len(numbers))]


def _unsealed(text: str | None) -> _Identity | None:
    crc, _, body = (text or "").partition(" ")
    try:
        if int(crc, 16) == zlib.crc32(body.encode()):
            return typed_json.decode(body, _Identity)
    except (ValueError, msgspec.DecodeError):
        pass
    return None


def _is_incarnation(row: Sequence[Any]) -> bool:
    identity, before, first = row
    named = isinstance(identity, str) and 0 < len(identity) <= _LONGEST_ID
    return named and _is_sequence(before) and _is_sequence(first) and before <= first


def _repair_acknowledged(db: sqlite3.Connection, faults: list[str]) -> None:
    """If the acknowledged sequence is unknown, assume that everything still here is unacknowledged."""
    row = db.execute("SELECT value FROM meta WHERE key = 'acknowledged'").fetchone()
    oldest, end = db.execute("SELECT min(first), max(first + count) FROM blobs").fetchone()
    (begun,) = db.execute("SELECT max(first) FROM incarnations").fetchone()
    most = max(end or 0, begun or 0)
    if begun is None or (row is not None and 0 <= row[0] <= most):
        return
    if row is not None:
        faults.append(f"acknowledged is {row[0]}")
    db.execute("INSERT OR REPLACE INTO meta VALUES ('acknowledged', ?)", (oldest or most,))


# -- the small tables ------------------------------------------------------------------------------------


def _deleted(db: sqlite3.Connection, table: str, key: str, is_sound: Callable[[Any, Any], bool]) -> list[str]:
    """Delete the unsound rows of a two-column table; return a description of each."""
    rows = db.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own names
    unsound = [row for row in rows if not is_sound(*row)]
    db.executemany(f"DELETE FROM {table} WHERE {key} IS ?", [row[:1] for row in unsound])  # noqa: S608
    return [f"{table} has {_shown(row)}" for row in unsound]


def _is_bound(first: Any, end: Any) -> bool:
    return _is_sequence(first) and _is_sequence(end) and first < end


def _is_mark(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, str)


def _repair_losses(db: sqlite3.Connection, faults: list[str]) -> None:
    """Repair the losses' values, and delete losses without a valid place.

    A deleted one is found again as a hole between blobs, if it is one.
    """
    columns = "first, reason, end, count, since, until, gaps"
    for row in db.execute(f"SELECT {columns} FROM losses").fetchall():  # noqa: S608 - our own names
        first, reason, end, count, since, until, gaps = row
        sound = list(row)
        if reason not in _REASONS:
            sound[1] = "corrupt"
        if not (count is None or _is_sequence(count)):
            sound[3] = None
        if not (since is None or _is_time(since)):
            sound[4] = _opened(db)
        if not (until is None or _is_time(until)):
            sound[5] = time.time()
        if not _are_gaps(gaps):
            sound[6] = codec.encode(())
        placed = _is_sequence(first) and _is_sequence(end) and first <= end
        if placed and sound == list(row):
            continue
        faults.append(f"a loss is {_shown(row)}")
        db.execute("DELETE FROM losses WHERE first IS ? AND reason IS ?", (first, reason))
        if placed:
            db.execute("INSERT OR REPLACE INTO losses VALUES (?, ?, ?, ?, ?, ?, ?)", sound)


def _are_gaps(blob: object) -> bool:
    try:
        return isinstance(blob, bytes) and isinstance(codec.decode_gaps(blob), list)
    except msgspec.DecodeError:
        return False


def _opened(db: sqlite3.Connection) -> float:
    (first,) = db.execute("SELECT min(first) FROM incarnations").fetchone()
    return (first or 0) / 1e6


# -- the records -----------------------------------------------------------------------------------------


def _repair_headers(db: sqlite3.Connection, faults: list[str]) -> None:
    """Make headers again from the data if their values are unsound or do not join their neighbours."""
    unsound = db.execute(
        "SELECT first FROM blobs WHERE typeof(count) <> 'integer' OR count < 1 OR count >= 4294967296"
        " OR typeof(data) <> 'blob' OR typeof(size) <> 'integer' OR size <> length(data)"
        " OR typeof(since) <> 'real' OR typeof(until) <> 'real' OR first < 0 OR first >= :most"
        " OR NOT since BETWEEN 0 AND :latest OR NOT until BETWEEN 0 AND :latest",
        {"most": _MOST, "latest": LATEST},
    ).fetchall()
    firsts = {first for (first,) in unsound}
    for one, two in _breaks(db, _known(db)):
        firsts |= {one.first, two.first}
    firsts |= {first for ends in db.execute("SELECT min(first), max(first) FROM blobs") for first in ends}
    for first in sorted(firsts - {None}):
        _repair_header(db, first, faults)


def _repair_header(db: sqlite3.Connection, first: int, faults: list[str]) -> None:
    row = db.execute(
        "SELECT count, size, since, until, crc, data FROM blobs WHERE first = ?", (first,)
    ).fetchone()
    *header, crc, data = row
    records = decoded(data, crc)
    if not 0 <= first < _MOST or not isinstance(data, bytes):
        _remove(db, first, faults)
    elif records:
        right = [len(records), len(data), *codec.span(records)]
        if header != right:
            faults.append(f"the blob at {first} says {_shown(header)}")
            db.execute(
                "UPDATE blobs SET count = ?, size = ?, since = ?, until = ? WHERE first = ?", (*right, first)
            )
    elif not (_is_sequence(header[0]) and header[1] == len(data) and all(map(_is_time, header[2:]))):
        _remove(db, first, faults)
    # otherwise its data is damaged: reading it makes it a loss, with the right count


def _repair_order(db: sqlite3.Connection, faults: list[str]) -> None:
    """Put misplaced blobs back into the holes that they left; record every other hole as a loss."""
    known = _known(db)
    nowhere = _nowhere(db)
    if not nowhere and not list(_breaks(db, known)):
        return
    rows = db.execute("SELECT first, first + count, since, until FROM blobs ORDER BY first")
    places = [Place(*row) for row in rows]
    astray = [place for place in places if place.first in nowhere]
    astray += _astray([place for place in places if place.first not in nowhere], known)
    staying = [place for place in places if place not in astray]
    for place in astray:
        count = place.end - place.first
        holes = [
            one.end
            for one, two in pairwise(staying)
            if two.first - one.end == count and known.outside(one.end, two.first) == count
        ]
        if len(holes) == 1:
            faults.append(f"the blob of {holes[0]} was at {place.first}")
            db.execute("UPDATE blobs SET first = ? WHERE first = ?", (holes[0], place.first))
            staying = sorted([*staying, place._replace(first=holes[0], end=holes[0] + count)])
        else:
            _remove(db, place.first, faults)
    for one, two in list(_breaks(db, _known(db))):
        if two.first < one.end:
            _remove(db, two.first, faults)
        else:
            _account_for(db, one, two, known, faults)


def _nowhere(db: sqlite3.Connection) -> set[int]:
    """Return the first sequences of blobs that no incarnation can have written."""
    rows = db.execute(
        "SELECT blobs.first FROM incarnations JOIN blobs"
        " ON blobs.first >= incarnations.before AND blobs.first < incarnations.first"
    )
    return {first for (first,) in rows}


def _astray(places: Sequence[Place], known: Ranges) -> list[Place]:
    """Return the blobs that join no neighbour, and overlap one or contradict its receipts."""
    pairs = list(pairwise(places))
    joins = [known.join(one.end, two.first) for one, two in pairs]
    ordered = [one.end <= two.first and one.until <= two.since for one, two in pairs]
    found = []
    for number, place in enumerate(places):
        beside = range(max(0, number - 1), min(number + 1, len(pairs)))
        if not any(joins[each] for each in beside) and not all(ordered[each] for each in beside):
            found.append(place)
    return found


def _account_for(
    db: sqlite3.Connection,
    one: Place,
    two: Place,
    known: Ranges,
    faults: list[str],
) -> None:
    (since,) = db.execute("SELECT until FROM blobs WHERE first = ?", (one.first,)).fetchone()
    (until,) = db.execute("SELECT since FROM blobs WHERE first = ?", (two.first,)).fetchone()
    count = known.outside(one.end, two.first)
    faults.append(f"{count} records are missing from {one.end} on")
    _lose(db, Place(one.end, two.first), count, (since, until), ())


def _remove(db: sqlite3.Connection, first: int, faults: list[str]) -> None:
    """Delete a blob whose content or place cannot be determined, and record it as a loss."""
    faults.append(f"the blob at {first} is damaged")
    records = decoded(*db.execute("SELECT data, crc FROM blobs WHERE first = ?", (first,)).fetchone())
    db.execute("DELETE FROM blobs WHERE first = ?", (first,))
    row = db.execute("SELECT max(first + count) FROM blobs WHERE first < ?", (first,)).fetchone()
    near = Place(row[0] or 0, row[0] or 0)
    if records:
        _lose(db, near, len(records), codec.span(records), missing(records, "corrupt"))
    else:
        _lose(db, near, None, (_opened(db), time.time()), ())


def _lose(
    db: sqlite3.Connection,
    place: Place,
    count: int | None,
    span: tuple[float, float],
    gaps: Sequence[Gap],
) -> None:
    """Store a loss, joined with the one that is already at its place, if any."""
    end, (since, until), told = place.end, span, tuple(gaps)
    row = db.execute(
        "SELECT end, count, since, until, gaps FROM losses WHERE first = ? AND reason = 'corrupt'",
        (place.first,),
    ).fetchone()
    if row:
        # A loss without an end is a gap already: joined, it is told once more, with one.
        end, since, until = max(end, row[0]), min(since, row[2] or since), max(until, row[3] or until)
        count = None if count is None or row[1] is None else count + row[1]
        before = tuple(codec.decode_gaps(row[4]))
        told = joined((*before, *told)) if before and told else ()
    values = (place.first, "corrupt", end, count, since, until, encoder(db)(told))
    db.execute("INSERT OR REPLACE INTO losses VALUES (?, ?, ?, ?, ?, ?, ?)", values)


def _breaks(db: sqlite3.Connection, known: Ranges) -> Iterable[tuple[Place, Place]]:
    """Yield neighbours that overlap, or between which records are missing that no known loss covers."""
    rows = db.execute(
        "SELECT * FROM (SELECT first, first + count AS end, lead(first) OVER ordered AS next,"
        " lead(first + count) OVER ordered FROM blobs WINDOW ordered AS (ORDER BY first)) WHERE next <> end"
    )
    for first, end, following, following_end in rows:
        if not known.join(end, following):
            yield Place(first, end), Place(following, following_end)


def _known(db: sqlite3.Connection) -> Ranges:
    ranges = db.execute(
        "SELECT first, end FROM losses UNION ALL SELECT before, first FROM incarnations"
        " UNION ALL SELECT 0, coalesce(min(first), 0) FROM incarnations"  # older ones are forgotten
    )
    return Ranges(ranges.fetchall())


def _is_sequence(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _is_time(value: object) -> bool:
    return type(value) is float and math.isfinite(value) and 0 <= value < LATEST


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
