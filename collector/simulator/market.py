"""A seeded random market: one symbol's order book, trades and candles, as the text that goes on the wire.

The same seed, exchange and symbol give the same trades and book changes in the same order, whatever the clock
says and whoever listens; only times come from the clock. Inside, prices are whole ticks and sizes whole lots,
so nothing is ever rounded; outside, they are text with the digits that the exchange itself would send.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, replace
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FEWEST_LEVELS, MOST_LEVELS = 80, 120
BUSY_LEVELS = 20  # changes happen among this many best levels, as they do in real books
RECENT_TRADES = 50

type Level = tuple[str, str]  # price, size; size zero means that the level is gone


@dataclass(frozen=True)
class Instrument:
    """What is traded, and in which digits.

    ``price_digits`` and ``size_digits`` are those of the grid (a tick is ``10 ** -price_digits``);
    ``price_padding`` zeros follow on the wire; with ``trimmed`` trailing zeros are left out instead.
    """

    symbol: str  # cryptofeed's spelling, BTC-USD
    start: int  # the first price, in ticks
    price_digits: int
    size_digits: int
    price_padding: int = 0
    trimmed: bool = False

    @property
    def base(self) -> str:
        """What is traded."""
        return self.symbol.split("-")[0]

    @property
    def quote(self) -> str:
        """What it is paid with."""
        return self.symbol.split("-")[1]

    @property
    def tick(self) -> str:
        """The smallest difference of two prices."""
        return _decimal(1, self.price_digits)

    @property
    def lot(self) -> str:
        """The smallest difference of two sizes."""
        return _decimal(1, self.size_digits)

    def price(self, ticks: int) -> str:
        """A price as it goes on the wire."""
        text = _decimal(ticks, self.price_digits)
        return _trim(text) if self.trimmed else text + "0" * self.price_padding

    def size(self, lots: int) -> str:
        """A size as it goes on the wire."""
        text = _decimal(lots, self.size_digits)
        return _trim(text) if self.trimmed else text


def _decimal(units: int, digits: int) -> str:
    if digits == 0:
        return str(units)
    whole, fraction = divmod(units, 10**digits)
    return f"{whole}.{fraction:0{digits}d}"


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


class Trade(NamedTuple):
    """One trade; ``side`` is the taker's, ``time`` is in nanoseconds since the epoch."""

    id: int
    side: Literal["buy", "sell"]
    price: str
    amount: str
    time: int
    type: Literal["limit", "market"]


