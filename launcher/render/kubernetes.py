"""For ``kubectl apply --kustomize``: a StatefulSet for each collector, and what protects them."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
import yaml

from collector.endpoints import Endpoint
from collector.settings import BACKENDS, VARIABLES
from collector.shards import Shard
from collector.store_url import StoreUrl
from collector.urls import ProxyUrl, Url, host_and_port
from launcher import names
from launcher.render.contents import Contents
from launcher.render.errors import live_only, refuse, unmanaged_only
from launcher.render.templates import fill
from launcher.secrets import Parted, digest, part
from launcher.spec import SECRET_FILES, CollectorSpec, FleetSpec
from launcher.yaml_source import LOADER

#: A file that a fleet without secrets does not have; an earlier rendering may have left it.
SECRETS_FILE = "secrets.yaml"
_MANIFESTS = "fleet.yaml"
#: Label of a StatefulSet: the number of its wave in a rollout, from 0 on.
_WAVE = "cryptostore/wave"
#: A pod's label contains the StatefulSet's name and a hash of eleven characters.
_NAME_LENGTH = 52
#: The ports of exchanges for websockets and HTTPS.
_EXCHANGE_PORTS = (443, 8443, 9443)
#: The port of Sentinels.
_SENTINEL_PORT = 26379
#: Where a collector's secrets are mounted.
_SECRETS_FOLDER = "/etc/cryptostore"
#: Seconds that a pod has to stay ready before the next one of its StatefulSet is replaced.
_SETTLED_AFTER = 10
_MIB = 2**20
#: The share of a spool's claim for delivered records that are kept, and for SQLite's log.
_SPARE = 1.5
_SPOOL_MAX_BYTES = next(variable for variable in VARIABLES if variable.name == "SPOOL_MAX_BYTES")
#: The variables that an existing Secret replaces, by the Secret's key.
_REPLACED = {
    "url": ("URL", "HOST", "PORT"),
    "user": ("USER",),
    "https_proxy": ("HTTPS_PROXY",),
}


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A volume of a collector; ``size`` is a quantity such as 3072Mi, ``storage_class`` may be empty."""

    name: str
    target: str
    size: str
    storage_class: str


