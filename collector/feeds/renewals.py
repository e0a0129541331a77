"""Resubscribing to what broke on a connection: not too often, and data has to arrive.

A subscription that keeps breaking waits longer each time, at most a minute; some exchanges also limit the
number of subscriptions within an hour.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence

from collector.exchanges.limits import Limits
from collector.feeds.backoff import Paces
from collector.feeds.connection import SilentError
from collector.feeds.rest import Budget
from collector.records import Key

LOG = logging.getLogger(__name__)

#: Seconds within which data has to arrive after resubscribing.
RENEWAL = 60.0
#: Share of the operations that an exchange allows; first subscriptions, and those after a refusal, need the
#: rest.
_SHARE = 0.8


class Renewals:
    """The subscriptions of one connection that are being renewed.

    Args:
        name: of the connection, for the log.
        limits: the exchange's.
        send: sends a frame at its turn.
        paces: the pace of each renewed subscription, from earlier websockets too.
    """

    def __init__(
        self, name: str, limits: Limits, send: Callable[[str], None], paces: Paces[Key] | None = None
    ) -> None:
        self._name, self._limits, self._send = name, limits, send
        self._paces: Paces[Key] = paces or Paces()
        self._since: dict[Key, float] = {}  # since when data is due, by time.monotonic()
        self._turns: dict[Key, asyncio.TimerHandle] = {}
        self._operations = self._budget()

    def begin(self, opening: int) -> None:
        """Begin a connection, with ``opening`` frames that subscribe."""
        self._operations.spend(opening, time.monotonic())

    def end(self) -> None:
        """End the connection: drop what waits for its turn."""
        self.forget([*self._turns])

    def broke(self, key: Key) -> None:
        """Expect data of ``key``, which broke: the exchange sends it unasked, or ``renew`` asks for it."""
        self._since.setdefault(key, time.monotonic())

    def renew(self, keys: Sequence[Key], frames: Sequence[str]) -> None:
        """Send the frames that resubscribe to ``keys``, together, when it is their turn.

        They replace frames of the same first key that are still waiting.
        """
        key, now = keys[0], time.monotonic()
        if turn := self._turns.pop(key, None):
            turn.cancel()
        delay = max(self._paces.delay(key, now), self._operations.delay(len(frames), now))
        self._operations.spend(len(frames), now + delay)
        self._paces.done(key, now + delay)
        self._since |= dict.fromkeys(keys, now + delay)
        if not delay:
            self._subscribe(key, frames)
            return
        LOG.warning("%s: %s %s keeps breaking; resubscribing in %.1f s", self._name, *key, delay)
        loop = asyncio.get_running_loop()
        self._turns[key] = loop.call_later(delay, self._subscribe, key, frames)

    @property
    def waiting(self) -> str | None:
        """What keeps breaking and waits for its turn, in words; None if nothing does."""
        if not self._turns:
            return None
        named = ", ".join(" ".join(key) for key in sorted(self._turns))
        return f"keeps breaking and is waiting to be resubscribed: {named}"

    def asked(self, key: Key) -> None:
        """Note that a request for ``key`` is under way; it is repeated until it is answered."""
        self._since.pop(key, None)

    def settle(self, key: Key) -> None:
        """Note that data of ``key`` has arrived."""
        self._since.pop(key, None)
        self._paces.settle(key, time.monotonic())

    def forget(self, keys: Iterable[Key]) -> None:
        """Forget subscriptions that are no longer wanted."""
        for key in keys:
            self._since.pop(key, None)
            if turn := self._turns.pop(key, None):
                turn.cancel()

    def check(self, refused: Collection[Key], *, sending: bool) -> None:
        """Raise SilentError if an exchange does not answer a renewed subscription.

        Args:
            refused: subscriptions that the exchange has refused.
            sending: whether frames are waiting to be sent, which may be the ones that ask for it.
        """
        now = time.monotonic()
        if sending:
            self._since = {key: max(since, now) for key, since in self._since.items()}
        for (channel, symbol), since in self._since.items():
            if now - since > RENEWAL and (channel, symbol) not in refused:
                raise SilentError(f"{channel} {symbol}: no data within {RENEWAL:.0f} s of resubscribing")

    def _subscribe(self, key: Key, frames: Sequence[str]) -> None:
        self._turns.pop(key, None)
        for frame in frames:
            self._send(frame)

    def _budget(self) -> Budget:
        count, seconds = self._limits.operations or (float("inf"), 1.0)
        return Budget(count * _SHARE, seconds)
