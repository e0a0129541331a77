"""The files in a spool's folder: locking them, and recovering a broken database."""

import contextlib
import fcntl
import logging
import os
import socket
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from collector.spool.incarnations import Ranges
from collector.spool.losses import Loss, Place, holes, ranges_of
from collector.spool.repair import lose_marks, repair
from collector.spool.schema import (
    APPLICATION,
    BROKEN,
    EARLIER_FORMAT,
    FORMAT,
    SCHEMA,
    TABLES,
    SpoolError,
    SpoolInUseError,
    connect,
    format_of,
    is_broken,
    log_ahead,
    store_losses,
    stored_losses,
)

BROKEN_KEPT = 3  # broken databases kept aside

LOG = logging.getLogger(__name__)


class SpoolFolder:
    """The files of one spool.

    Attributes:
        path: the path of the database.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "spool.db"
        self._fresh = folder / "spool.mended.db"
        self._suspected = folder / "spool.suspected"

    def lock(self) -> IO[str]:
        """Lock the folder until the returned file is closed. Raises SpoolInUseError and OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        path = self.path.with_name("spool.lock")
        with contextlib.ExitStack() as opened:
            lock = opened.enter_context(path.open("a+"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = path.read_text().strip() or "another process"
                raise SpoolInUseError(f"the spool in {self.path.parent} is in use by {holder}") from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            lock.flush()
            opened.pop_all()
        return lock

    def suspect(self, error: Exception) -> None:
        """Make the next opening recover the database if it broke: its integrity check may not notice."""
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            with contextlib.suppress(OSError):
                self._suspected.touch()

    def sound(self) -> sqlite3.Connection | None:
        """Open the database, or create it; return None if it is broken. Raises SpoolError."""
        db = connect(self.path)
        try:
            self._check_format(db)
            log_ahead(db)
            if self._suspected.exists():
                raise sqlite3.DatabaseError("it broke while it was in use")
            (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        except (*BROKEN, SpoolError) as error:
            if not is_broken(error):
                db.close()
                raise
            verdict = str(error)
        if verdict == "ok":
            verdict = _lacking(db) or verdict
        if verdict == "ok":
            return db
        db.close()
        LOG.error("the spool %s is broken: %s", self.path, verdict)
        return None

    def _check_format(self, db: sqlite3.Connection) -> None:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        version = format_of(db)
        if application == APPLICATION and version in (EARLIER_FORMAT, FORMAT):
            return
        if application == APPLICATION:
            raise SpoolError(
                f"the spool {self.path} has format {version}, this version reads "
                f"{EARLIER_FORMAT} and {FORMAT}: "
                "let the version that wrote it deliver what is in it, or move the file away"
            )
        if not _is_empty(db):
            raise SpoolError(f"{self.path} is a database, but not a spool: move it away")
        db.executescript(SCHEMA)

    def mended(self) -> sqlite3.Connection:
        """Copy what can be read of the broken database into a new one, and keep the broken one aside.

        A process that is killed in between leaves either the broken one in place or the new one complete.
        """
        written = self.path.stat().st_mtime
        self._fresh.unlink(missing_ok=True)
        with contextlib.closing(connect(self._fresh)) as db, contextlib.closing(connect(self.path)) as broken:
            db.executescript(SCHEMA)
            with contextlib.suppress(*BROKEN):
                if format_of(broken) == EARLIER_FORMAT:
                    db.execute(f"PRAGMA user_version = {EARLIER_FORMAT}")
            whole = _salvage(broken, db)
            with transaction(db):
                repair(db)
                if "marks" not in whole:
                    lose_marks(db)
            (count,) = db.execute("SELECT total(count) FROM blobs").fetchone()
            losses = _all_losses(db, written)
            with transaction(db):
                store_losses(db, losses)
        aside = self._aside()
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")
        self.put_in_place()
        self._suspected.unlink(missing_ok=True)
        LOG.error("recovered %d records of the broken spool; it is kept as %s", count, aside)
        db = connect(self.path)
        log_ahead(db)
        return db

    def put_in_place(self) -> None:
        """Move the new database into place if the broken one was moved aside: then it is complete."""
        if self._fresh.exists() and not self.path.exists():
            for suffix in ("-wal", "-shm"):
                Path(f"{self.path}{suffix}").unlink(missing_ok=True)
            self._fresh.replace(self.path)

    def _aside(self) -> Path:
        names = [self.path.with_name(f"spool.broken-{number}.db") for number in range(1, BROKEN_KEPT + 1)]
        aside = min(names, key=lambda path: path.stat().st_mtime if path.exists() else 0.0)
        for suffix in ("", "-wal"):
            Path(f"{aside}{suffix}").unlink(missing_ok=True)
        return aside


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Run the block in one transaction, which is rolled back if it raises."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _all_losses(db: sqlite3.Connection, written: float) -> tuple[Loss, ...]:
    """Return all losses: whatever is missing between two records was in the broken part.

    ``written`` is the broken file's modification time: the latest time at which the last loss can have begun.
    """
    losses = stored_losses(db)
    known = Ranges([*ranges_of(losses), *db.execute("SELECT before, first FROM incarnations")])
    rows = db.execute("SELECT first, first + count, since, until FROM blobs ORDER BY first")
    places = [Place(*row) for row in rows]
    end, last = (places[-1].end, places[-1].until) if places else (0, None)
    # How many records followed the last good one is unknown.
    unknown = Loss("corrupt", end, end, None, last or _opened(db) or written, None)
    return (*losses, *holes(places, known), unknown)


def _is_empty(db: sqlite3.Connection) -> bool:
    try:
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if is_broken(error):
            return False
        raise
    return bool(tables == 0)


def _lacking(db: sqlite3.Connection) -> str | None:
    """Return which of our tables, columns or indexes the database lacks; None if it has all."""
    try:
        for table, columns in TABLES.items():
            db.execute(f"SELECT {columns} FROM {table} LIMIT 0")  # noqa: S608 - our own names
        db.execute("SELECT first FROM blobs INDEXED BY sizes LIMIT 0")
    except sqlite3.OperationalError as error:
        return str(error)
    return None


def _opened(db: sqlite3.Connection) -> float | None:
    """Return when the opening of the last delivered record began, else the oldest; None if unknown."""
    row = db.execute("SELECT value FROM meta WHERE key = 'acknowledged'").fetchone()
    acknowledged = int(row[0]) if row else 0
    first, oldest = db.execute(
        "SELECT max(first) FILTER (WHERE first <= ?), min(first) FROM incarnations", (acknowledged,)
    ).fetchone()
    return (first or oldest) / 1e6 if oldest else None


def _salvage(broken: sqlite3.Connection, db: sqlite3.Connection) -> set[str]:
    """Copy every row that is readable and undamaged; return the tables that are complete, except blobs."""
    whole = set()
    broken.execute("PRAGMA writable_schema = ON")  # ignore unreadable parts of the schema
    db.execute("BEGIN")
    for table in ("meta", "incarnations", "marks", "bounds", "losses"):
        with contextlib.suppress(*BROKEN):
            for row in broken.execute(f"SELECT * FROM {table}"):  # noqa: S608 - our own names
                places = ", ".join("?" * len(row))
                db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({places})", row)  # noqa: S608 - as above
            whole.add(table)
    for order in ("ASC", "DESC"):  # from both ends up to the broken part
        with contextlib.suppress(*BROKEN):
            for row in broken.execute(f"SELECT * FROM blobs NOT INDEXED ORDER BY first {order}"):  # noqa: S608
                if isinstance(row[-1], bytes) and zlib.crc32(row[-1]) == row[-2]:
                    db.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            break
    db.execute("COMMIT")
    return whole
