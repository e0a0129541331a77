"""What a fleet has on its engine, before anything is changed there."""

from launcher import ownership
from launcher.engines import EngineError
from launcher.engines.docker import DockerEngine
from launcher.ownership import Holding
from launcher.spec import FleetSpec


def held(engine: DockerEngine, fleet: FleetSpec, *, adopt: bool = False) -> tuple[FleetSpec, Holding]:
    """Return the fleet with the volumes that it has on the engine, and its containers there.

    Only reads. Raises EngineError where the fleet, or one of its volumes, is another's; with ``adopt`` it is
    ours from now on.
    """
    holding = ownership.of_fleet(fleet, engine.observe(fleet.name), adopt=adopt)
    # What a node elsewhere has, nobody here can see.
    there = [] if engine.elsewhere(fleet.name) else engine.named_volumes(ownership.volume_names(fleet))
    settled, faults = ownership.settle_volumes(fleet, there, holding.ours, adopt=adopt)
    if faults:
        told = f" {faults[0]}" if len(faults) == 1 else "".join(f"\n  {each}" for each in faults)
        raise EngineError(f"nothing was touched:{told}")
    return settled, holding
