"""A store as one URL: which there are, what one says, and how a text is told without what is secret in it."""

import re
from urllib.parse import parse_qsl, unquote

import msgspec

_REDIS = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
#: The schemes of each backend that has any.
SCHEMES: dict[str, tuple[str, ...]] = {
    "REDIS": _REDIS,
    "REDISSTREAM": _REDIS,
    "MONGO": ("mongodb", "mongodb+srv"),
    "POSTGRES": ("postgresql", "postgres"),
}

_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+]*)://(?:(?P<credentials>[^\s?]*)@)?(?P<hosts>[^/?@\s]*)"
    r"(?P<path>/[^?\s]*)?(?:\?(?P<query>\S*))?",
    re.IGNORECASE,
)
#: Credentials, also where a URL lacks its scheme.
_LOGIN = re.compile(r"[^\s/@]*:[^\s/]*@")
#: Credentials in any URL, and passwords among its options.
_SECRETS = re.compile(r"(?<=://)[^\s'\"]*(?=@)|(?<=password=)[^&\s'\"]+", re.IGNORECASE)


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
        """Raises ValueError, which repeats nothing of the text."""
        match = _URL.fullmatch(text)
        schemes = dict.fromkeys(scheme for each in SCHEMES.values() for scheme in each)
        if not match or match["scheme"].lower() not in schemes:
            raise ValueError(f"takes a URL that begins with {', '.join(f'{each}://' for each in schemes)}")
        scheme = match["scheme"].lower()
        user, _, password = (match["credentials"] or "").partition(":")
        if any(sign in user + password for sign in "/@#"):  # each library would read its own part of it
            raise ValueError("has /, @ or # in its user or password: write %2F, %40 and %23")
        options = dict(parse_qsl(match["query"] or ""))
        first, _, second = unquote(match["path"] or "").removeprefix("/").partition("/")
        where, database, service = match["hosts"] or options.get("host", ""), first, None
        if scheme == "unix":
            where, database = unquote(match["path"] or ""), options.get("db", "")
        elif scheme.endswith("+sentinel"):
            service, database = first or None, second
            if not service:
                raise ValueError("names no service: redis+sentinel://host:26379,other:26379/SERVICE/0")
        where = unquote(where)
        if not where:
            raise ValueError("names no host")
        return cls(
            text=text,
            scheme=scheme,
            where=where,
            hosts=[(where, None)] if where.startswith("/") else list(map(_host_and_port, where.split(","))),
            user=unquote(user) or options.get("user"),
            password=unquote(password) or options.get("password"),
            database=database or options.get("dbname") or options.get("database") or options.get("db"),
            service=service,
            options=options,
        )


def _host_and_port(text: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]*))(?::([0-9]{1,5}))?", text)
    if not match or int(match[3] or 1) not in range(1, 65536):
        raise ValueError("names a host that is none; it takes host:port, and [address]:port for IPv6")
    return match[1] or match[2], int(match[3]) if match[3] else None


def quoted(text: str) -> str:
    """A value as a message about it may quote it: a URL may lack its scheme, and its credentials be there."""
    return _LOGIN.sub("***@", masked(text))


def masked(text: str) -> str:
    """``text`` without the credentials of URLs in it."""
    return _SECRETS.sub("***", text)
