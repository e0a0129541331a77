"""Postgres: one transaction per batch, which moves the position and copies the rows into their tables."""

import contextlib
import logging
import os
import re
import socket
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

import asyncpg
from asyncpg.pgproto.pgproto import BufferError as CutError
from msgspec import structs

from collector.batch import Batch, Position, Refusal
from collector.gap_records import StoredGap
from collector.records import AnyRecord, channel_of
from collector.settings import Settings
from collector.stores import (
    UNINTELLIGIBLE,
    Holder,
    NoTablesError,
    NothingStoredError,
    PositionLostError,
    StoreRefusedError,
    StoreUnavailableError,
    notes,
)
from collector.stores.network_errors import in_words
from collector.stores.postgres_partitions import BEGIN, Partitions, days_of
from collector.stores.postgres_rights import Rights
from collector.stores.postgres_tables import TABLES, Table, missing, prepare

_log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_COMMAND_SECONDS = 20.0
_CLOSE_SECONDS = 2.0
_AHEAD = 7  # future partitions that `collector db init` creates

#: Classes of SQLSTATE that are never about a row: connection, feature, transaction, access, no such thing,
#: out of resources, not ready, operator, system, configuration, foreign server, internal. Everything else may
#: be: a value, a constraint, its size, and what triggers raise, whose states anybody may choose.
#: https://www.postgresql.org/docs/current/errcodes-appendix.html
_STATE_CLASSES = (
    *("08", "0A", "0B", "0L", "0P", "25", "28", "2D", "34", "3B", "3D", "3F", "40", "42"),
    *("53", "55", "57", "58", "72", "F0", "HV", "XX"),
)
_ROW_ERRORS = (asyncpg.PostgresError, ValueError, OverflowError)
#: Classes of SQLSTATE that only a person can resolve: no access, no such database, no right, no such table.
_REFUSING_CLASSES = ("0A", "28", "3D", "3F", "42")

# The values are in the text, because a statement with parameters takes two more round trips.
_ADVANCE = """
    {begin}; UPDATE cryptostore_position
    SET (owner, incarnation, sequence, who, seen) = ({after}, {who}, now())
    WHERE name = {name} AND (owner, incarnation, sequence) = ({expected})"""
_CLAIM = """
    {begin}; INSERT INTO cryptostore_position (name, owner, incarnation, sequence, who, seen)
    VALUES ({name}, {after}, {who}, now()) ON CONFLICT DO NOTHING"""
_NOTE = """
    INSERT INTO cryptostore_note (name, note) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET note = $2"""
_NOTES_OF_EXCHANGE = """
    SELECT name, note FROM cryptostore_note WHERE left(note, $1) = $2 OR left(note, $3) <> $4"""
_RELEASE = """
    UPDATE cryptostore_position SET seen = 'epoch'
    WHERE name = $1 AND owner = $2 AND incarnation = $3 AND sequence = $4"""
_HOLDER = """
    SELECT owner, who, extract(epoch FROM now() - seen)::float AS idle
    FROM cryptostore_position WHERE name = $1"""

_GAPS = """
    SELECT symbol, missed, reason, count::bigint,
        extract(epoch FROM start)::float AS start, extract(epoch FROM "end")::float AS "end"
    FROM gaps WHERE exchange = $1 AND symbol = ANY($2)"""

_NAMES = [table.name for table in TABLES.values()]

#: The key of our ids, in an error's details, whatever their language; or its name, where there are none.
_KEY_OF_IDS = re.compile(r"\(id[,)]|_pkey$")

#: How many rows show what a table refuses.
_SAMPLE = 8

#: One record with its sequence.
_Row = tuple[int, AnyRecord]


