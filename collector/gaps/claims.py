"""What a collector claims in its note, and how far it is with each claim; overlap.py has the steps."""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

from collector.records import Key
from collector.stores import notes as codec


class Claims:
    """The claims of one collector, ``name``.

    Attributes:
        held: the subscriptions that are certainly its own.
        moments, choosing: what its note must say, in the form of ``claims`` and ``choosing`` of notes.Note.
    """

    def __init__(self, name: str) -> None:
        self.held: set[Key] = set()
        self.moments: list[codec.Moment] = []
        self.choosing: dict[str, list[str]] = {}
        self._name = name
        self._choosing: set[Key] = set()  # about to be claimed
        self._since: dict[Key, float] = {}  # claimed, with the time since when (seconds, UTC)
        self._ever_held: set[Key] = set()

    def reset(self) -> None:
        """Drop all claims, because others may have taken them over."""
        self._choosing.clear()
        self._since.clear()
        self.held.clear()

    def keep(self, known: AbstractSet[Key]) -> None:
        """Forget all subscriptions except ``known``."""
        self.held &= known
        self._choosing &= known
        self._since = {key: since for key, since in self._since.items() if key in known}

    def give_up(self, keys: Collection[Key]) -> None:
        """Drop the claims on ``keys``, which another collector has."""
        self.held.difference_update(keys)
        self._choosing.difference_update(keys)
        for key in keys:
            self._since.pop(key, None)

    def stands(self, key: Key) -> bool:
        """Return whether the note claims ``key`` and is past choosing it."""
        return key in self._since and key not in self._choosing

    def was_held(self, key: Key) -> bool:
        """Return whether ``key`` was ever held."""
        return key in self._ever_held

    def rivals(self, key: Key, others: Mapping[str, Mapping[Key, float]]) -> set[str]:
        """Return the collectors whose claim on ``key`` precedes ours; all that claim it if we do not yet."""
        mine = self._since[key] if self.stands(key) else None
        return {
            name
            for name, claimed in others.items()
            if key in claimed and (mine is None or (claimed[key], name) < (mine, self._name))
        }

    # -- the steps -----------------------------------------------------------------------------------

    def choose(self, key: Key, since: float | None) -> None:
        """Announce a claim on ``key``; the previous process's claim, from ``since``, remains until then."""
        if since is not None:
            self._since[key] = since
        self._choosing.add(key)
        self.held.discard(key)

    def is_chosen(self, key: Key) -> bool:
        """Return whether ``key`` is about to be claimed."""
        return key in self._choosing

    def claim(self, key: Key, since: float) -> None:
        """Claim ``key`` from ``since`` on, unless it is claimed already."""
        self._choosing.discard(key)
        self._since.setdefault(key, since)

    def hold(self, key: Key, noted: float | None) -> bool:
        """Hold ``key`` if the claim in the store, ``noted``, is ours; return whether it is."""
        if noted is None or noted != self._since.get(key):
            return False
        self.held.add(key)
        self._ever_held.add(key)
        return True

    def write(self, names: Mapping[Key, Key]) -> None:
        """Set ``moments`` and ``choosing``, in which each key has the name that ``names`` gives."""
        self.moments = codec.moments({names[key]: since for key, since in self._since.items()})
        self.choosing = codec.joined(names[key] for key in self._choosing)


def of_ours(names: Mapping[Key, Key], claimed: Mapping[Key, float]) -> dict[Key, float]:
    """Return the claims that concern our subscriptions, whose names in notes are ``names``."""
    return {key: claimed[name] for key, name in names.items() if name in claimed} if claimed else {}


def named_in_notes(keys: Iterable[Key], interval: str) -> dict[Key, Key]:
    """Return the name of each subscription in notes; ``interval`` is that of candles."""
    return {(channel, symbol): (in_notes(channel, interval), symbol) for channel, symbol in keys}


def in_notes(channel: str, interval: str) -> str:
    """Return the name of a channel in notes; ``interval`` is that of candles."""
    return f"{channel} {interval}" if channel == "candles" else channel
