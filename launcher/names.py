"""The names of everything a fleet has on an engine, and the labels on it. All of them are made here.

A fleet with an ``id`` joins the parts of a volume's name with ``_``, which no name of a fleet or collector
contains, so no other fleet's volume can have that name. A fleet without one keeps the names of the first
version, joined with ``-``, so that files rendered earlier for another tool find their volumes again.
"""

import re
from collections.abc import Mapping

import msgspec

LABEL_FLEET = "cryptostore.fleet"
LABEL_COLLECTOR = "cryptostore.collector"
LABEL_HASH = "cryptostore.config-hash"
LABEL_MANAGER = "cryptostore.managed-by"  # launcher or compose
LABEL_SECRETS = "cryptostore.secrets"  # what each secret is, as a keyed hash
LABEL_STORE = "cryptostore.store"  # the server of a managed store: redis, postgres or mongo
LABEL_LOCKED_BY = "cryptostore.locked-by"  # who changes the fleet, and since when
LABEL_OWNER = "cryptostore.owner"  # a fingerprint of the fleet's identity
LABEL_SEAL = "cryptostore.seal"  # proves that the owner labelled this very thing; a keyed hash
#: Who made something, for people; never compared.
LABEL_USER, LABEL_HOST = "cryptostore.user", "cryptostore.host"
LABEL_FOLDER, LABEL_FILE = "cryptostore.folder", "cryptostore.file"

#: Who made a container (LABEL_MANAGER). Those made by compose are left to compose.
LAUNCHER, COMPOSE = "launcher", "compose"

#: The labels by which compose and ``docker stack`` recognise their own.
_COMPOSE_PROJECT, _STACK = "com.docker.compose.project", "com.docker.stack.namespace"
_COMPOSE_FOLDER = "com.docker.compose.project.working_dir"

#: Suffixes of a container's name: before it replaces another, after it was replaced, for a check, and for
#: what fills the volume of its secrets.
NEXT, PREVIOUS, CHECK, FILLER = ".next", ".previous", ".check", ".secrets"
#: The same for a service, whose name cannot have a dot.
SERVICE_CHECK = "_check"
#: Those of containers that exist for a moment; what is still there was left by a launcher that was killed.
PASSING = (CHECK, FILLER)

SPOOL, DATA, SIMULATOR = "spool", "data", "simulator"
_SERVERS = r"(?P<server>redis|postgres|mongo)-(?P<holds>data|password)"
_SECRETS = "secrets-"
_OF_ONE = rf"(?:spool|{_SECRETS}[0-9a-f]{{16}}|{_SERVERS})(?:\{CHECK})?"
_SHARED = rf"(?:data|simulator)(?:\{CHECK})?"
#: What follows the fleet's name in a volume's name, by the character that joins the parts.
_NAMES = {
    "_": re.compile(rf"(?P<of>[a-z0-9-]+)_(?P<role>{_OF_ONE})|(?P<shared>{_SHARED})"),
    "-": re.compile(rf"(?P<of>[a-z0-9-]+)-(?P<role>{_OF_ONE})|(?P<shared>{_SHARED})"),
}


def container(fleet: str, collector: str) -> str:
    """Return the full name of a collector: of its container, its service, and its position in a store."""
    return f"{fleet}-{collector}"


def lock(fleet: str) -> str:
    """Return the name of the container that holds the fleet while it is changed."""
    return f"{fleet}.lock"


def server_role(server: str, holds: str) -> str:
    """Return the role of a volume of a managed store; ``holds`` is its data or its password."""
    return f"{server}-{holds}"


def secrets_role(seal: str) -> str:
    """Return the role of the volume of a collector's secrets; ``seal`` has 16 hexadecimal digits."""
    return f"{_SECRETS}{seal}"


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """What a volume is for in its fleet; ``of`` is the one collector or store it belongs to, if any.

    The role of a volume that a check uses instead ends in ``.check``.
    """

    fleet: str
    role: str
    of: str = ""

    def name(self, *, distinct: bool) -> str:
        """Return its name; a ``distinct`` one can belong to no other fleet."""
        return ("_" if distinct else "-").join(filter(None, (self.fleet, self.of, self.role)))

    @property
    def server(self) -> str | None:
        """Return the server of the managed store that it belongs to; None for any other volume."""
        found = re.fullmatch(_SERVERS, self.role)
        return found["server"] if found else None

    @property
    def holds_password(self) -> bool:
        """Return whether it contains the password of a managed store's data."""
        return self.role.endswith("-password")

    @property
    def holds_secrets(self) -> bool:
        """Return whether it contains a collector's secrets, which `up` can always make again."""
        return self.role.startswith(_SECRETS)

    @property
    def holds_data(self) -> bool:
        """Return whether it contains recorded data."""
        return self.role == DATA or self.role.endswith("-data")


def parse(fleet: str, name: str) -> Volume | None:
    """Return what a volume of this name is for in the fleet; None if the fleet has no such volume."""
    for separator, pattern in _NAMES.items():
        begin = f"{fleet}{separator}"
        if name.startswith(begin) and (found := pattern.fullmatch(name.removeprefix(begin))):
            return Volume(fleet=fleet, role=found["role"] or found["shared"], of=found["of"] or "")
    return None


def base(container_name: str) -> str:
    """Return a container's own name, without the suffix that an update in progress adds."""
    for added in (NEXT, PREVIOUS, CHECK, FILLER):
        container_name = container_name.removesuffix(added)
    return container_name


def project(labels: Mapping[str, str]) -> str:
    """Return the compose project or stack that made something; empty if neither did."""
    return labels.get(_COMPOSE_PROJECT) or labels.get(_STACK) or ""


def maker(labels: Mapping[str, str]) -> str:
    """Return who made something, for people: ``ann@desk (/home/ann/fleet.yaml)``; empty if unknown."""
    who = "@".join(filter(None, (labels.get(LABEL_USER), labels.get(LABEL_HOST))))
    folder, file = labels.get(LABEL_FOLDER) or labels.get(_COMPOSE_FOLDER, ""), labels.get(LABEL_FILE, "")
    where = f"{folder.rstrip('/')}/{file}" if folder and file else folder
    return f"{who} ({where})" if who and where else who or where
