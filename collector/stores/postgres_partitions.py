"""Postgres: tables partitioned by time of receipt, so that old parts can be dropped and readers skip them.

PARTITION sets the period of a partition. Tables that we create are then partitioned, or hypertables if the
database has the TimescaleDB extension; existing tables stay as they are. A partition is created when its
first record arrives: as a table of its own that is then attached, which blocks no reader. A partition that
somebody else has created for that time is used as it is.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

import asyncpg

from collector.times import SECOND

SCHEMA_LOCK = 0x63727970746F  # an arbitrary number, the same in every collector
LOCK_WAIT = "10s"

#: Begins a transaction that the server ends when it hears nothing from us: a machine that lost its power says
#: no goodbye, and the position would stay locked for the two hours that TCP waits. If these were settings of
#: the connection, pgbouncer would refuse it.
BEGIN = """
    BEGIN; SET LOCAL idle_in_transaction_session_timeout = '15s'; SET LOCAL tcp_keepalives_idle = 5;
    SET LOCAL tcp_keepalives_interval = 5; SET LOCAL tcp_keepalives_count = 2"""
_DAY = 86400 * SECOND
_LATEST = 253_370_764_800 * SECOND  # the year 9999: the calendar, and so the table, ends soon after it

#: Days of receipts, counted since 1970, by table.
type Days = Mapping[str, set[int]]


class Partitions:
    """The known partitions of one database's tables."""

    def __init__(self, period: str) -> None:
        self._period = period
        self._partitioned: set[str] = set()
        self._there: set[tuple[str, date]] = set()

    async def look(self, connection: asyncpg.Connection, tables: Iterable[str]) -> None:
        """Find out which tables are partitioned."""
        rows = await connection.fetch(
            "SELECT name FROM unnest($1::text[]) AS name"
            " JOIN pg_class ON oid = to_regclass(quote_ident(name)) WHERE relkind = 'p'",
            list(tables),
        )
        self._partitioned = {row["name"] for row in rows}
        self._there.clear()

    async def provide(self, connection: asyncpg.Connection, days: Days) -> list[str]:
        """Create the partitions that ``days`` lack, in a separate transaction; return the new ones."""
        wanted = {
            (table, _start(self._period, day))
            for table in self._partitioned & days.keys()
            for day in days[table]
        } - self._there
        if not wanted:
            return []
        await connection.execute(BEGIN)
        await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        made = [await self._make(connection, table, start) for table, start in sorted(wanted)]
        await connection.execute("COMMIT")
        self._there |= wanted
        return list(filter(None, made))

    async def provide_ahead(self, connection: asyncpg.Connection, count: int) -> list[str]:
        """Create the partitions for now and the ``count`` periods that follow; return the new ones."""
        starts = [_start(self._period, time.time_ns() // _DAY)]
        for _ in range(count):
            starts.append(_end(self._period, starts[-1]))
        days = {(start - date(1970, 1, 1)).days for start in starts}
        return await self.provide(connection, dict.fromkeys(self._partitioned, days))

    async def due(self, connection: asyncpg.Connection) -> set[str]:
        """Return the tables that have no partition of ours for today."""
        start = _start(self._period, time.time_ns() // _DAY)
        names = {_name(table, start): table for table in self._partitioned}
        rows = await connection.fetch(
            "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NULL",
            list(names),
        )
        return {names[row["name"]] for row in rows}

    async def _make(self, connection: asyncpg.Connection, table: str, start: date) -> str | None:
        name = _name(table, start)
        if await connection.fetchval("SELECT to_regclass(quote_ident($1))", name):
            return None
        await connection.execute("SAVEPOINT partition")
        try:
            await connection.execute(
                f'CREATE TABLE "{name}" (LIKE "{table}" INCLUDING DEFAULTS INCLUDING CONSTRAINTS);'
                f' ALTER TABLE "{table}" ATTACH PARTITION "{name}"'
                f" FOR VALUES FROM ('{start}') TO ('{_end(self._period, start)}')"
            )
        except (asyncpg.InvalidObjectDefinitionError, asyncpg.CheckViolationError):
            # another partition covers that time, or the default one has records of it already
            await connection.execute("ROLLBACK TO partition")
            return None
        return name


def _name(table: str, start: date) -> str:
    return f"{table}_{start:%Y%m%d}"


def days_of(receipts: Iterable[int]) -> set[int]:
    """Return the days, since 1970, of receipts in nanoseconds, except receipts that are not a time."""
    return {receipt // _DAY for receipt in receipts if 0 <= receipt < _LATEST}


def _start(period: str, day: int) -> date:
    """Return the first day of the period that contains a day since 1970; weeks begin on Monday."""
    found = date(1970, 1, 1) + timedelta(days=day)
    if period == "month":
        return found.replace(day=1)
    return found - timedelta(days=found.weekday()) if period == "week" else found


def _end(period: str, start: date) -> date:
    if period == "month":
        return (start + timedelta(days=31)).replace(day=1)
    return start + timedelta(days=7 if period == "week" else 1)
