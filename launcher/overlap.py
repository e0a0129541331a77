"""Whether two collectors of a fleet file store the same into the same store.

Only symbols that both name are compared here; what patterns select is known when the exchange has been asked.
"""

from collector.patterns import is_plain
from collector.settings import BACKENDS, Settings

#: A store: what kind of, its servers or its folder, and the database there.
type Place = tuple[object, ...]


def place(settings: Settings, folder: str) -> Place | None:
    """Return where the records go; ``folder`` is that of a PARQUET store. None where nobody shares it."""
    if settings.backend == "TTY":
        return None
    if settings.backend == "PARQUET":
        return ("PARQUET", folder)
    url = settings.url
    hosts = url.hosts if url else [(settings.host, settings.port)]
    servers = tuple((host, port or BACKENDS[settings.backend]) for host, port in hosts)
    kind = settings.backend.removesuffix("STREAM")
    database = settings.database or ("0" if kind == "REDIS" else "")
    return (kind, servers, url.service if url else None, database)


def named(settings: Settings, *, shared: bool) -> set[tuple[str, str]]:
    """Return the channels, candles with their interval, and symbols that are named and not left out.

    ``shared`` is whether other containers of the same collector take what this one's SHARD does not.
    """
    listed = {item: "" for item in settings.selection.included if is_plain(item)}
    symbols = [it for it in settings.selection.select(listed) if shared or settings.takes(it)]
    channels = [
        f"candles of {settings.candle_interval}" if channel == "candles" else channel
        for channel in settings.channels
    ]
    return {(channel, symbol) for channel in channels for symbol in symbols}
