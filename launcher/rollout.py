"""Carries a plan out: the order, what goes in parallel, the waiting, and what is said when one fails."""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import MappingProxyType

import msgspec
from msgspec import structs

from collector.health import Leftover, Status
from collector.masking import masked
from launcher import failures
from launcher.engines import Condition, EngineError, LogLines, Observed
from launcher.engines.containers import Sealed
from launcher.engines.docker import SPOOL, DockerEngine
from launcher.failures import Cause
from launcher.names import COMPOSE, NEXT, PREVIOUS, SIMULATOR
from launcher.plan import Action, Kind, Plan
from launcher.spec import CollectorSpec
from launcher.start_pace import Pace

_LOOK_EVERY = 0.5  # seconds between two looks at what is not ready yet; a status is written every second
_UNSEEN_WAIT = 3.0  # seconds that one that is ready has to find out what it has not seen
_SIMULATOR_WAIT = 60.0  # seconds; collectors find no exchange without it
_STANDBY_WAIT = 20.0  # seconds that a successor gets to read what the exchange lists
_STORE_WAIT = 180.0  # seconds; a server that begins makes its files first
#: Seconds between the beginnings of two stops. The kernel takes about as long to remove a container's network
#: device, one after the other: what ends at the same moment waits for that, with the engine idle.
_STOP_APART = 0.025
_LOG_LINES = 15
#: What ``collector check`` tries: the spool's folder, store and credentials, the exchange and its symbols.
_CHECK = ("check", "--connect")
#: How far a collector has to be until it needs no more looks, and until nothing is kept for its failure.
_DONE, _WELL = ("ready", "failed"), ("ready", "started")


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a collector is on its way; its last event is its outcome.

    ``state`` is checking, creating, updating, recreating, starting, restarting, removing or waiting on the
    way, and unchanged, ready, started (not waited for), removed, kept, left (not begun) or failed at the end.
    ``remedy`` is what to do about a failure, ``log`` a failed one's last lines; ``unseen`` the seconds for
    which one that was replaced saw nothing; ``leftover`` what is left in the spool of one that was removed,
    None if nobody knows.
    """

    collector: str
    state: str
    detail: str = ""
    remedy: str = ""
    log: tuple[str, ...] = ()
    status: Status | None = None
    unseen: float | None = None
    leftover: Leftover | None = Leftover()


class _Started(msgspec.Struct, frozen=True, kw_only=True):
    """A container that is waited for.

    ``restarts`` is how often the engine had restarted it before; ``since`` when what it replaces was stopped,
    by time.monotonic, and ``predecessor`` the last status of that; ``put_back`` brings it back, and says so;
    ``settle`` removes what only that needed; ``last_written`` is the time of its last status before it was
    resumed, if it was paused; ``speaks`` tells a collector, which says of itself how it is,
    from a server, which has a health check.
    """

    collector: str
    name: str
    id: str
    speaks: bool
    restarts: int = 0
    last_written: float = -math.inf
    since: float | None = None
    predecessor: Status | None = None
    put_back: Callable[[], str] = str
    settle: Callable[[], object] = str


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to go about it.

    ``parallel`` is the most containers at a time, ``parallelism`` the most that are replaced at a time,
    ``wait`` how many seconds each gets until it is ready (0: it is not waited for); ``check`` whether a new
    configuration is tried before the container of the old one stops.
    """

    parallel: int
    parallelism: int = 1
    wait: float = 60.0
    check: bool = True


