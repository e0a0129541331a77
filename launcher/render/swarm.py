"""For ``docker stack deploy``: a stack file, and the files that its secrets are made from."""

import msgspec

from launcher import swarm as house
from launcher.render.contents import Contents, secret_file, secret_files
from launcher.render.errors import live_only, refuse, unmanaged_only
from launcher.render.templates import fill, volumes
from launcher.secrets import Parted, part
from launcher.spec import FleetSpec


class _SwarmSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of the swarm. It is immutable: other content has another ``name``."""

    key: str
    name: str
    file: str
    target: str


class _Service(msgspec.Struct, frozen=True, kw_only=True):
    parted: Parted
    secrets: tuple[_SwarmSecret, ...]
    restart: str
    attempts: int | None


def files(fleet: FleetSpec) -> Contents:
    """Return ``stack.yaml`` and the files of the secrets.

    Raises RenderError for a simulated fleet, OSError if a secret's file cannot be read.
    """
    refuse([*live_only(fleet, "a swarm"), *unmanaged_only(fleet, "a swarm")])
    services = [_service(fleet.name, part(collector)) for collector in fleet.collectors]
    return {
        "stack.yaml": fill("stack.yaml", fleet=fleet, swarm=house, services=services, volumes=volumes(fleet)),
        **secret_files(service.parted for service in services),
    }


def _service(fleet: str, parted: Parted) -> _Service:
    collector = parted.collector
    secrets = tuple(
        _SwarmSecret(
            key=f"{collector.name}-{secret.name}",
            name=house.secret_name(fleet, collector.container.name, secret),
            file=f"./{secret_file(parted, secret)}",
            target=secret.target,
        )
        for secret in parted.secrets
    )
    condition, attempts = house.restart(collector.container.restart)
    return _Service(parted=parted, secrets=secrets, restart=condition, attempts=attempts)