@dataclass(frozen=True, slots=True)
class Candle:
    """Prices and volume of one interval, from ``start`` until before ``end`` (seconds since the epoch)."""

    start: int
    end: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    trades: int
    first_id: int
    last_id: int
    closed: bool = False

    @classmethod
    def begin(cls, trade: Trade, seconds: int) -> Candle:
        """Return the candle of this length that a trade falls into."""
        start = trade.time // 1_000_000_000 // seconds * seconds
        price = trade.price
        return cls(start, start + seconds, price, price, price, price, trade.amount, 1, trade.id, trade.id)

    def add(self, trade: Trade) -> Candle:
        """Return the candle with one more trade."""
        return replace(
            self,
            high=max(self.high, trade.price, key=Decimal),
            low=min(self.low, trade.price, key=Decimal),
            close=trade.price,
            volume=format(Decimal(self.volume) + Decimal(trade.amount), "f"),
            trades=self.trades + 1,
            last_id=trade.id,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of a market changed, and its best prices afterwards."""

    time: int  # nanoseconds since the epoch
    trades: tuple[Trade, ...]
    bids: tuple[Level, ...]  # the levels that changed, best first
    asks: tuple[Level, ...]
    best_bid: Level
    best_ask: Level
    first_update: int
    last_update: int
    candles: Mapping[int, tuple[Candle, ...]]  # by length in seconds: those that ended, then the running one


class BookSide:
    """One side of a book, best price first; ``sign`` is 1 for asks and -1 for bids."""

    def __init__(self, sign: Literal[1, -1]) -> None:
        self.sign = sign
        self.sizes: dict[int, int] = {}
        self._order: list[int] = []  # sign * price, ascending: the best price comes first

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> int:
        """Return the price at this position; 0 is the best, -1 the worst."""
        return self._order[position] * self.sign

    def set(self, price: int, size: int) -> None:
        """Set a level's size; zero removes it."""
        key = price * self.sign
        if size == 0:
            if self.sizes.pop(price, None) is not None:
                del self._order[bisect_left(self._order, key)]
        else:
            if price not in self.sizes:
                insort(self._order, key)
            self.sizes[price] = size

    def top(self, count: int) -> list[tuple[int, int]]:
        """Return the best levels: price in ticks, size in lots."""
        return [(key * self.sign, self.sizes[key * self.sign]) for key in self._order[:count]]


class Market:
    """A symbol's book and trades; every ``step`` trades at least once and changes the book at least once."""

    def __init__(self, instrument: Instrument, seed: str, now: int) -> None:
        self.instrument = instrument
        self.steps = 0
        self.recent: deque[Trade] = deque(maxlen=RECENT_TRADES)
        self.trade_count = 0
        self._random = Random(seed)  # noqa: S311 - a market that can be repeated, no secret
        self._gap = max(1, instrument.start // 50_000)
        unit: int = 10 ** (instrument.size_digits + instrument.price_digits)
        self._most_lots = max(1_000, 20_000 * unit // instrument.start)
        self._fewest_lots = self._most_lots // 1_000
        self._trade_id = self._random.randint(10_000_000, 900_000_000)
        self.last_update = self._random.randint(1_000_000_000, 9_000_000_000)
        self._bids, self._asks = BookSide(-1), BookSide(1)
        self._before: dict[tuple[int, int], int] = {}
        self._candles: dict[int, Candle] = {}
        self._top_up(self._bids, instrument.start)
        self._top_up(self._asks, instrument.start + 1)
        for _ in range(10):  # a market that has a past: snapshots of trades are not empty
            self.step(now)
        self.steps = 0

    def step(self, now: int) -> Step:
        """Move the market on by one step at ``now`` (nanoseconds since the epoch)."""
        self._before = {}
        first_update = self.last_update + 1
        trades = tuple(self._take(now))
        for _ in range(self._random.randint(1, 4)):
            self._quote()
        for side in (self._bids, self._asks):
            self._keep_in_bounds(side)
        if not self._changes(self._bids) and not self._changes(self._asks):
            self._set(self._bids, self._bids[0], self._bids.sizes[self._bids[0]] + self._fewest_lots)
        self.steps += 1
        self.recent.extend(trades)
        return Step(
            time=now,
            trades=trades,
            bids=tuple(self._changes(self._bids)),
            asks=tuple(self._changes(self._asks)),
            best_bid=self.bids(1)[0],
            best_ask=self.asks(1)[0],
            first_update=first_update,
            last_update=self.last_update,
            candles={seconds: self._add_to_candle(seconds, trades) for seconds in self._candles},
        )

    def bids(self, depth: int) -> list[Level]:
        """Return the best bids, best first."""
        return self._levels(self._bids.top(depth))

    def asks(self, depth: int) -> list[Level]:
        """Return the best asks, best first."""
        return self._levels(self._asks.top(depth))

    def candle(self, seconds: int) -> Candle:
        """The running candle of this length; from the first call on, every step has those of this length.

        The first begins with the last trade before that call; the bounds are the clock's.
        """
        if seconds not in self._candles:
            self._candles[seconds] = Candle.begin(self.recent[-1], seconds)
        return self._candles[seconds]

    def _add_to_candle(self, seconds: int, trades: Iterable[Trade]) -> tuple[Candle, ...]:
        candle = self._candles[seconds]
        ended = []
        for trade in trades:
            if trade.time < candle.end * 1_000_000_000:
                candle = candle.add(trade)
            else:
                ended.append(replace(candle, closed=True))
                candle = Candle.begin(trade, seconds)
        self._candles[seconds] = candle
        return (*ended, candle)

    def _levels(self, levels: list[tuple[int, int]]) -> list[Level]:
        return [(self.instrument.price(price), self.instrument.size(size)) for price, size in levels]

    def _set(self, side: BookSide, price: int, size: int) -> None:
        self._before.setdefault((side.sign, price), side.sizes.get(price, 0))
        self.last_update += 1
        side.set(price, size)

    def _changes(self, side: BookSide) -> list[Level]:
        changed = [
            (price, side.sizes.get(price, 0))
            for (sign, price), before in self._before.items()
            if sign == side.sign and side.sizes.get(price, 0) != before
        ]
        changed.sort(key=lambda level: level[0] * side.sign)
        return self._levels(changed)

    def _take(self, now: int) -> list[Trade]:
        """A taker's order against the best levels: one to four trades, some of them identical."""
        buys = self._random.random() < self._appetite()
        maker = self._asks if buys else self._bids
        trades: list[Trade] = []
        for _ in range(self._random.choice((1, 1, 1, 2, 3))):
            price = maker[0]
            available = maker.sizes[price]
            amount = max(1, available * self._random.randint(1, 10) // 10)
            twice = available >= 2 * amount and self._random.random() < 0.3
            left = available - amount * (2 if twice else 1)
            if left < self._fewest_lots and not twice:
                amount, left = available, 0
            self._set(maker, price, left)
            trade = self._trade("buy" if buys else "sell", price, amount, now + 1_000 * len(trades))
            trades.append(trade)
            if twice:
                trades.append(trade._replace(id=self._next_trade_id()))
        return trades

    def _trade(self, side: Literal["buy", "sell"], price: int, amount: int, time: int) -> Trade:
        kind: Literal["limit", "market"] = "limit" if self._random.random() < 0.6 else "market"
        text = self.instrument.price(price), self.instrument.size(amount)
        return Trade(self._next_trade_id(), side, *text, time, kind)

    def _next_trade_id(self) -> int:
        self._trade_id += 1
        self.trade_count += 1
        return self._trade_id

    def _appetite(self) -> float:
        """Return how likely the next taker buys: the further the price has risen, the less."""
        start = self.instrument.start
        risen = (self._bids[0] + self._asks[0]) / 2 - start
        return min(0.9, max(0.1, 0.5 - risen / max(start / 25, 20)))

    def _quote(self) -> None:
        """A maker changes, withdraws or places an order among the best levels."""
        side, other = self._random.sample((self._bids, self._asks), 2)
        choice = self._random.random()
        price = side[self._random.randrange(BUSY_LEVELS)]
        if choice < 0.4:
            self._set(side, price, self._lots())
        elif choice < 0.6:
            self._set(side, price, 0)
        else:
            # From just inside the other side's best price, outwards: a spread closes, the sooner the wider it
            # is, but nothing crosses.
            spread = (other[0] - side[0]) * -side.sign
            nearest = -min(spread - 1, max(3 * self._gap, spread // 2))
            offset = self._random.randint(nearest, BUSY_LEVELS * self._gap)
            if (placed := side[0] + side.sign * offset) > 0:
                self._set(side, placed, self._lots())

    def _lots(self) -> int:
        lots = self._random.randint(self._fewest_lots, self._most_lots)
        if self._random.random() < 0.3:  # people like round numbers
            unit: int = 10 ** (len(str(lots)) - 1)
            lots -= lots % unit
        return max(lots, self._fewest_lots)

    def _keep_in_bounds(self, side: BookSide) -> None:
        while len(side) > MOST_LEVELS:
            self._set(side, side[-1], 0)
        if len(side) < FEWEST_LEVELS:
            self._top_up(side, side[0])

    def _top_up(self, side: BookSide, price: int) -> None:
        """Places orders from ``price`` on outwards, where there are none: so a book does not move away."""
        while len(side) < FEWEST_LEVELS + BUSY_LEVELS:
            price += side.sign * self._random.randint(1, self._gap)
            if price <= 0:
                return
            if price not in side.sizes:
                self._set(side, price, self._lots())
