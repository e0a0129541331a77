"""``plan`` and ``up``: what has to happen so that the containers match the file, shown or carried out."""

import argparse
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from collector.files import read_bounded
from launcher import local_run, names, obstacles, overview, plan, preview
from launcher.commands import CHANGES, DONE, FAILED, InputError, consent
from launcher.commands.exchanges import NOT_INSTALLED, advice
from launcher.commands.files import load
from launcher.commands.overlaps import refuse_overlaps
from launcher.commands.progress import Progress, explain, failed_of, interrupt
from launcher.console import Console, Table
from launcher.engines import EngineError, Observed, chosen
from launcher.engines.docker import DockerEngine
from launcher.engines.holdings import held
from launcher.engines.passwords import lost_passwords, with_passwords_of
from launcher.overview import Row
from launcher.owner import whoami
from launcher.ownership import VolumeFault, earlier_names, unused_secrets
from launcher.plan import Action, Kind, Obstacle, Plan
from launcher.rollout import Options, Rollout
from launcher.spec import FleetSpec

if TYPE_CHECKING:
    from launcher.resolve import Resolved

#: What `up` has done to a collector, by the kind of its action.
_DONE = {
    Kind.CREATE: "created",
    Kind.UPDATE: "updated",
    Kind.RECREATE: "recreated",
    Kind.START: "started",
    Kind.UNCHANGED: "unchanged",
    Kind.REMOVE: "removed",
    Kind.KEEP: "kept",
}


def show_plan(options: argparse.Namespace, console: Console) -> int:
    """Show what `up` would do, without changing anything."""
    fleet = load(options, console)
    engine = chosen.connect(fleet, options.parallel)
    planned, _ = plan_of(engine, fleet, keep_orphans=options.keep_orphans, adopt=options.adopt)
    _tell_others(engine, planned, console)
    found = obstacles.find(engine, planned)
    document = preview.document(planned, found)
    if options.resolve and fleet.only:
        refuse_overlaps(fleet, console)  # including running collectors that are not selected
    resolved = _resolve(fleet) if options.resolve else []
    if options.resolve:
        document["resolved"] = msgspec.to_builtins(resolved)
    if options.out:
        _write_for_owner(options.out, msgspec.json.format(msgspec.json.encode(document), indent=2))
    if options.json:
        console.json(document)
    else:
        for line in preview.lines(planned, found):
            console.say(line)
        if resolved:
            _show_resolved(resolved, console)
    if found or planned.of(Kind.CONFLICT):
        return FAILED
    return CHANGES if planned.changing else DONE


def _resolve(fleet: FleetSpec) -> "list[Resolved]":
    """Resolve what the collectors would record now. Raises InputError, and EngineError if nobody answers."""
    try:
        from collector.listing import UnreachableError  # noqa: PLC0415 - slow; cryptofeed may be missing
        from launcher.resolve import ResolveError, resolve  # noqa: PLC0415
    except ImportError as error:
        raise EngineError(NOT_INSTALLED) from error
    if fleet.simulator:
        raise InputError(f"--resolve asks the exchanges, and those of fleet {fleet.name} are simulated")
    try:
        return resolve(fleet.collectors, os.environ)
    except ResolveError as error:
        raise InputError(str(error)) from error
    except UnreachableError as error:
        raise EngineError(f"{error}; {advice(error, '`endpoint` in the file')}") from error


def _show_resolved(resolved: "Sequence[Resolved]", console: Console) -> None:
    from launcher.resolve import shortened  # noqa: PLC0415

    table = Table("COLLECTOR", "SHARD", ">SUBSCRIPTIONS", ">CONNECTIONS", ">SYMBOLS", "DETAIL")
    for each in resolved:
        counts = (each.subscriptions, each.connections, len(each.symbols))
        told = (f"{count:,}" for count in counts)
        table.add(each.collector, each.shard or "-", *told, shortened(each.symbols))
    console.table(table)
    for each in resolved:
        if each.warning:
            console.remark(f"warning: {each.warning}")


