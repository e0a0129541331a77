"""The commands that need a fleet file and no Docker. Each returns the exit status."""

import argparse
import os
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from launcher import fleet as fleets
from launcher.commands import DONE, FAILED, InputError
from launcher.console import Console, Table
from launcher.spec import FleetSpec


def load(paths: Sequence[Path], console: Console, *, hints: bool = True) -> FleetSpec:
    """The fleet in the files, each on top of those before it. Raises InputError.

    What does not work in containers is remarked on.
    """
    try:
        fleet = fleets.load(paths, os.environ)
    except fleets.FleetError as error:
        raise InputError(str(error)) from error
    for hint in fleet.hints if hints else ():
        console.remark(f"hint: {hint}")
    return fleet


def init(options: argparse.Namespace, console: Console) -> int:
    """Writes a fleet file to start from, and the schema that its first line names."""
    from launcher.schema import FILE, text  # noqa: PLC0415 - needed here alone

    try:
        with options.file.open("x") as file:
            file.write(fleets.STARTER)
    except FileExistsError:
        console.remark(f"launcher: {options.file} is there already and was left alone")
        return FAILED
    (options.file.parent / FILE).write_text(text())
    console.say(f"{options.file} written; edit it, then `launcher run` to try it or `launcher up`")
    return DONE


def validate(options: argparse.Namespace, console: Console) -> int:
    """Checks a fleet file and shows what it asks for."""
    fleet = load(options.file, console)
    table = Table("COLLECTOR", "EXCHANGE", "BACKEND", "CHANNELS", "SYMBOLS")
    for spec in fleet.collectors:
        environment = spec.container.environment
        table.add(spec.name, *(environment[name] for name in ("EXCHANGE", "BACKEND", "CHANNELS", "SYMBOLS")))
    console.table(table)
    return DONE


def render(options: argparse.Namespace, console: Console) -> int:
    """Writes the fleet as files of another tool."""
    from launcher.render import RenderError, write  # noqa: PLC0415 - Jinja is needed here alone

    fleet = load(options.file, console)
    try:
        paths = write(fleet, options.output, options.format)
    except RenderError as error:
        raise InputError(str(error)) from error
    for path in paths:
        console.say(str(path))
    return DONE


def run(options: argparse.Namespace, console: Console) -> int:
    """Runs the fleet as local processes."""
    from launcher import foreground  # noqa: PLC0415 - asyncio is needed here alone

    return foreground.run(load(options.file, console, hints=False), options.seconds, console)


def version(_options: argparse.Namespace, console: Console) -> int:
    """Prints the version."""
    console.say(f"launcher {metadata.version('cryptostore')}")
    return DONE