class PostgresStore:
    """One connection. Every statement runs in a transaction, so pgbouncer works too."""

    batch_records = 1000
    batch_seconds = 0.0
    fixed_batches = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._where = settings.where
        self._who = f"process {os.getpid()} on {socket.gethostname()}"
        self._partitions = None if settings.partition == "none" else Partitions(settings.partition)
        self._connection: asyncpg.Connection | None = None

    async def open(self, name: str) -> Position | None:
        """Connect, prepare the tables if needed, and read the position.

        Raises StoreUnavailableError or StoreRefusedError.
        """
        self._drop()
        with self._failures():
            self._connection = connection = await self._connect(command_timeout=_COMMAND_SECONDS)
            await connection.execute(BEGIN)
            await self._prepare(connection)
            row = await connection.fetchrow(
                "SELECT owner, incarnation, sequence FROM cryptostore_position WHERE name = $1", name
            )
            await connection.execute("COMMIT")
        return Position(**row) if row else None

    async def commit(
        self, name: str, batch: Batch, expected: Position | None, after: Position
    ) -> Sequence[Refusal]:
        """Store a batch in one transaction; see Store.commit. Any failure ends the connection."""
        rows: dict[type[AnyRecord], list[_Row]] = defaultdict(list)
        for row in zip(*batch.kept, strict=True):
            rows[type(row[1])].append(row)
        with self._failures():
            connection = self._connected()
            if self._partitions and self._settings.create_tables:
                days = {
                    TABLES[record_type].name: days_of(record.receipt_timestamp for _, record in of_table)
                    for record_type, of_table in rows.items()
                }
                await self._partitions.provide(connection, days)
            try:
                await self._move(connection, name, expected, after)
                for record_type, of_table in rows.items():
                    await _copy(connection, TABLES[record_type], of_table)
            except _ROW_ERRORS as error:
                if not _may_be_about_a_row(error):
                    raise
                await connection.execute("ROLLBACK")
                await self._move(connection, name, expected, after)
                await connection.execute("SAVEPOINT begun")
                refusals: list[Refusal] = []
                for record_type, of_table in rows.items():
                    refusals += await _copy_what_fits(connection, TABLES[record_type], of_table, sample=True)
                if refusals:
                    await _see_that_they_last(connection, rows, refusals)
                    await connection.execute("ROLLBACK")
                    return sorted(refusals, key=lambda refusal: refusal.sequence)
            await connection.execute("COMMIT")
        return ()

    def place(self, record: AnyRecord) -> str:
        """Return the record's table."""
        return f"the table {TABLES[type(record)].name}"

    async def initialise(self) -> list[str]:
        """Create and update the tables, however long that takes; return one line for each thing done.

        Raises as ``open`` does.
        """
        self._drop()
        with self._failures():
            self._connection = connection = await self._connect(command_timeout=None)
            await connection.execute(BEGIN)
            await Rights(connection, self._where, creates=True).check_preparation()
            done = await prepare(connection, partition=self._settings.partition, patient=True)
            await connection.execute("COMMIT")
            if self._partitions:
                await self._partitions.look(connection, _NAMES)
                made = await self._partitions.provide_ahead(connection, _AHEAD)
                done += [f"created partition {name}" for name in made]
        await self.close()
        return done

    async def probe(self, name: str) -> None:
        """See whether the user has the rights that storing needs; see ProbedStore.probe."""
        del name  # the same rights for all
        self._drop()
        channels = (*self._settings.channels, "gaps")
        tables = [table for kind, table in TABLES.items() if channel_of(kind) in channels]
        with self._failures():
            self._connection = connection = await self._connect(command_timeout=_COMMAND_SECONDS)
            await connection.execute(BEGIN)
            rights = Rights(connection, self._where, creates=self._settings.create_tables)
            await rights.check(tables, self._partitions)
            await connection.execute("ROLLBACK")

    async def note(self, name: str, text: str) -> None:
        """Store a note, as a row of its own."""
        with self._failures():
            connection = self._connected()
            await connection.execute(BEGIN)
            await connection.execute(_NOTE, name, text)
            await connection.execute("COMMIT")

    async def notes(self) -> Mapping[str, str]:
        """Return the notes of this exchange; the server selects them, so that no others are sent."""
        ours, any_ = notes.beginning(self._settings.exchange), notes.BEGINNING
        with self._failures():
            connection = self._connected()
            await connection.execute(BEGIN)
            rows = await connection.fetch(_NOTES_OF_EXCHANGE, len(ours), ours, len(any_), any_)
            await connection.execute("COMMIT")
        return dict(map(tuple, rows))

    async def holder(self, name: str) -> Holder | None:
        """Return who last moved the position."""
        with self._failures():
            connection = self._connected()
            await connection.execute(BEGIN)
            row = await connection.fetchrow(_HOLDER, name)
            await connection.execute("COMMIT")
        return Holder(**row) if row else None

    async def release(self, name: str, position: Position) -> None:
        """Forget when the holder was seen, if it is still the same."""
        with self._failures():
            connection = self._connected()
            await connection.execute(BEGIN)
            await connection.execute(_RELEASE, name, *structs.astuple(position))
            await connection.execute("COMMIT")

    async def open_to_read(self) -> None:
        """Reconnect; see ReadableStore.open_to_read."""
        self._drop()
        with self._failures():
            self._connection = connection = await self._connect(command_timeout=_COMMAND_SECONDS)
            there = await connection.fetchval("SELECT to_regclass('cryptostore_note') IS NOT NULL")
        if not there:
            raise NothingStoredError

    async def gaps(self, exchange: str, symbols: Collection[str]) -> Sequence[StoredGap]:
        """Return the gaps of an exchange's symbols."""
        with self._failures():
            connection = self._connected()
            await connection.execute(BEGIN)
            rows = await connection.fetch(_GAPS, exchange, list(symbols))
            await connection.execute("COMMIT")
        return [StoredGap(**row) for row in rows]

    async def close(self) -> None:
        """Close the connection, politely if the server answers."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close(timeout=_CLOSE_SECONDS)

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        if self._settings.create_tables:
            for done in await prepare(connection, partition=self._settings.partition):
                _log.info("%s", done)
        elif lacking := await missing(connection):
            raise NoTablesError(
                f"{self._where}: table {', '.join(lacking)} does not exist, and CREATE_TABLES=false: "
                "run `collector db init`"
            )
        if self._partitions:
            await self._partitions.look(connection, _NAMES)

    async def _connect(self, command_timeout: float | None) -> asyncpg.Connection:
        settings = self._settings
        place = {"host": settings.host, "port": settings.port}
        return await asyncpg.connect(
            **({"dsn": settings.url.text} if settings.url else place),
            user=settings.user,
            password=settings.password,
            database=settings.database,
            timeout=_CONNECT_SECONDS,
            command_timeout=command_timeout,
            statement_cache_size=0,  # pgbouncer in transaction mode knows nothing of prepared statements
        )

    def _connected(self) -> asyncpg.Connection:
        if self._connection is None:
            raise StoreUnavailableError(f"{self._where}: not connected")
        return self._connection

    async def _move(
        self, connection: asyncpg.Connection, name: str, expected: Position | None, after: Position
    ) -> None:
        """Move the position first in the transaction: another writer then waits, and finds it moved."""
        values = {
            "begin": BEGIN,
            "name": _literals(name),
            "who": _literals(self._who),
            "after": _literals(*structs.astuple(after)),
        }
        if expected is None:
            done = await connection.execute(_CLAIM.format(**values))
        else:
            done = await connection.execute(
                _ADVANCE.format(**values, expected=_literals(*structs.astuple(expected)))
            )
        if not done.endswith(" 1"):
            await connection.execute("ROLLBACK")
            raise PositionLostError(f"{self._where}: the position of {name} was changed by another process")

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Translate the driver's errors into ours, and drop the connection without waiting for the server."""
        try:
            yield
        except PositionLostError:
            raise
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,  # what it says when the server has gone between two commits
            OSError,
            ValueError,
        ) as error:
            self._drop()
            code = getattr(error, "sqlstate", None) or ""
            # A constraint may be looked at as late as COMMIT.
            refused = code.startswith(_REFUSING_CLASSES) or bool(code and not code.startswith(_STATE_CLASSES))
            # pgbouncer refuses a password under a code that says nothing
            refused = refused or "authentication failed" in str(error)
            kind = StoreRefusedError if refused else StoreUnavailableError
            what = self._settings.masked(in_words(error))
            if isinstance(error, asyncpg.InsufficientPrivilegeError):
                what = f"the user lacks a right ({what})"
            raise kind(f"{self._where}: {what}") from error
        except (*UNINTELLIGIBLE, CutError) as error:
            self._drop()
            why = self._settings.masked(f"{type(error).__name__}: {error}")
            raise StoreUnavailableError(f"{self._where}: it does not answer like Postgres ({why})") from error
        except BaseException:
            self._drop()
            raise

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _literals(*values: str | int) -> str:
    """Return values as SQL literals that are valid whatever the server's settings."""
    quoted = (str(value).replace("\\", "\\\\").replace("'", "''") for value in values)
    return ", ".join(f"E'{text}'" for text in quoted)


