"""What ``doctor`` tries: the engine and what is on it, then each collector from where it will run.

Nothing that runs is touched, and nothing is left behind. A server of the fleet that is not up (the simulator,
a managed store) runs for the length of the checks, without data and on a network that only they are on: no
collector must take it for the real one. Where something of the fleet runs, not even that is done: what needs
the server is left out, and said to be.
"""

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from collector import typed_json
from launcher import obstacles, plan
from launcher.commands.converge import plan_of
from launcher.commands.overlaps import overlaps
from launcher.engines import Check, EngineError, LogLines, Observed, chosen
from launcher.engines.docker import DockerEngine
from launcher.engines.holdings import held
from launcher.engines.passwords import with_passwords_of
from launcher.names import CHECK, SIMULATOR
from launcher.owner import Claim, whoami
from launcher.ownership import seal_of
from launcher.plan import Obstacle
from launcher.rollout import replacing
from launcher.spec import USER, CollectorSpec, FleetSpec, Mount, Network

FINE, WARNING, FAULT, SKIPPED = "fine", "warning", "fault", "skipped"

_MISCONFIGURED = 78
_COMMAND = ("check", "--connect", "--json")
#: What a check in a collector's container tries, and what it is called where the exchange does not answer.
_TRIED, _UNREACHABLE = ("settings", "spool", "store", "symbols", "clock"), "exchange"
_IN_PROCESS = ("PARQUET", "TTY")  # backends that need no network
_NETWORK = "_check"  # after a fleet's name; no name of a fleet has an underscore
_SERVER_SECONDS = 120  # until a server listens
_LOOK_EVERY = 0.3  # seconds
_LOG_LINES = 5
_FOLDER = "FOLDER"  # in what a collector says of a folder, whose name outside it does not know
_STARTS = "`launcher up` starts it"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried of the machine, of a collector or of a server of the fleet.

    Attributes:
        collector: whose it is; None is the machine's.
        what: what was tried, in a word.
        state: fine, warning, fault, or skipped where it could not be tried.
        detail: what came out or, where it was skipped, why.
        remedy: what to do about it.
    """

    collector: str | None = None
    what: str
    state: str
    detail: str
    remedy: str = ""


def findings(fleet: FleetSpec, parallel: int) -> Iterator[Finding]:
    """Try everything that ``up`` needs; what one thing lacks ends only the checks that need it."""
    try:
        engine = chosen.connect(fleet, parallel)
        yield Finding(what="engine", state=FINE, detail=engine.about())
    except EngineError as error:
        yield Finding(what="engine", state=FAULT, detail=str(error))
        yield from _without_container(fleet, "there is no engine")
        return
    yield from _Diagnosis(engine, fleet, parallel).findings()


class _Diagnosis:
    def __init__(self, engine: DockerEngine, fleet: FleetSpec, parallel: int) -> None:
        self._engine = engine
        self._fleet = fleet
        self._parallel = parallel
        self._observed: Sequence[Observed] = ()
        self._blocked: dict[str, str] = {}  # what cannot be run, by name, each with the reason
        self._network_fault = ""
        self._key = b""

    def findings(self) -> Iterator[Finding]:
        try:
            node = self._engine.require_place(self._fleet)
        except EngineError as error:
            yield Finding(what="node", state=FAULT, detail=str(error))
            yield from _without_container(self._fleet, "it has no node")
            return
        if node:
            yield Finding(what="node", state=FINE, detail=node)
        try:
            self._fleet, holding, _ = held(self._engine, self._fleet)
        except EngineError as error:
            yield Finding(what="fleet", state=FAULT, detail=str(error).removeprefix("nothing was touched: "))
            yield from _without_container(self._fleet, "the fleet belongs to somebody else")
            return
        self._observed = holding.ours
        found = self._on_the_engine()
        yield from found
        if any(each.what == "volume" for each in found):
            yield from _without_container(self._fleet, "a volume belongs to somebody else")
            return
        if not self._blocked.keys().isdisjoint(spec.name for spec in self._fleet.collectors):
            yield from _without_container(self._fleet, "its image cannot be used")
            return
        with contextlib.ExitStack() as locked:
            image = self._fleet.collectors[0].container.image
            try:
                locked.enter_context(self._engine.lock(self._fleet.name, image, whoami()))
            except EngineError as error:
                yield Finding(what="lock", state=FAULT, detail=str(error))
                yield from _without_container(self._fleet, "the fleet could not be locked")
                return
            yield from self._from_containers()

    def _on_the_engine(self) -> list[Finding]:
        """Find what is in the way on the engine, and say of the rest that it is fine."""
        try:
            planned, _ = plan_of(self._engine, self._fleet)
            found = [*obstacles.find(self._engine, planned), *obstacles.conflicts(planned)]
        except EngineError as error:
            return [Finding(what="plan", state=FAULT, detail=str(error))]
        self._network_fault = next((each.detail for each in found if each.what == "network"), "")
        for each in found:
            if each.what == "image":
                self._blocked |= dict.fromkeys(each.collectors, each.detail)
            if each.what == "store":
                self._blocked |= {name: f"the password of store {name} is lost" for name in each.collectors}
        return [*self._told(found), *self._overlaps()]

    def _told(self, found: Sequence[Obstacle]) -> Iterator[Finding]:
        """Tell what is in the way on the engine, and what is not."""
        images = ", ".join(dict.fromkeys(spec.container.image for spec in plan.specs(self._fleet)))
        fine = {"image": images, "network": self._fleet.network.name, "name": "no name is taken"}
        for what, detail in fine.items():
            if what not in {each.what for each in found}:
                yield Finding(what=what, state=FINE, detail=detail)
        yield from map(_fault, found)

    def _overlaps(self) -> Iterator[Finding]:
        """Find what several collectors would record into one store."""
        try:
            for each in overlaps(self._fleet):
                yield Finding(collector=each.of, what="overlap", state=FAULT, detail=str(each))
        except EngineError as error:
            yield Finding(what="overlap", state=SKIPPED, detail=str(error))

    def _from_containers(self) -> Iterator[Finding]:
        """Run the servers that are not up, and try each collector beside them."""
        with contextlib.ExitStack() as cleaning:
            self._fleet = with_passwords_of(self._engine, self._fleet, self._observed, volumes=True)
            self._key = self._engine.key(self._observed)
            for each in self._observed:
                if each.is_passing:
                    self._engine.discard(each.id)
            cleaning.enter_context(self._without_new_volumes())
            absent = self._absent()
            there = not self._network_fault and self._engine.has_network(self._fleet.network.name)
            place = _Place(self._fleet.network.name)
            if absent or not there:
                volumes = {mount.source for spec in absent for mount in spec.container.mounts}
                place = _Place(
                    f"{self._fleet.name}{_NETWORK}", self._fleet.network.name if there else "", volumes
                )
                try:
                    cleaning.enter_context(self._network_of_its_own(place.network))
                except EngineError as error:
                    yield Finding(what="network", state=FAULT, detail=str(error))
                    yield from _without_container(self._fleet, "there is no network for it")
                    return
            for spec in absent:
                yield self._serve(place.moved(spec), cleaning)
            with ThreadPoolExecutor(min(self._parallel, len(self._fleet.collectors))) as pool:
                for found in pool.map(lambda spec: self._try(spec, place), self._fleet.collectors):
                    yield from found

    def _absent(self) -> list[CollectorSpec]:
        """Return the servers to run for the checks; block those that must not be."""
        servers = [*([self._fleet.simulator] if self._fleet.simulator else []), *self._fleet.stores]
        running = {each.name for each in self._observed if each.state == "running"}
        absent = [
            spec for spec in servers if spec.container.name not in running and spec.name not in self._blocked
        ]
        if not running:
            return absent
        self._blocked |= {spec.name: f"{spec.name} is not up; {_STARTS}" for spec in absent}
        return []

    @contextlib.contextmanager
    def _without_new_volumes(self) -> Iterator[None]:
        """Remove the volumes of the fleet that the block has made."""
        before = self._volumes()
        try:
            yield
        finally:
            for volume in self._volumes() - before:
                self._engine.remove_volume(volume)

    def _volumes(self) -> set[str]:
        """Return the volumes that somebody with this fleet file has made."""
        fleet, owner = self._fleet.name, self._fleet.owner
        there = self._engine.volumes(fleet)
        return {
            each.name
            for each in there
            if owner.claim(each.labels, *seal_of("volume", fleet, each.name)) is Claim.OURS
        }

    @contextlib.contextmanager
    def _network_of_its_own(self, name: str) -> Iterator[None]:
        self._engine.make_network(msgspec.structs.replace(self._fleet, network=Network(name=name)))
        try:
            yield
        finally:
            self._engine.drop_network(name)

    def _serve(self, spec: CollectorSpec, cleaning: contextlib.ExitStack) -> Finding:
        """Run a server until the end of the checks, under its own name for these alone."""
        try:
            sealed = self._engine.seal(spec, self._key)
            made = self._engine.create(sealed, name=f"{spec.container.name}{CHECK}", key=self._key)
            cleaning.callback(self._engine.discard, made)
            self._engine.start(made)
            fault = self._wait_until_it_listens(made)
        except EngineError as error:
            fault = str(error)
        if fault:
            self._blocked[spec.name] = f"{spec.name} does not start"
            remedy = f"see why: `docker run --rm -it {spec.container.image}`"
            return Finding(collector=spec.name, what="server", state=FAULT, detail=fault, remedy=remedy)
        detail = f"{spec.container.image} starts, and was stopped again"
        return Finding(collector=spec.name, what="server", state=FINE, detail=detail)

    def _wait_until_it_listens(self, container: str) -> str:
        """Return why a server does not listen; nothing once it does."""
        end = time.monotonic() + _SERVER_SECONDS
        while True:
            condition = self._engine.condition(container)
            if condition.state == "running" and condition.health in ("healthy", None):
                return ""
            if condition.state != "running" or condition.health == "unhealthy" or time.monotonic() > end:
                said = " ".join(
                    line.strip() for _, line in self._engine.log(container, LogLines(tail=_LOG_LINES))
                )
                how = (
                    f"ended with {condition.exit_code}" if condition.state != "running" else "does not listen"
                )
                return f"the server {how}: {said}"
            time.sleep(_LOOK_EVERY)

    def _try(self, spec: CollectorSpec, place: "_Place") -> list[Finding]:
        """Try a collector in a container of its own, but for what it has to do without."""
        without = self._left_out(spec)
        left_out = (word for name in without for word in ("--without", name))
        command = [*_COMMAND, *left_out, *replacing(self._observed)]
        try:
            sealed = self._engine.seal(place.moved(spec), self._key)
            checked = self._engine.check(sealed, command, self._key, joined=place.joined)
        except EngineError as error:
            return [
                Finding(collector=spec.name, what="container", state=FAULT, detail=str(error)),
                *_without_container(
                    msgspec.structs.replace(self._fleet, collectors=(spec,)), "it has no container"
                ),
            ]
        return [*_read(spec, checked, without)]

    def _left_out(self, spec: CollectorSpec) -> dict[str, str]:
        """Return what cannot be tried of a collector, each with the reason."""
        without = {}
        if spec.store in self._blocked:
            without["store"] = self._blocked[spec.store]
        elif self._network_fault and spec.container.environment["BACKEND"] not in _IN_PROCESS:
            without["store"] = self._network_fault
        if self._fleet.simulator and SIMULATOR in self._blocked:
            without["exchange"] = self._blocked[SIMULATOR]
        return without


class _Place(msgspec.Struct, frozen=True):
    """Where checks run.

    Attributes:
        network: the network that they are on.
        joined: another one that they join; none where that is empty.
        volumes: those of servers that run for the checks, which get empty ones instead.
    """

    network: str
    joined: str = ""
    volumes: Iterable[str] = ()

    def moved(self, spec: CollectorSpec) -> CollectorSpec:
        """Return the spec as it is here."""
        container = spec.container
        is_server = not container.environment.get("EXCHANGE")
        moved = msgspec.structs.replace(
            container,
            network=self.network,
            mounts=tuple(map(self._mount, container.mounts)),
            aliases=(*container.aliases, *([container.name] if is_server else ())),
            restart="no",
        )
        return msgspec.structs.replace(spec, container=moved)

    def _mount(self, mount: Mount) -> Mount:
        if mount.source not in self.volumes:
            return mount
        return msgspec.structs.replace(mount, source=f"{mount.source}{CHECK}")


def _fault(obstacle: Obstacle) -> Finding:
    whose = obstacle.collectors[0] if len(obstacle.collectors) == 1 else None
    return Finding(
        collector=whose, what=obstacle.what, state=FAULT, detail=obstacle.detail, remedy=obstacle.remedy
    )


def _without_container(fleet: FleetSpec, why: str) -> Iterator[Finding]:
    """Say of collectors that nothing of them could be tried."""
    for spec in fleet.collectors:
        for what in _TRIED:
            yield Finding(collector=spec.name, what=what, state=SKIPPED, detail=why)


def _read(spec: CollectorSpec, checked: Check, without: dict[str, str]) -> Iterator[Finding]:
    """Read what a check said, and find what it left out."""
    found = [msgspec.structs.replace(each, collector=spec.name) for each in _said(checked)]
    tried = {finding.what for finding in found}
    if failure := _failure(spec, checked, tried):
        tried.add(failure.what)
        yield failure
    yield from (_in_terms_of_the_host(spec, finding) for finding in found)
    for name, why in without.items():
        for what in ("symbols", "clock") if name == _UNREACHABLE else (name,):
            tried.add(what)
            yield Finding(collector=spec.name, what=what, state=SKIPPED, detail=why)
    if _UNREACHABLE in tried:
        tried |= {"symbols", "clock"}
    for what in _TRIED:
        if what not in tried:
            why = f"its check stopped at {failure.what}" if failure else "its check reported nothing about it"
            yield Finding(collector=spec.name, what=what, state=SKIPPED, detail=why)


def _said(checked: Check) -> Iterator[Finding]:
    """Find what a check said; any other line is one of its log."""
    for line in checked.lines:
        with contextlib.suppress(typed_json.DecodeError):
            yield typed_json.decode(line, Finding)


def _failure(spec: CollectorSpec, checked: Check, tried: Iterable[str]) -> Finding | None:
    """Return why a check ended before its end."""
    memory = spec.container.memory
    if checked.out_of_memory:
        detail = f"the collector does not start in limits.memory = {(memory or 0) / 2**20:g} MiB"
        remedy = "give it more: it needs at least 150 MiB"
        return Finding(collector=spec.name, what="memory", state=FAULT, detail=detail, remedy=remedy)
    if tried:
        return None
    detail = " ".join(line.strip() for line in checked.lines[-5:]) or f"ended with {checked.exit_code}"
    if checked.exit_code == _MISCONFIGURED:
        return Finding(collector=spec.name, what="settings", state=FAULT, detail=detail)
    remedy = f"is {spec.container.image} a collector of this version? Build it again"
    return Finding(collector=spec.name, what="image", state=FAULT, detail=detail, remedy=remedy)


def _in_terms_of_the_host(spec: CollectorSpec, finding: Finding) -> Finding:
    """Return the finding with what to do on the engine's machine about a folder or a volume."""
    target = {"store": "/data", "spool": "/spool"}.get(finding.what)
    if _FOLDER not in finding.remedy:
        return finding
    remedy = finding.remedy
    for mount in spec.container.mounts:
        if mount.target == target and mount.kind == "bind":
            remedy = remedy.replace(_FOLDER, mount.source)
        elif mount.target == target:
            run = f"docker run --rm --user 0 --volume {mount.source}:{target} --entrypoint chown"
            remedy = f"give it to the collector's user: `{run} {spec.container.image} -R {USER} {target}`"
    return msgspec.structs.replace(finding, remedy=remedy)
