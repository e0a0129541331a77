"""A collector's counters: plain numbers, written by the receiver and the writer, read by health."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Metrics:
    """Records by channel since the start; times are float seconds since 1970, UTC."""

    received: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    put_aside: int = 0  # into the dead letters
    last_received: float | None = None
    last_stored: float | None = None
