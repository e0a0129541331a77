"""Containers on a Docker engine, step by step, in Docker's own terms.

Requests that only read go straight to the engine; those that change something use the SDK's low-level API.
Nothing assumes that the engine is on this machine: files are copied to and from it through the API.
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
from collector.health import STANDBY_FILE, STATUS_FILE, Leftover, Standby, Status
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
    FILLER,
    LABEL_COLLECTOR,
    LABEL_FLEET,
    LABEL_HASH,
    LABEL_LOCKED_BY,
    LABEL_MANAGER,
    LABEL_OWNER,
    LABEL_SECRETS,
    LABEL_STORE,
    LAUNCHER,
)
from launcher.secrets import hidden
from launcher.spec import (
    USER,
    CollectorSpec,
    FleetSpec,
)

#: Seconds to wait for an answer of the engine; stopping a container may take its grace period longer.
_LONGEST_LOG_LINE = 2**20  # bytes, for output that never ends its line
_TIMEOUT = 60
_CHECK_SECONDS = 90  # for a check in its own container; each of its steps has less
_LOCK_LEFT = 10.0  # seconds that a lock may take from creation to running, or from its end to removal
_NETWORK_LEFT = 5.0  # seconds that a network may take to detach containers that are gone
_NETWORK_LOST = 1.0  # seconds after which an empty network that cannot be removed counts as stuck
#: A label of the collector's image, and its value.
_TITLE = ("org.opencontainers.image.title", "cryptostore collector")
SPOOL = "/spool"
_READS = 5  # attempts to read a file that may be replaced meanwhile
#: The file beside a fleet's secrets with the key of their seals. Only root can read it.
_KEY_FILE, _KEY_BYTES = ".key", 32


class DockerEngine:
    """One engine. Every method is a step that either succeeds or raises EngineError; all are thread-safe."""

    def __init__(self, transport: Transport, connections: int) -> None:
        self._transport = transport
        self._connections = connections
        self._reader = SocketReader(transport.dial, _TIMEOUT)
        self._images: dict[str, dict[str, Any]] = {}

    @classmethod
    def connect(cls, connections: int) -> Self:
        """Return the engine that the docker command would use: DOCKER_HOST, else the current context."""
        transport = endpoint.transport()
        engine = cls(transport, connections)
        try:
            engine._get("/_ping")
        except OSError as error:
            raise EngineError(transport.fault(error)) from error
        engine.require_manager()
        return engine

    def require_manager(self) -> None:
        """Raise EngineError if the engine does not manage the swarm that is needed."""

    @cached_property
    def _api(self) -> Any:
        from launcher.engines import sdk  # noqa: PLC0415 - slow to import

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
        """Return what engine this is, and its address."""
        with explained("the engine's version cannot be read"):
            told = self._read("/version")
        return f"Docker {told['Version']} at {self._transport.address}"

    def observe(self, fleet: str) -> list[Observed]:
        """Return all containers of the fleet, running or not, with one request."""
        with explained(f"fleet {fleet} cannot be listed"):
            return self._labelled(LABEL_FLEET, fleet)

    def owned(self, mark: str) -> list[Observed]:
        """Return the same for all fleets whose owner has this mark."""
        with explained("the other fleets cannot be listed"):
            return self._labelled(LABEL_OWNER, mark)

    def _labelled(self, label: str, value: str) -> list[Observed]:
        listed = self._read("/containers/json", all="1", filters=filtered("label", f"{label}={value}"))
        return [_observed(each) for each in listed]

    def key(self, observed: Iterable[Observed]) -> bytes:
        """Return the key that seals the fleet's secrets; it is kept beside them, and made with the first."""
        for container in observed:
            if container.secrets:
                with contextlib.suppress(EngineError):
                    if key := self._file(container.id, SECRETS, _KEY_FILE):
                        return key
        return secrets.token_bytes(_KEY_BYTES)

    def seal(self, spec: CollectorSpec, key: bytes) -> Sealed:
        """Return the collector as this engine takes it."""
        try:
            return words.sealed(spec, key)
        except OSError as error:
            raise EngineError(f"{spec.name}: {error.filename} cannot be read: {error.strerror}") from error

    def changes(self, sealed: Sealed, container: Observed) -> tuple[Change, ...]:
        """Inspect the container, and return how it differs from what it should be."""
        with explained(f"{container.name} cannot be inspected"):
            found = self._inspect(container.id)
            if not found["State"]["Running"]:
                self._leave_out_gone(found["NetworkSettings"]["Networks"])
            return words.changes(
                sealed, self._image(sealed.container.image), found, self._image(found["Image"])
            )

    def _leave_out_gone(self, networks: dict[str, Any]) -> None:
        """Leave out networks that are gone; containers do not rejoin a new one of that name."""
        for name, joined in [*networks.items()]:
            there = self._network(name)
            if joined["NetworkID"] and (there is None or there["Id"] != joined["NetworkID"]):
                del networks[name]

    def has_image(self, name: str) -> bool:
        """Return whether the image is on the engine."""
        with explained(f"image {name} cannot be inspected"):
            return bool(self._image(name))

    def _image(self, name: str) -> dict[str, Any]:
        """Return the image as inspected, once in this engine's life; empty if there is none."""
        if name not in self._images:
            found: dict[str, Any] = {}
            with _UnlessMissing():
                found = self._read(f"/images/{name}/json")
            self._images[name] = found
        return self._images[name]

    def _inspect(self, container: str) -> dict[str, Any]:
        return dict(self._read(f"/containers/{container}/json"))

    def require_place(self, fleet: FleetSpec) -> str | None:  # noqa: ARG002 - a swarm's business
        """Return the node for the fleet's collectors, if there are several. Raises EngineError if none is."""
        return None

    def elsewhere(self, fleet: str) -> str:  # noqa: ARG002
        """Return the machine that has the fleet's volumes, if it is not this engine's."""
        return ""

    def missing_images(self, images: Iterable[str]) -> list[str]:
        """Return those images that are not on the engine, and that it does not pull by itself."""
        with explained("images cannot be inspected"):
            return [image for image in sorted(set(images)) if not self._image(image)]

    def other_program(self, image: str) -> str:
        """Return the command of an image that contains another program; empty if it is a collector's.

        An image built on the collector's has its title, whatever its command.
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
        """Return why the fleet cannot use its network, and what to do about it."""
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
        """Return the command that creates a network for the fleet."""
        return f"docker network create {name}"

    def _unfit(self, network: dict[str, Any], fleet: FleetSpec) -> tuple[str, str] | None:
        """Return why the fleet cannot join an existing network, and what to do about it."""
        name = network["Name"]
        if fleet.network.external or _label(network, LABEL_FLEET) == fleet.name:
            return None
        remedy = (
            "give this fleet's network another name (`network: NAME` in the fleet file), or, to join that"
            f" one, write `network: {{name: {name}, external: true}}`"
        )
        return f"network {name} exists and does not belong to fleet {fleet.name}", remedy

    def make_network(self, fleet: FleetSpec) -> None:
        """Make sure that the network exists: create it, unless it exists or is external."""
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
        """Return whether a network of that name exists."""
        with explained(f"network {name}"):
            return self._network(name) is not None

    def _network(self, name: str) -> dict[str, Any] | None:
        found = self._read("/networks", filters=filtered("name", name))
        return next((each for each in found if each["Name"] == name), None)

    def create(self, sealed: Sealed, name: str | None = None, key: bytes = b"") -> str:
        """Create the container, by default under its own name, without starting it; return its id."""
        container = sealed.container
        with explained(f"{container.name} cannot be created"):
            return self._create(words.request(sealed), name or container.name, sealed, key)

    def _create(self, body: dict[str, Any], name: str, sealed: Sealed, key: bytes) -> str:
        """Create a container, with its secrets in their volume; return its id."""
        volume = sealed.volume
        there = self.named_volumes([volume]) if volume else []
        fleet = there[0].labels.get(LABEL_FLEET) if there else sealed.spec.fleet
        if fleet != sealed.spec.fleet and not sealed.spec.server:  # a store's volume was checked before
            raise EngineError(f"volume {volume} exists and does not belong to fleet {sealed.spec.fleet}")
        if volume and not there:
            self._fill_secrets(sealed, volume, key)
        created = str(self._api.create_container_from_config(body, name)["Id"])
        # The launcher that created the volume may have been killed, or lost the engine, before it was filled.
        try:
            if volume and there and not self._file(created, SECRETS, _last_of(sealed)):
                self._fill_secrets(sealed, volume, key)
        except BaseException:
            with contextlib.suppress(OSError):
                self._api.remove_container(created, v=True, force=True)
            raise
        return created

    def _fill_secrets(self, sealed: Sealed, volume: str, key: bytes) -> None:
        """Put the secrets into their volume, through a container that never runs.

        The collector's own mounts the volume read-only, and Docker copies no files into such a mount.
        """
        body, name = words.filler_request(sealed, volume), f"{sealed.container.name}{FILLER}"
        helper = self._api.create_container_from_config(body, name)["Id"]
        filled = False
        try:
            self._api.put_archive(helper, SECRETS, _archive_of(sealed, key))
            filled = True
        finally:
            self._api.remove_container(helper, v=True)
            if not filled:
                self._drop_volume(volume)

    def has_volume(self, name: str) -> bool:
        """Return whether a volume of that name exists."""
        return bool(self.named_volumes([name]))

    def named_volumes(self, wanted: Collection[str]) -> list[Labelled]:
        """Return the volumes that have one of the names, whoever made them, with one request."""
        only = {"filters": filtered("name", *wanted)} if len(wanted) == 1 else {}
        with explained("volumes cannot be listed"):
            found = self._read("/volumes", **only)["Volumes"] or []
        return [_labelled(each) for each in found if each["Name"] in wanted]

    def rename(self, container: str, name: str) -> None:
        """Rename a container."""
        with explained(f"{name} cannot be named"):
            self._api.rename(container, name)

    def update(self, container: str, sealed: Sealed) -> None:
        """Change limits and restart policy of an existing container without stopping it."""
        with explained("the container cannot be updated"):
            url = self._api._url("/containers/{0}/update", container)  # noqa: SLF001 - the SDK knows no NanoCpus here
            answer = self._api._post_json(url, data=words.update_request(sealed.container))  # noqa: SLF001
            self._api._raise_for_status(answer)  # noqa: SLF001

    def settle(self, container: str) -> None:
        """Clean up after a successful update; an updated container leaves nothing behind."""

    def roll_back(self, container: str) -> None:
        """Restore a service as it was before its update; return when it runs again."""
        raise EngineError(f"{container} is not a service")

    def start(self, container: str) -> None:
        """Start a container that is not running, or resume one that is paused."""
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
        """Stop a container within its grace period; it may be gone already."""
        with explained("the container cannot be stopped"), _UnlessMissing():
            self._api.stop(container)

    def remove(self, container: str) -> None:
        """Remove a stopped container with its secrets; it may be gone already."""
        with explained("the container cannot be removed"), _UnlessMissing():
            found = self._inspect(container)
            self._api.remove_container(container, v=True)  # named volumes stay
            kept = LABEL_STORE in _labels(found["Config"])  # a store's password opens its data
            for mount in found["Mounts"] if not kept else ():
                if mount["Destination"] == SECRETS and mount["Type"] == "volume":
                    self._drop_secrets_of(_labels(found["Config"]).get(LABEL_FLEET, ""), mount["Name"])

    def _drop_secrets_of(self, fleet: str, volume: str) -> None:
        """Remove a volume of secrets, unless its labels or its name show that it is something else."""
        role = names.parse(fleet, volume)
        there = self.named_volumes([volume])
        if role and there and there[0].labels.get(LABEL_FLEET) == fleet:
            self._drop_volume(volume)

    def discard(self, container: str) -> None:
        """Remove a container at once, running or not."""
        with explained("the container cannot be removed"), _UnlessMissing():
            self._api.remove_container(container, v=True, force=True)

    def _drop_volume(self, name: str) -> None:
        """Remove a volume unless another container uses it."""
        try:
            self._api.remove_volume(name)
        except OSError as error:
            if status_code(error) not in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                raise

    def _grace(self, container: str) -> int:
        return int(self._inspect(container)["Config"].get("StopTimeout") or 10)

    def check(self, sealed: Sealed, command: Sequence[str], key: bytes, joined: str = "") -> Check:
        """Run a command of ``collector``, set up as that would run, in a container that is then removed.

        It also joins the network ``joined``, if given. Secrets are masked in its output.
        """
        name = f"{sealed.container.name}{CHECK}"
        body = words.request(sealed) | {"Cmd": [*command], "Healthcheck": {"Test": ["NONE"]}}
        body["HostConfig"] |= {"RestartPolicy": {"Name": "no"}}
        with explained(f"{name} cannot be run"):
            container = self._create(body, name, sealed, key)
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
        """Return a container's condition, with one request."""
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
            error=_reason(state["Error"]),
            restarts=found["RestartCount"],
            started=seconds(state["StartedAt"]),
            unchecked=health.get("Status") == "unhealthy" and health.get("FailingStreak") == 0,
        )

    def status(self, container: str, collector: str) -> Status | None:
        """Return the collector's (its NAME) last status; None if it has written no readable one."""
        with contextlib.suppress(typed_json.DecodeError):
            return self._status(container, collector)
        return None

    def leftover(self, container: str, collector: str) -> Leftover | None:
        """Return what a collector (its NAME) that has ended left in its spool.

        None if unknown: it was killed, or its status is damaged.
        """
        return _leftover(partial(self._status, container, collector))

    def _status(self, container: str, collector: str) -> Status | None:
        """Return a collector's last status; None if there is none. Raises DecodeError."""
        return self._said(container, collector, STATUS_FILE, Status)

    def standby(self, container: str, collector: str) -> Standby | None:
        """Return since when a successor of the collector (its NAME) has been ready; None if it is not."""
        with contextlib.suppress(typed_json.DecodeError):
            return self._said(container, collector, STANDBY_FILE, Standby)
        return None

    def _said[T: msgspec.Struct](self, container: str, collector: str, file: str, told: type[T]) -> T | None:
        """Return the content of a file in a spool; None if there is none. Raises DecodeError."""
        for _ in range(_READS):
            # If the file is replaced meanwhile, the engine still sends the old number of bytes: if the new
            # file is shorter, the archive is cut off; if it is longer, its text is.
            with contextlib.suppress(tarfile.ReadError, typed_json.DecodeError):
                text = self._file(container, f"{SPOOL}/{collector}", file)
                return None if text is None else typed_json.decode(text, told)
        raise typed_json.DecodeError(f"{file} cannot be read")

    def passwords(self, container: str) -> tuple[str, ...]:
        """Return the container's passwords, which no text about it may show."""
        return hidden({name: text for name, text in self._files(container, SECRETS) if name != _KEY_FILE})

    def secret(self, container: str, name: str) -> str | None:
        """Return a secret as a container has it."""
        content = self._file(container, SECRETS, name)
        return content.decode().strip() if content else None

    def kept_secret(self, spec: CollectorSpec, name: str) -> str | None:
        """Return a secret of a managed store whose container is gone; None if it has none yet."""
        volume = spec.password_volume
        with explained(f"volume {volume} cannot be read"):
            if not self.has_volume(volume):
                return None
            with self._mounted(volume, SECRETS, spec.container.image) as reading:
                return self.secret(reading, name)

    @contextlib.contextmanager
    def _mounted(self, volume: str, target: str, image: str) -> Iterator[str]:
        """Create a container that mounts a volume and never runs; ``image`` may be any."""
        mount = {"Type": "volume", "Source": volume, "Target": target}
        body = {"Image": image, "HostConfig": {"Mounts": [mount]}}
        made = self._api.create_container_from_config(body)["Id"]
        try:
            yield made
        finally:
            self._api.remove_container(made, v=True)

    def _file(self, container: str, folder: str, name: str) -> bytes | None:
        """Return a file of a container, running or not; None if it does not exist."""
        return next((content for _, content in self._files(container, f"{folder}/{name}")), None)

    def _files(self, container: str, path: str) -> list[tuple[str, bytes]]:
        """Return a file, or the files in a folder, by name; empty if nothing is there."""
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
        """Yield lines as ``log`` returns them, then new ones as they come, until the container stops."""
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

        Raises EngineError with who holds it, and since when.
        """
        with self.claim(fleet, image, who) as held:
            held()
            yield

    @contextlib.contextmanager
    def claim(self, fleet: str, image: str, who: str) -> Iterator[Callable[[], object]]:
        """Hold the fleet as ``lock`` does, at first only by a name; yield what waits until the lock runs.

        The lock is a container's name. The container reads from our connection, and is removed when that
        ends, however this process ends. A lock that does not run counts as left behind after a while: until
        it runs, nothing irreversible may be done.
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
                # Before it ends by itself, when the engine would remove it without our waiting for that.
                with contextlib.suppress(EngineError), explained(name), _UnlessMissing():
                    self._api.remove_container(container, v=True, force=True)

    def _hold(self, fleet: str, container: str, opened: contextlib.ExitStack) -> None:
        """Start a lock's container, which ends with the connection that is ``opened``."""
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
        """Raise EngineError if somebody holds the lock; remove one that was abandoned before it ran."""
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
        """Return the networks with the labels that `up` gives to the fleet's network."""
        with explained(f"the networks of fleet {fleet} cannot be listed"):
            return [_labelled(each) for each in self._read("/networks", filters=_made_for(fleet))]

    def drop_network(self, name: str) -> None:
        """Remove a network by its name."""
        with explained(f"network {name} cannot be removed"), _UnlessMissing():
            self._drop_network(name)

    def _drop_network(self, network: str) -> None:
        """Remove a network. A busy engine takes a moment to detach containers that are gone.

        Docker Engine 20.10 may miscount a network that many containers leave at once. It then shows none on
        it and refuses to remove it for ever, which is not waited for.
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
        """Return the volumes with the labels that `up` gives to the fleet's, by their names."""
        with explained(f"the volumes of fleet {fleet} cannot be listed"):
            found = self._read("/volumes", filters=_made_for(fleet))["Volumes"] or []
        return sorted(map(_labelled, found), key=lambda volume: volume.name)

    def leftover_in(self, volume: str, collector: str, image: str) -> Leftover | None:
        """Return what a collector (its NAME) left in a spool's volume, as ``leftover`` does.

        ``image`` may be any; nothing in it is run.
        """
        with explained(f"volume {volume} cannot be read"):
            return _leftover(partial(self._status_in, volume, collector, image))

    def _status_in(self, volume: str, collector: str, image: str) -> Status | None:
        """Return the last status of the collector in a spool's volume; None if none. Raises DecodeError."""
        with self._mounted(volume, SPOOL, image) as reading:
            return DockerEngine._status(self, reading, collector)

    def remove_volume(self, name: str) -> None:
        """Remove a volume with its contents."""
        with explained(f"volume {name} cannot be removed"):
            self._api.remove_volume(name)


