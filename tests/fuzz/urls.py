"""URLs of stores and proxies: read as each driver reads them, or refused before it is asked."""

import getpass
import re
from collections import defaultdict
from random import Random
from urllib.parse import urlsplit

import aiohttp
import yarl
from asyncpg.connect_utils import _parse_connect_dsn_and_args
from pymongo.errors import ConfigurationError
from pymongo.uri_parser import parse_uri
from redis.connection import parse_url
from requests.utils import get_auth_from_url

from collector.settings import Settings, SettingsError
from collector.store_url import SCHEMES
from collector.stores.mongo import _options
from collector.stores.redis_connection import _plain
from collector.urls import ProxyUrl, masked, quoted

SECRET = "hunter2"
COLLECTOR = {"EXCHANGE": "KRAKEN", "SYMBOLS": "BTC-USD", "CHANNELS": "trades"}
COLLECTOR |= {"USER": "someone", "PASSWORD": ""}
_BACKENDS = defaultdict(lambda: "REDIS", {scheme: name for name, each in SCHEMES.items() for scheme in each})
_HOSTS = [
    *(
        "h",
        "db.example",
        "127.0.0.1",
        "[::1]",
        "[fe80::1%25eth0]",
        "[::1:]",
        "H",
        "xn--h",
        "a_b",
        "é",
        "h%2Ex",
        "",
    ),
    *("/run", "%2Frun"),
]
_PORTS = [
    *("", "", "", ":1", ":6379", ":65535", ":0", ":65536", ":", ":x", ":٣", ":6379:1", ":-1", ": 1", ":0x1"),
    *(":1_0", ":6%379"),
]
_LOGINS = [
    *("", "", f"u:{SECRET}@", f":{SECRET}@", "u@", "@", ":@", f"u:{SECRET}:@", f"u%40:{SECRET}%2F@"),
    f"u+v:{SECRET}+@",
    *(f"u:{SECRET}%@", f"u:{SECRET}%FF@", f"u:{SECRET}'@", f'u:{SECRET}"@', f"u:{SECRET}\\@"),
    *(f"u:{SECRET}#@", f"u:{SECRET}?@"),
    *(f"u:{SECRET}/@", f"u:{SECRET}[@", f"u:{SECRET}]@", f"u:{SECRET}@@", f"u:{SECRET}é@", f"u:{SECRET}&@"),
    f"u:{SECRET}=;@",
    *(f"u:{SECRET} @", f"u:{SECRET}\t@", f"u%00:{SECRET}@", f"u:{SECRET}%0A@", f"%3A:{SECRET}@"),
    *(f"u:{SECRET}$@", f"u|{SECRET}:x@"),
]
_PATHS = [
    *("", "", "/", "/0", "/15", "/d", "/d/e", "/d%2Fe", "//", "/-1", "/x y", "/é", "/%FF", "/ 1"),
    *("/9" + "9" * 30, "/@"),
]
_OPTIONS = [
    *("db=1", "db=x", "ssl=true", "sslmode=disable", "sslmode=x", "host=other", "port=2", "user=v"),
    "password=p",
    *("w=0", "w=majority", "authSource=admin", "tls=true", "replicaSet=r", "x", "=", "a=b=c", "db="),
    "dbname=e",
    *("socket_timeout=1", "socket_timeout=x", "protocol=3", "database=f", "username=w"),
    "target_session_attrs=any",
    *("retryWrites=false", "readPreference=secondary", "journal=false", "appName=@me@", "client_name=%00"),
    "é=1",
]
_SCHEMES = [
    *("redis", "rediss", "unix", "mongodb", "postgresql", "postgres", "http", "https", "REDIS", "Mongodb"),
]
_SCHEMES += ["redis+sentinel", "ftp", "", "x y"]


