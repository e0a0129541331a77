"""Containers on a Docker engine, step by step, in Docker's own words.

What only reads goes straight to the engine; what changes something goes through the SDK's low-level API.
Nothing assumes that the engine is on this machine: files go there, and come from there, through the API.
"""

import contextlib
import io
import json
import re
import secrets
import shlex
import tarfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from functools import cached_property, partial
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import msgspec

from collector import typed_json
from collector.health import STANDBY_FILE, STATUS_FILE, Standby, Status
from collector.masking import masked
from launcher import names
from launcher.engines import Change, Check, Condition, EngineError, Labelled, LogLines, Observed, endpoint
from launcher.engines import containers as words
from launcher.engines.containers import SECRETS, Sealed
from launcher.engines.socket import ApiError, SocketReader
from launcher.engines.transport import Transport
from launcher.names import (
    CHECK,
    COMPOSE,
    LABEL_COLLECTOR,
    LABEL_FLEET,
    LABEL_HASH,
    LABEL_LOCKED_BY,
    LABEL_MANAGER,
    LABEL_SECRETS,
    LABEL_STORE,
    LAUNCHER,
)
from launcher.secrets import hidden
from launcher.spec import (
    USER,
    CollectorSpec,
    FleetSpec,
    Mount,
)

#: Seconds to wait for an answer of the engine; stopping a container may take its grace period more.
_LONGEST_LOG_LINE = 2**20  # bytes, of what never ends its line
_TIMEOUT = 60
_CHECK_SECONDS = 90  # for a check in a container of its own; each of its parts has less
_LOCK_LEFT = 10.0  # seconds that a lock may take from being made to running, or from its end to being gone
_NETWORK_LEFT = 5.0  # seconds that a network may take to be free of containers that are gone
_NETWORK_LOST = 1.0  # seconds after which a network that is free of them and cannot be removed is stuck
#: A label of the collector's image, and what it says.
_TITLE = ("org.opencontainers.image.title", "cryptostore collector")
SPOOL = "/spool"
_READS = 5  # of a file that may be replaced at the same time
#: Beside a fleet's secrets: what their seals are made with. Only root can read it.
_KEY_FILE, _KEY_BYTES = ".key", 32


