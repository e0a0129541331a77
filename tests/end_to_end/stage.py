"""The real image, a real Redis and a simulated exchange in containers, gone after the test."""

import contextlib
import json
import subprocess
import urllib.request
from pathlib import Path

import redis
from conformance import RedisHarness
from engines import LABEL, unique
from simulated import Control
from waiting import wait_until

ROOT = Path(__file__).parents[2]
REDIS_FOLDER = Path(__file__).with_name("redis_image")
SERVERS_FOLDER = Path(__file__).with_name("servers_image")
HOSTS = (
    "api.coinbase.com", "advanced-trade-ws.coinbase.com", "api.kraken.com", "ws.kraken.com",
    "api.binance.com", "stream.binance.com",
)  # fmt: skip


def docker(*arguments, check=True, **options):
    """What a docker command prints."""
    done = subprocess.run(["docker", *arguments], capture_output=True, check=False, timeout=600, **options)
    if check and done.returncode:
        raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr.decode()}")
    return done.stdout.decode().strip()


def inspect(name):
    return json.loads(docker("inspect", name))[0]


class Stage:
    """A network with a Redis on it, named ``redis``; everything made through it goes in the end."""

    def __init__(self, redis_image, *network):
        self.name = unique("stage")
        docker("network", "create", "--label", LABEL, *network, self.name)
        self.redis = self.run(
            "redis", redis_image, "--publish", "127.0.0.1::6379", "--network-alias", "redis"
        )
        self.port = int(docker("port", self.redis, "6379/tcp").rpartition(":")[2])
        wait_until(self._answers)

    def run(self, name, image, *options, command=()):
        """Starts a container on the network; its full name."""
        full = f"{self.name}-{name}"
        where = ("--detach", "--name", full, "--network", self.name, "--label", LABEL)
        docker("run", *where, *options, image, *command)
        return full

    def simulator(self, image, *options):
        """Starts the simulated exchanges under their own host names; their control API."""
        aliases = [part for host in HOSTS for part in ("--network-alias", host)]
        name = self.run(
            "simulator", image, *aliases, "--publish", "127.0.0.1::8000", "--entrypoint", "python",
            "--volume", f"{self.name}-simulator:/simulator",
            command=(
                "-m", "collector.simulator", "--listen", "0.0.0.0", "--port", "443", "--port", "9443",
                "--ca", "/simulator/ca.pem", "--control-listen", "0.0.0.0", "--control-port", "8000",
                *options,
            ),
        )  # fmt: skip
        control = Control(f"http://{docker('port', name, '8000/tcp')}")
        wait_until(lambda: _status(control))
        return control

    def client(self, **options):
        return redis.Redis(port=self.port, **options)

    def stored(self, backend="REDISSTREAM"):
        return RedisHarness(backend).stored(self)

    def _answers(self):
        with contextlib.suppress(redis.ConnectionError), self.client() as client:
            return client.ping()

    def remove(self):
        names = docker("ps", "--all", "--quiet", "--filter", f"name=^{self.name}-").split()
        if names:
            docker("rm", "--force", "--volumes", *names)
        docker("network", "rm", self.name, check=False)
        for volume in docker("volume", "ls", "--quiet").split():
            if volume.startswith(f"{self.name}-"):
                docker("volume", "rm", volume, check=False)


def _status(control):
    with contextlib.suppress(OSError, urllib.error.URLError):
        return control.status()
