"""The decoys beside which the tests run: a comparison of what is not there would say nothing."""

import os
import re
import subprocess
from pathlib import Path

DECOYS = Path(__file__).parents[1] / ".ci" / "decoys"
#: A docker that has everything but the network ``lab`` and the image ``redis:7``.
DOCKER = """#!/bin/sh
case "$*" in "network inspect lab" | "image inspect redis:7") exit 1 ;; esac
"""


def show(folder, docker):
    path = folder / "docker"
    path.write_text(docker)
    path.chmod(0o755)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.run([DECOYS, "show"], env=environment, capture_output=True, text=True, check=False)


def test_showing_decoys_fails_where_some_are_missing_and_names_them(tmp_path):
    shown = show(tmp_path, DOCKER)
    assert shown.returncode == 1
    assert shown.stderr == "decoys: missing: network lab\ndecoys: missing: image redis:7\n"
    assert not shown.stdout


def test_showing_decoys_that_are_there_is_no_fault(tmp_path):
    assert show(tmp_path, "#!/bin/sh\n").returncode == 0


def test_containers_are_removed_with_their_unnamed_volumes():
    """The image declares one, which no label tells from what somebody else has."""
    tests = Path(__file__).parent
    removals = [
        (path.name, removal)
        for path in tests.rglob("*.py")
        for removal in re.findall(r'\((?:"docker", )?"rm", [^)]*\)', path.read_text())
    ]
    assert len(removals) > 10
    assert not [each for each in removals if "--volumes" not in each[1]]
