"""An exchange that we speak to ourselves: ``collector.exchanges`` says what it means, this keeps it up."""

import itertools
import logging
from collections.abc import Sequence
from typing import override
from urllib.parse import urlsplit

from collector.exchanges.book import Storing
from collector.exchanges.directory import EXCHANGES
from collector.exchanges.instruments import Unread
from collector.exchanges.protocol import ConnectionPlan, Exchange, Options, Poll, Subscription
from collector.feeds.access import Access, EmptyListingError, Listed
from collector.feeds.connection import Connection, Patience
from collector.feeds.direct_connection import DirectConnection
from collector.feeds.feed import Feed
from collector.feeds.http import AnswerError
from collector.feeds.intake import Intake
from collector.feeds.link import Shared
from collector.feeds.malformed import Malformed
from collector.feeds.network import Network
from collector.feeds.polls import Polls
from collector.feeds.reference import in_thread
from collector.feeds.repeats import NEVER
from collector.feeds.rest import SHARE, Budget, Rest
from collector.receiver import Receiver
from collector.records import BOOKS
from collector.settings import Fault, Settings, SettingsError
from collector.symbol_patterns import is_plain

LOG = logging.getLogger(__name__)

#: Kinds of instruments that SYMBOLS knows under another name.
_TYPES = {"future": "futures"}
_MOST_PAGES = 100  # of one listing
_REFUSED = frozenset({400, 404})  # statuses that say: not here
_SHOWN = 3  # rows that cannot be read


class DirectAccess(Access):
    """An exchange as its own class of ours asks it."""

    patience = None

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.network = Network(settings)
        books = Storing(settings.snapshot_only, settings.snapshot_interval, settings.max_depth)
        options = Options(
            candle_interval=settings.candle_interval, storing=books, endpoints=settings.endpoint
        )
        self.exchange: Exchange = EXCHANGES[settings.exchange](options)
        self.rest = Rest(self.exchange.id, self.network, _budget(self.exchange, settings))
        self._told: set[Unread] = set()

    @property
    @override
    def host(self) -> str:
        address = urlsplit(self.exchange.endpoint("websocket"))
        # where it is another one, its usual port may be closed
        return address.netloc if "websocket" in self.settings.endpoint else str(address.hostname)

    @override
    async def listed(self) -> Listed:
        answers = [body for address in self.exchange.listing() for body in await self._pages(address)]
        listing = await in_thread(lambda: self.exchange.instruments(answers))
        self._tell_unread(listing.unread)
        if not listing.instruments:
            raise EmptyListingError(f"{self.exchange.id} currently lists no symbols at all")
        types = {name: _TYPES.get(it.kind, it.kind) for name, it in listing.instruments.items()}
        return Listed(types, listing.instruments)

    @override
    async def connections(self, listed: Listed, symbols: Sequence[str], channels: Sequence[str]) -> int:
        return len(self.plans(listed, symbols, channels)[0])

    def plans(
        self, listed: Listed, symbols: Sequence[str], channels: Sequence[str]
    ) -> tuple[Sequence[ConnectionPlan], Sequence[Poll]]:
        """Return the connections and polls that the channels of the symbols take.

        Raises SettingsError if the exchange has no such channel of a symbol that is named in SYMBOLS, or
        of none of them.
        """
        asked = [Subscription(channel, symbol) for symbol in symbols for channel in channels]
        connections = self.exchange.connections(asked, listed.instruments)
        polls = self.exchange.polls(asked, listed.instruments)
        carried = {each for plan in connections for each in plan.subscriptions}
        carried |= {poll.subscription for poll in polls}
        lacking = [each for each in asked if each not in carried]
        named = {item for item in self.settings.selection.included if is_plain(item)}
        faults = [each for each in lacking if each.symbol in named or not carried]
        if faults:
            raise SettingsError([self._fault(each) for each in faults])
        return connections, polls

    @override
    async def close(self) -> None:
        await self.network.close()

    async def _pages(self, address: str) -> list[bytes]:
        pages: list[bytes] = []
        following: str | None = address
        while following:
            if len(pages) == _MOST_PAGES:
                raise AnswerError(f"{address} has more than {_MOST_PAGES} pages; rejected")
            answer = await self.rest.get(following, self.exchange.listing_weight, urgent=True)
            if answer.status in _REFUSED and self.exchange.lacks(address, answer.body):
                break
            if answer.status != 200:
                said = answer.body[:200].decode(errors="replace")
                raise AnswerError(f"{urlsplit(address).hostname} answers {answer.status}: {said}")
            pages.append(answer.body)
            following = self.exchange.next_page(following, answer.body)
        return pages

    def _tell_unread(self, rows: Sequence[Unread]) -> None:
        new = [row for row in rows if row not in self._told]
        self._told = set(rows)
        if new:
            shown = "; ".join(f"{row.reason}: {row.row}" for row in new[:_SHOWN])
            LOG.warning("%s: %d rows of its list were left out: %s", self.exchange.id, len(new), shown)

    def _fault(self, lacking: Subscription) -> Fault:
        channel, symbol = lacking
        return Fault("CHANNELS", channel, f"{self.exchange.id} has no {channel} of {symbol}")


