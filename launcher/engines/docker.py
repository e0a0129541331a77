"""Containers on a Docker engine, through the SDK's low-level API: few requests, in Docker's own words."""

import contextlib
import io
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import docker
import msgspec
import requests
from docker import errors
from docker.context import ContextAPI
from docker.utils import kwargs_from_env

from collector.health import STATUS_FILE, Status
from launcher.engines import Condition, EngineError, Observed
from launcher.plan import LAUNCHER
from launcher.spec import (
    CAP_DROP,
    INIT,
    LABEL_COLLECTOR,
    LABEL_FLEET,
    LABEL_HASH,
    LABEL_MANAGER,
    LOG_DRIVER,
    LOG_OPTIONS,
    READ_ONLY,
    SECURITY_OPT,
    TMPFS,
    CollectorSpec,
    Container,
    FleetSpec,
    HealthCheck,
    Mount,
)

#: Seconds to wait for an answer of the engine; stopping a container may take its grace period more.
_TIMEOUT = 60
_SPOOL = "/spool"
_READS = 3


class DockerEngine:
    """One engine. Every method is a step that either happened or raised EngineError; all are thread-safe."""

    def __init__(self, api: Any) -> None:
        self._api = api

    @classmethod
    def connect(cls, connections: int) -> "DockerEngine":
        """The engine that the docker command would talk to: DOCKER_HOST, else the current context."""
        where = kwargs_from_env()
        if "base_url" not in where and (context := ContextAPI.get_current_context()) and context.Host:
            where["base_url"] = context.Host
        try:
            return cls(docker.APIClient(version="auto", timeout=_TIMEOUT, max_pool_size=connections, **where))
        except (errors.DockerException, requests.RequestException) as error:
            address = where.get("base_url") or "unix:///var/run/docker.sock"
            raise EngineError(_unreachable(address, str(error))) from error

    def observe(self, fleet: str) -> list[Observed]:
        """All containers of the fleet, running or not, by one request."""
        with _explained(f"fleet {fleet} cannot be listed"):
            listed = self._api.containers(all=True, filters={"label": f"{LABEL_FLEET}={fleet}"})
        return [_observed(each) for each in listed]

    def require_images(self, images: Iterable[str]) -> None:
        """Raises EngineError when one of the images is not on the engine."""
        missing = [image for image in sorted(set(images)) if not self._has_image(image)]
        if missing:
            ways = " or ".join(f"`docker build . -t {image}`, `docker pull {image}`" for image in missing)
            raise EngineError(f"no image {', '.join(missing)} on the engine; build or pull it: {ways}")

    def _has_image(self, image: str) -> bool:
        with _explained(f"image {image}"):
            try:
                self._api.inspect_image(image)
            except errors.ImageNotFound:
                return False
        return True

    def make_network(self, fleet: FleetSpec) -> None:
        """The network is there afterwards: made, or joined when it is external."""
        name = fleet.network.name
        with _explained(f"network {name}"):
            network = next((each for each in self._api.networks(names=[name]) if each["Name"] == name), None)
            if network is None and not fleet.network.external:
                self._api.create_network(name, driver="bridge", labels=_labels(fleet), check_duplicate=True)
        if network is None and fleet.network.external:
            raise EngineError(
                f"network {name} does not exist; the file says that it is external, so make it first"
                f" (`docker network create {name}`)"
            )
        if network and not fleet.network.external and _label(network, LABEL_FLEET) != fleet.name:
            raise EngineError(
                f"network {name} is there already and not of fleet {fleet.name};"
                " to join it, say in the file that it is external"
            )

    def create(self, fleet: FleetSpec, spec: CollectorSpec, name: str | None = None) -> str:
        """Creates the container, by default under its own name, and does not start it; its id."""
        container = spec.container
        with _explained(f"{container.name} cannot be created"):
            created = self._api.create_container_from_config(
                container_config(fleet, spec), name or container.name
            )
        return str(created["Id"])

    def replace(self, fleet: FleetSpec, spec: CollectorSpec, old: Observed) -> str:
        """Puts a new container, not started yet, into the place of the old one; its id.

        The new one is created first, so that whatever the engine refuses in it leaves the old one running.
        """
        successor = self.create(fleet, spec, name=f"{spec.container.name}.next")
        try:
            self.remove(old.id)
            with _explained(f"{spec.container.name} cannot be named"):
                self._api.rename(successor, spec.container.name)
        except EngineError:
            with contextlib.suppress(EngineError):
                self.remove(successor)
            raise
        return successor

    def start(self, container: str) -> None:
        """Starts a container that is not running; one that is paused goes on."""
        with _explained("the container cannot be started"):
            if self._api.inspect_container(container)["State"]["Paused"]:
                self._api.unpause(container)
            else:
                self._api.start(container)

    def restart(self, container: str) -> None:
        """Stops a container within its grace period, and starts it."""
        with _explained("the container cannot be restarted"):
            self._api.restart(container, timeout=self._grace(container))

    def remove(self, container: str) -> None:
        """Stops a container within its grace period and removes it; one that is gone is fine."""
        with _explained("the container cannot be removed"), contextlib.suppress(errors.NotFound):
            self._api.stop(container, timeout=self._grace(container))
            self._api.remove_container(container, v=True)  # named volumes stay

    def _grace(self, container: str) -> int:
        return self._api.inspect_container(container)["Config"].get("StopTimeout") or 10

    def condition(self, container: str) -> Condition:
        """How the container is, by one request."""
        with _explained("the container cannot be inspected"):
            found = self._api.inspect_container(container)
        state = found["State"]
        return Condition(
            state=state["Status"],
            health=state.get("Health", {}).get("Status"),
            exit_code=state["ExitCode"],
            error=state["Error"],
            restarts=found["RestartCount"],
            started=_seconds(state["StartedAt"]),
        )

    def status(self, container: str, collector: str) -> Status | None:
        """What the collector (its NAME) last said of itself; None where it has said nothing readable."""
        for _ in range(_READS):  # an archive that is cut short met the file as it was replaced
            with contextlib.suppress(tarfile.ReadError):
                return self._read_status(container, f"{_SPOOL}/{collector}/{STATUS_FILE}")
        return None

    def _read_status(self, container: str, path: str) -> Status | None:
        with _explained("the collector's status cannot be read"):
            try:
                chunks, _ = self._api.get_archive(container, path)
                archive = io.BytesIO(b"".join(chunks))
            except errors.NotFound:
                return None
        with tarfile.open(fileobj=archive) as tar, contextlib.suppress(msgspec.DecodeError):
            if member := tar.extractfile(STATUS_FILE):
                return msgspec.json.decode(member.read(), type=Status)
        return None

    def log(self, container: str, tail: int | None) -> list[tuple[str, str]]:
        """The last ``tail`` lines (None: all) as (time, line); times are ISO 8601 and sort as text."""
        with _explained("the log cannot be read"):
            text = self._api.logs(container, timestamps=True, tail="all" if tail is None else tail)
        return [_stamped(line) for line in text.decode(errors="replace").splitlines()]

    def follow(self, container: str, tail: int | None, since: float | None) -> Iterator[tuple[str, str]]:
        """Lines as in ``log``, then new ones as they come, until the container stops."""
        with _explained("the log cannot be read"):
            stream = self._api.logs(
                container,
                timestamps=True,
                tail="all" if tail is None else tail,
                since=since,
                stream=True,
                follow=True,
            )
            rest = b""
            for chunk in stream:
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (_stamped(line.decode(errors="replace")) for line in lines)

    def remove_network(self, fleet: str) -> str | None:
        """Removes the network that `up` made for the fleet; its name, None where there is none."""
        with _explained(f"the network of fleet {fleet} cannot be removed"):
            for network in self._api.networks(filters=_made_for(fleet)):
                self._api.remove_network(network["Id"])
                return str(network["Name"])
        return None

    def volumes(self, fleet: str) -> list[str]:
        """The names of the volumes that `up` made for the fleet."""
        with _explained(f"the volumes of fleet {fleet} cannot be listed"):
            found = self._api.volumes(filters=_made_for(fleet))["Volumes"] or []
        return sorted(volume["Name"] for volume in found)

    def remove_volume(self, name: str) -> None:
        """Removes a volume, and what is in it."""
        with _explained(f"volume {name} cannot be removed"):
            self._api.remove_volume(name)


