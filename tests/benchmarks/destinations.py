"""The stores that are measured: how each is started, told to a collector and to cryptofeed, and counted.

Counting must cost the server next to nothing: it happens while the measurement runs.
"""

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path

import asyncpg
import pyarrow.parquet as pq
import pymongo
from recording import SYMBOLS
from servers import MongoServer, PostgresServer, RedisServer

#: cryptofeed's example schema, with the name that its writer inserts books into.
_COMMON = "id serial PRIMARY KEY, timestamp TIMESTAMP, receipt_timestamp TIMESTAMP, exchange VARCHAR(32)"
_TABLES = {
    "trades": "symbol VARCHAR(32), side VARCHAR(8), amount NUMERIC(64, 32), price NUMERIC(64, 32),"
    " trade_id VARCHAR(64), order_type VARCHAR(32)",
    "book": "symbol VARCHAR(32), data JSONB",
}


class Destination:
    """What the stores share.

    Attributes:
        ours: how a collector is told where it is; ``peer``: how cryptofeed's backend is.
        gathers: records may wait long in the spool, until there are many.
    """

    server = None
    gathers = False

    def make_tables(self) -> None:
        """Makes what cryptofeed's backend expects to be there."""

    def leave(self) -> None:
        """The server stops."""
        self.server.stop()

    def come_back(self) -> None:
        self.server.start()

    def processes(self) -> list[int]:
        """Those of the server; none where it is not ours."""
        if self.server is None or self.server.runner is None:
            return []
        pid = self.server.runner.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


class Redis(Destination):
    """Streams or sorted sets, with the append-only file that tests have, too."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    @contextlib.contextmanager
    def running(self):
        with RedisServer() as self.server, self.server.client() as self._client:
            self.peer = {"host": self.server.host, "port": self.server.port}
            self.ours = {"HOST": self.server.host, "PORT": str(self.server.port)}
            self._count = self._client.xlen if self.backend == "REDISSTREAM" else self._client.zcard
            yield self

    def stored(self) -> int:
        return sum(
            self._count(f"{kind}-BINANCE-{symbol}") for kind in ("trades", "book") for symbol in SYMBOLS
        )


class Postgres(Destination):
    """The tables are made by cryptofeed's example or by the collector."""

    backend = "POSTGRES"

    @contextlib.contextmanager
    def running(self):
        with PostgresServer() as self.server, asyncio.Runner() as self._runner:
            server = self.server
            address = {"host": server.host, "port": server.port, "user": server.name}
            self.peer = address | {"pw": server.password, "db": server.database}
            self.ours = {"HOST": server.host, "PORT": str(server.port), "DATABASE": server.database}
            self.ours |= {"USER": server.name, "PASSWORD": server.password}
            self._address = address | {"password": server.password, "database": server.database}
            self._connection = None
            yield self

    def make_tables(self) -> None:
        for name, columns in _TABLES.items():
            self._ask(f"CREATE TABLE {name} ({_COMMON}, {columns})")

    def leave(self) -> None:
        self._runner.run(self._connection.close())
        super().leave()

    def stored(self) -> int:
        """By the ids: counting rows would take long."""
        there = [table for table in _TABLES if self._ask(f"SELECT to_regclass('{table}')")]
        return sum(self._ask(f"SELECT coalesce(max(id), 0) FROM {table}") for table in there)

    def _ask(self, statement: str):
        return self._runner.run(self._answer(statement))

    async def _answer(self, statement: str):
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(**self._address)
        return await self._connection.fetchval(statement)


class Mongo(Destination):
    """MongoDB, or what speaks its protocol here."""

    backend = "MONGO"

    @contextlib.contextmanager
    def running(self):
        with MongoServer() as self.server, pymongo.MongoClient(self.server.host, self.server.port) as client:
            self._database = client["benchmark"]
            self.peer = {"host": self.server.host, "port": self.server.port, "db": "benchmark"}
            self.ours = {"HOST": self.server.host, "PORT": str(self.server.port), "DATABASE": "benchmark"}
            yield self

    def stored(self) -> int:
        return sum(self._database[name].estimated_document_count() for name in ("trades", "book"))


class Parquet(Destination):
    """A folder. A record counts when its file is there."""

    backend = "PARQUET"
    gathers = True

    @contextlib.contextmanager
    def running(self):
        folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self._folder, self._rows = folder, {}
        self.ours = {"PARQUET_DIR": str(folder)}
        yield self
        shutil.rmtree(folder)

    def stored(self) -> int:
        for path in self._folder.glob("v2/channel=*/**/*.parquet"):
            if path not in self._rows:
                self._rows[path] = pq.read_metadata(path).num_rows
        return sum(self._rows.values())


DESTINATIONS = {
    "REDISSTREAM": lambda: Redis("REDISSTREAM"),
    "REDIS": lambda: Redis("REDIS"),
    "POSTGRES": Postgres,
    "MONGO": Mongo,
    "PARQUET": Parquet,
}
