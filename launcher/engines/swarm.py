"""Collectors as services of a swarm, step by step: the same steps as with containers.

Statuses and logs of a task are read from its container if that is on the engine we are connected to, a
manager. About tasks on other machines, only what the swarm knows can be shown.
"""

import base64
import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any, override

from collector.health import Status
from collector.masking import masked
from launcher import names
from launcher import swarm as house
from launcher.engines import (
    Change,
    Check,
    Condition,
    EngineError,
    LogLines,
    NoManagerError,
    Observed,
    containers,
    services,
)
from launcher.engines.containers import Sealed
from launcher.engines.docker import (
    SPOOL,
    DockerEngine,
    explained,
    filtered,
    log_lines,
    seconds,
    stamped,
    status_code,
)
from launcher.engines.transport import Transport
from launcher.names import (
    COMPOSE,
    LABEL_COLLECTOR,
    LABEL_FLEET,
    LABEL_HASH,
    LABEL_MANAGER,
    LAUNCHER,
    SERVICE_CHECK,
)
from launcher.ownership import seal_of
from launcher.secrets import hidden
from launcher.spec import CollectorSpec, FleetSpec

_LOOK_EVERY = 0.2  # seconds
_CHECK_SECONDS = 120  # for a check in its own task; each of its steps has less
_STOP_MORE = 30  # seconds beyond its grace period that a task may take to end
_BACK_SECONDS = 90  # for the previous task to run again
#: A task in one of these states has ended; in the others it runs, or is about to.
_ENDED = frozenset(["complete", "failed", "shutdown", "rejected", "orphaned", "remove"])
_FAILED = frozenset(["failed", "rejected", "orphaned"])
_SERVICE_ID = "com.docker.swarm.service.id"

type Json = dict[str, Any]


