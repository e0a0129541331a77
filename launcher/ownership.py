"""Which of the things with a fleet's name on an engine are the fleet's, and which are another's. Pure.

Host and user are shown, never compared: a colleague with the same file carries on where the first left off.
"""

import enum
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

from launcher import names
from launcher.engines import EngineError, Labelled, Observed
from launcher.names import COMPOSE, LABEL_COLLECTOR, LABEL_FILE, LABEL_FLEET, LABEL_OWNER, SIMULATOR
from launcher.owner import Claim, Owner
from launcher.spec import CollectorSpec, FleetSpec, Mount

_NAMED = 5  # collectors that a message names
_RUNNING = ("running", "restarting", "paused")  # states of containers


class Purpose(enum.Enum):
    """What a command wants a fleet's containers for; it decides what to advise if they are another's.

    The value is what ``--adopt`` then does, with the command that has it; empty if none has.
    """

    MAKE = "take the other one over with `up --adopt`"
    RESTART = "restart it anyway with --adopt"
    REMOVE = "remove it anyway with --adopt"
    READ = ""


class VolumeFault(msgspec.Struct, frozen=True, kw_only=True):
    """A volume that a fleet needs and another has: whose it is, and what to do about it."""

    volume: str
    detail: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.detail}; {self.remedy}"


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """The containers with a fleet's label: ``ours``, and those ``left_alone``, each with the reason.

    ``ours`` includes what compose made, which is recognised by its manager. ``proven`` says that nothing
    counts as ours merely because somebody claimed it.
    """

    ours: tuple[Observed, ...] = ()
    left_alone: tuple[tuple[Observed, str], ...] = ()
    proven: bool = True

    @property
    def reasons(self) -> dict[str, str]:
        """Return why containers are left alone, by their names."""
        return {container.name: why for container, why in self.left_alone}


def hold(
    name: str,
    owner: Owner,
    observed: Iterable[Observed],
    known: Collection[str],
    *,
    purpose: Purpose = Purpose.MAKE,
    adopt: bool = False,
) -> Holding:
    """Return whose the containers with the label of fleet ``name`` are.

    Containers without an owner, made by the first version, are ours if all of them are of collectors
    ``known`` to the fleet's file. ``adopt`` takes over everything, and so does whoever knows only the fleet's
    name. Raises EngineError if the fleet belongs to somebody else.
    """
    observed = tuple(observed)
    claims = {each.id: _claim(name, owner, each) for each in observed if each.manager != COMPOSE}
    unproven = any(claim not in (Claim.OURS, Claim.UNMARKED) for claim in claims.values())
    if adopt or not owner.identities:
        return Holding(ours=observed, proven=not unproven and not (claims and not owner.identities))
    found = {claim: [each for each in observed if claims.get(each.id) is claim] for claim in Claim}
    strange = [each for each in found[Claim.UNMARKED] if not _is_of_file(name, each, known)]
    if not found[Claim.OURS]:
        if found[Claim.FOREIGN]:
            raise EngineError(_refusal(name, owner, found[Claim.FOREIGN], purpose))
        if strange:
            raise EngineError(_unmarked_refusal(name, owner, strange, purpose))
    why = {each.id: f"it belongs to another fleet {name}, by {_who([each])}" for each in found[Claim.FOREIGN]}
    why |= {each.id: f"it has the labels of fleet {name}, but not its seal" for each in strange}
    why |= {
        each.id: f"its labels say fleet {name}, but its seal is not valid" for each in found[Claim.FORGED]
    }
    return Holding(
        ours=tuple(each for each in observed if each.id not in why),
        left_alone=tuple((each, why[each.id]) for each in observed if each.id in why),
    )


def of_fleet(
    fleet: FleetSpec,
    observed: Iterable[Observed],
    *,
    purpose: Purpose = Purpose.MAKE,
    adopt: bool = False,
) -> Holding:
    """Return the same for the fleet of a file. Raises EngineError."""
    specs = (*fleet.collectors, *fleet.stores)
    known = {*(spec.name for spec in specs), *fleet.left_out, SIMULATOR}
    return hold(fleet.name, fleet.owner, observed, known, purpose=purpose, adopt=adopt)


