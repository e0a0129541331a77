"""Carries a plan out: the order, what goes in parallel, the waiting, and what is said when one fails."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType

import msgspec

from collector.health import Status
from launcher.engines import Condition, EngineError, Observed
from launcher.engines.docker import DockerEngine
from launcher.plan import COMPOSE, SIMULATOR, Action, Kind, Plan
from launcher.spec import CollectorSpec, FleetSpec

_LOOK_EVERY = 0.3  # seconds between two looks at what is not ready yet
_SIMULATOR_WAIT = 60.0  # seconds; collectors find no exchange without it
_LOG_LINES = 15


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Where a collector is on its way; its last event is its outcome.

    ``state`` is creating, recreating, starting, restarting, removing or waiting on the way, and unchanged,
    ready, started (not waited for), removed, kept or failed at the end; ``log`` is a failed one's last lines.
    """

    collector: str
    state: str
    detail: str = ""
    log: tuple[str, ...] = ()
    status: Status | None = None


class _Started(msgspec.Struct, frozen=True, kw_only=True):
    """A container that is waited for; ``restarts`` is how often the engine had restarted it before."""

    collector: str
    name: str
    id: str
    restarts: int = 0
    secrets: tuple[str, ...] = ()


class Rollout:
    """One command's work on one engine. ``tell`` hears every event, from several threads."""

    def __init__(self, engine: DockerEngine, *, parallel: int, tell: Callable[[Event], None]) -> None:
        self._engine = engine
        self._parallel = parallel
        self._tell_user = tell
        self._last: dict[str, Event] = {}

    @property
    def outcome(self) -> Mapping[str, Event]:
        """The last event of each collector, in the order of their first ones."""
        return MappingProxyType(self._last)

    def up(self, plan: Plan, wait: float) -> None:
        """Makes the fleet as planned and waits up to ``wait`` seconds (0: not at all) for its collectors.

        Raises EngineError, and has touched no container, when a name is compose's or an image or the network
        is missing.
        """
        _refuse_conflicts(plan)
        if making := plan.of(Kind.CREATE, Kind.RECREATE):
            self._engine.require_images(action.spec.container.image for action in making if action.spec)
            self._engine.make_network(plan.fleet)
        for action in plan.of(Kind.KEEP):
            self._tell(action.collector, "kept", action.reason)
        self.remove([action.container for action in plan.of(Kind.REMOVE) if action.container])
        actions = plan.of(Kind.CREATE, Kind.RECREATE, Kind.START, Kind.UNCHANGED)
        first = [action for action in actions if action.collector == SIMULATOR]
        rest = [action for action in actions if action.collector != SIMULATOR]
        self._bring_up(plan.fleet, first, _SIMULATOR_WAIT)
        if any(self._last[action.collector].state == "failed" for action in first):
            for action in rest:
                self._tell(action.collector, "failed", "left as it was, because the simulator is not up")
        else:
            self._bring_up(plan.fleet, rest, wait)

    def restart(self, containers: Sequence[Observed], wait: float) -> None:
        """Restarts containers, the simulator first, and waits for them as ``up`` does."""
        for group in (_simulators(containers), _collectors(containers)):
            started = self._each(group, self._restart)
            self._wait([each for each in started if each], wait)

    def remove(self, containers: Sequence[Observed]) -> None:
        """Stops and removes containers, the simulator last, so that the others end in peace."""
        for group in (_collectors(containers), _simulators(containers)):
            self._each(group, self._remove)

    def _bring_up(self, fleet: FleetSpec, actions: Sequence[Action], wait: float) -> None:
        started = self._each(actions, partial(self._start, fleet))
        self._wait([each for each in started if each], wait)

    def _start(self, fleet: FleetSpec, action: Action) -> _Started | None:
        """Carries out one action; None where there is nothing to wait for."""
        spec, container = action.spec, action.container
        if spec is None:
            return None
        started = partial(
            _Started, collector=spec.name, name=spec.container.name, secrets=_secret_values(spec)
        )
        if container is None:
            self._tell(spec.name, "creating", action.reason)
            made = self._engine.create(fleet, spec)
        elif action.kind is Kind.RECREATE:
            self._tell(spec.name, "recreating", action.reason)
            made = self._engine.replace(fleet, spec, container)
        elif action.kind is Kind.UNCHANGED:
            self._tell(spec.name, "unchanged", action.reason)
            if container.state == "running" and container.health == "healthy":
                return None
            return started(id=container.id, restarts=self._engine.condition(container.id).restarts)
        else:
            self._tell(spec.name, "starting", action.reason)
            made = container.id
        self._engine.start(made)
        return started(id=made)

    def _restart(self, container: Observed) -> _Started:
        self._tell(container.collector, "restarting")
        self._engine.restart(container.id)
        return _Started(collector=container.collector, name=container.name, id=container.id)

    def _remove(self, container: Observed) -> None:
        self._tell(container.collector, "removing")
        self._engine.remove(container.id)
        self._tell(container.collector, "removed")

    def _wait(self, started: Sequence[_Started], seconds: float) -> None:
        """Looks at all that were started until each is ready or has failed."""
        if not seconds:
            for each in started:
                self._tell(each.collector, "started", "not waited for")
            return
        end = time.monotonic() + seconds
        while started := self._not_done(started):
            if time.monotonic() >= end:
                self._each(started, partial(self._give_up, seconds))
                return
            time.sleep(_LOOK_EVERY)

    def _not_done(self, started: Sequence[_Started]) -> list[_Started]:
        self._each(started, self._look)
        return [each for each in started if self._last[each.collector].state not in ("ready", "failed")]

    def _look(self, started: _Started) -> None:
        condition = self._engine.condition(started.id)
        if condition.state != "running" or condition.restarts > started.restarts:
            self._fail(started, _death(condition))
        elif started.collector != SIMULATOR:
            self._look_at_status(started, self._engine.status(started.id, started.name), condition.started)
        elif condition.health in ("healthy", None):
            self._tell(started.collector, "ready", "it listens")
        else:
            self._tell(started.collector, "waiting", "until it listens")

    def _look_at_status(self, started: _Started, status: Status | None, since: float) -> None:
        if status is None or status.time < since:  # what its predecessor left in the spool says nothing
            self._tell(started.collector, "waiting", "until it says something")
        elif fault := _fault(status):
            self._fail(started, fault, status)
        elif status.state == "ready":
            self._tell(started.collector, "ready", status.detail, status=status)
        else:
            self._tell(started.collector, "waiting", _masked(status.detail, started.secrets), status=status)

    def _give_up(self, seconds: float, started: _Started) -> None:
        last = self._last[started.collector]
        self._fail(started, f"not ready after {seconds:g} s: {last.detail}", last.status)

    def _fail(self, started: _Started, detail: str, status: Status | None = None) -> None:
        lines = [line for _, line in self._engine.log(started.id, _LOG_LINES)]
        log = tuple(_masked(line, started.secrets) for line in lines)
        self._tell(started.collector, "failed", _masked(detail, started.secrets), log=log, status=status)

    def _each[T: (Action, Observed, _Started), R](
        self, things: Sequence[T], work: Callable[[T], R]
    ) -> list[R | None]:
        """Does ``work`` for all, some at a time; one that fails is told and does not stop the others."""

        def guarded(thing: T) -> R | None:
            try:
                return work(thing)
            except EngineError as error:
                self._tell(thing.collector, "failed", str(error))
                return None

        if not things:
            return []
        with ThreadPoolExecutor(min(self._parallel, len(things))) as pool:
            try:
                return list(pool.map(guarded, things))
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise

    def _tell(
        self,
        collector: str,
        state: str,
        detail: str = "",
        *,
        log: tuple[str, ...] = (),
        status: Status | None = None,
    ) -> None:
        event = Event(collector=collector, state=state, detail=detail, log=log, status=status)
        before = self._last.get(collector)
        self._last[collector] = event
        if before is None or (before.state, before.detail) != (state, detail):
            self._tell_user(event)


