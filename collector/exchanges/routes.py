"""Which subscriptions of a connection the messages of an exchange's channel are about."""

from collections.abc import Collection, Mapping, Sequence

from collector.exchanges.instruments import Instrument
from collector.exchanges.protocol import Subscription


class Routes:
    """The subscriptions of one connection, by the exchange's channel and symbol.

    Args:
        channels: the exchange's channels, by ours.
        listening_to: channels that are read of whatever comes, under the exchange's symbols, for who has no
            subscriptions.
    """

    def __init__(
        self,
        channels: Mapping[str, str],
        subscriptions: Sequence[Subscription],
        instruments: Mapping[str, Instrument],
        listening_to: Collection[str],
    ) -> None:
        self.subscriptions = frozenset(subscriptions)
        self.is_listening = bool(listening_to)
        self._channels, self._listening_to = channels, frozenset(listening_to)
        self._exchange_symbols = {
            each.symbol: instruments[each.symbol].exchange_symbol for each in subscriptions
        }
        self._symbols = {theirs: ours for ours, theirs in self._exchange_symbols.items()}
        self._known: dict[tuple[str, str], tuple[Subscription, ...]] = {}

    def carried(self, channel: str, exchange_symbol: str) -> tuple[Subscription, ...]:
        """Return the subscriptions that a channel of the exchange's carries for one of its symbols."""
        known = self._known.get((channel, exchange_symbol))
        if known is None:
            symbol = self.symbol(exchange_symbol)
            carried = (
                Subscription(ours, symbol) for ours, theirs in self._channels.items() if theirs == channel
            )
            known = tuple(each for each in carried if self.wants(each))
            self._known[channel, exchange_symbol] = known
        return known

    def wants(self, subscription: tuple[str, str]) -> bool:
        """Return whether a channel of a symbol, in our names, is subscribed to or listened to."""
        return subscription[0] in self._listening_to or subscription in self.subscriptions

    def symbol(self, exchange_symbol: str) -> str:
        """Return our name of an instrument; empty where it is not subscribed to."""
        return exchange_symbol if self._listening_to else self._symbols.get(exchange_symbol, "")

    def exchange_symbol(self, symbol: str) -> str:
        """Return the exchange's name of an instrument."""
        return self._exchange_symbols.get(symbol, symbol)

    def named_in(self, channel: str, frame: bytes) -> tuple[Subscription, ...]:
        """Return what a message of ``channel`` that cannot be read may be about: the symbols named in it."""
        named = [name for name in self._symbols if f'"{name}"'.encode() in frame]
        return tuple(each for name in named for each in self.carried(channel, name))
