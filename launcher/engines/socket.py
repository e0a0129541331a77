"""Requests that only read, over the engine's own socket: importing the SDK takes longer than asking all."""

import http.client
import json
import socket
import threading
from typing import override
from urllib.parse import urlencode


class ApiError(OSError):
    """The engine's answer is an error; ``explanation`` is its own."""

    def __init__(self, status_code: int, explanation: str) -> None:
        super().__init__(explanation)
        self.status_code = status_code
        self.explanation = explanation


class SocketReader:
    """GET requests on a Unix socket, over one connection for each thread."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._threads = threading.local()

    def get(self, target: str, **query: str) -> bytes:
        """The answer's body. Raises ApiError, or OSError where there is no answer."""
        target = f"{target}?{urlencode(query)}" if query else target
        for again in (True, False):
            connection = self._connection()
            try:
                connection.request("GET", target)
                answer = connection.getresponse()
                body = answer.read()
            except (http.client.HTTPException, ConnectionError) as error:
                connection.close()  # one that was kept open may have been closed by the engine
                if not again:
                    raise ConnectionError(str(error) or type(error).__name__) from error
            else:
                break
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(answer.status, _explanation(body))
        return body

    def _connection(self) -> "_UnixConnection":
        if not hasattr(self._threads, "connection"):
            self._threads.connection = _UnixConnection(self._path, self._timeout)
        made: _UnixConnection = self._threads.connection
        return made


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    @override
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


def _explanation(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text
