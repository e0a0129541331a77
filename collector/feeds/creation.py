"""Creates the feed of an exchange: native if its protocol is implemented here, else through cryptofeed."""

from typing import TYPE_CHECKING

from collector.exchanges.directory import EXCHANGES
from collector.feeds.access import Access
from collector.feeds.connection import Patience
from collector.feeds.direct import DirectAccess, DirectFeed
from collector.feeds.feed import Feed
from collector.receiver import Receiver
from collector.settings import Settings

if TYPE_CHECKING:
    from collector.feeds.through_cryptofeed.feed import CryptofeedAccess


def access(settings: Settings) -> Access:
    """Return the access to the exchange of ``settings``, for single requests."""
    return DirectAccess(settings) if settings.exchange in EXCHANGES else _through_cryptofeed(settings)


def feed(settings: Settings, receiver: Receiver, patience: Patience | None = None) -> Feed:
    """Return the feed that records the exchange of ``settings``."""
    if settings.exchange in EXCHANGES:
        return DirectFeed(DirectAccess(settings), receiver, patience)
    from collector.feeds.through_cryptofeed.feed import CryptofeedFeed  # noqa: PLC0415 - takes a second

    return CryptofeedFeed(_through_cryptofeed(settings), receiver, patience)


def _through_cryptofeed(settings: Settings) -> "CryptofeedAccess":
    from collector.feeds.through_cryptofeed.feed import CryptofeedAccess  # noqa: PLC0415 - takes a second

    return CryptofeedAccess(settings)
