"""Postgres: the tables, how a record becomes a row, and how the tables are created or adopted.

Tables and columns are those of cryptofeed's backend, so that programs that read its tables can read ours:
``trades``, ``ticker``, ``book`` (l2_book), ``funding``, ``open_interest``, ``liquidations``, ``index``,
``candles``; ``l1_book`` and ``l3_book`` are additions of ours. All have ``id`` (in the order of storing),
``timestamp`` and ``receipt_timestamp`` (UTC, microseconds), ``exchange`` and ``symbol``. Numbers are
NUMERIC and keep every digit. A book's ``data`` is ``{"snapshot": {"bid": {price: size}, "ask": ...}}`` or
``{"delta": {"bid": [[price, size], ...], "ask": ...}}``; for a book by order, the sides are
``{price: {order id: size}}`` and ``[[order id, price, size], ...]``.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any

import asyncpg
import msgspec

from collector.records import (
    AnyRecord,
    Candle,
    Funding,
    Gap,
    Index,
    L1Book,
    L2Book,
    L3Book,
    Liquidation,
    OpenInterest,
    Ticker,
    Time,
    Trade,
)
from collector.stores import StoreRefusedError, book_json
from collector.stores.postgres_partitions import LOCK_WAIT, SCHEMA_LOCK
from collector.times import SECOND

_log = logging.getLogger(__name__)

POSITIONS, NOTES = "cryptostore_position", "cryptostore_note"
_CREATE_POSITIONS = f"""
    CREATE TABLE IF NOT EXISTS {POSITIONS} (
        name text PRIMARY KEY, owner text NOT NULL, incarnation text NOT NULL, sequence bigint NOT NULL,
        who text NOT NULL, seen timestamptz NOT NULL);
    CREATE TABLE IF NOT EXISTS {NOTES} (name text PRIMARY KEY, note text NOT NULL)"""

#: Larger tables are not rewritten without the owner's request: it would take longer than the writer waits for
#: an answer, and block readers meanwhile.
_REWRITABLE_BYTES = 2**27

_COMMON = {"timestamp": "timestamp", "receipt_timestamp": "timestamp", "exchange": "text", "symbol": "text"}
#: Other types that a column may have, because they lose nothing.
_GOOD_TYPES = {
    "timestamp": ("timestamp without time zone", "timestamp with time zone"),
    "jsonb": ("jsonb", "json"),
    "bigint": ("bigint", "numeric"),
    "text": ("text", "character varying"),
}
#: Types that can be changed without rewriting the table.
_CHEAP_TYPES = ("character varying(", "numeric(")


class Table(msgspec.Struct, frozen=True):
    """One table.

    Attributes:
        columns: the columns except ``id``, with their types.
        rows: returns the text of rows, given records and the first four columns of each.
    """

    name: str
    columns: dict[str, str]
    rows: Callable[[Sequence[Any], Sequence[str]], Iterable[str]]

    def text(self, records: Iterable[AnyRecord]) -> bytes:
        """Return rows in COPY's text format. Raises ValueError or OverflowError for what fits no column."""
        records = list(records)
        return "".join(self.rows(records, _starts(records))).encode()


_SPECIAL = str.maketrans({"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"})
_NULL = r"\N"
_digits = msgspec.json.Encoder().encode
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - its text must have no zone


def _text(value: str | None) -> str:
    if value is None:
        return _NULL
    return value if value.isalnum() else value.translate(_SPECIAL)


def _number(value: str | int | None) -> str:
    return _NULL if value is None else str(value)


def _boolean(value: bool | None) -> str:
    return _NULL if value is None else "t" if value else "f"


@lru_cache(4096)
def _second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat(" ")


def _time(value: Time | None) -> str:
    if value is None:
        return _NULL
    seconds, microseconds = divmod(round(value / SECOND * 1e6), 1_000_000)
    return f"{_second(seconds)}.{microseconds:06}+00"  # a column without a time zone ignores it


@lru_cache(4096)
def _place(exchange: str, symbol: str) -> str:
    return f"{_text(exchange)}\t{_text(symbol)}"


