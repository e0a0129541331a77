"""Whether other collectors are alive, judging by their signs of life in the store."""

import time
from collections.abc import Awaitable, Callable, Iterable

from collector.stores import Holder


class Liveness:
    """The signs of life seen of other collectors."""

    def __init__(self) -> None:
        self._signs: dict[str, float] = {}  # the first one seen, by time.monotonic()
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
            sign = time.monotonic() - found.idle
            is_newer = sign > self._signs.setdefault(name, sign) + 0.5
            (alive if is_newer else doubtful).add(name)
        return alive, doubtful

    def reset(self) -> None:
        """Forget all signs of life seen so far."""
        self._signs.clear()

    def called(self, name: str) -> str:
        """Return a description of a collector for messages."""
        who = self._who.get(name)
        return f"collector {name}" + (f" ({who})" if who else "")
