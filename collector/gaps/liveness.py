"""Whether other collectors are alive, judging by their signs of life in the store."""

import time
from collections.abc import Awaitable, Callable, Iterable

from collector.stores import GONE, Holder


class Liveness:
    """The signs of life seen of other collectors."""

    def __init__(self) -> None:
        #: The first one seen, the last one seen, and when that was noticed, by time.monotonic().
        self._signs: dict[str, tuple[float, float, float]] = {}
        self._who: dict[str, str] = {}

    async def look(
        self, names: Iterable[str], holder: Callable[[str], Awaitable[Holder | None]]
    ) -> tuple[set[str], set[str]]:
        """Return who gave a sign of life since the first look, and who may still give one."""
        alive: set[str] = set()
        doubtful: set[str] = set()
        for name in names:
            found = await holder(name)
            if found is None or found.is_gone:
                self._signs.pop(name, None)
                continue
            self._who[name] = found.who
            now = time.monotonic()
            sign = now - found.idle
            first, last, noticed = self._signs.get(name, (sign, sign, now))
            if abs(sign - last) > 0.5:
                last, noticed = sign, now
            self._signs[name] = first, last, noticed
            if now - noticed < GONE:  # else it is in the future: the store's clock was set back
                (alive if sign > first + 0.5 else doubtful).add(name)
        return alive, doubtful

    def reset(self) -> None:
        """Forget all signs of life seen so far."""
        self._signs.clear()

    def called(self, name: str) -> str:
        """Return a description of a collector for messages."""
        who = self._who.get(name)
        return f"collector {name}" + (f" ({who})" if who else "")
