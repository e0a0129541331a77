"""For ``kubectl apply --kustomize``: a StatefulSet for each collector, and what protects them."""

import base64
import math
from collections.abc import Iterable, Mapping

import msgspec

from collector.settings import BACKENDS, VARIABLES
from collector.store_url import StoreUrl
from collector.urls import ProxyUrl
from launcher.render.contents import Contents
from launcher.render.errors import live_only, refuse, unmanaged_only
from launcher.render.templates import fill
from launcher.secrets import Parted, digest, part
from launcher.spec import CollectorSpec, FleetSpec

#: A pod's label holds the StatefulSet's name and a hash of eleven characters.
_NAME_LENGTH = 52
#: Where exchanges listen for websockets and HTTPS.
_EXCHANGE_PORTS = (443, 8443, 9443)
#: Where a collector's secrets are mounted.
_SECRETS_FOLDER = "/etc/cryptostore"
_MIB = 2**20
_SPOOL_MAX_BYTES = next(variable for variable in VARIABLES if variable.name == "SPOOL_MAX_BYTES")


class _Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A volume of a collector; ``size`` is a quantity such as 3072Mi."""

    name: str
    target: str
    size: str


class _Workload(msgspec.Struct, frozen=True, kw_only=True):
    """A collector as a StatefulSet. ``ports`` are those that it may connect to."""

    collector: CollectorSpec
    environment: Mapping[str, str]
    claims: tuple[_Claim, ...]
    secrets: Mapping[str, str]  # in base64, by name
    digest: str | None
    limits: Mapping[str, str]
    ports: tuple[int, ...]


def files(fleet: FleetSpec) -> Contents:
    """``kustomization.yaml``, ``fleet.yaml`` and, where there are any, ``secrets.yaml``.

    Raises RenderError for what has no meaning in a cluster, OSError where a secret's file cannot be read.
    """
    refuse(_unfit(fleet))
    workloads = [_workload(fleet, part(collector)) for collector in fleet.collectors]
    values = {"fleet": fleet, "workloads": workloads, "folder": _SECRETS_FOLDER}
    names = ["fleet.yaml", *(["secrets.yaml"] if any(each.secrets for each in workloads) else [])]
    return {
        "kustomization.yaml": fill("kubernetes/kustomization.yaml", names=names, **values),
        **{name: fill(f"kubernetes/{name}", **values) for name in names},
    }


def _unfit(fleet: FleetSpec) -> Iterable[str]:
    yield from live_only(fleet, "Kubernetes")
    yield from unmanaged_only(fleet, "Kubernetes")
    for collector in fleet.collectors:
        container = collector.container
        if len(container.name) > _NAME_LENGTH:
            yield (
                f"{collector.name}: the name {container.name} is too long, a StatefulSet's has at most "
                f"{_NAME_LENGTH} characters"
            )
        if container.restart not in ("always", "unless-stopped"):
            yield (
                f"{collector.name}: restart {container.restart}: a StatefulSet always restarts its pods; "
                "leave `restart` out"
            )
        for mount in container.mounts:
            if mount.kind == "bind" and not mount.read_only:
                yield (
                    f"{collector.name}: path {mount.source}: a folder of one machine is none of a cluster; "
                    "leave `path` out, and each collector claims a volume"
                )


def _workload(fleet: FleetSpec, parted: Parted) -> _Workload:
    collector, secrets = parted.collector, parted.secrets
    container = collector.container
    limits = {
        "memory": str(container.memory) if container.memory else None,
        "cpu": f"{math.ceil(container.cpus * 1000)}m" if container.cpus else None,
    }
    return _Workload(
        collector=collector,
        environment={
            **parted.environment,
            **{secret.variable: f"{_SECRETS_FOLDER}/{secret.name}" for secret in secrets},
        },
        claims=tuple(_claims(parted)),
        secrets={secret.name: base64.b64encode(secret.content).decode() for secret in secrets},
        digest=digest(fleet.name, secrets) if secrets else None,
        limits={name: limit for name, limit in limits.items() if limit},
        ports=_ports(parted),
    )


def _claims(parted: Parted) -> Iterable[_Claim]:
    most = _SPOOL_MAX_BYTES.parse(parted.environment.get("SPOOL_MAX_BYTES") or _SPOOL_MAX_BYTES.default or "")
    for mount in parted.mounts:
        name = mount.target.removeprefix("/")
        # Half as much again for what is delivered and kept, and for SQLite's log.
        yield _Claim(
            name=name,
            target=mount.target,
            size=f"{math.ceil(most * 1.5 / _MIB)}Mi" if name == "spool" else "100Gi",
        )


def _ports(parted: Parted) -> tuple[int, ...]:
    return tuple(sorted({*_EXCHANGE_PORTS, *_proxy_ports(parted), *_store_ports(parted)}))


def _proxy_ports(parted: Parted) -> Iterable[int]:
    if proxy := parted.environment.get("HTTPS_PROXY") or _text(parted, "HTTPS_PROXY_FILE"):
        yield ProxyUrl.parse(proxy).port


def _store_ports(parted: Parted) -> Iterable[int]:
    usual = BACKENDS[parted.environment["BACKEND"]]
    if usual is None:
        return
    if url := _text(parted, "URL_FILE"):
        yield from (port or usual for _, port in StoreUrl.parse(url).hosts)
    else:
        yield int(parted.environment.get("PORT", usual))


def _text(parted: Parted, variable: str) -> str | None:
    """What the secret holds that a variable names the file of."""
    contents = (secret.content for secret in parted.secrets if secret.variable == variable)
    return next((content.decode().strip() for content in contents), None)
