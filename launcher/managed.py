"""Stores that run with the fleet (``manage: true``): their servers' containers and their passwords.

A password is made once and kept on the engine, in a volume beside the data that it protects. Until it is
known, specs have an empty text in its place, so that the fleet file alone determines what a fleet is.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from launcher import names
from launcher.spec import CollectorSpec, Container, FleetSpec, HealthCheck, Mount

#: Settings that only the launcher may set for a collector whose store it manages.
SET_BY_US = ("URL", "URL_FILE", "HOST", "PORT", "USER_FILE", "PASSWORD", "PASSWORD_FILE")
#: The user and the database of a server if the store names none.
NAME = "cryptostore"
_PASSWORD_BYTES = 24
_PIDS = 4096  # a server has a process or a thread for each connection
_STOP_GRACE = 60
#: With these, a server's image takes ownership of its data folder, and switches to the server's user. Without
#: CAP_KILL, init could not pass the signal to stop on to that user's process.
_CAPABILITIES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID")


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """A database server, as its public image runs it.

    Attributes:
        image: the image if the store names none.
        data: the folder of its data.
        environment: its variables; ``{user}`` and ``{database}`` stand for the store's.
        secrets: its variables that name files, the password's first; ``{password}`` stands for the password.
        tmpfs: folders that it writes to, besides /tmp.
        has_user: whether it has a named user and database, which its data remembers with the password.
    """

    image: str
    data: str
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    secrets: Mapping[str, str]
    health: HealthCheck
    tmpfs: tuple[str, ...] = ()
    has_user: bool = True

    @property
    def password_file(self) -> str:
        """Return the name of the file that contains the password and nothing else."""
        return next(iter(self.secrets)).lower()


def _health(*command: str, interval: float) -> HealthCheck:
    return HealthCheck(command=command, interval=interval, timeout=5, start_period=120, retries=3)


SERVERS: Mapping[str, Server] = {
    "redis": Server(
        image="redis:7.4.2",
        data="/data",
        # An acknowledged write is on disk within a second; when full, it refuses writes and evicts nothing.
        command=(
            *("redis-server", "/run/secrets/redis_config", "--dir", "/data"),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"),
        ),
        secrets={"PASSWORD": "{password}", "REDIS_CONFIG": "requirepass {password}"},
        health=_health(
            "sh", "-c", "REDISCLI_AUTH=$(cat /run/secrets/password) redis-cli ping | grep -q PONG", interval=2
        ),
        has_user=False,
    ),
    "postgres": Server(
        image="postgres:17.4",
        data="/var/lib/postgresql/data",
        environment={
            "POSTGRES_USER": "{user}",
            "POSTGRES_DB": "{database}",
            "PGDATA": "/var/lib/postgresql/data/pgdata",
        },
        secrets={"POSTGRES_PASSWORD": "{password}"},
        # While it initialises its data, it listens only on its Unix socket.
        health=_health(
            *(
                "pg_isready",
                "--quiet",
                "--host",
                "127.0.0.1",
                "--username",
                "{user}",
                "--dbname",
                "{database}",
            ),
            interval=2,
        ),
        tmpfs=("/var/run/postgresql",),
    ),
    "mongo": Server(
        image="mongo:8.0.6",
        data="/data/db",
        environment={"MONGO_INITDB_ROOT_USERNAME": "{user}", "HOME": "/tmp"},  # noqa: S108 - of its container
        secrets={"MONGO_INITDB_ROOT_PASSWORD": "{password}"},
        # While it initialises its data, it listens only on 127.0.0.1.
        health=_health(
            "sh",
            "-c",
            'mongosh --quiet "$(hostname):27017/test" --eval "quit(db.runCommand({ping: 1}).ok ? 0 : 1)"',
            interval=10,
        ),
    ),
}
#: The server that each backend needs.
BACKENDS = {"REDIS": "redis", "REDISSTREAM": "redis", "MONGO": "mongo", "POSTGRES": "postgres"}


def store(
    fleet: str,
    name: str,
    kind: str,
    *,
    network: str,
    image: str | None,
    login: Mapping[str, str],
    distinct: bool,
) -> CollectorSpec:
    """Return the store as a container of the fleet, which runs one of SERVERS.

    ``login`` has the ``user`` and the ``database`` of its server; ``distinct`` volumes have names that no
    other fleet can have.
    """
    server = SERVERS[kind]
    data, password = (
        names.Volume(fleet=fleet, of=name, role=names.server_role(kind, holds)).name(distinct=distinct)
        for holds in ("data", "password")
    )
    told = {variable: _filled(text, login) for variable, text in server.environment.items()}
    command = tuple(_filled(word, login) for word in server.health.command)
    container = Container(
        name=names.container(fleet, name),
        image=image or server.image,
        network=network,
        command=server.command,
        environment=told | dict.fromkeys(server.secrets, ""),
        mounts=(Mount(kind="volume", source=data, target=server.data),),
        health=msgspec.structs.replace(server.health, command=command),
        pids=_PIDS,
        stop_grace=_STOP_GRACE,
        cap_add=_CAPABILITIES,
        tmpfs=server.tmpfs,
    )
    return CollectorSpec(
        fleet=fleet,
        name=name,
        container=container,
        secrets=frozenset(server.secrets),
        server=kind,
        password_volume=password,
    )


def settings(spec: CollectorSpec, login: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that a store's collectors get, except for the password."""
    names = {"USER": login["user"], "DATABASE": login["database"]}
    return {"HOST": spec.container.name} | (names if SERVERS[spec.server].has_user else {})


def with_passwords(fleet: FleetSpec, passwords: Mapping[str, str]) -> FleetSpec:
    """Return the fleet with the passwords of its managed stores, given by name."""
    stores = tuple(
        _with(
            spec,
            {
                variable: text.replace("{password}", passwords[spec.name])
                for variable, text in SERVERS[spec.server].secrets.items()
            },
        )
        for spec in fleet.stores
    )
    collectors = tuple(
        _with(spec, {"PASSWORD": passwords[spec.store]}) if spec.store else spec for spec in fleet.collectors
    )
    return msgspec.structs.replace(fleet, stores=stores, collectors=collectors)


def with_kept_passwords(fleet: FleetSpec, folder: Path) -> FleetSpec:
    """Return the fleet with the passwords in ``folder`` (``STORE.FILE``), and new ones for the rest."""
    passwords = {}
    for spec in fleet.stores:
        path = folder / f"{spec.name}.{SERVERS[spec.server].password_file}"
        passwords[spec.name] = (path.read_text().strip() if path.is_file() else "") or new_password()
    return with_passwords(fleet, passwords)


def new_password() -> str:
    """Return a random password of letters, digits, '-' and '_'."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def _filled(text: str, login: Mapping[str, str]) -> str:
    for name, value in login.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _with(spec: CollectorSpec, values: Mapping[str, str]) -> CollectorSpec:
    environment = {name: values.get(name, value) for name, value in spec.container.environment.items()}
    container = msgspec.structs.replace(spec.container, environment=environment)
    return msgspec.structs.replace(spec, container=container)
