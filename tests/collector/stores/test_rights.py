"""Which rights of a store's user are missing: found without using any, each with what grants it."""

import asyncio
import itertools
import re
from contextlib import asynccontextmanager

import asyncpg
import pymongo
import pytest
from databases import settings
from every_kind import EVERY_KIND
from motor.motor_asyncio import AsyncIOMotorDatabase
from servers import MongoServer, PostgresServer, RedisServer

from collector import cli, preflight
from collector.batch import Batch, Position
from collector.settings import Settings
from collector.stores import RightMissingError, StoreRefusedError, StoreUnavailableError, create
from collector.stores.mongo_rights import lacking_rights
from collector.stores.postgres import PostgresStore

NAME, PASSWORD = "collector", "the-password"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def postgres():
    with PostgresServer() as server:
        yield server


class Place:
    """A database of a test's own, with a user of its own who has no rights there yet."""

    def __init__(self, server, owner):
        self.server, self.owner = server, owner
        self.name = f"rights_{next(_numbers)}"
        self.user = f"Writer {self.name}"  # to be quoted

    def url(self, user=None, password=PASSWORD):
        login = f"{user or self.server.name}:{password}".replace(" ", "%20")
        return f"postgresql://{login}@{self.server.host}:{self.server.port}/{self.name}"

    def settings(self, **more):
        return settings("POSTGRES", url=self.url(self.user), channels="trades,ticker", **more)

    async def run(self, statement):
        await self.owner.execute(statement)

    async def there(self):
        """Every relation, and how many rows it has ever been given."""
        kept = "SELECT relname, relkind FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
        found = await self.owner.fetch(f"{kept} WHERE nspname = 'public' ORDER BY 1")
        last = await self.owner.fetch("SELECT sequencename, last_value FROM pg_sequences ORDER BY 1")
        return found, last


