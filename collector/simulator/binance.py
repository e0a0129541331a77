"""BINANCE, spot: combined market streams, exchange information and depth snapshots.

Sources: https://github.com/binance/binance-spot-api-docs, web-socket-streams.md ("streams", by section) and
rest-api.md ("rest", by section); errors.md ("errors").
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, NamedTuple, override

import msgspec

from collector.simulator.exchange import Answer, Connection, Exchange, Session, book
from collector.simulator.instruments import first_price
from collector.simulator.log import Record
from collector.simulator.market import Candle, Instrument, Step, Trade

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiohttp import web

# "streams", kline: the lengths that fit a whole number of times into the epoch, in seconds
INTERVALS = {
    **{f"{n}m": n * 60 for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * 3600 for n in (1, 2, 4, 6, 8, 12)},
    **{f"{n}d": n * 86400 for n in (1, 3)},
}
METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
DEFAULT_DEPTH, LARGEST_DEPTH = 100, 5000  # "rest", order book


class Stream(NamedTuple):
    """One stream: the channel in cryptofeed's words, the symbol, and what is particular.

    Attributes:
        interval: of candles.
        single: trades are single ones, not aggregates.
        levels: of a partial book; 0 for changes of all.
    """

    channel: str
    symbol: str
    interval: str = ""
    single: bool = False
    levels: int = 0


class Request(msgspec.Struct):
    """What a client may send ("streams", live subscribing)."""

    method: str
    params: list[str] = []
    id: int | str | None = None


class BinanceSession(Session):
    """One combined-stream websocket."""

    truncated = b'{"stream":"btcusdt@trade","data":{"e":"trade","E":16725157821'

    trade_ends: ClassVar[Mapping[str, object]] = {"M": True}  # how a trade ends, by "streams"

    exchange: Binance

    def __init__(self, connection: Connection, exchange: Binance, streams: Sequence[str]) -> None:
        super().__init__(connection, exchange)
        self._streams: dict[str, Stream] = {}
        self._subscribe(streams)

    @override
    def receive(self, text: str) -> None:
        try:
            request = msgspec.json.decode(text, type=Request)
        except msgspec.ValidationError as error:
            self._error(2, f"Invalid request: {error}")
            return
        except msgspec.DecodeError as error:
            self._error(3, f"Invalid JSON: {error}")
            return
        match request.method:
            case "SUBSCRIBE" if self._refuses_request(request.params):
                refused = {"code": 2, "msg": "Invalid request: a stream of it is refused"}
                self.connection.send({"error": refused, "id": request.id})
            case "SUBSCRIBE":
                self._subscribe(request.params)
                self._result(request, None)
                self._repeat_trades(request.params)
            case "UNSUBSCRIBE":
                for name in request.params:
                    self._streams.pop(name, None)
                self._result(request, None)
            case "LIST_SUBSCRIPTIONS":
                self._result(request, list(self._streams))
            case "GET_PROPERTY":
                self._result(request, True)
            case method if method not in METHODS:
                expected = ", ".join(f"`{known}`" for known in METHODS)
                self._error(2, f"Invalid request: unknown variant `{method}`, expected one of {expected}")
            case _:
                self._result(request, None)

    @override
    def update(self, steps: Mapping[str, Step]) -> None:
        for name, stream in self._streams.items():
            if (step := steps.get(stream.symbol)) and not self._is_silent(stream):
                self._send_step(name, stream, step)

    @override
    def subscriptions(self) -> dict[str, list[str]]:
        subscribed: dict[str, list[str]] = {}
        for stream in self._streams.values():
            subscribed.setdefault(stream.channel, []).append(stream.symbol)
        return subscribed

    @override
    def unknown_type(self) -> None:
        name = next(iter(self._streams), "btcusdt@trade")
        self._send(name, {"e": "notice", "E": time.time_ns() // 1_000_000, "text": "a type of tomorrow"})

    @override
    def announce(self) -> None:
        # "streams", general: sent when the server is about to shut down
        self.connection.send({"e": "serverShutdown", "E": time.time_ns() // 1_000_000})

    @override
    def wrong_shape(self) -> None:
        name = next(iter(self._streams), "btcusdt@trade")
        self._send(name, {"e": "trade", "E": time.time_ns() // 1_000_000, "s": "BTCUSDT", "p": {}})

    def _subscribe(self, names: Sequence[str]) -> None:
        """Streams that do not exist are ignored without a word, as the real one does."""
        for name in names:
            stream = self.exchange.stream(name)
            if stream is None or self.refuses(stream.channel, stream.symbol):
                continue
            self._streams[name] = stream
            if stream.interval:
                self.exchange.markets[stream.symbol].candle(INTERVALS[stream.interval])
        self.exchange.subscribed()

    def _refuses_request(self, names: Sequence[str]) -> bool:
        streams = filter(None, map(self.exchange.stream, names))
        return any(self.refuses_request(stream.channel, stream.symbol) for stream in streams)

    def _repeat_trades(self, names: Sequence[str]) -> None:
        for name in names:
            stream = self._streams.get(name)
            if stream and stream.channel == "trades" and self.repeats(stream.symbol):
                send = self._send_single if stream.single else self._send_aggregate
                for trade in self.exchange.markets[stream.symbol].recent:
                    send(name, stream.symbol, trade, trade.time, repeated=True)

    def _is_silent(self, stream: Stream) -> bool:
        """Return whether a stream is acknowledged on this connection, and sends nothing."""
        return self.is_silent(stream.channel, stream.symbol)

    def _send_step(self, name: str, stream: Stream, step: Step) -> None:
        match stream.channel:
            case "trades":
                send = self._send_single if stream.single else self._send_aggregate
                for trade in step.trades:
                    send(name, stream.symbol, trade, step.time)
            case "ticker":
                self._send_ticker(name, stream.symbol, step)
            case "l2_book" if stream.levels:
                self._send_best(name, stream)
            case "l2_book":
                self._send_book(name, stream.symbol, step)
            case "candles":
                for candle in step.candles[INTERVALS[stream.interval]]:
                    self._send_candle(name, stream, candle, step)

    def _result(self, request: Request, result: object) -> None:
        self.connection.send({"result": result, "id": request.id})

    def _error(self, code: int, message: str) -> None:
        """By "streams", error messages."""
        self.connection.send({"code": code, "msg": message})

    def _send(self, name: str, data: object, records: Sequence[Record] = ()) -> None:
        """Combined stream events are wrapped ("streams", general)."""
        self.connection.send({"stream": name, "data": data}, records)

    def _send_single(
        self, name: str, symbol: str, trade: Trade, time: int, *, repeated: bool = False
    ) -> None:
        """By "streams", trade."""
        beginning = {"e": "trade", "E": time // 1_000_000, "t": trade.id}
        self._send_trade(name, symbol, trade, beginning, repeated=repeated)

    def _send_aggregate(
        self, name: str, symbol: str, trade: Trade, time: int, *, repeated: bool = False
    ) -> None:
        """By "streams", aggregate trade."""
        ids = {"a": trade.id, "f": trade.id * 2, "l": trade.id * 2 + 1}
        beginning = {"e": "aggTrade", "E": time // 1_000_000, **ids}
        self._send_trade(name, symbol, trade, beginning, repeated=repeated)

    def _send_trade(
        self, name: str, symbol: str, trade: Trade, beginning: Mapping[str, object], *, repeated: bool
    ) -> None:
        when = trade.time // 1_000_000
        data = {
            **beginning,
            "s": exchange_symbol(symbol),
            "p": trade.price,
            "q": trade.amount,
            "T": when,
            "m": trade.side == "sell",
            **self.trade_ends,
        }
        content: dict[str, object] = {
            "id": str(trade.id),
            "side": trade.side,
            "price": trade.price,
            "amount": trade.amount,
            "timestamp": str(when),
            "type": None,
        } | ({"repeated": True} if repeated else {})
        self._send(name, data, [Record("trades", symbol, content)])

    def _send_best(self, name: str, stream: Stream) -> None:
        """By "streams", partial book depth: no event type, no symbol, no time."""
        market = self.exchange.markets[stream.symbol]
        bids, asks = market.bids(stream.levels), market.asks(stream.levels)
        data = {"lastUpdateId": market.last_update, "bids": bids, "asks": asks}
        content = book("snapshot", bids, asks, None, last_update_id=market.last_update)
        self._send(name, data, [Record("l2_book", stream.symbol, content)])

    def _send_ticker(self, name: str, symbol: str, step: Step) -> None:
        """By "streams", individual symbol book ticker: no event type, no time."""
        (bid, bid_size), (ask, ask_size) = step.best_bid, step.best_ask
        update, pair = step.last_update, exchange_symbol(symbol)
        data = {"u": update, "s": pair, "b": bid, "B": bid_size, "a": ask, "A": ask_size}
        content: dict[str, object] = {
            "bid": bid,
            "bid_size": bid_size,
            "ask": ask,
            "ask_size": ask_size,
            "timestamp": None,
            "update_id": update,
        }
        self._send(name, data, [Record("ticker", symbol, content)])

    def _send_book(self, name: str, symbol: str, step: Step) -> None:
        """By "streams", diff. depth: U follows the last event's u."""
        when = step.time // 1_000_000
        ids = {"first_update_id": step.first_update, "last_update_id": step.last_update}
        data = {
            "e": "depthUpdate",
            "E": when,
            "s": exchange_symbol(symbol),
            "U": step.first_update,
            "u": step.last_update,
            "b": step.bids,
            "a": step.asks,
        }
        content = book("delta", step.bids, step.asks, str(when), **ids)
        self._send(name, data, [Record("l2_book", symbol, content)])

    def _send_candle(self, name: str, stream: Stream, candle: Candle, step: Step) -> None:
        """By "streams", kline/candlestick; T is the interval's last millisecond."""
        when = step.time // 1_000_000
        data = {
            "e": "kline",
            "E": when,
            "s": exchange_symbol(stream.symbol),
            "k": {
                "t": candle.start * 1000,
                "T": candle.end * 1000 - 1,
                "s": exchange_symbol(stream.symbol),
                "i": stream.interval,
                "f": candle.first_id,
                "L": candle.last_id,
                "o": candle.open,
                "c": candle.close,
                "h": candle.high,
                "l": candle.low,
                "v": candle.volume,
                "n": candle.trades,
                "x": candle.closed,
                "q": "1.00000000",
                "V": "0.50000000",
                "Q": "0.50000000",
                "B": "0",
            },
        }
        content: dict[str, object] = {
            "interval": INTERVALS[stream.interval],
            "start": candle.start,
            "stop": (candle.end * 1000 - 1) / 1000,
            "open": candle.open,
            "high": candle.high,
            "low": candle.low,
            "close": candle.close,
            "volume": candle.volume,
            "trades": candle.trades,
            "closed": candle.closed,
            "timestamp": str(when),
        }
        self._send(name, data, [Record("candles", stream.symbol, content)])