def foreign(fleet: FleetSpec, observed: Iterable[Observed]) -> tuple[Observed, ...]:
    """Return the containers that belong to another fleet of the same name."""
    theirs = (each for each in observed if each.manager != COMPOSE)
    return tuple(each for each in theirs if _claim(fleet.name, fleet.owner, each) is Claim.FOREIGN)


def earlier_names(fleet: FleetSpec, owned: Iterable[Observed]) -> Iterator[str]:
    """Yield, for each other fleet that this file seems to have made, what it is and how to remove it.

    ``owned`` are containers with one of the owner's marks. That of a folder, which files without an ``id``
    have, may be that of several files.
    """
    owner = fleet.owner
    others: dict[tuple[str, bool], list[Observed]] = defaultdict(list)
    for each in owned:
        ours = _claim(each.fleet, owner, each) is Claim.OURS
        by_id = bool(owner.id) and each.labels.get(LABEL_OWNER) == owner.mark
        same = by_id or each.labels.get(LABEL_FILE) == owner.file
        if each.fleet != fleet.name and each.manager != COMPOSE and ours and same:
            others[each.fleet, by_id].append(each)
    for (name, by_id), there in others.items():
        yield (
            f"fleet {name} {_made_from(owner, by_id=by_id)}: {_named(there)} by {_who(there)}; if that is an"
            f" earlier name of fleet {fleet.name}, `launcher down --fleet {name}` removes it"
            + ("; if not, give this file another `id`" if by_id else "")
        )


def _made_from(owner: Owner, *, by_id: bool) -> str:
    if by_id:
        return "has the `id` of this file, too"
    if owner.id:  # this file may have replaced the one of then
        return f"was made from {owner.file} in this folder, when that had no `id`"
    return "was made from this file, too"


def has_own(fleet: FleetSpec, observed: Collection[Observed]) -> bool:
    """Return whether any of the containers is not another fleet's of the same name."""
    return len(foreign(fleet, observed)) < len(observed)


def whose(foreign: Sequence[Observed]) -> str:
    """Return which containers are another fleet's, who made them, and when."""
    return f"{_named(foreign)} of another fleet {foreign[0].fleet}, by {_who(foreign)}"


def seal_of_container(fleet: str, container: str) -> tuple[str, ...]:
    """Return what the seal of a container is made for."""
    return "container", fleet, names.base(container)


def seal_of(kind: str, fleet: str, name: str) -> tuple[str, ...]:
    """Return what the seal of a volume, a network or a secret is made for."""
    return kind, fleet, name


def settle_volumes(
    fleet: FleetSpec, there: Iterable[Labelled], ours: Sequence[Observed], *, adopt: bool = False
) -> tuple[FleetSpec, tuple[VolumeFault, ...]]:
    """Return the fleet with the volumes it has, and a fault for each that is another's.

    ``there`` are the volumes with the names of `volume_names`, ``ours`` the fleet's containers: a volume that
    one of them mounts is the fleet's. A volume that the fleet has under its old name stays in use.
    """
    settling = _Settling(fleet, {each.name: each for each in there}, ours, adopt=adopt)
    settled = _with_volumes(fleet, settling.name)
    return settled, tuple(settling.faults.values())


def others_volumes(fleet: FleetSpec, there: Iterable[Labelled]) -> dict[str, str]:
    """Return whose those volumes of ``there`` are that have a name of the fleet's but are not its own."""
    return _Settling(fleet, {each.name: each for each in there}, (), adopt=False).others()


def mounted_volumes(fleet: FleetSpec) -> frozenset[str]:
    """Return the names of the volumes that the fleet's containers mount."""
    found: set[str] = set()

    def note(name: str) -> str:
        found.add(name)
        return name

    _with_volumes(fleet, note)
    return frozenset(found)


def volume_names(fleet: FleetSpec) -> frozenset[str]:
    """Return the names of all volumes that the fleet may have, the old ones too."""
    mounted = mounted_volumes(fleet)
    return mounted.union(*(_other_names(fleet.name, name) for name in mounted))


