"""Canaries: no password is in what a collector writes, whatever goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import MongoServer, PostgresServer, RedisServer, free_port

CANARY = "ca%2Fnary"
WHAT = {
    "EXCHANGE": "COINBASE",
    "SYMBOLS": "BTC-USD",
    "CHANNELS": "trades",
    "NAME": "collector",
    "LOG_LEVEL": "DEBUG",
    "HTTPS_PROXY": "http://proxy:ca%2Fnary@127.0.0.1:1",  # so the exchange is away
}
SERVERS = {
    "REDIS": (
        lambda: RedisServer(password="right", tls=True),
        "rediss://:{canary}@{place}?ssl_ca_certs={ca}",
    ),
    "POSTGRES": (PostgresServer, "postgresql://cryptostore:{canary}@{place}/postgres"),
    "MONGO": (lambda: MongoServer(password="right"), "mongodb://cryptostore:{canary}@{place}/market"),
}


def written(folder, url, backend, state, form):
    """All that a collector writes until its store is in a state: its output, its files, its command line."""
    given = {"URL": url, "BACKEND": backend, "SPOOL_DIR": str(folder), "LOG_FORMAT": form}
    process = subprocess.Popen(
        [sys.executable, "-m", "collector"],
        env=os.environ | WHAT | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    status, deadline = folder / "collector" / "status.json", time.monotonic() + 40
    try:
        while not (status.exists() and json.loads(status.read_text())["store"]["state"] == state):
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, status.read_text()
            time.sleep(0.05)
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == 0, output
    finally:
        process.kill()
    files = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    return shown + output + b"".join(files)


@pytest.mark.parametrize("backend", SERVERS)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_wrong_password_is_told_and_not_shown(backend, form, tmp_path):
    make, template = SERVERS[backend]
    with make() as server:
        ca = server.ca if backend == "REDIS" else ""
        url = template.format(canary=CANARY, place=f"{server.host}:{server.port}", ca=ca)
        text = written(tmp_path, url, backend, "refused", form)
    assert str(server.port).encode() in text
    assert b"nary" not in text


@pytest.mark.parametrize("backend", SERVERS)
def test_nor_is_that_of_a_store_that_is_away(backend, tmp_path):
    port = free_port()
    url = SERVERS[backend][1].format(canary=CANARY, place=f"127.0.0.1:{port}", ca="/dev/null")
    text = written(tmp_path, url, backend, "away", "text")
    assert str(port).encode() in text
    assert b"nary" not in text
