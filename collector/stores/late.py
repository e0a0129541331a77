"""Refusals whose commit took place while its answer was lost."""

from collections.abc import Sequence

from collector.stores import Position, Refusal


class LateRefusals:
    """Keeps what a commit would have answered, until the position tells whether it took place."""

    def __init__(self) -> None:
        self._pending: tuple[Position, Sequence[Refusal]] | None = None
        self._known: list[Refusal] = []

    def expect(self, after: Position, refusals: Sequence[Refusal]) -> None:
        """Before the step that moves the position to ``after``."""
        self._pending = after, refusals

    def look(self, position: Position | None) -> None:
        """The position was read again."""
        if self._pending and self._pending[0] == position:
            self._known += self._pending[1]
        self._pending = None

    def tell(self) -> list[Refusal]:
        """The position has moved: what is to be answered."""
        self.look(self._pending and self._pending[0])
        known, self._known = self._known, []
        return known