class Binance(Exchange):
    """BINANCE's host names, symbols and digits."""

    name = "BINANCE"
    websocket_hosts = frozenset({"stream.binance.com"})
    rest_hosts = frozenset({"api.binance.com"})
    ports = frozenset({443, 9443})
    root = "/api/v3"

    @property
    def _symbols(self) -> dict[str, str]:
        return {exchange_symbol(symbol): symbol for symbol in self.markets}

    @override
    @staticmethod
    def instrument(symbol: str) -> Instrument:
        start, digits = first_price(symbol, "BINANCE")
        return Instrument(symbol, start, digits, size_digits=8, price_padding=8 - digits)

    @override
    def open(self, connection: Connection, request: web.BaseRequest) -> BinanceSession:
        return BinanceSession(connection, self, request.query.get("streams", "").split("/"))

    def stream(self, name: str) -> Stream | None:
        """Return the stream of this name, or None; symbols are in lower case ("streams", general)."""
        pair, _, kind = name.partition("@")
        symbol = self._symbols.get(pair.upper()) if pair.islower() else None
        if symbol is None:
            return None
        word, _, speed = kind.partition("@")
        is_book = word.startswith("depth") and speed in ("", "100ms", "1000ms")
        if is_book and word[5:] in ("", "5", "10", "20"):
            return Stream("l2_book", symbol, levels=int(word[5:] or 0))
        if word.startswith("kline_") and word[6:] in INTERVALS and not speed:
            return Stream("candles", symbol, word[6:])
        streams = {
            "trade": Stream("trades", symbol, single=True),
            "aggTrade": Stream("trades", symbol),
            "bookTicker": Stream("ticker", symbol),
        }
        return streams.get(kind)

    @override
    def rest(self, request: web.BaseRequest) -> Answer:
        match request.path.removeprefix(self.root):
            case "/exchangeInfo":
                return Answer(self._exchange_info())
            case "/depth":
                return self._depth(request.query.get("symbol", ""), request.query.get("limit", ""))
        return Answer({"code": -1000, "msg": f"no such path: {request.path}"}, 404)

    def _depth(self, pair: str, limit: str) -> Answer:
        """By "rest", order book; "errors" for those who ask wrongly."""
        if not pair:
            text = "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."
            return Answer({"code": -1102, "msg": text}, 400)
        if pair not in self._symbols:
            return Answer({"code": -1121, "msg": "Invalid symbol."}, 400)
        if limit and not (limit.isdecimal() and int(limit)):
            return Answer({"code": -1100, "msg": "Illegal characters found in parameter 'limit'."}, 400)
        symbol = self._symbols[pair]
        market = self.markets[symbol]
        depth = min(int(limit or DEFAULT_DEPTH), LARGEST_DEPTH)
        bids, asks = market.bids(depth), market.asks(depth)
        content = book("snapshot", bids, asks, None, last_update_id=market.last_update)
        body = {"lastUpdateId": market.last_update, "bids": bids, "asks": asks}
        return Answer(body, records=(Record("l2_book", symbol, content),))

    def _exchange_info(self) -> dict[str, object]:
        """By "rest", exchange information."""
        odd = {"symbol": "ODD", "status": "TRADING", "contractType": "SOMETHING_NEW", "baseAsset": "ODD"}
        rows = [self._symbol(market.instrument) for market in self.markets.values()]
        return {
            "timezone": "UTC",
            "serverTime": time.time_ns() // 1_000_000,
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": [*rows, odd] if self.faults.take("unreadable_row", self.name) else rows,
        }

    @staticmethod
    def _symbol(instrument: Instrument) -> dict[str, object]:
        tick, lot = instrument.price(1), instrument.size(1)
        return {
            "symbol": exchange_symbol(instrument.symbol),
            "status": "TRADING",
            "baseAsset": instrument.base,
            "baseAssetPrecision": 8,
            "quoteAsset": instrument.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": tick,
                    "maxPrice": "1000000.00000000",
                    "tickSize": tick,
                },
                {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000000000.00000000", "stepSize": lot},
            ],
            "permissions": [],
            "permissionSets": [["SPOT"]],
        }


def exchange_symbol(symbol: str) -> str:
    """Return the exchange's own name of a symbol."""
    return symbol.removesuffix("-PERP").replace("-", "")