def _starts(records: Sequence[AnyRecord]) -> list[str]:
    """Return the columns common to all tables for each record: both times, exchange, symbol."""
    times = _times([time for record in records for time in (record.timestamp, record.receipt_timestamp)])
    return [
        f"{timestamp}\t{receipt}\t{_place(record.exchange, record.symbol)}"
        for record, timestamp, receipt in zip(records, times[::2], times[1::2], strict=True)
    ]


def _times(times: Sequence[Time]) -> list[str]:
    """Return ``_time`` of each, in bulk: the digits come from one text, and most share their second."""
    microseconds = [round(time / SECOND * 1e6) for time in times]
    if min(microseconds, default=0) < 1_000_000:
        return list(map(_time, times))
    seconds: dict[str, str] = {}
    texts = []
    for digits in _digits(microseconds).decode()[1:-1].split(","):
        begin = seconds.get(digits[:-6])
        if begin is None:
            begin = seconds[digits[:-6]] = _second(int(digits[:-6]))
        texts.append(f"{begin}.{digits[-6:]}+00")
    return texts


def _trade(record: Trade, start: str) -> str:
    numbers = f"{record.amount}\t{record.price}"
    return f"{start}\t{_text(record.side)}\t{numbers}\t{_text(record.id)}\t{_text(record.type)}\n"


def _ticker(record: Ticker, start: str) -> str:
    return f"{start}\t{record.bid}\t{record.ask}\n"


def _l1_book(record: L1Book, start: str) -> str:
    bid, ask = f"{record.bid_price}\t{record.bid_size}", f"{record.ask_price}\t{record.ask_size}"
    return f"{start}\t{bid}\t{ask}\n"


def _l2_books(records: Sequence[L2Book], starts: Sequence[str]) -> Iterator[str]:
    """Yield the row of each record; the changes of all books are encoded in one go."""
    changes = iter(book_json.changed_books([record for record in records if record.delta]))
    for record, start in zip(records, starts, strict=True):
        if record.delta:
            yield f'{start}\t{{"delta":{next(changes)}}}\n'
        else:
            yield f"{start}\t{_sides(record)}\n"


def _l3_book(record: L3Book, start: str) -> str:
    return f"{start}\t{_sides(record).translate(_SPECIAL)}\n"


def _sides(record: L2Book | L3Book) -> str:
    return f'{{"{"delta" if record.delta else "snapshot"}":{book_json.text(record)}}}'


def _funding(record: Funding, start: str) -> str:
    numbers = f"{_number(record.mark_price)}\t{_number(record.rate)}"
    expected = f"{_time(record.next_funding_time)}\t{_number(record.predicted_rate)}"
    return f"{start}\t{numbers}\t{expected}\n"


def _open_interest(record: OpenInterest, start: str) -> str:
    return f"{start}\t{record.open_interest}\n"


def _liquidation(record: Liquidation, start: str) -> str:
    numbers = f"{record.quantity}\t{record.price}"
    return f"{start}\t{_text(record.side)}\t{numbers}\t{_text(record.id)}\t{_text(record.status)}\n"


def _index(record: Index, start: str) -> str:
    return f"{start}\t{record.price}\n"


def _candle(record: Candle, start: str) -> str:
    span = f"{_time(record.start)}\t{_time(record.stop)}\t{_text(record.interval)}\t{_number(record.trades)}"
    prices = f"{record.open}\t{record.close}\t{record.high}\t{record.low}\t{record.volume}"
    return f"{start}\t{span}\t{prices}\t{_boolean(record.closed)}\n"


def _gap(record: Gap, start: str) -> str:
    span = f"{_time(record.start)}\t{_time(record.end)}"
    return f"{start}\t{_text(record.missed)}\t{span}\t{_text(record.reason)}\t{_number(record.count)}\n"


def _table(name: str, row: Callable[[Any, str], str], **columns: str) -> Table:
    return Table(name, _COMMON | columns, partial(map, row))


