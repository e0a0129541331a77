"""KRAKEN, websocket API v2.

Sources, read 2026-11-28: https://docs.kraken.com/exchange/api-reference/spot-websocket-v2/ with one page for
each channel (below by their names), the guide
https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2 ("checksum guide"), and messages that were
recorded in 2025 and 2026 ("recorded").
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, override
from zlib import crc32

import msgspec

from collector.simulator.exchange import Connection, Session, book, iso
from collector.simulator.kraken_book import CHECKED_LEVELS, DEPTHS, View
from collector.simulator.log import Record
from collector.simulator.market import MOST_LEVELS, Candle, Level, Step, Trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from collector.simulator.kraken import Kraken

CHANNELS = {"trade": "trades", "ticker": "ticker", "book": "l2_book", "ohlc": "candles"}
INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)  # "ohlc", minutes
TRIGGERS = ("trades", "bbo")  # "ticker"


class Parameters(msgspec.Struct, frozen=True):
    """What is wanted; each channel has a default for ``snapshot`` of its own."""

    channel: str = ""
    symbol: list[str] = []
    snapshot: bool | None = None
    depth: int = 10
    interval: int = 1
    event_trigger: str = "trades"


class Request(msgspec.Struct):
    """What a client may send ("subscribe", "unsubscribe", "ping")."""

    method: str
    params: Parameters = Parameters()
    req_id: int | None = None


class KrakenV2Session(Session):
    """One v2 websocket."""

    truncated = b'{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","pri'

    exchange: Kraken

    def __init__(self, connection: Connection, exchange: Kraken) -> None:
        super().__init__(connection, exchange)
        self._subscribed: dict[str, dict[str, Parameters]] = {}  # channel -> symbol
        self._views: dict[str, tuple[View, View]] = {}  # bids and asks, where the depth is limited
        self._best: dict[str, tuple[Level, Level]] = {}  # as tickers told of them
        self._said_something = False

    @override
    def greet(self) -> None:
        # "status": sent on connection
        self._tell_status("online")

    @override
    def announce(self) -> None:
        # "status": sent when the trading engine's changes
        self._tell_status("maintenance")

    def _tell_status(self, system: str) -> None:
        about = {
            "version": "2.0.10",
            "system": system,
            "api_version": "v2",
            "connection_id": 12_072_546_403_441_331_000 + self.connection.number,
        }
        self.connection.send({"channel": "status", "type": "update", "data": [about]})

    @override
    def receive(self, text: str) -> None:
        received = time.time_ns()
        try:
            request = msgspec.json.decode(text, type=Request)
        except msgspec.DecodeError:
            self.connection.send({"error": "Malformed request", "success": False, **_times(received)})
            return
        identified = {} if request.req_id is None else {"req_id": request.req_id}
        if request.method == "ping":
            self.connection.send({"method": "pong", **identified, **_times(received)})
        elif request.method in ("subscribe", "unsubscribe"):
            for symbol in request.params.symbol:
                self._answer(request, symbol, identified, received)
        else:
            about = {"method": request.method, "success": False, **identified}
            self.connection.send({"error": "Method not found", **about, **_times(received)})

    @override
    def update(self, steps: Mapping[str, Step]) -> None:
        for channel, subscriptions in self._subscribed.items():
            for symbol, wanted in subscriptions.items():
                if (step := steps.get(symbol)) and not self.is_silent(CHANNELS[channel], symbol):
                    self._said_something = True
                    self._send_update(channel, symbol, wanted, step)

    @override
    def beat(self) -> None:
        # "heartbeat": when there is no other traffic for about a second
        if self._subscribed and not self._said_something:
            self.connection.send({"channel": "heartbeat"})
        self._said_something = False

    @override
    def send_snapshots(self, symbol: str | None) -> None:
        for followed, wanted in self._subscribed.get("book", {}).items():
            if symbol in (None, followed) and not self.is_silent("l2_book", followed):
                self._send_snapshot(followed, wanted, told=True)

    @override
    def subscriptions(self) -> dict[str, list[str]]:
        return {CHANNELS[channel]: list(symbols) for channel, symbols in self._subscribed.items() if symbols}

    @override
    def unknown_type(self) -> None:
        self.connection.send({"channel": "notice", "type": "update", "data": [{"text": "of tomorrow"}]})

    @override
    def wrong_shape(self) -> None:
        symbol = next(iter(self.exchange.v2_symbols))
        self.connection.send(
            {"channel": "trade", "type": "update", "data": [{"symbol": symbol, "price": {}}]}
        )

    def _answer(self, request: Request, name: str, identified: dict[str, int], received: int) -> None:
        """One answer for each symbol, then its snapshot ("recorded")."""
        wanted = request.params
        if error := self._error(request, name):
            about = {"error": error, "method": request.method, "success": False, "symbol": name}
            self.connection.send({**about, **identified, **_times(received)})
            return
        result: dict[str, object] = {"channel": wanted.channel, "symbol": name}
        if request.method == "subscribe":
            result |= {"snapshot": _with_snapshot(wanted)} | _particular(wanted)
        about = {"method": request.method, "result": result, "success": True}
        self.connection.send({**about, **identified, **_times(received)})
        symbol = self.exchange.v2_symbols[name]
        if request.method == "subscribe":
            self._subscribe(wanted, symbol)
        else:
            self._subscribed.get(wanted.channel, {}).pop(symbol, None)

    def _error(self, request: Request, name: str) -> str | None:  # noqa: PLR0911 - one for each error
        wanted = request.params
        if wanted.channel not in CHANNELS:
            return f"Unsupported channel {wanted.channel}"
        if name not in self.exchange.v2_symbols:
            return f"Currency pair not supported {name}"
        symbol = self.exchange.v2_symbols[name]
        if request.method == "unsubscribe":
            standing = symbol in self._subscribed.get(wanted.channel, {})
            return None if standing else "Subscription Not Found"
        if symbol in self._subscribed.get(wanted.channel, {}):
            return "Already subscribed"
        if wanted.channel == "book" and wanted.depth not in DEPTHS:
            return "Subscription depth not supported"
        if wanted.channel == "ohlc" and wanted.interval not in INTERVALS:
            return "Subscription ohlc interval not supported"
        if wanted.channel == "ticker" and wanted.event_trigger not in TRIGGERS:
            return "Event trigger not supported"
        return "Exceeded msg rate" if self.refuses(CHANNELS[wanted.channel], symbol) else None

    def _subscribe(self, wanted: Parameters, symbol: str) -> None:
        self._subscribed.setdefault(wanted.channel, {})[symbol] = wanted
        self.exchange.subscribed()
        market = self.exchange.markets[symbol]
        silent = self.is_silent(CHANNELS[wanted.channel], symbol)
        snapshot = _with_snapshot(wanted) and not silent
        match wanted.channel:
            case "trade":
                if snapshot:
                    self._send_trades(symbol, list(market.recent), "snapshot", mark="snapshot")
                if self.repeats(symbol) and not silent:
                    self._send_trades(symbol, list(market.recent), "update", mark="repeated")
            case "ticker" if snapshot:
                self._send_ticker(symbol, market.bids(1)[0], market.asks(1)[0], "snapshot", time.time_ns())
            case "book":
                self._send_snapshot(symbol, wanted, told=snapshot)
            case "ohlc":
                candle = market.candle(wanted.interval * 60)
                if snapshot:
                    self._send_candles(symbol, wanted, [candle], "snapshot")

    def _send_update(self, channel: str, symbol: str, wanted: Parameters, step: Step) -> None:
        match channel:
            case "trade":
                self._send_trades(symbol, step.trades, "update")
            case "ticker":
                best = step.best_bid, step.best_ask
                if wanted.event_trigger == "trades" or self._best.get(symbol) != best:
                    self._send_ticker(symbol, *best, "update", step.time)
            case "book":
                self._send_book(symbol, wanted, step)
            case _:
                self._send_candles(symbol, wanted, step.candles[wanted.interval * 60], "update")

    def _send_trades(self, symbol: str, trades: Sequence[Trade], kind: str, *, mark: str = "") -> None:
        """By "trade": the last 50 as a snapshot, for those who ask for it; several in one message."""
        sent, records = [], []
        for trade in trades:
            price, when = self._text(symbol, trade.price), iso(trade.time, 6)
            sent.append(
                {
                    "symbol": self._name(symbol),
                    "side": trade.side,
                    "price": _number(price),
                    "qty": _number(trade.amount),
                    "ord_type": trade.type,
                    "trade_id": trade.id,
                    "timestamp": when,
                }
            )
            content: dict[str, object] = {
                "id": str(trade.id),
                "side": trade.side,
                "price": price,
                "amount": trade.amount,
                "timestamp": when,
                "type": trade.type,
            }
            records.append(Record("trades", symbol, content | ({mark: True} if mark else {})))
        self._send("trade", kind, sent, records)

    def _send_ticker(self, symbol: str, bid: Level, ask: Level, kind: str, when: int) -> None:
        """By "ticker": best prices, last trade, and figures of 24 hours."""
        self._best[symbol] = bid, ask
        last = _number(self._text(symbol, self.exchange.markets[symbol].recent[-1].price))
        (bid_price, bid_size), (ask_price, ask_size) = self._levels(symbol, (bid, ask))
        ticker = {
            "symbol": self._name(symbol),
            "bid": _number(bid_price),
            "bid_qty": _number(bid_size),
            "ask": _number(ask_price),
            "ask_qty": _number(ask_size),
            "last": last,
            "volume": _number("2345.67890123"),
            "vwap": last,
            "low": last,
            "high": last,
            "change": _number("-1.5"),
            "change_pct": _number("-0.02"),
            "timestamp": iso(when, 6),
        }
        content: dict[str, object] = {
            "bid": bid_price,
            "bid_size": bid_size,
            "ask": ask_price,
            "ask_size": ask_size,
            "timestamp": iso(when, 6),
        }
        self._send("ticker", kind, [ticker], [Record("ticker", symbol, content)])

    def _send_snapshot(self, symbol: str, wanted: Parameters, *, told: bool) -> None:
        """All levels down to the depth, with their checksum ("book"; a timestamp by "recorded")."""
        market = self.exchange.markets[symbol]
        bids, asks = market.bids(wanted.depth), market.asks(wanted.depth)
        if wanted.depth < MOST_LEVELS:
            self._views[symbol] = View(bids), View(asks)
        else:
            self._views.pop(symbol, None)
        if told:
            self._send_levels(symbol, "snapshot", bids, asks, time.time_ns())

    def _send_book(self, symbol: str, wanted: Parameters, step: Step) -> None:
        """What changed; what falls out of the depth is not mentioned ("book", update)."""
        bids: Sequence[tuple[str, ...]] = step.bids
        asks: Sequence[tuple[str, ...]] = step.asks
        if views := self._views.get(symbol):
            market = self.exchange.markets[symbol]
            zero = market.instrument.size(0)
            bids = views[0].changes(market.bids(wanted.depth), step.bids, zero)
            asks = views[1].changes(market.asks(wanted.depth), step.asks, zero)
        if bids or asks:
            changed = [(bid[0], bid[1]) for bid in bids], [(ask[0], ask[1]) for ask in asks]
            self._send_levels(symbol, "update", *changed, step.time)

    def _send_levels(
        self, symbol: str, kind: str, bids: Sequence[Level], asks: Sequence[Level], when: int
    ) -> None:
        noticed = kind == "snapshot" or self.exchange.is_checked(symbol, (*bids, *asks))
        bids, asks = self._levels(symbol, bids), self._levels(symbol, asks)
        data = {
            "symbol": self._name(symbol),
            **{
                side: [{"price": _number(price), "qty": _number(size)} for price, size in levels]
                for side, levels in (("bids", bids), ("asks", asks))
            },
            "checksum": self._checksum(symbol),
            "timestamp": iso(when, 6),
        }
        content = book("snapshot" if kind == "snapshot" else "delta", bids, asks, iso(when, 6))
        self._send("book", kind, [data], [Record("l2_book", symbol, content, noticed=noticed)])

    def _send_candles(self, symbol: str, wanted: Parameters, candles: Iterable[Candle], kind: str) -> None:
        """By "ohlc"; that a candle is closed shows when the next one begins."""
        for candle in candles:
            prices = {
                name: self._text(symbol, getattr(candle, name)) for name in ("open", "high", "low", "close")
            }
            end = iso(candle.end * 1_000_000_000, 6)
            sent = {
                "symbol": self._name(symbol),
                **{name: _number(price) for name, price in prices.items()},
                "trades": candle.trades,
                "volume": _number(candle.volume),
                "vwap": _number(prices["close"]),
                "interval_begin": iso(candle.start * 1_000_000_000, 9),
                "interval": wanted.interval,
                "timestamp": end,
            }
            content: dict[str, object] = {
                "interval": wanted.interval * 60,
                "start": candle.start,
                "stop": candle.end,
                **prices,
                "volume": candle.volume,
                "trades": candle.trades,
                "closed": candle.closed,
                "timestamp": end,
            }
            message = {"channel": "ohlc", "type": kind, "timestamp": iso(time.time_ns(), 9), "data": [sent]}
            self.connection.send(message, [Record("candles", symbol, content)])

    def _send(self, channel: str, kind: str, data: Sequence[object], records: Sequence[Record]) -> None:
        self.connection.send({"channel": channel, "type": kind, "data": data}, records)

    def _name(self, symbol: str) -> str:
        return self.exchange.v2_name(symbol)

    def _text(self, symbol: str, price: str) -> str:
        """A price in the digits of its pair: v1 writes at least five ("checksum guide")."""
        padding = self.exchange.markets[symbol].instrument.price_padding
        return price[:-padding] if padding else price

    def _levels(self, symbol: str, levels: Iterable[Level]) -> list[Level]:
        return [(self._text(symbol, price), size) for price, size in levels]

    def _checksum(self, symbol: str) -> int:
        """CRC32 of the best ten levels, asks first, without points and leading zeros ("checksum guide")."""
        market = self.exchange.markets[symbol]
        levels = self._levels(symbol, (*market.asks(CHECKED_LEVELS), *market.bids(CHECKED_LEVELS)))
        return crc32(
            "".join(text.replace(".", "").lstrip("0") for level in levels for text in level).encode()
        )


def _with_snapshot(wanted: Parameters) -> bool:
    """Return whether a snapshot is sent: of trades only where it is asked for ("trade": default false)."""
    return wanted.channel != "trade" if wanted.snapshot is None else wanted.snapshot


def _particular(wanted: Parameters) -> dict[str, object]:
    """Return what an answer repeats of a request, by channel."""
    repeated: dict[str, dict[str, object]] = {
        "book": {"depth": wanted.depth},
        "ohlc": {"interval": wanted.interval},
        "ticker": {"event_trigger": wanted.event_trigger},
    }
    return repeated.get(wanted.channel, {})


def _number(text: str) -> msgspec.Raw:
    """A JSON number with exactly these digits."""
    return msgspec.Raw(text.encode())


def _times(received: int) -> dict[str, str]:
    return {"time_in": iso(received, 6), "time_out": iso(time.time_ns(), 6)}
