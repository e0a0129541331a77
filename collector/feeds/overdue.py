"""The log says once of each subscription that it stays unconfirmed, or without data."""

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet

from collector.records import Key

LOG = logging.getLogger(__name__)

#: Seconds after which somebody should know that a subscription has not been confirmed.
PATIENCE = 60.0
#: Seconds after which an acknowledged subscription that has brought nothing, which may be normal, is logged.
LONG_SILENCE = 900.0


class Overdue:
    """What the log was told of one exchange's subscriptions."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._since: dict[Key, float] = {}  # acknowledged, by time.time()
        self._told: set[Key] = set()
        self._told_of_silence: set[Key] = set()

    def acknowledged(self, key: Key) -> None:
        """The exchange said yes to ``key``."""
        self._since.setdefault(key, time.time())

    def asked(self, key: Key) -> None:
        """Note that ``key`` is asked for again."""
        self._since.pop(key, None)

    def confirmed(self, key: Key) -> None:
        """Note that ``key`` is confirmed: if that ends, it is logged again."""
        self._told.discard(key)

    def forget(self, key: Key) -> None:
        """Nothing is expected of ``key`` any more."""
        self._since.pop(key, None)
        self._told.discard(key)
        self._told_of_silence.discard(key)

    def tell_what_is_pending(
        self, pending: Mapping[Key, float], acknowledged: AbstractSet[Key], notice: str
    ) -> None:
        """Tell what has been pending for too long; ``notice`` is what the exchange said last."""
        late = time.time() - self.patience
        overdue = {key for key, since in pending.items() if since < late} - self._told
        self._told |= overdue
        said = f"; the exchange says: {notice}" if notice else ""
        for keys, what in (
            (overdue & acknowledged, "acknowledged, but no data has come"),
            (overdue - acknowledged, "not confirmed"),
        ):
            if keys:
                waiting = f"{what} within {self.patience:.0f} s; still waiting"
                LOG.warning("%s: %s%s", waiting, _named(keys), said)

    def tell_what_is_silent(self, silent: Collection[Key]) -> None:
        """Tell of what has brought nothing for too long, though it is confirmed."""
        late = time.time() - LONG_SILENCE
        overdue = {key for key in silent if self._since.get(key, late) < late} - self._told_of_silence
        self._told_of_silence |= overdue
        if overdue:
            minutes = LONG_SILENCE / 60
            LOG.warning("acknowledged, and no data in %.0f minutes: %s", minutes, _named(overdue))


def _named(keys: Iterable[Key]) -> str:
    return ", ".join(f"{channel} {symbol}" for channel, symbol in sorted(keys))
