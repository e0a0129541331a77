"""Turns of the starts on an exchange, which counts what comes from one address."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from collector.connection_pace import limit_of


class Pace:
    """No more starts in any of an exchange's times than it takes connections in one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[str, list[Future[float]]] = {}  # of the starts, in the order of their turns

    @contextmanager
    def turn(self, exchange: str) -> Iterator[float]:
        """Encloses a start on ``exchange``; gives the seconds to wait before it, counted from now.

        A start has its turn when the exchange's time has passed since the end of the one that is as many
        turns before as there may be connections.
        """
        limit, end = limit_of(exchange), Future[float]()
        with self._lock:
            ends = self._ends.setdefault(exchange, [])
            before = ends[-limit.count] if len(ends) >= limit.count else None
            ends.append(end)
        try:
            yield max(0.0, before.result() + limit.seconds - time.monotonic()) if before else 0.0
        finally:
            end.set_result(time.monotonic())