def _leftover(status: Callable[[], Status | None]) -> Leftover | None:
    try:
        said = status()
    except typed_json.DecodeError:
        return None
    return said.leftover if said else Leftover()  # it writes a status before it receives anything


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


def _archive_of(sealed: Sealed, key: bytes) -> bytes:
    """Return a tar file with the secrets; the last file in it is ``_last_of``.

    Only the collector's user can read a collector's secrets, and only root the key. A store's can be read by
    all in its container: only its image knows the server's user.
    """
    files = {each.name: each.content for each in sealed.secrets}
    if sealed.spec.server:
        return _tar((_member(name, 0o444, 0), content) for name, content in files.items())
    return _tar(
        (_member(name, 0o400, 0 if name == _KEY_FILE else USER), content)
        for name, content in {**files, _KEY_FILE: key}.items()
    )


def _last_of(sealed: Sealed) -> str:
    """Return the name of the file whose presence shows that all secrets are in their volume."""
    return sealed.secrets[-1].name if sealed.spec.server and sealed.secrets else _KEY_FILE


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
    """Return a filter as the engine's lists take it."""
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
        # Containers that other tools labelled, such as the tasks of a rendered stack, are not ours to change.
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
    """Yield the lines of a log that comes in pieces, split at newlines only."""
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
    """Return the time of a log's line, and the line itself."""
    time, _, text = line.rstrip("\r").partition(" ")
    return time, text


