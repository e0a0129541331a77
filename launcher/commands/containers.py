"""The commands that talk to a Docker engine. Each returns the exit status."""

import argparse
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from collector.catalog import nearest
from launcher import logs as logbook
from launcher import overview, plan
from launcher.commands import DEFAULT_FILE, DONE, FAILED, InputError
from launcher.commands.files import load
from launcher.console import Console, Live, Table
from launcher.engines import Observed
from launcher.engines.docker import DockerEngine
from launcher.overview import Row
from launcher.plan import COMPOSE, Kind, Plan
from launcher.rollout import Event, Rollout
from launcher.spec import FleetSpec

#: What `up` has done to a collector, by what the plan said.
_DONE = {
    Kind.CREATE: "created",
    Kind.RECREATE: "recreated",
    Kind.START: "started",
    Kind.UNCHANGED: "unchanged",
    Kind.REMOVE: "removed",
    Kind.KEEP: "kept",
}


class _Selection(msgspec.Struct, frozen=True):
    """What a command line is about: a fleet, by its file or its name, and patterns of collectors."""

    name: str
    fleet: FleetSpec | None
    patterns: tuple[str, ...]

    def of(self, observed: Sequence[Observed]) -> list[Observed]:
        """The containers that match. Raises InputError for a pattern that matches none."""
        names = {container.collector for container in observed}
        if self.fleet:
            names.update(spec.name for spec in plan.specs(self.fleet))
        for pattern in self.patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise InputError(_no_match(pattern, names, self.name))
        return [container for container in observed if self.matches(container.collector)]

    def matches(self, collector: str) -> bool:
        return not self.patterns or any(fnmatchcase(collector, pattern) for pattern in self.patterns)


def up(options: argparse.Namespace, console: Console) -> int:
    """Makes the containers as the file says."""
    fleet = load(options.file, console)
    engine = DockerEngine.connect(options.parallel)
    planned = plan.make(fleet, engine.observe(fleet.name), keep_orphans=options.keep_orphans)
    with _Progress(console) as progress:
        rollout = Rollout(engine, parallel=options.parallel, tell=progress.tell)
        rollout.up(planned, options.wait_timeout)
    changed = planned.of(Kind.CREATE, Kind.RECREATE, Kind.START, Kind.REMOVE)
    failed = _failed(rollout)
    if changed or failed:
        waited = engine.observe(fleet.name) if options.wait_timeout else ()
        console.table(_up_table(planned, rollout, overview.rows(engine, fleet, waited, options.parallel)))
    _explain(failed, console)
    console.say(f"fleet {fleet.name}: {_counted(planned, failed)}")
    return FAILED if failed else DONE