def container_config(fleet: FleetSpec, spec: CollectorSpec) -> dict[str, Any]:
    """The body of Docker's request for a new container. A volume that is not there yet is made with it."""
    container = spec.container
    config: dict[str, Any] = {
        "Image": container.image,
        "Env": [f"{name}={value}" for name, value in container.environment.items()],
        "Labels": {**_labels(fleet), LABEL_COLLECTOR: spec.name, LABEL_HASH: spec.config_hash},
        "StopTimeout": container.stop_grace,
        "HostConfig": _host_config(fleet, container),
        "NetworkingConfig": {"EndpointsConfig": {container.network: {"Aliases": list(container.aliases)}}},
    }
    if container.entrypoint:
        config["Entrypoint"] = list(container.entrypoint)
    if container.command:
        config["Cmd"] = list(container.command)
    if container.health:
        config["Healthcheck"] = _health_check(container.health)
    return config


def _host_config(fleet: FleetSpec, container: Container) -> dict[str, Any]:
    restart, _, most = container.restart.partition(":")
    return {
        "NetworkMode": container.network,
        "RestartPolicy": {"Name": restart, "MaximumRetryCount": int(most or 0)},
        "Init": INIT,
        "ReadonlyRootfs": READ_ONLY,
        "CapDrop": list(CAP_DROP),
        "SecurityOpt": list(SECURITY_OPT),
        "Tmpfs": TMPFS,
        "LogConfig": {"Type": LOG_DRIVER, "Config": LOG_OPTIONS},
        "Memory": container.memory or 0,
        "MemorySwap": container.memory or 0,  # the same: no swap on top
        "NanoCpus": round((container.cpus or 0) * 1e9),
        "PidsLimit": container.pids,
        "Mounts": [_mount(fleet, mount) for mount in container.mounts],
    }