def seconds(iso: str) -> float:
    """Return a time in seconds since 1970."""
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
    """Ends the block if what it asks for does not exist."""

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
    """Return the status code of the engine's answer, if there was one."""
    return getattr(error, "status_code", None)


def _reason(text: str) -> str:
    """Return the engine's words, or ours where these say what to do."""
    if taken := re.search(r'The container name "/?([^"]+)" is already in use by container "?(\w{12})', text):
        return (
            f"the name {taken[1]} is taken by container {taken[2]}, which is not part of this fleet;"
            " give this fleet (`fleet:`) or the collector (`name:`) another name, or rename that container"
        )
    if image := re.search(r"[Nn]o such image: (\S+)", text):
        return f"the engine has no image {image[1]}; build or pull it (`docker pull {image[1]}`)"
    if "port is already allocated" in text:
        return f"a port is taken by another program: {text}"
    if "address pool" in text:
        return f"{text}; `docker network prune` removes networks that nothing uses"
    return _of_folder(text) or text


def _of_folder(text: str) -> str | None:
    """Return what is wrong with a folder that a container mounts; None if the engine does not mean that."""
    if "bind source path does not exist" in text:
        path = text.rpartition(": ")[2]
        return (
            f"{path} is not on the engine's machine; make it there, and give it to the user of the containers"
            f" (`mkdir -p {path} && chown {USER} {path}`)"
        )
    mount = re.search(r'error mounting "([^"]+)" to rootfs|\bmount (/[^:]+):/', text)
    if mount and "not a directory" in text:
        path = mount[1] or mount[2]
        return (
            f"{path} on the engine's machine is a file, not a folder; move it away, and make a folder there"
            f" for the user of the containers (`mkdir -p {path} && chown {USER} {path}`)"
        )
    return None
