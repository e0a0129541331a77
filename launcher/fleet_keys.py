"""The keys of a fleet file: their meaning, and how their text is read.

The reader (fleet_file.py), the schema (schema.py) and ``launcher explain`` are made from these tables.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from collector.settings import (
    VARIABLES,
    Matching,
    OneOf,
    Whole,
    boolean,
    duration,
    existing_file,
    listed,
    size,
)
from collector.shards import MOST
from launcher.managed import SERVERS
from launcher.spec import SECRET_FILES, Kubernetes


class Number(msgspec.Struct, frozen=True):
    """Reads a number from ``least`` to ``most``; ``taken`` describes that in words."""

    least: float
    taken: str
    most: float = 10**15

    def __call__(self, text: str) -> float:
        """Return the number. Raises ValueError."""
        if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]+)?", text) or not self.least <= float(text) <= self.most:
            raise ValueError(f"takes {self.taken}")
        return float(text)


class Key(msgspec.Struct, frozen=True):
    """One key. ``default`` is in words; ``variable`` is the setting's variable in the contract."""

    name: str
    meaning: str
    parse: Callable[[str], Any] = str
    default: str | None = None
    required: bool = False
    secret: bool = False
    variable: str | None = None


def labels(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of names. Raises ValueError."""
    return tuple(_LABEL(item) for item in listed(text))


def secret_keys(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of keys of a Secret. Raises ValueError."""
    return tuple(_SECRET_KEY(item) for item in listed(text))


def ports(text: str) -> tuple[int, ...]:
    """Read a comma-separated list of TCP ports. Raises ValueError."""
    return tuple(_PORT(item) for item in listed(text))


def memory(text: str) -> int:
    """Read a limit of memory; bytes. Raises ValueError."""
    if (read := size(text)) < LEAST_MEMORY:
        raise ValueError("takes at least 6MiB: Docker creates no container with less")
    return read


def _quantity(bytes_: int) -> str:
    return f"{bytes_ // 2**30}GiB" if bytes_ % 2**30 == 0 else f"{bytes_ // 2**20}MiB"


type Keys = Mapping[str, Key]


def _keys(*keys: Key) -> dict[str, Key]:
    return {key.name: key for key in keys}


#: Bytes; below this, Docker refuses to create a container.
LEAST_MEMORY = 6 * 2**20
#: Variables that the launcher itself sets, with the key to use instead.
OURS = {
    "NAME": "set `name` on the collector instead",
    "SHARD": "set `shards` on the collector instead: how many containers share its symbols",
    "SPOOL_DIR": "each collector gets a volume for its spool",
    "PARQUET_DIR": "set `path` on the PARQUET store instead",
}
#: Keys that may be written as YAML lists.
LISTS = ("symbols", "channels", "endpoint", "secret_keys", "ports")

_LABEL = Matching(
    r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
    "up to 63 lower-case letters, digits and '-', with no '-' at either end",
)
_ID = Matching(
    r"[A-Za-z0-9][A-Za-z0-9_.-]{7,63}",
    "8 to 64 letters, digits, '_', '.' and '-', such as the one that `launcher init` writes",
)
_IMAGE = Matching(
    r"[A-Za-z0-9][A-Za-z0-9._:@-]*(/[A-Za-z0-9][A-Za-z0-9._:@-]*)*", "an image such as cryptostore:latest"
)
_SECRET_KEY = OneOf(tuple(SECRET_FILES))
_PORT = Whole(1, 65535)
_OBJECT = Matching(
    r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?",
    "the name of an object in a cluster: lower-case letters, digits, '-' and '.'",
)
_SERVER_IMAGES = ", ".join(server.image for server in SERVERS.values())
_NETWORK = Matching(
    r"(?!(bridge|host|none)$)[A-Za-z0-9][A-Za-z0-9_.-]*",
    "a network's name, or {name: ..., external: true} for one that exists already; not bridge, host or none, "
    "where containers cannot find one another by name",
)

FLEET = _keys(
    Key(
        "fleet",
        "the name of the fleet; its containers, volumes and network are named after it",
        _LABEL,
        required=True,
    ),
    Key(
        "id",
        "what distinguishes this fleet from others of the same name, wherever the file is: a text that no "
        "other fleet has; `launcher init` writes one",
        _ID,
        "the fleet's name and the folder of the file",
    ),
    Key(
        "image",
        "the image of the collectors",
        _IMAGE,
        "cryptostore:latest",
    ),
    Key("network", "the network that the containers join; created if it is missing", _NETWORK, "the fleet's"),
    Key(
        "source",
        "where the data comes from: the exchanges, or a simulator for trying things out",
        OneOf(("live", "simulated")),
        "live",
    ),
    Key(
        "engine",
        "what runs the collectors: containers of one Docker engine, or services of a Docker swarm",
        OneOf(("docker", "swarm")),
        "docker",
    ),
    Key("parallelism", "how many collectors an update replaces at a time", Whole(1, 9999), "4"),
    Key("simulator", "how the simulator behaves, if `source` is simulated"),
    Key("stores", "where the data goes: stores, under names of your choice"),
    Key("defaults", "values for every collector that does not set its own"),
    Key("collectors", "the collectors, one or more for each exchange", required=True),
)
NETWORK = _keys(
    Key("name", "the name of the network", _NETWORK, "the fleet's"),
    Key("external", "whether it exists already, and stays when the fleet is removed", boolean, "false"),
)
SIMULATOR = _keys(
    Key(
        "rate", "updates per second of each symbol on each channel", Number(0, "a number of 0 or more"), "10"
    ),
    Key("seed", "the same seed produces the same data", Whole(0, 10**9)),
    Key("messages", "stop after this many messages", Whole(1, 10**9), "no limit"),
    Key("duration", "stop after this time", duration, "no limit"),
    Key("symbols", "the symbols that each exchange lists, by exchange"),
)
LIMITS = _keys(
    Key("memory", "the most memory that a container may use", memory, "no limit"),
    Key(
        "cpus",
        "the most processor time that a container may use, in processors",
        Number(0.01, "a number of processors such as 0.5, from 0.01 to 9999", 9999),
        "no limit",
    ),
    Key("pids", "the most processes and threads that a container may have", Whole(1, 2**22), "256"),
)
_POD = Kubernetes()
#: Keys that only `launcher render --format kubernetes` uses.
KUBERNETES = _keys(
    Key(
        "request_memory",
        "memory that the scheduler reserves for each pod, at most the limit",
        memory,
        f"{_quantity(_POD.request_memory)}, or the limit if that is less",
    ),
    Key(
        "request_cpus",
        "processor time that the scheduler reserves for each pod, in processors, at most the limit",
        Number(0.01, "a number of processors such as 0.5, from 0.01 to 9999", 9999),
        f"{_POD.request_cpus}, or the limit if that is less",
    ),
    Key(
        "spool_size",
        "size of the claim for a collector's spool; at least one and a half times `spool_max_bytes`",
        size,
        _quantity(_POD.spool_size),
    ),
    Key("spool_class", "storage class of that claim", _OBJECT, "the cluster's"),
    Key("data_size", "PARQUET: size of the claim for a collector's files", size, _quantity(_POD.data_size)),
    Key("data_class", "PARQUET: storage class of that claim", _OBJECT, "the cluster's"),
    Key("secret", "an existing Secret in the namespace; `secret_keys` says what it holds", _OBJECT),
    Key(
        "secret_keys",
        f"what `secret` holds: one or more of {', '.join(SECRET_FILES)}",
        secret_keys,
        ", ".join(_POD.secret_keys),
    ),
    Key(
        "ports",
        "additional TCP ports that a collector may connect to, such as those of the servers that Sentinels "
        "or a replica set name",
        ports,
        "those of the exchange, the store and the proxy",
    ),
)
#: Every setting of the contract that a fleet file may hold.
SETTINGS = _keys(
    *(
        Key(
            variable.name.lower(),
            variable.meaning,
            variable.parse,
            variable.default,
            required=variable.required,
            secret=variable.secret,
            variable=variable.name,
        )
        for variable in VARIABLES
        if variable.name not in OURS
    )
)
#: Settings that name a file, relative to the folder of the fleet file.
FILES = tuple(key.name for key in SETTINGS.values() if key.parse is existing_file)
STORE = SETTINGS | _keys(
    Key(
        "path", "PARQUET: the folder of the dataset, on the engine's machine", default="a volume of the fleet"
    ),
    Key(
        "manage",
        "whether the fleet runs the store's server too (Redis, Postgres or MongoDB), with a volume and a "
        "generated password",
        boolean,
        "false",
    ),
    Key("image", "the image of the server, if `manage` is true", _IMAGE, _SERVER_IMAGES),
    Key("kubernetes", "settings that only `launcher render --format kubernetes` uses"),
)
DEFAULTS = SETTINGS | _keys(
    Key("store", "where the data goes: the name of a store in `stores`", default="the only one"),
    Key("limits", "limits of a container"),
    Key("kubernetes", "settings that only `launcher render --format kubernetes` uses"),
    Key(
        "restart",
        "when the engine restarts a container by itself",
        Matching(
            r"no|always|unless-stopped|on-failure(:[1-9][0-9]{0,8})?",
            "unless-stopped, always, on-failure, on-failure:3 or no",
        ),
        "unless-stopped",
    ),
)
COLLECTOR = DEFAULTS | _keys(
    Key("name", "the name of the collector in the fleet", _LABEL, "the exchange, in lower case"),
    Key(
        "profiles",
        "a name or a list of names; a collector with profiles is left out unless `--profile` names one of "
        "them",
        labels,
        "never left out",
    ),
    Key(
        "shards",
        "how many containers share its symbols; they are named NAME-1, NAME-2, ...",
        Whole(1, MOST),
        "one",
    ),
)
