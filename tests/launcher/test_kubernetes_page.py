"""What docs/kubernetes.md has people do is done, in its order, on a real API server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clusters import kubeconfig, kubectl_program
from fleet_texts import ROOT

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
BLOCK = re.compile(r"^```(yaml|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", re.MULTILINE)


@pytest.mark.slow
@pytest.mark.alone  # it drains a node, on which other tests may have pods
def test_the_page_does_what_it_says(tmp_path):
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "kubectl").symlink_to(kubectl_program())
    (tmp_path / "kubeconfig").write_bytes(kubeconfig().read_bytes())
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    shell = {**os.environ, "PATH": path, "KUBECONFIG": str(tmp_path / "kubeconfig")}
    folder = tmp_path / "work"
    folder.mkdir()
    variables = ""
    for kind, block in BLOCK.findall(PAGE):
        if kind == "yaml":
            name = re.match(r"# (.*)\n", block)[1]
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(block)
            continue
        for written, output in COMMAND.findall(block):
            command = written.replace("\n> ", "\n").rstrip()
            if re.match(r"\w+=", command):
                variables += f"{command}\n"
            done = subprocess.run(
                ["bash", "-c", f"{variables}{command}"],
                cwd=folder,
                env=shell,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=300,
            )
            assert (done.stdout, done.returncode) == (output, 0), command
