"""COINBASE, Advanced Trade.

Messages are numbered across all channels of a connection, acknowledgements included: one that is missing may
have been about anything, so all of the connection counts as broken, and books and trades are subscribed to
again. A trade's ``side`` is the maker's, and is turned round: the documentation does not say so, but
nautilus_trader does (``coinbase_side_to_aggressor``, 2026), and it is so on Coinbase Exchange. Not verified.

A product with an ``alias`` (BTC-USDC of BTC-USD) has the same book and the same trades, and is not listed.

Sources, read 2026-11-28: docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket (overview,
channels, rate limits), REST "List Public Products"; messages recorded in 2024 to 2026.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import batched, chain
from typing import ClassVar, override
from urllib.parse import quote

from collector.exchanges.coinbase import messages
from collector.exchanges.coinbase.listing import instrument
from collector.exchanges.coinbase.session import CHANNELS, CoinbaseSession
from collector.exchanges.instruments import Instrument, Listing, check_symbol, read_listing
from collector.exchanges.limits import Limits
from collector.exchanges.numbers import UNREADABLE, MalformedError, amount, number
from collector.exchanges.protocol import (
    Channel,
    ConnectionPlan,
    Exchange,
    Malformed,
    Outputs,
    Poll,
    Refused,
    Subscription,
)
from collector.exchanges.times import rfc3339
from collector.records import AnyRecord, Funding, Index, OpenInterest

_PRODUCTS_PER_CONNECTION = 50
_DOCS = "docs.cdp.coinbase.com advanced-trade-apis/websocket/websocket-channels"


def _polled(what: str) -> Channel:
    return Channel(
        records=f"{what}, requested once a minute",
        loss="nothing",
        flows=True,
        quiet=180.0,
        period=60.0,
        source="docs.cdp.coinbase.com Get Public Product; an answer of 2026-04, 2026-11-28",
    )


class Coinbase(Exchange):
    """COINBASE, Advanced Trade: spot, futures and perpetuals."""

    id = "COINBASE"
    channels: ClassVar[Mapping[str, Channel]] = {
        "trades": Channel(
            records="single trades; the exchange sends the maker's side, reversed here (not verified)",
            loss="sequence",
            flows=False,
            quiet=None,
            source=f"{_DOCS} (market_trades), 2026-11-28",
        ),
        "ticker": Channel(
            records="the best prices at each trade",
            loss="sequence",
            flows=True,
            quiet=None,
            source=f"{_DOCS} (ticker), 2026-11-28",
        ),
        "l1_book": Channel(
            records="the best prices with their sizes at each trade",
            loss="sequence",
            flows=True,
            quiet=None,
            source=f"{_DOCS} (ticker), 2026-11-28",
        ),
        "l2_book": Channel(
            records="each change, of all levels",
            loss="sequence",
            flows=True,
            quiet=600.0,
            source=f"{_DOCS} (level2), 2026-11-28",
        ),
        "candles": Channel(
            records="closed candles of five minutes, only for intervals with trades",
            loss="sequence",
            flows=True,
            quiet=None,
            source=f"{_DOCS} (candles), 2026-11-28",
        ),
        "funding": _polled("the rate of the last funding of a contract that has one"),
        "open_interest": _polled("open contracts"),
        "index": _polled("the index of a contract"),
    }
    limits = Limits(
        subscriptions=_PRODUCTS_PER_CONNECTION * len(CHANNELS),
        frames_per_second=4.0,  # of eight, for one address
        connections=(8, 1.0),
        weight=(10, 1.0),
        source="docs.cdp.coinbase.com websocket-rate-limits, 2026-11-28; no size of frames is given",
    )
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://advanced-trade-ws.coinbase.com",
        "rest": "https://api.coinbase.com/api/v3/brokerage/market",
    }
    candle_intervals = ("5m",)
    silence = 15.0  # there is a heartbeat every second

    @override
    def listing(self) -> Sequence[str]:
        address = self.endpoint("rest") + "/products"
        return [address, f"{address}?product_type=FUTURE"]

    @override
    def next_page(self, address: str, answer: bytes) -> str | None:
        # all comes at once where no limit is asked for, by what was recorded; the answer says if it does not
        try:
            page = messages.page(answer).pagination
        except UNREADABLE:
            return None
        if not page or not page.has_next or not page.next_cursor:
            return None
        address = re.sub(r"[?&]cursor=[^&]*", "", address)
        return f"{address}{'&' if '?' in address else '?'}cursor={quote(page.next_cursor, safe='')}"

    @override
    def instruments(self, answers: Sequence[bytes]) -> Listing:
        try:
            rows = [row for body in answers for row in messages.products(body).products]
        except UNREADABLE as error:
            raise MalformedError(f"no listing of {self.id}: {error}") from error
        return read_listing(rows, instrument)

    @override
    def connections(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[ConnectionPlan]:
        by_symbol: dict[str, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            if subscription.channel in CHANNELS:
                by_symbol[subscription.symbol].append(subscription)
        address = self.endpoint("websocket")
        return [
            ConnectionPlan(address, tuple(chain.from_iterable(some)))
            for some in batched(by_symbol.values(), _PRODUCTS_PER_CONNECTION)
        ]

    @override
    def session(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> CoinbaseSession:
        return CoinbaseSession(self, subscriptions, instruments)

    @override
    def listener(self, channels: Collection[str]) -> CoinbaseSession:
        return CoinbaseSession(self, (), {}, listening_to=channels)

    @override
    def polls(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[Poll]:
        address = self.endpoint("rest") + "/products/"
        return [
            Poll(each, it.exchange_symbol, address + it.exchange_symbol, 1, period)
            for each in subscriptions
            if (period := self.channels[each.channel].period)
            and (it := instruments[each.symbol]).kind != "spot"
        ]

    @override
    def read_poll(
        self, subscription: Subscription, exchange_symbol: str, body: bytes, receipt: int
    ) -> Outputs:
        try:
            answer = messages.product_now(body)
            check_symbol(answer.id, exchange_symbol)
            record = _record(subscription, answer.contract, receipt)
        except UNREADABLE as error:
            return (Malformed(str(error), (subscription,)),)
        return (record or Refused((subscription,), f"{self.id} has no {subscription.channel} of it"),)


def _record(subscription: Subscription, it: messages.Contract, receipt: int) -> AnyRecord | None:
    """Return what a contract says of a channel; None for nothing. Raises what ``UNREADABLE`` lists."""
    channel, symbol = subscription
    if channel == "funding":
        if not it.funding_rate or not it.funding_time:
            return None
        time = rfc3339(it.funding_time)
        return Funding(Coinbase.id, symbol, time, receipt, None, number(it.funding_rate), None, None)
    start = Coinbase.id, symbol, receipt, receipt
    if channel == "index":
        return Index(*start, number(it.index_price)) if it.index_price else None
    return OpenInterest(*start, amount(it.open_interest)) if it.open_interest else None
