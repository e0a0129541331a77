"""Requests over connections that an engine closes."""

import socket
import threading

import pytest

from launcher.engines.socket import ApiError, Requests

DONE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
REFUSED = b'HTTP/1.1 409 Conflict\r\nContent-Length: 20\r\n\r\n{"message": "taken"}'


class Engine:
    """Gives these answers, of each connection one after the other, and then closes that."""

    def __init__(self, *connections):
        self.connections = [*connections]
        self.asked = []
        self.closed = threading.Semaphore(0)

    def dial(self, _):
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._answer, args=(theirs, self.connections.pop(0)), daemon=True).start()
        return ours

    def _answer(self, theirs, answers):
        with theirs, theirs.makefile("rb") as asked:
            for answer in answers:
                head = [*iter(asked.readline, b"\r\n")]
                lengths = [line for line in head if line.startswith(b"Content-Length: ")]
                asked.read(sum(int(line.split()[1]) for line in lengths))
                self.asked.append(head[0].decode().removesuffix(" HTTP/1.1\r\n"))
                theirs.sendall(answer)
        self.closed.release()


def test_one_connection_serves_many_requests():
    engine = Engine([DONE, DONE, DONE])
    requests = Requests(engine.dial, 5)
    assert requests.get("/info") == b"{}"
    requests.change("POST", "/containers/one/stop", t="5")
    requests.change("DELETE", "/networks/a b")
    assert engine.asked == ["GET /info", "POST /containers/one/stop?t=5", "DELETE /networks/a%20b"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_was_closed_meanwhile_is_made_anew(method):
    engine = Engine([DONE], [DONE])
    requests = Requests(engine.dial, 5)
    requests.get("/info")
    engine.closed.acquire()
    assert (requests.get("/it") if method == "GET" else requests.change(method, "/it")) == b"{}"
    assert engine.asked == ["GET /info", f"{method} /it"]


def test_what_changes_something_is_never_asked_twice():
    """Without an answer it may have been done."""
    engine = Engine([DONE, b""], [DONE])
    requests = Requests(engine.dial, 5)
    requests.get("/info")
    with pytest.raises(ConnectionError):
        requests.change("POST", "/containers/create", {"Image": "cryptostore"})
    assert engine.asked == ["GET /info", "POST /containers/create"]
    assert requests.get("/info") == b"{}"


def test_what_only_reads_is_asked_again():
    engine = Engine([DONE, b""], [DONE])
    requests = Requests(engine.dial, 5)
    assert [requests.get("/info"), requests.get("/it")] == [b"{}", b"{}"]
    assert engine.asked == ["GET /info", "GET /it", "GET /it"]


def test_an_error_is_the_engines_own_words():
    with pytest.raises(ApiError, match=r"^taken$") as raised:
        Requests(Engine([REFUSED]).dial, 5).change("POST", "/containers/create", {})
    assert raised.value.status_code == 409
