"""A collector that is started while another has its spool."""

import asyncio
import os
import signal

import pytest
from collectors import Collector
from comparison import compare, gaps_in
from conformance import RedisHarness
from servers import RedisServer
from simulated import Simulator
from waiting import eventually, wait_until

from collector import successor, supervisor
from collector.health import STANDBY_FILE
from collector.settings import Settings
from collector.spool.spool import Spool

WHAT = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades,l2_book", "NAME": "test"}
AWAY = {"HTTPS_PROXY": "http://127.0.0.1:1", "BACKEND": "TTY"}  # neither an exchange nor a store


@pytest.mark.redis
def test_a_successor_is_ready_before_the_other_stops_and_the_time_between_is_a_gap(tmp_path):
    with (
        RedisServer() as redis,
        Simulator(symbols={"KRAKEN": ["BTC-USD"]}, rate=40) as simulator,
        Collector(tmp_path, **WHAT, BACKEND="REDISSTREAM", URL=redis.url, **simulator.environment) as first,
    ):
        first.wait_until_ready()
        with Collector(tmp_path, **first.environment) as second:
            wait_until((second.home / STANDBY_FILE).exists)
            assert not gaps_in(stored(redis))
            simulator.fault("refuse_reference")  # it has asked what the exchange lists
            assert first.stop() == 0
            status = second.wait_until(lambda status: status.state == "ready" and status.unseen is not None)
            assert not (second.home / STANDBY_FILE).exists()
            simulator.pause()
            second.wait_until_quiet()
            records, log = stored(redis), simulator.log()
    gaps = gaps_in(records)
    assert {gap.reason for gap in gaps} == {"stopped"}
    assert max(gap.end for gap in gaps) - max(gap.start for gap in gaps) == pytest.approx(
        status.unseen, abs=1e-6
    )
    comparison = compare(log, records, excuse_cut=False)
    assert comparison.exact, comparison
    assert comparison.matched > 20


async def test_a_successor_gives_up_if_the_other_does_not_stop(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(successor, "PATIENCE", 0.2)
    caplog.set_level("INFO", logger=successor.__name__)
    settings = Settings.read(WHAT | AWAY | {"SPOOL_DIR": str(tmp_path)})
    spool = await Spool.open(settings.home)
    assert await supervisor.collect(settings) == supervisor.DIED
    await spool.close()
    last = caplog.records[-1].message
    assert f"the spool in {settings.home} is in use by process {os.getpid()} on " in last
    assert last.endswith("; if both should run, give them different NAMEs")
    waiting = next(record for record in caplog.records if "waiting up to" in record.message)
    assert waiting.levelname == "INFO"  # every update of a container has this line
    assert not (settings.home / STANDBY_FILE).exists()


async def test_a_signal_ends_a_successors_wait(tmp_path):
    settings = Settings.read(WHAT | AWAY | {"SPOOL_DIR": str(tmp_path)})
    spool = await Spool.open(settings.home)
    collecting = asyncio.create_task(supervisor.collect(settings))
    await eventually((settings.home / STANDBY_FILE).exists, "it stands by", collecting)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await collecting == supervisor.STOPPED
    await spool.close()


def stored(redis):
    return RedisHarness("REDISSTREAM").stored(redis)
