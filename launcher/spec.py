"""The interface between the fleet file and engines: a fleet as the containers it should be.

Everything before it (fleet.py) makes a ``FleetSpec``, everything after it (render/, plan.py, engines/) takes
one. A spec holds values that Docker takes as they are: bytes, seconds, full names.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from launcher.owner import NOBODY, Owner


class Mount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A named volume (``volume``) or a file of the engine's host (``bind``) in a container."""

    kind: str
    source: str
    target: str
    read_only: bool = False


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A health check; durations in seconds."""

    command: tuple[str, ...]
    interval: float
    timeout: float
    start_period: float
    retries: int


class Container(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One container. ``name`` is its full name on the engine; ``memory`` is in bytes, None means no limit.

    If ``entrypoint`` or ``command`` is empty, or ``health`` is None, the image's own applies.

    What all containers of a fleet have in common is not here but in the constants below.
    """

    name: str
    image: str
    network: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    aliases: tuple[str, ...] = ()
    health: HealthCheck | None = None
    memory: int | None = None
    cpus: float | None = None
    pids: int = 256
    restart: str = "unless-stopped"
    stop_grace: int = 30
    cap_add: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()  # in-memory folders, in addition to those of all containers


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """Where the records of a collector of the fleet file go, including all its shards.

    Attributes:
        collector: its name there.
        at: the place of its symbols there: ``fleet.yaml:12:5``.
        into: the exchange, and what distinguishes the store: its kind, servers or folder, and database.
        channels: what is recorded of each symbol; candles with their interval.
    """

    collector: str
    at: str
    into: tuple[object, ...]
    channels: tuple[str, ...]


class Kubernetes(msgspec.Struct, frozen=True, kw_only=True):
    """What a collector's StatefulSet has that a Docker container does not.

    Sizes and ``request_memory`` are in bytes, ``request_cpus`` in processors; an empty class is the cluster's
    default. ``secret`` is an existing Secret that has ``secret_keys``, which are in SECRET_FILES.
    """

    request_memory: int = 128 * 2**20
    request_cpus: float = 0.1
    spool_size: int = 3 * 2**30
    spool_class: str = ""
    data_size: int = 100 * 2**30
    data_class: str = ""
    secret: str = ""
    secret_keys: tuple[str, ...] = ("password",)
    ports: tuple[int, ...] = ()


#: The collector's variable for how many share an exchange's limits per address.
SHARED_BY = "REQUESTS_SHARED_BY"


class CollectorSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One collector: ``name`` is its name in the fleet; its environment is the whole contract.

    A managed store is such a spec, too, and so is the simulator.

    Attributes:
        profiles: it is left out unless one of them is active; empty means always there.
        store: the managed store that its password is for.
        server: what a managed store runs: redis, postgres or mongo.
        password_volume: the volume that has a managed store's password.
        owner: whose the fleet is, as labels say it.
        recording: where its records go; None if nobody shares its store, or ``allow_overlap`` is set.
        kubernetes: what only a cluster uses.
        sharing: how many containers of the fleet share its exchange's limits. It is in the environment only
            if the fleet file sets it, and nothing is replaced because it has changed.
    """

    fleet: str
    name: str
    container: Container
    secrets: frozenset[str] = frozenset()  # variables that are never shown
    profiles: tuple[str, ...] = ()
    store: str = ""
    server: str = ""
    password_volume: str = ""
    owner: Owner = NOBODY
    recording: Recording | None = None
    kubernetes: Kubernetes = Kubernetes()
    sharing: int = 1

    @property
    def counted(self) -> dict[str, str]:
        """Return what its environment has in addition to what the fleet file says."""
        if self.sharing == 1 or SHARED_BY in self.container.environment:
            return {}
        return {SHARED_BY: str(self.sharing)}

    def compares(self, variable: str) -> bool:
        """Return whether a different value of a variable makes it a different container."""
        return variable != SHARED_BY or variable in self.container.environment

    @property
    def config_hash(self) -> str:
        """Return a hash that changes if and only if the container would, except for its secrets.

        It depends neither on a secret nor on the path of a secret's file on the machine that read the fleet
        file.
        """
        environment = {
            name: "" if name in self.secrets else value for name, value in self.container.environment.items()
        }
        mounts = tuple(mount for mount in self.container.mounts if not is_file(mount, environment))
        told = msgspec.structs.replace(self.container, environment=environment, mounts=mounts)
        canonical = msgspec.json.encode(told, order="deterministic")
        return hashlib.sha256(canonical).hexdigest()[:16]


def is_file(mount: Mount, environment: Mapping[str, str]) -> bool:
    """Return whether the mount is a file that a variable names: a password, API keys, authorities."""
    return mount.kind == "bind" and mount.read_only and mount.target in environment.values()


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The network that the containers join; an ``external`` one exists already and stays."""

    name: str
    external: bool = False


class FleetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet, or what was selected of it; ``owner`` is whose it is.

    ``simulator`` is the stand-in exchange if the fleet asks for simulated data; ``stores`` are those that run
    with it. ``simulator_options`` are its arguments wherever it runs; ``engine`` is docker or swarm;
    ``parallelism`` is how many collectors an update replaces at a time; ``hints`` are sentences, each with
    its place in the fleet file, about what is allowed but does not work in containers.
    """

    name: str
    owner: Owner = NOBODY
    network: Network
    collectors: tuple[CollectorSpec, ...]
    stores: tuple[CollectorSpec, ...] = ()
    simulator: CollectorSpec | None = None
    simulator_options: tuple[str, ...] = ()
    engine: str = "docker"
    parallelism: int = 4
    hints: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()  # names of unselected collectors in the file
    beside: tuple[CollectorSpec, ...] = ()  # those of them that run too: not left out by their profiles
    only: tuple[str, ...] = ()  # the patterns that selected, which also apply to what is not in the file


#: The files that a collector may read a secret from, with the variable for the path.
SECRET_FILES = {
    "password": "PASSWORD_FILE",
    "user": "USER_FILE",
    "url": "URL_FILE",
    "https_proxy": "HTTPS_PROXY_FILE",
    "config.yaml": "CONFIG",
    "ca.pem": "SSL_CERT_FILE",
}
#: The user (and group) of the collector's image.
USER = 10001
#: The image's own health check, for engines that ignore the one in the image.
HEALTH = HealthCheck(
    command=("python", "-m", "collector", "health"), interval=10, timeout=5, start_period=30, retries=3
)
#: How every container of a fleet is locked down, in the words of the compose file.
READ_ONLY = True
CAP_DROP = ("ALL",)
SECURITY_OPT = ("no-new-privileges:true",)
INIT = True
TMP_BYTES = 16 * 2**20
TMPFS = {"/tmp": f"size={TMP_BYTES},mode=1777"}  # noqa: S108 - inside a container


def tmpfs(container: Container) -> dict[str, str]:
    """Return all in-memory folders of a container, each with its options."""
    return TMPFS | dict.fromkeys(container.tmpfs, TMPFS["/tmp"])  # noqa: S108 - inside a container


LOG_DRIVER = "json-file"
LOG_OPTIONS = {"max-size": "10m", "max-file": "3"}
