"""One-line commands that read what a collector stored, made for whoever looks for the first time."""

import json
import os
import shlex
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from collector.settings import BACKENDS

#: The key of a channel in Redis where it is not the channel itself.
_REDIS_KEYS = {"l2_book": "book"}
#: Channels whose records are easiest on the eye, best first.
_READABLE = ("trades", "ticker", "funding", "candles", "l2_book")


def where(environment: Mapping[str, str]) -> str:
    """Where a collector with this environment stores, for a person."""
    match environment["BACKEND"]:
        case "PARQUET":
            return f"Parquet files in {_near(Path(environment['PARQUET_DIR']))}"
        case "TTY":
            return "standard output"
        case backend:
            return f"{backend} at {':'.join(_address(environment))}"


def command(environment: Mapping[str, str], channels: Collection[str]) -> str | None:
    """A command that shows records of one of ``channels``; None where there is nothing to read."""
    if not channels:
        return None
    channel = next((each for each in _READABLE if each in channels), min(channels))
    match environment["BACKEND"]:
        case "PARQUET":
            return _parquet(Path(environment["PARQUET_DIR"]), channel)
        case "REDIS" | "REDISSTREAM":
            return _redis(environment, channel)
        case _:
            return None


def _parquet(folder: Path, channel: str) -> str:
    table = json.dumps(_near(folder / f"channel={channel}"))
    code = (
        f'import pyarrow.dataset as ds; t = ds.dataset({table}, partitioning="hive"); '
        'print(t.count_rows(), "rows"); print(*t.head(3).to_pylist(), sep="\\n")'
    )
    return shlex.join([_near(Path(sys.executable)), "-c", code])


def _redis(environment: Mapping[str, str], channel: str) -> str:
    key = f"{_REDIS_KEYS.get(channel, channel)}-{environment['EXCHANGE']}-{_first(environment['SYMBOLS'])}"
    host, port = _address(environment)
    options = [
        *("-h", host, "-p", port),
        *(("-n", environment["DATABASE"]) if environment.get("DATABASE") else ()),
        *(("--user", environment["USER"]) if environment.get("USER") else ()),
        *(("--askpass",) if environment.get("PASSWORD") or environment.get("PASSWORD_FILE") else ()),
    ]
    read = (
        ["XREVRANGE", key, "+", "-", "COUNT", "3"]
        if environment["BACKEND"] == "REDISSTREAM"
        else ["ZREVRANGE", key, "0", "2"]
    )
    return shlex.join(["redis-cli", *options, *read])


def _address(environment: Mapping[str, str]) -> tuple[str, str]:
    port = environment.get("PORT") or str(BACKENDS[environment["BACKEND"]])
    return environment.get("HOST", "localhost"), port


def _first(symbols: str) -> str:
    return symbols.partition(",")[0].strip()


def _near(path: Path) -> str:
    """The path from the working folder where it is below that."""
    here = Path.cwd()
    return os.path.relpath(path, here) if path.is_relative_to(here) else str(path)
