"""Fleets on a real engine, of names that nobody else has."""

import contextlib
import json
import subprocess
import sys

from engines import LABEL, unique

from launcher import cli

LOST_COUNT = "the engine has lost count of what is on it"


def docker(*arguments):
    """What a docker command prints; with --format json, read."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def inspect(*names):
    return json.loads(docker("inspect", *names)) if names else []


class Overheard:
    """A stream, and the lines that were written to it."""

    def __init__(self, stream):
        self.stream, self.written = stream, []

    def write(self, text):
        self.written.append(text)
        return self.stream.write(text)

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def lines(self):
        return "".join(self.written).splitlines()


class Fleet:
    """A fleet file and the commands on it. ``collectors`` maps names to their first symbols."""

    def __init__(self, folder, image):
        self.name = unique("test")
        self.path = folder / "fleet.yaml"
        self.image = image

    def write(self, collectors, /, **keys):
        """Writes the file; ``keys`` come on top of it, as JSON."""
        file = {
            "fleet": self.name,
            "image": self.image,
            "stores": {"redis": {"backend": "REDIS", "host": "redis"}},
            "collectors": [
                {
                    "name": name,
                    "exchange": "COINBASE",
                    "symbols": [symbol],
                    "channels": ["trades"],
                    "allow_overlap": True,
                }
                for name, symbol in collectors.items()
            ],
        }
        self.path.write_text(json.dumps(file | keys))  # JSON is YAML

    def launch(self, command, *arguments):
        """Runs a command of the launcher on the file; its exit status.

        That an engine loses count of a network (moby issue 42119), and `down` tells it, is no test's fault.
        """
        with contextlib.redirect_stderr(Overheard(sys.stderr)) as said:
            status = cli.main([command, str(self.path), *arguments])
        faults = [line for line in said.lines() if line.startswith("launcher: ")]
        return 0 if faults and all(LOST_COUNT in fault for fault in faults) else status

    def containers(self):
        """What docker inspect says, by collector."""
        return {each["Config"]["Labels"]["cryptostore.collector"]: each for each in inspect(*self._ids())}

    def _ids(self):
        return docker("ps", "--all", "--quiet", "--filter", f"label=cryptostore.fleet={self.name}").split()

    def identities(self):
        """What changes when a container is made anew or started again."""
        return {name: (each["Id"], each["State"]["StartedAt"]) for name, each in self.containers().items()}

    def things(self, kind):
        """Names of volumes or networks of the fleet."""
        return docker(kind, "ls", "--format", "{{.Name}}", "--filter", f"name={self.name}").split()

    def build(self, text, folder):
        """Makes the fleet's own image, of a Dockerfile."""
        (folder / "Dockerfile").write_text(text)
        docker("build", "--quiet", "--label", LABEL, "--tag", self.image, str(folder))

    def remove(self):
        for container in self._ids():  # a collector may have two, after an update that was interrupted
            docker("rm", "--force", "--volumes", container)
        for kind in ("network", "volume"):
            for name in self.things(kind):
                with contextlib.suppress(subprocess.CalledProcessError):
                    docker(kind, "rm", name)