async def _copy(connection: asyncpg.Connection, table: Table, rows: list[_Row]) -> None:
    try:
        await connection.copy_to_table(
            table.name,
            source=memoryview(table.text(record for _, record in rows)),  # bytes would be a path
            columns=list(table.columns),
            format="text",
            timeout=_COMMAND_SECONDS,
        )
    except (asyncpg.CheckViolationError, asyncpg.UniqueViolationError) as error:
        # Not the row's fault: no partition for it, or a sequence of ids that was set back.
        if error.constraint_name is None or _KEY_OF_IDS.search(error.detail or error.constraint_name):
            raise StoreRefusedError(str(error)) from error
        raise


async def _see_that_they_last(
    connection: asyncpg.Connection, rows: Mapping[type[AnyRecord], list[_Row]], refusals: Collection[Refusal]
) -> None:
    """Check that tables still refuse the refused rows, and still accept one of the accepted ones.

    The tables may have been altered during the search: then the refused rows may be as good as the others.
    Raises StoreUnavailableError in that case, so that the batch is tried again.
    """
    not_taken = {refusal.sequence for refusal in refusals}
    refused = {refusal.sequence for refusal in refusals if not refusal.unwritable}
    controls = []
    for record_type, of_table in rows.items():
        table = TABLES[record_type]
        taken = [row for row in of_table if row[0] not in not_taken]
        again = [row for row in of_table if row[0] in refused]
        if taken and again:
            controls.append((table, taken[0]))
            for row in again:
                if not await _copy_what_fits(connection, table, [row]):
                    raise _changed(table)
    await connection.execute("ROLLBACK TO begun")  # a table may refuse the same row twice
    for table, row in controls:
        if await _copy_what_fits(connection, table, [row]):
            raise _changed(table)


