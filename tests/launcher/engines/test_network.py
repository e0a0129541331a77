"""Networks that the engine does not let go."""

import json
from types import SimpleNamespace

import docker.errors
import pytest
import requests

from launcher.engines import EngineError
from launcher.engines import docker as engines


class Engine(engines.DockerEngine):
    """Refuses to remove a network, and shows these containers on it."""

    def __init__(self, *shown):
        super().__init__(SimpleNamespace(dial=None, connections=1), 1)
        self.containers = [*shown]  # at each look; the last for good
        self.tries = 0
        self.__dict__["_api"] = self

    def remove_network(self, _):
        self.tries += 1
        response = requests.Response()
        response.status_code = 403
        raise docker.errors.APIError("network desk id 0 has active endpoints", response)

    def _get(self, *_, **__):
        shown = self.containers.pop(0) if len(self.containers) > 1 else self.containers[0]
        return json.dumps({"Containers": {name: {"Name": name} for name in shown}}).encode()


@pytest.fixture
def clock(monkeypatch):
    """Seconds that were slept."""
    slept = []
    monkeypatch.setattr(engines.time, "sleep", slept.append)
    monkeypatch.setattr(engines.time, "monotonic", lambda: sum(slept))
    return slept


def test_a_network_that_the_engine_miscounts_is_not_waited_for(clock):
    with pytest.raises(EngineError, match="network desk cannot be removed: the engine has lost count"):
        Engine(["desk-one"], []).drop_network("desk")
    assert sum(clock) < 2


def test_containers_on_a_network_are_waited_for_and_named(clock):
    with pytest.raises(EngineError, match="network desk cannot be removed: other, some on it"):
        Engine(["some", "other"]).drop_network("desk")
    assert 5 < sum(clock) < 6
