"""The state of the store, and what the log says about it."""

import logging
import time
from dataclasses import dataclass, field

SAY_EVERY = 60.0  # seconds between two log lines about an unavailable store

LOG = logging.getLogger(__name__)


@dataclass
class StoreState:
    """The state of the store: connecting, connected, away or refused; ``since`` is float seconds, UTC."""

    state: str = "connecting"
    since: float = field(default_factory=time.time)
    error: str | None = None
    _said: tuple[float, str | None] = 0.0, None  # when which problem was logged last, by time.monotonic()

    def enter(self, state: str, error: str | None = None) -> None:
        """Record the present state of the store."""
        if state == self.state:
            self._goes_on(error)
            return
        lasted, before = time.time() - self.since, self.error
        self.state, self.since, self.error = state, time.time(), error
        if state == "connected":
            LOG.info("the store is connected%s", f" again after {lasted:.1f} s" if before else "")
        else:
            LOG.error("the store %s: %s", "refuses" if state == "refused" else "is unreachable", error)
            self._said = time.monotonic(), error

    def _goes_on(self, error: str | None) -> None:
        """Stay in the same state: a refusal is logged repeatedly, an absence when its reason changes."""
        when, said = self._said
        refused = self.state == "refused"
        if error and (refused or error != said) and time.monotonic() - when >= SAY_EVERY:
            LOG.error("the store still refuses: %s" if refused else "the store is still away: %s", error)
            self._said = time.monotonic(), error
        self.error = error
