"""The Docker SDK over any transport. Importing it takes longer than most requests to the engine."""

import socket
from collections.abc import Callable
from typing import Any, override

import docker
import requests
import urllib3.connection
from docker.transport.basehttpadapter import BaseHTTPAdapter

type Dial = Callable[[float], socket.socket]


def client(dial: Dial, version: str, timeout: float, connections: int) -> docker.APIClient:
    """Return the SDK's low-level API; up to ``connections`` connections stay open between requests."""
    made = docker.APIClient("unix://", version=version, timeout=int(timeout))
    made.mount("http+docker://", _Adapter(dial, timeout, connections))
    return made


class _Adapter(BaseHTTPAdapter):
    """Like the SDK's own for Unix sockets, with all requests over the same connections."""

    def __init__(self, dial: Dial, timeout: float, connections: int) -> None:
        self._pool = _Pool(dial, timeout, connections)
        super().__init__()

    def get_connection(self, *_: Any) -> urllib3.HTTPConnectionPool:
        return self._pool

    def request_url(self, request: requests.PreparedRequest, _: Any) -> str:
        return request.path_url

    def close(self) -> None:
        self._pool.close()
        super().close()


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(self, dial: Dial, timeout: float, connections: int) -> None:
        super().__init__("localhost", timeout=timeout, maxsize=connections)
        self._dial, self._seconds = dial, timeout

    @override
    def _new_conn(self) -> urllib3.connection.HTTPConnection:
        return _Connection(self._dial, self._seconds)


class _Connection(urllib3.connection.HTTPConnection):
    def __init__(self, dial: Dial, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._dial, self._seconds = dial, timeout

    @override
    def connect(self) -> None:
        self.sock = self._dial(self._seconds)