def is_removable(volume: Labelled, fleet: str, owner: Owner, *, adopt: bool = False) -> bool:
    """Return whether a volume with the labels of `up` may be removed with its fleet: they are not forged."""
    if names.parse(fleet, volume.name) is None:
        return False
    claim = owner.claim(volume.labels, *seal_of("volume", fleet, volume.name))
    if adopt or not owner.identities:
        return True
    return claim in (Claim.OURS, Claim.UNMARKED)


def unused_secrets(
    fleet: FleetSpec, there: Iterable[Labelled], observed: Iterable[Observed]
) -> tuple[str, ...]:
    """Return the volumes of the fleet's secrets that no container mounts: an interrupted command left them.

    ``there`` are volumes with the labels of `up`, ``observed`` all containers of the fleet.
    """
    mounted = {name for container in observed for name in container.volumes}
    return tuple(
        volume.name
        for volume in there
        if volume.name not in mounted
        and (role := names.parse(fleet.name, volume.name))
        and role.holds_secrets
        and is_removable(volume, fleet.name, fleet.owner)
    )


def is_removable_network(network: Labelled, fleet: str, owner: Owner) -> bool:
    """Return whether a network with the labels of `up` may be removed with its fleet."""
    claim = owner.claim(network.labels, *seal_of("network", fleet, network.name))
    return claim is not Claim.FORGED or not owner.identities


class _Settling:
    """Decides under which name each volume of a fleet is used, and reports those that are another's."""

    def __init__(
        self, fleet: FleetSpec, there: Mapping[str, Labelled], ours: Iterable[Observed], *, adopt: bool
    ) -> None:
        self._fleet = fleet
        self._there = there
        self._mounted = {name for container in ours for name in container.volumes}
        self._adopt = adopt
        self.faults: dict[str, VolumeFault] = {}

    def name(self, name: str) -> str:
        for other in filter(self._there.__contains__, _other_names(self._fleet.name, name)):
            if self._goes_on(other, name):
                return other
            # A new one beside it would hide its contents: after `up --adopt` and `down`, our records.
            if name not in self._there and self._is_of_namesake(other) and (fault := self._fault(other)):
                self.faults[other] = fault
        if name in self._there and (fault := self._fault(name)):
            self.faults[name] = fault
        return name

    def _goes_on(self, other: str, name: str) -> bool:
        """Return whether the fleet keeps using the volume ``other`` where a new one would be ``name``."""
        if self._fleet.owner.id:
            return name not in self._there and not self._fault(other)
        # The fleet has an `id`, and this file without one takes it over: its spools may hold records.
        return other in self._mounted or (self._adopt and name not in self._there and not self._fault(other))

    def _is_of_namesake(self, volume: str) -> bool:
        """Return whether a volume belongs to another fleet with this fleet's name."""
        fleet, owner, labels = self._fleet.name, self._fleet.owner, self._there[volume].labels
        claim = owner.claim(labels, *seal_of("volume", fleet, volume))
        return bool(owner.identities) and labels.get(LABEL_FLEET) == fleet and claim is Claim.FOREIGN

    def _fault(self, name: str) -> VolumeFault | None:
        """Return whose the volume is, if it is not the fleet's."""
        labels = self._there[name].labels
        of = labels.get(LABEL_FLEET) or names.project(labels)
        if name in self._mounted:
            return None
        if of and of != self._fleet.name:
            by = f", by {maker}" if (maker := names.maker(labels)) else ""
            detail = f"volume {name} belongs to fleet {of}{by}"
            remedy = "give this fleet, or the collector, another name"
            return VolumeFault(volume=name, detail=detail, remedy=remedy)
        whose = "" if self._adopt else self._whose(name, labels, of)
        if not whose:
            return None
        remedy = (
            "give this fleet another name (`fleet:`), use the volume as it is with `up --adopt`, or, if"
            f" nobody needs its contents, remove it (`docker volume rm {name}`)"
        )
        return VolumeFault(volume=name, detail=f"volume {name} {whose}", remedy=remedy)

    def others(self) -> dict[str, str]:
        """Return whose the volumes are that have a name of the fleet's but are not its own."""
        fleet = self._fleet.name
        found = {}
        for name in mounted_volumes(self._fleet).intersection(self._there):
            labels = self._there[name].labels
            of = labels.get(LABEL_FLEET) or names.project(labels)
            whose = self._whose(name, labels, of) if of in ("", fleet) else f"belongs to fleet {of}"
            if whose:
                found[name] = whose
        return dict(sorted(found.items()))

    def _whose(self, name: str, labels: Mapping[str, str], of: str) -> str:
        """Return whose a volume is that is not another fleet's by name; empty if it is ours."""
        fleet = self._fleet.name
        role = names.parse(fleet, name)
        if not of:
            return "already exists, and its labels name no fleet"
        if role and labels.get(LABEL_COLLECTOR, role.of) != role.of:
            return f"belongs to collector {labels[LABEL_COLLECTOR]} according to its labels"
        match self._fleet.owner.claim(labels, *seal_of("volume", fleet, name)):
            case Claim.FORGED:
                return f"has the labels of fleet {fleet}, but its seal is not valid"
            case Claim.FOREIGN if self._fleet.owner.identities:
                maker = names.maker(labels) or "an unknown user"
                return f"belongs to another fleet named {fleet}, made by {maker}"
            case _:
                return ""


