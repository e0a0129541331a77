"""A collector's container in Docker's terms: the request that creates it, and how another differs."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from collector.printable import printable
from collector.settings import VARIABLES
from collector.urls import masked
from launcher import names
from launcher.engines import Change
from launcher.names import (
    LABEL_COLLECTOR,
    LABEL_FLEET,
    LABEL_HASH,
    LABEL_MANAGER,
    LABEL_OWNER,
    LABEL_SECRETS,
    LABEL_STORE,
    LAUNCHER,
)
from launcher.owner import Owner, keyed_fingerprint
from launcher.ownership import seal_of, seal_of_container
from launcher.secrets import Secret, part
from launcher.spec import (
    CAP_DROP,
    INIT,
    LOG_DRIVER,
    LOG_OPTIONS,
    READ_ONLY,
    SECURITY_OPT,
    CollectorSpec,
    Container,
    HealthCheck,
    Mount,
    tmpfs,
)

#: The folder of a container's secrets, each a file.
SECRETS = "/run/secrets"
#: What Docker can change in an existing container.
_IN_PLACE = frozenset({"memory", "cpus", "pids", "restart"})
_UNLIMITED = "unlimited"
_HIDDEN = frozenset(variable.name for variable in VARIABLES if variable.secret)


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A collector as Docker gets it, with its secrets in a separate volume, whose labels are seals.

    The volume's name changes with the secrets: a container that keeps running, or comes back, has its old
    ones.
    """

    spec: CollectorSpec
    container: Container
    secrets: tuple[Secret, ...]
    seals: str

    @property
    def volume(self) -> str | None:
        """The name of the volume for its secrets."""
        return next((each.source for each in self.container.mounts if each.target == SECRETS), None)


def sealed(spec: CollectorSpec, key: bytes) -> Sealed:
    """Take the secrets out of the container. Raises OSError if a secret's file cannot be read."""
    bare = apart(spec)
    if spec.server:  # a managed store's secrets never change, and stay as long as its data
        return _with_volume(bare, spec.password_volume, seals="")
    if not bare.secrets:
        return bare
    seals = ",".join(f"{each.name}={keyed_fingerprint(key, each.content)}" for each in bare.secrets)
    role = names.secrets_role(keyed_fingerprint(key, seals.encode()))
    volume = names.Volume(fleet=spec.fleet, of=spec.name, role=role)
    return _with_volume(bare, volume.name(distinct=bool(spec.owner.id)), seals)


def apart(spec: CollectorSpec) -> Sealed:
    """Return the same for an engine that has its own place for secrets."""
    parted = part(spec)
    container = msgspec.structs.replace(spec.container, environment=parted.environment, mounts=parted.mounts)
    return Sealed(spec=spec, container=container, secrets=parted.secrets, seals="")


def _with_volume(bare: Sealed, volume: str, seals: str) -> Sealed:
    mounts = (*bare.container.mounts, Mount(kind="volume", source=volume, target=SECRETS, read_only=True))
    container = msgspec.structs.replace(bare.container, mounts=mounts)
    return msgspec.structs.replace(bare, container=container, seals=seals)


def labels(fleet: str) -> dict[str, str]:
    """Return the labels by which everything that ``up`` makes for a fleet is found."""
    return {LABEL_FLEET: fleet, LABEL_MANAGER: LAUNCHER}


def network_labels(fleet: str, owner: Owner, network: str) -> dict[str, str]:
    """Return the labels of a network that `up` makes."""
    return labels(fleet) | owner.labels(*seal_of("network", fleet, network))


def volume_labels(spec: CollectorSpec, volume: str) -> dict[str, str]:
    """Return the labels of a volume that is created with a container."""
    role = names.parse(spec.fleet, volume)
    of = {LABEL_COLLECTOR: role.of} if role and role.of else {}
    return labels(spec.fleet) | of | spec.owner.labels(*seal_of("volume", spec.fleet, volume))


def container_labels(spec: CollectorSpec) -> dict[str, str]:
    """Return the labels of a collector's container or service."""
    told = {LABEL_COLLECTOR: spec.name, LABEL_HASH: spec.config_hash}
    sealed = spec.owner.labels(*seal_of_container(spec.fleet, spec.container.name))
    return labels(spec.fleet) | told | sealed


