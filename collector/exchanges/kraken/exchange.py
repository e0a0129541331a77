"""KRAKEN, spot, version 2 of its websocket protocol.

Numbers are JSON numbers whose digits matter: the checksum of a book is computed over them. The exchange does
not say what falls out of the subscribed depth: the client drops it. A subscription to trades begins with the
last 50 where they are asked for, one to candles with hundreds; both are marked as a snapshot.

Sources, read 2026-11-28: docs.kraken.com/exchange/api-reference/spot-websocket-v2 (book, trade, ticker, ohlc,
status, heartbeat), docs.kraken.com/exchange/guides/websockets (introduction, reconnection, book-checksum-v2),
REST AssetPairs; messages recorded in 2025 and 2026.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import batched
from typing import ClassVar, override

from collector.exchanges.instruments import Instrument, Listing, read_listing
from collector.exchanges.kraken import messages
from collector.exchanges.kraken.listing import instrument
from collector.exchanges.kraken.session import CHANNELS, KrakenSession
from collector.exchanges.limits import Limits
from collector.exchanges.numbers import UNREADABLE, MalformedError
from collector.exchanges.protocol import Channel, ConnectionPlan, Exchange, Subscription

_SYMBOLS_PER_CONNECTION = 200
_DEPTHS = (10, 25, 100, 500, 1000)
_MINUTES = {
    "1m": 1,
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "4h": 240,
    "1d": 1440,
    "1w": 10080,
    "15d": 21600,
}
_INTERVALS = {minutes: interval for interval, minutes in _MINUTES.items()}

_DOCS = "docs.kraken.com spot-websocket-v2"


class Kraken(Exchange):
    """KRAKEN, spot."""

    id = "KRAKEN"
    channels: ClassVar[Mapping[str, Channel]] = {
        "trades": Channel(
            records="single trades", loss="ids", flows=False, quiet=None, source=f"{_DOCS}/trade, 2026-11-28"
        ),
        "ticker": Channel(
            records="each change of the best prices",
            loss="nothing",
            flows=True,
            quiet=3600.0,
            source=f"{_DOCS}/ticker (event_trigger bbo), 2026-11-28",
        ),
        "l1_book": Channel(
            records="each change of the best prices, with their sizes",
            loss="nothing",
            flows=True,
            quiet=3600.0,
            source=f"{_DOCS}/ticker (event_trigger bbo), 2026-11-28",
        ),
        "l2_book": Channel(
            records="each change of the 1000 best levels per side; a checksum covers the ten best",
            loss="checksum",
            flows=True,
            quiet=600.0,
            source=f"{_DOCS}/book and guides/websockets/book-checksum-v2, 2026-11-28",
        ),
        "candles": Channel(
            records="closed candles, only for intervals with trades",
            loss="nothing",
            flows=True,
            quiet=None,
            source=f"{_DOCS}/ohlc, 2026-11-28",
        ),
    }
    limits = Limits(
        subscriptions=_SYMBOLS_PER_CONNECTION * len(CHANNELS),
        frames_per_second=2.0,
        connections=(100, 600.0),  # of about 150
        weight=(1, 1.0),
        source="support.kraken.com, API rate limits; the number of connections is not verified; 2026-11-28",
    )
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://ws.kraken.com/v2",
        "rest": "https://api.kraken.com/0/public",
    }
    candle_intervals = tuple(_MINUTES)
    silence = 15.0  # there is a heartbeat every second

    @property
    def depth(self) -> int:
        """The least of the exchange's depths that is enough."""
        wanted = self.options.storing.max_depth or _DEPTHS[-1]
        return min((depth for depth in _DEPTHS if depth >= wanted), default=_DEPTHS[-1])

    @override
    def listing(self) -> Sequence[str]:
        address = self.endpoint("rest") + "/AssetPairs"
        return [address, f"{address}?aclass_base=tokenized_asset"]

    @override
    def instruments(self, answers: Sequence[bytes]) -> Listing:
        try:
            rows = [row for body in answers for row in messages.asset_pairs(body).result.items()]
        except UNREADABLE as error:
            raise MalformedError(f"no listing of {self.id}: {error}") from error
        return read_listing((row for key, row in rows if not key.endswith(".d")), instrument)  # .d: dark pool

    @override
    def connections(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[ConnectionPlan]:
        by_symbol: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            if subscription.channel in CHANNELS:
                by_symbol[subscription.symbol].append(subscription)
        return [
            ConnectionPlan(
                self.endpoint("websocket"), tuple(each for of_symbol in some for each in of_symbol)
            )
            for some in batched(by_symbol.values(), _SYMBOLS_PER_CONNECTION)
        ]

    @override
    def session(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> KrakenSession:
        return KrakenSession(self, subscriptions, instruments)

    @override
    def listener(self, channels: Collection[str]) -> KrakenSession:
        return KrakenSession(self, (), {}, listening_to=channels)

    def interval(self, minutes: int) -> str:
        """Return the name of an interval. Raises MalformedError for one that there is none of."""
        if minutes not in _INTERVALS:
            raise MalformedError(f"a candle of the unknown interval of {minutes} minutes")
        return _INTERVALS[minutes]

    def parameters(self, channel: str) -> dict[str, object]:
        """Return what a subscription to a channel of the exchange's is asked with."""
        parameters: dict[str, dict[str, object]] = {
            "trade": {"snapshot": True},  # it is not sent unasked
            "book": {"depth": self.depth},
            "ticker": {"event_trigger": "bbo"},
            "ohlc": {"interval": _MINUTES[self.options.candle_interval]},
        }
        return parameters.get(channel, {})