def _mount(fleet: FleetSpec, mount: Mount) -> dict[str, Any]:
    return {
        "Type": mount.kind,
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        **({"VolumeOptions": {"Labels": _labels(fleet)}} if mount.kind == "volume" else {}),
    }


def _health_check(health: HealthCheck) -> dict[str, Any]:
    return {
        "Test": ["CMD", *health.command],
        "Interval": _nanoseconds(health.interval),
        "Timeout": _nanoseconds(health.timeout),
        "StartPeriod": _nanoseconds(health.start_period),
        "Retries": health.retries,
    }


def _labels(fleet: FleetSpec) -> dict[str, str]:
    return {LABEL_FLEET: fleet.name, LABEL_MANAGER: LAUNCHER}


def _made_for(fleet: str) -> dict[str, list[str]]:
    return {"label": [f"{LABEL_FLEET}={fleet}", f"{LABEL_MANAGER}={LAUNCHER}"]}


def _label(thing: dict[str, Any], label: str) -> str:
    return str((thing["Labels"] or {}).get(label, ""))


def _observed(listed: dict[str, Any]) -> Observed:
    health = re.search(r"\((?:health: )?(healthy|unhealthy|starting)\)", listed["Status"])
    return Observed(
        id=listed["Id"],
        name=listed["Names"][0].removeprefix("/"),
        fleet=_label(listed, LABEL_FLEET),
        collector=_label(listed, LABEL_COLLECTOR),
        config_hash=_label(listed, LABEL_HASH),
        manager=_label(listed, LABEL_MANAGER),
        image=listed["Image"],
        state=listed["State"],
        health=health[1] if health else None,
        created=listed["Created"],
    )


def _stamped(line: str) -> tuple[str, str]:
    time, _, text = line.rstrip("\r").partition(" ")
    return time, text


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


@contextlib.contextmanager
def _explained(fault: str) -> Iterator[None]:
    """Turns what the SDK raises into an EngineError that begins with ``fault``."""
    try:
        yield
    except errors.APIError as error:
        raise EngineError(f"{fault}: {_reason(error)}") from error
    except (errors.DockerException, requests.RequestException) as error:
        raise EngineError(f"{fault}: the Docker engine does not answer: {error}") from error


def _reason(error: errors.APIError) -> str:
    text = str(error.explanation or error).strip()
    if taken := re.search(r'The container name "/?([^"]+)" is already in use by container "?(\w{12})', text):
        return (
            f"the name {taken[1]} is taken by container {taken[2]}, which is not of this fleet;"
            f" rename or remove that one (`docker rm -f {taken[1]}`), or name the collector otherwise"
        )
    if "port is already allocated" in text:
        return f"a port is taken by another program: {text}"
    if "bind source path does not exist" in text:
        return f"a file or folder to mount is not on the engine's host: {text.rpartition(': ')[2]}"
    return text


def _unreachable(address: str, reason: str) -> str:
    if "Permission denied" in reason or "PermissionError" in reason:
        user = os.environ.get("USER", "you")
        return (
            f"no permission to use the Docker engine at {address}; join its group"
            f" (`sudo usermod -aG docker {user}`, then log in anew), or use `launcher run`, which needs none"
        )
    return f"no Docker engine is reachable at {address}; start it, or use `launcher run`, which needs none"
