"""``complete``: show up to when each collector's stored data is complete, by asking its store alone.

The store is asked from where the collectors reach it: in containers on the fleet's engine or, for a fleet
that `launcher run` runs in this folder, by local processes.
"""

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from collector import typed_json
from collector.completeness_table import HEADINGS, cells, check_order
from launcher import local_run, names
from launcher.commands import DONE, FAILED, InputError
from launcher.commands.files import load
from launcher.console import Console, Table
from launcher.engines import Check, EngineError, chosen
from launcher.engines.docker import DockerEngine
from launcher.engines.holdings import held
from launcher.engines.passwords import with_passwords_of
from launcher.engines.process import environment
from launcher.owner import whoami
from launcher.ownership import Purpose, has_own
from launcher.spec import CollectorSpec, FleetSpec, Mount, Network

_ANSWERED = (0, 1)  # exit statuses
_SPEAKER = "collector: "  # the beginning of its messages
_NETWORK = "_check"  # follows the fleet's name; no fleet's name has an underscore
_SPOOL = "/spool"
_SECONDS = 90.0

#: Asks a collector's store, and returns the output of ``collector complete --json``.
type _Ask = Callable[[CollectorSpec], Check]


class _Row(msgspec.Struct):
    """One row of a collector's answer; completeness.py explains the fields."""

    exchange: str
    channel: str
    symbol: str
    complete: bool
    since: str | None
    until: str | None
    early_seconds: float
    late_seconds: float
    missing_seconds: float
    reasons: dict[str, dict[str, int | float | None]]
    gaps: list[dict[str, str | int | None]]


class _Answer(msgspec.Struct):
    """The answer of one collector: rows, or why there are none, and what else it printed."""

    collector: str
    rows: list[dict[str, Any]]
    fault: str = ""
    warnings: Sequence[str] = ()


def complete(options: argparse.Namespace, console: Console) -> int:
    """Show up to when everything is stored, and what is missing."""
    try:
        check_order(options.since, options.until)
    except ValueError as error:
        raise InputError(str(error)) from error
    fleet = load(options, console, hints=False)
    command = ["complete", "--json"]
    for name in ("since", "until"):
        if (moment := getattr(options, name)) is not None:
            command += [f"--{name}", datetime.fromtimestamp(moment, UTC).isoformat()]
    with _asking(fleet, command, console) as ask, ThreadPoolExecutor(options.parallel) as pool:
        answers = list(pool.map(lambda spec: _answer(spec, ask), fleet.collectors))
    rows = [{"collector": answer.collector} | row for answer in answers for row in answer.rows]
    if options.json:
        console.json(rows)
    elif rows:
        table = Table("COLLECTOR", *HEADINGS)
        for row in rows:
            table.add(row["collector"], *cells(row))
        console.table(table)
    for answer in answers:
        _remark(answer, console)
    if any(answer.fault for answer in answers):
        return FAILED
    known = all(answer.rows for answer in answers)
    return FAILED if options.exit_code and not (known and all(row["complete"] for row in rows)) else DONE


def _answer(spec: CollectorSpec, ask: _Ask) -> _Answer:
    try:
        said = ask(spec)
    except EngineError as error:
        return _Answer(spec.name, [], str(error))
    rows, rest = [], []
    for line in said.lines:
        try:
            rows.append(msgspec.to_builtins(typed_json.decode(line, _Row)))
        except typed_json.DecodeError:  # a line of its log, in whatever format
            rest.append(line.strip())
    told = [line.removeprefix(_SPEAKER) for line in rest if line]
    if said.exit_code in _ANSWERED and (rows or any(line.startswith(_SPEAKER) for line in rest)):
        return _Answer(spec.name, rows, warnings=told)
    return _Answer(spec.name, rows, _fault(spec, said, " ".join(told[-5:])))


def _remark(answer: _Answer, console: Console) -> None:
    for text in answer.warnings:
        console.remark(f"{answer.collector}: {text}")
    if answer.fault:
        console.remark(f"launcher: {answer.collector}: {answer.fault}")


def _fault(spec: CollectorSpec, said: Check, told: str) -> str:
    """Return why there is no answer; ``told`` is what the collector printed instead."""
    if said.exit_code not in _ANSWERED:
        return told or f"ended with status {said.exit_code}"
    image = spec.container.image
    return f"{image} does not answer as a collector of this version does; build it again. It said: {told}"


