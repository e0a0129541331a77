"""How long to wait before trying again."""

import random

#: Seconds for which something has to stand, until it may be tried again without a pause.
STEADY = 10.0


class Backoff:
    """Pauses that double from ``shortest`` to ``longest`` seconds, each with a random part taken off it.

    The random part keeps many collectors that lost the same exchange from coming back in the same moment.
    """

    def __init__(self, shortest: float = 0.25, longest: float = 30.0) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest

    def pause(self) -> float:
        """Return the next pause, in seconds."""
        pause = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._next = min(self._longest, self._next * 2)
        return pause

    def reset(self) -> None:
        """What was tried works again: the next pause is a short one."""
        self._next = self._shortest


class Paces[Key]:
    """Pauses of things that are done again and again: each has its own; all times are arguments, in seconds.

    What breaks as soon as it is done must not spend what others have to live on.
    """

    def __init__(self, shortest: float = 1.0, longest: float = 60.0) -> None:
        self._shortest, self._longest = shortest, longest
        self._backoffs: dict[Key, Backoff] = {}
        self._due: dict[Key, float] = {}
        self._settled: dict[Key, float] = {}

    def delay(self, key: Key, now: float) -> float:
        """Return how long to wait before it is done (again)."""
        if now - self._settled.pop(key, now) > STEADY:
            self.forget(key)
        return max(0.0, self._due.get(key, now) - now)

    def done(self, key: Key, now: float) -> float:
        """It is done now; return the pause before it may be done again."""
        backoff = self._backoffs.setdefault(key, Backoff(self._shortest, self._longest))
        pause = backoff.pause()
        self._due[key] = now + pause
        return pause

    def settle(self, key: Key, now: float) -> None:
        """It has come out well; if that lasts, there is no pause before the next time."""
        self._settled[key] = now

    def forget(self, key: Key) -> None:
        """Nothing is known of it."""
        for known in (self._backoffs, self._due, self._settled):
            known.pop(key, None)
