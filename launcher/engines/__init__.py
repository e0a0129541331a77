"""Where collectors run. An engine tells what there is and carries out single steps; it decides nothing."""

import msgspec


class EngineError(Exception):
    """Something that the engine refuses or cannot do; the message is for the user."""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """A container of a fleet as one list call shows it.

    ``image`` is the name that it was made from, or the image's id when that name means another image by now.
    ``secrets`` is the label that tells one secret from another. ``state`` is Docker's word (running, exited,
    ...), ``health`` too (healthy, unhealthy, starting), None without a health check. ``created`` is in
    seconds since 1970, UTC. ``store`` is the server of a managed store, nothing for a collector.
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


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a container that is not as it should be; None is not set.

    ``in_place`` where the engine can change it in a container that runs. A secret's values are ``***``.
    """

    key: str
    old: str | None
    new: str | None
    in_place: bool = False


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A container as it is inspected; ``started`` is in seconds since 1970, UTC, by the engine's clock.

    ``said`` is what the last health check printed.
    """

    state: str
    health: str | None
    said: str
    exit_code: int
    error: str
    restarts: int
    started: float


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What ``collector check`` said in a container of its own, and how it ended."""

    exit_code: int
    lines: tuple[str, ...]
