"""A store as one URL: the schemes, and the parts of such a URL."""

import re
from urllib.parse import parse_qsl

import msgspec

from collector.urls import Url, decoded, host_and_port

_REDIS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
#: The schemes of each backend that takes a URL.
SCHEMES: dict[str, tuple[str, ...]] = {
    "REDIS": _REDIS,
    "REDISSTREAM": _REDIS,
    "MONGO": ("mongodb", "mongodb+srv"),
    "POSTGRES": ("postgresql", "postgres"),
}
#: The options that name parts which the URL also has.
_REDIS_OPTIONS = {"user": "username", "password": "password", "database": "db"}
_POSTGRES_OPTIONS = {"user": "user", "password": "password", "database": "dbname"}
_OPTIONS: dict[str, dict[str, str]] = {
    **dict.fromkeys(_REDIS, _REDIS_OPTIONS),
    **dict.fromkeys(("postgresql", "postgres"), _POSTGRES_OPTIONS),
}
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class StoreUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a store's URL.

    Attributes:
        where: host and port of each server, or the path of its socket, for messages.
        hosts: host and port (None: the backend's default) of each server; a socket's path counts as a host.
        user, password, database: None if not in the URL.
        service: the name of the server in Sentinels.
        options: what follows the question mark.
    """

    text: str
    scheme: str
    where: str
    hosts: list[tuple[str, int | None]]
    user: str | None
    password: str | None
    database: str | None
    service: str | None
    options: dict[str, str]

    @classmethod
    def parse(cls, text: str) -> "StoreUrl":
        """Read a store's URL. Raises ValueError, whose message quotes nothing of the text."""
        schemes = dict.fromkeys(scheme for each in SCHEMES.values() for scheme in each)
        if text.partition("://")[0] not in schemes:
            raise ValueError(f"takes a URL that begins with {', '.join(f'{each}://' for each in schemes)}")
        url = Url.parse(text)
        mongo = url.scheme in SCHEMES["MONGO"]
        user, password = _mongo_login(url) if mongo else (decoded(url.user), decoded(url.password or ""))
        separator = ";" if mongo and "&" not in url.query else "&"
        options = dict(parse_qsl(url.query, separator=separator))
        service, database = _path(url)
        where = decoded(url.path if url.scheme == "unix" else url.hosts or options.get("host", ""))
        hosts: list[tuple[str, int | None]] = [(where, None)]
        if url.scheme != "unix":
            hosts = [_place(each) for each in where.split(",")]
        if not all(host for host, _ in hosts):
            raise ValueError("has no host")
        _check_hosts(url, where, options)
        before = {"user": user, "password": password, "database": database}
        said = {part: options.get(name) for part, name in _OPTIONS.get(url.scheme, {}).items()}
        if twice := [part for part, value in said.items() if value and before[part]]:
            raise ValueError(f"gives its {twice[0]} twice, before the ? and after it")
        return cls(
            text=text,
            scheme=url.scheme,
            where=where,
            hosts=hosts,
            user=user or said.get("user"),
            password=password or said.get("password"),
            database=database or said.get("database"),
            service=service,
            options=options,
        )


def _path(url: Url) -> tuple[str | None, str]:
    """Return the service and the database in a path. Raises ValueError."""
    if url.scheme == "unix":
        return None, ""
    first, slash, second = decoded(url.path).removeprefix("/").partition("/")
    if not url.scheme.endswith("+sentinel"):
        if slash:
            raise ValueError("has more than the database after its host")
        return None, first
    if not first:
        raise ValueError("has no service: write redis+sentinel://host:26379,other:26379/SERVICE/0")
    return first, second


def _check_hosts(url: Url, where: str, options: dict[str, str]) -> None:
    """Raise ValueError for hosts that the driver would read differently, or not at all."""
    if url.scheme == "unix" and url.hosts:
        raise ValueError("takes the path of a socket: unix:///PATH")
    if any(map(_has_encoded_port, url.hosts.split(","))):
        raise ValueError("has % in a port: write the port of HOST:PORT in digits")
    redis, mongo = url.scheme in _REDIS, url.scheme in SCHEMES["MONGO"]
    if redis and "," in where and not url.scheme.endswith("+sentinel"):
        raise ValueError(
            "has several hosts, which only Sentinels may be: write redis+sentinel://HOST,HOST/SERVICE"
        )
    if redis and where.startswith("/") and url.scheme != "unix":
        raise ValueError("has the path of a socket as its host: write unix:///PATH")
    if mongo and any(map(_is_encoded, url.hosts.split(","))):
        raise ValueError("has % in its host, which only the path of a socket may have: %2Frun%2Fx.sock")
    if "port" in options or (options.get("host") and (redis or mongo)):
        raise ValueError("has host or port among its options: write HOST:PORT before the ?")


def _place(where: str) -> tuple[str, int | None]:
    """Return host and port; for a socket, its folder and the port that is part of its name."""
    if not where.startswith("/"):
        return host_and_port(where)
    path, _, port = where.partition(":")
    if not re.fullmatch("[0-9]{0,5}", port):
        raise ValueError("has no valid path of a socket's folder and port")
    return path, int(port) if port else None


def _has_encoded_port(host: str) -> bool:
    """Return whether what follows a host is percent-encoded: some drivers decode that, others cut it off."""
    after = host.rpartition("]")[2] if host.startswith("[") else host.partition(":")[2]
    return "%" in after


def _is_encoded(host: str) -> bool:
    """Return whether a host is percent-encoded: MongoDB's drivers decode only addresses and socket paths."""
    return "%" in host and not host.startswith("[") and not re.fullmatch(r"%2[Ff].*\.sock", host)


def _mongo_login(url: Url) -> tuple[str, str]:
    """Return user and password, with ``+`` as a space, like MongoDB's drivers. Raises ValueError."""
    user, password = url.user, url.password or ""
    if url.login is not None and not user:
        raise ValueError("has no user before its @")
    if ":" in password or _BARE_PERCENT.search(url.login or ""):
        raise ValueError("has : or % in its user or password: write %3A and %25")
    return decoded(user.replace("+", " ")), decoded(password.replace("+", " "))
