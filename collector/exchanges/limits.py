"""How much an exchange takes."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an exchange takes from one address, and from one connection; None is no known limit.

    Attributes:
        subscriptions: on one connection.
        frame_bytes: of one frame that is sent.
        frames_per_second: sent on one connection.
        operations: to subscribe and to unsubscribe, how many on one connection within how many seconds.
        connections: how many may be opened within how many seconds.
        weight: how much REST weight may be spent within how many seconds.
        source: where it is said.
    """

    subscriptions: int | None = None
    frame_bytes: int | None = None
    frames_per_second: float | None = None
    operations: tuple[int, float] | None = None
    connections: tuple[int, float] | None = None
    weight: tuple[int, float] | None = None
    source: str
