"""The commands that show what was stored: each is tried on a real server."""

import shlex
import subprocess

import pytest
from servers import RedisServer

from launcher import reading

ABOUT = {"EXCHANGE": "KRAKEN", "CHANNELS": "trades", "SYMBOLS": "*-EUR,BTC-USD", "NAME": "test"}


@pytest.mark.redis
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("by_url", [False, True], ids=["parts", "url"])
def test_the_printed_command_reads_what_is_stored(by_url, tls):
    with RedisServer(password="canary", tls=tls) as server:
        with server.client() as client:
            client.xadd("trades-KRAKEN-BTC-USD", {"price": "1.50"})
        place = {"HOST": server.host, "PORT": str(server.port), "PASSWORD": "canary"}
        if by_url or tls:
            place = {"URL": f"{server.url}?ssl_ca_certs={server.ca}" if tls else server.url}
        environment = ABOUT | place | {"BACKEND": "REDISSTREAM"}
        assert reading.where(environment) == f"REDISSTREAM at {server.host}:{server.port}"
        line = reading.command(environment, ["trades"])
        assert "canary" not in line
        words = [word for word in shlex.split(line) if word != "--askpass"]
        done = subprocess.run(
            words, env={"REDISCLI_AUTH": "canary", "PATH": "/usr/bin:/bin:/usr/local/bin"},
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "1.50" in done.stdout


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("redis://127.0.0.1:1/3", "redis-cli -h 127.0.0.1 -p 1 -n 3 ZREVRANGE"),
        ("unix:///run/redis.sock", "redis-cli -s /run/redis.sock ZREVRANGE"),
        ("rediss://me:secret@redis", "redis-cli -h redis -p 6379 --tls --user me --askpass ZREVRANGE"),
        ("redis+sentinel://one,two/service/0", None),
    ],
)
def test_the_printed_command_follows_the_url(url, line):
    told = reading.command(ABOUT | {"BACKEND": "REDIS", "URL": url}, ["trades"])
    assert told == (line and f"{line} trades-KRAKEN-BTC-USD 0 2")


def test_no_command_is_printed_for_patterns_alone():
    environment = ABOUT | {"BACKEND": "REDIS", "SYMBOLS": "ALL", "HOST": "redis"}
    assert reading.command(environment, ["trades"]) is None
