"""What our loop over an exchange's connections needs of a feed, beyond what cryptofeed's classes have."""

from collections.abc import Iterable
from typing import Any, ClassVar

from cryptofeed.connection import HTTPPoll

from collector.feeds.subscriptions import Subscriptions
from collector.records import Key


class Supervised:
    """Mixed into one of cryptofeed's feeds; what an exchange does differently is overridden.

    Attributes:
        SILENCE: seconds without a message after which a connection counts as dead.
        CHECKS_BOOKS: a book that lost a message notices it by itself (sequence numbers, checksums).
        CHECKSUMS: the checksums that cryptofeed can check hold.
    """

    SILENCE: ClassVar[float] = 120.0
    CHECKS_BOOKS: ClassVar[bool] = False
    CHECKSUMS: ClassVar[bool] = True

    # What cryptofeed's classes have
    id: str
    subscription: dict[str, list[str]]
    normalized_channels: list[str]
    exchange_channel_to_std: Any
    exchange_symbol_to_std_symbol: Any
    std_channel_to_exchange: Any
    std_symbol_to_exchange_symbol: Any
    http_conn: Any

    subscriptions: Subscriptions

    @classmethod
    def depth(cls, asked: int) -> int:
        """The ``max_depth`` that cryptofeed's class needs so that books are right ``asked`` levels deep."""
        return asked

    def carried(self, connection: Any) -> list[Key]:
        """Return the subscriptions that a connection is for."""
        subscription = connection.subscription or self.subscription
        # Several channels of ours may be one of the exchange's.
        return [
            (channel, self.exchange_symbol_to_std_symbol(symbol))
            for channel in self.normalized_channels
            for symbol in subscription.get(self.std_channel_to_exchange(channel), ())
        ]

    def leave_out(self, connection: Any, keys: Iterable[Key]) -> None:
        """Does not ask for these any more when it subscribes."""
        gone = {
            (self.std_channel_to_exchange(channel), self.std_symbol_to_exchange_symbol(symbol))
            for channel, symbol in keys
        }
        for subscription in (self.subscription, connection.subscription or {}):
            for channel, pairs in list(subscription.items()):
                subscription[channel] = [pair for pair in pairs if (channel, pair) not in gone]
                if not subscription[channel]:
                    del subscription[channel]  # to some exchanges no symbol means all of them

    async def probe(self, connection: Any) -> None:
        """Ask for a sign of life on a connection that has become quiet."""

    async def message_handler(self, message: Any, connection: Any, timestamp: float) -> None:
        """Handle one message; a short one that speaks of an error may refuse a subscription."""
        if len(message) < 512 and isinstance(message, str) and "rror" in message:
            self.refuse_what_is_named(message)
        await super().message_handler(message, connection, timestamp)  # type: ignore[misc]

    def refuse_what_is_named(self, text: str) -> list[Key]:
        """Refuse the pending subscriptions that an error of the exchange names, by symbol and by channel.

        An error that names a symbol and no channel is about all channels of that symbol.
        """
        names = {
            key: (self.std_channel_to_exchange(key[0]), self.std_symbol_to_exchange_symbol(key[1]))
            for key in self.subscriptions.pending
        }
        named = [key for key, (_, symbol) in names.items() if symbol in text]
        precisely = [key for key in named if names[key][0] in text]
        for channel, symbol in precisely or named:
            self.subscriptions.refuse(channel, symbol, text)
        return precisely or named


def is_poll(connection: Any) -> bool:
    """Return whether a connection asks over HTTP again and again, rather than listen to a websocket."""
    return isinstance(connection, HTTPPoll)
