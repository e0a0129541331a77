"""URLs: one way to read them, whatever they lead to, and one way to show text that may contain them.

A store's URL, a proxy's and an engine's address are read here and nowhere else. What their drivers read
differently is refused, so that none mistakes part of a password for a host, or a host for a password. No
message quotes any of the text, because any of it may be secret.
"""

import ipaddress
import re
from urllib.parse import unquote_to_bytes

import msgspec

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_UNFIT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HOST_AND_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([\w.-]*))(?::([0-9]{1,5}))?")
#: Characters that a user or password may contain only percent-encoded.
_RESERVED = "/?#@[]\\"
_ENCODED = ", ".join(f"%{ord(sign):02X}" for sign in _RESERVED)
_RESERVED_FAULT = f"has one of {' '.join(_RESERVED)} in its user or password: write {_ENCODED}"
_OPTION = re.compile(r"[A-Za-z0-9_.-]+=")
_PROXY = "a URL such as http://proxy.example:3128"
_PASSWORD_OPTION = re.compile(r"(?<=password=)[^&\s]+", re.IGNORECASE)
_WORD = re.compile(r"\S+")


class Url(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a URL as written, with percent-encoding.

    Attributes:
        scheme: in lower case.
        login: what precedes the ``@``; None if there is none.
        user, password: its parts; password is None if it has no colon.
        hosts: what lies between that and the path: one host and port, or several.
        path: with its ``/``; empty if there is none.
        query: what follows the ``?``.
    """

    scheme: str
    login: str | None
    user: str
    password: str | None
    hosts: str
    path: str
    query: str

    @classmethod
    def parse(cls, text: str) -> "Url":
        """Read a URL. Raises ValueError, whose message quotes nothing of the text."""
        scheme, separator, rest = text.partition("://")
        if not separator or not _SCHEME.fullmatch(scheme):
            raise ValueError("has no scheme such as http://")
        if _UNFIT.search(rest):
            raise ValueError("has a space or a control character in it: write %20, or leave it out")
        authority, path, query = _split(rest)
        login, at, hosts = authority.rpartition("@")
        late = "@" in path or ("@" in query and not at)  # the / or ? before it may be part of the password
        if late or "#" in rest or any(sign in login for sign in _RESERVED):
            raise ValueError(_RESERVED_FAULT)
        if not all(_OPTION.match(option) for option in re.split("[&;]", query) if option):
            raise ValueError(
                "has something other than NAME=VALUE after its ?; in a password write %3F for it"
            )
        user, colon, password = login.partition(":")
        return cls(
            scheme=scheme.lower(),
            login=login if at else None,
            user=user,
            password=password if colon else None,
            hosts=hosts,
            path=path,
            query=query,
        )


def _split(rest: str) -> tuple[str, str, str]:
    """Return authority, path and query of what follows the scheme."""
    before, _, query = rest.partition("?")
    authority, slash, path = before.partition("/")
    return authority, slash + path, query


def host_and_port(text: str) -> tuple[str, int | None]:
    """Read ``host``, ``host:port`` or ``[address]:port``. Raises ValueError."""
    match = _HOST_AND_PORT.fullmatch(text)
    if not match or not 0 < int(match[3] or 1) < 2**16 or not _is_host(*match.group(1, 2)):
        raise ValueError("has no valid host and port: write host:port, or [address]:port for IPv6")
    return match[1] or match[2], int(match[3]) if match[3] else None


def _is_host(address: str | None, host: str | None) -> bool:
    """Return whether clients can read what is in brackets, or encode and decode a name."""
    try:
        if address is not None:
            return bool(ipaddress.IPv6Address(address))
        host = host or ""
        return host.startswith("/") or bool(host.encode("idna").decode("idna")) or not host
    except (UnicodeError, ipaddress.AddressValueError):
        return False


def decoded(text: str) -> str:
    """Return ``text`` without percent-encoding. Raises ValueError if it is not UTF-8."""
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ValueError("has a percent-encoded part that is not UTF-8") from None


class ProxyUrl(msgspec.Struct, frozen=True, kw_only=True):
    """The URL of a proxy for connections to the exchange."""

    text: str
    host: str
    port: int
    user: str | None
    password: str | None

    @classmethod
    def parse(cls, text: str) -> "ProxyUrl":
        """Read a proxy's URL. Raises ValueError, whose message quotes nothing of the text."""
        if text.partition("://")[0].lower() not in ("http", "https"):
            raise ValueError(f"takes {_PROXY}")
        url = Url.parse(text)
        host, port = host_and_port(url.hosts)
        if not host or "%" in url.hosts or url.path not in ("", "/") or url.query:
            raise ValueError(f"takes {_PROXY}, with nothing after its port")
        user = decoded(url.user) if url.login is not None else None
        password = decoded(url.password) if url.password is not None else None
        if ":" in (user or ""):
            raise ValueError("has a colon in its user, which HTTP cannot tell from the one before a password")
        if not ((user or "") + (password or "")).isprintable() or not _is_latin(f"{user}{password}"):
            raise ValueError("has a character in its user or password that proxy clients cannot send")
        default = 443 if url.scheme == "https" else 80
        return cls(text=text, host=host, port=port or default, user=user, password=password)


def _is_latin(text: str) -> bool:
    return all(ord(character) < 0x100 for character in text)


def masked(text: str) -> str:
    """Return ``text`` without the credentials of URLs in it."""
    return _PASSWORD_OPTION.sub("***", _WORD.sub(lambda word: _without_login(word[0]), text))


def quoted(value: str) -> str:
    """Return a value in a form that a message may quote.

    It may be a URL without its scheme, or one that is broken in the middle of its password.
    """
    shown = _PASSWORD_OPTION.sub("***", _without_login(value, scheme_needed=False))
    scheme, separator, rest = shown.partition("://")
    hosts = _split(rest)[0].rpartition("@")[2]
    _, colon, port = hosts.partition(":")
    if separator and colon and not port.isdecimal() and not hosts.startswith("["):
        return f"{scheme}://***"  # a login without a host
    return shown


def _without_login(text: str, *, scheme_needed: bool = True) -> str:
    """Return ``text`` with ``***`` for everything from the first ``://`` to the last ``@``."""
    before, at, hosts = text.rpartition("@")
    scheme, separator, _ = before.partition("://")
    if separator:
        return f"***@{hosts}" if "@" in scheme else f"{scheme}://***@{hosts}"
    return f"***@{hosts}" if at and not scheme_needed else text