class _Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A collector, with all its shards, as a StatefulSet. ``ports`` are those it may connect to.

    ``wave`` is its place in the order of a rollout. ``shards`` is how many pods share the symbols, None if
    one has them all. The keys ``secret_keys`` of the existing Secret ``secret`` are mounted, beside our own
    ``secrets``.
    """

    collector: CollectorSpec
    wave: int
    shards: int | None
    environment: Mapping[str, str]
    claims: tuple[_Claim, ...]
    secrets: Mapping[str, str]  # in base64, by name
    secret: str
    secret_keys: tuple[str, ...]
    digest: str | None
    requests: Mapping[str, str]
    limits: Mapping[str, str]
    ports: tuple[int, ...]


def files(fleet: FleetSpec) -> Contents:
    """Return ``kustomization.yaml``, ``names.yaml``, ``fleet.yaml``, ``apply.sh``, and any ``secrets.yaml``.

    Raises RenderError for what has no meaning in a cluster, OSError if a secret's file cannot be read.
    """
    groups = _groups(fleet.collectors)
    refuse(_unfit(fleet, groups))
    workloads = [_workload(group, at // fleet.parallelism) for at, group in enumerate(groups)]
    values = {
        "fleet": fleet,
        "workloads": workloads,
        "folder": _SECRETS_FOLDER,
        "settled_after": _SETTLED_AFTER,
        "wave": _WAVE,
        "waves": math.ceil(len(groups) / fleet.parallelism),
    }
    resources = [_MANIFESTS, *([SECRETS_FILE] if any(each.secrets for each in workloads) else [])]
    return {
        "kustomization.yaml": fill("kubernetes/kustomization.yaml", resources=resources, **values),
        **{name: fill(f"kubernetes/{name}", **values) for name in ("names.yaml", *resources, "apply.sh")},
    }


def left_over(folder: Path, written: Iterable[Path]) -> list[Path]:
    """Return the files of an earlier rendering in ``folder`` that no longer belong to it."""
    path = folder / SECRETS_FILE
    return [path] if path.exists() and path not in written else []


def claims_of(folder: Path) -> dict[str, dict[str, object]]:
    """Return the claims of the StatefulSets rendered into ``folder``, by name; empty if unreadable."""
    try:
        documents = list(yaml.load_all((folder / _MANIFESTS).read_text(), LOADER))
        return {
            each["metadata"]["name"]: {
                claim["metadata"]["name"]: claim["spec"] for claim in each["spec"]["volumeClaimTemplates"]
            }
            for each in documents
            if each and each["kind"] == "StatefulSet"
        }
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError):
        return {}


def changed_claims(
    before: Mapping[str, Mapping[str, object]], after: Mapping[str, Mapping[str, object]]
) -> Iterable[str]:
    """Yield, for each StatefulSet, what has to be done before its changed claims can be applied.

    A pod that lacks a claim of its new StatefulSet is never replaced automatically, so it has to be deleted
    too.
    """
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            pods_stay = before[name].keys() == after[name].keys()
            orphan, stay = (" --cascade=orphan", "pods and claims stay") if pods_stay else ("", "claims stay")
            step = f"kubectl delete statefulset {name}{orphan}"
            yield (
                f"{name}: its claims changed, and Kubernetes refuses that for an existing StatefulSet; "
                f"before you apply, run `{step}`: {stay} (docs/kubernetes.md)"
            )


class _Group(msgspec.Struct, frozen=True):
    """The containers that become one StatefulSet, under its full name; ``shares`` is empty for just one."""

    name: str
    collectors: list[CollectorSpec]
    shares: list[Shard]


def _groups(collectors: Iterable[CollectorSpec]) -> list[_Group]:
    """Return the collectors by StatefulSet: the shards of one collector are its pods."""
    groups: dict[str, _Group] = {}
    for collector in collectors:
        share = collector.container.environment.get("SHARD")
        shard = Shard.parse(share) if share else None
        name = collector.name.removesuffix(f"-{shard.number}") if shard else collector.name
        group = groups.setdefault(name, _Group(name, [], []))
        group.collectors.append(collector)
        group.shares.extend([shard] if shard else [])
    return list(groups.values())


def _unfit(fleet: FleetSpec, groups: Sequence[_Group]) -> Iterable[str]:
    yield from live_only(fleet, "Kubernetes")
    yield from unmanaged_only(fleet, "Kubernetes")
    for group in groups:
        collector = group.collectors[0]
        container = collector.container
        name = names.container(fleet.name, group.name)
        if len(name) > _NAME_LENGTH:
            yield (
                f"{group.name}: the name {name} is too long, a StatefulSet's has at most {_NAME_LENGTH} "
                "characters"
            )
        if container.restart not in ("always", "unless-stopped"):
            yield (
                f"{group.name}: restart {container.restart}: a StatefulSet always restarts its pods; "
                "leave `restart` out"
            )
        if group.shares and len(group.shares) < group.shares[0].count:
            yield (
                f"{group.name}: {len(group.shares)} of its {group.shares[0].count} shards are selected, and "
                "one StatefulSet has them all; select all or none"
            )
        for mount in container.mounts:
            if mount.kind == "bind" and not mount.read_only:
                yield (
                    f"{group.name}: path {mount.source}: a folder on one machine cannot be used in a cluster;"
                    " leave `path` out, and each collector claims a volume"
                )
        yield from _too_small(group.name, collector)


def _too_small(name: str, collector: CollectorSpec) -> Iterable[str]:
    most = _SPOOL_MAX_BYTES.parse(
        collector.container.environment.get("SPOOL_MAX_BYTES") or _SPOOL_MAX_BYTES.default or ""
    )
    needed, size = math.ceil(most * _SPARE / _MIB), collector.kubernetes.spool_size
    if needed * _MIB > size:
        yield (
            f"{name}: a claim of {_quantity(size)} for the spool is too small for `spool_max_bytes`; set "
            f"`kubernetes: {{spool_size: {needed}MiB}}` or more"
        )


def _workload(group: _Group, wave: int) -> _Workload:
    first = group.collectors[0]
    parted, kubernetes, container = part(first), first.kubernetes, first.container
    full_name = names.container(first.fleet, group.name)
    existing = kubernetes.secret_keys if kubernetes.secret else ()
    secrets = tuple(secret for secret in parted.secrets if secret.name not in existing)
    return _Workload(
        collector=msgspec.structs.replace(
            first, name=group.name, container=msgspec.structs.replace(container, name=full_name)
        ),
        wave=wave,
        shards=len(group.shares) or None,
        environment=_environment(parted, existing),
        claims=tuple(_claims(parted)),
        secrets={secret.name: base64.b64encode(secret.content).decode() for secret in secrets},
        secret=kubernetes.secret,
        secret_keys=existing,
        digest=digest(first.fleet, secrets) if secrets else None,
        requests=_resources(
            min(kubernetes.request_memory, container.memory or kubernetes.request_memory),
            min(kubernetes.request_cpus, container.cpus or kubernetes.request_cpus),
        ),
        limits=_resources(container.memory, container.cpus),
        ports=_ports(parted),
    )


def _environment(parted: Parted, existing: Sequence[str]) -> dict[str, str]:
    """Return the environment, in which secrets are files; the template sets NAME and SHARD."""
    environment = parted.told
    for key in existing:
        for variable in (*_REPLACED.get(key, ()), SECRET_FILES[key]):
            environment.pop(variable, None)
        environment[SECRET_FILES[key]] = f"{_SECRETS_FOLDER}/{key}"
    for secret in parted.secrets:
        if secret.variable in environment:
            environment[secret.variable] = f"{_SECRETS_FOLDER}/{secret.name}"
    return {name: value for name, value in environment.items() if name not in ("NAME", "SHARD")}


def _resources(memory: int | None, cpus: float | None) -> dict[str, str]:
    thousandths = math.ceil(cpus * 1000) if cpus else 0
    cpu = f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)
    asked = {"memory": _quantity(memory) if memory else None, "cpu": cpu if thousandths else None}
    return {name: quantity for name, quantity in asked.items() if quantity}


def _claims(parted: Parted) -> Iterable[_Claim]:
    kubernetes = parted.collector.kubernetes
    asked = {
        names.SPOOL: (kubernetes.spool_size, kubernetes.spool_class),
        names.DATA: (kubernetes.data_size, kubernetes.data_class),
    }
    for mount in parted.mounts:
        name = mount.target.removeprefix("/")
        size, storage_class = asked[name]
        yield _Claim(name=name, target=mount.target, size=_quantity(size), storage_class=storage_class)


def _quantity(size: int) -> str:
    """Return bytes as the API server writes them; any other form would differ at every apply."""
    for unit in ("", "Ki", "Mi", "Gi"):
        if size % 1024:
            return f"{size}{unit}"
        size //= 1024
    return f"{size}Ti"


def _ports(parted: Parted) -> tuple[int, ...]:
    further = parted.collector.kubernetes.ports
    return tuple(sorted({*_exchange_ports(parted), *_proxy_ports(parted), *_store_ports(parted), *further}))


def _exchange_ports(parted: Parted) -> Iterable[int]:
    """Yield the usual ports of exchanges, and those of addresses in ENDPOINT."""
    yield from _EXCHANGE_PORTS
    if text := parted.environment.get("ENDPOINT"):
        for address in Endpoint.parse(text).of(parted.environment["EXCHANGE"]).values():
            yield host_and_port(Url.parse(address).hosts)[1] or 443


def _proxy_ports(parted: Parted) -> Iterable[int]:
    if proxy := parted.environment.get("HTTPS_PROXY") or _text(parted, "HTTPS_PROXY_FILE"):
        yield ProxyUrl.parse(proxy).port


def _store_ports(parted: Parted) -> Iterable[int]:
    """Yield the ports of the store's servers: those named, and the default of those it may refer to.

    Sentinels, and the members of a replica set, name further servers, which are not known beforehand.
    """
    usual = BACKENDS[parted.environment["BACKEND"]]
    if usual is None:
        return
    if not (text := _text(parted, "URL_FILE")):
        yield int(parted.environment.get("PORT", usual))
        return
    url = StoreUrl.parse(text)
    sentinels = url.scheme.endswith("+sentinel")
    if sentinels or url.scheme in ("mongodb", "mongodb+srv"):
        yield usual
    for host, port in url.hosts:
        if not host.startswith("/"):
            yield port or (_SENTINEL_PORT if sentinels else usual)


def _text(parted: Parted, variable: str) -> str | None:
    """Return the content of the secret whose file a variable names."""
    contents = (secret.content for secret in parted.secrets if secret.variable == variable)
    return next((content.decode().strip() for content in contents), None)
