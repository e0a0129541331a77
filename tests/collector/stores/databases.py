"""What the conformance suite needs of Postgres and MongoDB."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

import asyncpg
import bson
import pymongo
import pytest
from comparing import per_key
from msgspec import structs
from servers import MongoServer, Pgbouncer, PostgresServer
from streams import written

from collector import records as r
from collector.settings import Settings
from collector.stores.mongo import COLLECTIONS
from collector.stores.postgres_tables import TABLES

DATABASE = "postgres"
WHAT = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD,ETH-USD", "CHANNELS": "trades,l2_book"}


def settings(backend, **given):
    """A collector's settings with the variables ``given``, but those that are None."""
    variables = {name.upper(): str(value) for name, value in given.items() if value is not None}
    return Settings.read(WHAT | {"BACKEND": backend, "NAME": "conformance"} | variables)


class DatabaseHarness:
    """What the two share."""

    network = True
    stopped = "away"
    per_key = staticmethod(per_key)

    def __init__(self, *, secured=False):
        self.secured = secured

    def __repr__(self):
        return self.backend + "-tls" * self.secured

    def hurry(self, monkeypatch):
        """See ``patience``."""

    def place(self, server):
        return str(server.port)


class PostgresHarness(DatabaseHarness):
    """Postgres, its rows read with a client of its own."""

    backend = "POSTGRES"
    patience = 0.5

    def server(self):
        return PostgresServer(tls=self.secured)

    def settings(self, server, folder, **more):
        password = getattr(server, "password", "the-password")  # a proxy in front of it has none
        url = f"postgresql://cryptostore:{password}@{server.host}:{server.port}/{DATABASE}"
        if self.secured:
            url += f"?sslmode=verify-full&sslrootcert={server.ca}"
        return settings(self.backend, url=url, spool_dir=folder, **more)

    def stored(self, server):
        """All records, each table's in the order of its ids."""
        return _apart(self._stored(server))

    def damage(self, server, index):
        """Makes the note one that cannot be read; a position's columns take nothing of the kind."""
        return _apart(self._damage(server, ("owner", "sequence")[index]))

    def unwritable(self, record):
        """``record``, changed into one that the store cannot take."""
        return structs.replace(record, symbol="\0")

    def spoil(self, server):
        """Makes the store refuse every trade; ``correct`` ends that."""
        _apart(self._execute(server, "ALTER TABLE trades ADD COLUMN desk text NOT NULL CHECK (desk <> '')"))

    def correct(self, server):
        _apart(self._execute(server, "ALTER TABLE trades DROP COLUMN desk"))

    async def _execute(self, server, statement):
        connection = await asyncpg.connect(server.url)
        await connection.execute("TRUNCATE trades" if "NOT NULL" in statement else "SELECT")
        await connection.execute(statement)
        await connection.close()

    async def _damage(self, server, column):
        connection = await asyncpg.connect(server.url)
        with pytest.raises(asyncpg.NotNullViolationError):
            await connection.execute(f"UPDATE cryptostore_position SET {column} = NULL")
        await connection.execute("UPDATE cryptostore_note SET note = '{'")
        await connection.close()
        return False

    async def _stored(self, server):
        connection = await asyncpg.connect(server.url)
        found = []
        for kind, table in TABLES.items():
            rows = await connection.fetch(f'SELECT * FROM "{table.name}" ORDER BY id')
            found += [self._record(kind, list(row.values())[1:]) for row in rows]
        await connection.close()
        return found

    @staticmethod
    def _record(kind, row):
        timestamp, receipt, exchange, symbol, *values = map(_seconds, row)
        if kind in (r.L2Book, r.L3Book):
            data = json.loads(values[0], parse_float=Decimal, parse_int=Decimal)
            sides = data.get("delta") or data["snapshot"]
            values = ["delta" in data, *(_side(kind, name, sides[name]) for name in ("bid", "ask"))]
        return written(kind(exchange, symbol, timestamp, receipt, *values))


