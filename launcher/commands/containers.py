"""The commands that talk to a Docker engine. Each returns the exit status."""

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from collector.health import Leftover
from launcher import local_run, names, overview, ownership, plan, status_table
from launcher import logs as logbook
from launcher.commands import DEFAULT_FILE, DONE, FAILED, InputError, consent
from launcher.commands.files import whole
from launcher.commands.progress import Progress, explain, failed_of, interrupt
from launcher.console import Console
from launcher.engines import EngineError, Labelled, LogLines, Observed, chosen
from launcher.engines.docker import DockerEngine
from launcher.names import COMPOSE, SPOOL, Volume
from launcher.overview import Row
from launcher.owner import NOBODY, Owner, whoami
from launcher.ownership import Holding, Purpose
from launcher.rollout import Options, Rollout
from launcher.selection import NothingSelectedError, matches, require_match
from launcher.spec import FleetSpec

#: Connections that are kept open between requests, where a command takes all containers at once.
_MOST = 256
_TAIL = 100  # lines of each log that are shown, where neither their number nor a time is asked for
_SERVER_NAMES = {"redis": "Redis", "postgres": "Postgres", "mongo": "MongoDB"}


class _Selection(msgspec.Struct, frozen=True):
    """What a command line is about: a fleet, by its file or its name, and patterns of collectors."""

    name: str
    fleet: FleetSpec | None
    patterns: tuple[str, ...]

    def of(self, observed: Sequence[Observed]) -> list[Observed]:
        """Return the containers that match. Raises InputError for a pattern that matches none."""
        self.require(container.collector for container in observed)
        return [container for container in observed if self.matches(container.collector)]

    def require(self, there: Iterable[str]) -> None:
        """Raise InputError for a pattern that matches no collector of the file, and none of ``there``."""
        names = {*there, *(spec.name for spec in plan.specs(self.fleet))} if self.fleet else {*there}
        try:
            require_match(self.patterns, names, self.name)
        except NothingSelectedError as error:
            raise InputError(str(error)) from error

    @property
    def owner(self) -> Owner:
        """Whose the fleet is; nobody's where only its name is known."""
        return self.fleet.owner if self.fleet else NOBODY

    def held(self, engine: DockerEngine, purpose: Purpose, *, adopt: bool) -> Holding:
        """Return the containers that are the fleet's. Raises EngineError if it is another's."""
        observed = engine.observe(self.name)
        if self.fleet:
            return ownership.of_fleet(self.fleet, observed, purpose=purpose, adopt=adopt)
        return ownership.hold(self.name, NOBODY, observed, (), adopt=adopt)

    def connect(self, connections: int) -> DockerEngine:
        """Return the engine that the fleet is on."""
        if self.fleet:
            return chosen.connect(self.fleet, connections)
        return chosen.connect_by_name(self.name, connections)

    def matches(self, collector: str) -> bool:
        return matches(collector, self.patterns)


def status(options: argparse.Namespace, console: Console) -> int:
    """Show how each collector is doing."""
    selection = _select(options)
    run = local_run.find(selection.name)
    others = _tell_run_of_another(selection, console) if run else False
    there = overview.rows_of_run(selection.name, run, foreign=others) if run else []
    try:
        engine = selection.connect(options.parallel)
        observed = engine.observe(selection.name)
        there += overview.rows(engine, selection.fleet, observed, options.parallel)
        _tell_foreign(selection, observed, console)
    except EngineError as error:
        if not run:
            raise
        console.remark(f"containers are not shown: {error}")
    selection.require({row.collector for row in there})
    rows = [row for row in overview.with_absent(there, selection.fleet) if selection.matches(row.collector)]
    if options.json:
        console.json(rows)
    elif rows:
        _show(rows, None if options.all else console.lines, console)
    else:
        console.say(f"fleet {selection.name} has no containers")
    well = bool(rows) and all(row.is_well for row in rows)
    return FAILED if options.exit_code and not well else DONE


def _tell_run_of_another(selection: _Selection, console: Console) -> bool:
    """Say whose the `launcher run` of this folder is where it is another fleet's; return whether it is."""
    others = local_run.of_another(selection.fleet) if selection.fleet else ""
    if others:
        console.remark(f"not this file's: the `launcher run` in this folder, which is of {others}")
    return bool(others)


def _tell_foreign(selection: _Selection, observed: Sequence[Observed], console: Console) -> None:
    """Say what of that which is shown is another fleet's: `up` and `down` do not touch it."""
    theirs = ownership.foreign(selection.fleet, observed) if selection.fleet else ()
    if shown := [each for each in theirs if selection.matches(each.collector)]:
        console.remark(f"not this file's: {ownership.whose(shown)}")


