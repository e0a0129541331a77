"""The stores under test: how each is run, told to a collector, hurt, and read back."""

import contextlib
import ctypes
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pymongo
import reading
from ledger import Stored
from servers import MongoServer, PostgresServer, RedisServer, Server, Toxiproxy

DATABASE = "postgres"


class Place:
    """A store.

    Attributes:
        backend: the collector's name for it.
        environment: how a collector is told where it is.
        through: the faulty proxy in front of it, where there is one.
    """

    backend: str
    environment: dict[str, str]

    @contextlib.contextmanager
    def running(self, *, faulty: bool) -> Iterator[None]:
        """Runs it, behind a faulty proxy if that is wished."""
        raise NotImplementedError

    def go_away(self) -> None:
        """As an administrator would stop it, until ``come_back``."""
        raise NotImplementedError

    def come_back(self) -> None:
        raise NotImplementedError

    @contextlib.contextmanager
    def resetting(self, chance: random.Random) -> Iterator[None]:
        """Cuts its connections, until the collector has noticed."""
        raise NotImplementedError

    def kill(self) -> bool:
        """SIGKILL, until ``come_back``; False where there is no process but the collector's own."""
        raise NotImplementedError

    def read(self, stored: Stored) -> None:
        raise NotImplementedError


class Served(Place):
    """A server of its own."""

    server: Server

    def make(self) -> Server:
        raise NotImplementedError

    def variables(self) -> dict[str, str]:
        """Beside host and port."""
        return {}

    @contextlib.contextmanager
    def running(self, *, faulty: bool) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            self.server = stack.enter_context(self.make())
            place = self.server
            if faulty:
                toxiproxy = stack.enter_context(Toxiproxy())
                self._proxy = place = toxiproxy.proxy(self.server.host, self.server.port)
            self.environment = {"HOST": place.host, "PORT": str(place.port)} | self.variables()
            yield

    def go_away(self) -> None:
        self.server.stop()

    def come_back(self) -> None:
        self.server.start()

    def kill(self) -> bool:
        self.server.kill()
        return True

    @contextlib.contextmanager
    def resetting(self, chance: random.Random) -> Iterator[None]:
        """In one direction or the other, at once or in the middle of a message."""
        stream = chance.choice(("upstream", "downstream"))
        if chance.random() < 0.5:
            kind, attributes = "reset_peer", {"timeout": 0}
        else:
            kind, attributes = (
                "limit_data",
                {"bytes": chance.randint(1, 20_000 if stream == "upstream" else 200)},
            )
        self._proxy.poison(kind, stream, **attributes)
        yield
        self._proxy.heal(kind, stream)


class Redis(Served):
    """Streams or sorted sets, with an append-only file that is synced every second."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def make(self) -> Server:
        return RedisServer()

    def read(self, stored: Stored) -> None:
        with self.server.client(decode_responses=True) as client:
            reading.redis(client, self.backend, stored)


class Postgres(Served):
    """With commits that a SIGKILL may take back."""

    backend = "POSTGRES"

    def make(self) -> Server:
        server = PostgresServer()
        server.options = {"synchronous_commit": "off"}
        return server

    def variables(self) -> dict[str, str]:
        return {"DATABASE": DATABASE, "USER": self.server.name, "PASSWORD": self.server.password}

    def read(self, stored: Stored) -> None:
        server = self.server
        address = {"host": server.host, "port": server.port, "database": DATABASE}
        reading.postgres(address | {"user": server.name, "password": server.password}, stored)


class Mongo(Served):
    backend = "MONGO"

    def make(self) -> Server:
        return MongoServer()

    def variables(self) -> dict[str, str]:
        return {"DATABASE": DATABASE}

    def read(self, stored: Stored) -> None:
        with pymongo.MongoClient(self.server.host, self.server.port) as client:
            reading.mongo(client[DATABASE], stored)


class Parquet(Place):
    """A folder, which goes away when a file takes its place. Its process is the collector."""

    backend = "PARQUET"

    @contextlib.contextmanager
    def running(self, *, faulty: bool) -> Iterator[None]:
        parent = Path(tempfile.mkdtemp(prefix="soak-"))
        self._folder, self._other = parent / "data", parent / "other"
        self._folder.mkdir()
        self._other.touch()
        self.environment = {"PARQUET_DIR": str(self._folder)}
        yield
        shutil.rmtree(parent)

    def _exchange(self) -> None:
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        names = os.fsencode(self._folder), os.fsencode(self._other)
        if ctypes.CDLL(None, use_errno=True).renameat2(here, names[0], here, names[1], exchange):
            raise OSError(ctypes.get_errno(), "renameat2")

    go_away = come_back = _exchange

    @contextlib.contextmanager
    def resetting(self, chance: random.Random) -> Iterator[None]:
        self._exchange()
        yield
        self._exchange()

    def kill(self) -> bool:
        return False

    def read(self, stored: Stored) -> None:
        reading.parquet(self._folder, stored)


PLACES = {
    "REDISSTREAM": lambda: Redis("REDISSTREAM"),
    "REDIS": lambda: Redis("REDIS"),
    "POSTGRES": Postgres,
    "MONGO": Mongo,
    "PARQUET": Parquet,
}
