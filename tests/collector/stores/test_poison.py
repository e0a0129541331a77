"""A record that ends every process that writes it: found, put aside, and the others are stored once."""

import asyncio
import json

import pyarrow.parquet as pq
import pytest
from conformance import HARNESSES, deliver
from crashes import die, lives
from folders import ParquetHarness
from msgspec.structs import replace
from streams import stream

from collector.records import Trade
from collector.spool.spool import Spool
from collector.stores import create

pytestmark = pytest.mark.redis

MOST_DEATHS = 14  # of 60 records: six times half of them, and some before it is clear that it is the batch


def poisoned(number, where):
    """Records, of which one is ``poison``."""
    sent = list(stream(number))
    while not isinstance(sent[where], Trade):
        where += 1
    return [*sent[:where], replace(sent[where], id="poison"), *sent[where + 1 :]]


def is_poison(record):
    return getattr(record, "id", None) == "poison"


def dies_at_poison(settings):
    store_class = type(create(settings))
    commit = store_class.commit

    async def dies(store, name, batch, *positions):
        if any(map(is_poison, batch.kept[1])):
            die()
        return await commit(store, name, batch, *positions)

    store_class.commit = dies


def dies_between_two_files(_settings):
    write = pq.write_table

    def dies(table, file, **options):
        if "id" in table.column_names and "poison" in table["id"].to_pylist():
            die()
        write(table, file, **options)

    pq.write_table = dies


async def append(settings, records):
    spool = await Spool.open(settings.home)
    await spool.append(records)
    await spool.abort()  # as after SIGKILL


def start_until_it_lives(settings, deadly):
    """Start a collector's writer again and again, as an engine does; how often it died."""

    def run():
        deadly(settings)
        asyncio.run(deliver(settings, []))

    deaths = 0
    while not lives(run):
        deaths += 1
        assert deaths < MOST_DEATHS
    return deaths


def check(harness, server, settings, sent):
    (letter,) = map(json.loads, (settings.home / "dead-letters.jsonl").read_text().splitlines())
    assert letter["record"]["id"] == "poison"
    assert "it crashed the collector each of" in letter["reason"]
    others = [each for each in sent if not is_poison(each)]
    assert harness.per_key(harness.stored(server)) == harness.per_key(others)


@pytest.mark.parametrize("harness", HARNESSES, ids=repr)
def test_a_record_that_kills_the_collector_is_put_aside_and_the_others_stored_once(
    harness, tmp_path, monkeypatch
):
    harness.hurry(monkeypatch)
    with harness.server() as server:
        settings = harness.settings(server, tmp_path)
        sent = poisoned(60, 37)
        asyncio.run(append(settings, sent))
        assert start_until_it_lives(settings, dies_at_poison) > 4
        check(harness, server, settings, sent)


def test_a_record_that_kills_the_collector_mid_batch_leaves_no_duplicate(tmp_path, monkeypatch):
    harness = ParquetHarness()
    harness.hurry(monkeypatch)
    with harness.server() as server:
        settings = harness.settings(server, tmp_path)
        sent = poisoned(60, 37)
        asyncio.run(append(settings, sent))
        start_until_it_lives(settings, dies_between_two_files)
        check(harness, server, settings, sent)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_small_batch_with_a_fatal_record_is_split_too(number, tmp_path, monkeypatch):
    harness = ParquetHarness()
    harness.hurry(monkeypatch)
    with harness.server() as server:
        settings = harness.settings(server, tmp_path)
        (poison,) = filter(is_poison, poisoned(3, 1))
        sent = [*list(stream(number))[: number - 1], poison]
        asyncio.run(append(settings, sent))
        assert 2 <= start_until_it_lives(settings, dies_at_poison) < 6
        check(harness, server, settings, sent)