def _show(rows: Sequence[Row], lines: int | None, console: Console) -> None:
    shown, rest = status_table.fitting(rows, lines) if lines else (rows, "")
    console.table(status_table.table(shown), one_line=True)
    if rest:
        console.say(rest)


def logs(options: argparse.Namespace, console: Console) -> int:
    """Show the logs of the containers, or of the `launcher run` of this folder."""
    selection = _select(options)
    width, lines = _lines_of_run(selection, options, console) or _lines_of_containers(
        selection, options, console
    )
    for collector, line in lines:
        if options.json:
            console.json({"collector": collector, "line": line}, lines=True)
            continue
        console.say(f"{collector:{width}}  {line}" if width else line)
    return DONE


#: The width of the collectors' names, 0 where there is one alone; collector and line of each.
type _Lines = tuple[int, Iterator[tuple[str, str]]]


def _lines_of_containers(selection: _Selection, options: argparse.Namespace, console: Console) -> _Lines:
    engine = selection.connect(options.parallel)
    observed = engine.observe(selection.name)
    containers = selection.of(observed)
    if not containers:
        console.remark(f"fleet {selection.name} has no containers")
    _tell_foreign(selection, observed, console)
    wanted = _wanted(options)
    lines = (
        logbook.follow(engine, containers, wanted)
        if options.follow
        else logbook.last(engine, containers, wanted, options.parallel)
    )
    return _width([container.collector for container in containers]), lines


def _lines_of_run(selection: _Selection, options: argparse.Namespace, console: Console) -> _Lines | None:
    """Return the logs of a run: of one that goes on, or of the last one where there are no containers."""
    names = local_run.logged(selection.name)
    running = local_run.find(selection.name) is not None
    if not names or (not running and _has_containers(selection, options)):
        return None
    _tell_run_of_another(selection, console)
    if not running:
        console.remark("logs of the last `launcher run`, which has ended")
    selection.require(names)
    names = [name for name in names if selection.matches(name)]
    hidden = local_run.passwords(selection.fleet) if selection.fleet else {}
    read = local_run.follow if options.follow else local_run.last_lines
    return _width(names), read(selection.name, names, _wanted(options), hidden)


def _wanted(options: argparse.Namespace) -> LogLines:
    """Return which lines of a log are asked for."""
    tail: int | None = getattr(options, "tail", _TAIL if options.since is None else None)
    since = None if options.since is None else max(options.since, 1.0)  # engines know no time before 1970
    return LogLines(tail=tail, since=since)


def _has_containers(selection: _Selection, options: argparse.Namespace) -> bool:
    try:
        observed = selection.connect(options.parallel).observe(selection.name)
        return ownership.has_own(selection.fleet, observed) if selection.fleet else bool(observed)
    except EngineError:
        return False


def _width(names: Sequence[str]) -> int:
    return max(map(len, names)) if len(names) > 1 else 0


def restart(options: argparse.Namespace, console: Console) -> int:
    """Restart containers as they are."""
    selection = _select(options)
    engine = selection.connect(options.parallel)
    holding = selection.held(engine, Purpose.RESTART, adopt=options.adopt)
    containers = _without_leftovers(_ours(selection, holding, console, "restarts"), console)
    how = Options(parallel=options.parallel, wait=options.wait_timeout)
    progress = Progress(console, as_json=options.json)
    with _claimed(engine, selection, containers) as held, interrupt(progress.stopping) as stop:
        held()
        rollout = Rollout(engine, how, progress.tell, stop)
        with progress:
            rollout.restart(containers)
    failed = failed_of(rollout)
    restarted = len(containers) - len(failed)
    absent = _without_container(selection, holding)
    for pattern in absent:
        console.remark(f"{pattern} has no container; `launcher up` creates it")
    if options.json:
        counts = {"restarted": restarted, "failed": len(failed)}
        console.json({"fleet": selection.name, **counts}, lines=True)
    else:
        explain(failed, console)
        nothing = (
            "nothing restarted"
            if containers or absent
            else "no containers to restart; `launcher up` creates them"
        )
        console.say(f"fleet {selection.name}: {f'{restarted} restarted' if restarted else nothing}")
    return FAILED if failed or absent else DONE


def _without_leftovers(containers: Iterable[Observed], console: Console) -> list[Observed]:
    """Return the containers but those that an interrupted command left; these are named, and not started."""
    found = []
    for container in containers:
        if container.name == names.base(container.name):
            found.append(container)
        else:
            console.remark(
                f"{container.name} is left over from an interrupted update; `launcher up` removes it"
            )
    return found


def _without_container(selection: _Selection, holding: Holding) -> list[str]:
    """Return the patterns that ask for collectors of which none has a container."""
    there = [*holding.ours, *(container for container, _ in holding.left_alone)]
    return [
        pattern
        for pattern in selection.patterns
        if not pattern.startswith("!") and not any(matches(each.collector, [pattern]) for each in there)
    ]


