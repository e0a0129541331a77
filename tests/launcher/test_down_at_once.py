"""`down` of a large fleet: how many containers are stopped at a time."""

import threading

from collector.health import Leftover
from launcher import cli
from launcher.engines import Observed, chosen

MANY = 40


class Engine:
    """Containers that end only when all of them have been asked to."""

    connections = 256

    def __init__(self):
        self.there = [
            Observed(
                id=f"{number}", name=f"desk-c{number}", fleet="desk", collector=f"c{number}", config_hash="",
                manager="launcher", image="image", state="running", health="healthy", created=0,
            )
            for number in range(MANY)
        ]  # fmt: skip
        self.all_asked = threading.Barrier(MANY)

    def observe(self, _):
        return [*self.there]

    def stop(self, _):
        self.all_asked.wait(timeout=10)

    def remove(self, container):
        self.there = [each for each in self.there if each.id != container]

    def has_image(self, _):
        return False  # so nothing is locked

    def leftover(self, *_):
        return Leftover()

    def networks(self, _):
        return []

    def volumes(self, _):
        return []

    def elsewhere(self, _):
        return ""


def test_no_collector_waits_for_another_to_stop(monkeypatch, capsys):
    monkeypatch.setattr(chosen, "connect_by_name", lambda *_: Engine())
    assert cli.main(["down", "--fleet", "desk", "--yes"]) == 0
    assert capsys.readouterr().out == f"fleet desk: {MANY} removed\n"
