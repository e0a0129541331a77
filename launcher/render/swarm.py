"""For ``docker stack deploy``: a stack file, and beside it the passwords that it makes secrets of."""

from collections.abc import Iterable

import msgspec

from launcher.render.errors import live_only, refuse
from launcher.render.templates import fill, volumes
from launcher.secrets import Parted, digest, part
from launcher.spec import FleetSpec


class _SwarmSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of the swarm. It never changes: another content is another ``name``."""

    key: str
    name: str
    file: str
    target: str


class _Service(msgspec.Struct, frozen=True, kw_only=True):
    parted: Parted
    secrets: tuple[_SwarmSecret, ...]
    restart: str
    attempts: str | None


def files(fleet: FleetSpec) -> dict[str, str]:
    """``stack.yaml``, and ``<collector>.<secret>`` for what the fleet file has as text.

    Raises RenderError for a simulated fleet, OSError where a secret's file cannot be read.
    """
    refuse(_unfit(fleet))
    services = [_service(fleet.name, part(collector)) for collector in fleet.collectors]
    return {
        "stack.yaml": fill("stack.yaml", fleet=fleet, services=services, volumes=volumes(fleet)),
        **{
            f"{service.parted.collector.name}.{secret.name}": secret.content.decode()
            for service in services
            for secret in service.parted.secrets
            if secret.source is None
        },
    }


def _unfit(fleet: FleetSpec) -> Iterable[str]:
    yield from live_only(fleet, "a swarm")


def _service(fleet: str, parted: Parted) -> _Service:
    collector = parted.collector
    secrets = tuple(
        _SwarmSecret(
            key=f"{collector.name}-{secret.name}",
            name=f"{collector.container.name}-{secret.name}-{digest(fleet, [secret])}",
            file=secret.source or f"./{collector.name}.{secret.name}",
            target=secret.target,
        )
        for secret in parted.secrets
    )
    restart, _, attempts = collector.container.restart.partition(":")
    condition = {"no": "none", "on-failure": "on-failure"}.get(restart, "any")
    return _Service(parted=parted, secrets=secrets, restart=condition, attempts=attempts or None)
