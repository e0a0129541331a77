"""How to ask an exchange what it lists, and what subscriptions take: natively or through cryptofeed."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import msgspec

from collector.exchanges.instruments import Instrument
from collector.feeds import reference
from collector.settings import Settings


class EmptyListingError(Exception):
    """The exchange answered, and lists nothing: that is its trouble, and no word about what was asked for."""


class Listed(msgspec.Struct, frozen=True):
    """What an exchange lists now.

    Attributes:
        types: each symbol's type, one of those that SYMBOLS knows.
        instruments: more about each, by its symbol; none of an exchange recorded through cryptofeed.
    """

    types: Mapping[str, str]
    instruments: Mapping[str, Instrument] = {}


class Access(ABC):
    """One exchange, with the proxy, the authorities and the options of ``settings``.

    Attributes:
        patience: seconds for one attempt to ask what it lists; None where each request has its own bounds,
            and may have to wait for its turn besides.
    """

    patience: ClassVar[float | None] = reference.ATTEMPT

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    @abstractmethod
    def host(self) -> str:
        """The host that websockets are opened to, with its port where that is not the usual one."""

    @abstractmethod
    async def listed(self) -> Listed:
        """Return what the exchange lists; asks once.

        Raises whatever goes wrong, and EmptyListingError for a list of nothing.
        """

    @abstractmethod
    async def connections(self, listed: Listed, symbols: Sequence[str], channels: Sequence[str]) -> int:
        """Return how many connections the channels of the symbols take.

        Raises SettingsError if the exchange does not have what is asked for.
        """

    async def close(self) -> None:  # noqa: B027 - some keep nothing open
        """Close what is kept open for more questions."""