def request(sealed: Sealed) -> dict[str, Any]:
    """Return the body of the request for a new container, which also creates missing volumes."""
    spec, container = sealed.spec, sealed.container
    told = {LABEL_SECRETS: sealed.seals} if sealed.seals else {}
    told |= {LABEL_STORE: spec.server} if spec.server else {}
    body: dict[str, Any] = {
        "Image": container.image,
        "Env": [f"{name}={value}" for name, value in {**container.environment, **spec.counted}.items()],
        "Labels": container_labels(spec) | told,
        "StopTimeout": container.stop_grace,
        "HostConfig": _host_config(spec, container),
        "NetworkingConfig": {"EndpointsConfig": {container.network: {"Aliases": list(container.aliases)}}},
    }
    if container.entrypoint:
        body["Entrypoint"] = list(container.entrypoint)
    if container.command:
        body["Cmd"] = list(container.command)
    if container.health:
        body["Healthcheck"] = _health_check(container.health)
    return body


def filler_request(sealed: Sealed, volume: str) -> dict[str, Any]:
    """Return the body of the request for a container to which the volume of the secrets is writable.

    Its labels are those of the collector's container, so that it is found if it is left behind.
    """
    spec = sealed.spec
    told = {LABEL_STORE: spec.server} if spec.server else {}
    mounts = [mount(spec, Mount(kind="volume", source=volume, target=SECRETS))]
    return {
        "Image": sealed.container.image,
        "Labels": container_labels(spec) | told,
        "HostConfig": {"Mounts": mounts},
    }


def update_request(container: Container) -> dict[str, Any]:
    """Return the body of the request that changes what can be changed in place."""
    limits = _limits(container)
    return {name: value for name, value in limits.items() if value} | {
        "RestartPolicy": _restart(container.restart)
    }


def changes(
    sealed: Sealed, wanted: Mapping[str, Any], found: Mapping[str, Any], made_from: Mapping[str, Any]
) -> tuple[Change, ...]:
    """Return how a container differs from what it should be.

    Args:
        sealed: what it should be.
        wanted: the image that it should be made from, as inspected; empty if there is none.
        found: the container as inspected.
        made_from: the image that it was made from, as inspected; empty if that is gone.
    """
    body = request(sealed)
    network = sealed.container.network
    new = _facts(body, body["HostConfig"], wanted, body["NetworkingConfig"]["EndpointsConfig"])
    old = _facts(found["Config"], found["HostConfig"], made_from, found["NetworkSettings"]["Networks"])
    new["network"] = network
    aliases = new.pop("aliases", None)
    if aliases and set(aliases.split(",")) <= set((old.pop("aliases", None) or "").split(",")):
        aliases = None  # the engine adds its own
    if aliases:
        new["aliases"] = aliases
    else:
        old.pop("aliases", None)
    compared = filter(sealed.spec.compares, dict.fromkeys([*new, *old]))
    differing = [key for key in compared if old.get(key) != new.get(key)]
    told = (change(key, old.get(key), new.get(key)) for key in differing)
    marked = found["Config"]["Labels"] or {}
    seals = marked.get(LABEL_SECRETS, "")
    return (*told, *_secret_changes(seals, sealed.seals), *owner_changes(sealed.spec, marked))


def owner_changes(spec: CollectorSpec, found: Mapping[str, str]) -> Iterable[Change]:
    """Yield the change of a container whose labels name another owner, or nothing."""
    owner, old = spec.owner, found.get(LABEL_OWNER, "")
    if old != owner.mark:
        yield Change(key="owner", old=owner.told(old) or None, new=owner.told(owner.mark) or None)


def change(key: str, old: str | None, new: str | None) -> Change:
    """Return a key that differs, with a secret's values hidden."""
    if key in _HIDDEN:
        old, new = (None if value is None else "***" for value in (old, new))
    else:  # a proxy's password in a container that somebody else made
        old, new = (value and printable(masked(value)) for value in (old, new))
    return Change(key=key, old=old, new=new, in_place=key in _IN_PLACE and new != _UNLIMITED)


def _secret_changes(old: str, new: str) -> Iterable[Change]:
    before, after = (
        dict(each.partition("=")[::2] for each in filter(None, seals.split(","))) for seals in (old, new)
    )
    for name in dict.fromkeys([*after, *before]):
        if before.get(name) != after.get(name):
            hidden = ("***" if name in seals else None for seals in (before, after))
            yield Change(key=f"secret {name}", old=next(hidden), new=next(hidden))