def up(options: argparse.Namespace, console: Console) -> int:
    """Make the containers match the file."""
    if options.dry_run:
        return show_plan(options, console)
    fleet = load(options, console)
    engine = chosen.connect(fleet, options.parallel)
    ways = {"keep_orphans": options.keep_orphans, "adopt": options.adopt}
    planned, key = plan_of(engine, fleet, **ways)
    if options.plan:
        _refuse_moved(options.plan, planned)
    _tell_others(engine, planned, console)
    obstacles.refuse(engine, planned)
    if not planned.changing:
        return _converge(engine, planned, key, options, console)
    refuse_overlaps(fleet, console)
    _require_consent(planned, options, console)
    agreed = {action.collector for action in planned.removals}
    images = [action.container.image for action in planned.actions if action.container]
    images.append(fleet.collectors[0].container.image)
    with engine.lock(fleet.name, next(filter(engine.has_image, images), images[-1]), whoami()):
        # From here on, nobody else changes the fleet.
        planned, key = plan_of(engine, fleet, **ways, locked=True)
        if options.plan:
            _refuse_moved(options.plan, planned)
        obstacles.refuse(engine, planned)
        if more := [action for action in planned.removals if action.collector not in agreed]:
            raise EngineError(f"nothing was touched: by now this {_removes(more)}, too; try again")
        status = _converge(engine, planned, key, options, console)
        _drop_unused_secrets(engine, planned.fleet, console)
        return status


def _drop_unused_secrets(engine: DockerEngine, fleet: FleetSpec, console: Console) -> None:
    there = engine.volumes(fleet.name)
    for volume in unused_secrets(fleet, there, engine.observe(fleet.name)):
        try:
            engine.remove_volume(volume)
        except EngineError:
            continue  # somebody uses it after all; the next `up` tries again
        console.remark(
            f"volume {volume} removed: an interrupted command left it, with secrets that nobody uses"
        )


def _require_consent(planned: Plan, options: argparse.Namespace, console: Console) -> None:
    """Raise InputError if collectors would be removed without consent. A saved plan includes it."""
    if planned.removals and not options.plan:
        what = f"{_removes(planned.removals)}, no longer in the file"
        consent.require(what, options, console, otherwise="--keep-orphans leaves it running")


def _removes(actions: Iterable[Action]) -> str:
    kinds: dict[str, list[str]] = {}
    for action in actions:
        kinds.setdefault("store" if action.is_store else "collector", []).append(action.collector)
    return "removes " + " and ".join(
        f"{kind}{'s' * (len(named) > 1)} {', '.join(named)}" for kind, named in kinds.items()
    )


def _tell_others(engine: DockerEngine, planned: Plan, console: Console) -> None:
    """Say what else there is that may be the fleet's, and that stays as it is."""
    for container, why in planned.left_alone:
        console.remark(f"{container.name} is left alone: {why}; --adopt takes it over")
    if (run := local_run.find(planned.fleet.name)) and not local_run.of_another(planned.fleet):
        console.remark(
            f"`launcher run` is running this fleet in this folder (process {run.process}): stop it there with"
            " Ctrl-C; of two collectors of one name in one store, the later one stores nothing"
        )
    if planned.changing:
        owned = [each for mark in planned.fleet.owner.marks for each in engine.owned(mark)]
        for told in earlier_names(planned.fleet, owned):
            console.remark(told)


def plan_of(
    engine: DockerEngine,
    fleet: FleetSpec,
    *,
    keep_orphans: bool = False,
    adopt: bool = False,
    locked: bool = False,
) -> tuple[Plan, bytes]:
    """Return the plan, and the key that seals the fleet's secrets, by reading alone.

    Raises EngineError if the fleet belongs to somebody else, or a swarm has no node for it.
    """
    engine.require_place(fleet)
    fleet, holding, faults = held(engine, fleet, adopt=adopt)
    observed = holding.ours
    in_the_way = [*_of_volumes(fleet, faults), *_of_passwords(engine, fleet, observed)]
    key = engine.key(observed)
    fleet = with_passwords_of(engine, fleet, observed, volumes=locked and not in_the_way)
    there = plan.pairs(fleet, observed)
    # One after the other: on a near engine, a thread costs more than waiting for the answer.
    changes = {container.id: engine.changes(engine.seal(spec, key), container) for spec, container in there}
    planned = plan.make(
        fleet,
        observed,
        changes,
        keep_orphans=keep_orphans,
        left_alone=holding.left_alone,
        obstacles=in_the_way,
    )
    return planned, key


