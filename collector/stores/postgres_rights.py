"""Postgres: the rights that a collector needs and its user lacks, found without using any of them."""

from collections import defaultdict
from collections.abc import Collection, Iterable

import asyncpg

from collector.stores import RightMissingError, StoreUnavailableError
from collector.stores.postgres_partitions import Partitions
from collector.stores.postgres_tables import NOTES, POSITIONS, Table, columns, missing

#: Of the position and the notes. Of the other tables it needs INSERT alone.
_OF_STATE = ("SELECT", "INSERT", "UPDATE")

_FACTS = """
    SELECT quote_ident(current_user) AS name, quote_ident(current_database()) AS database,
        quote_ident(current_schema()) AS schema, has_schema_privilege(current_schema(), 'CREATE') AS creates,
        current_setting('transaction_read_only')::bool AS reads_only"""
_LACKING = """
    SELECT quote_ident(name) AS table, "right" FROM unnest($1::text[], $2::text[]) AS wanted(name, "right")
    WHERE NOT has_any_column_privilege(to_regclass(quote_ident(name)), "right")"""
_SEQUENCES = """
    SELECT sequence FROM (
        SELECT pg_get_serial_sequence(quote_ident(name), attname) AS sequence
        FROM unnest($1::text[]) AS name JOIN pg_attribute ON attrelid = to_regclass(quote_ident(name))
        WHERE attnum > 0 AND NOT attisdropped AND attidentity = '') AS serial
    WHERE NOT has_sequence_privilege(sequence, 'USAGE, UPDATE')"""
_OWNED = """
    SELECT name FROM unnest($1::text[]) AS name JOIN pg_class ON oid = to_regclass(quote_ident(name))
    WHERE pg_has_role(relowner, 'USAGE')"""


class Rights:
    """The rights of the user of one connection, which is in a transaction.

    Every check raises RightMissingError, StoreUnavailableError, or asyncpg's errors.

    Args:
        where: how messages call the server.
        creates: whether the collector makes what the database lacks.
    """

    def __init__(self, connection: asyncpg.Connection, where: str, *, creates: bool) -> None:
        self._connection, self._where, self._creates = connection, where, creates

    async def check(self, tables: Collection[Table], partitions: Partitions | None) -> None:
        """Check all that storing into ``tables`` needs; those that are missing are to be created."""
        await self.check_preparation()
        names = [table.name for table in tables]
        self._owned = {row["name"] for row in await self._connection.fetch(_OWNED, names)}
        await self._check_grants(names)
        await self._check_columns(tables)
        if partitions and self._creates:
            await self._check_partitions(partitions, names)

    async def check_preparation(self) -> None:
        """Check what creating the missing tables needs, and nothing else."""
        self._facts = await self._connection.fetchrow(_FACTS)
        if self._facts["reads_only"]:
            raise StoreUnavailableError(
                f"{self._where}: its transactions are read-only: it is a standby, or sets"
                " default_transaction_read_only"
            )
        if await missing(self._connection):
            self._check_creation()

    def _check_creation(self) -> None:
        if self._facts["creates"]:
            return
        schema = self._facts["schema"]
        raise self._missing(
            f"no CREATE on schema {schema}" if schema else "no USAGE on any schema of its search_path",
            f"as the owner of database {self._facts['database']}, run `GRANT USAGE, CREATE ON SCHEMA"
            f" {schema or 'public'} TO {self._facts['name']}`; or run `collector db init` as a user who may"
            " create tables",
        )

    async def _check_grants(self, tables: list[str]) -> None:
        wanted = [(table, right) for table in (POSITIONS, NOTES) for right in _OF_STATE]
        wanted += [(table, "INSERT") for table in tables]
        rights: dict[str, list[str]] = defaultdict(list)
        for row in await self._connection.fetch(_LACKING, *map(list, zip(*wanted, strict=True))):
            rights[row["table"]].append(row["right"])
        alike: dict[str, list[str]] = defaultdict(list)
        for table, of_table in rights.items():
            alike[", ".join(of_table)].append(table)
        lacking = [f"{of_tables} ON {', '.join(each)}" for of_tables, each in alike.items()]
        sequences = await self._connection.fetch(_SEQUENCES, tables)
        lacking += [f"USAGE ON SEQUENCE {row['sequence']}" for row in sequences]
        if lacking:
            grants = (f"`GRANT {each} TO {self._facts['name']}`" for each in lacking)
            what = ", ".join(f"no {each}" for each in lacking)
            raise self._missing(what, f"as the tables' owner, run {' and '.join(grants)}")

    async def _check_columns(self, tables: Iterable[Table]) -> None:
        """Check that tables have our columns, or get them, and that nothing else keeps rows out of them."""
        found = await columns(self._connection)
        for table in tables:
            there = found.get(table.name)
            if there is None:
                continue
            if lacking := [name for name in table.columns if name not in there]:
                if not self._creates or table.name not in self._owned:
                    what = f"table {table.name} has no {', no '.join(lacking)}"
                    raise self._not_owner([table.name], what)
                continue
            await self._connection.copy_to_table(  # no row: it only sees whether it might
                table.name, source=memoryview(b""), columns=list(table.columns), format="text"
            )

    async def _check_partitions(self, partitions: Partitions, tables: list[str]) -> None:
        await partitions.look(self._connection, tables)
        if not (due := await partitions.due(self._connection)):
            return
        self._check_creation()
        if others := sorted(due - self._owned):
            raise self._not_owner(others, f"there is no partition for today of {', '.join(others)}")

    def _not_owner(self, tables: Iterable[str], what: str) -> RightMissingError:
        return self._missing(
            f"no ownership of {', '.join(tables)}, and {what}", "run `collector db init` as the tables' owner"
        )

    def _missing(self, what: str, remedy: str) -> RightMissingError:
        user = self._facts["name"]
        return RightMissingError(f"{self._where}: the user lacks a right: {user} has {what}", remedy)
