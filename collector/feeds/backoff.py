"""How long to wait before trying again."""

import random


class Backoff:
    """Pauses that double from ``shortest`` to ``longest`` seconds, each with a random part taken off it.

    The random part keeps many collectors that lost the same exchange from coming back in the same moment.
    """

    def __init__(self, shortest: float = 0.25, longest: float = 30.0) -> None:
        self._shortest = shortest
        self._longest = longest
        self._next = shortest

    def pause(self) -> float:
        """The next pause, in seconds."""
        pause = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._next = min(self._longest, self._next * 2)
        return pause

    def reset(self) -> None:
        """What was tried works again: the next pause is a short one."""
        self._next = self._shortest
