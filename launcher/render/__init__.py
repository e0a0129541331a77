"""A fleet as text, through templates: for ``docker run``, compose, swarm, Kubernetes and systemd.

The same fleet gives the same bytes. The files may contain passwords, and only their owner can read them.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from launcher.managed import with_kept_passwords
from launcher.render.contents import SECRETS, Contents
from launcher.render.docker import compose, env_set
from launcher.render.docker import files as _docker
from launcher.render.errors import RenderError
from launcher.render.kubernetes import changed_claims, claims_of
from launcher.render.kubernetes import files as _kubernetes
from launcher.render.kubernetes import left_over as _left_over
from launcher.render.quadlet import files as _quadlet
from launcher.render.quadlet import left_over
from launcher.render.swarm import files as _swarm
from launcher.spec import FleetSpec

__all__ = [
    "FORMATS",
    "RenderError",
    "changed_claims",
    "claims_of",
    "compose",
    "env_set",
    "left_over",
    "write",
]

#: The formats; the first is the default. Each raises RenderError.
FORMATS: Mapping[str, Callable[[FleetSpec], Contents]] = {
    "compose": _docker,
    "swarm": _swarm,
    "kubernetes": _kubernetes,
    "quadlet": _quadlet,
}


def write(fleet: FleetSpec, folder: Path, form: str = "compose") -> list[Path]:
    """Write the files of a format into ``folder``; return their paths, the one to begin with first.

    Each file is replaced in one step and is readable only by its owner; other files stay as they are, except
    secrets that a rendering for Kubernetes no longer has. The password of a managed store is the one in the
    folder, if it has been rendered there before.

    Raises RenderError, having written nothing, if the fleet cannot be expressed in that format.
    """
    contents = FORMATS[form](with_kept_passwords(fleet, folder / SECRETS))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths = [_write(folder, name, content) for name, content in contents.items()]
    for path in _left_over(folder, paths) if form == "kubernetes" else ():
        path.unlink()
    return paths


def _write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    secret = name.startswith(f"{SECRETS}/")
    if secret:
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o700)
    # mkstemp makes the file with mode 0600.
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        if secret:
            Path(aside).chmod(0o444)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path
