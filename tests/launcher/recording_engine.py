"""Stands in front of the engine's socket and writes down every request that goes to it."""

import contextlib
import re
import socket
import threading

ENGINE = "/var/run/docker.sock"
_REQUEST = re.compile(rb"^(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1\r$", re.MULTILINE)


@contextlib.contextmanager
def recording(path):
    """Listens at ``path``; the list of (method, target) so far."""
    requests = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        threading.Thread(target=_accept, args=(listening, requests), daemon=True).start()
        yield requests


def _accept(listening, requests):
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(ENGINE)
            threading.Thread(target=_pass_on, args=(client, engine, requests), daemon=True).start()
            threading.Thread(target=_pass_on, args=(engine, client, []), daemon=True).start()


def _pass_on(source, target, requests):
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            requests += [(method.decode(), url.decode()) for method, url in _REQUEST.findall(data)]
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
