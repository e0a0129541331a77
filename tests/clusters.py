"""A Kubernetes control plane for tests, one for the whole run, and namespaces on it.

The API, its admission, the controllers and the scheduler are real; nodes, pods and volumes are played: no
container runs, no probe is asked, no policy filters, and there are no logs and no exec.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from engines import FOLDER, turn
from parts import Missing, program
from waiting import wait_until

#: etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok in one process.
PROGRAM = "kubernetes-cluster"


@cache
def kubeconfig():
    """The configuration of kubectl for the cluster, which is started where none runs yet. Raises Missing."""
    if not (path := program(PROGRAM)):
        raise Missing("a Kubernetes API server", f"no {PROGRAM} on PATH", ".ci/run with ../shared")
    folder = FOLDER / "kubernetes"
    with turn("kubernetes"):
        if not folder.exists():
            folder.mkdir()
            cluster = _start("kubernetes", path, "--data", folder)
            wait_until(lambda: cluster.poll() is not None or (folder / "kubeconfig").exists())
            leases = Path(__file__).with_name("node_leases.py")
            _start("node-leases", sys.executable, leases, kubectl_program(), folder / "kubeconfig")
    assert (folder / "kubeconfig").exists(), (FOLDER / "kubernetes.log").read_text()[-2000:]
    return folder / "kubeconfig"


def _start(name, *command):
    """Starts what lasts until the end of the run, when engines.finish ends it."""
    with (FOLDER / f"{name}.log").open("w") as log:
        started = subprocess.Popen(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (FOLDER / f"{name}.pid").write_text(str(started.pid))
    return started


def kubectl_program():
    """The path of kubectl: of the cluster's version, else any. Raises Missing."""
    beside = Path(program(PROGRAM) or "/none").resolve().with_name("kubectl")
    if path := str(beside) if beside.exists() else program("kubectl"):
        return path
    raise Missing("kubectl", "it is not on PATH", "apt-get install kubernetes-client")


class Namespace:
    """A namespace that takes no pod but under Pod Security `restricted`."""

    def __init__(self, name):
        self.name = name
        self.kubectl("create", "namespace", name)
        levels = (f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn"))
        self.kubectl("label", "namespace", name, *levels)

    def kubectl(self, *arguments, check=True, stdin=None):
        """What a command prints; with ``check=False`` its exit status, and what it prints and says."""
        where = ("--kubeconfig", kubeconfig(), "--namespace", self.name)
        command = [kubectl_program(), *where, *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
        done = subprocess.run(
            command, input=stdin, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        if not check:
            return done.returncode, done.stdout + done.stderr
        assert not done.returncode, f"kubectl {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}"
        return done.stdout

    def get(self, kind, *selector):
        """The objects of a kind, by name."""
        answer = json.loads(self.kubectl("get", kind, *selector, "--output", "json"))
        return {each["metadata"]["name"]: each for each in answer["items"]}

    def pods(self):
        """What tells each pod from another of its name, by name; those that are going do not count."""
        return {
            name: pod["metadata"]["uid"]
            for name, pod in self.get("pods").items()
            if "deletionTimestamp" not in pod["metadata"]
        }

    def wait_until_ready(self, count):
        """Waits until so many pods are ready, and no other one is there."""

        def ready():
            states = [
                {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
                for pod in self.get("pods").values()
            ]
            return len(states) == count and all(each.get("Ready") == "True" for each in states)

        wait_until(ready)

    def evict(self, pod):
        """Asks for an eviction, as a drain does: the exit status, and what is said."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/eviction"
        return self.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(body), check=False)

    def remove(self):
        """Ends it, with all that is in it."""
        self.kubectl("delete", "namespace", self.name, "--wait=false")
