"""What goes wrong on the way to a server is said in the system's words, not in a library's."""

import errno
import socket
import ssl

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from collector.stores.network_errors import in_words

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")
OF_TWO_ADDRESSES = (
    "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), [Errno 111] Connect call failed"
    " ('127.0.0.1', 1)"
)


def wrapped(error):
    """Return a library's error, raised while that of the system is handled."""
    try:
        try:
            raise error
        except OSError as met:
            raise RedisConnectionError(f"Error {met.errno} connecting to localhost:1. {met.strerror}.")  # noqa: B904
    except RedisConnectionError as found:
        return found


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (REFUSED, "Connection refused"),
        (wrapped(REFUSED), "Connection refused"),
        (wrapped(socket.gaierror(-2, "Name or service not known")), "Name or service not known"),
        (OSError(OF_TWO_ADDRESSES), "Connection refused"),
        (
            OSError("Multiple exceptions: [Errno 101] no, [Errno 111] no"),
            "Network is unreachable, Connection refused",
        ),
        (TimeoutError(), "TimeoutError"),
        (RedisConnectionError("Connection closed by server."), "Connection closed by server."),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "WRONG_VERSION_NUMBER"),
    ],
)
def test_each_network_error_has_its_words(error, words):
    assert words in in_words(error)
    assert "Errno" not in in_words(error) or isinstance(error, ssl.SSLError)
