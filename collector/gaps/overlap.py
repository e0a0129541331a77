"""Two collectors that record the same into the same store are noticed, and one of them leaves it out.

A collector keeps its own records from being stored twice, not those of another one. So its note in the store
(stores/notes.py) *claims* what it subscribes to. It stores nothing of a channel of a symbol before that is
decided, however slowly the store answers (the steps are those of Lamport's bakery, which needs no clock):

1. Read the notes. Where another collector claims the same and is alive, it has it: we leave it out. Where it
   is not clear yet whether it is alive, wait: whoever hands over ends soon. Otherwise note that we are
   *choosing*.
2. Read the notes. Where nobody claims it yet, note our claim, with the time since when.
3. Read the notes. Where another is choosing, wait until it is through. Of two claims the earlier one has it.

What is received meanwhile waits in the spool, so that the wait costs nothing. What is left out is received
and not stored: when the other collector has ended, and the last that it stored cannot be on its way to us any
more, we claim it, and what neither stored is a gap.

Whether a collector is alive tells its position: each commit, also an empty one, is a sign of life by the
store's own clock. The time since when something is claimed orders those that claimed at once, and tells which
records of a spool that waited for its store the other one has: two clocks that differ make a mistake as large
as the difference there.

Notes are read again now and then: a store may forget them, or be set back. Then some may be there twice, and
the log says so.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Protocol

from msgspec import structs

from collector.batch import Batch
from collector.gaps.ceded import Ceded
from collector.gaps.claims import Claims, in_notes, named_in_notes, of_ours
from collector.gaps.liveness import Liveness
from collector.gaps.tracker import Gaps
from collector.records import Key
from collector.settings import Fault, Settings, SettingsError
from collector.stores import Holder
from collector.stores import notes as codec
from collector.stores.notes import Moment, Note

LOG = logging.getLogger(__name__)

STEPS = 3  # looks that it takes to claim what nobody else wants
RECHECK = 60.0  # seconds between two looks at the notes
PROBE = 5.0  # the same, while something is left out
HANDOVER = 30.0  # seconds for which others may store all that there is, before we give up
SKEW = 2.0  # seconds: two collectors receive the same message at most so far apart
NAMED = 10  # subscriptions that a line of the log names


class Subscribed(Protocol):
    """What the feed subscribes to."""

    confirmed: set[Key]
    pending: dict[Key, float]


class Overlap:
    """What of one collector's subscriptions other collectors store.

    Attributes:
        taken: what is left out, with the name of the collector that stores it.
        undecided: what nobody knows yet of whether we may store it; until then nothing is stored.
        waits: whether it is another collector that leaves it undecided.
    """

    def __init__(
        self,
        settings: Settings,
        subscribed: Subscribed,
        gaps: Gaps,
        renew_books: Callable[[Iterable[Key]], None],
        ceded: Ceded,
    ) -> None:
        self.taken: dict[Key, str] = {}
        self.undecided: set[Key] = set()
        self.waits = False
        self._settings, self._subscribed, self._gaps = settings, subscribed, gaps
        self._renew_books, self._ceded = renew_books, ceded
        self._known: AbstractSet[Key] = frozenset()
        self._ours = Claims(settings.name)
        self._others = Liveness()
        self._next = 0.0  # when to look again, by time.monotonic()
        self._nothing_left_since: float | None = None

    @property
    def claims(self) -> list[Moment]:
        """What our note has to say of our claims."""
        return self._ours.moments

    @property
    def choosing(self) -> dict[str, list[str]]:
        """What our note has to say of what we are about to claim."""
        return self._ours.choosing

    @property
    def is_due(self) -> bool:
        """Whether the notes are to be looked at, before anything more is stored."""
        count = len(self._subscribed.confirmed) + len(self._subscribed.pending)
        return count != len(self._known) or (bool(self._known) and time.monotonic() >= self._next)

    @property
    def is_settled(self) -> bool:
        """Whether it is decided of all that is confirmed who stores it."""
        return all(key in self._ours.held or key in self.taken for key in self._subscribed.confirmed)

    def reconnect(self) -> None:
        """Take note that the store was away, or we: others may have taken over what is ours."""
        self._ours.begin_anew()
        self._next = 0.0

    async def look(
        self, notes: Mapping[str, Note], holder: Callable[[str], Awaitable[Holder | None]]
    ) -> None:
        """Take the next step for each of our subscriptions, judging by the notes of all collectors.

        Our own note has to say what ``claims`` and ``choosing`` are then, before the next look. Raises
        SettingsError where others store all that there is.
        """
        self._follow()
        exchange, ours = self._settings.exchange, self._settings.name
        names = named_in_notes(self._known, self._settings.candle_interval)
        of_exchange = {name: note for name, note in notes.items() if note.exchange == exchange}
        claims = {name: of_ours(names, codec.pairs(note.claims)) for name, note in of_exchange.items()}
        choosing = {
            name: {*of_ours(names, dict.fromkeys(codec.apart(note.choosing), 0.0))}
            for name, note in of_exchange.items()
        }
        own, _ = claims.pop(ours, {}), choosing.pop(ours, None)
        alive, doubtful = await self._others.look(
            [name for name in claims if claims[name] or choosing[name]], holder
        )
        claims = {name: claims[name] for name in alive | doubtful}
        about_to_claim = set().union(*(choosing[name] for name in alive | doubtful))
        lost: dict[str, list[Key]] = defaultdict(list)
        self.undecided, self.waits = set(), False
        left = {name: notes[name].until() for name in {*self.taken.values()} if name in notes}
        unclaimed = [key for key in self.taken if not any(key in claimed for claimed in claims.values())]
        just_left = {key for key in unclaimed if self._has_just_left(key, left)}
        for key in self._known:
            rivals = self._ours.rivals(key, claims)
            if rival := min(rivals & alive, default=None):
                lost[rival].append(key)
            elif key not in self._ours.held and (
                rivals or (self._ours.stands(key) and key in about_to_claim)
            ):
                self.undecided.add(key)
                self.waits = True
            elif not rivals and key not in just_left:
                self._claim(key, own.get(key))
        for name, keys in lost.items():
            self._lose(name, keys, claims[name])
        self._wait(doubtful, just_left=bool(just_left))
        self._ours.write(names)
        self._see_that_something_is_left()

    def without(self, batch: Batch) -> Batch:
        """Return the batch without the records that another collector stores."""
        if not self._ceded:
            return batch
        sequences, records = batch.kept
        others = [it for it, record in zip(sequences, records, strict=True) if self._ceded.has(record)]
        return structs.replace(batch, refused=batch.refused.union(others)) if others else batch

    @property
    def reasons(self) -> dict[Key, str]:
        """Why something is left out, by pair."""
        return {key: f"{self._others.called(name)} stores it already" for key, name in self.taken.items()}

    def _follow(self) -> None:
        """Forget what is not subscribed to any more."""
        self._known = frozenset({*self._subscribed.confirmed, *self._subscribed.pending})
        self._ours.keep(self._known)
        for gone in [key for key in self.taken if key not in self._known]:
            del self.taken[gone]
            self._ceded.end(gone, time.time())
            self._gaps.elsewhere.discard(gone)

    def _claim(self, key: Key, noted: float | None) -> None:
        """Take the next step towards what nobody else has; ``noted`` is our claim as the store has it."""
        if self._ours.is_chosen(key):
            now = time.time()
            if key in self.taken:
                LOG.warning("%s has ended: storing %s", self._others.called(self.taken[key]), named([key]))
                self._take_over(key, now)
                self._ours.claim(key, now)
            else:
                self._ours.claim(key, self._gaps.seen_since(key) or now)
        elif self._ours.hold(key, noted):
            return
        else:
            self._ours.choose(key, noted if key not in self.taken else None)
        self.undecided.add(key)

    def _has_just_left(self, key: Key, left: Mapping[str, Mapping[Key, float]]) -> bool:
        """Return whether the last that who had ``key`` has stored of it may still be on its way to us."""
        until = left.get(self.taken[key], {}).get(key)
        return until is not None and abs(time.time() - until) < SKEW  # a clock that is wrong says nothing

    def _take_over(self, key: Key, now: float) -> None:
        del self.taken[key]
        self._ceded.end(key, now)
        self._renew_books([key])
        self._gaps.take_back(key, now if key in self._subscribed.confirmed else None)

    def _lose(self, name: str, keys: list[Key], since: Mapping[Key, float]) -> None:
        new = [key for key in keys if key not in self.taken]
        doubled = [key for key in new if key in self._ours.held]
        self.taken |= dict.fromkeys(keys, name)
        self._ours.give_up(keys)
        for key in new:
            self._cede(key, since[key])
        if new:
            LOG.error("left out, because %s stores it already: %s", self._others.called(name), named(new))
        if doubled:
            LOG.error(
                "this collector stored these too until now, so some records may be stored twice: %s",
                named(doubled),
            )

    def _cede(self, key: Key, since: float) -> None:
        """Leave ``key`` to another collector, which stores what it has received ``since`` then."""
        if self._ours.was_held(key):
            self._ceded.begin(key, since)
            self._gaps.cede(key, since)
            return
        received = self._gaps.seen_since(key)
        self._ceded.begin(key, since - SKEW)  # what we both received just then would be there twice
        self._gaps.cede(key, None)
        if received is not None and received < since:
            self._gaps.report_overlap(key, max(received, since - SKEW), since)

    def _wait(self, doubtful: AbstractSet[str], *, just_left: bool) -> None:
        if self.undecided and doubtful:
            called = ", ".join(map(self._others.called, sorted(doubtful)))
            LOG.info("waiting to see whether %s still stores what this collector subscribes to", called)
        watching = bool(self.undecided or self.taken or doubtful)
        if not watching:
            self._others.begin_anew()
        soon = SKEW if just_left else PROBE
        pause = 0.0 if self.undecided else soon if watching else RECHECK
        self._next = time.monotonic() + pause

    def _see_that_something_is_left(self) -> None:
        if not self._known or self.taken.keys() != self._known:
            self._nothing_left_since = None
            return
        now = time.monotonic()
        self._nothing_left_since = self._nothing_left_since or now
        if now - self._nothing_left_since < HANDOVER:
            return
        names = sorted(set(self.taken.values()))
        who = ", ".join(map(self._others.called, names))
        them = "it" if len(names) == 1 else "them"
        raise SettingsError(
            [
                Fault(
                    "SYMBOLS",
                    ",".join(self._settings.symbols),
                    f"all of it is stored already, into this store, by {who};"
                    f" stop {them}, ask for other symbols or channels here, or set ALLOW_OVERLAP=true to"
                    " store it twice",
                )
            ]
        )


async def holders(
    settings: Settings,
    symbols: Iterable[str],
    notes: Mapping[str, Note],
    holder: Callable[[str], Awaitable[Holder | None]],
) -> dict[str, tuple[str, list[Key]]]:
    """Return which other collectors store what ``settings`` ask for, by name: who each is, and what of it.

    One that has given no sign of life for long, or has stopped, stores nothing.
    """
    channels = {in_notes(channel, settings.candle_interval): channel for channel in settings.channels}
    wanted = {(told, symbol): (channel, symbol) for told, channel in channels.items() for symbol in symbols}
    found = {}
    for name, note in notes.items():
        if name == settings.name or note.exchange != settings.exchange or note.stopped:
            continue
        common = sorted(wanted[key] for key in codec.pairs(note.claims) if key in wanted)
        if common and (held := await holder(name)) and not held.is_gone:
            found[name] = (held.who, common)
    return found


def named(keys: Iterable[Key]) -> str:
    """Return subscriptions for a person to read, the first few of many."""
    names = [f"{channel} {symbol}" for channel, symbol in sorted(keys)]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