class Urls:
    """URLs put together of good and bad parts."""

    name, share = "urls", 0.14

    def draw(self, draw: Random) -> object:
        hosts = ",".join(
            draw.choice(_HOSTS[:4] if draw.random() < 0.7 else _HOSTS)
            + draw.choice(_PORTS[:6] if draw.random() < 0.7 else _PORTS)
            for _ in range(draw.choice((1, 1, 1, 2)))
        )
        scheme = draw.choice(_SCHEMES[:8] if draw.random() < 0.9 else _SCHEMES)
        login = draw.choice(_LOGINS[:6] if draw.random() < 0.5 else _LOGINS)
        path = draw.choice(_PATHS[:6] if draw.random() < 0.7 else _PATHS)
        options = draw.choice("&&&;").join(draw.sample(_OPTIONS, draw.choice((0, 0, 1, 2))))
        text = f"{scheme}://{login}{hosts}{path}{'?' * bool(options)}{options}"
        if draw.random() < 0.1:
            at = draw.randrange(len(text))
            text = text[:at] + draw.choice("\n\x00\x1b\u2028@:/?#[]%\\ é") + text[at + draw.randrange(2) :]
        return text

    def attempt(self, case: str) -> bool:
        if re.match(r"[a-z+]+://[^?]*@", case) and not re.search(r"\s", case):
            assert SECRET not in masked(case), masked(case)
        assert SECRET not in quoted(case), quoted(case)
        try:
            settings = Settings.read(COLLECTOR | {"URL": case, "BACKEND": _BACKENDS[_scheme(case)]})
        except SettingsError as error:
            for fault in error.faults:
                _check_fault(str(fault), case)
        else:
            assert settings.where.isprintable()
            assert SECRET not in settings.where
            try:
                _DRIVERS[settings.backend](case.strip(), settings)
            except (
                ValueError,
                ConfigurationError,
            ):  # what it makes of its own options it says when it is opened
                assert "?" in case, "the driver refuses it"
            return True
        try:
            proxy = ProxyUrl.parse(case)
        except ValueError as error:
            _check_fault(str(error), case)
            return False
        compare_with_clients(case, proxy)
        return True


def _scheme(text: str) -> str:
    return text.partition("://")[0].lower()


def _check_fault(fault: str, case: str) -> None:
    assert SECRET not in fault
    assert fault.isprintable()
    assert (
        len(case) < len("redis+sentinel://host") or case not in fault
    )  # a short one is in what would be right


def _redis(text: str, settings: Settings) -> None:
    """The URL as it was, and the one that we make of it."""
    ours = settings.host, settings.port
    made = parse_url(_plain(settings.url, *ours))
    if settings.url.scheme == "unix":
        assert made["path"] == settings.host
        told = parse_url(text)
        assert (told["path"], told.get("password")) == (settings.host, settings.password), told
        return
    assert (made["host"], made["port"]) == (ours[0].lower(), ours[1]), made
    if not settings.url.service:
        told = parse_url(text)
        assert (told.get("host"), told.get("port", 6379)) == (ours[0].lower(), ours[1]), told
        assert (told.get("username"), told.get("password")) == (settings.user, settings.password), told
        assert told.get("db", 0) == int(settings.database or 0), told


def _mongo(text: str, settings: Settings) -> None:
    _options(settings)
    told = parse_uri(text, warn=False)
    assert (told["username"], told["password"] or None) == (settings.user, settings.password), told
    ours = [(host.lower(), port or 27017) for host, port in settings.url.hosts]
    assert ours == [(host.lower(), port) for host, port in told["nodelist"]], told
    assert told["database"] in (settings.database, None), told


def _postgres(text: str, settings: Settings) -> None:
    rest = dict.fromkeys(("host", "port", "passfile", "ssl", "service", "servicefile", "direct_tls"))
    rest |= {"server_settings": None, "target_session_attrs": None, "krbsrvname": None, "gsslib": None}
    login = {"user": settings.user, "password": settings.password, "database": settings.database}
    addresses, told, *_ = _parse_connect_dsn_and_args(dsn=text, **login, **rest)
    assert (told.user, told.password, told.database) == tuple(login.values()), told
    bare, told, *_ = _parse_connect_dsn_and_args(dsn=text, **dict.fromkeys(login), **rest)
    assert bare == addresses
    assert told.password == settings.url.password, told
    assert told.user == (settings.url.user or getpass.getuser()), told
    assert (told.database or settings.database) == (settings.url.database or told.user), told
    for (host, port), address in zip(settings.url.hosts, addresses, strict=True):
        assert address == (host, port or 5432) or str(address).startswith(f"{host}/.s.PGSQL."), addresses


def compare_with_clients(text: str, url: ProxyUrl) -> None:
    """See that each client that connects through a proxy reads it so."""
    bare, login = aiohttp.helpers.strip_auth_from_url(yarl.URL(text))
    assert (bare.raw_host, bare.port) == (url.host.lower().encode("idna").decode(), url.port), (bare, url)
    theirs = urlsplit(text)
    assert theirs.hostname == url.host.lower()
    if url.user:
        assert (login.login, login.password) == (url.user, url.password or ""), (login, url)
        assert get_auth_from_url(text) in ((url.user, url.password), ("", "")), (get_auth_from_url(text), url)


_DRIVERS = {"REDIS": _redis, "REDISSTREAM": _redis, "MONGO": _mongo, "POSTGRES": _postgres}
