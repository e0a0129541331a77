"""What listens at a store's port and is none is told to be none; the folder fuzz has more of it."""

import asyncio
from random import Random

import pytest
from fuzz import stores
from fuzz.trials import bounded

from collector import lease
from collector.settings import Settings
from collector.stores import StoreUnavailableError, create


class Sound(Random):
    """Never changes an answer."""

    def random(self):
        return 0.99


async def served(backend, answering):
    """A store whose server answers so, not yet opened."""
    server = await asyncio.start_server(
        lambda *pipes: stores._answer(answering, *pipes, Sound()), "127.0.0.1", 0
    )
    place = {"HOST": "127.0.0.1", "PORT": str(server.sockets[0].getsockname()[1])}
    return create(Settings.read(stores.COLLECTOR | stores._SERVERS[backend][1] | place))


async def test_a_redis_reply_that_announces_more_than_memory_is_an_error():
    async def answer(reader, writer, _draw):
        while await reader.read(1000):
            writer.write(b"*1000000000\r\n")

    store = await served("REDIS", answer)
    with (
        bounded(),
        pytest.raises(StoreUnavailableError, match=r"(larger than memory|not in the Redis protocol)"),
    ):
        await store.open("a")
    await store.close()


async def test_a_mongodb_reply_without_a_required_field_is_an_error():
    store = await served("MONGO", stores._mongo)  # which says nothing of the time
    await store.open("a")
    with pytest.raises(StoreUnavailableError, match="it does not answer like MongoDB"):
        await store.holder("a")
    await store.close()


@pytest.mark.parametrize("answered", [stores._message(b"n", b""), stores._message(b"C", b"")])
async def test_a_truncated_postgres_reply_is_an_error(answered):
    async def answer(reader, writer, _draw):
        await reader.read(1000)
        writer.write(b"N")
        await reader.read(1000)
        writer.write(b"".join(stores._WELCOME) + stores._READY)
        while await reader.read(10_000):
            writer.write(answered + stores._READY)

    store = await served("POSTGRES", answer)
    with pytest.raises(StoreUnavailableError, match="it does not answer like Postgres"):
        await store.open("a")
    await store.close()


#: Sound beginnings of what a store says first; the rest never comes.
BEGINNINGS = {
    "REDIS": b"$1000\r\n",
    "sentinel": b"*2\r\n$1000\r\n",
    "MONGO": (10_000).to_bytes(4, "little") + bytes(4),
    "POSTGRES": b"NR" + (10_000).to_bytes(4),
}


@pytest.mark.parametrize("backend", BEGINNINGS)
async def test_a_store_that_answers_a_byte_at_a_time_is_given_up(backend, tmp_path, monkeypatch):
    """Each byte comes soon enough; all of them would take forever."""
    monkeypatch.setattr(lease, "PATIENCE", 0.3)
    said = asyncio.Event()

    async def trickle(reader, writer, _draw):
        await reader.read(1000)
        for byte in BEGINNINGS[backend] + bytes(1000):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
            said.set()

    async with asyncio.timeout(5):
        store = await served(backend, trickle)
        with pytest.raises(StoreUnavailableError, match="no answer within"):
            await lease.answer(store.open("a"))
        assert said.is_set()
        await store.close()
        with pytest.raises(StoreUnavailableError, match="no answer within"):  # and so the next time
            await lease.answer(store.open("a"))
        await store.close()
