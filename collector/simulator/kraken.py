"""KRAKEN, websocket API v1 and the public REST list of pairs; ``kraken_v2`` has version 2, on its path.

Sources: https://docs.kraken.com/api/docs/websocket-v1/ with one page for each message (below by their names),
the guide https://docs.kraken.com/api/docs/guides/spot-ws-book-v1 ("book guide"), and
https://docs.kraken.com/api/docs/rest-api/get-tradable-asset-pairs ("asset pairs").
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, override
from zlib import crc32

import msgspec

from collector.simulator.exchange import Answer, Connection, Exchange, Session, book
from collector.simulator.instruments import first_price
from collector.simulator.kraken_book import CHECKED_LEVELS, DEPTHS, View
from collector.simulator.kraken_v2 import KrakenV2Session
from collector.simulator.log import Record
from collector.simulator.market import MOST_LEVELS, Candle, Instrument, Level, Step, Trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from aiohttp import web

CHANNELS = {"trade": "trades", "ticker": "ticker", "book": "l2_book", "ohlc": "candles"}
INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)  # "ohlc", minutes
ASSETS = {"BTC": "XBT", "DOGE": "XDG"}  # KRAKEN's own names
LEAST_PRICE_DIGITS = 5  # on the wire, "45285.20000"


class Subscription(msgspec.Struct, frozen=True):
    """What of a channel is wanted; depth for books, interval for candles."""

    name: str = ""
    depth: int = 10
    interval: int = 1


class Request(msgspec.Struct, omit_defaults=True):
    """What a client may send ("subscribe", "unsubscribe", "ping")."""

    event: str
    pair: list[str] = []
    subscription: Subscription = Subscription()
    reqid: int | None = None


class KrakenSession(Session):
    """One v1 websocket."""

    truncated = b'[336,[["68231.40000","0.00100000","17955040'

    exchange: Kraken

    def __init__(self, connection: Connection, exchange: Kraken) -> None:
        super().__init__(connection, exchange)
        self._subscribed: dict[str, dict[str, Subscription]] = {}  # channel -> symbol
        self._views: dict[str, tuple[View, View]] = {}  # bids and asks, where the depth is limited
        self._said_something = False

    @override
    def greet(self) -> None:
        # "systemstatus": sent on connection
        self.connection.send(
            {
                "connectionID": 13_834_774_380_200_032_777 + self.connection.number,
                "event": "systemStatus",
                "status": "online",
                "version": "1.9.6",
            }
        )

    @override
    def receive(self, text: str) -> None:
        try:
            request = msgspec.json.decode(text, type=Request)
        except msgspec.DecodeError:
            self.connection.send({"errorMessage": "Malformed request", "event": "error"})
            return
        if request.event == "ping":
            self.connection.send(_with_reqid({"event": "pong"}, request))
        elif request.event in ("subscribe", "unsubscribe"):
            for pair in request.pair:
                self._answer(request, pair)
        else:
            self.connection.send({"errorMessage": "Unsupported event", "event": "error"})

    @override
    def update(self, steps: Mapping[str, Step]) -> None:
        for channel, subscriptions in self._subscribed.items():
            for symbol, subscription in subscriptions.items():
                if (step := steps.get(symbol)) and not self.is_silent(CHANNELS[channel], symbol):
                    self._said_something = True
                    self._send_update(channel, symbol, subscription, step)

    @override
    def beat(self) -> None:
        # "heartbeat": when there is no other traffic for about a second
        if self._subscribed and not self._said_something:
            self.connection.send({"event": "heartbeat"})
        self._said_something = False

    @override
    def subscriptions(self) -> dict[str, list[str]]:
        return {CHANNELS[channel]: list(symbols) for channel, symbols in self._subscribed.items() if symbols}

    @override
    def unknown_type(self) -> None:
        self.connection.send({"event": "notice", "message": "a message type of tomorrow"})

    @override
    def wrong_shape(self) -> None:
        self.connection.send([336, [["68231.40000"]], "trade", next(iter(self.exchange.pairs))])

    def _answer(self, request: Request, pair: str) -> None:
        """One status for each pair, then the snapshot ("subscriptionstatus")."""
        wanted = request.subscription
        status: dict[str, object] = {
            "channelID": _channel_id(wanted),
            "channelName": _channel_name(wanted),
            "event": "subscriptionStatus",
            "pair": pair,
            "status": f"{request.event}d",
            "subscription": _described(wanted),
        }
        error = self._error(request, pair)
        if error:
            status = {
                "errorMessage": error,
                "event": "subscriptionStatus",
                "pair": pair,
                "status": "error",
                "subscription": _described(wanted),
            }
        self.connection.send(_with_reqid(status, request))
        if not error and request.event == "subscribe":
            self._subscribe(wanted, self.exchange.pairs[pair])
        elif not error:
            self._subscribed.get(wanted.name, {}).pop(self.exchange.pairs[pair], None)

    def _error(self, request: Request, pair: str) -> str | None:  # noqa: PLR0911 - one for each error
        wanted = request.subscription
        if wanted.name not in CHANNELS:
            return "Subscription name invalid"
        if "/" not in pair:
            return f"Currency pair not in ISO 4217-A3 format {pair}"
        if pair not in self.exchange.pairs:
            return f"Currency pair not supported {pair}"
        if wanted.name == "book" and wanted.depth not in DEPTHS:
            return "Subscription depth not supported"
        if wanted.name == "ohlc" and wanted.interval not in INTERVALS:
            return "Subscription ohlc interval not supported"
        if request.event == "subscribe" and self.refuses(CHANNELS[wanted.name], self.exchange.pairs[pair]):
            return "Exceeded msg rate"
        return None

    def _subscribe(self, wanted: Subscription, symbol: str) -> None:
        self._subscribed.setdefault(wanted.name, {})[symbol] = wanted
        self.exchange.subscribed()
        if self.is_silent(CHANNELS[wanted.name], symbol):
            return
        market = self.exchange.markets[symbol]
        match wanted.name:
            case "trade":  # "trade": the last trades are sent as a snapshot, in the form of an update
                self._send_trades(symbol, list(market.recent), past=True)
            case "ticker":
                self._send_ticker(symbol, market.bids(1)[0], market.asks(1)[0])
            case "book":
                self._send_snapshot(symbol, wanted)
            case _:
                self._send_candles(symbol, wanted, [market.candle(wanted.interval * 60)])

    def _send_update(self, channel: str, symbol: str, subscription: Subscription, step: Step) -> None:
        match channel:
            case "trade":
                self._send_trades(symbol, step.trades)
            case "ticker":
                self._send_ticker(symbol, step.best_bid, step.best_ask)
            case "book":
                self._send_book(symbol, subscription, step)
            case _:
                self._send_candles(symbol, subscription, step.candles[subscription.interval * 60])

    def _send_trades(self, symbol: str, trades: Sequence[Trade], *, past: bool = False) -> None:
        """Trades have no id; price, volume, time, side, order type, misc ("trade")."""
        sent, records = [], []
        for trade in trades:
            when = _seconds(trade.time)
            sent.append([trade.price, trade.amount, when, trade.side[0], trade.type[0], ""])
            content: dict[str, object] = {
                "id": None,
                "side": trade.side,
                "price": trade.price,
                "amount": trade.amount,
                "timestamp": when,
                "type": trade.type,
            }
            records.append(Record("trades", symbol, content | ({"snapshot": True} if past else {})))
        self._send(Subscription("trade"), symbol, [sent], records)

    def _send_ticker(self, symbol: str, bid: Level, ask: Level) -> None:
        """Best prices with whole and exact lots, last trade, and today's and 24 h figures ("ticker")."""
        last = self.exchange.markets[symbol].recent[-1]
        twice = [last.price, last.price]
        ticker = {
            "a": [ask[0], int(ask[1].split(".")[0]), ask[1]],
            "b": [bid[0], int(bid[1].split(".")[0]), bid[1]],
            "c": [last.price, last.amount],
            "v": ["1234.56789012", "2345.67890123"],
            "p": twice,
            "t": [4321, 8765],
            "l": twice,
            "h": twice,
            "o": twice,
        }
        content: dict[str, object] = {
            "bid": bid[0],
            "bid_size": bid[1],
            "ask": ask[0],
            "ask_size": ask[1],
            "timestamp": None,
        }
        self._send(Subscription("ticker"), symbol, [ticker], [Record("ticker", symbol, content)])

    def _send_snapshot(self, symbol: str, wanted: Subscription) -> None:
        """All levels down to the depth, without a checksum ("book", snapshot)."""
        market = self.exchange.markets[symbol]
        bids, asks = market.bids(wanted.depth), market.asks(wanted.depth)
        if wanted.depth < MOST_LEVELS:
            self._views[symbol] = View(bids), View(asks)
        else:
            self._views.pop(symbol, None)
        when = _seconds(time.time_ns())
        levels = {"as": [(*level, when) for level in asks], "bs": [(*level, when) for level in bids]}
        self._send(wanted, symbol, [levels], [Record("l2_book", symbol, book("snapshot", bids, asks, None))])

    def _send_book(self, symbol: str, wanted: Subscription, step: Step) -> None:
        """What changed, in two objects when both sides did; the last has the checksum ("book", update)."""
        bids: Sequence[tuple[str, ...]] = step.bids
        asks: Sequence[tuple[str, ...]] = step.asks
        if views := self._views.get(symbol):
            market = self.exchange.markets[symbol]
            zero = market.instrument.size(0)
            bids = views[0].changes(market.bids(wanted.depth), step.bids, zero)
            asks = views[1].changes(market.asks(wanted.depth), step.asks, zero)
        when = _seconds(step.time)
        changes: list[dict[str, object]] = [
            {side: [(*level[:2], when, *level[2:]) for level in levels]}
            for side, levels in (("a", asks), ("b", bids))
            if levels
        ]
        if changes:
            changes[-1]["c"] = self.exchange.checksum(symbol)
            content = book("delta", [(b[0], b[1]) for b in bids], [(a[0], a[1]) for a in asks], None)
            checked = self.exchange.is_checked(symbol, (*bids, *asks))
            self._send(wanted, symbol, changes, [Record("l2_book", symbol, content, noticed=checked)])

    def _send_candles(self, symbol: str, wanted: Subscription, candles: Iterable[Candle]) -> None:
        """Last update, end, prices, average, volume, count ("ohlc")."""
        for candle in candles:
            when = _seconds(time.time_ns())
            prices = [candle.open, candle.high, candle.low, candle.close]
            sent = [when, f"{candle.end}.000000", *prices, candle.close, candle.volume, candle.trades]
            content: dict[str, object] = {
                "interval": wanted.interval * 60,
                "start": candle.start,
                "stop": candle.end,
                "open": candle.open,
                "high": candle.high,
                "low": candle.low,
                "close": candle.close,
                "volume": candle.volume,
                "trades": candle.trades,
                "closed": None,
                "timestamp": when,
            }
            self._send(wanted, symbol, [sent], [Record("candles", symbol, content)])

    def _send(
        self, wanted: Subscription, symbol: str, payload: Sequence[object], records: Sequence[Record]
    ) -> None:
        pair = _pair(self.exchange.markets[symbol].instrument)
        self.connection.send([_channel_id(wanted), *payload, _channel_name(wanted), pair], records)


