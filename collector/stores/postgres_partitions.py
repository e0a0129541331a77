"""Postgres: tables in parts by the time of receipt, so that old ones can be dropped and readers skip them.

PARTITION says how long a part is. A table that we make is then partitioned, or a hypertable where the
TimescaleDB extension is in the database; a table that is there already stays as it is. A partition is made
when the first of its records comes, aside, and attached, which no reader has to wait for; one that
somebody else has made for that time is as good.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

import asyncpg

from collector.times import SECOND

SCHEMA_LOCK = 0x63727970746F  # any number that every collector takes
LOCK_WAIT = "10s"
_DAY = 86400 * SECOND
_LATEST = 4 * 10**9 * SECOND  # nanoseconds; what is received after that is no record, and the table says so

#: The days since 1970 of some receipts, by table.
type Days = Mapping[str, set[int]]


class Partitions:
    """The partitions of one database's tables, as far as they are known."""

    def __init__(self, period: str) -> None:
        self._period = period
        self._partitioned: set[str] = set()
        self._there: set[tuple[str, date]] = set()

    async def look(self, connection: asyncpg.Connection, tables: Iterable[str]) -> None:
        """See which tables are partitioned."""
        rows = await connection.fetch(
            "SELECT name FROM unnest($1::text[]) AS name"
            " JOIN pg_class ON oid = to_regclass(quote_ident(name)) WHERE relkind = 'p'",
            list(tables),
        )
        self._partitioned = {row["name"] for row in rows}
        self._there.clear()

    async def provide(self, connection: asyncpg.Connection, days: Days) -> list[str]:
        """Make sure that there is a partition for each, in a transaction of its own; return the new ones."""
        wanted = {
            (table, _start(self._period, day))
            for table in self._partitioned & days.keys()
            for day in days[table]
        } - self._there
        if not wanted:
            return []
        await connection.execute("BEGIN")
        await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
        made = [await self._make(connection, table, start) for table, start in sorted(wanted)]
        await connection.execute("COMMIT")
        self._there |= wanted
        return list(filter(None, made))

    async def provide_ahead(self, connection: asyncpg.Connection, count: int) -> list[str]:
        """Return the same for now and the ``count`` partitions that follow."""
        starts = [_start(self._period, time.time_ns() // _DAY)]
        for _ in range(count):
            starts.append(_end(self._period, starts[-1]))
        days = {(start - date(1970, 1, 1)).days for start in starts}
        return await self.provide(connection, dict.fromkeys(self._partitioned, days))

    async def _make(self, connection: asyncpg.Connection, table: str, start: date) -> str | None:
        name = f"{table}_{start:%Y%m%d}"
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
            # that time is another partition's, or its records are in the default one already
            await connection.execute("ROLLBACK TO partition")
            return None
        return name


def days_of(receipts: Iterable[int]) -> set[int]:
    """Return the days since 1970 of receipts (nanoseconds), but of those that are no time."""
    return {receipt // _DAY for receipt in receipts if 0 <= receipt < _LATEST}


def _start(period: str, day: int) -> date:
    """Return the first day of the period that a day since 1970 is in; weeks begin on Monday."""
    found = date(1970, 1, 1) + timedelta(days=day)
    if period == "month":
        return found.replace(day=1)
    return found - timedelta(days=found.weekday()) if period == "week" else found


def _end(period: str, start: date) -> date:
    if period == "month":
        return (start + timedelta(days=31)).replace(day=1)
    return start + timedelta(days=7 if period == "week" else 1)
