"""For systemd and Podman: quadlet units, without a daemon or compose."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

import msgspec

from launcher.render.contents import Contents, secret_file, secret_files
from launcher.render.errors import live_only, refuse, unmanaged_only
from launcher.render.templates import fill, volumes
from launcher.secrets import Parted, part
from launcher.spec import FleetSpec

#: Restart policies in systemd's words; a unit that somebody stopped always stays stopped.
_RESTART = {"no": "no", "on-failure": "on-failure", "always": "always", "unless-stopped": "always"}


class _PodmanSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret of Podman, made from ``file``."""

    name: str
    file: str
    target: str


def files(fleet: FleetSpec) -> Contents:
    """Return a ``.container`` for each collector, ``.volume`` units, the ``.network``, and secrets.

    Raises RenderError for what a unit cannot hold, OSError if a secret's file cannot be read.
    """
    parts = [part(collector) for collector in fleet.collectors]
    refuse(
        [
            *live_only(fleet, "systemd"),
            *unmanaged_only(fleet, "systemd"),
            *(fault for parted in parts for fault in _unfit(parted)),
        ]
    )
    contents = {f"{parted.collector.container.name}.container": _container(fleet, parted) for parted in parts}
    if not fleet.network.external:
        contents[f"{fleet.network.name}.network"] = fill("quadlet/network", fleet=fleet)
    for volume in volumes(fleet):
        contents[f"{volume}.volume"] = fill("quadlet/volume", fleet=fleet, volume=volume)
    return {**contents, **secret_files(parts)}


def left_over(fleet: FleetSpec, folder: Path) -> list[Path]:
    """Return units in ``folder`` of collectors that the fleet no longer has; they would run if copied."""
    names = {f"{collector.container.name}.container" for collector in fleet.collectors}
    ours = f" of fleet {fleet.name}, as `launcher render` made it".encode()
    units = (path for path in folder.glob("*.container") if path.name not in names and path.is_file())
    return sorted(path for path in units if ours in path.read_bytes())


def _unfit(parted: Parted) -> Iterable[str]:
    values = {**parted.environment, **{f"mount {mount.target}": mount.source for mount in parted.mounts}}
    for name, value in values.items():
        if found := next(filter(_no_text, value), None):
            character = f"U+{ord(found):04X}"
            yield f"{parted.collector.name}: {name} has the character {character}, which no unit file holds"


def _no_text(character: str) -> bool:
    """Return whether a unit file cannot contain it: a control character, or a noncharacter of Unicode."""
    code = ord(character)
    return unicodedata.category(character) == "Cc" or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _container(fleet: FleetSpec, parted: Parted) -> str:
    container = parted.collector.container
    restart, _, attempts = container.restart.partition(":")
    return fill(
        "quadlet/container",
        fleet=fleet,
        collector=parted.collector,
        container=container,
        environment=parted.told,
        mounts=parted.mounts,
        restart=_RESTART[restart],
        attempts=attempts,
        secrets=[
            _PodmanSecret(
                name=f"{container.name}-{secret.name}",
                file=secret_file(parted, secret),
                target=secret.target,
            )
            for secret in parted.secrets
        ],
    )
