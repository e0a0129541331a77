"""cryptofeed's own JSON parser, compiled into a folder of its own: what the collector's is compared with."""

import importlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from servers import Missing

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".venv" / "yapic"
REQUIREMENT = "yapic.json==1.9.5"
COMPILERS = (os.environ.get("CXX", "c++"), "g++", "clang++")
UVS = ("uv", Path.home() / ".local" / "bin" / "uv", ROOT / ".uv" / "bin" / "uv")


def is_installed() -> bool:
    return (FOLDER / "yapic").exists()


def folder() -> Path:
    """Return the folder for ``PYTHONPATH`` that has yapic.json, compiled if need be. Raises Missing."""
    if not is_installed():
        _install()
    return FOLDER


def _install() -> None:
    if not any(map(shutil.which, COMPILERS)):
        raise Missing("yapic.json", "is compiled, and there is no C++ compiler", "apt-get install g++")
    uv = next(filter(None, map(shutil.which, UVS)), "uv")
    command = [uv, "pip", "install", "--quiet", "--no-config", "--no-deps", "--python", sys.executable]
    unfinished = FOLDER.with_name(f"yapic-{os.getpid()}")
    try:
        subprocess.run(
            [*command, "--target", unfinished, REQUIREMENT], check=True, capture_output=True, text=True
        )
        unfinished.rename(FOLDER)
    except (OSError, subprocess.CalledProcessError) as error:
        if is_installed():  # by a process beside us
            return
        why = f"cannot be installed: {getattr(error, 'stderr', None) or error}"
        raise Missing("yapic.json", why, " ".join(map(str, command))) from None


@cache
def imported() -> ModuleType:
    """Return yapic.json itself, while everybody else goes on with the collector's. Raises Missing."""
    path = str(folder())
    ours = sys.modules.pop("yapic")
    sys.path.insert(0, path)
    try:
        return importlib.import_module("yapic.json")
    finally:
        sys.path.remove(path)
        sys.modules["yapic"] = ours
