"""What can be asked for: the exchanges, their public channels and candle intervals.

The table lies beside this module as JSON, made from cryptofeed and our corrections to it
(``python -m collector.catalog`` writes it anew), so that the launcher and every error message
can use it without importing cryptofeed, which takes a second. A test fails when it is out of date.
"""

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import msgspec

#: The channels that carry public data, in cryptofeed's spelling. The others need an account.
CHANNELS = (
    "trades",
    "ticker",
    "l1_book",
    "l2_book",
    "l3_book",
    "funding",
    "open_interest",
    "liquidations",
    "index",
    "candles",
)

_LONGEST_COMPARED = 100

TABLE = Path(__file__).with_name("exchanges.json")


class Exchange(msgspec.Struct, frozen=True):
    """One exchange: the public channels it offers and its candle intervals."""

    channels: tuple[str, ...]
    candle_intervals: tuple[str, ...] = ()


@cache
def exchanges() -> Mapping[str, Exchange]:
    """All exchanges by cryptofeed's id."""
    return msgspec.json.decode(TABLE.read_bytes(), type=dict[str, Exchange])


def canonical_channel(text: str) -> str:
    """The channel that a user's spelling means: any case, and ``l2book`` for ``l2_book``."""
    lowered = text.lower()
    return {channel.replace("_", ""): channel for channel in CHANNELS}.get(lowered, lowered)


def nearest(text: str, possible: Iterable[str], count: int = 1) -> list[str]:
    """The ``count`` values of ``possible`` that look most like ``text``; none if nothing is near.

    Nothing is near a long text: to compare two of them takes the product of their lengths.
    """
    if len(text) > _LONGEST_COMPARED:
        return []
    folded = {value.casefold(): value for value in possible if len(value) <= _LONGEST_COMPARED}
    return [folded[match] for match in difflib.get_close_matches(text.casefold(), folded, count, cutoff=0.6)]


def from_cryptofeed() -> dict[str, Exchange]:
    """Return the table: the exchanges that we speak to ourselves, and those of the installed cryptofeed."""
    from cryptofeed.exchanges import EXCHANGE_MAP  # noqa: PLC0415 - takes a second; only needed here

    from collector.exchanges.directory import EXCHANGES  # noqa: PLC0415 - only needed here

    table = {}
    for name, feed in sorted(EXCHANGE_MAP.items()):
        ours = EXCHANGES.get(name)
        offered = set(ours.channels if ours else feed.websocket_channels)
        offered_intervals = ours.candle_intervals if ours else feed.valid_candle_intervals
        intervals = offered_intervals if "candles" in offered else ()
        table[name] = Exchange(
            channels=tuple(channel for channel in CHANNELS if channel in offered),
            candle_intervals=tuple(sorted(intervals)) if intervals is not NotImplemented else (),
        )
    return table


if __name__ == "__main__":
    TABLE.write_bytes(msgspec.json.format(msgspec.json.encode(from_cryptofeed()), indent=1) + b"\n")