@pytest.fixture
async def place(postgres):
    admin = await asyncpg.connect(postgres.url)
    place = Place(postgres, None)
    await admin.execute(f"CREATE DATABASE {place.name}")
    await admin.execute(f"CREATE ROLE \"{place.user}\" LOGIN PASSWORD '{PASSWORD}'")
    place.owner = await asyncpg.connect(place.url())
    await place.run("REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as it is from Postgres 15 on
    yield place
    await place.owner.close()
    await admin.execute(f"DROP DATABASE {place.name} WITH (FORCE)")
    await admin.execute(f'DROP ROLE "{place.user}"')
    await admin.close()


@asynccontextmanager
async def opened(settings):
    store = create(settings)
    yield store
    await store.close()


async def probed(settings):
    async with opened(settings) as store:
        await store.probe(NAME)


async def used(settings):
    """What a collector does: stores a record and a note, and reads those of others."""
    async with opened(settings) as store:
        before = await store.open(NAME)
        after = Position("owner", "incarnation", 1)
        await store.note(NAME, "text")
        await store.notes()
        await store.commit(NAME, Batch("incarnation", 0, EVERY_KIND[:1]), before, after)
        assert await store.open(NAME) == after


async def lacking(place, **more):
    """What the probe finds, which the collector would meet as well; and what it says to do."""
    before = await place.there()
    with pytest.raises(RightMissingError, match="the user lacks a right: ") as found:
        await probed(place.settings(**more))
    assert await place.there() == before
    with pytest.raises(StoreRefusedError):
        await used(place.settings(**more))
    return str(found.value), found.value.remedy


async def tables_of(place):
    async with opened(settings("POSTGRES", url=place.url())) as store:
        await store.initialise()


RIGHTS = {
    "cryptostore_position": ("SELECT", "INSERT", "UPDATE"),
    "cryptostore_note": ("SELECT", "INSERT", "UPDATE"),
    "trades": ("INSERT",),
    "ticker": ("INSERT",),
    "gaps": ("INSERT",),
}


async def grant_all(place):
    for table, rights in RIGHTS.items():
        await place.run(f'GRANT {", ".join(rights)} ON {table} TO "{place.user}"')


async def test_each_right_on_a_table_is_named_and_what_is_said_grants_it(place):
    await tables_of(place)
    await grant_all(place)
    await probed(place.settings())
    for table, right in ((table, right) for table, rights in RIGHTS.items() for right in rights):
        await place.run(f'REVOKE {right} ON {table} FROM "{place.user}"')
        with pytest.raises(RightMissingError, match=f"no {right} ON {table}") as found:
            await probed(place.settings())
        (grant,) = re.findall("`(.*?)`", found.value.remedy)
        await place.run(grant)
        await probed(place.settings())
    await used(place.settings())


async def test_all_that_is_missing_is_granted_by_what_is_said(place):
    await tables_of(place)
    said, remedy = await lacking(place)
    assert f'"{place.user}" has no SELECT, INSERT, UPDATE ON cryptostore_position, cryptostore_note, ' in said
    assert said.endswith(", no INSERT ON trades, ticker, gaps")
    for grant in re.findall("`(.*?)`", remedy):
        await place.run(grant)
    await probed(place.settings())
    await used(place.settings())


async def test_a_user_who_may_not_create_tables(place):
    said, remedy = await lacking(place)
    assert said.endswith(f'"{place.user}" has no CREATE on schema public')
    grant, other = re.findall("`(.*?)`", remedy)
    assert other == "collector db init"
    await place.run(grant)
    before = await place.there()
    await probed(place.settings())
    assert await place.there() == before
    await used(place.settings())


async def test_preparing_the_tables_names_the_right_and_what_grants_it(place, monkeypatch, capsys):
    of_place = place.settings()
    monkeypatch.setattr(Settings, "read", lambda _environment: of_place)
    assert await asyncio.to_thread(cli.main, ["db", "init"]) == 78
    said = capsys.readouterr().err
    assert said.startswith(f"collector: {place.server.host}:{place.server.port}: ")
    assert f'the user lacks a right: "{place.user}" has no CREATE on schema public; as the owner of ' in said
    await place.run(re.search("`(GRANT .*?)`", said)[1])
    assert await asyncio.to_thread(cli.main, ["db", "init"]) == 0
    assert "created table trades" in capsys.readouterr().out


async def test_a_user_who_may_use_no_schema(place):
    await place.run("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    said, remedy = await lacking(place)
    assert said.endswith("has no USAGE on any schema of its search_path")
    await place.run(re.findall("`(.*?)`", remedy)[0])
    await used(place.settings())


async def test_the_sequence_of_a_table_that_was_there_before(place):
    await place.run("CREATE TABLE trades (id bigserial)")
    await tables_of(place)
    await grant_all(place)
    said, remedy = await lacking(place)
    assert said.endswith("no USAGE ON SEQUENCE public.trades_id_seq")
    await place.run(re.findall("`(.*?)`", remedy)[0])
    await probed(place.settings())
    await used(place.settings())


async def test_a_column_that_only_the_owner_of_a_table_may_add(place):
    await tables_of(place)
    await place.run("ALTER TABLE trades DROP COLUMN order_type")
    await grant_all(place)
    said, remedy = await lacking(place)
    assert said.endswith("has no ownership of trades, and table trades has no order_type")
    assert "`collector db init` as the tables' owner" in remedy
    await place.run(f'ALTER TABLE trades OWNER TO "{place.user}"')
    await probed(place.settings())
    await used(place.settings())


async def test_a_partition_that_only_the_owner_of_a_table_may_make(place):
    async with opened(settings("POSTGRES", url=place.url(), partition="day")) as store:
        await store.open(NAME)
    await grant_all(place)
    await place.run(f'GRANT CREATE ON SCHEMA public TO "{place.user}"')
    with pytest.raises(RightMissingError, match="no partition for today of gaps, ticker, trades") as found:
        await probed(place.settings(partition="day"))
    assert "`collector db init`" in found.value.remedy
    async with opened(settings("POSTGRES", url=place.url(), partition="day")) as store:
        await store.initialise()
    await probed(place.settings(partition="day"))


async def test_rows_that_a_policy_keeps_out_are_found(place):
    await tables_of(place)
    await grant_all(place)
    await place.run("ALTER TABLE trades ENABLE ROW LEVEL SECURITY")
    for attempt in (probed, used):
        with pytest.raises(StoreRefusedError, match="row-level security"):
            await attempt(place.settings())


@pytest.mark.parametrize("has_tables", [True, False])
async def test_a_database_that_takes_no_writes(place, has_tables):
    if has_tables:
        await tables_of(place)
    await place.run(f"ALTER DATABASE {place.name} SET default_transaction_read_only = on")
    with pytest.raises(StoreUnavailableError, match="its transactions are read-only"):
        await probed(settings("POSTGRES", url=place.url()))


async def test_the_check_names_the_right_and_what_grants_it(place, tmp_path):
    found = [
        each async for each in preflight.findings(place.settings(spool_dir=tmp_path), without=["exchange"])
    ]
    (fault,) = [each for each in found if each.state == "fault"]
    assert (fault.what, fault.exit_status) == ("store", preflight.MISCONFIGURED)
    assert "refuses the collector: " in fault.detail
    assert "has no CREATE on schema public" in fault.detail
    assert f'`GRANT USAGE, CREATE ON SCHEMA public TO "{place.user}"`' in fault.remedy
    assert not await place.owner.fetch("SELECT 1 FROM pg_tables WHERE schemaname = 'public'")


# MongoDB

READ = ["changeStream", "collStats", "dbStats", "find", "killCursors", "listCollections", "listIndexes"]
WRITE = [*READ, "createCollection", "createIndex", "dropIndex", "insert", "remove", "update"]
NEEDED = [("cryptostore_position", "find"), ("cryptostore_position", "update"), ("trades", "insert")]


def told(*privileges, database="admin"):
    """What mongod tells of a user."""
    return {
        "authenticatedUsers": [{"user": "writer", "db": database}],
        "authenticatedUserRoles": [{"role": "read", "db": "market"}],
        "authenticatedUserPrivileges": [
            {"resource": resource, "actions": actions} for resource, actions in privileges
        ],
    }


def of(collection="", database="market"):
    return {"db": database, "collection": collection}


@pytest.mark.parametrize(
    ("answer", "lacks"),
    [
        (told((of(), READ)), "writer has no update on cryptostore_position, no insert on trades"),
        (told((of(), READ), (of("trades"), ["insert"])), "writer has no update on cryptostore_position"),
        (told((of(database="other"), WRITE), (of(), READ)), "no insert on trades"),
        (told((of("system.js"), WRITE), ({"cluster": True}, ["listDatabases"])), "no find on crypt"),
        (told((of(), WRITE)), None),
        (told((of(database=""), WRITE)), None),
        (told(({"anyResource": True}, ["find", "update", "insert"])), None),
        (told((of("trades"), ["insert"]), (of("cryptostore_position"), ["find", "update"])), None),
        ({"authenticatedUsers": [], "authenticatedUserPrivileges": []}, None),
        (told(), None),
        ({}, None),
    ],
)
def test_what_privileges_leave_out(answer, lacks):
    found = lacking_rights(answer, "market", NEEDED)
    assert bool(found) == bool(lacks)
    if lacks:
        assert lacks in found[0]
        grant = '`db.getSiblingDB("admin").grantRolesToUser("writer", [{role: "readWrite", db: "market"}])`'
        assert grant in found[1]


@pytest.fixture(scope="module")
def mongo():
    with MongoServer(password=PASSWORD) as server:
        yield server


def of_mongo(server, user, password, **more):
    url = f"mongodb://{user}:{password}@{server.host}:{server.port}/market?authSource=admin"
    return settings("MONGO", url=url, channels="trades", **more)


async def test_a_user_of_mongodb_who_may_only_read(mongo, tmp_path, monkeypatch):
    """FerretDB knows no roles: there, an answer of mongod stands in for its own."""
    user = "reader"
    if mongo.ferret:
        user = mongo.user_name
        command = AsyncIOMotorDatabase.command

        async def answer(self, what, *arguments, **more):
            if what == "connectionStatus":
                assert more == {"showPrivileges": True}
                return {"authInfo": told((of(), READ)), "ok": 1.0}
            return await command(self, what, *arguments, **more)

        monkeypatch.setattr(AsyncIOMotorDatabase, "command", answer)
    else:
        with pymongo.MongoClient(mongo.url) as client:
            client.admin.command("createUser", user, pwd=PASSWORD, roles=[{"role": "read", "db": "market"}])
    about = of_mongo(mongo, user, PASSWORD, spool_dir=tmp_path)
    found = [each async for each in preflight.findings(about, without=["exchange"])]
    (fault,) = [each for each in found if each.state == "fault"]
    assert "the user lacks a right: " in fault.detail
    assert "no insert on cryptostore_position, cryptostore_note, trades, gaps" in fault.detail
    assert "grantRolesToUser(" in fault.remedy
    with pymongo.MongoClient(mongo.url) as client:
        assert not client.market.list_collection_names()


async def test_a_user_of_mongodb_who_may_write(mongo, tmp_path):
    about = of_mongo(mongo, mongo.user_name, PASSWORD, spool_dir=tmp_path)
    found = [each async for each in preflight.findings(about, without=["exchange"])]
    assert {each.what: each.state for each in found} == {"settings": "fine", "spool": "fine", "store": "fine"}


# Redis


@pytest.mark.parametrize("backend", ["REDISSTREAM", "REDIS"])
async def test_what_is_said_grants_what_redis_refuses(tmp_path, backend):
    reads = ("+@read", "+@connection", "+info", "+config|get", "+script")
    with RedisServer() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "writer", "on", f">{PASSWORD}", "%R~*", *reads)
        login = {"user": "writer", "password": PASSWORD, "symbols": "BTC-USD"}
        login |= {"host": server.host, "port": server.port}
        about = settings(backend, **login, retention="7d", channels="trades", spool_dir=tmp_path)
        for _ in range(2):  # the commands first, then their keys
            with pytest.raises(RightMissingError, match="the user lacks a right") as found:
                await probed(about)
            (grant,) = re.findall("`(.*?)`", found.value.remedy)
            client.execute_command(*grant.split())
        await probed(about)
        assert not client.keys()
        await used(about)


@pytest.mark.parametrize("backend", ["REDISSTREAM", "REDIS"])
async def test_without_retention_nothing_is_to_be_removed_and_eval_is_not_needed(backend):
    with RedisServer() as server, server.client() as client:
        reads = ("+@read", "+@connection", "+info", "+config|get", "+script", "+time", "+hset", "+evalsha")
        rights = (*reads, "+xadd", "+zadd")
        client.execute_command("ACL", "SETUSER", "writer", "on", f">{PASSWORD}", "~*", *rights)
        about = {"host": server.host, "port": server.port, "user": "writer", "password": PASSWORD}
        await probed(settings(backend, **about))
        async with opened(settings(backend, **about)) as store:
            position = Position("owner", "incarnation", 1)
            await store.open(NAME)
            await store.commit(NAME, Batch("incarnation", 0, EVERY_KIND[:1]), None, position)
            await store.release(NAME, position)
            assert (await store.holder(NAME)).idle > 1e9  # nobody waits for who has stopped
        with pytest.raises(RightMissingError) as found:
            await probed(settings(backend, **about, retention="7d"))
        trim = {"REDISSTREAM": "+xtrim", "REDIS": "+zremrangebyrank +eval"}[backend]
        assert f"`ACL SETUSER writer {trim}`" in found.value.remedy


@pytest.mark.parametrize("command", [["complete"], ["db", "init"]])
def test_who_is_refused_is_not_told_to_try_again(postgres, monkeypatch, capsys, command):
    url = f"postgresql://{postgres.name}:wrong@{postgres.host}:{postgres.port}/{postgres.database}"
    about = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "POSTGRES"}
    for name, value in (about | {"URL": url}).items():
        monkeypatch.setenv(name, value)
    assert cli.main(command) == 78
    assert "password authentication failed" in capsys.readouterr().err
    monkeypatch.setenv("URL", url.replace(f":{postgres.port}/", ":1/"))
    assert cli.main(command) == 69
    assert "Connection refused" in capsys.readouterr().err


def test_of_postgres_the_collector_says_that_a_right_is_missing():
    store = PostgresStore(settings("POSTGRES", url="postgresql://me:x@nowhere/market"))
    with (
        pytest.raises(StoreRefusedError, match=r"lacks a right \(permission denied for table trades\)"),
        store._failures(),
    ):
        raise asyncpg.InsufficientPrivilegeError("permission denied for table trades")