@contextlib.contextmanager
def _asking(fleet: FleetSpec, command: Sequence[str], console: Console) -> Iterator[_Ask]:
    state = local_run.folder(fleet.name).absolute()
    if others := local_run.of_another(fleet):
        console.remark(f"not asked: {state}, which belongs to {others}")
    elif local_run.find(fleet.name) or (state.is_dir() and not _has_containers(fleet)):
        yield lambda spec: _here(spec, command, state)
        return
    engine = chosen.connect(fleet, len(fleet.collectors))
    engine.require_place(fleet)
    fleet, holding, faults = held(engine, fleet, purpose=Purpose.READ)
    # Spools are not read.
    if of_others := [each.detail for each in faults if not _is_spool(fleet, each.volume)]:
        raise EngineError(f"nothing was asked: {'; '.join(of_others)}; `launcher doctor` says what to do")
    fleet = with_passwords_of(engine, fleet, holding.ours, volumes=True)
    key = engine.key(holding.ours)
    specs = {spec.name: spec for spec in fleet.collectors}
    with (
        engine.lock(fleet.name, fleet.collectors[0].container.image, whoami()),
        _network(engine, fleet) as network,
    ):
        for each in holding.ours:
            if each.is_passing:
                engine.discard(each.id)
        yield lambda spec: _in_a_container(engine, specs[spec.name], command, key, network)


def _is_spool(fleet: FleetSpec, volume: str) -> bool:
    role = names.parse(fleet.name, volume)
    return role is not None and role.role == names.SPOOL


def _has_containers(fleet: FleetSpec) -> bool:
    try:
        return has_own(fleet, chosen.connect(fleet, 1).observe(fleet.name))
    except EngineError:
        return False


def _here(spec: CollectorSpec, command: Sequence[str], state: Path) -> Check:
    """Ask with a local process, set up as `launcher run` sets up the collector in this folder."""
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-P", "-m", "collector", *command],
            env=environment(spec.container, state, Path("data").absolute()),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"its store gave no answer within {_SECONDS:.0f} s") from None
    return Check(exit_code=done.returncode, lines=tuple(done.stdout.splitlines()))


def _in_a_container(
    engine: DockerEngine, spec: CollectorSpec, command: Sequence[str], key: bytes, network: str
) -> Check:
    """Ask in a container that has everything of the collector's except its spool and missing volumes."""
    left_out = [mount for mount in spec.container.mounts if mount.target == _SPOOL]
    if not engine.elsewhere(spec.fleet):
        volumes = [mount for mount in spec.container.mounts if mount.kind == "volume"]
        there = {each.name for each in engine.named_volumes([mount.source for mount in volumes])}
        left_out += [mount for mount in volumes if mount.source not in there]
    inside = tuple(f"{mount.target}/" for mount in left_out)
    container = msgspec.structs.replace(
        spec.container,
        mounts=tuple(mount for mount in spec.container.mounts if mount not in left_out),
        environment={
            name: value for name, value in spec.container.environment.items() if not value.startswith(inside)
        },
        network=network,
        restart="no",
    )
    said = engine.check(engine.seal(msgspec.structs.replace(spec, container=container), key), command, key)
    lines = tuple(_located(line, spec, left_out) for line in said.lines)
    return msgspec.structs.replace(said, lines=lines)


def _located(line: str, spec: CollectorSpec, missing: Collection[Mount]) -> str:
    """Return a message of a collector with what its folders are outside the container."""
    if not line.startswith(_SPEAKER):
        return line
    paths = [word.rstrip(":,;.") for word in line.split()]
    for mount in spec.container.mounts:
        if any(path == mount.target or path.startswith(f"{mount.target}/") for path in paths):
            place = f"volume {mount.source}" if mount.kind == "volume" else mount.source
            there = ", which does not exist yet" if mount in missing else ""
            line = f"{line} ({mount.target} is {place}{there})"
    return line


@contextlib.contextmanager
def _network(engine: DockerEngine, fleet: FleetSpec) -> Iterator[str]:
    """Return the fleet's network; if `down` has removed it, create one for as long as this lasts."""
    if engine.has_network(fleet.network.name):
        yield fleet.network.name
        return
    name = f"{fleet.name}{_NETWORK}"
    engine.make_network(msgspec.structs.replace(fleet, network=Network(name=name)))
    try:
        yield name
    finally:
        engine.drop_network(name)
