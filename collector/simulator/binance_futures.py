"""BINANCE_FUTURES, USD-M: streams on two paths, exchange information, depth snapshots, open interest.

Sources, read 2026-11-28: developers.binance.com, derivatives, "Websocket Market Streams" ("streams", by
section), "Important WebSocket Change Notice" of 2026-03-06 ("notice"), "Market Data Endpoints" ("rest", by
section); fields beyond those as in messages that were recorded in 2026 ("recorded").
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, override

from collector.simulator.binance import Binance, BinanceSession, Stream, exchange_symbol
from collector.simulator.exchange import Answer, Connection, book
from collector.simulator.instruments import first_price
from collector.simulator.log import Record
from collector.simulator.market import Instrument, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

PUBLIC = frozenset({"ticker", "l2_book"})  # "notice": bookTicker and depth; everything else is on /market
DEPTHS = (5, 10, 20, 50, 100, 500, 1000)  # "rest", order book
DEFAULT_DEPTH = 500
SECOND = 1_000_000_000  # nanoseconds
FUNDING_PERIOD = 8 * 3600  # seconds
ALWAYS = {"st": 1}  # "recorded"


class BinanceFuturesSession(BinanceSession):
    """One combined-stream websocket; what belongs to the other path is acknowledged and silent."""

    truncated = b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":16725157821'
    exchange: BinanceFutures
    trade_ends = ALWAYS

    def __init__(
        self, connection: Connection, exchange: BinanceFutures, streams: Sequence[str], *, public: bool
    ) -> None:
        self._public = public
        super().__init__(connection, exchange, streams)

    @override
    def _is_silent(self, stream: Stream) -> bool:
        return (stream.channel in PUBLIC) is not self._public or super()._is_silent(stream)

    @override
    def _send_step(self, name: str, stream: Stream, step: Step) -> None:
        if stream.channel == "funding":
            self._send_mark_price(name, stream.symbol, step)
        elif stream.channel == "liquidations":
            self._send_forced_order(name, stream.symbol, step)
        else:
            super()._send_step(name, stream, step)

    @override
    def _send_ticker(self, name: str, symbol: str, step: Step) -> None:
        """By "streams", individual symbol book ticker."""
        (bid, bid_size), (ask, ask_size) = step.best_bid, step.best_ask
        when, pair = step.time // 1_000_000, exchange_symbol(symbol)
        data = {
            "e": "bookTicker",
            "u": step.last_update,
            "s": pair,
            "ps": pair,
            "b": bid,
            "B": bid_size,
            "a": ask,
            "A": ask_size,
            "T": when,
            "E": when,
        }
        content: dict[str, object] = {
            "bid": bid,
            "bid_size": bid_size,
            "ask": ask,
            "ask_size": ask_size,
            "timestamp": str(when),
        }
        self._send(name, data | ALWAYS, [Record("ticker", symbol, content)])

    @override
    def _send_best(self, name: str, stream: Stream) -> None:
        """By "streams", partial book depth: the fields of an update, with all of the best levels."""
        market = self.exchange.markets[stream.symbol]
        bids, asks = market.bids(stream.levels), market.asks(stream.levels)
        last, when = market.last_update, time.time_ns() // 1_000_000
        data = self._update(stream.symbol, when, (last, last, last), bids, asks)
        content = book("snapshot", bids, asks, str(when), last_update_id=last)
        self._send(name, data, [Record("l2_book", stream.symbol, content)])

    @override
    def _send_book(self, name: str, symbol: str, step: Step) -> None:
        """By "streams", diff. book depth: pu is the u of the event before."""
        when = step.time // 1_000_000
        ids = step.first_update, step.last_update, step.first_update - 1
        data = self._update(symbol, when, ids, step.bids, step.asks)
        numbers = {"first_update_id": step.first_update, "last_update_id": step.last_update}
        content = book("delta", step.bids, step.asks, str(when), **numbers)
        self._send(name, data, [Record("l2_book", symbol, content)])

    @staticmethod
    def _update(
        symbol: str, when: int, ids: tuple[int, int, int], bids: object, asks: object
    ) -> dict[str, object]:
        first, last, previous = ids
        pair = exchange_symbol(symbol)
        event = {"e": "depthUpdate", "E": when, "T": when, "s": pair, "ps": pair}
        return event | {"U": first, "u": last, "pu": previous, "b": bids, "a": asks} | ALWAYS

    def _send_mark_price(self, name: str, symbol: str, step: Step) -> None:
        """By "streams", mark price: once a second; T is when the running period's funding is paid."""
        second = step.time // 1_000_000_000
        if not self.exchange.is_due(name, step.time):
            return
        mark, index = step.best_bid[0], step.best_ask[0]
        paid = (second // FUNDING_PERIOD + 1) * FUNDING_PERIOD * 1000
        rate = f"{(step.last_update % 20_001 - 10_000) / 10**8:.8f}"
        data = {
            "e": "markPriceUpdate",
            "E": second * 1000,
            "s": exchange_symbol(symbol),
            "p": mark,
            "ap": mark,
            "P": mark,
            "i": index,
            "r": rate,
            "T": paid,
        }
        when = str(second * 1000)
        funding: dict[str, object] = {
            "mark_price": mark,
            "rate": rate,
            "next_funding_time": str(paid),
            "predicted_rate": None,
            "timestamp": when,
        }
        records = [
            Record("funding", symbol, funding),
            Record("index", symbol, {"price": index, "timestamp": when}),
        ]
        self._send(name, data | ALWAYS, records)

    def _send_forced_order(self, name: str, symbol: str, step: Step) -> None:
        """By "streams", liquidation order: the largest of a symbol within a second."""
        if not self.exchange.is_due(name, step.time):
            return
        trade, when, pair = step.trades[-1], step.time // 1_000_000, exchange_symbol(symbol)
        order = {
            "s": pair,
            "S": trade.side.upper(),
            "o": "LIMIT",
            "f": "IOC",
            "q": trade.amount,
            "p": trade.price,
            "ap": trade.price,
            "X": "FILLED",
            "l": trade.amount,
            "z": trade.amount,
            "T": trade.time // 1_000_000,
            "ps": pair,
        }
        content: dict[str, object] = {
            "side": trade.side,
            "quantity": trade.amount,
            "price": trade.price,
            "status": "filled",
            "timestamp": str(when),
        }
        data = {"e": "forceOrder", "E": when, "o": order | ALWAYS}
        self._send(name, data, [Record("liquidations", symbol, content)])


class BinanceFutures(Binance):
    """BINANCE_FUTURES' host names, symbols and digits; every symbol is a perpetual, BTC-USDT-PERP."""

    name = "BINANCE_FUTURES"
    websocket_hosts = frozenset({"fstream.binance.com"})
    rest_hosts = frozenset({"fapi.binance.com"})
    ports = frozenset({443})
    root = "/fapi/v1"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._due: dict[str, int] = {}  # when a stream of one message a second was due last

    def is_due(self, name: str, time: int) -> bool:
        """Whether a stream of one message a second has it at this step: the same one on each connection."""
        if self._due.get(name, 0) // SECOND != time // SECOND:
            self._due[name] = time
        return self._due[name] == time

    @override
    @staticmethod
    def instrument(symbol: str) -> Instrument:
        start, digits = first_price(symbol, "BINANCE_FUTURES")
        return Instrument(symbol, start, digits, size_digits=3, price_padding=1)

    @override
    def open(self, connection: Connection, request: web.BaseRequest) -> BinanceFuturesSession:
        streams = request.query.get("streams", "").split("/")
        # The address of old, without a path of its own, has what is public.
        public = not request.path.startswith("/market/")
        return BinanceFuturesSession(connection, self, streams, public=public)

    @override
    def stream(self, name: str) -> Stream | None:
        pair, _, kind = name.partition("@")
        if kind in ("markPrice", "markPrice@1s", "forceOrder") and pair.islower():
            symbol = self._symbols.get(pair.upper())
            channel = "liquidations" if kind == "forceOrder" else "funding"
            return Stream(channel, symbol) if symbol else None
        found = super().stream(name)
        return None if found and found.single else found  # "streams": trades are aggregates

    @override
    def rest(self, request: web.BaseRequest) -> Answer:
        if request.path == f"{self.root}/openInterest":
            return self._open_interest(request.query.get("symbol", ""))
        return super().rest(request)

    @override
    def _depth(self, pair: str, limit: str) -> Answer:
        """By "rest", order book: with times, and for some limits only."""
        limit = limit or str(DEFAULT_DEPTH)
        if limit.isdecimal() and int(limit) not in DEPTHS:
            return Answer({"code": -4021, "msg": f"{limit} is not valid depth limit."}, 400)
        answer = super()._depth(pair, limit)
        if answer.status != 200 or not isinstance(answer.body, dict):
            return answer
        when = time.time_ns() // 1_000_000
        (record,) = answer.records
        timed = record._replace(content=record.content | {"timestamp": str(when)})
        return Answer(answer.body | {"E": when, "T": when}, records=(timed,))

    def _open_interest(self, pair: str) -> Answer:
        """By "rest", open interest."""
        symbol = self._symbols.get(pair)
        if symbol is None:
            return Answer({"code": -1121, "msg": "Invalid symbol."}, 400)
        when = time.time_ns() // 1_000_000
        amount = f"{self.markets[symbol].last_update / 1000:.3f}"
        content: dict[str, object] = {"open_interest": amount, "timestamp": str(when)}
        body = {"openInterest": amount, "symbol": pair, "time": when}
        return Answer(body, records=(Record("open_interest", symbol, content),))

    @override
    @staticmethod
    def _symbol(instrument: Instrument) -> dict[str, object]:
        """By "rest", exchange information."""
        shared = Binance._symbol(instrument)  # noqa: SLF001 - a row of the same family
        pair = exchange_symbol(instrument.symbol)
        kept = ("symbol", "status", "baseAsset", "quoteAsset", "filters")
        contract = {
            "pair": pair,
            "contractType": "PERPETUAL",
            "deliveryDate": 4_133_404_800_000,
            "onboardDate": 1_569_398_400_000,
            "marginAsset": instrument.quote,
            "pricePrecision": instrument.price_digits + instrument.price_padding,
            "quantityPrecision": instrument.size_digits,
        }
        return {name: shared[name] for name in kept} | contract
