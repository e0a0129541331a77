"""Requests to an engine. Importing the Docker SDK takes longer than making most of them."""

import contextlib
import http.client
import json
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, override
from urllib.parse import quote, urlencode

_UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}

type Body = Mapping[str, Any] | bytes | None


class ApiError(OSError):
    """The engine's answer is an error; ``explanation`` is the engine's own."""

    def __init__(self, status_code: int, explanation: str) -> None:
        super().__init__(explanation)
        self.status_code = status_code
        self.explanation = explanation


class Requests:
    """Requests over connections made by ``dial``, which are kept and shared by all threads.

    Every method raises ApiError, or OSError if there is no answer.
    """

    def __init__(self, dial: Callable[[float], socket.socket], timeout: float) -> None:
        self._dial = dial
        self._timeout = timeout
        self._free: deque[_Connection] = deque()

    def get(self, target: str, **query: str) -> bytes:
        """Return what is there."""
        target = _with_query(target, query)
        with self._connection() as connection:
            try:
                return connection.ask("GET", target)
            except (ConnectionError, ssl.SSLError):
                if not connection.kept:
                    raise
            return connection.ask("GET", target)  # the engine had closed the connection meanwhile

    def change(
        self, method: str, target: str, body: Body = None, timeout: float | None = None, **query: str
    ) -> bytes:
        """Change something, and return what the engine says to it.

        The body is written as JSON, unless it is a tar file. Nothing is asked twice: where there is no
        answer, it may have been done.
        """
        with self._connection() as connection:
            return connection.ask(method, _with_query(target, query), body, timeout)

    def upgrade(self, target: str, **query: str) -> socket.socket:
        """Return a connection that carries something else than requests from now on."""
        connection = _Connection(self._dial, self._timeout)
        connection.ask("POST", _with_query(target, query), headers=_UPGRADE)
        return connection.sock

    @contextlib.contextmanager
    def _connection(self) -> Iterator["_Connection"]:
        try:
            connection = self._free.pop()
        except IndexError:
            connection = _Connection(self._dial, self._timeout)
        try:
            yield connection
        finally:
            self._free.append(connection)


class _Connection(http.client.HTTPConnection):
    """``kept`` says whether it was open before the last request."""

    def __init__(self, dial: Callable[[float], socket.socket], timeout: float) -> None:
        super().__init__("localhost")
        self._dial, self._seconds = dial, timeout
        self.kept = False

    @override
    def connect(self) -> None:
        self.sock = self._dial(self._seconds)

    def ask(
        self,
        method: str,
        target: str,
        body: Body = None,
        timeout: float | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        self._open()
        self.sock.settimeout(timeout or self._seconds)
        if isinstance(body, Mapping):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        try:
            self.request(method, target, body, headers)
            answer = self.getresponse()
            said = answer.read()
        except http.client.HTTPException as error:
            self.close()
            raise ConnectionError(str(error) or type(error).__name__) from error
        except OSError:
            self.close()
            raise
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise ApiError(answer.status, _explanation(said))
        return said

    def _open(self) -> None:
        """Connect, unless it is connected. The engine may have closed a connection that was not used."""
        if self.sock and _is_readable(self.sock):
            self.close()
        self.kept = self.sock is not None
        if not self.kept:
            self.connect()


def _is_readable(connection: socket.socket) -> bool:
    """Return whether there is something to read, if only the end."""
    looking = select.poll()
    looking.register(connection, select.POLLIN)
    return bool(looking.poll(0))


def _with_query(target: str, query: Mapping[str, str]) -> str:
    target = quote(target, safe="/:@")
    return f"{target}?{urlencode(query)}" if query else target


def _explanation(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text
