"""KRAKEN's books: what both versions of its protocol have in common.

"book guide" is https://docs.kraken.com/api/docs/guides/spot-ws-book-v1, "book" the page of the channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from collector.simulator.market import Level

DEPTHS = (10, 25, 100, 500, 1000)  # "book"
CHECKED_LEVELS = 10  # "book guide"


class View:
    """The best levels of one side as a client with a limited depth has them."""

    def __init__(self, levels: Iterable[Level]) -> None:
        self._levels = dict(levels)

    def changes(self, levels: Iterable[Level], changed: Iterable[Level], zero: str) -> list[tuple[str, ...]]:
        """Return what to tell the client, now that these are the best levels and those have changed.

        "book guide": what falls out of the depth is not mentioned, the client drops it; what comes into it
        because something better went is published again, marked "r" ("book", republish).
        """
        before, self._levels = self._levels, dict(levels)
        moved = dict(changed)
        gone = [(price, zero) for price, size in moved.items() if size == zero and price in before]
        new = [
            (price, size) if price in moved else (price, size, "r")
            for price, size in self._levels.items()
            if before.get(price) != size
        ]
        return [*gone, *new]
