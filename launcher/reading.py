"""One-line commands that read what a collector stored, for a first look."""

import json
import os
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from collector.settings import BACKENDS, Settings
from collector.symbol_patterns import is_plain

#: The key of a channel in Redis, if it is not the channel's name.
_REDIS_KEYS = {"l2_book": "book"}
#: redis-py's URL options by their names in redis-cli.
_TLS = {"ssl_ca_certs": "--cacert", "ssl_certfile": "--cert", "ssl_keyfile": "--key"}
#: Channels whose records are easiest to read, best first.
_READABLE = ("trades", "ticker", "funding", "candles", "l2_book")


def where(environment: Mapping[str, str]) -> str:
    """Return where a collector with this environment stores, for people."""
    match environment["BACKEND"]:
        case "PARQUET":
            return f"Parquet files in {_near(Path(environment['PARQUET_DIR']))}"
        case "TTY":
            return "standard output"
        case backend:
            return f"{backend} at {Settings.read(environment).where}"


def command(environment: Mapping[str, str], channels: Collection[str]) -> str | None:
    """Return a command that shows records of one of ``channels``; None if there is nothing to read."""
    if not channels:
        return None
    channel = next((each for each in _READABLE if each in channels), min(channels))
    match environment["BACKEND"]:
        case "PARQUET":
            return _parquet(Path(environment["PARQUET_DIR"]), channel)
        case "REDIS" | "REDISSTREAM":
            return _redis(Settings.read(environment), channel)
        case _:
            return None


def _parquet(folder: Path, channel: str) -> str:
    table = json.dumps(_near(folder / "v2" / f"channel={channel}"))
    code = (
        f'import pyarrow.dataset as ds; t = ds.dataset({table}, partitioning="hive"); '
        'print(t.count_rows(), "rows"); print(*t.head(3).to_pylist(), sep="\\n")'
    )
    return shlex.join([_near(Path(sys.executable)), "-c", code])


def _redis(settings: Settings, channel: str) -> str | None:
    """Return the command; None if only a pattern gives the symbols, or only Sentinels the server."""
    symbol = next(filter(is_plain, settings.symbols), None)
    if symbol is None or (settings.url and settings.url.service):
        return None
    key = f"{_REDIS_KEYS.get(channel, channel)}-{settings.exchange}-{symbol}"
    options = [
        *_place(settings),
        *(("-n", settings.database) if settings.database else ()),
        *(("--user", settings.user) if settings.user else ()),
        *(("--askpass",) if settings.password else ()),
    ]
    read = (
        ["XREVRANGE", key, "+", "-", "COUNT", "3"]
        if settings.backend == "REDISSTREAM"
        else ["ZREVRANGE", key, "0", "2"]
    )
    return shlex.join(["redis-cli", *options, *read])


def _place(settings: Settings) -> Iterator[str]:
    """Return the options with which redis-cli reaches the server, including TLS in a URL."""
    if settings.host.startswith("/"):
        yield from ("-s", settings.host)
        return
    yield from ("-h", settings.host, "-p", str(settings.port or BACKENDS[settings.backend]))
    if settings.url and settings.url.scheme == "rediss":
        yield "--tls"
        for option, flag in _TLS.items():
            if value := settings.url.options.get(option):
                yield from (flag, value)
        if settings.url.options.get("ssl_cert_reqs") == "none":
            yield "--insecure"


def _near(path: Path) -> str:
    """Return the path relative to the working folder if it is below that."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