TABLES: dict[type[AnyRecord], Table] = {
    Trade: _table(
        "trades",
        _trade,
        side="text",
        amount="numeric",
        price="numeric",
        trade_id="text",
        order_type="text",
    ),
    Ticker: _table("ticker", _ticker, bid="numeric", ask="numeric"),
    L1Book: _table(
        "l1_book",
        _l1_book,
        bid_price="numeric",
        bid_size="numeric",
        ask_price="numeric",
        ask_size="numeric",
    ),
    L2Book: Table("book", _COMMON | {"data": "jsonb"}, _l2_books),
    L3Book: _table("l3_book", _l3_book, data="jsonb"),
    Funding: _table(
        "funding",
        _funding,
        mark_price="numeric",
        rate="numeric",
        next_funding_time="timestamp",
        predicted_rate="numeric",
    ),
    OpenInterest: _table("open_interest", _open_interest, open_interest="numeric"),
    Liquidation: _table(
        "liquidations",
        _liquidation,
        side="text",
        quantity="numeric",
        price="numeric",
        trade_id="text",
        status="text",
    ),
    Index: _table("index", _index, price="numeric"),
    Candle: _table(
        "candles",
        _candle,
        candle_start="timestamp",
        candle_stop="timestamp",
        interval="text",
        trades="bigint",
        open="numeric",
        close="numeric",
        high="numeric",
        low="numeric",
        volume="numeric",
        closed="boolean",
    ),
    Gap: _table(
        "gaps",
        _gap,
        missed="text",
        start="timestamp",
        end="timestamp",
        reason="text",
        count="bigint",
    ),
}


class _Column(msgspec.Struct, frozen=True):
    """A column that exists in the database."""

    type: str
    identity: bool
    default: str | None
    sequence: str | None
    required: bool


class _Change(msgspec.Struct, frozen=True):
    """One change to a table that already existed.

    Attributes:
        sql: the statements.
        rewrites: whether it takes time in proportion to the table's size, and locks out its readers.
    """

    sql: str
    rewrites: bool


async def prepare(
    connection: asyncpg.Connection, *, partition: str = "none", patient: bool = False
) -> list[str]:
    """Create missing tables, and update tables made by cryptofeed's example schema.

    Runs in the caller's transaction. Needs no rights if there is nothing to do; two collectors that start at
    once do not collide. A change that only the table's owner can make (rights, a view on the column) is
    logged with its SQL and skipped; so is one that takes long, unless ``patient``. ``partition`` is the
    period of the partitions of new tables. Returns what was done, one line each.

    Raises StoreRefusedError if a table cannot take our rows, and asyncpg's errors.
    """
    if _is_complete(await columns(connection)):
        return []
    await connection.execute(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT}'")
    found = await columns(connection)
    hypertables = partition != "none" and await connection.fetchval(
        "SELECT true FROM pg_extension WHERE extname = 'timescaledb'"
    )
    done = [f"created table {name}" for name in (POSITIONS, NOTES) if name not in found]
    if done:  # even IF NOT EXISTS needs the right to create
        await connection.execute(_CREATE_POSITIONS)
    for table in TABLES.values():
        if table.name in found:
            done += await _adopt(connection, table, found[table.name], patient=patient)
            continue
        await connection.execute(_create_sql(table, partition, hypertable=bool(hypertables)))
        done.append(f"created table {table.name}")
    return done


async def missing(connection: asyncpg.Connection) -> list[str]:
    """Return the tables that the database does not have."""
    found = await columns(connection)
    return [
        name for name in (POSITIONS, NOTES, *(table.name for table in TABLES.values())) if name not in found
    ]


def _create_sql(table: Table, partition: str, *, hypertable: bool) -> str:
    """Return the SQL for a table; the primary key of a partitioned one must include the partition key."""
    columns = "".join(f', "{name}" {type_}' for name, type_ in table.columns.items())
    key, parts, then = "id", "", ""
    if partition != "none":
        key += ", receipt_timestamp"
    if hypertable:
        then = f"SELECT create_hypertable('\"{table.name}\"', 'receipt_timestamp', {_chunks(partition)})"
    elif partition != "none":
        parts = " PARTITION BY RANGE (receipt_timestamp)"
    of_gaps = 'CREATE INDEX ON gaps (exchange, symbol, missed, "end");' if table.name == "gaps" else ""
    return (
        f'CREATE TABLE "{table.name}" (id bigint GENERATED BY DEFAULT AS IDENTITY{columns},'
        f" PRIMARY KEY ({key})){parts};"
        f' CREATE INDEX ON "{table.name}" USING brin (timestamp); {of_gaps}{then}'
    )


