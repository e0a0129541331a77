"""Where collectors run. An engine reports what exists and carries out single steps; it decides nothing."""

from collections.abc import Mapping

import msgspec

from launcher.names import PASSING


class EngineError(Exception):
    """The engine refuses something or cannot do it; the message is for the user."""


class NoManagerError(EngineError):
    """The engine is not a manager of a swarm, but was asked for one."""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """A container of a fleet as one list request shows it.

    Attributes:
        image: the name that it was made from, or the image's id if that name now means another image.
        secrets: the label by which secrets are compared.
        state: Docker's word (running, exited, ...).
        health: healthy, unhealthy or starting; None without a health check.
        created: seconds since 1970, UTC.
        store: the server of a managed store; empty for a collector.
        is_service: whether it is a service of a swarm; any change updates it, and gives it a new container.
        labels: all its labels.
        volumes: the names of the volumes that it mounts.
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

    @property
    def is_passing(self) -> bool:
        """Whether it was made for a moment, and contains nothing: what is still there was left behind."""
        return self.name.endswith(PASSING)


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """A volume or a network as a list request shows it."""

    name: str
    labels: Mapping[str, str] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One key of a container that is not as it should be; None means not set.

    ``in_place`` says that the engine can change it in a running container. A secret's values are ``***``.
    """

    key: str
    old: str | None
    new: str | None
    in_place: bool = False


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """A container as an inspection shows it.

    ``started`` is in seconds since 1970, UTC, by the engine's clock, and infinite before the start; ``said``
    is the output of the last health check; ``elsewhere`` is the machine that it runs on if that is not the
    engine's, so that it cannot be asked from here; ``taken_back`` says that the swarm rolled back the last
    update; ``unchecked`` says that it was paused since the last health check: until the next one Docker calls
    it unhealthy.
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
    unchecked: bool = False


class LogLines(msgspec.Struct, frozen=True, kw_only=True):
    """Which lines of a log are requested: the last ``tail`` of those from ``since`` on; None means all.

    ``since`` is in seconds since 1970, UTC.
    """

    tail: int | None = None
    since: float | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The output of a command of ``collector`` in a container of its own, and how it ended."""

    exit_code: int
    lines: tuple[str, ...]
    out_of_memory: bool = False
