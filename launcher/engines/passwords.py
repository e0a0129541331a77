"""The passwords of a fleet's managed stores, as the engine keeps them."""

from collections.abc import Iterable, Iterator, Sequence

from launcher.engines import Observed
from launcher.engines.docker import DockerEngine
from launcher.managed import SERVERS, new_password, with_passwords
from launcher.spec import CollectorSpec, FleetSpec


def lost_passwords(
    engine: DockerEngine, fleet: FleetSpec, observed: Iterable[Observed]
) -> Iterator[tuple[CollectorSpec, str, str]]:
    """Find stores whose data exists while nothing has its password any more.

    Yields the store, what is wrong, and the remedy.
    """
    there = {container.name for container in observed}
    for spec in fleet.stores:
        users = [each.container.name for each in fleet.collectors if each.store == spec.name]
        if not SERVERS[spec.server].has_user or not there.isdisjoint([spec.container.name, *users]):
            continue
        (data,) = (mount.source for mount in spec.container.mounts)
        password = spec.password_volume
        if engine.has_volume(data) and not engine.has_volume(password):
            detail = (
                f"store {spec.name}: its data is in volume {data}, but the password that it opens to is lost"
                f" with volume {password}, and a new one would be refused"
            )
            remedy = (
                "restore that volume (docs/launcher.md says how to set another password), or delete the"
                f" data, too: `docker volume rm {data}`"
            )
            yield spec, detail, remedy


def with_passwords_of(
    engine: DockerEngine, fleet: FleetSpec, observed: Sequence[Observed], *, volumes: bool = False
) -> FleetSpec:
    """Return the fleet with the passwords that its stores have, and new ones for new stores.

    Passwords that only a volume has are read if ``volumes`` is set: that takes a container that never runs,
    and planning creates none.
    """
    if not fleet.stores:
        return fleet
    passwords = {spec.name: _password(engine, fleet, spec, observed, volumes) for spec in fleet.stores}
    return with_passwords(fleet, passwords)


def _password(
    engine: DockerEngine, fleet: FleetSpec, spec: CollectorSpec, observed: Iterable[Observed], volumes: bool
) -> str:
    ids = {container.name: container.id for container in observed}
    file = SERVERS[spec.server].password_file
    found = engine.secret(ids[spec.container.name], file) if spec.container.name in ids else None
    if not found and volumes:
        found = engine.kept_secret(spec, file)
    for collector in fleet.collectors:
        if not found and collector.store == spec.name and collector.container.name in ids:
            found = engine.secret(ids[collector.container.name], "password")
    return found or new_password()
