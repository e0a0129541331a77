"""The state of a fleet's collectors: containers and processes, joined with each one's own status."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from collector.health import STALE, Status
from collector.masking import masked
from launcher import local_run
from launcher.engines import EngineError, Observed
from launcher.engines.docker import DockerEngine
from launcher.engines.passwords import with_passwords_of
from launcher.failures import of_rest
from launcher.local_run import LocalRun
from launcher.names import COMPOSE, SIMULATOR
from launcher.ownership import foreign, settle_volumes, volume_names
from launcher.plan import specs
from launcher.spec import CollectorSpec, FleetSpec

#: In these states, the container's state says more than the last status of its collector.
_NOT_RUNNING = frozenset(["created", "restarting", "removing", "paused", "exited", "dead"])
#: The states of what works; for a simulator and a store these are Docker's words.
WELL = ("ready", "healthy", "running")
#: The states of what does not work, the worst first.
_UNWELL = ("failed", "dead", "exited", "unhealthy", "created", "absent", "paused", "restarting", "degraded")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One collector. ``state`` is one word; ``container`` is None if there is none.

    ``process`` is the `launcher run` that it is part of, if it is not a container; "absent" is neither.
    ``config`` is "current", "changed" (an `up` would make a new container), "orphan" (not in the file) or
    "foreign" (of another fleet of that name), None if no file was read.
    """

    collector: str
    state: str
    detail: str
    config: str | None
    container: Observed | None
    status: Status | None
    process: int | None = None

    @property
    def is_well(self) -> bool:
        """Whether it works, and has dropped no record from the spool or the dead letters since its start."""
        lost = self.status.spool.dropped + self.status.spool.put_aside if self.status else 0
        return self.state in WELL and not lost

    @property
    def seen(self) -> float:
        """Return the moment from which the ages of its records count: its last status, or now if one is due.

        The clock of its machine may differ from ours.
        """
        lives = self.status and self.state in (*WELL, "degraded", "starting")
        return self.status.time if self.status and lives else time.time()

    @property
    def stored(self) -> int:
        """Return the number of records stored since the collector started, over all channels."""
        return sum(each.stored for each in self.status.channels.values()) if self.status else 0


def rows(
    engine: DockerEngine, fleet: FleetSpec | None, observed: Sequence[Observed], parallel: int
) -> list[Row]:
    """Return a row for each container."""
    key = engine.key(observed)
    rendered = {spec.name: spec.config_hash for spec in specs(fleet)} if fleet else {}
    if fleet:
        volumes = engine.named_volumes(volume_names(fleet))
        fleet, _ = settle_volumes(fleet, volumes, observed)
        fleet = with_passwords_of(engine, fleet, observed)
    wanted = {spec.name: spec for spec in specs(fleet)} if fleet else None
    theirs = {each.id for each in foreign(fleet, observed)} if fleet else set()

    def row(container: Observed) -> Row:
        config = _config(engine, container, wanted, rendered, key) if wanted is not None else None
        config = "foreign" if container.id in theirs else config
        return _row(engine, container, config)

    with ThreadPoolExecutor(parallel) as pool:
        return list(pool.map(row, observed))


def rows_of_run(fleet: str, run: LocalRun, *, foreign: bool = False) -> list[Row]:
    """Return a row for each process of a `launcher run`; ``foreign`` says that it is another fleet's."""
    simulator = [_process(SIMULATOR, "running", "", None, run)] if run.simulated else []
    rows = simulator + [_collector(name, local_run.status(fleet, name, run), run) for name in run.collectors]
    return [msgspec.structs.replace(row, config="foreign") for row in rows] if foreign else rows


def _collector(name: str, status: Status | None, run: LocalRun) -> Row:
    if status is None:
        return _process(name, "starting", "no status yet", None, run)
    age = time.time() - status.time
    if age <= STALE or status.state == "failed":
        return _process(name, status.state, status.detail, status, run)
    silence = f"no sign of life for {age:.0f} s (was {status.state}: {status.detail})"
    return _process(name, "unhealthy", silence, status, run)


