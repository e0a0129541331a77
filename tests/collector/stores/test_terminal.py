import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from streams import one_of_each, trades
from waiting import PATIENCE, eventually

from collector import lease
from collector.batch import Batch, Position, Refusal
from collector.metrics import Metrics
from collector.settings import Settings
from collector.spool.spool import Spool
from collector.stores import PositionLostError, create
from collector.stores.terminal import _print
from collector.writer import Writer

NAME = "terminal"

_PRINTER = """
import asyncio, os, sys
from streams import stream
from collector.settings import Settings
from collector.spool.spool import Spool
from collector.stores import create
from collector.metrics import Metrics
from collector.writer import Writer

async def main():
    settings = Settings.read(os.environ)
    spool = await Spool.open(settings.home)
    writer = Writer(settings.name, create(settings), spool, Metrics())
    run = asyncio.create_task(writer.run())
    await spool.append(list(stream(int(sys.argv[1]))))
    drained = asyncio.create_task(writer.drain(20))
    await asyncio.wait([run, drained], return_when="FIRST_COMPLETED")
    if run.done():
        print("ended:", run.exception(), file=sys.stderr)
        os._exit(1)
    run.cancel()
    await asyncio.wait([run])
    await spool.close()

asyncio.run(main())
"""


@pytest.fixture
async def spool(tmp_path):
    spool = await Spool.open(tmp_path / "spool")
    yield spool
    await spool.close()


def environment(folder):
    what = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades"}
    return what | {"BACKEND": "TTY", "SPOOL_DIR": str(folder), "NAME": NAME}


def start(folder, count, **options):
    where = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", _PRINTER, str(count)]
    environ = os.environ | environment(folder) | where
    return subprocess.Popen(command, env=environ, text=True, stderr=subprocess.PIPE, **options)


async def commit(store, records, first=0):
    expected = Position("owner", "run", first) if first else None
    return await store.commit(
        NAME, Batch("run", first, records), expected, Position("owner", "run", first + len(records))
    )


async def test_each_record_is_a_json_object_on_a_line(tmp_path, capfd):
    store = create(Settings.read(environment(tmp_path)))
    assert await store.open(NAME) is None
    await commit(store, one_of_each())
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(lines) == len(one_of_each())
    assert lines[1] == {
        "channel": "trades",
        "exchange": "COINBASE",
        "symbol": "BTC-USD",
        "timestamp": 1700000000.123456,
        "receipt_timestamp": 1700000001.654321,
        "side": "sell",
        "amount": "0.00000001",
        "price": "12345678901234567890.123456789012345678",
        "id": None,
        "type": None,
    }
    assert lines[4]["bid"] == [["100.10", "1.50"], ["0.00000001", "0.00000001"]]


async def test_the_position_survives_and_is_checked(tmp_path, capfd):
    store = create(Settings.read(environment(tmp_path)))
    await store.open(NAME)
    await commit(store, list(trades(3)))
    other = create(Settings.read(environment(tmp_path)))
    assert await other.open(NAME) == Position("owner", "run", 3)
    try:
        await commit(other, list(trades(3)), 2)
    except PositionLostError:
        pass
    else:
        raise AssertionError("it took a wrong position")
    assert len(capfd.readouterr().out.splitlines()) == 3


async def test_a_full_disk_does_not_stop_the_output(tmp_path, capfd, caplog):
    store = create(Settings.read(environment(tmp_path)))
    await store.open(NAME)
    aside = tmp_path / NAME / f"printed-{NAME}.new"
    aside.parent.mkdir()
    aside.symlink_to("/dev/full")
    await commit(store, list(trades(3)))
    assert await store.open(NAME) == Position("owner", "run", 3)
    await commit(store, list(trades(2)), 3)
    assert len(capfd.readouterr().out.splitlines()) == 5
    assert caplog.text.count("No space left on device; a restart would print again") == 1
    aside.unlink()
    await commit(store, list(trades(1)), 5)
    assert await create(Settings.read(environment(tmp_path))).open(NAME) == Position("owner", "run", 6)


@pytest.mark.parametrize("damage", ["", "{", '{"owner": 1}'])
def test_printed_records_are_not_printed_again(tmp_path, damage):
    """Nor where the position's file is damaged meanwhile: the spool knows."""
    for _ in range(2):
        printer = start(tmp_path, 500, stdout=subprocess.PIPE)
        out, _err = printer.communicate(timeout=30)
        assert len(out.splitlines()) == 500
        (path,) = tmp_path.rglob(f"printed-{NAME}.json")
        if damage:
            path.write_text(damage)


def test_a_closed_pipe_ends_the_collector_loudly(tmp_path):
    printer = start(tmp_path, 50_000, stdout=subprocess.PIPE)
    printer.stdout.readline()
    printer.stdout.close()
    assert printer.wait(30) == 1
    assert "ended: standard output cannot be written: Broken pipe" in printer.stderr.read()
    printer.stderr.close()


def test_control_characters_are_escaped_for_a_terminal_and_kept_for_a_pipe(monkeypatch):
    line = '{"id":"\x9b2J\u2028"}\n'.encode()
    for make, expected in ((os.openpty, '{"id":"\\u009b2J\\u2028"}'), (os.pipe, line.decode().rstrip("\n"))):
        reading, writing = make()
        with os.fdopen(writing, "w") as stdout:
            monkeypatch.setattr("sys.stdout", stdout)
            _print(line)
            assert os.read(reading, 100).decode().rstrip("\r\n") == expected
        os.close(reading)


async def test_a_refused_record_is_not_printed(tmp_path, capfd):
    """Such as one that has crashed the collector before: it is among the dead letters."""
    store = create(Settings.read(environment(tmp_path)))
    await store.open(NAME)
    first, second, third = trades(3)
    batch = Batch("run", 0, [first, second, third])
    await store.commit(
        NAME, batch.without([Refusal(1, second, "it is odd")]), None, Position("owner", "run", 3)
    )
    printed = [json.loads(line)["id"] for line in capfd.readouterr().out.splitlines()]
    assert printed == [first.id, third.id]


async def test_who_reads_again_after_a_long_pause_is_told_each_line_once(tmp_path, monkeypatch, spool):
    """The writer gives up waiting for an answer meanwhile, more than once."""
    monkeypatch.setattr(lease, "PATIENCE", 0.05)
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stdout, os.fdopen(reading, "rb") as lines:
        monkeypatch.setattr("sys.stdout", stdout)
        writer = Writer(NAME, create(Settings.read(environment(tmp_path))), spool, Metrics())
        sent = list(trades(3000))
        await spool.append(sent)
        running = asyncio.create_task(writer.run())
        await eventually(lambda: writer._failures > 2)
        printed = await asyncio.to_thread(lambda: [json.loads(lines.readline())["id"] for _ in sent])
        await writer.drain(PATIENCE)
        running.cancel()
        await asyncio.wait([running])
    assert printed == [trade.id for trade in sent]
