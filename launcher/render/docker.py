"""For one Docker engine: env files for ``docker run --env-file``, and a compose file with its secrets.

Compose mounts a secret's file with its permissions, and the collector's user has to be able to read it. So
everybody may read the files, but only their owner may enter the folder.
"""

from collections.abc import Iterable

from launcher.plan import specs
from launcher.render.contents import SECRETS, Contents, secret_files
from launcher.render.errors import refuse
from launcher.render.templates import fill
from launcher.secrets import part
from launcher.spec import CollectorSpec, FleetSpec

_ENV_LINE_BYTES = 65535  # of `NAME=value`: the limit of docker's scanner


def files(fleet: FleetSpec) -> Contents:
    """Return ``compose.yaml``, ``secrets/<collector>.<secret>``, and ``<collector>.env`` for each collector.

    Raises RenderError if a value does not fit into an env file, OSError if a secret's file cannot be read.
    """
    refuse(fault for collector in fleet.collectors for fault in _unfit(collector))
    return {
        "compose.yaml": compose(fleet),
        **{f"{collector.name}.env": env_set(collector) for collector in fleet.collectors},
        **secret_files(map(part, [*fleet.stores, *fleet.collectors])),
    }


def compose(fleet: FleetSpec) -> str:
    """Return the compose file.

    Its containers are those of ``launcher up``, except for labels and the place of secrets. Raises OSError if
    a secret's file cannot be read.
    """
    parts = [part(each) for each in specs(fleet)]
    return fill("compose.yaml", fleet=fleet, parts=parts, folder=SECRETS)


def env_set(collector: CollectorSpec) -> str:
    """Return a collector's environment for ``docker run --env-file``, below a comment with the whole command.

    Raises RenderError for a value that such a file cannot hold, since it has neither quotes nor escapes.
    """
    refuse(_unfit(collector))
    environment = {**collector.container.environment, **collector.counted}
    return fill("collector.env", collector=collector, container=collector.container, environment=environment)


def _unfit(collector: CollectorSpec) -> Iterable[str]:
    for name, value in collector.container.environment.items():
        if "\n" in value or value.endswith("\r"):
            yield f"{collector.name}: {name} has a line break, which no env file can hold"
        elif len(f"{name}={value}".encode()) > _ENV_LINE_BYTES:
            yield f"{collector.name}: {name} is too long, an env file's line holds {_ENV_LINE_BYTES} bytes"