def _chunks(partition: str) -> str:
    return f"chunk_time_interval => INTERVAL '1 {partition}'"


async def columns(connection: asyncpg.Connection) -> dict[str, dict[str, _Column]]:
    """Return the columns that our tables have in the database, by table."""
    rows = await connection.fetch(
        "SELECT wanted AS table, attname AS column, format_type(atttypid, atttypmod) AS type,"
        " attidentity <> '' AS identity, pg_get_expr(adbin, adrelid) AS default, attnotnull AS required,"
        " pg_get_serial_sequence(quote_ident(wanted), attname) AS sequence"
        " FROM unnest($1::text[]) AS wanted"
        " JOIN pg_attribute ON attrelid = to_regclass(quote_ident(wanted))"
        " LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum"
        " WHERE attnum > 0 AND NOT attisdropped",
        [POSITIONS, NOTES, *(table.name for table in TABLES.values())],
    )
    found: dict[str, dict[str, _Column]] = {}
    for row in rows:
        column = _Column(row["type"], row["identity"], row["default"], row["sequence"], row["required"])
        found.setdefault(row["table"], {})[row["column"]] = column
    return found


def _is_complete(found: dict[str, dict[str, _Column]]) -> bool:
    tables = all(
        table.name in found and not list(_changes(table, found[table.name])) for table in TABLES.values()
    )
    return tables and POSITIONS in found and NOTES in found


async def _adopt(
    connection: asyncpg.Connection, table: Table, found: dict[str, _Column], *, patient: bool
) -> list[str]:
    for name, column in found.items():
        ours = name == "id" or name in table.columns or _former(table, name)
        if column.required and not ours and not column.identity and column.default is None:
            raise StoreRefusedError(
                f"table {table.name} requires a value in column {name}, which the collector does not have;"
                f' run ALTER TABLE "{table.name}" ALTER "{name}" DROP NOT NULL'
            )
    done = []
    size = await connection.fetchval("SELECT pg_total_relation_size(quote_ident($1)::regclass)", table.name)
    for change in _changes(table, found):
        if change.rewrites and size > _REWRITABLE_BYTES and not patient:
            _log.warning("table %s is large; when its readers can wait, run: %s", table.name, change.sql)
            continue
        await connection.execute("SAVEPOINT change")
        try:
            await connection.execute(change.sql)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError) as error:
            await connection.execute("ROLLBACK TO change")
            _log.warning("table %s: %s; its owner should run: %s", table.name, error, change.sql)
        else:
            done.append(f"table {table.name}: {change.sql}")
    return done


def _former(table: Table, column: str) -> bool:
    """Return whether we rename the column: the example schema names an index's price ``open_interest``."""
    return (table.name, column) == ("index", "open_interest")


def _changes(table: Table, found: dict[str, _Column]) -> Iterator[_Change]:
    """Yield the changes after which an existing table loses nothing that we store."""
    alter = f'ALTER TABLE "{table.name}"'
    yield from _id_changes(table.name, found)
    for name, wanted in table.columns.items():
        column = found.get(name)
        if column is None and any(_former(table, other) for other in found):
            former = next(other for other in found if _former(table, other))
            yield _Change(f'{alter} RENAME "{former}" TO "{name}"', rewrites=False)
            column = found[former]
        if column is None:
            yield _Change(f'{alter} ADD "{name}" {wanted}', rewrites=False)
        elif column.type not in _GOOD_TYPES.get(wanted, (wanted,)):
            rewrites = not column.type.startswith(_CHEAP_TYPES)
            # via text, because a float is cast to a numeric of 15 digits
            using = f' USING "{name}"::text::{wanted}' if rewrites else ""
            yield _Change(f'{alter} ALTER "{name}" TYPE {wanted}{using}', rewrites=rewrites)


def _id_changes(table: str, found: dict[str, _Column]) -> Iterator[_Change]:
    """Widen an ``id`` of type ``serial``, which runs out after 2.1e9 rows."""
    column = found.get("id")
    if column is None or column.type != "integer" or column.sequence is None:
        return
    widen = f'ALTER TABLE "{table}" ALTER id TYPE bigint; ALTER SEQUENCE {column.sequence} AS bigint'
    yield _Change(widen, rewrites=True)
