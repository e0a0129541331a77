"""The templates, and how a text is quoted for each reader."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launcher import names
from launcher import spec as house
from launcher.ownership import seal_of, seal_of_container
from launcher.spec import CollectorSpec, FleetSpec, Mount

if TYPE_CHECKING:
    import jinja2

#: Next to the package in the source tree, inside it when installed.
_PACKAGE = Path(__file__).parents[1]
_TEMPLATES = (_PACKAGE / "templates", _PACKAGE.parent / "templates")
_PLAIN = re.compile(r"[A-Za-z0-9 _.,:;/@+=~()-]*")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "$": "$$", "\n": "\\n"}
_SYSTEMD = str.maketrans({'"': '\\"', "\\": "\\\\", "$": "$$", "%": "%%"})


def fill(template: str, **values: Any) -> str:
    """Return the text of a template with ``values`` and, as ``house``, launcher.spec."""
    return _environment().get_template(template).render(house=house, **values)


def volumes(fleet: FleetSpec) -> list[str]:
    """Return the named volumes of the fleet's containers, each once."""
    specs = [*fleet.stores, *fleet.collectors, *([fleet.simulator] if fleet.simulator else [])]
    mounts = (mount for collector in specs for mount in collector.container.mounts)
    return list(dict.fromkeys(mount.source for mount in mounts if mount.kind == "volume"))


@cache
def _environment() -> "jinja2.Environment":
    import jinja2  # noqa: PLC0415 - slow to import; only rendering needs it

    environment = jinja2.Environment(  # noqa: S701 - no HTML here
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "identity": _identity,
        "labels": _labels,
        "volume_labels": _volume_labels,
        "mount_option": _mount_option,
        "quoted": _quoted,
        "shell": shlex.quote,
        "systemd": _systemd,
        "volumes": volumes,
    }
    return environment


def _quoted(text: str) -> str:
    """Return a YAML string in double quotes, in ASCII, with ``$$`` for ``$``.

    Compose, ``docker stack`` and Kubernetes each expand ``$`` differently, and all read ``$$`` as ``$``.
    """
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


def _systemd(text: str) -> str:
    """Return a word of a command line in a unit file, where ``%`` and ``$`` are special to systemd."""
    return f'"{text.translate(_SYSTEMD)}"'


def _mount_option(mount: Mount) -> str:
    """Return the value of ``docker run --mount``: separated by commas, quoted as in a CSV file."""
    fields = [f"type={mount.kind}", f"source={mount.source}", f"target={mount.target}"]
    fields += ["readonly"] if mount.read_only else []
    quoted = (f'"{field.replace('"', '""')}"' if re.search('[,"]', field) else field for field in fields)
    return ",".join(quoted)


def _labels(collector: CollectorSpec) -> dict[str, str]:
    """Return the labels of a container that compose makes."""
    store = {names.LABEL_STORE: collector.server} if collector.server else {}
    made = {names.LABEL_HASH: collector.config_hash, names.LABEL_MANAGER: names.COMPOSE}
    return _identity(collector) | made | store


def _identity(collector: CollectorSpec) -> dict[str, str]:
    """Return the labels that say what something is, and whose.

    Only an ``id`` says whose: anything else differs between checkouts and people, and another label makes
    another container.
    """
    what = {names.LABEL_FLEET: collector.fleet, names.LABEL_COLLECTOR: collector.name}
    seal = seal_of_container(collector.fleet, collector.container.name)
    return what | (collector.owner.proof(*seal) if collector.owner.id else {})


def _volume_labels(fleet: FleetSpec, volume: str) -> dict[str, str]:
    """Return a volume's labels; none without an ``id``, since new labels make compose recreate volumes."""
    if not fleet.owner.id:
        return {}
    role = names.parse(fleet.name, volume)
    of = {names.LABEL_COLLECTOR: role.of} if role and role.of else {}
    what = {names.LABEL_FLEET: fleet.name, names.LABEL_MANAGER: names.COMPOSE}
    return what | of | fleet.owner.proof(*seal_of("volume", fleet.name, volume))
