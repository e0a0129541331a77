"""A store that hangs does not keep a collector from ending."""

import pytest
from collectors import Collector
from servers import MongoServer, PostgresServer, RedisServer

from collector import supervisor
from collector.health import Leftover

WHAT = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades"}
AWAY = {"HTTPS_PROXY": "http://127.0.0.1:1"}  # the exchange has no part in this
SERVERS = {"REDIS": RedisServer, "POSTGRES": PostgresServer, "MONGO": MongoServer}


def test_all_time_limits_of_a_stop_fit_into_dockers():
    graces = [value for name, value in vars(supervisor).items() if name.endswith("_GRACE")]
    assert len(graces) == 5
    assert sum(graces) < 10


@pytest.mark.parametrize("backend", SERVERS)
def test_a_collector_stops_within_dockers_time_limit(backend, tmp_path):
    with SERVERS[backend]() as server:
        given = {"BACKEND": backend, "URL": server.url}
        given |= {"DATABASE": "market"} if backend == "MONGO" else {}
        with Collector(tmp_path, **WHAT, **AWAY, **given) as collector:
            collector.wait_until(lambda status: status.store.state == "connected")
            server.pause()
            collector.process.terminate()
            assert collector.process.wait(25) == 0  # a store that is waited for has 30
            server.resume()


def test_what_is_left_is_told_only_by_the_last_status(tmp_path):
    with Collector(tmp_path, **WHAT, **AWAY, BACKEND="TTY") as collector:
        collector.home.mkdir(parents=True, exist_ok=True)
        (collector.home / "dead-letters.jsonl").write_text("a letter\n")
        alive = collector.wait_until(lambda status: status.store.state == "connected")
        assert alive.leftover is None
        assert collector.stop() == 0
        assert collector.status.leftover == Leftover(records=0, letters=9)
