"""Prints as JSON what systemd would run for the quadlet units in /units: the arguments, by service.

Podman's generator makes services of the units; systemd loads them as it does at boot, shows what it has read,
and starts nothing.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

GENERATOR = "/usr/lib/systemd/system-generators/podman-system-generator"
SERVICES = Path.home() / ".config" / "systemd" / "user"
_USUAL = "Loading source unit|not a fully qualified|Not running with unified|Loaded units"


def run(*command, **environment):
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    unknown = [line for line in done.stderr.splitlines() if not re.search(_USUAL, line)]
    if done.returncode or unknown:
        sys.exit(f"{command}: {done.returncode} {unknown}")
    return done.stdout


def arguments(service):
    """What the service starts, as systemd has read it; it shows words in quotes where they need them."""
    shown = run("/usr/lib/systemd/systemd", "--test", "--user", f"--unit={service}", XDG_RUNTIME_DIR="/tmp")
    unit = shown[shown.index(f"Unit {service}:") :]
    line = re.search(r"ExecStart:\n\s+Command Line: (.*)", unit)[1]
    words = [
        plain or re.sub(r"\\(.)", r"\1", quoted)
        for plain, quoted in re.findall(r'([^ "]+)|"((?:[^"\\]|\\.)*)"', line)
    ]
    # At the start itself it replaces variables, and $$ is a plain $.
    return [word.replace("$$", "$") for word in words]


SERVICES.mkdir(parents=True)
run(GENERATOR, str(SERVICES), QUADLET_UNIT_DIRS="/units")
json.dump({path.name: arguments(path.name) for path in SERVICES.glob("*.service")}, sys.stdout)
