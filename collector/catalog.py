"""The catalogue: the exchanges, their public channels and candle intervals.

The table is a JSON file beside this module, made from the native exchanges, cryptofeed and known_issues.py
(``python -m collector.catalog`` rewrites it), so that the launcher and every error message can use it without
importing cryptofeed, which takes a second. A test fails when it is out of date.
"""

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from collector import known_issues
from collector.exchanges.limits import Limits
from collector.known_issues import KnownIssue

if TYPE_CHECKING:
    from collector.exchanges import protocol

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
#: Of the units of candles; some exchanges write h, d and w as capitals. A month has about as many.
_UNITS = {
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86_400,
    "w": 604_800,
    "M": 2_592_000,
    "Q": 7_776_000,
    "Y": 31_536_000,
}

TABLE = Path(__file__).with_name("exchanges.json")


class About(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known about a channel of a native exchange.

    Attributes:
        records: what one record is, in words.
        loss: how a missing message is noticed: by sequence, chain, checksum, ids; or nothing.
        quiet: seconds without data that are normal; None if any silence is.
        period: seconds between two polls; None if the exchange sends by itself.
        source: the page that describes the format, and the date on which it was read.
    """

    records: str
    loss: str
    quiet: float | None = None
    period: float | None = None
    source: str = ""


class Exchange(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One exchange.

    Attributes:
        by: whose code records it: ``cryptostore``, which is this project, or ``cryptofeed``.
        channels: the public channels that can be recorded; none for an exchange that has closed.
        candle_intervals: lengths of candles.
        closed: that it has closed, and since when.
        broken: why other channels cannot be recorded, by channel.
        verified: whether a source says that recording it still works.
        keys: why a channel needs API keys in CONFIG, by channel.
        about: details by channel, of native exchanges only.
        endpoints: its addresses by name, of native exchanges only.
        regions: addresses that replace these, by region.
        limits: its limits, if known.
    """

    by: Literal["cryptostore", "cryptofeed"]
    channels: tuple[str, ...]
    candle_intervals: tuple[str, ...] = ()
    closed: KnownIssue | None = None
    broken: Mapping[str, KnownIssue] = {}
    verified: bool = True
    keys: Mapping[str, KnownIssue] = {}
    about: Mapping[str, About] = {}
    endpoints: Mapping[str, str] = {}
    regions: Mapping[str, Mapping[str, str]] = {}
    limits: Limits | None = None

    @property
    def issue(self) -> KnownIssue | None:
        """Why nothing of it can be recorded, if so."""
        return self.closed or (None if self.channels else next(iter(self.broken.values()), None))

    @property
    def state(self) -> str:
        """How well it can be recorded, in a few words."""
        if self.closed:
            return f"closed since {self.closed.since}"
        if self.issue:
            return f"broken since {self.issue.since}"
        if not self.verified:
            return "not verified"
        if self.keys:
            return "needs API keys" if {*self.keys} == {*self.channels} else "partly needs API keys"
        return ""


@cache
def exchanges() -> Mapping[str, Exchange]:
    """Return all exchanges by cryptofeed's id."""
    return msgspec.json.decode(TABLE.read_bytes(), type=dict[str, Exchange])


def usable() -> list[str]:
    """Return the exchanges from which something can be recorded."""
    return [name for name, exchange in exchanges().items() if not exchange.issue]


def canonical_channel(text: str) -> str:
    """Return the channel that a user's spelling means: any case, and ``l2book`` for ``l2_book``."""
    lowered = text.lower()
    return {channel.replace("_", ""): channel for channel in CHANNELS}.get(lowered, lowered)


def nearest(text: str, possible: Iterable[str], count: int = 1, *, cutoff: float = 0.6) -> list[str]:
    """Return the ``count`` values of ``possible`` most similar to ``text``; none if nothing is similar.

    ``cutoff`` is from 0, where anything is similar, to 1, where only the same is. Nothing is
    near a long text: comparing two texts takes time proportional to the product of their lengths.
    """
    if len(text) > _LONGEST_COMPARED:
        return []
    folded = {value.casefold(): value for value in possible if len(value) <= _LONGEST_COMPARED}
    return [folded[match] for match in difflib.get_close_matches(text.casefold(), folded, count, cutoff)]


def from_cryptofeed() -> dict[str, Exchange]:
    """Return the table: native exchanges, and those of the installed cryptofeed."""
    from cryptofeed.exchanges import EXCHANGE_MAP  # noqa: PLC0415 - takes a second; only needed here

    from collector.exchanges.directory import EXCHANGES  # noqa: PLC0415 - only needed here

    names = sorted({*EXCHANGES, *EXCHANGE_MAP})
    return {name: _exchange(name, EXCHANGES.get(name), EXCHANGE_MAP.get(name)) for name in names}


def _exchange(name: str, ours: "type[protocol.Exchange] | None", feed: Any) -> Exchange:
    """Return what cryptostore or cryptofeed's ``feed`` offers, without what is known not to work."""
    offered: Iterable[str] = ours.channels if ours else feed.websocket_channels
    intervals = ours.candle_intervals if ours else feed.valid_candle_intervals
    has_candles = intervals is not NotImplemented and "candles" in offered
    channels = [channel for channel in CHANNELS if channel in offered]
    known = known_issues.BROKEN.get(name, {})
    broken = {channel: known.get(channel) or known.get("*") for channel in channels}
    about = {each: _about(it) for each, it in ours.channels.items()} if ours else {}
    return Exchange(
        by="cryptostore" if ours else "cryptofeed",
        channels=() if name in known_issues.CLOSED else tuple(each for each in channels if not broken[each]),
        candle_intervals=tuple(sorted(intervals, key=_seconds)) if has_candles else (),
        closed=known_issues.CLOSED.get(name),
        broken={channel: issue for channel, issue in broken.items() if issue},
        verified=name not in known_issues.NOT_VERIFIED,
        keys={
            channel: known_issues.NEED_KEYS[name]
            for channel in channels
            if not ours and not broken[channel] and feed.is_authenticated_channel(channel)
        },
        about={channel: about[channel] for channel in channels if channel in about},
        endpoints=ours.endpoints if ours else {},
        regions=ours.regions if ours else {},
        limits=ours.limits if ours else None,
    )


def _seconds(interval: str) -> int:
    """Return roughly how long a candle of this interval is."""
    number, unit = interval[:-1], interval[-1]
    return int(number) * (_UNITS.get(unit) or _UNITS[unit.lower()])


def _about(it: "protocol.Channel") -> About:
    return About(it.records, it.loss, it.quiet, it.period, it.source)


if __name__ == "__main__":
    TABLE.write_bytes(msgspec.json.format(msgspec.json.encode(from_cryptofeed()), indent=1) + b"\n")
