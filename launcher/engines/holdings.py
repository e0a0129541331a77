"""What a fleet has on its engine before anything is changed there."""

from launcher import ownership
from launcher.engines.docker import DockerEngine
from launcher.ownership import Holding, Purpose, VolumeFault
from launcher.spec import FleetSpec


def held(
    engine: DockerEngine, fleet: FleetSpec, *, purpose: Purpose = Purpose.MAKE, adopt: bool = False
) -> tuple[FleetSpec, Holding, tuple[VolumeFault, ...]]:
    """Return the fleet with the volumes that it has on the engine, its containers, and others' volumes.

    Only reads. Raises EngineError if the fleet is somebody else's; with ``adopt`` it becomes ours.
    """
    holding = ownership.of_fleet(fleet, engine.observe(fleet.name), purpose=purpose, adopt=adopt)
    # Volumes on another node cannot be seen from here.
    there = [] if engine.elsewhere(fleet.name) else engine.named_volumes(ownership.volume_names(fleet))
    settled, faults = ownership.settle_volumes(fleet, there, holding.ours, adopt=adopt)
    return settled, holding, faults
