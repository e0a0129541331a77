"""The limits of an exchange."""

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an exchange accepts from one address and on one connection; None means no known limit.

    Attributes:
        subscriptions: on one connection.
        frame_bytes: of one frame that is sent.
        frames_per_second: sent on one connection.
        operations: how many to subscribe or unsubscribe on one connection, and within how many seconds.
        connections: how many may be opened, and within how many seconds.
        weight: how much REST weight may be spent, and within how many seconds.
        weight_with: the ids of exchanges that it is shared with.
        source: where this is documented.
    """

    subscriptions: int | None = None
    frame_bytes: int | None = None
    frames_per_second: float | None = None
    operations: tuple[int, float] | None = None
    connections: tuple[int, float] | None = None
    weight: tuple[int, float] | None = None
    weight_with: tuple[str, ...] = ()
    source: str

    def __str__(self) -> str:
        told = (
            (self.subscriptions, "subscriptions on a connection"),
            (self.frame_bytes, "bytes in a message"),
        )
        spans = (
            (self.operations, "operations to subscribe"),
            (self.connections, "connections"),
            (self.weight, "REST weight"),
        )
        parts = [f"{number:,} {what}" for number, what in told if number is not None]
        if self.frames_per_second is not None:
            parts.append(f"{self.frames_per_second:g} messages a second")
        parts += [f"{span[0]:,} {what} in {span[1]:g} s" for span, what in spans if span is not None]
        shared = f", shared with {', '.join(self.weight_with)}" if self.weight_with else ""
        return ", ".join(parts) + shared
