"""What broke on a connection is subscribed to again: not too often, and it has to begin.

Who breaks again as soon as it stands waits longer each time, at most a minute; and some exchanges count how
often is subscribed within an hour.
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

#: Seconds within which a subscription that is made again has to bring something.
RENEWAL = 60.0
#: Of the operations that an exchange allows: first subscriptions, and those after a refusal, are some too.
_SHARE = 0.8


class Renewals:
    """The subscriptions of one connection that are being made again.

    Args:
        name: of the connection, for the log.
        limits: the exchange's.
        send: sends a frame at its turn.
        paces: of what was subscribed to again, on an earlier websocket too.
    """

    def __init__(
        self, name: str, limits: Limits, send: Callable[[str], None], paces: Paces[Key] | None = None
    ) -> None:
        self._name, self._limits, self._send = name, limits, send
        self._paces: Paces[Key] = paces or Paces()
        self._since: dict[Key, float] = {}  # what has to begin, by time.monotonic()
        self._turns: dict[Key, asyncio.TimerHandle] = {}
        self._operations = self._budget()

    def begin(self, opening: int) -> None:
        """A connection begins, with so many frames that subscribe."""
        self._operations.spend(opening, time.monotonic())

    def end(self) -> None:
        """The connection has ended."""
        self.forget([*self._turns])

    def broke(self, key: Key) -> None:
        """``key`` has to begin again: by what the exchange sends unasked, or by ``renew``."""
        self._since.setdefault(key, time.monotonic())

    def renew(self, keys: Sequence[Key], frames: Sequence[str]) -> None:
        """Send the frames that subscribe to ``keys`` again, together, when they have their turn.

        They replace those of the same first key that still wait for theirs.
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
        LOG.warning("%s: %s %s breaks again and again: subscribed to in %.1f s", self._name, *key, delay)
        loop = asyncio.get_running_loop()
        self._turns[key] = loop.call_later(delay, self._subscribe, key, frames)

    @property
    def waiting(self) -> str | None:
        """What breaks again and again and waits for its turn, in words; None where nothing does."""
        if not self._turns:
            return None
        named = ", ".join(" ".join(key) for key in sorted(self._turns))
        return f"breaks again and again, and waits to be subscribed to: {named}"

    def asked(self, key: Key) -> None:
        """A request for ``key`` is under way, and repeated until it is answered."""
        self._since.pop(key, None)

    def settle(self, key: Key) -> None:
        """``key`` has begun again."""
        self._since.pop(key, None)
        self._paces.settle(key, time.monotonic())

    def forget(self, keys: Iterable[Key]) -> None:
        """These are not wanted any more."""
        for key in keys:
            self._since.pop(key, None)
            if turn := self._turns.pop(key, None):
                turn.cancel()

    def check(self, refused: Collection[Key], *, sending: bool) -> None:
        """Raise SilentError where an exchange does not answer to a subscription that is made again.

        Args:
            refused: what the exchange answered to with a refusal.
            sending: whether frames wait to be sent: what asks for it may be one of them.
        """
        now = time.monotonic()
        if sending:
            self._since = {key: max(since, now) for key, since in self._since.items()}
        for (channel, symbol), since in self._since.items():
            if now - since > RENEWAL and (channel, symbol) not in refused:
                raise SilentError(f"{channel} {symbol} did not begin again within {RENEWAL:.0f} s")

    def _subscribe(self, key: Key, frames: Sequence[str]) -> None:
        self._turns.pop(key, None)
        for frame in frames:
            self._send(frame)

    def _budget(self) -> Budget:
        count, seconds = self._limits.operations or (float("inf"), 1.0)
        return Budget(count * _SHARE, seconds)