def _of_volumes(fleet: FleetSpec, faults: Iterable[VolumeFault]) -> Iterator[Obstacle]:
    """Yield the volumes that belong to others, as obstacles."""
    for fault in faults:
        volume = names.parse(fleet.name, fault.volume)
        whose = (volume.of,) if volume and volume.of else ()
        yield Obstacle(what="volume", collectors=whose, detail=fault.detail, remedy=fault.remedy)


def _of_passwords(engine: DockerEngine, fleet: FleetSpec, observed: Sequence[Observed]) -> Iterator[Obstacle]:
    """Yield the stores whose password is lost, as obstacles."""
    for spec, detail, remedy in lost_passwords(engine, fleet, observed):
        yield Obstacle(what="store", collectors=(spec.name,), detail=detail, remedy=remedy)


def _converge(
    engine: DockerEngine, planned: Plan, key: bytes, options: argparse.Namespace, console: Console
) -> int:
    how = Options(
        parallel=options.parallel,
        parallelism=options.parallelism or planned.fleet.parallelism,
        wait=options.wait_timeout,
        check=not options.no_check,
    )
    progress = Progress(console, as_json=options.json)
    with interrupt(progress.stopping) as stop:
        rollout = Rollout(engine, how, progress.tell, stop)
        with progress:
            rollout.up(planned, key)
        failed = failed_of(rollout)
        if options.json:
            console.json({"fleet": planned.fleet.name, **_counts(planned, rollout)}, lines=True)
            return FAILED if failed else DONE
        if planned.changing or failed:
            there = engine.observe(planned.fleet.name)
            rows = overview.rows(engine, planned.fleet, there, options.parallel)
            console.table(_table(planned, rollout, rows))
        explain(failed, console)
        console.say(f"fleet {planned.fleet.name}: {_counted(planned, rollout)}")
    return FAILED if failed else DONE


def _refuse_moved(path: Path, planned: Plan) -> None:
    """Raise EngineError if the plan in the file is not what would happen now."""
    try:
        moved = preview.moved(json.loads(read_bounded(path)), planned)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise InputError(f"{path}: is nested too deeply") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if moved:
        told = "".join(f"\n  {each}" for each in moved)
        raise EngineError(
            f"nothing was touched: the fleet has changed since {path} was made; plan again{told}"
        )


def _write_for_owner(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _counts(planned: Plan, rollout: Rollout) -> dict[str, int]:
    """Return how many collectors were created, updated, unchanged, failed and so on."""
    outcome = {name: event.state for name, event in rollout.outcome.items()}
    good = [action for action in planned.actions if outcome.get(action.collector) not in ("failed", "left")]
    counts = {word: sum(action.kind is kind for action in good) for kind, word in _DONE.items()}
    counts |= {word: sum(state == word for state in outcome.values()) for word in ("failed", "left")}
    return counts


def _counted(planned: Plan, rollout: Rollout) -> str:
    """Return the counts as text: ``2 created, 1 unchanged, 1 failed``."""
    names = {"left": "left as they were"}
    counts = _counts(planned, rollout)
    parts = [f"{count} {names.get(word, word)}" for word, count in counts.items() if count]
    return ", ".join(parts) or "no collectors"


def _table(planned: Plan, rollout: Rollout, rows: Sequence[Row]) -> Table:
    known = {row.collector: row for row in rows}
    table = Table("COLLECTOR", "DONE", "STATE", ">STORED", ">UNSEEN", "DETAIL")
    for action in planned.actions:
        event, row = rollout.outcome.get(action.collector), known.get(action.collector)
        state = event.state if event else "-"
        if state in ("unchanged", "kept") and row:
            state = row.state
        done = "-" if state in ("left", "failed") else _DONE.get(action.kind, "-")
        stored = f"{row.stored:,}" if row and row.status else "-"
        unseen = f"{event.unseen:.1f} s" if event and event.unseen is not None else "-"
        detail = event.detail if event else action.reason
        table.add(action.collector, done, state, stored, unseen, "see below" if state == "failed" else detail)
    return table