def down(options: argparse.Namespace, console: Console) -> int:
    """Remove containers, the network when the last is gone, and with --volumes the volumes."""
    selection = _select(options)
    engine = selection.connect(options.parallel or _MOST)
    holding = selection.held(engine, Purpose.REMOVE, adopt=options.adopt)
    containers = _ours(selection, holding, console, "removes")
    if local_run.find(selection.name):
        console.remark("`launcher run` is still running in this folder: stop it there with Ctrl-C")
    if containers and not holding.proven:
        consent.require(_removes_unproven(selection, containers), options, console)
    with _claimed(engine, selection, containers) as held:
        progress = Progress(console, as_json=options.json)
        # Each takes the time that its collector needs to store what it has: none waits for another's.
        how = Options(parallel=options.parallel or engine.connections)
        with interrupt(progress.stopping) as stop, progress:
            rollout = Rollout(engine, how, progress.tell, stop)
            rollout.remove(containers, held)
        failed = failed_of(rollout)
        if not options.json:
            explain(failed, console)
        roles = _volumes(engine, selection, console, options)
        kept = list(roles)
        going: list[str] = []
        if options.volumes and not failed:
            images = [each.image for each in containers] or _images(selection)
            full = _full(engine, roles, _left_by(containers, rollout), images)
            going = [volume for volume in kept if volume not in full]
            if full and _confirmed(full, options, console):
                going = kept
        elif not options.volumes:
            _tell_waiting(rollout, console)
        with ThreadPoolExecutor(1) as pool:  # an engine takes as long for a network as for all volumes
            dropping = pool.submit(_drop_network, engine, selection, console)
            removed = _remove_volumes(engine, going, how.parallel, console)
        network, stays = dropping.result()
    if node := engine.elsewhere(selection.name):
        console.remark(f"the fleet's volumes are on {node}, where they stay: the engine there removes them")
    left = [volume for volume in kept if volume not in removed]
    gone = len(containers) - len(failed)
    if options.json:
        counts = {"removed": gone, "failed": len(failed)}
        things = {"network": network, "volumes": removed, "kept": left}
        console.json({"fleet": selection.name, **counts, **things}, lines=True)
    else:
        told = _gone(gone, network, removed, left, asked=options.volumes)
        console.say(f"fleet {selection.name}: {told}")
    return FAILED if failed or stays or (options.volumes and left) else DONE


def _removes_unproven(selection: _Selection, containers: Sequence[Observed]) -> str:
    makers = dict.fromkeys(filter(None, (names.maker(each.labels) for each in containers)))
    whose = f", which {' and '.join(makers)} made" if makers else ""
    named = ", ".join(each.collector for each in containers)
    return f"removes {named} of fleet {selection.name}{whose}"


def _drop_network(engine: DockerEngine, selection: _Selection, console: Console) -> tuple[str | None, bool]:
    """Remove the network of a fleet without containers; return its name, and whether that failed."""
    try:
        if engine.observe(selection.name):
            return None, False
        for network in engine.networks(selection.name):
            if ownership.is_removable_network(network, selection.name, selection.owner):
                engine.drop_network(network.name)
                return network.name, False
            console.remark(f"network {network.name} is left alone: its seal is not valid")
    except EngineError as error:
        console.remark(f"launcher: {error}")
        return None, True
    return None, False


@contextlib.contextmanager
def _claimed(
    engine: DockerEngine, selection: _Selection, containers: Sequence[Observed]
) -> Iterator[Callable[[], object]]:
    """Hold the fleet while its containers are changed; where there are none there is nothing to hold.

    Nor can anybody hold it where none of their images is left: a lock is a container.
    """
    image = next(filter(engine.has_image, (container.image for container in containers)), None)
    if image is None:
        yield bool
        return
    with engine.claim(selection.name, image, whoami()) as held:
        yield held


def _select(options: argparse.Namespace) -> _Selection:
    """Tell the file from the patterns among a command's words."""
    files = [word for word in options.words if "/" in word or word.endswith((".yaml", ".yml"))]
    patterns = (*(word for word in options.words if word not in files), *options.only)
    if options.fleet and files:
        raise InputError(f"--fleet {options.fleet} or {files[0]}, not both")
    if options.fleet:
        return _Selection(options.fleet, None, patterns)
    fleet = whole([Path(file) for file in files or [DEFAULT_FILE]])
    return _Selection(fleet.name, fleet, patterns)


def _ours(selection: _Selection, holding: Holding, console: Console, does: str) -> list[Observed]:
    """Return the selected containers without those of compose and of others, which are named and left alone.

    ``does`` is what the command does to the others.
    """
    for container, why in holding.left_alone:
        if selection.matches(container.collector):
            console.remark(f"{container.name} is left alone: {why}; --adopt {does} it anyway")
    ours = []
    for container in selection.of(holding.ours):
        if container.manager == COMPOSE:
            console.remark(f"{container.name} is left alone: `docker compose` manages it")
        else:
            ours.append(container)
    return ours


