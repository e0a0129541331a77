"""Where collectors run. An engine tells what there is and carries out single steps; it decides nothing."""

from collections.abc import Mapping

import msgspec


class EngineError(Exception):
    """Something that the engine refuses or cannot do; the message is for the user."""


class NoManagerError(EngineError):
    """An engine that manages no swarm was asked for one."""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """A container of a fleet as one list call shows it.

    ``image`` is the name that it was made from, or the image's id when that name means another image by now.
    ``secrets`` is the label that tells one secret from another. ``state`` is Docker's word (running, exited,
    ...), ``health`` too (healthy, unhealthy, starting), None without a health check. ``created`` is in
    seconds since 1970, UTC. ``store`` is the server of a managed store, nothing for a collector.
    ``is_service`` is a swarm's service: whatever changes, it is updated and gets a new container.
    ``labels`` are all it has, ``volumes`` the names of those that it has mounted.
    """

    id: str
    name: str
    fleet: str
    collector: str
    config_hash: str
    manager: str
    image: str
    state: str
    health: str | None
    created: int
    secrets: str = ""
    store: str = ""
    is_service: bool = False
    labels: Mapping[str, str] = {}
    volumes: tuple[str, ...] = ()


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """A volume or a network as a list shows it."""

    name: str
    labels: Mapping[str, str] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a container that is not as it should be; None is not set.

    ``in_place`` where the engine can change it in a container that runs. A secret's values are ``***``.
    """

    key: str
    old: str | None
    new: str | None
    in_place: bool = False


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A container as it is inspected.

    ``started`` is in seconds since 1970, UTC, by the engine's clock, infinite where it has not yet; ``said``
    is what the last health check printed; ``elsewhere`` the machine that it runs on where that is not the
    engine's, so that nobody here can ask it; ``taken_back`` whether the swarm gave up the last update.
    """

    state: str
    health: str | None
    said: str
    exit_code: int
    error: str
    restarts: int
    started: float
    elsewhere: str = ""
    taken_back: bool = False


class LogLines(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of a log are asked for: the last ``tail`` of those from ``since`` on; None asks for all.

    ``since`` is in seconds since 1970, UTC.
    """

    tail: int | None = None
    since: float | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What a command of ``collector`` said in a container of its own, and how it ended."""

    exit_code: int
    lines: tuple[str, ...]
    out_of_memory: bool = False