def status(options: argparse.Namespace, console: Console) -> int:
    """Shows how each collector is doing."""
    selection = _select(options, console)
    engine = DockerEngine.connect(options.parallel)
    observed = selection.of(engine.observe(selection.name))
    rows = [
        row
        for row in overview.rows(engine, selection.fleet, observed, options.parallel)
        if selection.matches(row.collector)
    ]
    if options.json:
        console.say(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
    elif rows:
        console.table(_status_table(rows))
    else:
        console.say(f"fleet {selection.name} has no containers")
    return DONE


def logs(options: argparse.Namespace, console: Console) -> int:
    """Shows the collectors' logs."""
    selection = _select(options, console)
    engine = DockerEngine.connect(options.parallel)
    containers = selection.of(engine.observe(selection.name))
    width = max((len(container.collector) for container in containers), default=0)
    lines = (
        logbook.follow(engine, containers, options.tail)
        if options.follow
        else logbook.last(engine, containers, options.tail, options.parallel)
    )
    for collector, line in lines:
        console.say(f"{collector:{width}}  {line}" if len(containers) > 1 else line)
    return DONE


def restart(options: argparse.Namespace, console: Console) -> int:
    """Restarts containers as they are."""
    selection = _select(options, console)
    engine = DockerEngine.connect(options.parallel)
    containers = _ours(selection.of(engine.observe(selection.name)), console)
    with _Progress(console) as progress:
        rollout = Rollout(engine, parallel=options.parallel, tell=progress.tell)
        rollout.restart(containers, options.wait_timeout)
    failed = _failed(rollout)
    _explain(failed, console)
    console.say(f"fleet {selection.name}: {len(containers) - len(failed)} restarted")
    return FAILED if failed else DONE


def down(options: argparse.Namespace, console: Console) -> int:
    """Removes containers, the network when the last is gone, and with --volumes the volumes."""
    selection = _select(options, console)
    engine = DockerEngine.connect(options.parallel)
    containers = _ours(selection.of(engine.observe(selection.name)), console)
    with _Progress(console) as progress:
        rollout = Rollout(engine, parallel=options.parallel, tell=progress.tell)
        rollout.remove(containers)
    failed = _failed(rollout)
    _explain(failed, console)
    rest = engine.observe(selection.name)
    network = None if rest else engine.remove_network(selection.name)
    volumes = _volumes(engine, selection, containers)
    if options.volumes:
        for volume in volumes:
            engine.remove_volume(volume)
    console.say(
        f"fleet {selection.name}: "
        + _gone(len(containers) - len(failed), network, len(volumes), kept=not options.volumes)
    )
    return FAILED if failed else DONE


def _select(options: argparse.Namespace, console: Console) -> _Selection:
    """Tells the file from the patterns among a command's words."""
    files = [word for word in options.words if "/" in word or word.endswith((".yaml", ".yml"))]
    patterns = tuple(word for word in options.words if word not in files)
    if len(files) > 1:
        raise InputError(f"one fleet file, please, not {' and '.join(files)}")
    if options.fleet and files:
        raise InputError(f"--fleet {options.fleet} or {files[0]}, not both")
    if options.fleet:
        return _Selection(options.fleet, None, patterns)
    fleet = load(Path(files[0] if files else DEFAULT_FILE), console, hints=False)
    return _Selection(fleet.name, fleet, patterns)


def _no_match(pattern: str, names: Iterable[str], fleet: str) -> str:
    there = sorted(names)
    if near := nearest(pattern, there):
        return f"no collector {pattern}; did you mean {near[0]}?"
    return f"no collector {pattern}; fleet {fleet} has {', '.join(there) or 'none'}"


def _ours(containers: Iterable[Observed], console: Console) -> list[Observed]:
    """The containers without those of compose, which are named and left alone."""
    ours = []
    for container in containers:
        if container.manager == COMPOSE:
            console.remark(f"{container.name} is managed by compose and left alone")
        else:
            ours.append(container)
    return ours


def _failed(rollout: Rollout) -> list[Event]:
    return [event for event in rollout.outcome.values() if event.state == "failed"]


def _explain(failed: Iterable[Event], console: Console) -> None:
    for event in failed:
        console.remark(f"\n{event.collector} failed: {event.detail}")
        for line in event.log:
            console.remark(f"  | {line}")


def _counted(planned: Plan, failed: Sequence[Event]) -> str:
    """``2 created, 1 unchanged, 1 failed``."""
    bad = {event.collector for event in failed}
    good = [action for action in planned.actions if action.collector not in bad]
    counts = {word: sum(action.kind is kind for action in good) for kind, word in _DONE.items()}
    parts = [f"{count} {word}" for word, count in (counts | {"failed": len(bad)}).items() if count]
    return ", ".join(parts) or "no collectors"


def _up_table(planned: Plan, rollout: Rollout, rows: Sequence[Row]) -> Table:
    known = {row.collector: row for row in rows}
    table = Table("COLLECTOR", "DONE", "STATE", ">STORED", "DETAIL")
    for action in planned.actions:
        event, row = rollout.outcome.get(action.collector), known.get(action.collector)
        state = event.state if event else "-"
        if state in ("unchanged", "kept") and row:
            state = row.state
        stored = f"{row.stored:,}" if row and row.status else "-"
        detail = event.detail if event else action.reason
        table.add(action.collector, _DONE.get(action.kind, "-"), state, stored, detail)
    return table


def _status_table(rows: Sequence[Row]) -> Table:
    table = Table("COLLECTOR", "STATE", "STORE", ">SUBSCRIPTIONS", ">STORED", ">LAST RECORD", "DETAIL")
    for row in rows:
        status = row.status
        table.add(
            row.collector,
            row.state,
            f"{status.store.backend} {status.store.state}" if status else "-",
            _subscriptions(row),
            f"{row.stored:,}" if status else "-",
            f"{max(0, status.time - status.last_received):.0f} s ago"
            if status and status.last_received
            else "-",
            "; ".join(filter(None, [_remark(row), row.detail])),
        )
    return table


def _subscriptions(row: Row) -> str:
    if not row.status:
        return "-"
    asked = row.status.subscriptions
    return f"{asked.confirmed} of {asked.confirmed + len(asked.pending) + len(asked.refused)}"


def _remark(row: Row) -> str:
    if row.container and row.container.manager == COMPOSE:
        return "managed by compose"
    return {"changed": "the file has changed", "orphan": "not in the file"}.get(row.config or "", "")


def _volumes(engine: DockerEngine, selection: _Selection, removed: Sequence[Observed]) -> list[str]:
    """The fleet's volumes; with patterns, the spools of what was removed."""
    volumes = engine.volumes(selection.name)
    if not selection.patterns:
        return volumes
    spools = {f"{container.name}-spool" for container in removed}
    return [volume for volume in volumes if volume in spools]


def _gone(removed: int, network: str | None, volumes: int, *, kept: bool) -> str:
    parts = [f"{removed} removed"] if removed else []
    parts += [f"network {network} removed"] if network else []
    if volumes:
        parts.append(f"{volumes} volumes " + ("kept (--volumes removes them)" if kept else "removed"))
    return ", ".join(parts) or "nothing to remove"


class _Progress:
    """Shows the last event of each collector while a rollout is on its way."""

    def __init__(self, console: Console) -> None:
        self._events: dict[str, Event] = {}
        self._live: Live = console.live(self._table)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def tell(self, event: Event) -> None:
        """Hears an event; without a terminal each is a line."""
        self._events[event.collector] = event
        if not self._live.is_terminal and event.state != "unchanged":
            self._live.line(
                f"{event.collector}: {event.state}" + (f" ({event.detail})" if event.detail else "")
            )

    def _table(self) -> Table:
        table = Table("COLLECTOR", "STATE", "DETAIL")
        for event in list(self._events.values()):
            table.add(event.collector, event.state, event.detail)
        return table