class Bounced(Pgbouncer):
    """A pgbouncer with its Postgres, which is what happens something to."""

    def __init__(self):
        super().__init__(PostgresServer())
        self.password = self.postgres.password
        for what in ("stop", "kill", "restart", "pause", "resume"):
            setattr(self, what, getattr(self.postgres, what))

    @property
    def url(self):
        """For reading."""
        return self.postgres.url

    def start(self):
        self.postgres.start()
        if self.runner is None:
            super().start()

    def remove(self):
        if self.runner:
            Pgbouncer.kill(self)
        super().remove()
        self.postgres.remove()


class PgbouncerHarness(PostgresHarness):
    """Postgres through pgbouncer in transaction mode."""

    def __repr__(self):
        return "pgbouncer"

    def server(self):
        return Bounced()


class MongoHarness(DatabaseHarness):
    """MongoDB, or what speaks its protocol."""

    backend = "MONGO"
    patience = 1.5  # its client looks for a server twice a second

    def server(self):
        return MongoServer(password="the-password", tls=True) if self.secured else MongoServer()

    def settings(self, server, folder, **more):
        address = {"host": server.host, "port": server.port, "database": DATABASE}
        if self.secured:
            login = f"{server.user_name}:{server.password}"
            options = f"authSource=admin&tls=true&tlsCAFile={server.ca}"
            address = {"url": f"mongodb://{login}@{server.host}:{server.port}/{DATABASE}?{options}"}
        return settings(self.backend, **address, spool_dir=folder, **more)

    def unwritable(self, record):
        """A record like ``record`` that the store cannot take."""
        times = record.timestamp, record.receipt_timestamp
        return r.L3Book(record.exchange, record.symbol, *times, True, [("\0", "1", "1")], [])

    def spoil(self, server):
        """Makes the store refuse every trade; ``correct`` ends that. FerretDB knows no validators."""
        with pymongo.MongoClient(server.url) as client:
            client[DATABASE].trades.delete_many({})
            client[DATABASE].trades.insert_one({"_id": "somebody's", "exchange": "COINBASE"})
            client[DATABASE].trades.create_index("exchange", unique=True)

    def correct(self, server):
        with pymongo.MongoClient(server.url) as client:
            client[DATABASE].trades.drop_index("exchange_1")
            client[DATABASE].trades.delete_one({"_id": "somebody's"})

    def damage(self, server, index):
        """Makes position and note unreadable, in one way or another; whether the server let us."""
        change = {"$unset": {"incarnation": 1}} if index else {"$set": {"sequence": "many"}}
        with pymongo.MongoClient(server.url) as client:
            client[DATABASE].cryptostore_position.update_one({}, change)
            client[DATABASE].cryptostore_note.update_one({}, change if index else {"$set": {"note": "{"}})
        return True

    def stored(self, server):
        """All records, each collection's by their sequence."""
        with pymongo.MongoClient(server.url) as client:
            return [
                self._record(kind, document)
                for kind, name in COLLECTIONS.items()
                for document in client[DATABASE][name].find(sort=[("sequence", 1)])
            ]

    @staticmethod
    def _record(kind, document):
        values = {}
        for field in structs.fields(kind):
            value = document.get(f"{field.name}_seconds", document[field.name])
            if field.name in ("bid", "ask") and kind in (r.L2Book, r.L3Book):
                value = _side(kind, field.name, bson.decode(value))
            values[field.name] = value
        return written(kind(**values))


def _apart(work):
    with ThreadPoolExecutor(1) as thread:  # a test's loop may run in this one
        return thread.submit(asyncio.run, work).result()


def _seconds(value):
    return value.replace(tzinfo=UTC).timestamp() if isinstance(value, datetime) else value


def _side(kind, name, side):
    """A side as the exchange sent it: a delta as it is, a full side from the best price on."""
    if isinstance(side, list):
        return [tuple(level) for level in side]
    if kind is r.L2Book:
        levels = [(Decimal(price), Decimal(size)) for price, size in side.items()]
        return sorted(levels, reverse=name == "bid")
    orders = []
    for price, sizes in side.items():
        orders += [(order, Decimal(price), Decimal(size)) for order, size in sizes.items()]
    return sorted(orders, key=lambda order: order[1] if name == "ask" else -order[1])
