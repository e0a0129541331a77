"""Notes: how the collectors that share a store inform each other, one JSON text for each collector.

A note says what its collector has seen and stored (gaps/continuity.py), and what it subscribes to
(gaps/overlap.py). Fields may be added: a collector ignores those that it does not know, and does without
those that an older one does not write.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from collector import typed_json
from collector.records import Key

LOG = logging.getLogger(__name__)

#: The most channels of symbols that a note may name; a collector of 20,000 symbols has a few times as many.
MOST_PAIRS = 1_000_000

#: A time (seconds, UTC), with the channels and symbols that it is about; channels with the same symbols are
#: grouped, joined by commas.
type Moment = tuple[float, dict[str, list[str]]]


class Note(msgspec.Struct, frozen=True):
    """What one collector has seen and stored, and what it stores.

    Attributes:
        exchange: cryptofeed's id. It must remain the first field: see ``beginning``.
        stopped: whether this is the last note before a clean stop.
        good_for: seconds after which, without another note, its collector counts as dead.
        seen: moments, each with the channels and symbols that were seen until then.
        left: the same for those that its collector no longer records.
        claims: moments since which the collector stores channels and symbols; candles are named with their
            interval: ``candles 1m``.
        choosing: channels, as in a moment, and symbols that the collector is about to claim.
        begun: moments, in whole seconds, since which the collector records channels and symbols, including
            those that it has left; a pair that an earlier version of the collector began with is not in it.
    """

    exchange: str
    stopped: bool
    good_for: float
    seen: list[Moment]
    left: list[Moment] = []
    claims: list[Moment] = []
    choosing: dict[str, list[str]] = {}
    begun: list[Moment] = []

    def until(self) -> dict[Key, float]:
        """Return until when each pair was seen (seconds, UTC)."""
        return pairs(self.seen) | pairs(self.left)


def moments(times: Mapping[Key, float]) -> list[Moment]:
    """Group the pairs by their times; channels with the same symbols share one list of symbols."""
    together: dict[float, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (channel, symbol), moment in times.items():
        together[moment][channel].append(symbol)
    return [(moment, _joined(channels)) for moment, channels in together.items()]


def joined(keys: Iterable[Key]) -> dict[str, list[str]]:
    """Group the pairs as in a moment."""
    channels: dict[str, list[str]] = defaultdict(list)
    for channel, symbol in keys:
        channels[channel].append(symbol)
    return _joined(channels)


def _joined(channels: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for channel, symbols in channels.items():
        alike[tuple(sorted(symbols))].append(channel)
    return {",".join(names): [*symbols] for symbols, names in alike.items()}


def pairs(grouped: Iterable[Moment]) -> dict[Key, float]:
    """Return the time of each pair: the inverse of ``moments``."""
    return {key: moment for moment, channels in grouped for key in apart(channels)}


def apart(channels: Mapping[str, Iterable[str]]) -> Iterator[Key]:
    """Yield the grouped pairs: the inverse of ``joined``."""
    for names, symbols in channels.items():
        for channel in names.split(","):
            for symbol in symbols:
                yield channel, symbol


def encode(note: Note) -> str:
    """Return the note as JSON."""
    return msgspec.json.encode(note).decode()


#: How every undamaged note begins; the exchange and ``",`` follow.
BEGINNING = '{"exchange":"'


def beginning(exchange: str) -> str:
    """Return how the notes of an exchange begin, so that a store can select them without parsing them."""
    return f'{BEGINNING}{exchange}",'


def of_exchange(exchange: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the notes of an exchange and the damaged ones, which cause a warning."""
    ours = beginning(exchange)
    return {
        name: text for name, text in texts.items() if text.startswith(ours) or not text.startswith(BEGINNING)
    }


def read(text: str) -> Note:
    """Read a note. Raises typed_json.DecodeError, also if it names more than MOST_PAIRS."""
    note = typed_json.decode(text, Note)
    grouped = [
        channels for moments in (note.seen, note.left, note.claims, note.begun) for _, channels in moments
    ]
    named = sum(
        (names.count(",") + 1) * len(symbols)
        for channels in (*grouped, note.choosing)
        for names, symbols in channels.items()
    )
    if named > MOST_PAIRS:
        raise typed_json.DecodeError(
            f"it names {named:,} channels of symbols; at most {MOST_PAIRS:,} are read"
        )
    return note


def decode(name: str, text: str) -> Note:
    """Read the note of collector ``name``; if it is damaged, log that and return a blank one."""
    try:
        return read(text)
    except typed_json.DecodeError as error:
        LOG.warning("the note of collector %s in the store is damaged and ignored: %s", name, error)
        return blank()


def blank(exchange: str = "") -> Note:
    """Return a note without content."""
    return Note(exchange=exchange, stopped=True, good_for=0.0, seen=[])
