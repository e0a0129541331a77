"""How the collectors of a fleet are doing: the containers, joined with what each says of itself."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from collector.health import Status
from launcher.engines import EngineError, Observed
from launcher.engines.docker import DockerEngine
from launcher.engines.passwords import with_passwords_of
from launcher.plan import COMPOSE, SIMULATOR, specs
from launcher.spec import CollectorSpec, FleetSpec

#: A container in one of these states says more by its own word than its collector's last one does.
_NOT_RUNNING = frozenset(["created", "restarting", "removing", "paused", "exited", "dead"])


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One collector. ``state`` is one word; ``container`` is None where there is none ("absent").

    ``config`` is "current", "changed" (an `up` would make it anew) or "orphan", None where no file was read.
    """

    collector: str
    state: str
    detail: str
    config: str | None
    container: Observed | None
    status: Status | None

    @property
    def received(self) -> int:
        """Records received since the collector started, over all channels."""
        return sum(each.received for each in self.status.channels.values()) if self.status else 0

    @property
    def stored(self) -> int:
        """Records stored since the collector started, over all channels."""
        return sum(each.stored for each in self.status.channels.values()) if self.status else 0


def rows(
    engine: DockerEngine, fleet: FleetSpec | None, observed: Sequence[Observed], parallel: int
) -> list[Row]:
    """A row for each container, and for each collector of the file that has none, in the file's order."""
    key = engine.key(observed)
    fleet = with_passwords_of(engine, fleet, observed) if fleet else None
    wanted = {spec.name: spec for spec in specs(fleet)} if fleet else None

    def row(container: Observed) -> Row:
        config = _config(engine, container, wanted, key) if wanted is not None else None
        return _row(container, _status(engine, container), config)

    with ThreadPoolExecutor(parallel) as pool:
        there = list(pool.map(row, observed))
    names = [spec.name for spec in specs(fleet)] if fleet else []
    present = {row.collector for row in there}
    absent = [_absent(name) for name in names if name not in present]
    order = {name: place for place, name in enumerate(names)}
    return sorted(there + absent, key=lambda row: (order.get(row.collector, len(order)), row.collector))


def _absent(name: str) -> Row:
    return Row(collector=name, state="absent", detail="", config=None, container=None, status=None)


def _status(engine: DockerEngine, container: Observed) -> Status | None:
    if container.collector == SIMULATOR or container.store:
        return None
    return engine.status(container.id, container.name)


def _row(container: Observed, status: Status | None, config: str | None) -> Row:
    state, detail = _state(container, status)
    return Row(
        collector=container.collector,
        state=state,
        detail=detail,
        config=config,
        container=container,
        status=status,
    )


def _state(container: Observed, status: Status | None) -> tuple[str, str]:
    if container.state in _NOT_RUNNING:
        return container.state, status.detail if status and status.state == "failed" else ""
    if container.health == "unhealthy" or container.collector == SIMULATOR or container.store:
        return container.health or container.state, ""
    if status is None or status.state in ("stopped", "stopping"):  # a word of the process before this one
        return "starting", "has said nothing yet"
    return status.state, status.detail


def _config(
    engine: DockerEngine, container: Observed, wanted: Mapping[str, CollectorSpec], key: bytes
) -> str:
    spec = wanted.get(container.collector)
    if spec is None:
        return "orphan"
    if container.manager == COMPOSE:
        return "current" if spec.config_hash == container.config_hash else "changed"
    try:
        return "changed" if engine.changes(engine.seal(spec, key), container) else "current"
    except EngineError:  # a secret's file is not there; whoever needs it says so
        return "changed"
