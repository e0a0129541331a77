"""The tables of a spool's database, and what is the same wherever it is opened."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from collector import records as codec
from collector.records import Record
from collector.spool.losses import Loss

FORMAT = 3  # of the database; a change of the tables, or of how records.py encodes, makes a new one
#: Its records have times in float seconds. What it holds is read; what is added is written likewise until the
#: store has all that an earlier version wrote, so that going back to that version works until then.
EARLIER_FORMAT = 2
APPLICATION = 0x43535031  # tells a spool from other SQLite files

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


#: What a broken database raises; UnicodeDecodeError, where the text of the error quotes what is broken.
BROKEN = (sqlite3.DatabaseError, UnicodeDecodeError)


def is_broken(error: Exception) -> bool:
    """Return whether the database is broken, rather than its disk full, or the database locked."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_ERROR  # "unsupported file format"
    return isinstance(error, BROKEN)


class SpoolError(Exception):
    """The spool cannot be used; the message says why and what would help."""


class SpoolInUseError(SpoolError):
    """Another process has the spool."""


def connect(path: Path) -> sqlite3.Connection:
    """Return a connection that any thread may use; transactions are the caller's."""
    db = sqlite3.connect(path, isolation_level=None, timeout=0, check_same_thread=False)
    db.text_factory = _text
    return db


def _text(stored: bytes) -> str:
    """A text that is damaged is read all the same, and found to be unsound for what it says."""
    return stored.decode(errors="replace")


def log_ahead(db: sqlite3.Connection) -> None:
    """Have the database write ahead into a log, and sync only on demand."""
    db.execute("PRAGMA journal_mode = WAL").fetchone()
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA wal_autocheckpoint = 0").fetchone()  # it would sync in the middle of a write


def format_of(db: sqlite3.Connection) -> int:
    """Return the format that the database says it has."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return int(version)


def encoder(db: sqlite3.Connection) -> Callable[[Sequence[Record]], bytes]:
    """Return what encodes records in the database's format."""
    return codec.encode if format_of(db) == FORMAT else codec.encode_for_earlier_versions


def stored_losses(db: sqlite3.Connection) -> tuple[Loss, ...]:
    """Return the losses that are stored, oldest first."""
    rows = db.execute("SELECT reason, first, end, count, since, until, gaps FROM losses ORDER BY first")
    return tuple(
        Loss(reason, first, end, count, since, until, tuple(codec.decode_gaps(gaps)))
        for reason, first, end, count, since, until, gaps in rows
    )


def store_losses(db: sqlite3.Connection, losses: Iterable[Loss]) -> None:
    """Store losses, over those of the same places and reasons."""
    encode = encoder(db)
    db.executemany(
        "INSERT OR REPLACE INTO losses VALUES (:first, :reason, :end, :count, :since, :until, :gaps)",
        [msgspec.structs.asdict(loss) | {"gaps": encode(loss.gaps)} for loss in losses],
    )
