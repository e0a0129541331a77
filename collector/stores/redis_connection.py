"""The connection to Redis: by host and port, URL or Unix socket, with TLS, or found by asking Sentinels.

``redis://``, ``rediss://`` and ``unix://`` are redis-py's own URLs with its options (``ssl_ca_certs``,
``ssl_cert_reqs``, ...). ``redis+sentinel://[user:password@]host:port,host:port/SERVICE/DATABASE``, or
``rediss+sentinel://``, asks the Sentinels in turn for the master of SERVICE; the options
``sentinel_username`` and ``sentinel_password`` are for the Sentinels.
"""

from typing import Any
from urllib.parse import urlencode

from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from collector.settings import Settings
from collector.store_url import StoreUrl
from collector.stores.network_errors import in_words

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
_SENTINEL_PORT = 26379


async def connect(settings: Settings) -> Connection:
    """Connect and log in. Raises redis-py's errors, OSError, and TypeError for an unknown option."""
    login = {"username": settings.user, "password": settings.password}
    options: dict[str, Any] = login | {"db": int(settings.database or 0)}
    if settings.url and settings.url.service:
        return await _master(settings.url, options)
    return await _connected(settings.url, settings.host, settings.port or 6379, options)


async def _master(url: StoreUrl, options: dict[str, Any]) -> Connection:
    """Return a connection to the master named by the first Sentinel that answers."""
    told = []
    for host, port in url.hosts:
        try:
            found = await _ask(url, host, port or _SENTINEL_PORT)
        except AuthenticationError:
            raise
        except (RedisError, OSError) as error:
            told.append(f"Sentinel {host}: {in_words(error)}")
            continue
        if found is None:
            told.append(f"Sentinel {host}: knows no {url.service}")
            continue
        try:
            name, place = found[0].decode(), int(found[1])
        except (TypeError, ValueError, LookupError, AttributeError):
            told.append(f"Sentinel {host}: answers as no Sentinel does")
            continue
        connection = await _connected(url, name, place, options)
        await connection.send_command("ROLE")
        role = await connection.read_response()
        if isinstance(role, list) and role[:1] == [b"master"]:
            return connection
        await connection.disconnect(nowait=True)
        told.append(f"{name}:{place}: no master any more")
    raise RedisError("; ".join(told))


async def _ask(url: StoreUrl, host: str, port: int) -> list[bytes] | None:
    login = {name: url.options.get(f"sentinel_{name}") for name in ("username", "password")}
    sentinel = await _connected(url, host, port, login)
    try:
        await sentinel.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", url.service)
        answer: list[bytes] | None = await sentinel.read_response()
    finally:
        await sentinel.disconnect(nowait=True)
    return answer


async def _connected(url: StoreUrl | None, host: str, port: int, options: dict[str, Any]) -> Connection:
    told: dict[str, Any] = {"host": host, "port": port}
    if url:
        told = {**parse_url(_plain(url, host, port))}
    kind = told.pop("connection_class", Connection)
    defaults = {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "driver_info": None,
    }
    # a Unix socket needs no keepalive
    defaults |= {} if "path" in told else {"socket_keepalive": True}
    fixed = {"retry": Retry(NoBackoff(), 0), "protocol": 2, "decode_responses": False}
    connection: Connection = kind(**(defaults | told | options | fixed))
    await connection.connect()  # type: ignore[no-untyped-call]
    return connection


def _plain(url: StoreUrl, host: str, port: int) -> str:
    """Return the URL for redis-py: one server, without our own options; credentials are passed separately."""
    ours = ("db", "sentinel_username", "sentinel_password")
    query = urlencode({name: value for name, value in url.options.items() if name not in ours})
    if url.scheme == "unix":
        return f"unix://{host}?{query}"
    place = f"[{host}]" if ":" in host else host
    return f"{url.scheme.partition('+')[0]}://{place}:{port}?{query}"
