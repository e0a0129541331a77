"""What the engine's answers mean where they are not whole."""

import io
import json
import tarfile

from launcher.engines import Change, containers, endpoint
from launcher.engines.docker import DockerEngine

STATUS = {
    "version": 1,
    "name": "one",
    "exchange": "KRAKEN",
    "started": 1.0,
    "time": 2.0,
    "state": "ready",
    "detail": "1 subscription, store connected",
    "store": {"backend": "REDIS", "state": "connected", "since": 1.0, "error": None},
    "connections": [],
    "subscriptions": {"confirmed": 1, "pending": [], "refused": {}},
    "channels": {},
    "spool": {"records": 0, "bytes": 0, "dropped": 0},
    "last_received": None,
    "last_stored": None,
}


class Replacing(DockerEngine):
    """An engine whose container replaces its status while the first of ``archives`` are made."""

    def __init__(self, *archives):
        super().__init__(endpoint.transport(), 1)
        self._archives = list(archives)

    def _get(self, target, **query):
        assert (target, query) == ("/containers/id/archive", {"path": "/spool/one/status.json"})
        return self._archives.pop(0)


def _archive(text):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("status.json")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return buffer.getvalue()


def test_a_status_that_is_replaced_while_it_is_read_is_read_again():
    text = json.dumps(STATUS).encode()
    shorter = _archive(text)[:900]  # seen on an engine: the tar ends where the new file did
    longer = _archive(text[:-9])  # and: as many bytes as the old file had
    status = Replacing(shorter, longer, shorter, _archive(text)).status("id", "one")
    assert status
    assert status.state == "ready"


def test_a_status_of_another_version_is_ignored():
    assert Replacing(*[_archive(b'{"version": 2}')] * 9).status("id", "one") is None


def test_whatever_a_label_says_of_secrets_is_a_change():
    """Somebody else may have written it."""
    found = {*containers._secret_changes("password,ca.pem=one=two", "password=seal")}
    assert found == {
        Change(key="secret password", old="***", new="***"),
        Change(key="secret ca.pem", old="***", new=None),
    }
