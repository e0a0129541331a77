"""A store that hangs does not keep a collector from ending."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from servers import MongoServer, PostgresServer, RedisServer

WHAT = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "NAME": "collector"}
AWAY = {"HTTPS_PROXY": "http://127.0.0.1:1"}  # the exchange has no part in this
SERVERS = {"REDIS": RedisServer, "POSTGRES": PostgresServer, "MONGO": MongoServer}


@pytest.mark.parametrize("backend", SERVERS)
def test_it_ends_within_the_time_that_docker_gives(backend, tmp_path):
    with SERVERS[backend]() as server:
        given = {"BACKEND": backend, "URL": server.url, "SPOOL_DIR": str(tmp_path)}
        given |= {"DATABASE": "market"} if backend == "MONGO" else {}
        process = subprocess.Popen([sys.executable, "-m", "collector"], env=os.environ | WHAT | AWAY | given)
        try:
            status, deadline = tmp_path / "collector" / "status.json", time.monotonic() + 40
            while not (status.exists() and json.loads(status.read_text())["store"]["state"] == "connected"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            server.pause()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
            server.resume()
        finally:
            process.kill()
