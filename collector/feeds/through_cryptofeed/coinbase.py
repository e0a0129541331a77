"""COINBASE without API keys, asks included: cryptofeed's class with what it lacks.

Facts: https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-overview
"""

import logging
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, ClassVar, override

import cryptofeed.exchanges
import msgspec
from cryptofeed.connection import RestEndpoint, Routes
from cryptofeed.defines import BUY, L2_BOOK, SELL, TICKER, TRADES
from cryptofeed.exceptions import MissingSequenceNumber
from cryptofeed.exchanges.coinbase import get_private_parameters
from cryptofeed.types import OrderBook, Ticker, Trade

from collector.bounded_json import decode
from collector.feeds.through_cryptofeed.supervised import Supervised

LOG = logging.getLogger(__name__)


class Coinbase(Supervised, cryptofeed.exchanges.Coinbase):  # type: ignore[misc]  # cryptofeed is untyped
    """COINBASE's public market data."""

    SILENCE: ClassVar[float] = 15.0  # there is a heartbeat every second
    CHECKS_BOOKS: ClassVar[bool] = True  # messages are numbered

    rest_endpoints: ClassVar[list[Any]] = [
        RestEndpoint(
            "https://api.coinbase.com/api/v3/brokerage",
            routes=Routes("/market/products", l3book="/market/product_book?product_id={}"),
        )
    ]
    websocket_channels: ClassVar[dict[str, str]] = {
        **cryptofeed.exchanges.Coinbase.websocket_channels,
        TICKER: "ticker",
    }

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._next_number: int | None = None
        self._past: dict[str, set[str]] = {}  # by symbol, ids of the trades in the last snapshot

    @override
    async def subscribe(self, connection: Any) -> None:
        self._l2_book: dict[str, Any] = {}
        self._next_number = None
        self._past = {}
        for channel, products in self.subscription.items():
            await self._ask(connection, channel, products)
        await self._ask(connection, "heartbeats", [])  # keeps subscriptions open on which nothing happens

    @override
    async def message_handler(self, message: Any, connection: Any, timestamp: float) -> None:
        it = decode(message, Decimal)
        channel = it.get("channel")
        if it.get("type") == "error":
            await self._error(str(it.get("message")), connection)
            return
        missed = self._missed(it.get("sequence_num"))
        if channel == "l2_data":
            if not missed:
                await self._books(it, timestamp)
        elif channel == "market_trades":
            for event in it["events"]:
                await self._trades(event, timestamp)
        elif channel == "ticker":
            await self._tickers(it, timestamp)
        elif channel == "subscriptions":
            self._subscribed(it)
        elif channel != "heartbeats":
            LOG.debug("COINBASE: unknown message: %.200s", message)
        if missed:
            raise MissingSequenceNumber(missed)

    async def _ask(self, connection: Any, channel: str, products: list[str]) -> None:
        request = {"type": "subscribe", "channel": channel}
        if products:
            request |= {"product_ids": products}  # type: ignore[dict-item]
        if self.key_id and self.key_secret:
            request |= get_private_parameters(self.config, channel, products)
        await connection.write(msgspec.json.encode(request).decode())

    def _missed(self, number: int | None) -> str | None:
        """What is wrong with the number of a message, if anything."""
        if number is None:
            return None
        expected, self._next_number = self._next_number, number + 1
        if expected is None or number == expected:
            return None
        return f"message {number} came where {expected} was due"

    def _subscribed(self, it: dict[str, Any]) -> None:
        for event in it["events"]:
            for channel, products in event["subscriptions"].items():
                if channel in self.subscription:
                    for product in products:
                        self.subscriptions.acknowledge(
                            self.exchange_channel_to_std(channel), self.exchange_symbol_to_std_symbol(product)
                        )

    async def _error(self, text: str, connection: Any) -> None:
        """One product that is refused costs the whole request: the rest of it is asked for again."""
        refused = self.refuse_what_is_named(text)
        if not refused:
            LOG.error("COINBASE says: %s", text)
        for channel in sorted({channel for channel, _ in refused}):
            rest = [
                self.std_symbol_to_exchange_symbol(symbol)
                for pending, symbol in sorted(self.subscriptions.pending)
                if pending == channel
            ]
            if rest:
                await self._ask(connection, self.std_channel_to_exchange(channel), rest)

    async def _tickers(self, it: dict[str, Any], timestamp: float) -> None:
        when = seconds(it["timestamp"])
        for event in it["events"]:
            for ticker in event["tickers"]:
                symbol = self.exchange_symbol_to_std_symbol(ticker["product_id"])
                bid, ask = Decimal(ticker["best_bid"]), Decimal(ticker["best_ask"])
                await self.callback(TICKER, Ticker(self.id, symbol, bid, ask, when, raw=ticker), timestamp)

    async def _trades(self, event: dict[str, Any], timestamp: float) -> None:
        trades = sorted(event["trades"], key=lambda trade: int(trade["trade_id"]))
        if event["type"] == "snapshot":
            await self._past_trades(trades, timestamp)
            return
        for trade in trades:
            symbol = self.exchange_symbol_to_std_symbol(trade["product_id"])
            if trade["trade_id"] not in self._past.get(symbol, ()):
                await self._trade(trade, symbol, timestamp)

    async def _past_trades(self, trades: list[dict[str, Any]], timestamp: float) -> None:
        """Of the past, what is newer than the last trade that was recorded; where none is known, nothing."""
        symbols = {self.exchange_symbol_to_std_symbol(trade["product_id"]) for trade in trades}
        last = {symbol: self._last_trade(symbol) for symbol in symbols}
        for trade in trades:
            symbol, number = self.exchange_symbol_to_std_symbol(trade["product_id"]), int(trade["trade_id"])
            self._past.setdefault(symbol, set()).add(trade["trade_id"])
            if -1 < last[symbol] < number:
                await self._trade(trade, symbol, timestamp)
            self._mark_trade(symbol, number)

    async def _trade(self, it: dict[str, Any], symbol: str, timestamp: float) -> None:
        trade = Trade(
            self.id,
            symbol,
            SELL if it["side"] == "SELL" else BUY,
            Decimal(it["size"]),
            Decimal(it["price"]),
            seconds(it["time"]),
            id=it["trade_id"],
            raw=it,
        )
        self._mark_trade(symbol, int(it["trade_id"]))
        await self.callback(TRADES, trade, timestamp)

    def _last_trade(self, symbol: str) -> int:
        mark = self.memory.recall(f"trade {self.id} {symbol}") or ""
        return int(mark) if mark.isdecimal() else -1  # a damaged one says nothing

    def _mark_trade(self, symbol: str, number: int) -> None:
        if number > self._last_trade(symbol):
            self.memory.mark(f"trade {self.id} {symbol}", str(number))

    async def _books(self, it: dict[str, Any], timestamp: float) -> None:
        when = seconds(it["timestamp"])
        for event in it["events"]:
            if event["type"] == "snapshot":
                await self._book_snapshot(event, timestamp, when)
            else:
                await self._pair_level2_update(event, timestamp, when)

    async def _book_snapshot(self, event: dict[str, Any], timestamp: float, when: float) -> None:
        symbol = self.exchange_symbol_to_std_symbol(event["product_id"])
        sides: dict[str, dict[Decimal, Decimal]] = {"bid": {}, "offer": {}}
        for level in event["updates"]:
            sides[level["side"]][Decimal(level["price_level"])] = Decimal(level["new_quantity"])
        book = OrderBook(self.id, symbol, max_depth=self.max_depth, bids=sides["bid"], asks=sides["offer"])
        self._l2_book[symbol] = book
        await self.book_callback(L2_BOOK, book, timestamp, timestamp=when, raw=event)


@lru_cache(maxsize=64)
def _whole_seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def seconds(text: str) -> float:
    """Seconds since 1970, UTC, of an ISO time with up to 9 fractional digits and Z."""
    if not text.endswith("Z"):
        return datetime.fromisoformat(text).timestamp()
    return _whole_seconds(text[:19]) + float(f"0{text[19:-1]}")
