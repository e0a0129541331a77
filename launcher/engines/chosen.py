"""The engine that a fleet runs on."""

import contextlib

from launcher.engines import NoManagerError
from launcher.engines.docker import DockerEngine
from launcher.spec import FleetSpec


def connect(fleet: FleetSpec, connections: int) -> DockerEngine:
    """Return the engine that the fleet file asks for."""
    return _swarm(connections) if fleet.engine == "swarm" else DockerEngine.connect(connections)


def connect_by_name(fleet: str, connections: int) -> DockerEngine:
    """Return the engine of a fleet whose file is not at hand: a swarm if that has it, else Docker."""
    with contextlib.suppress(NoManagerError):
        swarm = _swarm(connections)
        if swarm.observe(fleet):
            return swarm
    return DockerEngine.connect(connections)


def _swarm(connections: int) -> DockerEngine:
    from launcher.engines.swarm import SwarmEngine  # noqa: PLC0415 - slow to import; not needed for containers

    return SwarmEngine.connect(connections)