class Rollout:
    """One command's work on one engine.

    ``tell`` hears every event, from several threads. Once ``stop`` is set nothing more is begun or waited
    for: what is under way ends in order, and the method raises KeyboardInterrupt if anything was left.
    """

    def __init__(
        self, engine: DockerEngine, options: Options, tell: Callable[[Event], None], stop: threading.Event
    ) -> None:
        self._engine = engine
        self._options = options
        self._tell_user = tell
        self._stop = stop
        self._cut_short = False
        self._telling = threading.Lock()
        self._last: dict[str, Event] = {}
        self._halted_by: str | None = None
        self._replacing: tuple[
            str, ...
        ] = ()  # options of a check: what the plan's containers store is no overlap
        self._to_replace: set[str] = set()  # names of containers that are still to be replaced
        self._early: dict[str, _Started] = {}  # what lacks nothing but what one of these has
        self._ready: dict[str, float] = {}  # when containers were first found ready, by time.monotonic()
        self._passed: set[str] = set()  # collectors whose new configuration has passed its check
        self._pace: Pace | None = None  # None: nobody counts the starts

    @property
    def outcome(self) -> Mapping[str, Event]:
        """The last event of each collector, in the order of their first ones."""
        return MappingProxyType(self._last)

    def up(self, plan: Plan, key: bytes) -> None:
        """Make the fleet as planned and waits for its collectors; ``key`` seals their secrets.

        Nothing may stand in its way (obstacles.py). Raises EngineError, and has touched no container, where
        there is no network.
        """
        self._pace = None if plan.fleet.simulator else Pace()
        self._replacing = replacing(
            action.container for action in plan.actions if action.container and action.kind is not Kind.KEEP
        )
        if any(action.makes_container for action in plan.actions):
            self._engine.make_network(plan.fleet)
        for action in plan.of(Kind.KEEP):
            self._tell(Event(collector=action.collector, state="kept", detail=action.reason))
        leaving = _leaving(plan)
        self._take_away([action for action in plan.of(Kind.REMOVE) if action not in leaving])
        actions = plan.of(Kind.CREATE, Kind.UPDATE, Kind.RECREATE, Kind.START, Kind.UNCHANGED)
        first = [action for action in actions if action.collector == SIMULATOR]
        stores = [action for action in actions if action.is_store]
        rest = [action for action in actions if action not in (*first, *stores)]
        self._bring_up(first, key, _SIMULATOR_WAIT)
        self._converge(stores, key, _STORE_WAIT)
        failed = [
            action for action in (*first, *stores) if self._state(action.collector) in ("failed", "left")
        ]
        if failed:
            what = "the simulator" if failed[0] in first else f"store {failed[0].collector}"
            for action in (*rest, *leaving):
                self._leave(action, f"left as it was, because {what} is not up")
            return
        self._converge(rest, key, self._options.wait, leaving)
        self._end()

    def _take_away(self, actions: Iterable[Action]) -> None:
        self.remove([action.container for action in actions if action.container])

    def _converge(
        self, actions: Sequence[Action], key: bytes, wait: float, leaving: Sequence[Action] = ()
    ) -> None:
        """Carry out actions on what needs nothing of each other.

        A new shard takes symbols of those that are there: it waits until they have released them. So do they
        until those that are ``leaving`` have. Who takes symbols of one that is still to be replaced is
        waited for once more in the end.
        """
        rolled = [action for action in actions if action.kind in (Kind.UPDATE, Kind.RECREATE)]
        sharing = {_shared(action.spec) for action in rolled} - {None}
        shards = [each for each in actions if each.kind is Kind.CREATE and _shared(each.spec) in sharing]
        at_once = [action for action in actions if action not in (*rolled, *shards)]
        self._to_replace = {action.container.name for action in rolled if action.container}
        self._bring_up(at_once, key, wait)
        if leaving:
            self._scale_down(leaving, rolled, key)
        rolled = [action for action in rolled if self._state(action.collector) != "failed"]
        self._each(rolled, partial(self._roll, key), self._options.parallelism)
        for action in leaving if self._halted_by else ():
            self._regret(action)
        for action in shards if self._halted_by else ():
            self._leave(action, f"not created, because the update of {self._halted_by} failed")
        self._bring_up([] if self._halted_by else shards, key, wait)
        self._wait_for_the_early(wait)

    def _wait_for_the_early(self, seconds: float) -> None:
        """Wait for what became ready except for symbols that others had and now have released."""
        self._to_replace.clear()
        early = [each for each in self._each([*self._early.values()], self._again) if each]
        self._early.clear()
        self._wait(early, seconds)
        for each in early:
            if self._state(each.collector) in _WELL:
                each.settle()

    def _again(self, started: _Started) -> _Started:
        """Start again what others had all symbols of: it has ended because of that, or is about to."""
        condition, status = self._engine.condition(started.id), self._engine.status(started.id, started.name)
        ended = condition.state != "running" or condition.restarts > started.restarts
        if ended or status is None or status.subscriptions.all_overlap:
            self._engine.restart(started.id)
        return msgspec.structs.replace(started, restarts=self._engine.condition(started.id).restarts)

    def _scale_down(self, leaving: Sequence[Action], rolled: Iterable[Action], key: bytes) -> None:
        """Remove shards whose symbols others of their collector take, once all these pass their checks."""
        heirs = {_collector_of_shard(action.collector) for action in leaving}
        trying = [action for action in rolled if _shared(action.spec) in heirs]
        self._each(trying, partial(self._try, key), self._options.parallelism)
        self._halt_where_failed(trying)
        if not self._halted_by:
            self._take_away(leaving)
            self._halt_where_failed(leaving)
            return
        for action in leaving:
            self._leave(action, f"left as it was, because the update of {self._halted_by} failed")

    def _regret(self, action: Action) -> None:
        """Say what it costs that a shard was removed, and one that takes its symbols was not updated."""
        event = self._last[action.collector]
        if event.state == "removed":
            cost = f"until {self._halted_by} is updated, some of its symbols are recorded by nobody"
            detail = "; ".join(filter(None, [event.detail, cost]))
            self._tell(msgspec.structs.replace(event, detail=detail))

    def _try(self, key: bytes, action: Action) -> None:
        if action.spec and self._passes(self._engine.seal(action.spec, key), key):
            self._passed.add(action.collector)

    def _halt_where_failed(self, actions: Iterable[Action]) -> None:
        failed = (each.collector for each in actions if self._state(each.collector) == "failed")
        self._halted_by = next(failed, self._halted_by)

    def restart(self, containers: Sequence[Observed]) -> None:
        """Restart containers, the simulator and store first, and wait for them as ``up`` does."""
        for group in (_simulators(containers), _stores(containers), _collectors(containers)):
            started = self._each(group, self._restart)
            self._wait([each for each in started if each], self._options.wait)
        self._end()

    def remove(self, containers: Sequence[Observed], held: Callable[[], object] = bool) -> None:
        """Stop and remove containers, store and the simulator last, so that the others end in peace.

        Between the two ``held`` waits until nobody else can change the fleet; it raises EngineError.
        """
        for group in (_collectors(containers), _stores(containers), _simulators(containers)):
            self._each(group, partial(self._remove, held), apart=_STOP_APART)
        self._end()

    def _end(self) -> None:
        if self._cut_short:
            raise KeyboardInterrupt

    def _stopped(self) -> bool:
        """Return whether to stop, asked where something is still to do."""
        self._cut_short |= self._stop.is_set()
        return self._cut_short

    def _bring_up(self, actions: Sequence[Action], key: bytes, wait: float) -> None:
        started = self._each(actions, partial(self._start, key))
        self._wait([each for each in started if each], wait)

    def _start(self, key: bytes, action: Action) -> _Started | None:
        """Carry out an action that replaces no collector; None if there is nothing to wait for."""
        spec, container = action.spec, action.container
        if spec is None:
            return None
        started = partial(
            _Started,
            collector=spec.name,
            name=spec.container.name,
            speaks=_is_collector(spec.name, spec.server),
        )
        if action.kind is Kind.UNCHANGED and container:
            self._say(spec.name, "unchanged", action.reason)
            condition = self._engine.condition(container.id)
            if container.state == "running" and (not self._options.wait or _says_ready(spec, condition)):
                return None
            written = self._last_written(container) if condition.unchecked else -math.inf
            return started(id=container.id, restarts=condition.restarts, last_written=written)
        written = -math.inf
        with self._turn(spec) as has_turn:
            if not has_turn:
                return None
            if container is None:
                self._say(spec.name, "creating", action.reason)
                made = self._engine.create(self._engine.seal(spec, key), key=key)
            elif action.kind is Kind.START:
                self._say(spec.name, "starting", action.reason)
                if container.state == "paused":
                    written = self._last_written(container)
                made = container.id
            else:  # a simulator that is not as it should be
                self._say(spec.name, "recreating", action.reason)
                self._engine.stop(container.id)
                self._engine.remove(container.id)
                made = self._engine.create(self._engine.seal(spec, key), key=key)
            self._engine.start(made)
        return started(id=made, last_written=written)

    def _last_written(self, container: Observed) -> float:
        """Return when a container wrote its status; the next one is evidence that it runs."""
        status = self._engine.status(container.id, container.name)
        return status.time if status else -math.inf

    @contextlib.contextmanager
    def _turn(self, spec: CollectorSpec) -> Iterator[bool]:
        """Encloses a start, once it is the next on its exchange; False where somebody wants to stop."""
        exchange = spec.container.environment.get("EXCHANGE")
        if not self._pace or not exchange:
            yield not self._stopped()
            return
        with self._pace.turn(exchange) as seconds:
            if seconds:
                self._say(
                    spec.name, "waiting", f"{seconds:.0f} s for its turn: {exchange} limits connections"
                )
                self._stop.wait(seconds)
            yield not self._stopped()

    def _roll(self, key: bytes, action: Action) -> None:
        """Update one collector, unless an update failed before: then what is not begun is left as it is."""
        if self._halted_by:
            self._note_replaced(action)
            self._leave(action, f"left as it was, because the update of {self._halted_by} failed")
            return
        try:
            started = self._changed(key, action)
            self._note_replaced(action)
            self._wait([started] if started else [], _STORE_WAIT if action.is_store else self._options.wait)
            if started and self._state(action.collector) in _WELL:
                started.settle()
        except EngineError:
            self._note_replaced(action)
            self._halted_by = action.collector
            raise
        if self._state(action.collector) == "failed":
            self._halted_by = action.collector

    def _note_replaced(self, action: Action) -> None:
        """Take note that a container was replaced, or stays as it is: nobody waits for that any more."""
        if action.container:
            self._to_replace.discard(action.container.name)

    def _changed(self, key: bytes, action: Action) -> _Started | None:
        if action.container and action.container.is_service:
            return self._update_service(key, action)
        return self._update(key, action) if action.kind is Kind.UPDATE else self._replace(key, action)

    def _update_service(self, key: bytes, action: Action) -> _Started | None:
        """Have the swarm replace a service's container, once the new configuration was tried."""
        spec, service = action.spec, action.container
        if spec is None or service is None:
            return None
        sealed = self._engine.seal(spec, key)
        if not self._passes(sealed, key) or self._stopped():
            return None
        self._say(spec.name, "updating", action.reason)
        before = self._engine.status(service.id, service.name)
        since = time.monotonic()
        self._engine.update(service.id, sealed)
        return _Started(
            collector=spec.name,
            name=service.name,
            id=service.id,
            speaks=True,
            since=since,
            predecessor=before,
            put_back=partial(self._roll_back, service.id),
            settle=partial(self._engine.settle, service.id),
        )

    def _roll_back(self, service: str) -> str:
        try:
            self._engine.roll_back(service)
        except EngineError as error:
            return f"and the old service could not be brought back: {error}"
        return "the swarm has rolled the service back"

    def _passes(self, sealed: Sealed, key: bytes) -> bool:
        """Return whether ``collector check`` has nothing against a configuration, or is left out."""
        if not self._options.check or sealed.spec.server or sealed.spec.name in self._passed:
            return True
        self._say(sealed.spec.name, "checking", "the new configuration; --no-check leaves that out")
        checked = self._engine.check(sealed, (*_CHECK, *self._replacing), key)
        if checked.exit_code:
            self._fail_check(sealed.spec.name, checked.lines)
        return not checked.exit_code

    def _update(self, key: bytes, action: Action) -> _Started | None:
        spec, container = action.spec, action.container
        if spec is None or container is None:
            return None
        self._say(spec.name, "updating", action.reason)
        self._engine.update(container.id, self._engine.seal(spec, key))
        if container.state not in ("running", "restarting"):
            self._engine.start(container.id)
        restarts = self._engine.condition(container.id).restarts
        return _Started(
            collector=spec.name,
            name=container.name,
            id=container.id,
            speaks=not spec.server,
            restarts=restarts,
        )

    def _replace(self, key: bytes, action: Action) -> _Started | None:
        """Put a new container in the place of an old one, which is kept until the new one is ready.

        Whatever can be tried before the old one stops is tried: what the engine refuses, and what
        ``collector check`` finds. The new one does beforehand what it can: it then waits for the spool alone.
        """
        spec, old = action.spec, action.container
        if spec is None or old is None:
            return None
        sealed = self._engine.seal(spec, key)
        successor = self._engine.create(sealed, name=f"{spec.container.name}{NEXT}", key=key)
        try:
            if not self._passes(sealed, key) or self._stopped():
                self._engine.remove(successor)
                return None
            self._say(spec.name, "recreating", action.reason)
            stands_by = _shares_spool(spec, old) and self._stands_by(successor, old)
            before = None if spec.server else self._engine.status(old.id, old.name)
            since = time.monotonic()
            self._engine.stop(old.id)
            self._engine.rename(old.id, f"{old.name}{PREVIOUS}")
            self._engine.rename(successor, old.name)
            if not stands_by:
                self._engine.start(successor)
        except EngineError as error:
            raise EngineError(f"{error}; {self._put_back(old, successor)}") from error
        return _Started(
            collector=spec.name,
            name=old.name,
            id=successor,
            speaks=not spec.server,
            since=since,
            predecessor=before,
            put_back=partial(self._put_back, old, successor),
            settle=partial(self._engine.remove, f"{old.name}{PREVIOUS}"),
        )

    def _stands_by(self, successor: str, old: Observed) -> bool:
        """Start a container that waits for the old one's spool; return whether it is ready to take it.

        One that does not get ready, as one of an earlier version, is stopped again.
        """
        was, stood_by = self._engine.status(old.id, old.name), self._engine.standby(old.id, old.name)
        self._engine.start(successor)
        end = time.monotonic() + _STANDBY_WAIT
        while time.monotonic() < end and not self._stop.is_set():
            condition = self._engine.condition(successor)
            if condition.state != "running" or condition.restarts:
                break
            if self._engine.standby(successor, old.name) not in (None, stood_by):
                return True
            status = self._engine.status(successor, old.name)
            if status and was and status.started != was.started:
                return True  # the old one has released the spool by itself
            self._stop.wait(_LOOK_EVERY)
        self._engine.stop(successor)
        return False

    def _fail_check(self, collector: str, lines: Sequence[str]) -> None:
        detail = "the new configuration does not work, so the old container was left as it is"
        remedy = "the fault is shown below; --no-check replaces the container anyway"
        log = tuple(lines[-_LOG_LINES:])
        self._tell(Event(collector=collector, state="failed", detail=detail, remedy=remedy, log=log))

    def _put_back(self, old: Observed, successor: str) -> str:
        """Undo a replacement, however far it went; a sentence about how that ended."""
        try:
            self._engine.stop(successor)
            self._engine.remove(successor)
            with contextlib.suppress(EngineError):  # it has its name still
                self._engine.rename(old.id, old.name)
            if old.state in ("running", "restarting"):
                self._engine.start(old.id)
        except EngineError as error:
            return f"and the old container could not be brought back: {error}"
        return "the old container is back"

    def _leave(self, action: Action, why: str) -> None:
        self._tell(Event(collector=action.collector, state="left", detail=why))

    def _restart(self, container: Observed) -> _Started:
        self._say(container.collector, "restarting")
        self._engine.restart(container.id)
        speaks = _is_collector(container.collector, container.store)
        return _Started(collector=container.collector, name=container.name, id=container.id, speaks=speaks)

    def _remove(self, held: Callable[[], object], container: Observed) -> None:
        """Stop a container, so that it stores what it has, and removes it; tells what it could not store."""
        self._say(container.collector, "removing")
        self._engine.stop(container.id)
        held()
        speaks = _is_collector(container.collector, container.store)
        leftover = self._engine.leftover(container.id, container.name) if speaks else Leftover()
        self._engine.remove(container.id)
        if container.is_passing:
            detail = f"{container.name}, left over from an interrupted command"
        else:
            detail = "its data is kept" if container.store else _kept(leftover)
        self._tell(Event(collector=container.collector, state="removed", detail=detail, leftover=leftover))

    def _wait(self, started: Sequence[_Started], seconds: float) -> None:
        """Look at all that were started until each is ready or has failed."""
        if not seconds:
            for each in started:
                self._say(each.collector, "started", "not waited for")
            return
        end = time.monotonic() + seconds
        looked = time.monotonic()
        while (started := self._not_done(started)) and not self._stopped():
            if time.monotonic() >= end:
                self._each(started, partial(self._give_up, seconds))
                return
            # To look at many takes the engine longer than that, and keeps it from starting the others.
            self._stop.wait(max(_LOOK_EVERY, time.monotonic() - looked))
            looked = time.monotonic()

    def _not_done(self, started: Sequence[_Started]) -> list[_Started]:
        self._each(started, self._look)
        return [
            each
            for each in started
            if self._state(each.collector) not in _DONE and each.collector not in self._early
        ]

    def _look(self, started: _Started) -> None:
        condition = self._engine.condition(started.id)
        taken_back = condition.taken_back and started.since is not None
        if taken_back or condition.state != "running" or condition.restarts > started.restarts:
            self._fail(started, failures.of_death(condition))
        elif condition.elsewhere:
            state = "ready" if condition.health == "healthy" else "waiting"
            self._say(
                started.collector,
                state,
                f"on {condition.elsewhere}, where only its log can be read from here",
            )
        elif started.speaks:
            self._look_at_status(started, self._engine.status(started.id, started.name), condition)
        elif condition.health in ("healthy", None):
            self._say(started.collector, "ready", "accepts connections")
        else:
            self._say(
                started.collector, "waiting", self._unhealthy(started, condition, "it does not listen yet")
            )

    def _look_at_status(self, started: _Started, status: Status | None, condition: Condition) -> None:
        # What its predecessor says, or has said, beside the spool is not about this one.
        before = started.predecessor
        if status is None or status.time < condition.started or (before and status.started == before.started):
            self._say(started.collector, "waiting", self._unhealthy(started, condition, "no status yet"))
        elif cause := failures.of_status(status):
            self._fail(started, cause, status)
        elif condition.unchecked and status.time <= started.last_written:
            self._say(started.collector, "waiting", "was paused, and has written no status since")
        elif _is_sick(condition):  # stuck: its last word is an old one
            self._say(started.collector, "waiting", self._unhealthy(started, condition, "stuck"))
        elif status.state == "ready":
            self._look_at_unseen(started, status)
        else:
            others = set(status.subscriptions.overlapping_with)
            if others and others <= self._to_replace:
                self._early[started.collector] = started
            detail = self._masked(started, status.detail)
            self._tell(Event(collector=started.collector, state="waiting", detail=detail, status=status))

    def _look_at_unseen(self, started: _Started, status: Status) -> None:
        """Report as ready what knows how long it saw nothing, or does not find that out in time."""
        ready = Event(collector=started.collector, state="ready", detail=status.detail, status=status)
        if started.since is not None:
            now = time.monotonic()
            if status.unseen is None and now - self._ready.setdefault(started.id, now) < _UNSEEN_WAIT:
                self._say(started.collector, "waiting", "looks up what its predecessor saw last")
                return
            unseen, bound = status.unseen, ""
            if unseen is None:
                unseen = now - started.since
                saw_all = started.predecessor is None or started.predecessor.state == "ready"
                bound = "at most " if saw_all else "at least "
            ready = structs.replace(
                ready, detail=f"{ready.detail}; {bound}{unseen:.1f} s unseen", unseen=unseen
            )
        self._tell(ready)

    def _unhealthy(self, started: _Started, condition: Condition, why: str) -> str:
        """Return what a container waits for: what its health check says, once the engine goes by that."""
        said = condition.said if _is_sick(condition) else ""
        return " ".join(self._masked(started, said).split()) or why

    def _masked(self, started: _Started, *texts: str) -> str:
        return masked("\n".join(texts), self._engine.passwords(started.id))

    def _give_up(self, seconds: float, started: _Started) -> None:
        if started.id in self._ready:  # all that it may lack is what it has not seen
            self._ready[started.id] = -math.inf
            self._look(started)
            if self._state(started.collector) in _DONE:
                return
        last = self._last[started.collector]
        cause = failures.of_delay(seconds, last.detail, last.status)
        if _is_sick(self._engine.condition(started.id)):
            cause = failures.of_ill_health(seconds, last.detail, started.collector)
        self._fail(started, cause, last.status)

    def _fail(self, started: _Started, cause: Cause, status: Status | None = None) -> None:
        lines = [line for _, line in self._engine.log(started.id, LogLines(tail=_LOG_LINES))]
        detail, *log = self._masked(started, cause.detail.replace("\n", " "), *lines).split("\n")
        detail = "; ".join(filter(None, [detail, started.put_back()]))
        self._tell(
            Event(
                collector=started.collector,
                state="failed",
                detail=detail,
                remedy=cause.remedy,
                log=tuple(log),
                status=status,
            )
        )

    def _each[T: (Action, Observed, _Started), R](
        self,
        things: Sequence[T],
        work: Callable[[T], R],
        at_a_time: int | None = None,
        *,
        apart: float = 0.0,
    ) -> list[R | None]:
        """Do ``work`` for all, some at a time; one that fails is reported and does not stop the others.

        Each begins ``apart`` seconds after the one before it, or later.
        """

        def guarded(thing: T) -> R | None:
            if self._stopped():
                return None
            try:
                return work(thing)
            except EngineError as error:
                self._say(thing.collector, "failed", str(error))
                return None

        if len(things) < 2:
            return [guarded(thing) for thing in things]
        with ThreadPoolExecutor(min(at_a_time or self._options.parallel, len(things))) as pool:
            try:
                return list(pool.map(guarded, self._spread(things, apart)))
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise

    def _spread[T](self, things: Iterable[T], apart: float) -> Iterator[T]:
        """Yield things one after the other, some seconds apart, or at once when somebody wants to stop."""
        for thing in things:
            yield thing
            self._stop.wait(apart)

    def _state(self, collector: str) -> str | None:
        """Return the collector's last event; None if nothing was begun."""
        return self._last[collector].state if collector in self._last else None

    def _say(self, collector: str, state: str, detail: str = "") -> None:
        self._tell(Event(collector=collector, state=state, detail=detail))

    def _tell(self, event: Event) -> None:
        with self._telling:
            before = self._last.get(event.collector)
            self._last[event.collector] = event
            if before is None or (before.state, before.detail) != (event.state, event.detail):
                self._tell_user(event)