class SwarmEngine(DockerEngine):
    """A swarm, reached through one of its managers. Ids are those of services."""

    def __init__(self, transport: Transport, connections: int) -> None:
        super().__init__(transport, connections)
        self._hidden: dict[str, tuple[str, ...]] = {}  # what has to be masked, by the collector's full name

    @override
    def require_manager(self) -> None:
        with explained("the engine's swarm cannot be read"):
            if self._swarm["ControlAvailable"]:
                return
        raise NoManagerError(
            f"the engine at {self._transport.address} is no manager of a swarm (`engine: swarm`);"
            " `docker swarm init` makes it one, DOCKER_HOST=ssh://... leads to another"
        )

    @cached_property
    def _swarm(self) -> Json:
        return dict(self._read("/info")["Swarm"])

    @property
    def _node(self) -> str:
        return str(self._swarm["NodeID"])

    @override
    def about(self) -> str:
        return f"{super().about()}, manager of a swarm"

    def _placed(self, fleet: str) -> Json:
        label = f"{house.node_label(fleet)}=true"
        with explained("the swarm's nodes cannot be listed"):
            nodes = self._read("/nodes")
        name = house.node_label(fleet)
        labelled = [each for each in nodes if each["Spec"]["Labels"].get(name) == "true"]
        if len(labelled) == 1:
            return dict(labelled[0])
        names = ", ".join(each["Description"]["Hostname"] for each in labelled or nodes)
        if labelled:
            raise EngineError(
                f"{names} have the label {label}, but the fleet's spools are on one node: take it off the"
                f" others (`docker node update --label-rm {name} NODE`)"
            )
        raise EngineError(
            f"no node of the swarm has the label {label}; what a collector has not stored yet lies on its"
            f" node, so say which: `docker node update --label-add {label} NODE` (there are {names})"
        )

    @override
    def elsewhere(self, fleet: str) -> str:
        with contextlib.suppress(EngineError):
            node = self._placed(fleet)
            return "" if node["ID"] == self._node else str(node["Description"]["Hostname"])
        return ""

    @override
    def _labelled(self, label: str, value: str) -> list[Observed]:
        listed = self._read("/services", filters=filtered("label", f"{label}={value}"))
        ids = [each["ID"] for each in listed]
        tasks = self._read("/tasks", filters=filtered("service", *ids)) if ids else []
        return [_observed(each, _current(each, tasks)) for each in listed]

    @override
    def key(self, observed: Iterable[Observed]) -> bytes:
        return b""  # a swarm's secrets differ in their names

    @override
    def seal(self, spec: CollectorSpec, key: bytes) -> Sealed:
        try:
            sealed = containers.apart(spec)
        except OSError as error:
            raise EngineError(f"{spec.name}: {error.filename} cannot be read: {error.strerror}") from error
        self._hidden[spec.container.name] = hidden({each.name: each.content for each in sealed.secrets})
        return sealed

    @override
    def changes(self, sealed: Sealed, container: Observed) -> tuple[Change, ...]:
        name = sealed.container.network
        with explained(f"{container.name} cannot be inspected"):
            found = self._service(container.id)["Spec"]
            network = self._network(name)
            wanted = services.request(sealed, network["Id"] if network else name, {})
            told = services.changes(sealed.spec, wanted, found, {network["Id"]: name} if network else {})
            moved = self._moved(container.id, sealed.container.image)
        owner = containers.owner_changes(sealed.spec, found["Labels"] or {})
        return (*told, *owner, *([moved] if moved and all(each.key != "image" for each in told) else []))

    def _moved(self, service: str, image: str) -> Change | None:
        """Return whether the image's name now means another image, if the task's container is here."""
        task, now = self._task(service), self._image(image)
        if not now or not (here := self._container(task)):
            return None
        made_from = self._inspect(here)["Image"]
        return None if made_from == now["Id"] else containers.moved(image, {"Id": made_from}, now)

    @override
    def missing_images(self, images: Iterable[str]) -> list[str]:
        """Return nothing: a node pulls images by itself. `require_place` checks those of this machine."""
        return []

    @override
    def owners(self, names: Collection[str]) -> dict[str, str]:
        with explained("services cannot be listed"):
            listed = self._read("/services")
        there = {str(each["Spec"]["Name"]): str(each["ID"]) for each in listed}
        return {name: there[name] for name in names if name in there}

    @override
    def processors(self) -> int | None:
        return None

    @override
    def require_place(self, fleet: FleetSpec) -> str:
        """Return the node for the fleet's collectors. Raises EngineError if they cannot run anywhere."""
        node = str(self._placed(fleet.name)["Description"]["Hostname"])
        foreign = [each.name for each in self.observe(fleet.name) if each.manager == COMPOSE]
        if foreign:
            raise EngineError(
                f"nothing was touched: {', '.join(foreign)} already there and of a stack; take it down with"
                " `docker stack rm` first, or give the fleet another name"
            )
        with explained(f"fleet {fleet.name} cannot be listed"):
            found = super()._labelled(LABEL_FLEET, fleet.name)
        if found:
            names = ", ".join(each.name for each in found)
            raise EngineError(
                f"nothing was touched: the fleet's containers {names} are on this engine, and a spool has one"
                " collector; `launcher down` with `engine: docker` takes them away and leaves the spools"
            )
        if not self.elsewhere(fleet.name):
            self._require_images(each.container.image for each in fleet.collectors)
        return node

    def _require_images(self, images: Iterable[str]) -> None:
        """Raise EngineError if one of the images is not on this engine."""
        if missing := super().missing_images(images):
            ways = " or ".join(f"`docker build . -t {image}`, `docker pull {image}`" for image in missing)
            raise EngineError(f"no image {', '.join(missing)} on the engine; build or pull it: {ways}")

    @override
    def _unfit(self, network: Json, fleet: FleetSpec) -> tuple[str, str] | None:
        name = network["Name"]
        if network["Scope"] != "swarm":
            remedy = (
                f"remove it, and create one that is (`{self._network_command(name)}`), or name another one"
            )
            return f"network {name} is of one engine, not of the swarm", remedy
        return super()._unfit(network, fleet)

    @override
    def _network_command(self, name: str) -> str:
        return f"docker network create --driver overlay --attachable {name}"

    @override
    def _create_network(self, fleet: FleetSpec) -> None:
        name = fleet.network.name
        labels = containers.network_labels(fleet.name, fleet.owner, name)
        self._api.create_network(name, driver="overlay", attachable=True, labels=labels, check_duplicate=True)

    @override
    def create(self, sealed: Sealed, name: str | None = None, key: bytes = b"") -> str:
        """Create the service, which starts at once; return its id."""
        with explained(f"{sealed.container.name} cannot be created"):
            created = self._post("/services/create", self._request(sealed))
        return str(created["ID"])

    def _request(self, sealed: Sealed, command: Sequence[str] = ()) -> Json:
        network = self._network(sealed.container.network)
        ids = self._make_secrets(sealed)
        return services.request(sealed, network["Id"] if network else "", ids, command)

    def _make_secrets(self, sealed: Sealed) -> dict[str, str]:
        """Create missing secrets of the collector; return the ids of all, by name."""
        there = self._secrets_of(sealed.spec.fleet, sealed.spec.name)
        for name, secret in services.secret_names(sealed).items():
            if name not in there:
                spec = sealed.spec
                proof = spec.owner.labels(*seal_of("secret", spec.fleet, name))
                body = {
                    "Name": name,
                    "Labels": containers.labels(spec.fleet) | {LABEL_COLLECTOR: spec.name} | proof,
                    "Data": base64.b64encode(secret.content).decode(),
                }
                there[name] = self._post("/secrets/create", body)["ID"]
        return there

    def _secrets_of(self, fleet: str, collector: str) -> dict[str, str]:
        of = (f"{LABEL_FLEET}={fleet}", f"{LABEL_COLLECTOR}={collector}")
        return {
            each["Spec"]["Name"]: each["ID"]
            for each in self._read("/secrets", filters=filtered("label", *of))
        }

    def _drop_secrets(self, fleet: str, collector: str) -> None:
        """Remove the collector's secrets that no service uses."""
        for name, secret in self._secrets_of(fleet, collector).items():
            if not name.startswith(f"{names.container(fleet, collector)}-"):
                continue  # it has our labels, but not a name that we give
            try:
                self._api.remove_secret(secret)
            except OSError as error:
                if status_code(error) not in (
                    HTTPStatus.BAD_REQUEST,
                    HTTPStatus.CONFLICT,
                    HTTPStatus.NOT_FOUND,
                ):
                    raise

    def _post(self, target: str, body: Json, **query: Any) -> Json:
        answer = self._api._post_json(self._api._url(target), data=body, params=query)  # noqa: SLF001 - the SDK has its own terms
        self._api._raise_for_status(answer)  # noqa: SLF001
        return dict(answer.json())

    def _service(self, service: str) -> Json:
        return dict(self._read(f"/services/{service}"))

    def _task(self, service: str) -> Json | None:
        """Return the newest task of the service in its present form; None if none was started."""
        found = self._service(service)
        return _current(found, self._tasks(service))

    def _tasks(self, service: str) -> list[Json]:
        return list(self._read("/tasks", filters=filtered("service", service)))

    def _container(self, task: Json | None) -> str | None:
        """Return the id of the task's container if it is on this engine."""
        if task is None or task.get("NodeID") != self._node:
            return None
        return (task["Status"].get("ContainerStatus") or {}).get("ContainerID") or None

    def _change(self, service: str, spec: Json) -> None:
        """Give the service another spec. It gets a new task, which another ForceUpdate ensures."""
        found = self._service(service)
        # Never a number used before: an update that was rolled back has left its tasks.
        force = max(found["Spec"]["TaskTemplate"].get("ForceUpdate", 0) + 1, time.time_ns() // 1_000_000)
        spec["TaskTemplate"] = spec["TaskTemplate"] | {"ForceUpdate": force}
        self._post(f"/services/{service}/update", spec, version=found["Version"]["Index"])

    @override
    def update(self, container: str, sealed: Sealed) -> None:
        """Give the service a new container; the old one stops first."""
        with explained("the service cannot be updated"):
            self._change(container, self._request(sealed))

    @override
    def settle(self, container: str) -> None:
        """Remove what only the old service needed."""
        with explained("what is left of the old service cannot be removed"):
            labels = self._service(container)["Spec"]["Labels"]
            self._drop_secrets(labels[LABEL_FLEET], labels[LABEL_COLLECTOR])

    @override
    def roll_back(self, container: str) -> None:
        """Restore the service as it was before its update; return when it runs again."""
        with explained("the service cannot be rolled back"):
            found = self._service(container)
            if not _rolled_back(found):
                # If the swarm was quicker, it refuses this as out of sequence.
                with contextlib.suppress(OSError):
                    version = found["Version"]["Index"]
                    self._post(
                        f"/services/{container}/update", found["Spec"], version=version, rollback="previous"
                    )
            self._wait(lambda: self._is_back(container), _BACK_SECONDS, "it does not run again")

    def _is_back(self, service: str) -> bool:
        task = self._task(service)
        return _rolled_back(self._service(service)) and bool(task and task["Status"]["State"] == "running")

    def _wait(self, done: Callable[[], bool], longest: float, fault: str) -> None:
        end = time.monotonic() + longest
        while not done():
            if time.monotonic() > end:
                raise EngineError(f"{fault} after {longest:g} s")
            time.sleep(_LOOK_EVERY)

    @override
    def start(self, container: str) -> None:
        """Restart a service that has ended; one that was just created is running already."""
        with explained("the service cannot be started"):
            task = self._task(container)
            if task and task["Status"]["State"] in _ENDED:
                self._change(container, self._service(container)["Spec"])

    @override
    def restart(self, container: str) -> None:
        with explained("the service cannot be restarted"):
            self._change(container, self._service(container)["Spec"])

    @override
    def stop(self, container: str) -> None:
        """End the service's tasks within their grace period, and wait for that."""
        with explained("the service cannot be stopped"):
            found = self._service(container)
            spec = found["Spec"] | {"Mode": {"Replicated": {"Replicas": 0}}}
            grace = spec["TaskTemplate"]["ContainerSpec"].get("StopGracePeriod", 0) / 1e9
            self._post(f"/services/{container}/update", spec, version=found["Version"]["Index"])
            self._wait(lambda: self._is_over(container), grace + _STOP_MORE, "it does not end")

    def _is_over(self, service: str) -> bool:
        here = self._read("/containers/json", all="1", filters=filtered("label", f"{_SERVICE_ID}={service}"))
        running = any(each["State"] == "running" for each in here)
        return not running and all(task["Status"]["State"] in _ENDED for task in self._tasks(service))

    @override
    def remove(self, container: str) -> None:
        """Remove a service with its secrets; return when its containers are gone, so its volumes are free."""
        with explained("the service cannot be removed"):
            labels = self._service(container)["Spec"]["Labels"]
            self._api.remove_service(container)
            self._drop_secrets(labels[LABEL_FLEET], labels[LABEL_COLLECTOR])
            self._wait(lambda: not self._containers_of(container), _STOP_MORE, "its containers are not gone")

    def _containers_of(self, service: str) -> list[Json]:
        return list(
            self._read("/containers/json", all="1", filters=filtered("label", f"{_SERVICE_ID}={service}"))
        )

    @override
    def check(self, sealed: Sealed, command: Sequence[str], key: bytes, joined: str = "") -> Check:
        """Run a command of ``collector``, set up as that would run, in a service that is removed afterwards.

        Secrets are masked in its output.
        """
        name = f"{sealed.container.name}{SERVICE_CHECK}"
        with explained(f"{name} cannot be run"):
            self._drop_service(name)
            body = self._request(sealed, command)
            service = str(self._post("/services/create", body)["ID"])
            try:
                self._wait(lambda: self._has_ended(service), _CHECK_SECONDS, f"{name} did not end")
                (task,) = self._tasks(service)
                secret = hidden({each.name: each.content for each in sealed.secrets})
                lines = [masked(line, secret) for _, line in self.log(service, LogLines())]
            finally:
                self._drop_service(name)
                self._wait(lambda: not self._containers_of(service), _STOP_MORE, f"{name} is not gone")
                self._drop_secrets(sealed.spec.fleet, sealed.spec.name)
        status = task["Status"]
        code = (status.get("ContainerStatus") or {}).get("ExitCode", 0)
        failed = status["State"] != "complete"
        told = [status.get("Err") or status["State"]] if failed and not lines else []
        return Check(exit_code=code or int(failed), lines=(*lines, *told))

    def _drop_service(self, name: str) -> None:
        """Remove a leftover service of a check; a service of that name that is not a check is left alone."""
        listed = self._read("/services", filters=filtered("name", name))
        ours = [each["Spec"]["Labels"].get(LABEL_MANAGER) for each in listed if each["Spec"]["Name"] == name]
        if ours != [LAUNCHER]:
            return
        try:
            self._api.remove_service(name)
        except OSError as error:
            if status_code(error) != HTTPStatus.NOT_FOUND:
                raise

    def _has_ended(self, service: str) -> bool:
        tasks = self._tasks(service)
        return bool(tasks) and all(task["Status"]["State"] in _ENDED for task in tasks)

    @override
    def condition(self, container: str) -> Condition:
        with explained("the service cannot be inspected"):
            found = self._service(container)
            tasks = self._tasks(container)
        task = _current(found, tasks)
        if (here := self._container(task)) and task and task["Status"]["State"] in ("starting", "running"):
            inside = super().condition(here)
            health, said, started = inside.health, inside.said, inside.started
        else:
            health, said, started = None, "", math.inf  # the status in the spool is the previous container's
        status = task["Status"] if task else {}
        failures = [each for each in tasks if _is_of(found, each) and each["Status"]["State"] in _FAILED]
        if task and status["State"] == "running" and task.get("NodeID") != self._node:
            health = "healthy"  # otherwise the swarm would not call it running
        return Condition(
            state=_state(found, task),
            health=health,
            said=said,
            exit_code=(status.get("ContainerStatus") or {}).get("ExitCode", 0),
            error=_error(found, failures, status),
            restarts=len(failures),
            started=started,
            taken_back=_rolled_back(found),
            elsewhere="" if not task or task.get("NodeID") in (None, "", self._node) else self._name_of(task),
        )

    def _name_of(self, task: Json) -> str:
        node = self._read(f"/nodes/{task['NodeID']}")
        return f"node {node['Description']['Hostname']}"

    @override
    def _status(self, container: str, collector: str) -> Status | None:
        with explained("the service cannot be inspected"):
            found = self._service(container)
            here = self._container(_current(found, self._tasks(container)))
        if here:
            with contextlib.suppress(EngineError):  # it may be gone by now; its spool is not
                return super()._status(here, collector)
        inside = found["Spec"]["TaskTemplate"]["ContainerSpec"]
        volumes = [each["Source"] for each in inside.get("Mounts") or [] if each["Target"] == SPOOL]
        with explained(f"{collector}: its spool cannot be read"):
            there = volumes and self.has_volume(volumes[0]) and bool(self._image(inside["Image"]))
        return self._status_in(volumes[0], collector, inside["Image"]) if there else None

    @override
    def passwords(self, container: str) -> tuple[str, ...]:
        """Return the secrets in the fleet's file, else those of the running container."""
        with explained("the service cannot be inspected"):
            found = self._service(container)
            name = found["Spec"]["Name"]
            if name in self._hidden:
                return self._hidden[name]
            if not (here := self._container(_current(found, self._tasks(container)))):
                return ()
            targets = found["Spec"]["TaskTemplate"]["ContainerSpec"].get("Secrets") or []
            paths = [each["File"]["Name"] for each in targets]
            # They are mounted over the files that the engine can read from a container.
            return hidden({path.rpartition("/")[2]: self._shown(here, path) for path in paths})

    def _shown(self, container: str, path: str) -> bytes:
        return bytes(
            self._api.exec_start(self._api.exec_create(container, ["cat", path], stderr=False)["Id"])
        )

    @override
    def log(self, container: str, wanted: LogLines) -> list[tuple[str, str]]:
        tail = wanted.tail
        with explained("the log cannot be read"):
            text = self._api.service_logs(
                container, timestamps=True, tail="all" if tail is None else tail,
                since=wanted.since or 0, stdout=True, stderr=True, is_tty=False,
            )  # fmt: skip
            text = text if isinstance(text, bytes) else b"".join(text)
        # For each task; earlier ones are kept for a while.
        lines = sorted(map(stamped, log_lines([text])))
        return lines if tail is None else lines[max(0, len(lines) - tail) :]

    @override
    def follow(self, container: str, wanted: LogLines) -> Iterator[tuple[str, str]]:
        with explained("the log cannot be read"):
            stream = self._api.service_logs(
                container, timestamps=True, tail="all" if wanted.tail is None else wanted.tail,
                since=wanted.since or 0,
                stdout=True, stderr=True, follow=True, is_tty=False,
            )  # fmt: skip
            yield from map(stamped, log_lines(stream))

    @override
    @contextlib.contextmanager
    def claim(self, fleet: str, image: str, who: str) -> Iterator[Callable[[], object]]:
        """Hold the fleet as with containers, if this manager has the image.

        Otherwise only the swarm prevents two simultaneous updates of a service, by refusing the second.
        """
        with contextlib.ExitStack() as held:
            yield held.enter_context(super().claim(fleet, image, who)) if self._image(image) else bool


def _observed(service: Json, task: Json | None) -> Observed:
    spec = service["Spec"]
    labels = spec["Labels"]
    state = _state(service, task)
    return Observed(
        id=service["ID"],
        name=spec["Name"],
        fleet=labels[LABEL_FLEET],
        collector=labels.get(LABEL_COLLECTOR, spec["Name"]),
        config_hash=labels.get(LABEL_HASH, ""),
        manager=LAUNCHER if labels.get(LABEL_MANAGER) == LAUNCHER else COMPOSE,
        image=spec["TaskTemplate"]["ContainerSpec"]["Image"].partition("@")[0],
        state=state,
        health="healthy" if task and task["Status"]["State"] == "running" else None,
        created=int(seconds(service["CreatedAt"])),
        is_service=True,
        labels=labels,
        volumes=tuple(
            each["Source"]
            for each in spec["TaskTemplate"]["ContainerSpec"].get("Mounts") or []
            if each["Type"] == "volume"
        ),
    )


def _is_of(service: Json, task: Json) -> bool:
    """Return whether the task belongs to the service in its present form."""
    wanted = service["Spec"]["TaskTemplate"].get("ForceUpdate", 0)
    return bool(task["ServiceID"] == service["ID"] and task["Spec"].get("ForceUpdate", 0) == wanted)


def _current(service: Json, tasks: Iterable[Json]) -> Json | None:
    """Return the newest task that belongs to the service in its present form."""
    own = [task for task in tasks if _is_of(service, task)]
    return max(own, key=lambda task: str(task["CreatedAt"]), default=None)


def _rolled_back(service: Json) -> bool:
    return str((service.get("UpdateStatus") or {}).get("State", "")).startswith("rollback")


def _state(service: Json, task: Json | None) -> str:
    """Return the state of the service, in the words used for a container."""
    if not (service["Spec"]["Mode"].get("Replicated") or {}).get("Replicas", 0):
        return "exited"
    if task is None:
        return "running"  # about to run
    if task["Status"]["State"] in _ENDED:
        return "exited" if task["DesiredState"] in _ENDED else "restarting"
    return "running"


def _error(service: Json, failures: Sequence[Json], status: Json) -> str:
    """Return what the swarm reports about a failure."""
    if _rolled_back(service):
        return f"the swarm takes it back: {service['UpdateStatus'].get('Message', '')}"
    said = [each["Status"]["Err"] for each in failures if each["Status"].get("Err")]
    return str(said[0] if said else status.get("Err", ""))
