"""What has to happen so that a fleet matches its file: specs + what exists -> actions. Pure, no I/O."""

import enum
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from launcher.engines import Change, Observed
from launcher.names import COMPOSE, SIMULATOR
from launcher.selection import matches
from launcher.spec import CollectorSpec, FleetSpec


class Kind(enum.StrEnum):
    """What happens to one collector's container."""

    CREATE = "create"
    UPDATE = "update"  # in place
    RECREATE = "recreate"
    START = "start"
    REMOVE = "remove"
    KEEP = "keep"
    UNCHANGED = "unchanged"
    CONFLICT = "conflict"  # the name is taken by a container that we may not change


#: What a container that matches the file needs, by its state; in any other state (dead) it is replaced.
_STATES = {
    "running": (Kind.UNCHANGED, "matches the file"),
    "restarting": (Kind.UNCHANGED, "matches the file"),
    "created": (Kind.START, "was never started"),
    "exited": (Kind.START, "is stopped"),
    "paused": (Kind.START, "is paused"),
}


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """One step: ``spec`` is what should exist (None: nothing), ``container`` what does (None: nothing).

    ``changes`` are the keys that differ between the two.
    """

    kind: Kind
    collector: str
    reason: str
    spec: CollectorSpec | None = None
    container: Observed | None = None
    changes: tuple[Change, ...] = ()

    @property
    def is_store(self) -> bool:
        """Whether it concerns a managed store."""
        return bool(self.spec.server if self.spec else self.container and self.container.store)

    @property
    def makes_container(self) -> bool:
        """Whether it results in a new container."""
        updates_service = (
            self.kind is Kind.UPDATE and self.container is not None and self.container.is_service
        )
        return self.kind in (Kind.CREATE, Kind.RECREATE) or updates_service


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """Something that has to be changed before ``up`` can begin.

    Attributes:
        what: network, volume, store, name, image or limits.
        collectors: the names of the collectors that it concerns; none if it concerns the whole fleet.
        detail: what is wrong.
        remedy: what to do about it.
    """

    what: str
    collectors: tuple[str, ...] = ()
    detail: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.detail}; {self.remedy}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All actions, in the order of the file, followed by those for what is not in the file.

    ``left_alone`` are containers with the fleet's label that are not the fleet's, each with the reason;
    ``obstacles`` are those found while planning.
    """

    fleet: FleetSpec
    actions: tuple[Action, ...]
    left_alone: tuple[tuple[Observed, str], ...] = ()
    obstacles: tuple[Obstacle, ...] = ()

    @property
    def changing(self) -> tuple[Action, ...]:
        """Return the actions that change something."""
        return tuple(action for action in self.actions if action.kind not in (Kind.UNCHANGED, Kind.KEEP))

    @property
    def removals(self) -> tuple[Action, ...]:
        """Return the actions that remove a collector or a store without replacing it.

        The simulator does not count, nor do leftovers of an interrupted command.
        """
        there = {SIMULATOR, *(spec.name for spec in specs(self.fleet))}
        return tuple(
            action
            for action in self.of(Kind.REMOVE)
            if action.collector not in there and not (action.container and action.container.is_passing)
        )

    def of(self, *kinds: Kind) -> tuple[Action, ...]:
        """Return the actions of these kinds."""
        return tuple(action for action in self.actions if action.kind in kinds)


def specs(fleet: FleetSpec) -> list[CollectorSpec]:
    """Return everything that should run: first the simulator, then the stores, then the collectors."""
    return [*([fleet.simulator] if fleet.simulator else []), *fleet.stores, *fleet.collectors]


def make(
    fleet: FleetSpec,
    observed: Iterable[Observed],
    changes: Mapping[str, Sequence[Change]],
    *,
    keep_orphans: bool = False,
    left_alone: Iterable[tuple[Observed, str]] = (),
    obstacles: Iterable[Obstacle] = (),
) -> Plan:
    """Return the plan that turns ``observed``, all containers of the fleet, into ``fleet``.

    ``changes`` says, by container id, how containers differ from what they should be; ``left_alone`` are
    containers with the fleet's label that are not the fleet's, each with the reason; ``obstacles`` are those
    already known.
    """
    left_alone = tuple(left_alone)
    strangers = {container.name: (container, why) for container, why in left_alone}
    containers = {container.name: container for container in observed}
    wanted = {spec.name for spec in specs(fleet)}
    actions = [
        _in_the_way(spec, *strangers[spec.container.name])
        if spec.container.name in strangers
        else _for_spec(spec, containers.pop(spec.container.name, None), changes)
        for spec in specs(fleet)
    ]
    for container in containers.values():
        if container.manager == COMPOSE or _is_left_alone(container.collector, fleet):
            continue
        actions.append(_for_orphan(container, wanted, keep=keep_orphans))
    return Plan(fleet=fleet, actions=tuple(actions), left_alone=left_alone, obstacles=tuple(obstacles))


def _is_left_alone(collector: str, fleet: FleetSpec) -> bool:
    """Return whether it was not selected; something that is not in the file is selected by its name."""
    return collector in fleet.left_out or (
        bool(fleet.only) and collector != SIMULATOR and not matches(collector, fleet.only)
    )


def pairs(fleet: FleetSpec, observed: Iterable[Observed]) -> list[tuple[CollectorSpec, Observed]]:
    """Return the existing containers, each with what it should be, that are ours to change."""
    containers = {container.name: container for container in observed if container.manager != COMPOSE}
    return [
        (spec, containers[spec.container.name]) for spec in specs(fleet) if spec.container.name in containers
    ]


def _in_the_way(spec: CollectorSpec, container: Observed, why: str) -> Action:
    reason = f"{container.name} exists and does not belong to this fleet: {why}"
    return Action(kind=Kind.CONFLICT, collector=spec.name, reason=reason, spec=spec, container=container)


def _for_spec(
    spec: CollectorSpec, container: Observed | None, changes: Mapping[str, Sequence[Change]]
) -> Action:
    if container is None:
        return Action(kind=Kind.CREATE, collector=spec.name, reason="does not exist yet", spec=spec)
    differing = tuple(changes.get(container.id, ()))
    kind, reason = _compare(spec, container, differing)
    return Action(
        kind=kind, collector=spec.name, reason=reason, spec=spec, container=container, changes=differing
    )


def _compare(spec: CollectorSpec, container: Observed, changes: Sequence[Change]) -> tuple[Kind, str]:
    if container.manager == COMPOSE:
        return Kind.CONFLICT, f"{container.name} is managed by compose"
    state, reason = _STATES.get(container.state, (Kind.RECREATE, f"is {container.state}"))
    if state is Kind.RECREATE or not changes:
        return state, reason
    in_place = container.is_service or all(change.in_place for change in changes)
    kind = Kind.UPDATE if in_place else Kind.RECREATE
    return kind, _why(changes, by_hand=container.config_hash == spec.config_hash)


def _why(changes: Sequence[Change], *, by_hand: bool) -> str:
    """Return what changed; keys that need a new container come first."""
    fixed = [change.key for change in changes if not change.in_place]
    keys = ", ".join(fixed or [change.key for change in changes])
    if fixed == ["image"]:
        return "its image has changed"
    unhashed = all(key == "owner" or key.startswith("secret ") for key in fixed) and bool(fixed)
    return f"{keys} changed by hand" if by_hand and not unhashed else f"{keys} changed"


def _for_orphan(container: Observed, wanted: set[str], *, keep: bool) -> Action:
    kind, reason = (Kind.KEEP if keep else Kind.REMOVE), "is not in the file"
    if container.is_passing:
        kind, reason = Kind.REMOVE, f"{container.name} is left over from an interrupted command"
    elif container.collector in wanted:  # it has another name, and would share the collector's spool
        kind, reason = Kind.REMOVE, f"{container.name} is left over from an interrupted update"
    return Action(kind=kind, collector=container.collector, reason=reason, container=container)