class DockerEngine:
    """One engine. Every method is a step that either happened or raised EngineError; all are thread-safe."""

    def __init__(self, transport: Transport, connections: int) -> None:
        self._transport = transport
        self._connections = connections
        self._reader = SocketReader(transport.dial, _TIMEOUT)
        self._images: dict[str, dict[str, Any]] = {}

    @classmethod
    def connect(cls, connections: int) -> Self:
        """The engine that the docker command would talk to: DOCKER_HOST, else the current context."""
        transport = endpoint.transport()
        engine = cls(transport, connections)
        try:
            engine._get("/_ping")
        except OSError as error:
            raise EngineError(transport.fault(error)) from error
        engine.require_manager()
        return engine

    def require_manager(self) -> None:
        """Raise EngineError if the engine does not manage what it has to."""

    @cached_property
    def _api(self) -> Any:
        from launcher.engines import sdk  # noqa: PLC0415 - it takes its time to be imported

        version = self._read("/version")["ApiVersion"]
        return sdk.client(self._transport.dial, version, _TIMEOUT, self._connections)

    def _get(self, target: str, **query: str) -> bytes:
        return self._reader.get(target, **query)

    def _read(self, path: str, **query: str) -> Any:
        try:
            return json.loads(self._get(path, **query))
        except ValueError as error:
            raise ApiError(
                HTTPStatus.BAD_GATEWAY, f"what {path} returned is not an answer of a Docker engine"
            ) from error

    @property
    def connections(self) -> int:
        """How many connections the transport may have open at once."""
        return self._transport.connections

    def about(self) -> str:
        """Return what engine this is, and where."""
        with explained("the engine's version cannot be read"):
            told = self._read("/version")
        return f"Docker {told['Version']} at {self._transport.address}"

    def observe(self, fleet: str) -> list[Observed]:
        """Return all containers of the fleet, running or not, by one request."""
        filters = filtered("label", f"{LABEL_FLEET}={fleet}")
        with explained(f"fleet {fleet} cannot be listed"):
            listed = self._read("/containers/json", all="1", filters=filters)
        return [_observed(each) for each in listed]

    def key(self, observed: Iterable[Observed]) -> bytes:
        """What the fleet's secrets are sealed with: kept beside them on the engine, made with the first."""
        for container in observed:
            if container.secrets:
                with contextlib.suppress(EngineError):
                    if key := self._file(container.id, SECRETS, _KEY_FILE):
                        return key
        return secrets.token_bytes(_KEY_BYTES)

    def seal(self, spec: CollectorSpec, key: bytes) -> Sealed:
        """The collector as this engine gets it."""
        try:
            return words.sealed(spec, key)
        except OSError as error:
            raise EngineError(f"{spec.name}: {error.filename} cannot be read: {error.strerror}") from error

    def changes(self, sealed: Sealed, container: Observed) -> tuple[Change, ...]:
        """Return how the container differs from what it should be, by inspecting it."""
        with explained(f"{container.name} cannot be inspected"):
            found = self._inspect(container.id)
            if not found["State"]["Running"]:
                self._leave_out_gone(found["NetworkSettings"]["Networks"])
            return words.changes(
                sealed, self._image(sealed.container.image), found, self._image(found["Image"])
            )

    def _leave_out_gone(self, networks: dict[str, Any]) -> None:
        """Leave out networks that are gone: a new one is another, to which no container comes back."""
        for name, joined in [*networks.items()]:
            there = self._network(name)
            if joined["NetworkID"] and (there is None or there["Id"] != joined["NetworkID"]):
                del networks[name]

    def has_image(self, name: str) -> bool:
        """Return whether the image is on the engine."""
        with explained(f"image {name} cannot be inspected"):
            return bool(self._image(name))

    def _image(self, name: str) -> dict[str, Any]:
        """Return the image as inspected, once in this engine's life; empty where there is none."""
        if name not in self._images:
            found: dict[str, Any] = {}
            with _UnlessMissing():
                found = self._read(f"/images/{name}/json")
            self._images[name] = found
        return self._images[name]

    def _inspect(self, container: str) -> dict[str, Any]:
        return dict(self._read(f"/containers/{container}/json"))

    def require_place(self, fleet: FleetSpec) -> str | None:  # noqa: ARG002 - a swarm's business
        """The node of the fleet's collectors, where there are several. Raises EngineError where none is."""
        return None

    def elsewhere(self, fleet: str) -> str:  # noqa: ARG002
        """Return the machine that the fleet's volumes are on, where it is not this engine's."""
        return ""

    def missing_images(self, images: Iterable[str]) -> list[str]:
        """Return those of the images that are not on the engine, and that it does not get by itself."""
        with explained("images cannot be inspected"):
            return [image for image in sorted(set(images)) if not self._image(image)]

    def other_program(self, image: str) -> str:
        """Return the command that another program's image begins with; empty where it is a collector's.

        An image that is built on the collector's has its title, whatever it begins with.
        """
        with explained("images cannot be inspected"):
            config = self._image(image).get("Config") or {}
        command = shlex.join([*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())])
        is_ours = _TITLE in _labels(config).items() or "collector" in command
        return "" if is_ours else command

    def owners(self, names: Collection[str]) -> dict[str, str]:
        """Return the ids of the containers that have one of the names, whoever made them."""
        with explained("containers cannot be listed"):
            listed = self._read("/containers/json", all="1")
        there = {name.removeprefix("/"): str(each["Id"]) for each in listed for name in each["Names"]}
        return {name: there[name] for name in names if name in there}

    def processors(self) -> int | None:
        """Return how many processors a container can have; None if that depends on its node."""
        with explained("the engine's machine cannot be read"):
            return int(self._read("/info")["NCPU"])

    def network_fault(self, fleet: FleetSpec) -> tuple[str, str] | None:
        """Return what keeps the fleet from its network, and what to do about it."""
        name = fleet.network.name
        with explained(f"network {name}"):
            network = self._network(name)
        if network:
            return self._unfit(network, fleet)
        if fleet.network.external:
            remedy = (
                f"the file says that it is external: create it (`{self._network_command(name)}`), or leave"
                " `external` out, and `up` makes it"
            )
            return f"network {name} does not exist", remedy
        return None

    def _network_command(self, name: str) -> str:
        """Return the command that makes a network that the fleet can join."""
        return f"docker network create {name}"

    def _unfit(self, network: dict[str, Any], fleet: FleetSpec) -> tuple[str, str] | None:
        """Return why the fleet cannot join a network that is there, and what to do about it."""
        name = network["Name"]
        if fleet.network.external or _label(network, LABEL_FLEET) == fleet.name:
            return None
        remedy = (
            "give this fleet's network another name (`network: NAME` in the fleet file), or, to join that"
            f" one, write `network: {{name: {name}, external: true}}`"
        )
        return f"network {name} exists and does not belong to fleet {fleet.name}", remedy

    def make_network(self, fleet: FleetSpec) -> None:
        """The network is there afterwards: made, or joined when it is external."""
        if fault := self.network_fault(fleet):
            raise EngineError("; ".join(fault))
        name = fleet.network.name
        with explained(f"network {name}"):
            if self._network(name) is None:
                self._create_network(fleet)

    def _create_network(self, fleet: FleetSpec) -> None:
        name = fleet.network.name
        labels = words.network_labels(fleet.name, fleet.owner, name)
        self._api.create_network(name, driver="bridge", labels=labels, check_duplicate=True)

    def has_network(self, name: str) -> bool:
        """Return whether there is a network of that name."""
        with explained(f"network {name}"):
            return self._network(name) is not None

    def _network(self, name: str) -> dict[str, Any] | None:
        found = self._read("/networks", filters=filtered("name", name))
        return next((each for each in found if each["Name"] == name), None)

    def create(self, sealed: Sealed, name: str | None = None, key: bytes = b"") -> str:
        """Create the container, by default under its own name, without starting it; return its id."""
        container = sealed.container
        with explained(f"{container.name} cannot be created"):
            self._fill_secrets(sealed, key)
            created = self._api.create_container_from_config(words.request(sealed), name or container.name)
        return str(created["Id"])

    def _fill_secrets(self, sealed: Sealed, key: bytes) -> None:
        """Put the secrets into their volume, through a container that never runs.

        The collector's own has the volume read-only, where Docker lets nobody put a file.
        """
        if not sealed.volume:
            return
        if there := self.named_volumes([sealed.volume]):
            fleet = there[0].labels.get(LABEL_FLEET)
            if fleet != sealed.spec.fleet and not sealed.spec.server:  # a store's volume has been looked at
                raise EngineError(
                    f"volume {sealed.volume} exists and does not belong to fleet {sealed.spec.fleet}"
                )
            return
        writable = Mount(kind="volume", source=sealed.volume, target=SECRETS)
        mounts = [words.mount(sealed.spec, writable)]
        body = {"Image": sealed.container.image, "HostConfig": {"Mounts": mounts}}
        helper = self._api.create_container_from_config(body)["Id"]
        filled = False
        try:
            files = {secret.name: secret.content for secret in sealed.secrets}
            archive = _store_archive(files) if sealed.spec.server else _archive(files, key)
            self._api.put_archive(helper, SECRETS, archive)
            filled = True
        finally:
            self._api.remove_container(helper, v=True)
            if not filled:  # the name says that the secrets are there
                self._api.remove_volume(sealed.volume)

    def has_volume(self, name: str) -> bool:
        """Return whether there is a volume of that name."""
        return bool(self.named_volumes([name]))

    def named_volumes(self, wanted: Collection[str]) -> list[Labelled]:
        """Return the volumes that have one of the names, whoever made them; by one request."""
        only = {"filters": filtered("name", *wanted)} if len(wanted) == 1 else {}
        with explained("volumes cannot be listed"):
            found = self._read("/volumes", **only)["Volumes"] or []
        return [_labelled(each) for each in found if each["Name"] in wanted]

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        with explained(f"{name} cannot be named"):
            self._api.rename(container, name)

    def update(self, container: str, sealed: Sealed) -> None:
        """Change limits and restart policy of a container that is there, without stopping it."""
        with explained("the container cannot be updated"):
            url = self._api._url("/containers/{0}/update", container)  # noqa: SLF001 - the SDK knows no NanoCpus here
            answer = self._api._post_json(url, data=words.update_request(sealed.container))  # noqa: SLF001
            self._api._raise_for_status(answer)  # noqa: SLF001

    def settle(self, container: str) -> None:
        """After an update that went well; a container that is updated leaves nothing behind."""

    def roll_back(self, container: str) -> None:
        """A service is as it was before its update; returns when it runs again."""
        raise EngineError(f"{container} is not a service")

    def start(self, container: str) -> None:
        """Start a container that is not running; one that is paused goes on."""
        with explained("the container cannot be started"):
            if self._inspect(container)["State"]["Paused"]:
                self._api.unpause(container)
            else:
                self._api.start(container)

    def restart(self, container: str) -> None:
        """Stop a container within its grace period, and start it."""
        with explained("the container cannot be restarted"):
            self._api.restart(container, timeout=self._grace(container))

    def stop(self, container: str) -> None:
        """Stop a container within its own grace period; one that is gone is fine."""
        with explained("the container cannot be stopped"), _UnlessMissing():
            self._api.stop(container)

    def remove(self, container: str) -> None:
        """Remove a container that does not run, with its secrets; one that is gone is fine."""
        with explained("the container cannot be removed"), _UnlessMissing():
            found = self._inspect(container)
            self._api.remove_container(container, v=True)  # named volumes stay
            kept = LABEL_STORE in _labels(found["Config"])  # a store's password opens its data
            for mount in found["Mounts"] if not kept else ():
                if mount["Destination"] == SECRETS and mount["Type"] == "volume":
                    self._drop_secrets_of(_labels(found["Config"]).get(LABEL_FLEET, ""), mount["Name"])

    def _drop_secrets_of(self, fleet: str, volume: str) -> None:
        """Remove a volume of secrets, unless it is none, by its labels or its name."""
        role = names.parse(fleet, volume)
        there = self.named_volumes([volume])
        if role and there and there[0].labels.get(LABEL_FLEET) == fleet:
            self._drop_volume(volume)

    def discard(self, container: str) -> None:
        """Remove a container at once, whether it runs or not."""
        with explained("the container cannot be removed"), _UnlessMissing():
            self._api.remove_container(container, v=True, force=True)

    def _drop_volume(self, name: str) -> None:
        """Remove a volume unless another container has it, too."""
        try:
            self._api.remove_volume(name)
        except OSError as error:
            if status_code(error) not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                raise

    def _grace(self, container: str) -> int:
        return int(self._inspect(container)["Config"].get("StopTimeout") or 10)

    def check(self, sealed: Sealed, command: Sequence[str], key: bytes, joined: str = "") -> Check:
        """Run a command of ``collector`` as that would run, in a container that is gone afterwards.

        It also joins the network ``joined``, if there is one. No secret is in what it said.
        """
        name = f"{sealed.container.name}{CHECK}"
        body = words.request(sealed) | {"Cmd": [*command], "Healthcheck": {"Test": ["NONE"]}}
        body["HostConfig"] |= {"RestartPolicy": {"Name": "no"}}
        with explained(f"{name} cannot be run"):
            self._fill_secrets(sealed, key)
            container = self._api.create_container_from_config(body, name)["Id"]
            try:
                if joined:
                    self._api.connect_container_to_network(container, joined)
                self._api.start(container)
                ended = self._api.wait(container, timeout=_CHECK_SECONDS)
                out_of_memory = bool(self._inspect(container)["State"]["OOMKilled"])
                secret = hidden({each.name: each.content for each in sealed.secrets})
                lines = tuple(masked(line, secret) for _, line in self.log(container, LogLines()))
            finally:
                self._api.remove_container(container, v=True, force=True)
                if sealed.volume and not sealed.spec.server:
                    self._drop_volume(sealed.volume)
        return Check(exit_code=ended["StatusCode"], lines=lines, out_of_memory=out_of_memory)

    def condition(self, container: str) -> Condition:
        """Return how the container is, by one request."""
        with explained("the container cannot be inspected"):
            found = self._inspect(container)
        state = found["State"]
        health = state.get("Health") or {}
        checks = health.get("Log") or []
        return Condition(
            state=state["Status"],
            health=health.get("Status"),
            said=checks[-1]["Output"].strip() if checks else "",
            exit_code=state["ExitCode"],
            error=state["Error"],
            restarts=found["RestartCount"],
            started=seconds(state["StartedAt"]),
        )

    def status(self, container: str, collector: str) -> Status | None:
        """Return what the collector (its NAME) last said of itself; None if it has said nothing readable."""
        with contextlib.suppress(typed_json.DecodeError):
            return self._status(container, collector)
        return None

    def unstored(self, container: str, collector: str) -> int | None:
        """Return how many records a collector (its NAME) that has ended left in its spool.

        None if nobody knows: it was killed, or what it said of itself is damaged.
        """
        return _unstored(partial(self._status, container, collector))

    def _status(self, container: str, collector: str) -> Status | None:
        """Return what a collector last said of itself; None if nothing. Raises DecodeError."""
        return self._said(container, collector, STATUS_FILE, Status)

    def standby(self, container: str, collector: str) -> Standby | None:
        """Since when what is to replace the collector (its NAME) is ready to do so; None if it is not."""
        with contextlib.suppress(typed_json.DecodeError):
            return self._said(container, collector, STANDBY_FILE, Standby)
        return None

    def _said[T: msgspec.Struct](self, container: str, collector: str, file: str, told: type[T]) -> T | None:
        """Return what a file of a spool says; None if there is none. Raises DecodeError."""
        for _ in range(_READS):
            # The engine sends as many bytes as the file had before it was replaced meanwhile: where it is
            # shorter now, the archive is cut; where it is longer, what it says is.
            with contextlib.suppress(tarfile.ReadError, typed_json.DecodeError):
                text = self._file(container, f"{SPOOL}/{collector}", file)
                return None if text is None else typed_json.decode(text, told)
        raise typed_json.DecodeError(f"{file} cannot be read")

    def passwords(self, container: str) -> tuple[str, ...]:
        """Return what no text about the container may hold, as it has it."""
        return hidden({name: text for name, text in self._files(container, SECRETS) if name != _KEY_FILE})

    def secret(self, container: str, name: str) -> str | None:
        """A secret as a container has it."""
        content = self._file(container, SECRETS, name)
        return content.decode().strip() if content else None

    def kept_secret(self, spec: CollectorSpec, name: str) -> str | None:
        """A secret of a managed store whose container is gone; None if it has none yet."""
        volume = spec.password_volume
        with explained(f"volume {volume} cannot be read"):
            if not self.has_volume(volume):
                return None
            with self._mounted(volume, SECRETS, spec.container.image) as reading:
                return self.secret(reading, name)

    @contextlib.contextmanager
    def _mounted(self, volume: str, target: str, image: str) -> Iterator[str]:
        """A container that has a volume and never runs; ``image`` is any."""
        mount = {"Type": "volume", "Source": volume, "Target": target}
        body = {"Image": image, "HostConfig": {"Mounts": [mount]}}
        made = self._api.create_container_from_config(body)["Id"]
        try:
            yield made
        finally:
            self._api.remove_container(made, v=True)

    def _file(self, container: str, folder: str, name: str) -> bytes | None:
        """A file in a container that need not run; None if there is none."""
        return next((content for _, content in self._files(container, f"{folder}/{name}")), None)

    def _files(self, container: str, path: str) -> list[tuple[str, bytes]]:
        """A file, or the files of a folder, with their names; none where there is nothing."""
        with explained(f"{path} cannot be read"), _UnlessMissing():
            archive = self._get(f"/containers/{container}/archive", path=path)
            with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                opened = ((member.name, tar.extractfile(member)) for member in tar.getmembers())
                return [(name.rpartition("/")[2], file.read()) for name, file in opened if file]
        return []

    def log(self, container: str, wanted: LogLines) -> list[tuple[str, str]]:
        """Return lines as (time, line); times are ISO 8601 and sort as text."""
        with explained("the log cannot be read"):
            text = self._api.logs(container, timestamps=True, tail=_tail(wanted), since=wanted.since)
        return [stamped(line) for line in log_lines([text])]

    def follow(self, container: str, wanted: LogLines) -> Iterator[tuple[str, str]]:
        """Yield lines as ``log`` does, then new ones as they come, until the container stops."""
        with explained("the log cannot be read"):
            stream = self._api.logs(
                container,
                timestamps=True,
                tail=_tail(wanted),
                since=wanted.since,
                stream=True,
                follow=True,
            )
            yield from map(stamped, log_lines(stream))

    @contextlib.contextmanager
    def lock(self, fleet: str, image: str, who: str) -> Iterator[None]:
        """Hold the fleet, so that nobody else changes it.

        Raises EngineError with who does, and since when.
        """
        with self.claim(fleet, image, who) as held:
            held()
            yield

    @contextlib.contextmanager
    def claim(self, fleet: str, image: str, who: str) -> Iterator[Callable[[], object]]:
        """Hold the fleet as ``lock`` does, at first by a name alone; yield what waits until the lock runs.

        The lock is a container's name. The container reads from our connection, and is gone when that ends,
        however we do. One that does not run is taken for left behind after a while: until it runs, nothing
        may be done that cannot be undone.
        """
        name = names.lock(fleet)
        with explained(f"fleet {fleet} cannot be locked"):
            container = self._take(name, _lock_request(image, who))
        with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as opened:
            running = pool.submit(self._hold, fleet, container, opened)
            try:
                yield running.result
            finally:
                wait([running])
                # Before it ends by itself, when its removal would be the engine's, and not waited for.
                with contextlib.suppress(EngineError), explained(name), _UnlessMissing():
                    self._api.remove_container(container, v=True, force=True)

    def _hold(self, fleet: str, container: str, opened: contextlib.ExitStack) -> None:
        """Start a lock's container, which ends with a connection that is ``opened``."""
        with explained(f"fleet {fleet} cannot be locked"):
            connection = self._api.attach_socket(container, params={"stdin": 1, "stream": 1})
            opened.callback(connection.close)
            opened.callback(connection._response.close)  # noqa: SLF001 - the SDK's way to keep it alive
            self._api.start(container)

    def _take(self, name: str, body: dict[str, Any]) -> str:
        end = time.monotonic() + _LOCK_LEFT
        while True:
            try:
                return str(self._api.create_container_from_config(body, name)["Id"])
            except OSError as error:
                if status_code(error) != HTTPStatus.CONFLICT:
                    raise
            with _UnlessMissing():
                self._judge_lock(name, left=time.monotonic() > end)
            time.sleep(0.1)

    def _judge_lock(self, name: str, *, left: bool) -> None:
        """Raise EngineError if somebody holds the lock; one that was left before it ran is removed."""
        found = self._inspect(name)
        who = _labels(found["Config"]).get(LABEL_LOCKED_BY)
        if who is None:
            raise EngineError(
                f"nothing was touched: a container {name} is there, and it is no lock of a launcher; rename"
                f" it (`docker rename {name} ...`), because the lock on the fleet is called that"
            )
        if found["State"]["Status"] == "running":
            fleet = name.removesuffix(names.lock(""))
            raise EngineError(f"nothing was touched: {fleet} is being changed by {who}; try again later")
        if left:
            self._remove_unless_running(found["Id"])

    def _remove_unless_running(self, container: str) -> None:
        try:
            self._api.remove_container(container, v=True)
        except OSError as error:
            if status_code(error) != HTTPStatus.CONFLICT:
                raise

    def networks(self, fleet: str) -> list[Labelled]:
        """Return the networks with the labels of one that `up` made for the fleet."""
        with explained(f"the networks of fleet {fleet} cannot be listed"):
            return [_labelled(each) for each in self._read("/networks", filters=_made_for(fleet))]

    def drop_network(self, name: str) -> None:
        """Remove a network by its name."""
        with explained(f"network {name} cannot be removed"), _UnlessMissing():
            self._drop_network(name)

    def _drop_network(self, network: str) -> None:
        """Remove a network. A busy engine takes a moment to take containers that are gone off it.

        Docker Engine 20.10 may lose count of a network that many containers leave at once. Then it shows none
        there and refuses for good, which is not waited for.
        """
        begun = time.monotonic()
        while True:
            try:
                self._api.remove_network(network)
            except OSError as error:
                if status_code(error) != HTTPStatus.FORBIDDEN:
                    raise
                there = self._read(f"/networks/{network}")["Containers"] or {}
                if time.monotonic() - begun > (_NETWORK_LEFT if there else _NETWORK_LOST):
                    raise EngineError(_still_used(network, there)) from error
                time.sleep(0.1)
            else:
                return

    def volumes(self, fleet: str) -> list[Labelled]:
        """Return the volumes with the labels of one that `up` made for the fleet, by their names."""
        with explained(f"the volumes of fleet {fleet} cannot be listed"):
            found = self._read("/volumes", filters=_made_for(fleet))["Volumes"] or []
        return sorted(map(_labelled, found), key=lambda volume: volume.name)

    def unstored_in(self, volume: str, collector: str, image: str) -> int | None:
        """Return how many records a collector (its NAME) left in a spool's volume, as ``unstored`` does.

        ``image`` is any; nothing of it runs.
        """
        with explained(f"volume {volume} cannot be read"):
            return _unstored(partial(self._status_in, volume, collector, image))

    def _status_in(self, volume: str, collector: str, image: str) -> Status | None:
        """Return the last status of the collector in a spool's volume; None if none. Raises DecodeError."""
        with self._mounted(volume, SPOOL, image) as reading:
            return DockerEngine._status(self, reading, collector)

    def remove_volume(self, name: str) -> None:
        """Remove a volume, and what is in it."""
        with explained(f"volume {name} cannot be removed"):
            self._api.remove_volume(name)


