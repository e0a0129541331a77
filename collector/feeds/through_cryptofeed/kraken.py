"""KRAKEN: acknowledgements, books that end where the subscription ends, trades that are not stored twice."""

from decimal import Decimal
from typing import Any, ClassVar, override

import cryptofeed.exchanges

from collector.bounded_json import decode
from collector.feeds.through_cryptofeed.supervised import Supervised


class Kraken(Supervised, cryptofeed.exchanges.Kraken):  # type: ignore[misc]  # cryptofeed is untyped
    """KRAKEN's public market data, version 1 of its protocol."""

    SILENCE: ClassVar[float] = 15.0  # there is a heartbeat every second
    CHECKS_BOOKS: ClassVar[bool] = True  # every update has a checksum

    # The client is to drop what falls out of the depth it subscribed to. cryptofeed does so unless the depth
    # is the last of these: so the last is one that nobody asks for.
    valid_depths: ClassVar[list[int]] = [10, 25, 100, 500, 1000, 0]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._repeating: set[str] = set()  # symbols whose next trades begin with those that came before

    @override
    @classmethod
    def depth(cls, asked: int) -> int:
        """The least of KRAKEN's depths that is enough: a book cut shorter than that would become wrong."""
        return min((depth for depth in cls.valid_depths if depth >= asked > 0), default=1000)

    @override
    async def subscribe(self, connection: Any) -> None:
        self._repeating.update(symbol for channel, symbol in self.carried(connection) if channel == "trades")
        await super().subscribe(connection)

    @override
    async def message_handler(self, message: Any, connection: Any, timestamp: float) -> None:
        if message[0] == "{":
            self._event(message)
        else:
            await super(Supervised, self).message_handler(message, connection, timestamp)

    @override
    async def probe(self, connection: Any) -> None:
        await connection.write('{"event":"ping"}')

    def _event(self, message: str) -> None:
        """Everything but data: what matters of it are the answers to our subscriptions."""
        if "subscriptionStatus" not in message:
            return
        it = decode(message)
        channel = self.exchange_channel_to_std(it["subscription"]["name"])
        symbol = self.exchange_symbol_mapping.get(it.get("pair"))
        if symbol is None:
            return
        if it["status"] == "error":
            self.subscriptions.refuse(channel, symbol, it["errorMessage"])
        elif it["status"] == "subscribed":
            self.subscriptions.acknowledge(channel, symbol)

    @override
    async def _trade(self, msg: list[Any], pair: str, timestamp: float) -> None:
        """The first message after a subscription repeats the last trades; they have no ids, so time tells.

        Several trades may share a moment: the mark is the last moment and how many of it were recorded. Where
        none is known, none of the past is stored.
        """
        trades = msg[1]
        key = f"trade {self.id} {pair}"
        moment, count = self._last_trades(key)
        repeated = pair in self._repeating
        if repeated:
            self._repeating.discard(pair)
            known = [trade for trade in trades if Decimal(trade[2]) == moment][:count]
            trades = [trade for trade in trades if Decimal(trade[2]) >= moment][len(known) :]
        if not trades:
            return
        newest = max(Decimal(trade[2]) for trade in trades)
        if newest >= moment:
            same = sum(1 for trade in trades if Decimal(trade[2]) == newest)
            self.memory.mark(key, f"{newest} {same + (count if newest == moment else 0)}")
        if moment or not repeated:
            await super()._trade([msg[0], trades, *msg[2:]], pair, timestamp)

    def _last_trades(self, key: str) -> tuple[Decimal, int]:
        moment, _, count = (self.memory.recall(key) or "0 0").partition(" ")
        try:
            return Decimal(moment), int(count)
        except (ArithmeticError, ValueError):  # a damaged mark says nothing
            return Decimal(), 0
