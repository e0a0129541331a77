"""Which collectors of a fleet a command concerns: patterns of names, and active profiles.

Unselected collectors are left as they are: neither created nor changed nor removed.
"""

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase

import msgspec

from collector.catalog import nearest
from launcher.spec import CollectorSpec, FleetSpec


class NothingSelectedError(Exception):
    """A pattern or a profile matches nothing; the message says what there is."""


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a pattern matches, or all begin with ``!``; and none of the latter matches."""
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return (not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)) and not any(
        fnmatchcase(name, pattern) for pattern in unwanted
    )


def require_match(patterns: Iterable[str], names: Collection[str], fleet: str) -> None:
    """Raise NothingSelectedError for a pattern that matches none of the names."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern.removeprefix("!")) for name in names):
            raise NothingSelectedError(_no_match(pattern.removeprefix("!"), names, fleet))


def narrowed(fleet: FleetSpec, only: Sequence[str], profiles: Collection[str]) -> FleetSpec:
    """Return the fleet with only the selected collectors; the others are in ``left_out``.

    A collector with profiles is left out unless one of them is active, or a pattern names it. Raises
    NothingSelectedError.
    """
    names = [spec.name for spec in fleet.collectors]
    _refuse_servers(fleet, only, names)
    require_match(only, names, fleet.name)
    known = sorted({profile for spec in fleet.collectors for profile in spec.profiles})
    for profile in profiles:
        if profile not in known:
            there = ", ".join(known) or "none"
            raise NothingSelectedError(f"no profile {profile}; fleet {fleet.name} has {there}")
    chosen = tuple(spec for spec in fleet.collectors if _is_selected(spec, only, profiles))
    if not chosen:
        why = (
            f"all its collectors have profiles ({', '.join(known)}); choose some with --profile"
            if not only
            else ""
        )
        raise NothingSelectedError(f"nothing of fleet {fleet.name} is selected" + (f"; {why}" if why else ""))
    left_out = [spec for spec in fleet.collectors if spec not in chosen]
    return msgspec.structs.replace(
        fleet,
        collectors=chosen,
        left_out=frozenset(spec.name for spec in left_out),
        beside=tuple(spec for spec in left_out if _is_selected(spec, (), profiles)),
        only=tuple(only),
    )


def _is_selected(spec: CollectorSpec, only: Sequence[str], profiles: Collection[str]) -> bool:
    if not matches(spec.name, only):
        return False
    named = spec.name in only  # a name written in full selects it whatever its profiles
    return named or not spec.profiles or any(profile in profiles for profile in spec.profiles)


def _refuse_servers(fleet: FleetSpec, only: Iterable[str], names: Collection[str]) -> None:
    """Raise NothingSelectedError for a pattern that matches only what `up` starts whatever is selected."""
    stores = {spec.name: "a managed store" for spec in fleet.stores}
    servers = stores | ({fleet.simulator.name: "the simulator"} if fleet.simulator else {})
    for pattern in (each.removeprefix("!") for each in only):
        found = [name for name in servers if fnmatchcase(name, pattern)]
        if found and not any(fnmatchcase(name, pattern) for name in names):
            raise NothingSelectedError(
                f"{found[0]} is {servers[found[0]]}: `up` starts it whichever collectors are selected;"
                f" fleet {fleet.name} has the collectors {', '.join(sorted(names))}"
            )


def _no_match(pattern: str, names: Collection[str], fleet: str) -> str:
    there = sorted(names)
    if near := nearest(pattern, there):
        return f"no collector {pattern}; did you mean {near[0]}?"
    return f"no collector {pattern}; fleet {fleet} has {', '.join(there) or 'none'}"