def _unstored(status: Callable[[], Status | None]) -> int | None:
    try:
        said = status()
    except typed_json.DecodeError:
        return None
    return said.unstored if said else 0  # it writes a status before it receives anything


def _still_used(network: str, there: Mapping[str, Any]) -> str:
    if names := sorted(each["Name"] for each in there.values()):
        return (
            f"network {network} cannot be removed: {', '.join(names)} on it; remove or disconnect them first"
        )
    return (
        f"network {network} cannot be removed: the engine has lost count of what is on it, and says that"
        " something is; the next `up` can use it, and after a restart of the engine it can be removed"
    )


def _lock_request(image: str, who: str) -> dict[str, Any]:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "Image": image,
        "Entrypoint": ["cat"],  # until its input ends
        "Cmd": [],
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {LABEL_LOCKED_BY: f"{who} since {since}"},
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "NetworkDisabled": True,
        "HostConfig": {
            "AutoRemove": True,
            "NetworkMode": "none",
            "CapDrop": ["ALL"],
            "ReadonlyRootfs": True,
            "LogConfig": {"Type": "none"},
        },
    }


def _archive(files: Mapping[str, bytes], key: bytes) -> bytes:
    """A tar file of secrets, each for the collector's user alone, and of the key, for root alone."""
    return _tar(
        (_member(name, 0o400, 0 if name == _KEY_FILE else USER), content)
        for name, content in {**files, _KEY_FILE: key}.items()
    )


