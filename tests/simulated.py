"""The simulator as tests use it: a process of its own, with a proxy, a log, and faults on demand.

    with Simulator(rate=50) as simulator:
        subprocess.run([...], env=simulator.environment | {...})
        simulator.fault("reset", exchange="KRAKEN")
        simulator.pause()
        sent = simulator.records(exchange="KRAKEN", channel="trades")

Every call blocks; in an asyncio test whose own loop talks to the simulator, use
``await asyncio.to_thread(...)``.
"""

import json
import multiprocessing
import os
import ssl
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import pytest
from waiting import PATIENCE

from collector.simulator import cli

#: Some hundred simulators are started: each is forked from a process that has imported it already.
_FORK_SERVER = multiprocessing.get_context("forkserver")
_FORK_SERVER.set_forkserver_preload([cli.__name__])


def _simulate(arguments: Sequence[str], stdout: Connection, stderr: Path) -> None:
    """Be ``python -m collector.simulator`` from here on."""
    os.dup2(stdout.fileno(), sys.stdout.fileno())
    with stderr.open("w") as errors:
        os.dup2(errors.fileno(), sys.stderr.fileno())
    stdout.close()
    sys.exit(cli.main(arguments))


class Control:
    """A simulator's control API at ``control``, wherever it runs."""

    def __init__(self, control: str = "") -> None:
        self.control = control
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def log(self) -> list[dict[str, Any]]:
        """Everything that was logged: records and events, in order."""
        return [*map(json.loads, self.lines())]

    def lines(self) -> list[bytes]:
        """The log as it is; to decode all of a long one takes a while."""
        return self._call("GET", "/log").splitlines()

    def records(
        self, exchange: str | None = None, channel: str | None = None, symbol: str | None = None
    ) -> list[dict[str, Any]]:
        """The records that were written."""
        wanted = {"exchange": exchange, "channel": channel, "symbol": symbol}
        wanted = {key: value for key, value in wanted.items() if value is not None}
        return [
            entry
            for entry in self.log()
            if "sequence" in entry and all(entry[key] == value for key, value in wanted.items())
        ]

    def status(self) -> dict[str, Any]:
        return json.loads(self._call("GET", "/status"))

    def pause(self) -> dict[str, Any]:
        """Stand still; then nothing more is written, until ``resume`` or a new subscription's snapshot."""
        return json.loads(self._call("POST", "/pause"))

    def resume(self) -> None:
        self._call("POST", "/resume")

    def fault(self, fault: str, **fields: object) -> dict[str, Any]:
        """Ask for a fault; ``python -m collector.simulator --help`` has all of them."""
        return json.loads(self._call("POST", "/faults", {"fault": fault} | fields))

    def listing(self, exchange: str, *, enlist: Sequence[str] = (), delist: Sequence[str] = ()) -> list[str]:
        """Change what an exchange lists; all that it lists now."""
        change = {"exchange": exchange, "list": [*enlist], "delist": [*delist]}
        return json.loads(self._call("POST", "/listing", change))["listed"]

    def clear_faults(self) -> None:
        self._call("DELETE", "/faults")

    def _call(self, method: str, path: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.control + path, data, method=method)
        try:
            with self._direct.open(request, timeout=PATIENCE) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise ValueError(f"{method} {path}: {error.code} {error.read().decode()}") from None


class Simulator(Control):
    """Runs ``python -m collector.simulator``; ``options`` are its command line's, as in ``symbols`` below.

    ``Simulator(seed=3, rate=100, messages=50, symbols={"KRAKEN": ["BTC-USD"]})``
    """

    def __init__(
        self,
        symbols: dict[str, list[str]] | None = None,
        ports: list[int] | None = None,
        aliases: dict[str, str] | None = None,
        **options: object,
    ) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(prefix="simulator-")
        self.ca = Path(self._directory.name) / "ca.pem"
        arguments: dict[str, object] = {"proxy-port": 0, "ca": self.ca} | {
            name.replace("_", "-"): value for name, value in options.items()
        }
        self._arguments = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
        for exchange, names in (symbols or {}).items():
            self._arguments += ["--symbols", f"{exchange}={','.join(names)}"]
        for port in ports or []:
            self._arguments += ["--port", str(port)]
        for host, exchange in (aliases or {}).items():
            self._arguments += ["--alias", f"{host}={exchange}"]

    def __enter__(self) -> Self:
        self.errors = Path(self._directory.name) / "stderr"
        said, stdout = _FORK_SERVER.Pipe(duplex=False)
        self.process = _FORK_SERVER.Process(target=_simulate, args=(self._arguments, stdout, self.errors))
        self.process.start()
        stdout.close()
        with open(said.fileno(), closefd=False) as lines:
            line = lines.readline()
        said.close()
        if not line:
            self.process.join(PATIENCE)
            raise RuntimeError(f"the simulator did not start: {self.errors.read_text()}")
        ready = json.loads(line)
        self.ports: list[int] = ready["ports"]
        self.proxy: str = ready["proxy"]
        self.control = ready["control"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self._directory.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """What leads a collector to the simulator, and lets it trust it."""
        return {
            "HTTPS_PROXY": self.proxy,
            "https_proxy": self.proxy,
            "SSL_CERT_FILE": str(self.ca),
            "REQUESTS_CA_BUNDLE": str(self.ca),
        }

    def lead_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lead clients in this very process here, cryptofeed's among them.

        aiohttp reads its authorities when it is imported, which is too early for ``SSL_CERT_FILE``.
        """
        for name, value in self.environment.items():
            monkeypatch.setenv(name, value)
        context = ssl.create_default_context(cafile=self.ca)
        monkeypatch.setattr(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", context)

    def stop(self) -> int:
        """End it cleanly; the exit status."""
        self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise TimeoutError(f"the simulator did not end within {PATIENCE} s")
        return self.process.exitcode
