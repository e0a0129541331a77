"""Find what several collectors of a fleet would record into one store, and refuse it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from launcher import overlap
from launcher.commands import PlacedError
from launcher.commands.exchanges import NOT_INSTALLED
from launcher.console import Console
from launcher.engines import EngineError
from launcher.overlap import Overlap
from launcher.spec import CollectorSpec, FleetSpec


def overlaps(fleet: FleetSpec) -> list[Overlap]:
    """Return what several collectors of a fleet would record into one store.

    Raises EngineError if that depends on an exchange's list of symbols which cannot be read from here.
    """
    return overlap.find(fleet.collectors, partial(_symbols, fleet), fleet.beside)


def _symbols(fleet: FleetSpec, collectors: Sequence[CollectorSpec]) -> Mapping[str, Iterable[str]]:
    try:
        from collector.listing import UnreachableError  # noqa: PLC0415 - slow; cryptofeed may be missing
        from launcher import resolve  # noqa: PLC0415
    except ImportError as error:
        raise EngineError(NOT_INSTALLED) from error
    if fleet.simulator:
        raise EngineError("the exchanges are simulated, and cannot be asked from here")
    try:
        return resolve.symbols(collectors, os.environ)
    except UnreachableError as error:
        raise EngineError(str(error)) from error


def refuse_overlaps(fleet: FleetSpec, console: Console) -> None:
    """Raise PlacedError if collectors would record the same into one store; report what cannot be known."""
    try:
        found = overlaps(fleet)
    except EngineError as error:
        console.remark(
            f"whether collectors would record the same was not tried: {error}; they notice it when they run"
        )
        return
    if found:
        raise PlacedError("\n".join(map(str, found)))
