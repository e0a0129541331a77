"""``doctor``: can this fleet run here? Tried from where its collectors will run; faults with remedies."""

import argparse
import contextlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec

from launcher import plan
from launcher.commands import DONE, FAILED
from launcher.commands.converge import whoami
from launcher.commands.files import load
from launcher.console import Console
from launcher.engines import Check, EngineError, Observed, chosen
from launcher.engines.docker import DockerEngine
from launcher.engines.passwords import require_passwords, with_passwords_of
from launcher.spec import CollectorSpec, FleetSpec

_MISCONFIGURED = 78
_CHECK = ("--connect", "--json")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried, of the machine or of a collector; ``state`` is fine, warning or fault."""

    collector: str | None = None
    what: str
    state: str
    detail: str
    remedy: str = ""


def doctor(options: argparse.Namespace, console: Console) -> int:
    """Tries all that the fleet needs, and says what is wrong and what to do about it."""
    fleet = load(options, console, hints=False)
    engine = chosen.connect(fleet, options.parallel)
    found = []
    for finding in _findings(engine, fleet, options.parallel):
        found.append(finding)
        if not options.json:
            _show(finding, console)
    if options.json:
        console.json(found)
    faults = sum(finding.state == "fault" for finding in found)
    if not options.json:
        told = f"{faults} fault{'s' * (faults > 1)}" if faults else "nothing stands in its way"
        console.say(f"fleet {fleet.name}: {told}")
    return FAILED if faults else DONE


def _show(finding: Finding, console: Console) -> None:
    whose = finding.collector or "-"
    console.say(f"{whose:16} {finding.what:9} {finding.state:8} {finding.detail}")
    if finding.remedy:
        console.say(f"{'':36}{finding.remedy}")


def _findings(engine: DockerEngine, fleet: FleetSpec, parallel: int) -> Iterator[Finding]:
    """What the machine has first; each collector is tried only where all of that is fine."""
    for finding in _ground(engine, fleet):
        yield finding
        if finding.state != "fine":
            return
    observed = engine.observe(fleet.name)
    fleet = with_passwords_of(engine, fleet, observed)
    image = fleet.collectors[0].container.image
    with engine.lock(fleet.name, image, whoami()), contextlib.ExitStack() as cleaning:
        try:
            cleaning.enter_context(_network(engine, fleet))
        except EngineError as error:
            yield Finding(what="network", state="fault", detail=str(error))
            return
        yield Finding(what="network", state="fine", detail=fleet.network.name)
        key = engine.key(observed)
        with ThreadPoolExecutor(min(parallel, len(fleet.collectors))) as pool:
            for findings in pool.map(lambda spec: _try(engine, spec, key), fleet.collectors):
                yield from findings


def _ground(engine: DockerEngine, fleet: FleetSpec) -> Iterator[Finding]:
    """What every collector needs: the engine, a node, the image, passwords, and what runs beside them."""
    yield Finding(what="engine", state="fine", detail=engine.about())
    what = "node"
    try:
        if node := engine.require_place(fleet):
            yield Finding(what=what, state="fine", detail=node)
        what = "image"
        engine.require_images(spec.container.image for spec in plan.specs(fleet))
        yield Finding(what=what, state="fine", detail=fleet.collectors[0].container.image)
        what = "store"
        observed = engine.observe(fleet.name)
        require_passwords(engine, fleet, observed)
    except EngineError as error:
        yield Finding(what=what, state="fault", detail=str(error))
        return
    remedy = "`launcher up` starts it"
    if fleet.simulator and not _runs(fleet.simulator, observed):
        detail = "the simulator is not up, so what needs it cannot be tried"
        yield Finding(what="exchange", state="warning", detail=detail, remedy=remedy)
    elif down := [spec.name for spec in fleet.stores if not _runs(spec, observed)]:
        detail = f"{', '.join(down)} not up, so what needs it cannot be tried"
        yield Finding(what="store", state="warning", detail=detail, remedy=remedy)


def _runs(spec: CollectorSpec, observed: Iterable[Observed]) -> bool:
    return any(each.name == spec.container.name and each.state == "running" for each in observed)


@contextlib.contextmanager
def _network(engine: DockerEngine, fleet: FleetSpec) -> Iterator[None]:
    """The fleet's network and volumes; what was not there before is gone afterwards."""
    volumes, there = set(engine.volumes(fleet.name)), engine.has_network(fleet.network.name)
    engine.make_network(fleet)
    try:
        yield
    finally:
        for volume in set(engine.volumes(fleet.name)) - volumes:
            engine.remove_volume(volume)
        if not there:
            engine.remove_network(fleet.name)


def _try(engine: DockerEngine, spec: CollectorSpec, key: bytes) -> list[Finding]:
    try:
        checked = engine.check(engine.seal(spec, key), _CHECK, key)
    except EngineError as error:
        return [Finding(collector=spec.name, what="container", state="fault", detail=str(error))]
    found = [msgspec.convert({"collector": spec.name, **said}, Finding) for said in _said(checked)]
    return found or [_said_nothing(spec, checked)]


def _said(checked: Check) -> Iterator[dict[str, str]]:
    for line in checked.lines:
        with contextlib.suppress(ValueError):
            if isinstance(said := json.loads(line), dict) and "what" in said:
                yield said


def _said_nothing(spec: CollectorSpec, checked: Check) -> Finding:
    detail = " ".join(line.strip() for line in checked.lines[-5:]) or f"ended with {checked.exit_code}"
    what = "settings" if checked.exit_code == _MISCONFIGURED else "image"
    remedy = "" if what == "settings" else f"is {spec.container.image} of this version? Build it anew"
    return Finding(collector=spec.name, what=what, state="fault", detail=detail, remedy=remedy)
