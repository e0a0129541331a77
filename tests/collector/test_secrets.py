"""Canaries: no password is in what a collector writes, whatever goes wrong."""

from pathlib import Path

import pytest
from collectors import Collector
from servers import MongoServer, PostgresServer, RedisServer, free_port

CANARY = "ca%2Fnary"
WHAT = {
    "EXCHANGE": "COINBASE",
    "SYMBOLS": "BTC-USD",
    "CHANNELS": "trades",
    "LOG_LEVEL": "DEBUG",
    "HTTPS_PROXY": "http://proxy:ca%2Fnary@127.0.0.1:1",  # so the exchange is away
}
SERVERS = {
    "REDIS": (
        lambda: RedisServer(password="right", tls=True),
        "rediss://:{canary}@{place}?ssl_ca_certs={ca}",
    ),
    "POSTGRES": (PostgresServer, "postgresql://cryptostore:{canary}@{place}/postgres"),
    "MONGO": (
        lambda: MongoServer(password="right"),
        "mongodb://cryptostore:{canary}@{place}/market?serverSelectionTimeoutMS=1000",
    ),
}


def written(folder, url, backend, state, form):
    """All that a collector writes until its store is in a state: its output, its files, its command line."""
    with Collector(folder, **WHAT, URL=url, BACKEND=backend, LOG_FORMAT=form) as collector:
        collector.wait_until(lambda status: status.store.state == state)
        shown = Path(f"/proc/{collector.process.pid}/cmdline").read_bytes()
        assert collector.stop() == 0
    return shown + b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("backend", SERVERS)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_wrong_password_is_reported_and_not_shown(backend, form, tmp_path):
    make, template = SERVERS[backend]
    with make() as server:
        ca = server.ca if backend == "REDIS" else ""
        url = template.format(canary=CANARY, place=f"{server.host}:{server.port}", ca=ca)
        text = written(tmp_path, url, backend, "refused", form)
    assert str(server.port).encode() in text
    assert b"nary" not in text


@pytest.mark.parametrize("backend", SERVERS)
def test_the_password_of_an_unreachable_store_is_not_shown(backend, tmp_path):
    port = free_port()
    url = SERVERS[backend][1].format(canary=CANARY, place=f"127.0.0.1:{port}", ca="/dev/null")
    text = written(tmp_path, url, backend, "away", "text")
    assert str(port).encode() in text
    assert b"nary" not in text