def _changed(table: Table) -> StoreUnavailableError:
    return StoreUnavailableError(f"the rules of table {table.name} changed in the middle of a batch")


async def _reason_for_all(connection: asyncpg.Connection, table: Table, rows: list[_Row]) -> str | None:
    """Return why the table refuses all of a sample of rows, the first and last included; None if not all."""
    reason = None
    for number in range(_SAMPLE):
        row = rows[number * (len(rows) - 1) // (_SAMPLE - 1)]
        refused = await _copy_what_fits(connection, table, [row])
        if not refused or refused[0].unwritable:
            return None
        reason = reason or refused[0].reason
    return reason


def _reason(error: Exception) -> str:
    """Return the error's message in one line, without its detail: that repeats the row, maybe a book."""
    return " ".join(str(error.args[0] if error.args else error).split())


def _may_be_about_a_row(error: Exception) -> bool:
    if not isinstance(error, asyncpg.PostgresError):
        return True  # the row cannot be written as text
    return bool(error.sqlstate) and not error.sqlstate.startswith(_STATE_CLASSES)


async def _copy_what_fits(
    connection: asyncpg.Connection, table: Table, rows: list[_Row], *, sample: bool = False
) -> list[Refusal]:
    """Store the rows except those that the table refuses, found by halving; return the refused ones.

    With ``sample``, try some alone first: a table that refuses each of them is taken to refuse all, which
    halving would take long to find out.
    """
    await connection.execute("SAVEPOINT rows")
    try:
        await _copy(connection, table, rows)
    except _ROW_ERRORS as error:
        if not _may_be_about_a_row(error):
            raise
        await connection.execute("ROLLBACK TO rows")
        if len(rows) == 1:
            sequence, record = rows[0]
            unwritable = not isinstance(error, asyncpg.PostgresError)
            return [Refusal(sequence, record, _reason(error), unwritable)]
    else:
        return []
    if sample and len(rows) > 2 * _SAMPLE:
        reason = await _reason_for_all(connection, table, rows)
        if reason:
            return [Refusal(sequence, record, reason) for sequence, record in rows]
        await connection.execute("ROLLBACK TO rows")  # the one of the sample that it took comes again below
    middle = len(rows) // 2
    refused = await _copy_what_fits(connection, table, rows[:middle])
    return refused + await _copy_what_fits(connection, table, rows[middle:])
