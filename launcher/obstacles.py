"""Obstacles to a plan on the engine, found by reading alone.

``plan`` and ``doctor`` show them, and ``up`` refuses to begin while there are any, so the three agree.
"""

from collections.abc import Iterable, Iterator

from launcher.console import listed
from launcher.engines import EngineError
from launcher.engines.docker import DockerEngine
from launcher.names import CHECK, COMPOSE, FILLER, NEXT, PREVIOUS
from launcher.plan import Action, Kind, Obstacle, Plan


def find(engine: DockerEngine, plan: Plan) -> list[Obstacle]:
    """Return all obstacles of a plan. Raises EngineError if the engine cannot be asked."""
    making = [action for action in plan.actions if action.makes_container]
    if not making:
        return [*plan.obstacles]
    network = engine.network_fault(plan.fleet)
    return [
        *plan.obstacles,
        *([Obstacle(what="network", detail=network[0], remedy=network[1])] if network else []),
        *_names(engine, plan, making),
        *_images(engine, making),
        *_foreign_images(engine, making),
        *_limits(engine, making),
    ]


def conflicts(plan: Plan) -> Iterator[Obstacle]:
    """Yield containers in the way that have the fleet's label; `plan` shows them as actions."""
    found = {action.container.name: action for action in plan.of(Kind.CONFLICT) if action.container}
    composed = {
        name: action.collector
        for name, action in found.items()
        if action.container and action.container.manager == COMPOSE
    }
    if composed:
        verb, them = ("is", "it") if len(composed) == 1 else ("are", "them")
        yield Obstacle(
            what="name",
            collectors=tuple(composed.values()),
            detail=f"{', '.join(composed)} {verb} managed by compose",
            remedy=f"take {them} down with `docker compose down`, or give the fleet another name",
        )
    for name, action in found.items():
        if name not in composed:
            remedy = "rename or remove it, or give the fleet another name"
            yield Obstacle(what="name", collectors=(action.collector,), detail=action.reason, remedy=remedy)


def refuse(engine: DockerEngine, plan: Plan) -> None:
    """Raise EngineError with all obstacles of a plan, if there are any."""
    found = [str(obstacle) for obstacle in (*find(engine, plan), *conflicts(plan))]
    if found:
        told = f" {found[0]}" if len(found) == 1 else "".join(f"\n  {each}" for each in found)
        raise EngineError(f"nothing was touched:{told}")


def _names(engine: DockerEngine, plan: Plan, making: Iterable[Action]) -> Iterator[Obstacle]:
    """Find names of containers to make that unrelated containers have."""
    wanted = {name: action for action in making for name in _wanted(action)}
    ours = {action.container.id for action in plan.actions if action.container}
    taken = {name: owner[:12] for name, owner in engine.owners(wanted).items() if owner not in ours}
    if len(taken) == 1:
        ((name, owner),) = taken.items()
        detail = f"the name {name} is taken by container {owner}, which is not part of this fleet"
        remedy = (
            "give this fleet (`fleet:`) or the collector (`name:`) another name, or rename that container"
        )
    else:
        told = listed([f"{name} by {owner}" for name, owner in sorted(taken.items())])
        detail = f"{len(taken)} names are taken by containers that are not part of this fleet: {told}"
        remedy = "give this fleet (`fleet:`) another name, or rename those containers"
    if taken:
        collectors = tuple(dict.fromkeys(wanted[name].collector for name in wanted if name in taken))
        yield Obstacle(what="name", collectors=collectors, detail=detail, remedy=remedy)


def _wanted(action: Action) -> list[str]:
    if not action.spec:
        return []
    name = action.spec.container.name
    if action.kind is not Kind.RECREATE:
        return [name, f"{name}{FILLER}"]
    return [f"{name}{suffix}" for suffix in (NEXT, PREVIOUS, CHECK, FILLER)]


def _images(engine: DockerEngine, making: Iterable[Action]) -> Iterator[Obstacle]:
    specs = [action.spec for action in making if action.spec]
    for image in engine.missing_images({spec.container.image for spec in specs}):
        users = [spec for spec in specs if spec.container.image == image]
        ways = [f"`docker pull {image}`"]
        if not any(spec.server for spec in users):
            ways.insert(0, f"`docker build . -t {image}`")
        yield Obstacle(
            what="image",
            collectors=tuple(spec.name for spec in users),
            detail=f"the engine has no image {image}",
            remedy=f"build or pull it: {' or '.join(ways)}",
        )


def _foreign_images(engine: DockerEngine, making: Iterable[Action]) -> Iterator[Obstacle]:
    """Find images that have the name of the collector's but contain another program."""
    specs = [each.spec for each in making if each.spec and not each.spec.server]
    for image in sorted({spec.container.image for spec in specs}):
        if command := engine.other_program(image):
            yield Obstacle(
                what="image",
                collectors=tuple(spec.name for spec in specs if spec.container.image == image),
                detail=f"image {image} is another program's: it starts `{command}`",
                remedy="build the collector's under a name of its own (`docker build . -t NAME`), and set"
                " `image: NAME` in the fleet file",
            )


def _limits(engine: DockerEngine, making: Iterable[Action]) -> Iterator[Obstacle]:
    limited = [
        (action.collector, action.spec.container.cpus)
        for action in making
        if action.spec and action.spec.container.cpus
    ]
    most = engine.processors() if limited else None
    above = [name for name, cpus in limited if most and cpus > most]
    if above:
        wanted = max(cpus for _, cpus in limited)
        yield Obstacle(
            what="limits",
            collectors=tuple(above),
            detail=f"limits.cpus {wanted:g}: the engine's machine has {most} processors",
            remedy=f"lower it to {most} or less",
        )
