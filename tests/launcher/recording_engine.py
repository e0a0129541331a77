"""Stands in front of the engine's socket and writes down every request that goes to it."""

import contextlib
import json
import re
import socket
import threading

from engines import users_engine
from parts import Missing

_REQUEST = re.compile(rb"^(GET|HEAD|POST|PUT|PATCH|DELETE) (\S+) HTTP/1\.1\r$", re.MULTILINE)


_CREATION = re.compile(rb"POST \S*/containers/create\S* HTTP/1\.1\r\n(?:[^\r\n]+\r\n)*\r\n")


class Requests(list):
    """Every (method, target) so far. ``sent`` is all that went to the engine, of each connection."""

    def __init__(self):
        super().__init__()
        self.sent = []

    def creations(self):
        """The bodies of the requests that made containers."""
        decoder = json.JSONDecoder()
        for sent in self.sent:
            for found in _CREATION.finditer(sent):
                yield decoder.raw_decode(sent[found.end() :].decode(errors="replace"))[0]


@contextlib.contextmanager
def recording(path):
    """Listens at ``path``; the requests so far."""
    requests = Requests()
    host = users_engine().host
    if not host.startswith("unix://"):
        raise Missing("a Docker engine of this machine", f"{host} is none", "unset DOCKER_HOST")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        threading.Thread(
            target=_accept, args=(listening, host.removeprefix("unix://"), requests), daemon=True
        ).start()
        yield requests


def _accept(listening, path, requests):
    with contextlib.suppress(OSError):
        while True:
            client, _ = listening.accept()
            engine = socket.socket(socket.AF_UNIX)
            engine.connect(path)
            threading.Thread(target=_pass_on, args=(client, engine, requests), daemon=True).start()
            threading.Thread(target=_pass_on, args=(engine, client, Requests()), daemon=True).start()


def _pass_on(source, target, requests):
    sent = bytearray()
    requests.sent.append(sent)
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sent += data
            requests += [(method.decode(), url.decode()) for method, url in _REQUEST.findall(data)]
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