def _store_archive(files: Mapping[str, bytes]) -> bytes:
    """A tar file of a store's secrets, for all in its container: its image knows the server's user."""
    return _tar((_member(name, 0o444, 0), content) for name, content in files.items())


def _member(name: str, mode: int, user: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.uid, member.gid = mode, user, user
    return member


def _tar(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def filtered(key: str, *values: str) -> str:
    """A filter as a list of the engine takes it."""
    return json.dumps({key: [*values]})


def _made_for(fleet: str) -> str:
    return filtered("label", *(f"{name}={value}" for name, value in words.labels(fleet).items()))


def _labels(thing: Mapping[str, Any]) -> dict[str, str]:
    return dict(thing.get("Labels") or {})


def _label(thing: dict[str, Any], label: str) -> str:
    return str(_labels(thing).get(label, ""))


def _labelled(thing: Mapping[str, Any]) -> Labelled:
    return Labelled(name=thing["Name"], labels=_labels(thing))


def _observed(listed: dict[str, Any]) -> Observed:
    health = re.search(r"\((?:health: )?(healthy|unhealthy|starting)\)", listed["Status"])
    return Observed(
        id=listed["Id"],
        name=listed["Names"][0].removeprefix("/"),
        fleet=_label(listed, LABEL_FLEET),
        collector=_label(listed, LABEL_COLLECTOR),
        config_hash=_label(listed, LABEL_HASH),
        # What has the fleet's label from elsewhere, as the tasks of a rendered stack, is not ours to touch.
        manager=LAUNCHER if _label(listed, LABEL_MANAGER) == LAUNCHER else COMPOSE,
        secrets=_label(listed, LABEL_SECRETS),
        store=_label(listed, LABEL_STORE),
        image=listed["Image"],
        state=listed["State"],
        health=health[1] if health else None,
        created=listed["Created"],
        labels=_labels(listed),
        volumes=tuple(each["Name"] for each in listed.get("Mounts") or [] if each["Type"] == "volume"),
    )


def log_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Return the lines of a log that comes in pieces; newlines alone end them, whatever else looks so."""
    rest = bytearray()
    for chunk in chunks:
        for piece in chunk.splitlines(keepends=True):  # of bytes: at newlines and carriage returns
            rest += piece
            if piece.endswith(b"\n") or len(rest) > _LONGEST_LOG_LINE:
                yield rest.decode(errors="replace").removesuffix("\n")
                rest.clear()
    if rest:
        yield rest.decode(errors="replace")


def _tail(wanted: LogLines) -> int | str:
    return "all" if wanted.tail is None else wanted.tail


def stamped(line: str) -> tuple[str, str]:
    """Return the time of a log's line, and the line."""
    time, _, text = line.rstrip("\r").partition(" ")
    return time, text


def seconds(iso: str) -> float:
    """A time in seconds since 1970."""
    return datetime.fromisoformat(iso).timestamp()


@contextlib.contextmanager
def explained(fault: str) -> Iterator[None]:
    """Turn errors of the engine or its transport into an EngineError that begins with ``fault``."""
    try:
        yield
    except Exception as error:
        if not _is_sdks(error):
            raise
        if explanation := getattr(error, "explanation", None):
            raise EngineError(f"{fault}: {_reason(str(explanation).strip())}") from error
        raise EngineError(f"{fault}: the Docker engine does not answer: {error}") from error


class _UnlessMissing:
    """Ends the block where what it asks for is not there."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return isinstance(error, OSError) and status_code(error) == HTTPStatus.NOT_FOUND


def _is_sdks(error: Exception) -> bool:
    """Return whether the engine's client raised it; the exceptions of requests are OSErrors."""
    return isinstance(error, OSError) or type(error).__module__ == "docker.errors"


def status_code(error: OSError) -> int | None:
    """Return the engine's answer, where there was one."""
    return getattr(error, "status_code", None)


def _reason(text: str) -> str:
    if taken := re.search(r'The container name "/?([^"]+)" is already in use by container "?(\w{12})', text):
        return (
            f"the name {taken[1]} is taken by container {taken[2]}, which is not part of this fleet;"
            " give this fleet (`fleet:`) or the collector (`name:`) another name, or rename that container"
        )
    if "port is already allocated" in text:
        return f"a port is taken by another program: {text}"
    if "bind source path does not exist" in text:
        path = text.rpartition(": ")[2]
        return (
            f"{path} is not on the engine's machine; make it there, and give it to the user of the containers"
            f" (`mkdir -p {path} && chown {USER} {path}`)"
        )
    if "address pool" in text:
        return f"{text}; `docker network prune` removes networks that nothing uses"
    return text