class DirectFeed(Feed):
    """What comes from an exchange that we speak to ourselves."""

    _access: DirectAccess

    def __init__(self, access: DirectAccess, receiver: Receiver, patience: Patience | None = None) -> None:
        exchange = access.exchange
        flowing = {channel: it for channel, it in exchange.channels.items() if it.flows}
        # of candles there is a record at the end of each alone
        quiet = {channel: it.quiet for channel, it in flowing.items() if it.quiet and channel != "candles"}
        checked = [channel for channel in BOOKS & flowing.keys() if flowing[channel].loss != "nothing"]
        super().__init__(
            access,
            receiver,
            patience,
            flows=flowing,
            quiet=quiet,
            checked=checked,
            with_trades=[channel for channel, it in flowing.items() if channel in BOOKS or it.with_trades],
            with_market=[channel for channel, it in flowing.items() if it.with_market],
        )
        self._shared = Shared(
            exchange=exchange,
            network=access.network,
            rest=access.rest,
            intake=Intake(exchange, self.subscriptions, self.gaps, receiver),
            subscriptions=self.subscriptions,
            receiver=receiver,
            malformed=Malformed(self._settings.home),
            patience=self._patience,
        )
        self._numbers = itertools.count(1)

    @override
    async def _open(
        self, listed: Listed, symbols: Sequence[str], channels: Sequence[str]
    ) -> Sequence[Connection]:
        plans, polls = self._access.plans(listed, symbols, channels)
        instruments = listed.instruments
        opened: list[Connection] = [
            DirectConnection(self._name("ws"), self._shared, plan.subscriptions, instruments)
            for plan in plans
        ]
        return [*opened, Polls(self._name("poll"), self._shared, polls)] if polls else opened

    @override
    async def run(self) -> None:
        self._shared.intake.recall(await self._receiver.newest())
        await super().run()

    @override
    async def stop(self) -> None:
        await super().stop()
        self._shared.intake.report_losses(NEVER)  # what is waited for comes no more

    def _name(self, kind: str) -> str:
        return f"{self._settings.exchange}.{kind}.{next(self._numbers)}"


def _budget(exchange: Exchange, settings: Settings) -> Budget | None:
    """Return what a collector may spend: the collectors of an exchange share an address.

    Where that is less than a list of symbols takes, it may be spent at once, in a longer time.
    """
    if exchange.limits.weight is None:
        return None
    weight, seconds = exchange.limits.weight
    shards = settings.shard.count if settings.shard else 1
    share = weight * SHARE / max(shards, settings.requests_shared_by)
    longer = max(1.0, exchange.listing_weight * len(exchange.listing()) / share)
    return Budget(share * longer, seconds * longer)
