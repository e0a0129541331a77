"""A collector's service in Docker's terms: the request that creates it, and how another differs."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from launcher import swarm as house
from launcher.engines import Change
from launcher.engines.containers import (
    Sealed,
    change,
    container_labels,
    mount,
    mounted,
    nanoseconds,
    text,
    variables,
)
from launcher.names import LABEL_MANAGER, LAUNCHER, SERVICE_CHECK
from launcher.secrets import Secret
from launcher.spec import (
    CAP_DROP,
    INIT,
    LOG_DRIVER,
    LOG_OPTIONS,
    READ_ONLY,
    TMP_BYTES,
    USER,
    CollectorSpec,
    Container,
)

_TMP_MODE = 0o1777
_SECRET_MODE = 0o400
_UNLIMITED = "unlimited"


def secret_names(sealed: Sealed) -> dict[str, Secret]:
    """Return the collector's secrets by their names in the swarm."""
    spec = sealed.spec
    return {house.secret_name(spec.fleet, spec.container.name, each): each for each in sealed.secrets}


def request(
    sealed: Sealed, network: str, secrets: Mapping[str, str], command: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the body of the request for the service.

    Args:
        sealed: what it should be.
        network: the id of its network.
        secrets: the ids of its secrets, by their names in the swarm.
        command: replaces the image's command; it is run once, and the service is no collector's.
    """
    spec, container = sealed.spec, sealed.container
    policy = {"Order": house.ORDER, "Parallelism": 1, "Monitor": nanoseconds(house.MONITOR)}
    body = {
        "Name": container.name,
        "Labels": container_labels(spec),
        "TaskTemplate": {
            "ContainerSpec": _container(sealed, secrets),
            "Resources": {"Limits": _limits(container)},
            "RestartPolicy": _restart(container.restart),
            "Placement": {"Constraints": [house.constraint(spec.fleet)]},
            "Networks": [{"Target": network}],
            "LogDriver": {"Name": LOG_DRIVER, "Options": LOG_OPTIONS},
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": policy | {"FailureAction": house.ON_FAILURE},
        "RollbackConfig": policy,
        "EndpointSpec": {"Mode": house.ENDPOINT_MODE},
    }
    return _once(body, command) if command else body


def _once(body: dict[str, Any], command: Sequence[str]) -> dict[str, Any]:
    template = body["TaskTemplate"]
    template["ContainerSpec"] |= {"Args": [*command], "Healthcheck": {"Test": ["NONE"]}}
    template["RestartPolicy"] = {"Condition": "none"}
    return body | {"Name": f"{body['Name']}{SERVICE_CHECK}", "Labels": {LABEL_MANAGER: LAUNCHER}}


def changes(
    spec: CollectorSpec, wanted: Mapping[str, Any], found: Mapping[str, Any], networks: Mapping[str, str]
) -> tuple[Change, ...]:
    """Return how a service differs from what ``spec`` wants; ``networks`` are names by id."""
    new, old = _facts(wanted, networks), _facts(found, networks)
    compared = filter(spec.compares, dict.fromkeys([*new, *old]))
    differing = [key for key in compared if old.get(key) != new.get(key)]
    told = [
        msgspec.structs.replace(change(key, old.get(key), new.get(key)), in_place=False) for key in differing
    ]
    before, after = (_secrets(spec) for spec in (found, wanted))
    for target in dict.fromkeys([*after, *before]):
        if before.get(target) != after.get(target):
            hidden = ("***" if target in secrets else None for secrets in (before, after))
            name = target.rpartition("/")[2]
            told.append(Change(key=f"secret {name}", old=next(hidden), new=next(hidden)))
    return tuple(told)


def _facts(spec: Mapping[str, Any], networks: Mapping[str, str]) -> dict[str, str | None]:
    """Return what a service is, in words by key."""
    template, replicated = spec["TaskTemplate"], spec["Mode"].get("Replicated") or {}
    container, limits = template["ContainerSpec"], (template.get("Resources") or {}).get("Limits") or {}
    joined = [each["Target"] for each in template.get("Networks") or []]
    update = spec.get("UpdateConfig") or {}
    return {
        "image": container["Image"],
        **variables(container),
        "replicas": str(replicated.get("Replicas", 0)),
        "entrypoint": text(container.get("Command")),
        "command": text(container.get("Args")),
        "user": container.get("User") or None,
        "health check": text(container.get("Healthcheck")),
        "stop grace": f"{(container.get('StopGracePeriod') or 0) / 1e9:g} s",
        "memory": f"{limits['MemoryBytes'] / 2**20:g} MiB" if limits.get("MemoryBytes") else _UNLIMITED,
        "cpus": f"{limits['NanoCPUs'] / 1e9:g}" if limits.get("NanoCPUs") else _UNLIMITED,
        "pids": str(limits.get("Pids") or _UNLIMITED),
        "restart": _policy(template.get("RestartPolicy") or {}),
        "placement": ", ".join((template.get("Placement") or {}).get("Constraints") or []) or None,
        "network": ", ".join(networks.get(each, each) for each in joined) or "none",
        **{f"mount {each['Target']}": _mounted(each) for each in container.get("Mounts") or []},
        "capabilities dropped": text(container.get("CapabilityDrop")),
        "capabilities added": text(container.get("CapabilityAdd")),
        "read-only root": str(bool(container.get("ReadOnly"))),
        "init": str(bool(container.get("Init"))),
        "logging": text(template.get("LogDriver")),
        "update": f"{update.get('Order')}, {update.get('FailureAction')}",
    }


def _policy(policy: Mapping[str, Any]) -> str:
    most, delay = policy.get("MaxAttempts"), (policy.get("Delay") or 0) / 1e9
    return f"{policy.get('Condition')}{f':{most}' if most else ''} after {delay:g} s"


def _mounted(made: Mapping[str, Any]) -> str:
    return f"tmpfs {text(made.get('TmpfsOptions'))}" if made["Type"] == "tmpfs" else mounted(made)


def _secrets(spec: Mapping[str, Any]) -> dict[str, str]:
    secrets = spec["TaskTemplate"]["ContainerSpec"].get("Secrets") or []
    return {each["File"]["Name"]: each["SecretName"] for each in secrets}


def _container(sealed: Sealed, ids: Mapping[str, str]) -> dict[str, Any]:
    container = sealed.container
    environment = {**container.environment, **sealed.spec.counted}
    options = {"SizeBytes": TMP_BYTES, "Mode": _TMP_MODE}
    tmp = {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": options}  # noqa: S108 - inside a container
    owner = {"UID": str(USER), "GID": str(USER), "Mode": _SECRET_MODE}
    return {
        "Image": container.image,
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Init": INIT,
        "ReadOnly": READ_ONLY,
        "CapabilityDrop": list(CAP_DROP),
        "StopGracePeriod": nanoseconds(container.stop_grace),
        "Mounts": [*(mount(sealed.spec, each) for each in container.mounts), tmp],
        "Secrets": [
            {"File": {"Name": secret.target, **owner}, "SecretID": ids.get(name, ""), "SecretName": name}
            for name, secret in secret_names(sealed).items()
        ],
    }


def _limits(container: Container) -> dict[str, int]:
    return {
        "MemoryBytes": container.memory or 0,
        "NanoCPUs": round((container.cpus or 0) * 1e9),
        "Pids": container.pids,
    }


def _restart(policy: str) -> dict[str, Any]:
    condition, attempts = house.restart(policy)
    most = {"MaxAttempts": attempts} if attempts else {}
    return {"Condition": condition, "Delay": nanoseconds(house.RESTART_DELAY), **most}
