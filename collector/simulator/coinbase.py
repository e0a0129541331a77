"""COINBASE, Advanced Trade: public REST products and the market data websocket.

Sources, below by the names in quotes:

- "channels": https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels
- "overview": https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-overview
- "asyncapi": https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/advanced-trade-asyncapi.json
- "products": https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/, public, list public products
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, override

import msgspec

from collector.simulator.exchange import Answer, Connection, Exchange, Session, book, iso
from collector.simulator.instruments import first_price
from collector.simulator.log import Record
from collector.simulator.market import Instrument, Level, Step, Trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiohttp import web

SNAPSHOT_TRADES = 10
CHANNELS = {"ticker": "ticker", "level2": "l2_book", "market_trades": "trades"}


class Request(msgspec.Struct):
    """What a client may send ("overview", subscribe); keys and signatures are accepted and ignored."""

    type: str
    channel: str = ""
    product_ids: list[str] = []


class CoinbaseSession(Session):
    """One Advanced Trade websocket; ``sequence_num`` counts its messages ("overview", sequence numbers)."""

    truncated = b'{"channel":"market_trades","client_id":"","timestamp":"2026-01-01T00:00:00.0000'

    exchange: Coinbase

    def __init__(self, connection: Connection, exchange: Coinbase) -> None:
        super().__init__(connection, exchange)
        self._sequence = itertools.count()
        self._subscribed: dict[
            str, dict[str, None]
        ] = {}  # channel -> products in the order they were asked for
        self._heartbeats: itertools.count[int] | None = None
        self._grouped = False

    @override
    def patience(self) -> float | None:
        # "overview": you are disconnected if no subscribe has been received within 5 seconds
        return None if self._subscribed or self._heartbeats else 5.0

    @override
    def receive(self, text: str) -> None:
        try:
            request = msgspec.json.decode(text, type=Request)
        except msgspec.DecodeError:
            self._error("failure to parse message")
            return
        if request.type == "subscribe":
            self._subscribe(request)
        elif request.type == "unsubscribe":
            self._unsubscribe(request)
        else:
            self._error(f"unknown message type: {request.type}")

    @override
    def update(self, steps: Mapping[str, Step]) -> None:
        # One message for all products or one for each, in turn: real frames carry one event or several.
        self._grouped = not self._grouped
        for channel, send in (
            ("ticker", self._send_tickers),
            ("level2", self._send_books),
            ("market_trades", self._send_trades),
        ):
            followed = self._subscribed.get(channel, ())
            mine = self._lively(channel, [product for product in followed if product in steps])
            if self._grouped and mine:
                send(mine, steps)
            elif mine:
                for product in mine:
                    send([product], steps)

    @override
    def beat(self) -> None:
        now = time.time_ns()
        if self._heartbeats is not None:
            # "channels", heartbeats: every second, with a counter
            event = {
                "current_time": f"{iso(now, 9)[:-1].replace('T', ' ')} +0000 UTC",
                "heartbeat_counter": next(self._heartbeats),
            }
            self._send("heartbeats", [event], now)

    @override
    def send_snapshots(self, symbol: str | None) -> None:
        followed = self._lively("level2", self._subscribed.get("level2", ()))
        self._snapshot("level2", [product for product in followed if symbol in (None, product)])

    def _lively(self, channel: str, products: Iterable[str]) -> list[str]:
        return [product for product in products if not self.is_silent(CHANNELS[channel], product)]

    @override
    def subscriptions(self) -> dict[str, list[str]]:
        return {CHANNELS[channel]: list(products) for channel, products in self._subscribed.items()}

    @override
    def unknown_type(self) -> None:
        # "overview": message types may be added at any time, clients are to ignore those they do not know
        self._send("notices", [{"type": "notice", "text": "a message type of tomorrow"}], time.time_ns())

    @override
    def wrong_shape(self) -> None:
        self._send(
            "market_trades", [{"type": "update", "trades": [{"trade_id": "1", "price": {}}]}], time.time_ns()
        )

    def _subscribe(self, request: Request) -> None:
        channel, products = request.channel, request.product_ids
        if channel == "heartbeats":
            self._heartbeats = itertools.count()
            self._confirm()
            return
        if channel not in CHANNELS:
            # The answer to a channel that is unknown or private; coinbase-advanced-py, issue 92
            self._error("authentication failure")
            return
        for product in products or self.exchange.markets:
            if product not in self.exchange.markets:
                self._error(f"{product} is not a valid product")
                return
            if self.refuses(CHANNELS[channel], product):
                self._error(f"failed to subscribe to {channel} for {product}")
                return
        fresh = dict.fromkeys(products or self.exchange.markets)
        self._subscribed.setdefault(channel, {}).update(fresh)
        self._snapshot(channel, self._lively(channel, fresh))
        self._confirm()
        if channel == "market_trades":
            self._repeat_trades([product for product in fresh if self.repeats(product)])
        self.exchange.subscribed()

    def _unsubscribe(self, request: Request) -> None:
        # "overview": without products, all of the channel
        if request.channel == "heartbeats":
            self._heartbeats = None
        subscribed = self._subscribed.get(request.channel, {})
        for product in request.product_ids or list(subscribed):
            subscribed.pop(product, None)
        if not subscribed:
            self._subscribed.pop(request.channel, None)
        self._confirm()

    def _confirm(self) -> None:
        """The state of all subscriptions ("asyncapi", subscriptions)."""
        subscribed = {channel: list(products) for channel, products in self._subscribed.items()}
        if self._heartbeats is not None:
            subscribed["heartbeats"] = ["heartbeats"]
        self._send("subscriptions", [{"subscriptions": subscribed}], time.time_ns())

    def _error(self, message: str) -> None:
        """No envelope and no number ("asyncapi", error)."""
        self.connection.send({"type": "error", "message": message})

    def _send(
        self,
        channel: str,
        events: Sequence[object],
        now: int,
        records: list[Record] | None = None,
    ) -> None:
        """The envelope of every message ("channels", all examples; 9 digits as on the real feed)."""
        self.connection.send(
            {
                "channel": channel,
                "client_id": "",
                "timestamp": iso(now, 9),
                "sequence_num": next(self._sequence),
                "events": events,
            },
            records or [],
        )

    def _snapshot(self, channel: str, products: list[str]) -> None:
        now = time.time_ns()
        markets = self.exchange.markets
        if not products:
            return
        if channel == "ticker":
            best = {
                product: (markets[product].bids(1)[0], markets[product].asks(1)[0]) for product in products
            }
            self._send_ticker_event("snapshot", best, now)
        elif channel == "level2":
            for product in products:
                bids, asks = markets[product].bids(1_000), markets[product].asks(1_000)
                # "channels", level2: the levels of a snapshot carry the beginning of time
                event = self._book_event("snapshot", product, bids, asks, "1970-01-01T00:00:00Z")
                content = book("snapshot", bids, asks, iso(now, 9))
                self._send("l2_data", [event], now, [Record("l2_book", product, content)])
        else:
            trades = {product: list(markets[product].recent)[-SNAPSHOT_TRADES:][::-1] for product in products}
            self._send_trade_events("snapshot", trades, now)

    def _send_tickers(self, products: list[str], steps: Mapping[str, Step]) -> None:
        best = {product: (steps[product].best_bid, steps[product].best_ask) for product in products}
        self._send_ticker_event("update", best, steps[products[0]].time)

    def _send_ticker_event(self, kind: str, best: dict[str, tuple[Level, Level]], now: int) -> None:
        """By "channels", ticker: one event, one ticker a product."""
        tickers, records = [], []
        for product, (bid, ask) in best.items():
            price = self.exchange.markets[product].recent[-1].price
            tickers.append(
                {
                    "type": "ticker",
                    "product_id": product,
                    "price": price,
                    "volume_24_h": "16038.28770938",
                    "low_24_h": price,
                    "high_24_h": price,
                    "low_52_w": price,
                    "high_52_w": price,
                    "price_percent_chg_24_h": "-4.15775596190603",
                    "best_bid": bid[0],
                    "best_bid_quantity": bid[1],
                    "best_ask": ask[0],
                    "best_ask_quantity": ask[1],
                }
            )
            content: dict[str, object] = {
                "bid": bid[0],
                "bid_size": bid[1],
                "ask": ask[0],
                "ask_size": ask[1],
                "timestamp": iso(now, 9),
            }
            records.append(Record("ticker", product, content))
        self._send("ticker", [{"type": kind, "tickers": tickers}], now, records)

    def _send_books(self, products: list[str], steps: Mapping[str, Step]) -> None:
        now = steps[products[0]].time
        events, records = [], []
        for product in products:
            step = steps[product]
            events.append(self._book_event("update", product, step.bids, step.asks, iso(step.time, 6)))
            records.append(Record("l2_book", product, book("delta", step.bids, step.asks, iso(now, 9))))
        self._send("l2_data", events, now, records)

    @staticmethod
    def _book_event(
        kind: str, product: str, bids: Iterable[Level], asks: Iterable[Level], when: str
    ) -> dict[str, object]:
        """By "channels", level2: sides are bid and offer, a quantity of zero removes the level."""
        return {
            "type": kind,
            "product_id": product,
            "updates": [
                {"side": side, "event_time": when, "price_level": price, "new_quantity": size}
                for side, levels in (("bid", bids), ("offer", asks))
                for price, size in levels
            ],
        }

    def _send_trades(self, products: list[str], steps: Mapping[str, Step]) -> None:
        trades = {product: steps[product].trades for product in products}
        self._send_trade_events("update", trades, steps[products[0]].time)

    def _repeat_trades(self, products: list[str]) -> None:
        recent = {product: list(self.exchange.markets[product].recent) for product in products}
        if recent:
            self._send_trade_events("update", recent, time.time_ns(), mark="repeated")

    def _send_trade_events(
        self, kind: str, trades: Mapping[str, Iterable[Trade]], now: int, mark: str = ""
    ) -> None:
        """By "channels", market_trades: one or many trades an event; a snapshot begins with the newest."""
        events, records = [], []
        for product, some in trades.items():
            sent = []
            for trade in some:
                when = iso(trade.time, 6)
                sent.append(
                    {
                        "trade_id": str(trade.id),
                        "product_id": product,
                        "price": trade.price,
                        "size": trade.amount,
                        "side": "BUY" if trade.side == "sell" else "SELL",  # the maker's
                        "time": when,
                    }
                )
                content: dict[str, object] = {
                    "id": str(trade.id),
                    "side": trade.side,
                    "price": trade.price,
                    "amount": trade.amount,
                    "timestamp": when,
                    "type": None,
                }
                marked = mark or (kind if kind == "snapshot" else "")
                records.append(Record("trades", product, content | ({marked: True} if marked else {})))
            events.append({"type": kind, "trades": sent})
        self._send("market_trades", events, now, records)


class Coinbase(Exchange):
    """COINBASE's host names, products and digits."""

    name = "COINBASE"
    websocket_hosts = frozenset({"advanced-trade-ws.coinbase.com"})
    rest_hosts = frozenset({"api.coinbase.com"})

    @override
    @staticmethod
    def instrument(symbol: str) -> Instrument:
        start, price_digits = first_price(symbol, "COINBASE")
        return Instrument(symbol, start, price_digits, size_digits=8, trimmed=True)

    @override
    def open(self, connection: Connection, request: web.BaseRequest) -> CoinbaseSession:
        return CoinbaseSession(connection, self)

    @override
    def rest(self, request: web.BaseRequest) -> Answer:
        """The product list, public and (for those who sign, which is not checked) private ("products")."""
        if request.path in ("/api/v3/brokerage/market/products", "/api/v3/brokerage/products"):
            products = [self._product(market.instrument) for market in self.markets.values()]
            if self.faults.take("unreadable_row", self.name):
                products.append({"product_id": "", "product_type": "SPOT", "base_currency_id": ""})
            return Answer({"products": products, "num_products": len(products)})
        return Answer({"error": "unknown", "error_details": f"no such path: {request.path}"}, 404)

    def _product(self, instrument: Instrument) -> dict[str, object]:
        return {
            "product_id": instrument.symbol,
            "price": self.markets[instrument.symbol].recent[-1].price,
            "base_increment": instrument.lot,
            "quote_increment": instrument.tick,
            "price_increment": instrument.tick,
            "quote_min_size": "1",
            "quote_max_size": "150000000",
            "base_min_size": instrument.lot,
            "base_max_size": "3400",
            "base_name": instrument.base,
            "quote_name": instrument.quote,
            "status": "online",
            "is_disabled": False,
            "cancel_only": False,
            "limit_only": False,
            "post_only": False,
            "trading_disabled": False,
            "auction_mode": False,
            "product_type": "SPOT",
            "quote_currency_id": instrument.quote,
            "base_currency_id": instrument.base,
            "base_display_symbol": instrument.base,
            "quote_display_symbol": instrument.quote,
            "view_only": False,
            "alias": "",
            "alias_to": [],
        }
