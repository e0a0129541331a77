"""What the requests of a connection asked for: their answers may name nothing but the request."""

from collections.abc import Iterable

#: The most requests that are remembered. An answer comes within seconds, but not every exchange answers each
#: request, and a connection may renew its books for weeks.
REMEMBERED = 1000


class Asked[T]:
    """What the last requests asked for, by their numbers."""

    def __init__(self) -> None:
        self._asked: dict[str, tuple[T, ...]] = {}

    def put(self, number: int, what: Iterable[T]) -> None:
        """Remember a request; the oldest may be forgotten."""
        self._asked[str(number)] = tuple(what)
        if len(self._asked) > REMEMBERED:
            del self._asked[next(iter(self._asked))]

    def of(self, number: int | str | None) -> tuple[T, ...]:
        """Return what a request asked for; nothing if it is not known."""
        return self._asked.get(str(number), ())

    def pop(self, number: int | str | None) -> tuple[T, ...]:
        """Return what a request asked for, and forget it."""
        return self._asked.pop(str(number), ())
