"""The names of what a fleet has on an engine, and the labels on it. Every one of them is made here.

A fleet with an ``id`` joins the parts of a volume's name with ``_``, which is in no name of a fleet or a
collector, so no other fleet's volume can have that name. One without keeps the names of the first version,
joined with ``-``: what was rendered for another tool before finds its volumes again.
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
LABEL_SEAL = "cryptostore.seal"  # that its holder labelled this very thing, as a keyed hash
#: Who made a thing, for people; never compared.
LABEL_USER, LABEL_HOST = "cryptostore.user", "cryptostore.host"
LABEL_FOLDER, LABEL_FILE = "cryptostore.folder", "cryptostore.file"

#: Who made a container (LABEL_MANAGER). What compose made is compose's business.
LAUNCHER, COMPOSE = "launcher", "compose"

#: By what compose and ``docker stack`` know their own.
_COMPOSE_PROJECT, _STACK = "com.docker.compose.project", "com.docker.stack.namespace"
_COMPOSE_FOLDER = "com.docker.compose.project.working_dir"

#: What is added to a container's name on its way into the place of another, out of it, and for a check.
NEXT, PREVIOUS, CHECK = ".next", ".previous", ".check"
#: The same of a service, whose name takes no dot.
SERVICE_CHECK = "_check"

SPOOL, DATA, SIMULATOR = "spool", "data", "simulator"
_SERVERS = r"(?P<server>redis|postgres|mongo)-(?P<holds>data|password)"
_OF_ONE = rf"(?:spool|secrets-[0-9a-f]{{16}}|{_SERVERS})(?:\{CHECK})?"
_SHARED = rf"(?:data|simulator)(?:\{CHECK})?"
#: What follows the fleet in a volume's name, by what joins the parts.
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
    """Return the role of a volume of a managed store, which ``holds`` its data or its password."""
    return f"{server}-{holds}"


def secrets_role(seal: str) -> str:
    """Return the role of the volume of a collector's secrets; ``seal`` has 16 hexadecimal digits."""
    return f"secrets-{seal}"


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """What a volume is to its fleet; ``of`` is the collector or the store it belongs to, if to one alone.

    The role of one that a check has in its place ends in ``.check``.
    """

    fleet: str
    role: str
    of: str = ""

    def name(self, *, distinct: bool) -> str:
        """Return its name; a ``distinct`` one can be no other fleet's."""
        return ("_" if distinct else "-").join(filter(None, (self.fleet, self.of, self.role)))

    @property
    def server(self) -> str | None:
        """Return the server of the managed store that it belongs to, None for any other volume."""
        found = re.fullmatch(_SERVERS, self.role)
        return found["server"] if found else None

    @property
    def holds_password(self) -> bool:
        """Return whether a managed store's data opens with what is in it."""
        return self.role.endswith("-password")

    @property
    def holds_data(self) -> bool:
        """Return whether recorded data is in it."""
        return self.role == DATA or self.role.endswith("-data")


def parse(fleet: str, name: str) -> Volume | None:
    """Return what a volume of this name is to the fleet; None if the fleet has none of such a name."""
    for separator, pattern in _NAMES.items():
        begin = f"{fleet}{separator}"
        if name.startswith(begin) and (found := pattern.fullmatch(name.removeprefix(begin))):
            return Volume(fleet=fleet, role=found["role"] or found["shared"], of=found["of"] or "")
    return None


def base(container_name: str) -> str:
    """Return a container's own name, without what an update that is under way adds to it."""
    for added in (NEXT, PREVIOUS, CHECK):
        container_name = container_name.removesuffix(added)
    return container_name


def project(labels: Mapping[str, str]) -> str:
    """Return the compose project or the stack that made something; empty where neither did."""
    return labels.get(_COMPOSE_PROJECT) or labels.get(_STACK) or ""


def maker(labels: Mapping[str, str]) -> str:
    """Return who made something, for a person: ``ann@desk (/home/ann/fleet.yaml)``; empty if nobody says."""
    who = "@".join(filter(None, (labels.get(LABEL_USER), labels.get(LABEL_HOST))))
    folder, file = labels.get(LABEL_FOLDER) or labels.get(_COMPOSE_FOLDER, ""), labels.get(LABEL_FILE, "")
    where = f"{folder.rstrip('/')}/{file}" if folder and file else folder
    return f"{who} ({where})" if who and where else who or where
