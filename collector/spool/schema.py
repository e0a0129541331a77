"""The tables of a spool's database, and what every code that opens it shares."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from collector import records as codec
from collector.records import Record
from collector.spool.losses import Loss

FORMAT = 3  # of the database; increase it when the tables or the encoding in records.py change
#: Its records have times in float seconds. Such a database is read, and written in the same format until the
#: store has everything that the earlier version wrote: until then, one can go back to that version.
EARLIER_FORMAT = 2
APPLICATION = 0x43535031  # distinguishes a spool from other SQLite files

SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
BEGIN;
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE incarnations(number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, before INTEGER, first INTEGER);
CREATE TABLE blobs(
    first INTEGER PRIMARY KEY, count INTEGER, size INTEGER, since REAL, until REAL, crc INTEGER, data BLOB
);
CREATE INDEX sizes ON blobs(first, count, size, since, until);
CREATE TABLE marks(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE bounds(first INTEGER PRIMARY KEY, end INTEGER);
CREATE TABLE losses(
    first INTEGER, reason TEXT, end INTEGER, count INTEGER, since REAL, until REAL, gaps BLOB,
    PRIMARY KEY (first, reason)
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
COMMIT;
"""

TABLES = {
    "meta": "key, value",
    "incarnations": "number, id, before, first",
    "blobs": "first, count, size, since, until, crc, data",
    "marks": "key, value",
    "bounds": "first, end",
    "losses": "first, reason, end, count, since, until, gaps",
}


#: What a broken database raises; UnicodeDecodeError if the error's text quotes broken bytes.
BROKEN = (sqlite3.DatabaseError, UnicodeDecodeError)


def is_broken(error: Exception) -> bool:
    """Return whether the error means a broken database, not a full disk or a locked database."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_ERROR  # "unsupported file format"
    return isinstance(error, BROKEN)


class SpoolError(Exception):
    """The spool cannot be used; the message says why and what would help."""


class SpoolInUseError(SpoolError):
    """Another process has the spool."""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that any thread may use; the caller begins and ends transactions."""
    db = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    db.text_factory = _text
    return db


def _text(stored: bytes) -> str:
    """Decode a text even if it is damaged; the checks of its content then reject it."""
    return stored.decode(errors="replace")


def log_ahead(db: sqlite3.Connection) -> None:
    """Switch the database to a write-ahead log that is synced only on demand."""
    db.execute("PRAGMA journal_mode = WAL").fetchone()
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA wal_autocheckpoint = 0").fetchone()  # it would sync in the middle of a write


def format_of(db: sqlite3.Connection) -> int:
    """Return the number of the database's format."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def encoder(db: sqlite3.Connection) -> Callable[[Sequence[Record]], bytes]:
    """Return the function that encodes records in the database's format."""
    return codec.encode if format_of(db) == FORMAT else codec.encode_for_earlier_versions


def stored_losses(db: sqlite3.Connection) -> tuple[Loss, ...]:
    """Return the stored losses, oldest first."""
    rows = db.execute("SELECT reason, first, end, count, since, until, gaps FROM losses ORDER BY first")
    return tuple(
        Loss(reason, first, end, count, since, until, tuple(codec.decode_gaps(gaps)))
        for reason, first, end, count, since, until, gaps in rows
    )


def store_losses(db: sqlite3.Connection, losses: Iterable[Loss]) -> None:
    """Store losses, replacing those with the same first sequence and reason."""
    encode = encoder(db)
    db.executemany(
        "INSERT OR REPLACE INTO losses VALUES (:first, :reason, :end, :count, :since, :until, :gaps)",
        [msgspec.structs.asdict(loss) | {"gaps": encode(loss.gaps)} for loss in losses],
    )
