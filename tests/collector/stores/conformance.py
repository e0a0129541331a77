"""What the conformance suite needs of each store: a harness. Adding one to HARNESSES adds its tests."""

import asyncio
import json
from decimal import Decimal
from typing import get_args

from comparing import per_key
from databases import MongoHarness, PgbouncerHarness, PostgresHarness
from folders import ParquetHarness
from msgspec.structs import replace
from servers import RedisServer
from streams import written
from waiting import PATIENCE, eventually

from collector import bounds
from collector import records as r
from collector.metrics import Metrics
from collector.settings import Settings
from collector.spool.spool import Spool
from collector.stores import create
from collector.stores.redis_layout import KEYS
from collector.writer import Writer

NAME = "conformance"
CHANNEL = {key: channel for channel, key in KEYS.items()}
KINDS = {r.channel_of(kind): kind for kind in get_args(r.AnyRecord)}


class RedisHarness:
    """Redis as BACKEND ``backend`` writes it."""

    patience = 0.5  # seconds for one answer
    network = True  # whether it is reached over one
    stopped = "away"  # the state of a collector whose store is stopped
    per_key = staticmethod(per_key)

    def __init__(self, backend, *, secured=False):
        self.backend, self.secured = backend, secured

    def __repr__(self):
        return self.backend + "-tls" * self.secured

    def server(self, **options):
        secrets = {"password": "the-password", "tls": True} if self.secured else {}
        return RedisServer(**options, **secrets)

    def unwritable(self, record):
        """``record``, changed into one that the store cannot take."""
        return replace(record, receipt_timestamp=-1)

    def hurry(self, monkeypatch):
        """Nothing of it is slow."""

    def place(self, server):
        return str(server.port)

    def settings(self, server, folder, **more):
        address = {"HOST": server.host, "PORT": str(server.port)}
        if self.secured:
            address = {"URL": f"{server.url}?ssl_ca_certs={server.ca}"}
        what = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD,ETH-USD", "CHANNELS": "trades,l2_book"}
        where = {"BACKEND": self.backend, "SPOOL_DIR": str(folder), "NAME": NAME}
        return Settings.read(address | what | where | more)

    def spoil(self, server):
        """Makes the store refuse whatever is added; ``correct`` ends that."""
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "-xadd", "-zadd")

    def correct(self, server):
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "+@all")

    def damage(self, server, index):
        """Makes position and note unreadable, in one way or another; whether the server let us."""
        with server.client() as client:
            key = f"cryptostore:position:{NAME}"
            client.hdel(key, "incarnation") if index else client.hset(key, "sequence", b"\xff")
            client.hset("cryptostore:notes:COINBASE", NAME, b"\xff" if index else b"{")
        return True

    def stored(self, server):
        """All records, each key's in its order."""
        with server.client(decode_responses=True) as client:
            found = []
            for key in sorted(client.keys()):
                if not key.startswith("cryptostore:"):
                    channel = CHANNEL[key.partition("-")[0]]
                    found += [self._record(channel, fields) for fields in self._fields(client, key)]
            return found

    def _fields(self, client, key):
        if self.backend == "REDISSTREAM":
            return [fields for _, fields in client.xrange(key)]
        members = [self._json(member) for member in client.zrange(key, 0, -1)]
        return sorted(members, key=lambda fields: int(fields["sequence"]))

    def _record(self, channel, fields):
        kind = KINDS[channel]
        if kind in (r.L2Book, r.L3Book):
            sides = fields.get("delta") or fields["book"]
            sides = self._json(sides) if isinstance(sides, str) else sides
            levels = {side: list(_levels(kind, sides[side])) for side in ("bid", "ask")}
            fields = fields | levels | {"delta": "delta" in fields}
        return written(
            kind(**{name: self._value(kind, name, fields[name]) for name in kind.__struct_fields__})
        )

    @staticmethod
    def _value(kind, name, value):
        annotation = str(kind.__annotations__.get(name) or r.Record.__annotations__[name])
        if name in r.time_fields(kind):
            return None if value == "None" else float(value)
        if value == "None" and ("None" in annotation or "Optional" in annotation):
            return None
        if "Meta" in annotation and not isinstance(value, list):
            return bounds.number(value)
        if "bool" in annotation:
            return value in (True, "True")
        return int(value) if "int" in annotation else value

    @staticmethod
    def _json(text):
        return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def _levels(kind, side):
    if isinstance(side, list):
        yield from map(tuple, side)
    elif kind is r.L2Book:
        yield from ((Decimal(price), size) for price, size in side.items())
    else:
        for price, orders in side.items():
            yield from ((order, Decimal(price), size) for order, size in orders.items())


HARNESSES = [
    RedisHarness("REDISSTREAM"),
    RedisHarness("REDIS"),
    PostgresHarness(),
    MongoHarness(),
    ParquetHarness(),
]
#: The same stores in other ways; fewer tests look at these.
WAYS = [
    RedisHarness("REDISSTREAM", secured=True),
    PostgresHarness(secured=True),
    PgbouncerHarness(),
    MongoHarness(secured=True),
]


async def deliver(settings, records, **spool):
    """Sends records through a pipeline of their own."""
    async with Pipeline(settings, **spool) as pipeline:
        await pipeline.send(records)
        await pipeline.delivered()


class Pipeline:
    """A spool and a writer, as the collector joins them."""

    def __init__(self, settings, **spool):
        self.settings, self.options = settings, spool

    async def __aenter__(self):
        self.metrics = Metrics()
        self.spool = await Spool.open(self.settings.home, **self.options)
        self.writer = Writer(self.settings.name, create(self.settings), self.spool, self.metrics)
        self.task = asyncio.create_task(self.writer.run())
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.spool.close()

    async def send(self, records, burst=50, pause=0.0):
        records = list(records)
        for first in range(0, len(records), burst):
            await self.spool.append(records[first : first + burst])
            await asyncio.sleep(pause)
            if self.task.done():
                self.task.result()

    async def delivered(self):
        """Waits until the store has everything, and no longer."""
        late = asyncio.get_running_loop().time() + PATIENCE
        drained = asyncio.create_task(self.writer.drain(PATIENCE))
        await asyncio.wait([drained, self.task], return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            self.task.result()
        assert self.spool.undelivered[0] == 0
        assert asyncio.get_running_loop().time() < late

    async def until(self, state):
        """Waits until the writer sees its store so."""
        await eventually(lambda: self.writer.state.state == state, state, self.task)