def _with_volumes(fleet: FleetSpec, name: Callable[[str], str]) -> FleetSpec:
    def mount(each: Mount) -> Mount:
        return msgspec.structs.replace(each, source=name(each.source)) if each.kind == "volume" else each

    def spec(each: CollectorSpec) -> CollectorSpec:
        container = msgspec.structs.replace(each.container, mounts=tuple(map(mount, each.container.mounts)))
        password = name(each.password_volume) if each.password_volume else ""
        return msgspec.structs.replace(each, container=container, password_volume=password)

    return msgspec.structs.replace(
        fleet,
        collectors=tuple(map(spec, fleet.collectors)),
        stores=tuple(map(spec, fleet.stores)),
        simulator=spec(fleet.simulator) if fleet.simulator else None,
    )


def _other_names(fleet: str, name: str) -> list[str]:
    volume = names.parse(fleet, name)
    both = [volume.name(distinct=distinct) for distinct in (False, True)] if volume else []
    return [each for each in both if each != name]


def _claim(name: str, owner: Owner, container: Observed) -> Claim:
    return owner.claim(container.labels, *seal_of_container(name, container.name))


def _is_of_file(fleet: str, container: Observed, known: Collection[str]) -> bool:
    named = names.container(fleet, container.collector) == names.base(container.name)
    return named and container.collector in known


def _refusal(name: str, owner: Owner, foreign: Sequence[Observed], purpose: Purpose) -> str:
    same = "give both files the same `id`" if owner.id else "give the file an `id` (docs/launcher.md)"
    runs = any(each.state in _RUNNING for each in foreign)
    return (
        f"nothing was touched: another fleet named {name} {'runs here' if runs else 'is here, stopped'}:"
        f" {_named(foreign)} by {_who(foreign)};"
        f" {_advice(owner, purpose)}, or, if both are the same fleet, {same}"
    )


def _unmarked_refusal(name: str, owner: Owner, strange: Sequence[Observed], purpose: Purpose) -> str:
    return (
        f"nothing was touched: fleet {name} has run here without an owner's label since {_since(strange)},"
        f" and this file does not have {_named(strange)}, so it may be somebody else's;"
        f" {_advice(owner, purpose)}"
    )


def _advice(owner: Owner, purpose: Purpose) -> str:
    """Return what to do instead, by what was wanted of a fleet that is another's."""
    if purpose is Purpose.MAKE:
        otherwise = f"give this fleet another name (`fleet:` in {owner.file or 'its file'})"
    else:
        otherwise = "use the file that it was made from"
    return f"{otherwise}, {purpose.value}" if purpose.value else otherwise


def _named(containers: Sequence[Observed]) -> str:
    named = [each.collector or each.name for each in containers]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def _who(containers: Sequence[Observed]) -> str:
    makers = dict.fromkeys(maker for each in containers if (maker := names.maker(each.labels)))
    return f"{' and '.join(makers) or 'an unknown user'}, since {_since(containers)}"


def _since(containers: Iterable[Observed]) -> str:
    first = min(each.created for each in containers)
    return datetime.fromtimestamp(first, UTC).strftime("%Y-%m-%d %H:%M UTC")
