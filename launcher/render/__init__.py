"""A fleet as text, through the templates: for ``docker run``, compose, swarm, Kubernetes and systemd.

The same fleet gives the same bytes. What is written may hold passwords and is readable by its owner alone.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from launcher.render.docker import SECRETS, compose, env_set
from launcher.render.docker import files as _docker
from launcher.render.errors import RenderError
from launcher.render.kubernetes import files as _kubernetes
from launcher.render.quadlet import files as _quadlet
from launcher.render.swarm import files as _swarm
from launcher.spec import FleetSpec

__all__ = ["FORMATS", "RenderError", "compose", "env_set", "write"]

type Contents = Mapping[str, str]  # the text of each file, by its name

#: What a fleet can be rendered for; the first is the usual one. Each raises RenderError.
FORMATS: Mapping[str, Callable[[FleetSpec], Contents]] = {
    "compose": _docker,
    "swarm": _swarm,
    "kubernetes": _kubernetes,
    "quadlet": _quadlet,
}


def write(fleet: FleetSpec, folder: Path, form: str = "compose") -> list[Path]:
    """Writes the files of a format into ``folder`` and returns their paths, what to begin with first.

    Each file is replaced in one step and within reach of its owner alone; other files stay as they are.
    Raises RenderError, and has written nothing, where the fleet cannot be said in that format.
    """
    contents = FORMATS[form](fleet)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [_write(folder / name, text) for name, text in contents.items()]


def _write(path: Path, text: str) -> Path:
    if path.parent.name == SECRETS:
        path.parent.mkdir(exist_ok=True)
        path.parent.chmod(0o700)
    # mkstemp makes the file with mode 0600.
    descriptor, aside = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        if path.parent.name == SECRETS:
            Path(aside).chmod(0o444)
        Path(aside).replace(path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    return path