def _facts(
    config: Mapping[str, Any], host: Mapping[str, Any], image: Mapping[str, Any], networks: Mapping[str, Any]
) -> dict[str, str | None]:
    """Return what a container is, in words by key, without what it has from its image."""
    own = image.get("Config") or {}
    given = variables(own)
    network = host["NetworkMode"]
    return {
        "image": f"{config['Image']} ({_short(image)})",
        **{name: value for name, value in variables(config).items() if given.get(name) != value},
        "entrypoint": _told(config, own, "Entrypoint", _command),
        "command": _told(config, own, "Cmd", _command),
        "user": _told(config, own, "User", str),
        "health check": _told(config, own, "Healthcheck", text),
        "stop grace": f"{config['StopTimeout']} s" if config.get("StopTimeout") else None,
        "memory": f"{host['Memory'] / 2**20:g} MiB" if host["Memory"] else _UNLIMITED,
        "cpus": f"{host['NanoCpus'] / 1e9:g}" if host["NanoCpus"] else _UNLIMITED,
        "pids": str(host["PidsLimit"] or _UNLIMITED),
        "restart": _policy(host["RestartPolicy"]),
        "network": network if network in networks else "none",
        "aliases": ",".join((networks.get(network) or {}).get("Aliases") or []) or None,
        **{
            f"mount {each['Target']}": mounted(each)
            for each in host.get("Mounts") or []
            if each["Target"] != SECRETS
        },
        "capabilities dropped": text(host.get("CapDrop")),
        "capabilities added": text(host.get("CapAdd")),
        "privileged": "yes" if host.get("Privileged") else None,
        "security options": text(host.get("SecurityOpt")),
        "read-only root": str(host.get("ReadonlyRootfs")),
        "init": str(host.get("Init")),
        "tmpfs": text(host.get("Tmpfs")),
        "logging": text(host.get("LogConfig")),
    }


def variables(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment in ``config``."""
    pairs = (line.partition("=") for line in config.get("Env") or [])
    return {name: value for name, _, value in pairs}


def _told(config: Mapping[str, Any], image: Mapping[str, Any], key: str, told: Any) -> str | None:
    value = config.get(key) or image.get(key)
    return None if not value or value == image.get(key) else told(value)


def _command(words: Sequence[str]) -> str:
    return shlex.join(words)


def text(value: Any) -> str | None:
    """Return Docker's description of something on one line; None if it is empty."""
    return msgspec.json.encode(value, order="sorted").decode() if value else None


def _policy(policy: Mapping[str, Any]) -> str:
    most = policy.get("MaximumRetryCount")
    return f"{policy['Name'] or 'no'}{f':{most}' if most else ''}"


def mounted(made: Mapping[str, Any]) -> str:
    """Return a mount in words."""
    return f"{made['Type']} {made['Source']}{' (read only)' if made.get('ReadOnly') else ''}"


def moved(image: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Change:
    """Return the text for an image's name that now means another image."""
    return Change(key="image", old=f"{image} ({_short(before)})", new=f"{image} ({_short(now)})")


def _short(image: Mapping[str, Any]) -> str:
    return str(image["Id"]).removeprefix("sha256:")[:12] if image else "not on the engine"


def _host_config(spec: CollectorSpec, container: Container) -> dict[str, Any]:
    return {
        "NetworkMode": container.network,
        "RestartPolicy": _restart(container.restart),
        "Init": INIT,
        "ReadonlyRootfs": READ_ONLY,
        "CapDrop": list(CAP_DROP),
        **({"CapAdd": list(container.cap_add)} if container.cap_add else {}),
        "SecurityOpt": list(SECURITY_OPT),
        "Tmpfs": tmpfs(container),
        "LogConfig": {"Type": LOG_DRIVER, "Config": LOG_OPTIONS},
        **_limits(container),
        "Mounts": [mount(spec, each) for each in container.mounts],
    }


def _limits(container: Container) -> dict[str, int]:
    return {
        "Memory": container.memory or 0,
        "MemorySwap": container.memory or 0,  # the same: no swap on top
        "NanoCpus": round((container.cpus or 0) * 1e9),
        "PidsLimit": container.pids,
    }


def _restart(policy: str) -> dict[str, Any]:
    name, _, most = policy.partition(":")
    return {"Name": name, "MaximumRetryCount": int(most or 0)}


def mount(spec: CollectorSpec, wanted: Mount) -> dict[str, Any]:
    """Return a mount for a request; a volume that it creates gets the fleet's labels."""
    told = volume_labels(spec, wanted.source) if wanted.kind == "volume" else None
    return {
        "Type": wanted.kind,
        "Source": wanted.source,
        "Target": wanted.target,
        "ReadOnly": wanted.read_only,
        **({} if told is None else {"VolumeOptions": {"Labels": told}}),
    }


def _health_check(health: HealthCheck) -> dict[str, Any]:
    return {
        "Test": ["CMD", *health.command],
        "Interval": nanoseconds(health.interval),
        "Timeout": nanoseconds(health.timeout),
        "StartPeriod": nanoseconds(health.start_period),
        "Retries": health.retries,
    }


def nanoseconds(seconds: float) -> int:
    """Return seconds as Docker takes them."""
    return round(seconds * 1e9)
