"""For one Docker engine: env sets for ``docker run --env-file`` and a compose file."""

from collections.abc import Iterable

from launcher.render.errors import refuse
from launcher.render.templates import fill
from launcher.spec import CollectorSpec, FleetSpec

_ENV_LINE_BYTES = 65535  # of `NAME=value`: what docker's scanner holds


def files(fleet: FleetSpec) -> dict[str, str]:
    """``compose.yaml``, and ``<collector>.env`` for each collector.

    Raises RenderError where a value does not fit an env set.
    """
    refuse(fault for collector in fleet.collectors for fault in _unfit(collector))
    return {
        "compose.yaml": compose(fleet),
        **{f"{collector.name}.env": env_set(collector) for collector in fleet.collectors},
    }


def compose(fleet: FleetSpec) -> str:
    """The compose file; its containers are those of ``launcher up`` but for their labels."""
    return fill("compose.yaml", fleet=fleet)


def env_set(collector: CollectorSpec) -> str:
    """The environment of a collector for ``docker run --env-file``, under a comment with the whole command.

    Raises RenderError for a value that such a file cannot hold: it has neither quotes nor escapes.
    """
    refuse(_unfit(collector))
    return fill("collector.env", collector=collector, container=collector.container)


def _unfit(collector: CollectorSpec) -> Iterable[str]:
    for name, value in collector.container.environment.items():
        if "\n" in value or value.endswith("\r"):
            yield f"{collector.name}: {name} has a line break, which no env file can hold"
        elif len(f"{name}={value}".encode()) > _ENV_LINE_BYTES:
            yield f"{collector.name}: {name} is too long, an env file's line holds {_ENV_LINE_BYTES} bytes"
