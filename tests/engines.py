"""Docker engines for tests: the one that is there, which is full of other people's things, and our own.

On the one that is there every name is of this run (``unique``), as are the tags of images; whoever makes
something there removes it, and what is left in the end is a fault of the tests. What needs public names or a
swarm has an engine of its own, which is gone with the run (own_engine.py).
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from functools import cache
from pathlib import Path

import docker
from parts import Missing, program
from waiting import PATIENCE, wait_until

#: This run, in all its processes, and the first of them.
RUN = os.environ.setdefault("CRYPTOSTORE_TEST_RUN", uuid.uuid4().hex[:8])
OWNER = int(os.environ.setdefault("CRYPTOSTORE_TEST_OWNER", str(os.getpid())))
LABEL = f"cryptostore.test={RUN}"
FOLDER = Path("/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir()) / f"cryptostore-test-{RUN}"

BASE = "python:3.13-slim-trixie"
#: Images of this run: the collector's, servers' and others.
IMAGES = IMAGE, REDIS, SERVERS, STANDIN, READER = tuple(
    f"cryptostore-test{part}:{RUN}" for part in ("", "-redis", "-servers", "-standin", "-quadlet")
)


def unique(prefix):
    """A name on the engine that nobody else has."""
    return f"{prefix}-{RUN}-{uuid.uuid4().hex[:4]}"


@contextlib.contextmanager
def turn(name):
    """One process of the run after the other."""
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / f"{name}.turn").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Engine:
    """An engine at ``host``; ``network`` is the path of its network namespace, where that is another."""

    def __init__(self, host, network=None):
        self.host, self._network = host, network

    def docker(self, *arguments, check=True, **options):
        """What a docker command prints there."""
        environment = {key: value for key, value in os.environ.items() if key != "DOCKER_CONTEXT"}
        environment["DOCKER_HOST"] = self.host
        command = ["docker", *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, check=False, timeout=600, **options
        )
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout.decode().strip()

    def client(self):
        """The Docker SDK's."""
        return docker.DockerClient(base_url=self.host)

    def has(self, image):
        return bool(self.docker("images", "--quiet", image))

    def build(self, tag, context, **options):
        """Makes an image of this run, once."""
        with turn(tag.replace("/", "-")):
            if not self.has(tag):
                self.docker("build", "--quiet", "--label", LABEL, "--tag", tag, str(context), **options)
        return tag

    def get(self, image, tag, folder):
        """A public image; where no registry can be asked, one that the folder builds stands in for it."""
        with turn(f"get-{image}"):
            if not self.has(image):
                self.docker("pull", "--quiet", image, check=False)
            if not self.has(image):
                self.give(users_engine().build(tag, folder), image)

    def give(self, image, name=None):
        """Brings an image of the user's engine here, under the same or another name."""
        name = name or image
        with turn(image.replace("/", "-")):
            if not self.has(image):
                saved = subprocess.Popen(
                    ["docker", "--host", users_engine().host, "save", image], stdout=subprocess.PIPE
                )
                self.docker("load", "--quiet", stdin=saved.stdout)
                assert saved.wait() == 0
            if not self.has(name):
                self.docker("tag", image, name)

    @contextlib.contextmanager
    def restarted(self):
        """Ends one of our own, as a restart of Docker does; it is back afterwards."""
        pid = Path(self.host.removeprefix("unix://")).with_name("pid")
        process = int(pid.read_text())
        os.kill(process, signal.SIGTERM)
        wait_until(lambda: not Path(f"/proc/{process}").exists())
        yield
        wait_until(lambda: self.docker("version", "--format", "{{.Server.Version}}", check=False))

    @contextlib.contextmanager
    def led(self, monkeypatch):
        """Leads docker and the launcher, as tests call them, there, and this thread into its network."""
        with monkeypatch.context() as patched, contextlib.ExitStack() as stack:
            patched.setenv("DOCKER_HOST", self.host)
            patched.delenv("DOCKER_CONTEXT", raising=False)
            if self._network:
                stack.enter_context(_inside(self._network))
            yield self