def _shares_spool(spec: CollectorSpec, old: Observed) -> bool:
    """Return whether a collector that replaces a running one waits for its spool: else both would record."""
    spools = {mount.source for mount in spec.container.mounts if mount.target == SPOOL}
    return (
        bool(spools)
        and spools <= {*old.volumes}
        and (old.name, old.state) == (spec.container.name, "running")
    )


def _says_ready(spec: CollectorSpec, condition: Condition) -> bool:
    """Whether the health check's last word is that it works; that it is healthy means just that it lives."""
    if condition.health != "healthy":
        return False
    return not _is_collector(spec.name, spec.server) or condition.said.startswith("ready: ")


def _is_sick(condition: Condition) -> bool:
    """Return whether a health check found a container unhealthy; the engine says so of a paused one, too."""
    return condition.health == "unhealthy" and not condition.unchecked


def _shared(spec: CollectorSpec | None) -> str | None:
    """Return the name in the fleet file of a collector that is one of several shards, None for any other."""
    number = spec.container.environment.get("SHARD", "").partition("/")[0] if spec else ""
    return spec.name.removesuffix(f"-{number}") if spec and number else None


def _collector_of_shard(name: str) -> str | None:
    """Return the same of the name of a container, where it may be that of a shard."""
    collector, _, number = name.rpartition("-")
    return collector if number.isdecimal() else None