class Kraken(Exchange):
    """KRAKEN's host names, pairs and digits."""

    name = "KRAKEN"
    websocket_hosts = frozenset({"ws.kraken.com"})
    rest_hosts = frozenset({"api.kraken.com"})

    @property
    def pairs(self) -> dict[str, str]:
        """The symbols by pair."""
        return {_pair(market.instrument): symbol for symbol, market in self.markets.items()}

    @property
    def v2_symbols(self) -> dict[str, str]:
        """The symbols by pair, as version 2 has them."""
        return {self.v2_name(symbol): symbol for symbol in self.markets}

    @staticmethod
    def v2_name(symbol: str) -> str:
        """Return the pair of a symbol, as version 2 has it: under the names that everybody uses."""
        return symbol.replace("-", "/")

    @override
    @staticmethod
    def instrument(symbol: str) -> Instrument:
        start, digits = first_price(symbol, "KRAKEN")
        padding = max(0, LEAST_PRICE_DIGITS - digits)
        return Instrument(symbol, start, digits, size_digits=8, price_padding=padding)

    @override
    def open(self, connection: Connection, request: web.BaseRequest) -> Session:
        if request.path == "/v2":
            return KrakenV2Session(connection, self)
        return KrakenSession(connection, self)

    @override
    def rest(self, request: web.BaseRequest) -> Answer:
        if request.path != "/0/public/AssetPairs":
            return Answer({"error": ["EGeneral:Unknown method"]})
        currencies = request.query.get("aclass_base", "currency") == "currency"  # "asset pairs"
        pairs = [self._asset_pair(market.instrument) for market in self.markets.values() if currencies]
        if self.faults.take("unreadable_row", self.name):
            pairs.append({"altname": "ODD", "wsname": "ODD", "status": "online"})
        return Answer({"error": [], "result": {str(pair["altname"]): pair for pair in pairs}})

    def checksum(self, symbol: str) -> str:
        """CRC32 of the best ten levels, asks first, without points and leading zeros ("book guide")."""
        market = self.markets[symbol]
        levels = (*market.asks(CHECKED_LEVELS), *market.bids(CHECKED_LEVELS))
        digits = "".join(text.replace(".", "").lstrip("0") for level in levels for text in level)
        return str(crc32(digits.encode()))

    def is_checked(self, symbol: str, levels: Iterable[Sequence[str]]) -> bool:
        """Return whether one of these levels is among those that the checksum is made of."""
        market = self.markets[symbol]
        best = {level[0] for level in (*market.asks(CHECKED_LEVELS), *market.bids(CHECKED_LEVELS))}
        return any(level[0] in best for level in levels)

    @staticmethod
    def _asset_pair(instrument: Instrument) -> dict[str, object]:
        """One entry of "asset pairs"."""
        base = ASSETS.get(instrument.base, instrument.base)
        return {
            "altname": f"{base}{instrument.quote}",
            "wsname": _pair(instrument),
            "aclass_base": "currency",
            "base": base,
            "aclass_quote": "currency",
            "quote": instrument.quote,
            "lot": "unit",
            "cost_decimals": 5,
            "pair_decimals": instrument.price_digits,
            "lot_decimals": instrument.size_digits,
            "lot_multiplier": 1,
            "leverage_buy": [],
            "leverage_sell": [],
            "fees": [[0, 0.4]],
            "fees_maker": [[0, 0.25]],
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": "0.0001",
            "costmin": "0.5",
            "tick_size": instrument.tick,
            "status": "online",
        }


def _pair(instrument: Instrument) -> str:
    base, quote = instrument.base, instrument.quote
    return f"{ASSETS.get(base, base)}/{ASSETS.get(quote, quote)}"


def _channel_name(wanted: Subscription) -> str:
    match wanted.name:
        case "book":
            return f"book-{wanted.depth}"
        case "ohlc":
            return f"ohlc-{wanted.interval}"
    return wanted.name


def _channel_id(wanted: Subscription) -> int:
    return 336 + (*CHANNELS, wanted.name).index(wanted.name)


def _described(wanted: Subscription) -> dict[str, object]:
    described: dict[str, object] = {"name": wanted.name}
    if wanted.name == "book":
        described["depth"] = wanted.depth
    if wanted.name == "ohlc":
        described["interval"] = wanted.interval
    return described


def _with_reqid(message: dict[str, object], request: Request) -> dict[str, object]:
    return message if request.reqid is None else message | {"reqid": request.reqid}


def _seconds(nanoseconds: int) -> str:
    seconds, fraction = divmod(nanoseconds // 1_000, 1_000_000)
    return f"{seconds}.{fraction:06d}"