def _refuse_conflicts(plan: Plan) -> None:
    if conflicts := plan.of(Kind.CONFLICT):
        names = ", ".join(action.container.name for action in conflicts if action.container)
        raise EngineError(
            f"nothing was touched: {names} already there and managed by compose;"
            " take them down with `docker compose down` first, or name the fleet otherwise"
        )


def _death(condition: Condition) -> str:
    if condition.error:
        return condition.error
    if condition.state == "running":
        return f"ended and was restarted ({condition.restarts} times)"
    meaning = {78: " (wrong settings)", 137: " (killed, or out of memory)"}.get(condition.exit_code, "")
    return f"{condition.state}: ended with status {condition.exit_code}{meaning}"


def _fault(status: Status) -> str | None:
    """What keeps a collector from getting ready until somebody does something about it."""
    if status.state == "failed":
        return status.detail
    if refused := status.subscriptions.refused:
        return "refused by the exchange: " + "; ".join(f"{name}: {why}" for name, why in refused.items())
    if status.store.state == "refused":
        return f"refused by the store: {status.store.error}"
    return None


def _secret_values(spec: CollectorSpec) -> tuple[str, ...]:
    environment = spec.container.environment
    return tuple(environment[name] for name in spec.secrets if environment.get(name))


def _masked(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _simulators(containers: Iterable[Observed]) -> list[Observed]:
    return [each for each in containers if each.collector == SIMULATOR and each.manager != COMPOSE]


def _collectors(containers: Iterable[Observed]) -> list[Observed]:
    return [each for each in containers if each.collector != SIMULATOR and each.manager != COMPOSE]
