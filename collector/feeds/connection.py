"""Our supervised loop over one connection to an exchange, native or through cryptofeed.

It never gives up, never hurries, and never falls silent: pauses are capped and random, also after a clean
close; a connection that says nothing is replaced; a message that cannot be handled costs itself alone, unless
a book may be wrong because of it; and every interval in which the exchange was not seen is reported.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from collector.feeds.backoff import Backoff
from collector.feeds.http import retry_after
from collector.feeds.malformed import describe
from collector.feeds.subscriptions import Subscriptions
from collector.gap_records import Reason
from collector.records import Key

LOG = logging.getLogger(__name__)

#: Seconds without a message that cannot be handled, after which they have ceased.
CEASED = 1.0


class ClosedError(Exception):
    """The exchange closed the connection in good order, or is about to."""


class SilentError(Exception):
    """The connection is open, and nothing comes."""


class EmptyError(Exception):
    """There is nothing left that the connection carries."""


class SuspectBookError(Exception):
    """A message that may have been about a book could not be handled."""


@dataclass(frozen=True)
class Patience:
    """How long we wait for what, in seconds.

    Attributes:
        subscribing: for authentication and subscription requests to be sent.
        silence: without a message; None for what suits the exchange.
        useful: after which a connection counts as good, so that the next pause is a short one.
        shortest_pause, longest_pause: between two attempts to connect.
    """

    subscribing: float = 120.0
    silence: float | None = None
    useful: float = 10.0
    shortest_pause: float = 0.25
    longest_pause: float = 30.0


class Connection(ABC):
    """One connection and everything that it takes to keep it up.

    Attributes:
        id: its name.
        state: connecting, open, or waiting (to connect again); ``since`` when (seconds, UTC).
        error: what ended it last, until it is open again.
        keys: the subscriptions that it carries.
        left_out: those that it carried until the exchange listed them no more.
        handled: receipt (seconds, UTC) of the last message on it that is done with; None before the first.
    """

    handled: float | None

    def __init__(
        self, name: str, keys: Iterable[Key], subscriptions: Subscriptions, patience: Patience
    ) -> None:
        self.id = name
        self.keys = list(keys)
        self.left_out: set[Key] = set()
        self.state = "connecting"
        self.since = time.time()
        self.error: str | None = None
        self._begun = time.time()
        self._turn = 0.0
        self._unlisted: AbstractSet[str] = frozenset()
        self._subscriptions = subscriptions
        self._patience = patience
        self._backoff = Backoff(patience.shortest_pause, patience.longest_pause)

    @abstractmethod
    async def _session(self) -> None:
        """Open the connection and receive until it ends, which always is an exception."""

    @abstractmethod
    def _report_loss(self, reason: Reason) -> None:
        """Tell the subscriptions that the connection is gone, and until when they were seen."""

    def _forget(self, gone: Iterable[Key]) -> None:  # noqa: B027 - most have nothing to forget
        """Ask no more for ``gone`` at the next start."""

    async def close(self) -> None:  # noqa: B027 - of most nothing does
        """Close what outlives the connection."""

    def renew_books(self, symbols: AbstractSet[str]) -> None:  # noqa: B027 - it may have no books
        """Have a complete book follow the next change of each symbol."""

    def look(self, unlisted: AbstractSet[str]) -> None:
        """Take note that the exchange does not list these symbols now.

        What it still sends of them is taken. A subscription that does not stand any more is left out: now, or
        when it falls with the connection.
        """
        self._unlisted = unlisted
        confirmed = self._subscriptions.confirmed
        self._leave_out([key for key in self.keys if key not in confirmed])

    def _leave_out(self, keys: Iterable[Key]) -> None:
        gone = [key for key in keys if key[1] in self._unlisted]
        if gone:
            LOG.error("%s: no longer listed, and left out: %s", self.id, _named(gone))
            self.keys = [key for key in self.keys if key not in gone]
            self.left_out.update(gone)
            self._forget(gone)
            self._subscriptions.drop(gone)

    async def run(self, delay: float = 0.0) -> None:
        """Keep the connection up while it has something to carry; begin after ``delay`` seconds."""
        self._turn = delay
        await asyncio.sleep(delay)
        while self.keys:
            opened = time.monotonic()
            try:
                await self._session()
            except EmptyError:
                LOG.info("%s: closed: no subscriptions are left", self.id)
            except Exception as error:  # noqa: BLE001 - whatever it was, the answer is to connect again
                await self._lost(error, useful=time.monotonic() - opened >= self._patience.useful)

    async def _lost(self, error: Exception, *, useful: bool) -> None:
        if useful:
            self._backoff.reset()
        pause = max(self._backoff.pause(), retry_after(error))
        was_open = self.state == "open"
        self._enter("waiting", describe(error))
        LOG.warning(
            "%s: %s: %s; again in %.1f s",
            self.id,
            "connection lost" if was_open else "cannot connect",
            self.error,
            pause,
        )
        self._report_loss(self._reason(error))
        await asyncio.sleep(pause)
        self._leave_out(self.keys)

    def _reason(self, error: Exception) -> Reason:
        """Return what a gap is recorded with that begins with ``error``."""
        if isinstance(error, SilentError):
            return "stale"
        return "malformed" if isinstance(error, SuspectBookError) else "disconnect"

    def _reason_of(self, key: Key, reason: Reason) -> Reason:
        return "delisted" if key[1] in self._unlisted else reason

    def _enter(self, state: str, error: str | None = None) -> None:
        self.state, self.since, self.error = state, time.time(), error


async def first_failure(*works: Any) -> None:
    """Run all; when the first has ended, end the others and raise what it raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _named(keys: Iterable[Key]) -> str:
    return ", ".join(f"{channel} {symbol}" for channel, symbol in keys)