def _leaving(plan: Plan) -> list[Action]:
    """Return the removals of shards whose collector goes on with fewer."""
    sharing = {_shared(action.spec) for action in plan.of(Kind.UPDATE, Kind.RECREATE)} - {None}
    there = {action.collector for action in plan.actions if action.spec}
    return [
        action
        for action in plan.of(Kind.REMOVE)
        if _collector_of_shard(action.collector) in sharing and action.collector not in there
    ]


def replacing(containers: Iterable[Observed]) -> tuple[str, ...]:
    """Return the options of ``collector check`` that say from which collectors others may take over."""
    names = (each.name for each in containers if _is_collector(each.collector, each.store))
    return tuple(f"--replacing={name}" for name in names)


def _kept(leftover: Leftover | None) -> str:
    if leftover is None:
        return (
            "its spool is kept: it may hold records that are not stored,"
            " because the collector did not shut down cleanly"
        )
    return f"its spool is kept: it holds {leftover}" if leftover else ""


def _is_collector(name: str, server: str) -> bool:
    return name != SIMULATOR and not server


def _simulators(containers: Iterable[Observed]) -> list[Observed]:
    return [each for each in containers if each.collector == SIMULATOR and each.manager != COMPOSE]


def _stores(containers: Iterable[Observed]) -> list[Observed]:
    return [each for each in containers if each.store and each.manager != COMPOSE]


def _collectors(containers: Iterable[Observed]) -> list[Observed]:
    return [
        each for each in containers if _is_collector(each.collector, each.store) and each.manager != COMPOSE
    ]
