"""Decides which of two collectors stores what both record into one store; the other leaves it out.

Positions keep a collector from storing its own records twice, but not those of another collector. So its
note in the store (stores/notes.py) *claims* what it subscribes to. It stores nothing of a channel of a
symbol until the claim is decided, however slowly the store answers (the steps are those of Lamport's bakery
algorithm, which needs no clock):

1. Read the notes. If another collector claims the same and is alive, it keeps it: we leave it out. If it is
   not clear yet whether it is alive, wait: a collector that hands over ends soon. Otherwise note that we are
   *choosing*.
2. Read the notes. If no one claims it yet, note our claim, with the time since when.
3. Read the notes. If another is choosing, wait until it is done. Of two claims the earlier one wins.

What is received meanwhile waits in the spool, so waiting loses nothing. What is left out is received but not
stored. Once the other collector has ended, and the last message that it stored can no longer be on its way to
us, we claim it, and what neither stored is a gap.

A collector's position shows whether it is alive: each commit, even an empty one, is a sign of life by the
store's own clock. The time of a claim orders simultaneous claims, and tells which records of a spool that
waited for its store the other collector has; if the two clocks differ, that is wrong by the difference.

Notes are re-read periodically, because a store may forget them or be set back. Then some records may be
stored twice, and the log says so.
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
from collector.times import SECOND

LOG = logging.getLogger(__name__)

STEPS = 3  # looks needed to claim what no other collector claims
RECHECK = 60.0  # seconds between looks at the notes
PROBE = 5.0  # the same, while something is left out
HANDOVER = 30.0  # seconds for which others may store everything before we give up
SKEW = 2.0  # seconds: the most between two collectors' receipts of the same message
NAMED = 10  # subscriptions that a log line names


class Subscribed(Protocol):
    """What the feed subscribes to."""

    confirmed: set[Key]
    pending: dict[Key, float]


class Overlap:
    """Which of one collector's subscriptions other collectors store.

    Attributes:
        taken: the subscriptions left out, with the name of the collector that stores each.
        undecided: the subscriptions that we may or may not store; until that is decided, nothing is stored.
        waits: whether we are waiting for another collector to decide them.
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
        """The claims that our note must contain."""
        return self._ours.moments

    @property
    def choosing(self) -> dict[str, list[str]]:
        """What our note must say that we are about to claim."""
        return self._ours.choosing

    @property
    def is_due(self) -> bool:
        """Whether the notes must be looked at before anything more is stored."""
        count = len(self._subscribed.confirmed) + len(self._subscribed.pending)
        return count != len(self._known) or (bool(self._known) and time.monotonic() >= self._next)

    @property
    def is_settled(self) -> bool:
        """Whether it is decided for every confirmed subscription who stores it."""
        return all(key in self._ours.held or key in self.taken for key in self._subscribed.confirmed)

    def reconnect(self) -> None:
        """Drop our claims: the store or we were unavailable, so others may have taken over."""
        self._ours.reset()
        self._next = 0.0

    async def look(
        self, notes: Mapping[str, Note], holder: Callable[[str], Awaitable[Holder | None]]
    ) -> None:
        """Take the next step for each of our subscriptions, judging by the notes of all collectors.

        Before the next look, our own note must contain the new ``claims`` and ``choosing``. Raises
        SettingsError if others store everything for longer than HANDOVER.
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
        if not self._ceded or not batch.records:
            return batch
        self._ceded.reach(min(record.receipt_timestamp for record in batch.records) / SECOND)
        sequences, records = batch.kept
        others = [it for it, record in zip(sequences, records, strict=True) if self._ceded.has(record)]
        return structs.replace(batch, refused=batch.refused.union(others)) if others else batch

    @property
    def reasons(self) -> dict[Key, str]:
        """Why each pair is left out."""
        return {key: f"{self._others.called(name)} stores it already" for key, name in self.taken.items()}

    def _follow(self) -> None:
        """Forget what is no longer subscribed to."""
        self._known = frozenset({*self._subscribed.confirmed, *self._subscribed.pending})
        self._ours.keep(self._known)
        for gone in [key for key in self.taken if key not in self._known]:
            del self.taken[gone]
            self._ceded.end(gone, time.time())
            self._gaps.elsewhere.discard(gone)

    def _claim(self, key: Key, noted: float | None) -> None:
        """Take the next step to claim ``key``, which no other has; ``noted`` is our claim in the store."""
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
        """Return whether the last message that the previous holder stored may still be on its way to us."""
        until = left.get(self.taken[key], {}).get(key)
        return until is not None and abs(time.time() - until) < SKEW  # do not wait for a wrong clock

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
        """Leave ``key`` to another collector, which stores what it received from ``since`` on."""
        if self._ours.was_held(key):
            self._ceded.begin(key, since)
            self._gaps.cede(key, since)
            return
        received = self._gaps.seen_since(key)
        self._ceded.begin(key, since - SKEW)  # messages that both received around then would be stored twice
        self._gaps.cede(key, None)
        if received is not None and received < since:
            self._gaps.report_overlap(key, max(received, since - SKEW), since)

    def _wait(self, doubtful: AbstractSet[str], *, just_left: bool) -> None:
        if self.undecided and doubtful:
            called = ", ".join(map(self._others.called, sorted(doubtful)))
            LOG.info("waiting to see whether %s still stores what this collector subscribes to", called)
        watching = bool(self.undecided or self.taken or doubtful)
        if not watching:
            self._others.reset()
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
    """Return which other collectors store what ``settings`` ask for: by name, who each is and what it stores.

    A collector that has stopped, or shown no sign of life for GONE seconds, stores nothing.
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
    """Return a description of subscriptions for messages: the first NAMED, and how many more."""
    names = [f"{channel} {symbol}" for channel, symbol in sorted(keys)]
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
