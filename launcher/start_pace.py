"""When collectors on one exchange may start: exchanges limit new connections from one address."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from collector.connection_pace import limit_of


class Pace:
    """Starts at most as many collectors within an exchange's time limit as it allows connections."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[str, list[Future[float]]] = {}  # of the starts, in order

    @contextmanager
    def turn(self, exchange: str) -> Iterator[float]:
        """Enclose a start on ``exchange``; yields the seconds to wait before it, counted from now.

        A start is due when the exchange's time limit has passed since the end of the start that came as many
        turns earlier as the exchange allows connections.
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
