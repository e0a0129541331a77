"""The BINANCE family: spot (BINANCE, BINANCE_US), USD-M futures (BINANCE_FUTURES), COIN-M (BINANCE_DELIVERY).

Streams are subscribed to by message, in frames of less than 4 kB: the server answers nothing to a longer one
(binance-connector-rust#27, 2024-12-07). Any stream's name is acknowledged, also one that will never send, so
only data confirms what must flow. Errors name no stream: a refused request is asked again in halves.

Sources, read 2026-11-28: developers.binance.com "WebSocket Streams for Binance" (spot), "Websocket Market
Streams" and "Important WebSocket Change Notice" (2026-03-06; derivatives), binance-spot-api-docs
web-socket-streams.md, rest-api.md; recorded messages of 2019 to 2026.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import batched
from typing import ClassVar, override

import msgspec
from msgspec import structs

from collector.exchanges.binance import messages, streams
from collector.exchanges.binance.session import FRAME_BYTES, BinanceSession
from collector.exchanges.instruments import (
    Instrument,
    Kind,
    Listing,
    Statuses,
    check_symbol,
    contract_date,
    name,
    read_listing,
)
from collector.exchanges.limits import Limits
from collector.exchanges.numbers import UNREADABLE, MalformedError, amount
from collector.exchanges.protocol import (
    Channel,
    ConnectionPlan,
    Exchange,
    Malformed,
    Outputs,
    Poll,
    Subscription,
)
from collector.records import OpenInterest
from collector.times import MILLISECOND

_STREAMS_PER_CONNECTION = 200  # of 1024 that are allowed: a connection that breaks costs fewer

_SPOT = "developers.binance.com WebSocket Streams (spot), 2026-11-28"
_DERIVATIVES = "developers.binance.com Websocket Market Streams (derivatives), 2026-11-28"


def _spot_channels() -> dict[str, Channel]:
    best = Channel(
        records="each change of the best prices or their sizes, without a time of the exchange",
        loss="nothing",
        flows=True,
        quiet=600.0,
        with_trades=True,
        source=f"{_SPOT}: Individual Symbol Book Ticker Streams",
    )
    return {
        "trades": Channel(
            records="single trades", loss="ids", flows=False, quiet=None, source=f"{_SPOT}: Trade Streams"
        ),
        "ticker": best,
        "l1_book": best,
        "l2_book": Channel(
            records="changes of a tenth of a second; from a snapshot of 5000 levels per side",
            loss="sequence",
            flows=True,
            quiet=600.0,
            source=f"{_SPOT}: Diff. Depth Stream; How to manage a local order book correctly",
        ),
        "candles": Channel(
            records="closed candles",
            loss="nothing",
            flows=True,
            quiet=60.0,
            source=f"{_SPOT}: Kline/Candlestick Streams",
        ),
    }


def _derivative_channels() -> dict[str, Channel]:
    quotes = f"{_DERIVATIVES}: Individual Symbol Book Ticker Streams"
    best = Channel(
        records="each change of the best prices or their sizes",
        loss="nothing",
        flows=True,
        quiet=600.0,
        with_trades=True,
        source=quotes,
    )
    return {
        "trades": Channel(
            records="aggregate trades: the fills of one order at one price, within 100 ms",
            loss="ids",
            flows=False,
            quiet=None,
            source=f"{_DERIVATIVES}: Aggregate Trade Streams",
        ),
        "ticker": best,
        "l1_book": best,
        "l2_book": Channel(
            records="changes of a tenth of a second; from a snapshot of 1000 levels per side",
            loss="chain",
            flows=True,
            quiet=600.0,
            source=f"{_DERIVATIVES}: Diff. Book Depth Streams; How to manage a local order book correctly",
        ),
        "funding": Channel(
            records="mark price and expected rate of the current period, every second",
            loss="nothing",
            flows=True,
            quiet=30.0,
            source=f"{_DERIVATIVES}: Mark Price Stream",
        ),
        "index": Channel(
            records="index price, every second",
            loss="nothing",
            flows=True,
            quiet=30.0,
            source=f"{_DERIVATIVES}: Mark Price Stream",
        ),
        "liquidations": Channel(
            records="the largest forced order of a symbol within a second",
            loss="nothing",
            flows=False,
            quiet=None,
            source=f"{_DERIVATIVES}: Liquidation Order Streams",
        ),
        "open_interest": Channel(
            records="open interest, requested once a minute",
            loss="nothing",
            flows=True,
            quiet=180.0,
            period=60.0,
            source="developers.binance.com Open Interest (REST, derivatives), 2026-11-28",
        ),
        "candles": Channel(
            records="closed candles",
            loss="nothing",
            flows=True,
            quiet=60.0,
            source=f"{_DERIVATIVES}: Kline/Candlestick Streams",
        ),
    }


_CONTRACTS: Mapping[str | None, Kind] = {
    "PERPETUAL": "perpetual",
    "TRADIFI_PERPETUAL": "perpetual",  # stocks, metals: XAUUSDT, TSLAUSDT
    "CURRENT_MONTH": "future",
    "NEXT_MONTH": "future",
    "CURRENT_QUARTER": "future",
    "NEXT_QUARTER": "future",
}


class Binance(Exchange):
    """BINANCE, spot."""

    id = "BINANCE"
    channels = _spot_channels()
    limits = Limits(
        subscriptions=_STREAMS_PER_CONNECTION,
        frame_bytes=FRAME_BYTES,
        frames_per_second=2.0,  # of five, where pongs count as well
        connections=(300, 300.0),
        weight=(6000, 60.0),
        source=f"{_SPOT}: Websocket Limits; REST exchangeInfo, rateLimits",
    )
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://stream.binance.com:9443",
        "rest": "https://api.binance.com/api/v3",
    }
    #: "Market Data Only URLs", developers.binance.com/docs/binance-spot-api-docs/faqs/market_data_only,
    #: 2026-11-28: public data alone; open where the others are not, as in the USA.
    regions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "market-data": {
            "websocket": "wss://data-stream.binance.vision:443",
            "rest": "https://data-api.binance.vision/api/v3",
        }
    }
    candle_intervals: ClassVar[Sequence[str]] = (
        *("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"),
    )
    silence = (
        300.0  # what lists the subscriptions is answered after half of it, however quiet the streams are
    )
    partial_books: ClassVar[type[streams.PartialBooks]] = streams.PartialBooks
    #: The word in a stream's name, by channel.
    words: ClassVar[Mapping[str, str]] = {
        "trades": "trade",
        "ticker": "bookTicker",
        "l1_book": "bookTicker",
        "l2_book": "depth",
        "candles": "kline",
    }
    #: Where a stream is to be had: the endpoint's name and the path, by word.
    paths: ClassVar[Mapping[str, str]] = {}
    default_path = "/stream"
    #: Kinds of instruments, by the type of their contract.
    kinds: ClassVar[Mapping[str | None, Kind]] = {None: "spot"}
    inverse = False  # amounts are contracts, of a size that the listing says
    #: Weight of a snapshot of so many levels.
    snapshots: ClassVar[Mapping[int, int]] = {1000: 50, 5000: 250}
    listing_weight = 20

    @override
    def listing(self) -> Sequence[str]:
        return [self.endpoint("rest") + "/exchangeInfo"]

    @override
    def instruments(self, answers: Sequence[bytes]) -> Listing:
        try:
            rows = [row for body in answers for row in messages.exchange_info(body).symbols]
        except UNREADABLE as error:
            raise MalformedError(f"no listing of {self.id}: {error}") from error
        return read_listing(rows, partial(_instrument, inverse=self.inverse, kinds=self.kinds))

    @override
    def connections(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[ConnectionPlan]:
        paths: dict[str, list[tuple[str, list[Subscription]]]] = defaultdict(list)
        for stream, carried in self.streams(subscriptions, instruments).items():
            word = self.words[carried[0].channel]
            paths[self.paths.get(word, self.default_path)].append((stream, carried))
        return [
            ConnectionPlan(
                # one stream makes the address that of combined ones; the others are subscribed to
                f"{self.endpoint('websocket')}{path}?streams={some[0][0]}",
                tuple(subscription for _, carried in some for subscription in carried),
            )
            for path, streams in paths.items()
            for some in batched(streams, _STREAMS_PER_CONNECTION)
        ]

    @override
    def session(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> BinanceSession:
        return BinanceSession(self, self.streams(subscriptions, instruments), instruments)

    @override
    def listener(self, channels: Collection[str]) -> BinanceSession:
        return BinanceSession(self, {}, {}, listening_to=channels)

    def streams(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> dict[str, list[Subscription]]:
        """Return the names of the streams that carry the subscriptions."""
        streams: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            if word := self.words.get(subscription.channel):
                symbol = instruments[subscription.symbol].exchange_symbol
                streams[f"{symbol.lower()}@{word}{self._more(word)}"].append(subscription)
        return streams

    def channels_of(self, word: str) -> list[str]:
        """Return the channels that streams of this word carry."""
        return [channel for channel, of_channel in self.words.items() if of_channel == word]

    def snapshot(self, exchange_symbol: str) -> tuple[str, int]:
        """Return the address of a book's snapshot, and its weight.

        It is as deep as there is: levels below it would be missing once the book moves.
        """
        wanted = self.options.storing.max_depth or max(self.snapshots)
        limit = min((limit for limit in self.snapshots if limit >= wanted), default=max(self.snapshots))
        url = f"{self.endpoint('rest')}/depth?symbol={exchange_symbol}&limit={limit}"
        return url, self.snapshots[limit]

    def _more(self, word: str) -> str:
        depth = self.options.storing.max_depth
        partial = min((count for count in (5, 10, 20) if count >= depth > 0), default="")
        return {
            "depth": f"{partial}@100ms",
            "kline": f"_{self.options.candle_interval}",
            "markPrice": "@1s",
        }.get(word, "")


class BinanceUS(Binance):
    """BINANCE_US: spot, with limits and weights of its own."""

    id = "BINANCE_US"
    limits = structs.replace(
        Binance.limits,
        weight=(1200, 60.0),
        source="github.com/binance-us/binance-us-api-docs web-socket-streams.md (2022-09-30) and rest-api.md "
        "(2021-06-21); weights as in ccxt's binanceus, 2026-11-29; how many connections: as BINANCE",
    )
    snapshots: ClassVar[Mapping[int, int]] = {1000: 10, 5000: 50}
    listing_weight = 10
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://stream.binance.us:9443",
        "rest": "https://api.binance.us/api/v3",
    }
    regions: ClassVar[Mapping[str, Mapping[str, str]]] = {}


class BinanceFutures(Binance):
    """BINANCE_FUTURES: USD-M perpetuals and futures; streams are on two paths since 2026-04-23.

    A stream on the wrong path is acknowledged and silent ("Important WebSocket Change Notice", 2026-03-06).
    """

    id = "BINANCE_FUTURES"
    channels = _derivative_channels()
    limits = Limits(
        subscriptions=_STREAMS_PER_CONNECTION,
        frame_bytes=FRAME_BYTES,
        frames_per_second=5.0,  # of ten
        connections=(300, 300.0),
        weight=(2400, 60.0),
        weight_with=("BINANCE_DELIVERY",),  # since 2026-06-30
        source=f"{_DERIVATIVES}: Connect; REST exchangeInfo, rateLimits (one budget for both)",
    )
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://fstream.binance.com",
        "rest": "https://fapi.binance.com/fapi/v1",
    }
    regions: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    candle_intervals = Binance.candle_intervals[1:]
    partial_books = streams.PartialUpdates
    kinds = _CONTRACTS
    words: ClassVar[Mapping[str, str]] = {
        **Binance.words,
        "trades": "aggTrade",
        "funding": "markPrice",
        "index": "markPrice",
        "liquidations": "forceOrder",
    }
    paths: ClassVar[Mapping[str, str]] = {"bookTicker": "/public/stream", "depth": "/public/stream"}
    default_path = "/market/stream"
    answers_probes = False  # "Listing Subscriptions" is described of the path that there was before
    snapshots: ClassVar[Mapping[int, int]] = {1000: 20}
    listing_weight = 1

    @override
    def polls(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[Poll]:
        address = self.endpoint("rest") + "/openInterest?symbol="
        period = self.channels["open_interest"].period or 0.0
        return [
            Poll(subscription, symbol, address + symbol, 1, period)
            for subscription in subscriptions
            if subscription.channel == "open_interest"
            and (symbol := instruments[subscription.symbol].exchange_symbol)
        ]

    @override
    def read_poll(
        self, subscription: Subscription, exchange_symbol: str, body: bytes, receipt: int
    ) -> Outputs:
        try:
            answer = messages.open_interest(body)
            check_symbol(answer.symbol, exchange_symbol)
            contracts = amount(answer.open_interest)
        except UNREADABLE as error:
            return (Malformed(str(error), (subscription,)),)
        time = answer.time * MILLISECOND or receipt
        return (OpenInterest(self.id, subscription.symbol, time, receipt, contracts),)


class BinanceDelivery(BinanceFutures):
    """BINANCE_DELIVERY: COIN-M perpetuals and futures; amounts are contracts."""

    id = "BINANCE_DELIVERY"
    limits = structs.replace(BinanceFutures.limits, weight_with=("BINANCE_FUTURES",))
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://dstream.binance.com",
        "rest": "https://dapi.binance.com/dapi/v1",
    }
    paths: ClassVar[Mapping[str, str]] = {}
    default_path = "/stream"
    answers_probes = True
    inverse = True


#: developers.binance.com, spot enums and derivatives common definitions, as clients of 2026-10 have them.
_STATUSES = Statuses(
    listed=frozenset({"TRADING", "HALT", "TRADING_HALT", "TRADING_CANCEL_ONLY"}),
    others=frozenset(
        {"PRE_TRADING", "POST_TRADING", "END_OF_DAY", "AUCTION_MATCH", "BREAK"}
        | {"PENDING_TRADING", "PRE_DELIVERING", "DELIVERING", "DELIVERED", "PRE_SETTLE", "SETTLING", "CLOSE"}
    ),
)


def _instrument(raw: msgspec.Raw, kinds: Mapping[str | None, Kind], *, inverse: bool) -> Instrument | None:
    row = messages.row(raw)
    status = row.status or row.contract_status
    if not status:
        raise MalformedError("nothing says whether it is traded")
    if not _STATUSES.are_listed(status):
        return None
    kind = kinds.get(row.contract_type)
    if kind is None:
        raise MalformedError(f"a contract of the unknown type {row.contract_type!r}")
    expiry = contract_date(row.symbol.partition("_")[2]) if kind == "future" else ""
    if inverse and row.contract_size is None:
        raise MalformedError("a contract without its size")
    return Instrument(
        symbol=name(kind, row.base, row.quote, expiry=expiry),
        exchange_symbol=row.symbol,
        kind=kind,
        base=row.base,
        quote=row.quote,
        tick=_filter(row, "PRICE_FILTER").tick,
        lot=_filter(row, "LOT_SIZE").lot,
        contract_size=str(row.contract_size) if inverse else None,
        contract_unit=row.quote if inverse else None,
        settlement=row.settlement,
        expiry=row.delivery * MILLISECOND if row.delivery and kind == "future" else None,
    )


def _filter(row: messages.Row, kind: str) -> messages.Filter:
    return next((each for each in row.filters if each.type == kind), messages.Filter(kind))
