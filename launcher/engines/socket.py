"""Requests that only read: importing the SDK takes longer than making all of them."""

import http.client
import json
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import override
from urllib.parse import urlencode


class ApiError(OSError):
    """The engine's answer is an error; ``explanation`` is the engine's own."""

    def __init__(self, status_code: int, explanation: str) -> None:
        super().__init__(explanation)
        self.status_code = status_code
        self.explanation = explanation


class SocketReader:
    """GET requests over connections made by ``dial``, which are kept and shared by all threads."""

    def __init__(self, dial: Callable[[float], socket.socket], timeout: float) -> None:
        self._dial = dial
        self._timeout = timeout
        self._free: deque[_Connection] = deque()

    def get(self, target: str, **query: str) -> bytes:
        """Return the answer's body. Raises ApiError, or OSError if there is no answer."""
        target = f"{target}?{urlencode(query)}" if query else target
        try:
            connection = self._free.pop()
        except IndexError:
            connection = _Connection(self._dial, self._timeout)
        try:
            try:
                return _ask(connection, target)
            except (ConnectionError, ssl.SSLError):
                if not connection.kept:
                    raise
            return _ask(connection, target)  # the engine had closed the connection meanwhile
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


def _ask(connection: _Connection, target: str) -> bytes:
    connection.kept = connection.sock is not None
    try:
        connection.request("GET", target)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        connection.close()
        raise ConnectionError(str(error) or type(error).__name__) from error
    except OSError:
        connection.close()
        raise
    if answer.status >= http.HTTPStatus.BAD_REQUEST:
        raise ApiError(answer.status, _explanation(body))
    return body


def _explanation(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text
