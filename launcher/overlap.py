"""Whether collectors of a fleet record the same into the same store.

Symbols that they name are compared when the file is read. What patterns select is known only when the
exchange has been asked (resolve.py).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from collector.settings import BACKENDS, Settings
from collector.symbol_patterns import Selection, is_plain
from launcher.spec import CollectorSpec, Recording

#: A channel (candles with their interval) and a symbol.
type Pair = tuple[str, str]

_ALL = frozenset({""})  # stands for the profiles of a collector without any


class Recorded(NamedTuple):
    """What one collector records, with the profiles that run it."""

    by: Recording
    pairs: AbstractSet[Pair]
    profiles: AbstractSet[str] = _ALL


def recording(settings: Settings, folder: str, *, collector: str, at: str) -> Recording | None:
    """Return where a collector's records go; None if no other collector can share that, or is allowed to.

    Args:
        settings: the collector's.
        folder: that of a PARQUET store.
        collector: its name in the fleet file.
        at: the place of its symbols.
    """
    if settings.backend == "TTY" or settings.allow_overlap:
        return None
    channels = tuple(
        f"candles of {settings.candle_interval}" if channel == "candles" else channel
        for channel in settings.channels
    )
    into = (settings.exchange, *_store(settings, folder))
    return Recording(collector=collector, at=at, into=into, channels=channels)


def _store(settings: Settings, folder: str) -> tuple[object, ...]:
    """Return what distinguishes one store from another."""
    if settings.backend == "PARQUET":
        return ("PARQUET", folder)
    url = settings.url
    hosts = url.hosts if url else [(settings.host, settings.port)]
    servers = tuple((host, port or BACKENDS[settings.backend]) for host, port in hosts)
    kind = settings.backend.removesuffix("STREAM")
    database = settings.database or ("0" if kind == "REDIS" else "")
    return (kind, servers, url.service if url else None, database)


def named(symbols: Iterable[str]) -> list[str]:
    """Return a collector's plain symbols, without those that one of its patterns excludes."""
    selection = Selection.parse(symbols)
    return selection.select({item: "" for item in selection.included if is_plain(item)})


def pairs(recording: Recording, symbols: Iterable[str]) -> set[Pair]:
    """Return what a collector records of the symbols."""
    return {(channel, symbol) for symbol in symbols for channel in recording.channels}


def overlaps(recorded: Sequence[Recorded]) -> Mapping[tuple[int, ...], list[Pair]]:
    """Return what several collectors record into one store, by the indices of these collectors.

    Collectors of different profiles are not compared here, because they may never run together.
    """
    recorders: dict[tuple[tuple[object, ...], Pair], list[int]] = defaultdict(list)
    for index, each in enumerate(recorded):
        for pair in each.pairs:
            recorders[each.by.into, pair].append(index)
    found: dict[tuple[int, ...], set[Pair]] = defaultdict(set)
    for (_, pair), indices in recorders.items():
        for profile in {profile for index in indices for profile in recorded[index].profiles}:
            together = tuple(index for index in indices if profile in recorded[index].profiles)
            if len(together) > 1:
                found[together].add(pair)
    return {indices: sorted(found[indices]) for indices in sorted(found)}


class Overlap(NamedTuple):
    """What a collector records as others do. Its text says what is wrong, and how to fix it."""

    of: str
    at: str
    fault: str

    def __str__(self) -> str:
        return f"{self.at}: {self.fault}"


def compare(
    collectors: Iterable[CollectorSpec],
    symbols: Mapping[str, Iterable[str]],
    beside: Iterable[CollectorSpec] = (),
) -> list[Overlap]:
    """Return what collectors record into one store, among themselves or with others that run ``beside``.

    ``symbols`` has the symbols of each by its name.
    """
    collectors = list(collectors)
    concerned = {spec.recording for spec in collectors}
    taken: dict[Recording, set[Pair]] = defaultdict(set)
    for spec in (*collectors, *beside):
        if spec.recording:
            taken[spec.recording] |= pairs(spec.recording, symbols.get(spec.name, ()))
    recorded = [Recorded(by, each) for by, each in taken.items()]
    found = []
    for indices, common in overlaps(recorded).items():
        *others, last = sorted((recorded[index].by for index in indices), key=concerned.__contains__)
        if last not in concerned:
            continue
        found.append(Overlap(last.collector, last.at, told(common, others)))
    return found


def find(
    collectors: Iterable[CollectorSpec],
    ask: Callable[[Sequence[CollectorSpec]], Mapping[str, Iterable[str]]],
    beside: Iterable[CollectorSpec] = (),
) -> list[Overlap]:
    """Return what collectors record into one store, among themselves or with others that run ``beside``.

    ``ask`` returns the symbols of each given collector by its name; it is called at most once, and only if
    patterns have to be resolved.
    """
    into: dict[tuple[object, ...], list[CollectorSpec]] = defaultdict(list)
    collectors, beside = list(collectors), list(beside)
    concerned = {spec.recording.into for spec in collectors if spec.recording}
    for spec in (*collectors, *beside):
        if spec.recording and spec.recording.into in concerned:
            into[spec.recording.into].append(spec)
    doubtful = [specs for specs in into.values() if _share_a_channel(specs)]
    asked = [spec for specs in doubtful if not all(map(_is_plain, specs)) for spec in specs]
    plain = [spec for specs in doubtful if all(map(_is_plain, specs)) for spec in specs]
    symbols = {spec.name: named(_items(spec)) for spec in plain}
    return compare(collectors, {**symbols, **(ask(asked) if asked else {})}, beside)


def _share_a_channel(specs: Iterable[CollectorSpec]) -> bool:
    recordings = {spec.recording for spec in specs if spec.recording}
    channels = [channel for each in recordings for channel in each.channels]
    return len(set(channels)) < len(channels)


def _is_plain(spec: CollectorSpec) -> bool:
    return all(map(is_plain, Selection.parse(_items(spec)).included))


def _items(spec: CollectorSpec) -> list[str]:
    return spec.container.environment["SYMBOLS"].split(",")


def told(common: Sequence[Pair], others: Sequence[Recording]) -> str:
    """Return what is wrong with a collector that has ``common`` with ``others``, and how to fix it."""
    channel, symbol = common[0]
    more = f" and {len(common) - 1:,} more" if len(common) > 1 else ""
    names = [f"{each.collector} ({each.at})" for each in others]
    who = f"collector {names[0]} records" if len(names) == 1 else f"collectors {_listed(names)} record"
    rest = "one" if len(names) == 1 else "all but one"
    it = "them" if more else "it"
    return (
        f"symbols: {channel} of {symbol!r}{more}: {who} {it} into the same store, too;"
        f" leave {it} out of {rest}, or set `allow_overlap: true` to store {it} more than once"
    )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
