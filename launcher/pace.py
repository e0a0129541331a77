"""Turns of the starts on an exchange, which counts what comes from one address."""

import threading
import time
from collections import Counter

from collector.pace import limit_of


class Pace:
    """As many starts at once as the exchange takes connections, then as many more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: dict[str, float] = {}
        self._started: Counter[str] = Counter()

    def turn(self, exchange: str) -> float:
        """Seconds until the next start on ``exchange`` has its turn."""
        limit = limit_of(exchange)
        with self._lock:
            begun = self._begun.setdefault(exchange, time.monotonic())
            number = self._started[exchange]
            self._started[exchange] += 1
        return max(0.0, begun + number // limit.count * limit.seconds - time.monotonic())
