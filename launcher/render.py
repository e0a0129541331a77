"""A fleet as text, through the templates: env sets for ``docker run --env-file`` and a compose file.

The same fleet gives the same bytes. Both kinds of text hold passwords and are written for their owner alone.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from launcher import spec as house
from launcher.spec import CollectorSpec, FleetSpec, Mount

if TYPE_CHECKING:
    import jinja2

#: Beside the package in the source tree, inside it where it is installed.
_TEMPLATES = (Path(__file__).parent / "templates", Path(__file__).parent.parent / "templates")
_PLAIN = re.compile(r"[A-Za-z0-9 _.,:;/@+=~()-]*")
_ENV_LINE_BYTES = 65535  # of `NAME=value`: what docker's scanner holds
_ESCAPES = {'"': '\\"', "\\": "\\\\", "$": "$$", "\n": "\\n"}


class RenderError(Exception):
    """Something cannot be said in the form asked for; ``faults`` are sentences that name it."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def env_set(collector: CollectorSpec) -> str:
    """The environment of a collector for ``docker run --env-file``, under a comment with the whole command.

    Raises RenderError for a value that such a file cannot hold: it has neither quotes nor escapes.
    """
    if faults := list(_unfit(collector)):
        raise RenderError(faults)
    template = _templates().get_template("collector.env")
    return template.render(collector=collector, container=collector.container, house=house)


def compose(fleet: FleetSpec) -> str:
    """The compose file; its containers are those of ``launcher up`` but for their labels."""
    return _templates().get_template("compose.yaml").render(fleet=fleet, house=house)


def write(fleet: FleetSpec, folder: Path) -> list[Path]:
    """Writes ``compose.yaml`` and ``<collector>.env`` for each collector into ``folder``; returns the paths.

    Each file is replaced in one step and readable by its owner alone; other files stay as they are.
    Raises RenderError, and has written nothing, where a value does not fit an env set.
    """
    if faults := [fault for collector in fleet.collectors for fault in _unfit(collector)]:
        raise RenderError(faults)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [
        _write(folder / "compose.yaml", compose(fleet)),
        *(_write(folder / f"{each.name}.env", env_set(each)) for each in fleet.collectors),
    ]


def _unfit(collector: CollectorSpec) -> Iterable[str]:
    for name, value in collector.container.environment.items():
        if "\n" in value or value.endswith("\r"):
            yield f"{collector.name}: {name} has a line break, which no env file can hold"
        elif len(f"{name}={value}".encode()) > _ENV_LINE_BYTES:
            yield f"{collector.name}: {name} is too long, an env file's line holds {_ENV_LINE_BYTES} bytes"


def _write(path: Path, text: str) -> Path:
    # mkstemp makes the file with mode 0600.
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path


@cache
def _templates() -> "jinja2.Environment":
    import jinja2  # noqa: PLC0415 - commands that render nothing are quicker without it

    environment = jinja2.Environment(  # noqa: S701 - no HTML is made here
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "labels": _labels,
        "mount_option": _mount_option,
        "quoted": _quoted,
        "shell": shlex.quote,
        "volumes": _volumes,
    }
    return environment


def _quoted(text: str) -> str:
    """A YAML string that compose reads back as ``text``: in double quotes, ASCII alone, ``$$`` for ``$``."""
    if _PLAIN.fullmatch(text):
        return f'"{text}"'
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if " " <= character <= "~":
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _mount_option(mount: Mount) -> str:
    """What follows ``docker run --mount``: comma-separated values, quoted as in a CSV file."""
    fields = [f"type={mount.kind}", f"source={mount.source}", f"target={mount.target}"]
    fields += ["readonly"] if mount.read_only else []
    quoted = (f'"{field.replace('"', '""')}"' if re.search('[,"]', field) else field for field in fields)
    return ",".join(quoted)


def _labels(collector: CollectorSpec) -> list[tuple[str, str]]:
    return [
        (house.LABEL_FLEET, collector.fleet),
        (house.LABEL_COLLECTOR, collector.name),
        (house.LABEL_HASH, collector.config_hash),
        (house.LABEL_MANAGER, "compose"),
    ]


def _volumes(fleet: FleetSpec) -> list[str]:
    """The named volumes of the fleet's containers, each once."""
    specs = [*fleet.collectors, *([fleet.simulator] if fleet.simulator else [])]
    mounts = (mount for collector in specs for mount in collector.container.mounts)
    return list(dict.fromkeys(mount.source for mount in mounts if mount.kind == "volume"))