def _volumes(
    engine: DockerEngine, selection: _Selection, console: Console, options: argparse.Namespace
) -> dict[str, Volume]:
    """Return the fleet's volumes; with patterns, the spools of what they select, removed now or before."""
    found = {}
    for volume in engine.volumes(selection.name):
        role = names.parse(selection.name, volume.name)
        if role and ownership.is_removable(volume, selection.name, selection.owner, adopt=options.adopt):
            found[volume.name] = role
        elif options.volumes:
            console.remark(f"volume {volume.name} is left alone: {_whose(volume, role)}")
    if not selection.patterns:
        return found
    return {name: role for name, role in found.items() if role.role == SPOOL and selection.matches(role.of)}


def _whose(volume: Labelled, role: Volume | None) -> str:
    if role is None:
        return "it has the fleet's labels, and a name that no volume of the fleet has"
    return (
        f"by its labels it does not belong to this fleet; {names.maker(volume.labels) or 'nobody'} created it"
    )


def _images(selection: _Selection) -> list[str]:
    return [spec.container.image for spec in plan.specs(selection.fleet)] if selection.fleet else []


def _left_by(removed: Iterable[Observed], rollout: Rollout) -> dict[str, Leftover | None]:
    """Return what is left in the spool of each container that was removed, by its volume."""
    left = {name: event.leftover for name, event in rollout.outcome.items()}
    return {volume: left.get(each.collector) for each in removed for volume in each.volumes}


def _full(
    engine: DockerEngine,
    volumes: Mapping[str, Volume],
    left: Mapping[str, Leftover | None],
    images: Sequence[str],
) -> dict[str, str]:
    """Return what each volume holds that nobody else has, in words."""
    full = {}
    for volume, role in volumes.items():
        if role.server:
            what = "the password of that data" if role.holds_password else "the data recorded into it"
            full[volume] = f"holds {what} ({_SERVER_NAMES[role.server]})"
        elif role.holds_data:
            full[volume] = "holds the data recorded into it"
        elif role.role == SPOOL:
            found = left[volume] if volume in left else _left_in(engine, volume, role, images)
            if found is None:
                full[volume] = "may hold records that are not stored; how many is unknown"
            elif found:
                full[volume] = f"holds {found}"
    return full


def _left_in(engine: DockerEngine, volume: str, role: Volume, images: Sequence[str]) -> Leftover | None:
    if not images:
        return None
    with contextlib.suppress(EngineError):
        return engine.leftover_in(volume, names.container(role.fleet, role.of), images[0])
    return None


def _confirmed(full: Mapping[str, str], options: argparse.Namespace, console: Console) -> bool:
    """Return whether these volumes may go: --yes says so, or a person at a terminal."""
    for volume, what in full.items():
        console.remark(f"volume {volume} {what}")
    answer = consent.ask("remove all of it permanently?", options, console)
    if answer is None:
        kept = "it is" if len(full) == 1 else "they are"
        console.remark(f"{kept} kept: there is no terminal to ask on; --yes removes {_them(full)}")
    return bool(answer)


def _remove_volumes(
    engine: DockerEngine, volumes: Sequence[str], parallel: int, console: Console
) -> list[str]:
    """Remove volumes; return those that are gone, and say of each other one why it is not."""

    def fault(volume: str) -> str:
        try:
            engine.remove_volume(volume)
        except EngineError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(parallel) as pool:
        faults = dict(zip(volumes, pool.map(fault, volumes), strict=True))
    for told in filter(None, faults.values()):
        console.remark(f"launcher: {told}")
    return [volume for volume in volumes if not faults[volume]]


def _tell_waiting(rollout: Rollout, console: Console) -> None:
    for event in rollout.outcome.values():
        if event.state == "removed" and event.detail:
            console.remark(f"{event.collector}: {event.detail}")


def _gone(removed: int, network: str | None, gone: Sequence[str], left: Sequence[str], *, asked: bool) -> str:
    parts = [f"{removed} removed"] if removed else []
    parts += [f"network {network} removed"] if network else []
    parts += [f"{_volumes_of(gone)} removed"] if gone else []
    if left:
        parts.append(f"{_volumes_of(left)} kept" + ("" if asked else f" (--volumes removes {_them(left)})"))
    return ", ".join(parts) or "nothing to remove"


def _them(things: Sized) -> str:
    return "it" if len(things) == 1 else "them"


def _volumes_of(names: Sequence[str]) -> str:
    return f"{len(names)} volume" + ("" if len(names) == 1 else "s")
