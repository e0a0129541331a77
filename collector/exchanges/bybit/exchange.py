"""BYBIT, version 5: spot, linear, inverse and option, each on an address of its own.

Topics name no market: spot's BTCUSDT and that of linear contracts differ by their connection alone. Updates
of a book are numbered by one; 1 begins again. Tickers of contracts send what changed: their state is here. A
liquidation's ``S`` is the side of the liquidated position; records have that of the order, the other one.

Sources, read 2026-11-28: bybit-exchange.github.io/docs/v5 (WebSocket: connect, public trade, orderbook,
ticker, kline, all liquidation; Get Instruments Info); messages of 2022 to 2026. Not used: ``orderbook.full``,
of spot alone since July 2026, which needs snapshots by REST.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import batched, chain
from typing import ClassVar, override

from collector.exchanges.bybit import messages
from collector.exchanges.bybit.listing import instrument
from collector.exchanges.bybit.session import BybitSession
from collector.exchanges.bybit.streams import INTERVALS
from collector.exchanges.instruments import Instrument, Listing, read_listing
from collector.exchanges.limits import Limits
from collector.exchanges.numbers import UNREADABLE, MalformedError
from collector.exchanges.protocol import Channel, ConnectionPlan, Detection, Exchange, Subscription

_TOPICS_PER_CONNECTION = 200  # 21,000 characters of topics are allowed
_DEPTHS: Mapping[str, Sequence[int]] = {"option": (25, 100)}
_DEFAULT_DEPTHS = (1, 50, 200, 1000)
_DOCS = "bybit-exchange.github.io/docs/v5/websocket/public"

_BEST = "orderbook (depth 1)"
#: Their best prices come with their tickers, which have no numbers.
_OPTIONS = "; for options as they change, and no loss can be noticed"


def _channel(
    records: str, page: str, loss: Detection = "nothing", *, flows: bool = True, quiet: float | None = 600.0
) -> Channel:
    return Channel(
        records=records,
        loss=loss,
        flows=flows,
        quiet=quiet,
        with_trades=page == _BEST,
        with_market=page == "ticker",  # what does not change is not sent
        source=f"{_DOCS}/{page}, 2026-11-28",
    )


class Bybit(Exchange):
    """BYBIT: spot, linear and inverse contracts, options."""

    id = "BYBIT"
    channels: ClassVar[Mapping[str, Channel]] = {
        "trades": _channel("single trades", "trade", flows=False, quiet=None),
        "ticker": _channel(f"the best prices, every 10 ms at most{_OPTIONS}", _BEST, "sequence"),
        "l1_book": _channel(
            f"the best prices with their sizes, every 10 ms at most{_OPTIONS}",
            _BEST,
            "sequence",
        ),
        "l2_book": _channel(
            "changes of 200 ms, of the 1000 best levels per side (100 of options)", "orderbook", "sequence"
        ),
        "funding": _channel("mark price, expected rate and its time, as they change", "ticker"),
        "open_interest": _channel("open interest, as it changes", "ticker"),
        "index": _channel("the index price, as it changes", "ticker"),
        "liquidations": _channel(
            "each liquidation; the order's side", "all-liquidation", flows=False, quiet=None
        ),
        "candles": _channel("closed candles", "kline", quiet=60.0),
    }
    limits = Limits(
        subscriptions=_TOPICS_PER_CONNECTION * 3,
        frame_bytes=21_000,
        frames_per_second=5.0,
        connections=(500, 300.0),
        weight=(600, 5.0),
        source="bybit-exchange.github.io/docs/v5/ws/connect and /rate-limit, 2026-11-28",
    )
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://stream.bybit.com/v5/public",
        "rest": "https://api.bybit.com/v5/market",
    }
    #: bybit-exchange.github.io/docs/v5/guide and /docs/v5/ws/connect, 2026-11-28; ``eu``'s websocket is on
    #: /docs/v5/websocket/system/system-status alone, and in clients of 2026 that record spot there: not
    #: verified. For the Netherlands, the Emirates and Indonesia they name REST hosts alone.
    regions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        region: {
            "websocket": f"wss://stream.{domain}/v5/public",
            "rest": f"https://api.{domain}/v5/market",
        }
        for region, domain in {
            "eu": "bybit.eu",
            "tr": "bybit-tr.com",
            "kz": "bybit.kz",
            "ge": "bybitgeorgia.ge",
        }.items()
    }
    candle_intervals = tuple(INTERVALS)
    silence = 60.0  # a ping each 20 s is answered

    @override
    def listing(self) -> Sequence[str]:
        address = self.endpoint("rest") + "/instruments-info?category="
        # without a coin there are those of BTC alone; what the pages say of "All" is what clients of 2026 ask
        options = "option&baseCoin=All&limit=1000"
        # contracts of the pre-market are listed apart; they are perpetuals in USDT (bybit.com/help-center,
        # Introduction to Pre-Market Perpetual, 2026-11-29)
        linear = "linear&limit=1000", "linear&status=PreLaunch&limit=1000"
        return [address + of for of in ("spot", *linear, "inverse&limit=1000", options)]

    @override
    def next_page(self, address: str, answer: bytes) -> str | None:
        try:
            cursor = messages.answer(answer).result.next_page_cursor
        except UNREADABLE:
            return None
        return f"{address.partition('&cursor=')[0]}&cursor={cursor}" if cursor else None

    @override
    def instruments(self, answers: Sequence[bytes]) -> Listing:
        try:
            rows = [row for body in answers for row in messages.answer(body).result.list]
        except UNREADABLE as error:
            raise MalformedError(f"no listing of {self.id}: {error}") from error
        return read_listing(rows, instrument)

    @override
    def connections(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[ConnectionPlan]:
        markets: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            markets[instruments[subscription.symbol].market or ""].append(subscription)
        return [
            ConnectionPlan(f"{self.endpoint('websocket')}/{market}", tuple(chain.from_iterable(some)))
            for market, of_market in markets.items()
            for some in batched(self._by_topic(of_market, instruments), _TOPICS_PER_CONNECTION)
        ]

    @override
    def session(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> BybitSession:
        return BybitSession(self, subscriptions, instruments)

    @override
    def listener(self, channels: Collection[str]) -> BybitSession:
        return BybitSession(self, (), {}, listening_to=channels)

    def topics(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> dict[str, dict[str, list[str]]]:
        """Return the topics that carry the subscriptions, with their channels by symbol."""
        topics: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for channel, symbol in subscriptions:
            if topic := self._topic(channel, instruments[symbol]):
                topics[topic][symbol].append(channel)
        return topics

    def channels_of(self, topic: str) -> Sequence[str]:
        """Return the channels that a topic may carry."""
        if topic.startswith("orderbook.1."):
            return ("ticker", "l1_book")
        return {
            "publicTrade": ("trades",),
            "orderbook": ("l2_book",),
            "tickers": ("funding", "open_interest", "index", "ticker", "l1_book"),
            "kline": ("candles",),
            "allLiquidation": ("liquidations",),
        }.get(topic.partition(".")[0], ())

    def _by_topic(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> list[list[Subscription]]:
        return [
            [Subscription(channel, symbol) for symbol, channels in carried.items() for channel in channels]
            for carried in self.topics(subscriptions, instruments).values()
        ]

    def _topic(self, channel: str, instrument: Instrument) -> str | None:
        symbol, market = instrument.exchange_symbol, instrument.market
        contract = market in ("linear", "inverse")
        if channel in ("ticker", "l1_book"):
            return f"tickers.{symbol}" if market == "option" else f"orderbook.1.{symbol}"
        if channel in ("funding", "open_interest", "index", "liquidations"):
            word = "allLiquidation" if channel == "liquidations" else "tickers"
            offered = contract or (market == "option" and channel in ("open_interest", "index"))
            return f"{word}.{symbol}" if offered else None
        if channel == "trades":
            return f"publicTrade.{instrument.base if market == 'option' else symbol}"
        if channel == "candles":
            return None if market == "option" else f"kline.{INTERVALS[self.options.candle_interval]}.{symbol}"
        return f"orderbook.{self._depth(market or '')}.{symbol}" if channel == "l2_book" else None

    def _depth(self, market: str) -> int:
        """Return the least depth that is enough; that of one level has no changes, and is no book of ours."""
        offered = [depth for depth in _DEPTHS.get(market, _DEFAULT_DEPTHS) if depth > 1]
        wanted = self.options.storing.max_depth or offered[-1]
        return min((depth for depth in offered if depth >= wanted), default=offered[-1])