def _process(name: str, state: str, detail: str, status: Status | None, run: LocalRun) -> Row:
    return Row(
        collector=name,
        state=state,
        detail=detail,
        config=None,
        container=None,
        status=status,
        process=run.process,
    )


def with_absent(there: Sequence[Row], fleet: FleetSpec | None) -> list[Row]:
    """Add a row for each collector of the file that has none; those with problems come first.

    Otherwise they are in the file's order.
    """
    names = [spec.name for spec in specs(fleet)] if fleet else []
    present = {row.collector for row in there}
    absent = [_absent(name) for name in names if name not in present]
    order = {name: place for place, name in enumerate(names)}
    return sorted(
        [*there, *absent],
        key=lambda row: (_rank(row), order.get(row.collector, len(order)), row.collector),
    )


def _rank(row: Row) -> int:
    if row.state in _UNWELL:
        return _UNWELL.index(row.state)
    if row.state not in WELL:
        return len(_UNWELL)
    return len(_UNWELL) + (2 if row.is_well else 1)


def _absent(name: str) -> Row:
    return Row(collector=name, state="absent", detail="", config=None, container=None, status=None)


def _status(engine: DockerEngine, container: Observed) -> Status | None:
    if container.collector == SIMULATOR or container.store:
        return None
    try:
        return engine.status(container.id, container.name)
    except EngineError:
        if container.state in _NOT_RUNNING:  # nothing can be read from it without what it mounts
            return None
        raise


def _row(engine: DockerEngine, container: Observed, config: str | None) -> Row:
    status = _status(engine, container)
    state, detail = _state(container, status)
    return Row(
        collector=container.collector,
        state=state,
        detail=detail or (_why(engine, container, config) if state in _UNWELL else ""),
        config=config,
        container=container,
        status=status,
    )


def _state(container: Observed, status: Status | None) -> tuple[str, str]:
    if container.state in _NOT_RUNNING:
        return container.state, status.detail if status and status.state == "failed" else ""
    if container.health == "unhealthy" or container.collector == SIMULATOR or container.store:
        return container.health or container.state, ""
    if status is None or status.state in ("stopped", "stopping"):  # written by the previous process
        return "starting", "no status yet"
    return status.state, status.detail


def _why(engine: DockerEngine, container: Observed, config: str | None) -> str:
    """Return why a container does not run or is unhealthy, as far as the engine knows, and what to do."""
    try:
        condition = engine.condition(container.id)
        if condition.state != "running":
            cause = of_rest(condition, container.collector)
            return "; ".join(filter(None, [*cause, _starter(container, condition.state, config)]))
        if condition.unchecked:
            return "it was paused, and its health has not been checked since"
        said = masked(condition.said, engine.passwords(container.id))
    except EngineError:
        return ""
    why = " ".join(said.split()) or "its health check fails without saying why"
    return f"{why}; `launcher restart {container.collector}` starts it again"


def _starter(container: Observed, state: str, config: str | None) -> str:
    """Return what starts a container that is neither running nor about to; empty if nothing of ours does."""
    if state not in ("created", "exited", "paused") or config in ("orphan", "foreign"):
        return ""
    by_compose = container.manager == COMPOSE
    if state == "paused":
        return f"`{'docker compose unpause' if by_compose else 'launcher up'}` resumes it"
    command = "docker compose up" if by_compose else "launcher up"
    return f"`{command}` starts it" + (" again" if state == "exited" else "")


def _config(
    engine: DockerEngine,
    container: Observed,
    wanted: Mapping[str, CollectorSpec],
    rendered: Mapping[str, str],
    key: bytes,
) -> str:
    spec = wanted.get(container.collector)
    if spec is None:
        return "orphan"
    if container.manager == COMPOSE:
        return "current" if rendered[spec.name] == container.config_hash else "changed"
    try:
        return "changed" if engine.changes(engine.seal(spec, key), container) else "current"
    except EngineError:  # a secret's file is missing; whatever needs it reports that
        return "changed"