@contextlib.contextmanager
def _inside(network):
    """What this thread connects to, and what it starts, is in a network namespace."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(network, os.O_RDONLY)
    try:
        os.setns(there, os.CLONE_NEWNET)
        yield
    finally:
        os.setns(here, os.CLONE_NEWNET)
        os.close(here)
        os.close(there)


@cache
def users_engine():
    """The engine that the docker command leads to. Raises Missing."""
    if not program("docker"):
        raise Missing("Docker", "no docker command", "apt-get install docker.io")
    answer = subprocess.run(["docker", "version"], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise Missing("Docker", "no engine answers", "apt-get install docker.io")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "used").touch()
    return Engine(_host())


def _host():
    if host := os.environ.get("DOCKER_HOST"):
        return host
    shown = subprocess.run(["docker", "context", "inspect"], capture_output=True, check=False).stdout
    try:
        return json.loads(shown)[0]["Endpoints"]["docker"]["Host"]
    except (ValueError, LookupError):
        return "unix:///var/run/docker.sock"


@cache
def own_engine(name):
    """An engine of this run's own; ``name`` tells several apart. Raises Missing."""
    users_engine()  # is found before anybody is led elsewhere
    needed = ("dockerd", "ip", "iptables", "nsenter", "umount")
    if lacking := [each for each in needed if not program(each)]:
        raise _impossible(f"no {', '.join(lacking)}")
    if os.getuid():
        raise _impossible("only root can start one")
    folder = FOLDER / f"ct{RUN}{name}"  # as its network device is called, in 15 characters at most
    engine = Engine(f"unix://{folder}/docker.sock", f"/run/netns/{folder.name}")
    with turn(name):
        if not folder.exists():
            _start(folder, engine)
    return engine


def _impossible(why):
    command = "apt-get install docker.io iproute2 iptables && sudo make test"
    return Missing("a Docker engine of the tests' own", why, command)


def _start(folder, engine):
    folder.mkdir()
    log = FOLDER / f"{folder.name}.log"
    script = Path(__file__).with_name("own_engine.py")
    with log.open("w") as output:
        started = subprocess.Popen(
            [sys.executable, str(script), str(folder), str(OWNER)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    (FOLDER / f"{folder.name}.pid").write_text(str(started.pid))
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and started.poll() is None:
        if engine.docker("version", "--format", "{{.Server.Version}}", check=False):
            return
        time.sleep(0.1)
    raise _impossible(f"it does not start: {log.read_text().strip().splitlines()[-1:]}")


def finish():
    """Ends what the run started and removes its images; what tests have left behind, by kind and name."""
    for file in FOLDER.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGTERM)
    wait_until(lambda: not [*FOLDER.glob("ct*/")])  # its folder is the last of an engine
    left = _sweep(users_engine()) if (FOLDER / "used").exists() else []
    shutil.rmtree(FOLDER, ignore_errors=True)
    return left


def _sweep(engine):
    """Removes what is of this run on an engine; its names, but those of images made for the whole run."""
    kinds = {
        "container": (("ps", "--all", "--format", "{{.Names}}"), ("rm", "--force", "--volumes")),
        "volume": (("volume", "ls", "--format", "{{.Name}}"), ("volume", "rm", "--force")),
        "network": (("network", "ls", "--format", "{{.Name}}"), ("network", "rm")),
        # Without their parents, which make the next build quick.
        "image": (
            ("images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "dangling=false"),
            ("rmi", "--force", "--no-prune"),
        ),
    }
    left = []
    for kind, (listing, removal) in kinds.items():
        named = [name for name in engine.docker(*listing).split() if RUN in name]
        labelled = engine.docker(*listing, "--filter", f"label={LABEL}").split()
        labelled = [name for name in labelled if "<none>" not in name]
        for name in {*named, *labelled}:
            engine.docker(*removal, name, check=False)
            if name not in IMAGES and not (kind == "network" and _is_lost(engine, name)):
                left.append(f"{kind} {name}")
    return left


def _is_lost(engine, network):
    """Whether the engine keeps a network for containers that are gone.

    One of this age (20.10) loses count where many end at once, and removes it after its own restart alone.
    """
    found = engine.docker("network", "inspect", "--format", "{{len .Containers}}", network, check=False)
    return found == "0"
