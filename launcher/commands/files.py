"""The commands that need a fleet file but no Docker. Each returns the exit status."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from collector.command_line import ALSO_CALLED
from collector.version import VERSION, described, revision
from launcher import fleet as fleets
from launcher.commands import DEFAULT_FILE, DONE, FAILED, FORMATS, InputError, PlacedError
from launcher.commands.overlaps import refuse_overlaps
from launcher.console import Console, Table
from launcher.owner import new_id
from launcher.selection import NothingSelectedError, narrowed
from launcher.spec import FleetSpec
from launcher.starter import starter


def load(options: argparse.Namespace, console: Console, *, hints: bool = True) -> FleetSpec:
    """Return the selected part of the fleet; each file overrides those before it. Raises InputError.

    Prints hints about what does not work in containers.
    """
    fleet = whole(options.file)
    try:
        fleet = narrowed(fleet, options.only, options.profile)
    except NothingSelectedError as error:
        raise InputError(str(error)) from error
    for hint in fleet.hints if hints else ():
        console.remark(f"hint: {hint}")
    return fleet


def whole(paths: Sequence[Path]) -> FleetSpec:
    """Return the fleet in the files. Raises InputError."""
    try:
        return fleets.load(paths, os.environ)
    except fleets.FleetError as error:
        raise as_input_error(error) from error


def as_input_error(error: fleets.FleetError) -> InputError:
    """Return the faults of fleet files as a command reports them."""
    kind = PlacedError if all(fault.line for fault in error.faults) else InputError
    return kind(str(error))


def init(options: argparse.Namespace, console: Console) -> int:
    """Write a fleet file to start from, and the schema that its first line names."""
    from launcher.schema import FILE, text  # noqa: PLC0415 - needed here alone

    try:
        with options.file.open("x") as file:
            file.write(starter(options.file.parent, new_id()))
    except FileExistsError:
        console.remark(f"launcher: {options.file} already exists; it was not changed")
        return FAILED
    except FileNotFoundError:
        console.remark(f"launcher: folder {options.file.parent} does not exist; create it first")
        return FAILED
    schema = options.file.parent / FILE
    schema.write_text(text())
    if options.json:
        console.json({"written": [str(options.file), str(schema)]})
        return DONE
    file = "" if str(options.file) == DEFAULT_FILE else f" {shlex.quote(str(options.file))}"
    console.say(
        f"{options.file} written; edit it, then try it with `launcher run{file}`, or start it with"
        f" `launcher up{file}`"
    )
    return DONE


def validate(options: argparse.Namespace, console: Console) -> int:
    """Check a fleet file and show what it asks for."""
    fleet = load(options, console)
    shown = ("EXCHANGE", "BACKEND", "CHANNELS", "SYMBOLS")
    table = Table("COLLECTOR", *shown)
    for spec in fleet.collectors:
        table.add(spec.name, *(spec.container.environment[name] for name in shown))
    if options.json:
        console.json([dict(zip(map(str.lower, table.columns), row, strict=True)) for row in table.rows])
    else:
        console.table(table)
    return DONE


def _refuse_formats(files: Sequence[Path]) -> None:
    """Raise InputError for a format that is given where a fleet file is expected."""
    for word in map(str, files):
        meant = ALSO_CALLED.get(word.lower(), word.lower())
        if meant in FORMATS and not Path(word).exists():
            raise InputError(f"{word} is a format, not a fleet file: `launcher render --format {meant}`")


def render(options: argparse.Namespace, console: Console) -> int:
    """Write the fleet as files for another tool."""
    from launcher.render import RenderError, changed_claims, claims_of, left_over, write  # noqa: PLC0415 - Jinja is needed here alone

    _refuse_formats(options.file)
    fleet = load(options, console)
    before = claims_of(options.output) if options.format == "kubernetes" else {}
    try:
        paths = write(fleet, options.output, options.format)
    except RenderError as error:
        raise InputError(str(error)) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"--output {options.output}: is a file, or inside one; name a folder") from error
    except OSError as error:
        raise InputError(f"--output {options.output}: cannot be written: {error.strerror}") from error
    for path in left_over(fleet, options.output) if options.format == "quadlet" else ():
        console.remark(
            f"{path} belongs to a collector that the fleet no longer has: remove it here and from systemd"
        )
    for step in changed_claims(before, claims_of(options.output)):
        console.remark(step)
    local = sorted({spec.container.image for spec in fleet.collectors if "/" not in spec.container.image})
    if options.format == "kubernetes" and local:
        console.remark(
            f"hint: image {', '.join(local)} names no registry, so nodes ask Docker Hub for it; push yours"
            " and name it, such as `image: registry.example.com/cryptostore:1.0.0`"
        )
    if options.format == "compose":
        _warn_of_taken_volumes(fleet, console)
    if options.json:
        console.json({"written": [str(path) for path in paths]})
        return DONE
    for path in paths:
        console.say(str(path))
    return DONE


def _warn_of_taken_volumes(fleet: FleetSpec, console: Console) -> None:
    """Warn of volumes on this machine's engine that compose would use although another fleet has them."""
    from launcher.engines import EngineError, endpoint  # noqa: PLC0415 - needed here alone
    from launcher.engines.docker import DockerEngine  # noqa: PLC0415
    from launcher.engines.transport import UnixSocket  # noqa: PLC0415
    from launcher.ownership import mounted_volumes, others_volumes  # noqa: PLC0415

    try:
        if not isinstance(endpoint.transport(), UnixSocket):
            return
        there = DockerEngine.connect(1).named_volumes(mounted_volumes(fleet))
    except EngineError:
        return  # rendering needs no engine
    for name, whose in others_volumes(fleet, there).items():
        console.remark(
            f"warning: volume {name} {whose}: `docker compose up` would use it, and `down -v` delete it; give"
            " this fleet another name (`fleet:`)"
        )


def run(options: argparse.Namespace, console: Console) -> int:
    """Run the fleet as local processes."""
    from launcher import foreground  # noqa: PLC0415 - asyncio is needed here alone

    fleet = load(options, console, hints=False)
    if fleet.stores:
        names = ", ".join(spec.name for spec in fleet.stores)
        raise InputError(
            f"a store with `manage: true` ({names}) needs Docker; use `launcher up`, or leave"
            " `manage` out and say where the store is"
        )
    refuse_overlaps(fleet, console)
    return foreground.run(fleet, options.seconds, console, as_json=options.json, adopt=options.adopt)


def version(options: argparse.Namespace, console: Console) -> int:
    """Print the version."""
    if options.json:
        console.json({"version": VERSION, "revision": revision()})
    else:
        console.say(f"launcher {described()}")
    return DONE
