"""What each collector would record of what the exchanges list now, and whether several overlap."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from math import ceil

import msgspec

from collector.listing import Share, shares
from collector.settings import SettingsError
from launcher import overlap
from launcher.spec import CollectorSpec

#: How many subscriptions one container can handle. A busy one brings ten records a second, and a collector
#: was measured at 10,000 a second (docs/performance.md).
MOST_SUBSCRIPTIONS = 1000


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """The container of one collector; ``shard`` is ``3/8``, or None if it has all its symbols to itself."""

    collector: str
    exchange: str
    shard: str | None
    symbols: tuple[str, ...]
    subscriptions: int
    connections: int
    warning: str | None


class ResolveError(Exception):
    """Collectors ask for what is not listed; the message has a line for each fault."""


def resolve(collectors: Sequence[CollectorSpec], environment: Mapping[str, str]) -> list[Resolved]:
    """Resolve what the collectors ask for, asking each exchange once.

    ``environment`` may have HTTPS_PROXY and SSL_CERT_FILE. Raises ResolveError, also if several collectors
    would record the same into one store, and UnreachableError if an exchange does not answer.
    """
    found, faults = _shares(collectors, environment)
    taken = {name: share.symbols for name, share in found.items()}
    faults += [f"{each.of}: {each}" for each in overlap.compare(collectors, taken)]
    if faults:
        raise ResolveError("\n".join(faults))
    return [_resolved(spec.name, spec.container.environment, found[spec.name]) for spec in collectors]


def symbols(
    collectors: Iterable[CollectorSpec], environment: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Return each collector's symbols by its name, without collectors that ask for what is not listed.

    Asks each exchange once. Raises UnreachableError if one does not answer.
    """
    found, _ = _shares(collectors, environment)
    return {name: share.symbols for name, share in found.items()}


def _shares(
    collectors: Iterable[CollectorSpec], environment: Mapping[str, str]
) -> tuple[dict[str, Share], list[str]]:
    """Return what each collector would record, by its name, and what is wrong with the others."""
    asked: dict[str, dict[str, CollectorSpec]] = defaultdict(dict)
    for spec in collectors:
        asked[spec.container.environment["EXCHANGE"]][spec.name] = spec
    found: dict[str, Share] = {}
    faults: list[str] = []
    for exchange, specs in asked.items():
        variables = {name: spec.container.environment for name, spec in specs.items()}
        for name, share in shares(exchange, variables, environment).items():
            if isinstance(share, SettingsError):
                faults += [f"{name}: {line}" for line in str(share).splitlines()]
            else:
                found[name] = share
    return found, faults


def _resolved(name: str, variables: Mapping[str, str], share: Share) -> Resolved:
    shard = variables.get("SHARD")
    return Resolved(
        collector=name,
        exchange=variables["EXCHANGE"],
        shard=shard,
        symbols=share.symbols,
        subscriptions=share.subscriptions,
        connections=share.connections,
        warning=_warning(name, shard, share),
    )


def _warning(name: str, shard: str | None, share: Share) -> str | None:
    if share.subscriptions <= MOST_SUBSCRIPTIONS:
        return None
    shards = int(shard.partition("/")[2]) if shard else 1
    enough = ceil(shards * share.subscriptions / MOST_SUBSCRIPTIONS)
    return (
        f"{name}: {share.subscriptions:,} subscriptions (connections: {share.connections}) are many for one "
        f"container, which is fit for about {MOST_SUBSCRIPTIONS:,}: set `shards: {enough}`"
    )


def shortened(symbols: Sequence[str], shown: int = 3) -> str:
    """Return the first few symbols, and how many more there are."""
    rest = len(symbols) - shown
    return ", ".join(symbols[:shown]) + (f" and {rest:,} more" if rest > 0 else "")
