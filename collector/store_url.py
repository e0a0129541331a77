"""A store as one URL: which there are, and what one says."""

import re
from urllib.parse import parse_qsl

import msgspec

from collector.urls import Url, decoded, host_and_port

_REDIS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
#: The schemes of each backend that has any.
SCHEMES: dict[str, tuple[str, ...]] = {
    "REDIS": _REDIS,
    "REDISSTREAM": _REDIS,
    "MONGO": ("mongodb", "mongodb+srv"),
    "POSTGRES": ("postgresql", "postgres"),
}
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


class StoreUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a store's URL.

    Attributes:
        where: host and port of each server, or the path of its socket, for a person to read.
        hosts: host and port (None: the backend's own) of each; of a socket its path is the host.
        user, password, database: None where the URL does not say.
        service: the name that Sentinels know the server under.
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
        """Read a store's URL. Raises ValueError, which repeats nothing of the text."""
        schemes = dict.fromkeys(scheme for each in SCHEMES.values() for scheme in each)
        if text.partition("://")[0].lower() not in schemes:
            raise ValueError(f"takes a URL that begins with {', '.join(f'{each}://' for each in schemes)}")
        url = Url.parse(text)
        mongo = url.scheme in SCHEMES["MONGO"]
        user, password = _mongo_login(url) if mongo else (decoded(url.user), decoded(url.password or ""))
        separator = ";" if mongo and "&" not in url.query else "&"
        options = dict(parse_qsl(url.query, separator=separator))
        first, _, second = decoded(url.path).removeprefix("/").partition("/")
        where, database, service = url.hosts or options.get("host", ""), first, None
        if url.scheme == "unix":
            where, database = decoded(url.path), options.get("db", "")
        elif url.scheme.endswith("+sentinel"):
            service, database = first or None, second
            if not service:
                raise ValueError("names no service: redis+sentinel://host:26379,other:26379/SERVICE/0")
        where = decoded(where)
        if not where:
            raise ValueError("names no host")
        return cls(
            text=text,
            scheme=url.scheme,
            where=where,
            hosts=[(where, None)] if where.startswith("/") else list(map(host_and_port, where.split(","))),
            user=user or options.get("user"),
            password=password or options.get("password"),
            database=database or options.get("dbname") or options.get("database") or options.get("db"),
            service=service,
            options=options,
        )


def _mongo_login(url: Url) -> tuple[str, str]:
    """The user and the password, where ``+`` is a space, as MongoDB's drivers have it. Raises ValueError."""
    user, password = url.user, url.password or ""
    if url.login is not None and not user:
        raise ValueError("names no user in front of its @")
    if ":" in password or _BARE_PERCENT.search(url.login or ""):
        raise ValueError("has : or % in its user or password: write %3A and %25")
    return decoded(user.replace("+", " ")), decoded(password.replace("+", " "))
