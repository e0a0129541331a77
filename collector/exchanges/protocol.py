"""What every exchange of this package offers, and what it says while it listens.

An exchange is pure: it turns subscriptions into addresses and frames to send, and frames received into
records and events. It opens no socket, reads no clock (times are arguments: nanoseconds since 1970, UTC) and
starts no task, so a test feeds it what an exchange sent, byte for byte, and reads what comes out. Whoever
drives it keeps connections up, sends what it asks to send, and brings answers to its requests.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import msgspec

from collector.exchanges.book import Storing
from collector.exchanges.instruments import Instrument, Listing
from collector.exchanges.limits import Limits
from collector.records import AnyRecord

#: How a loss can be noticed: by sequence numbers, by each message naming the one before, by a checksum over
#: the book, by ids without holes; or not at all.
type Detection = Literal["sequence", "chain", "checksum", "ids", "nothing"]


class Subscription(NamedTuple):
    """One channel of one symbol, in cryptofeed's names."""

    channel: str
    symbol: str


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """What one channel of an exchange is like; the catalogue is written from it.

    Attributes:
        records: what one record is, in words.
        loss: how a missing message is noticed.
        flows: data must come for every instrument that is traded, so only data confirms a subscription.
        quiet: seconds without data that are normal; None if any silence is.
        with_trades: each trade changes it, as it does each book.
        with_market: data comes when the market moves, not by the clock; so do books and best prices.
        period: seconds between two polls; None if the exchange sends by itself.
        source: the page that describes the format, and the date on which it was read.
    """

    records: str
    loss: Detection
    flows: bool
    quiet: float | None
    source: str
    with_trades: bool = False
    with_market: bool = False
    period: float | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a user chooses.

    Attributes:
        endpoints: addresses in place of the exchange's own, by the names of ``Exchange.endpoints``.
    """

    candle_interval: str = "1m"
    storing: Storing = Storing()
    endpoints: Mapping[str, str] = {}


class ConnectionPlan(msgspec.Struct, frozen=True):
    """One connection to open: its address, and the subscriptions that it carries."""

    url: str
    subscriptions: tuple[Subscription, ...]


class Event(msgspec.Struct, frozen=True, tag_field="event", tag=str.lower):
    """Something to know or to do, beside the records."""


class Confirmed(Event, frozen=True, tag="confirmed"):
    """Subscriptions stand: the exchange acknowledged them, their first data came, or nothing has changed."""

    subscriptions: tuple[Subscription, ...]
    by: Literal["acknowledgement", "data"]


class Refused(Event, frozen=True, tag="refused"):
    """The exchange refused subscriptions, in these words."""

    subscriptions: tuple[Subscription, ...]
    reason: str


class Notice(Event, frozen=True, tag="notice"):
    """The exchange says something that changes nothing."""

    text: str


class Ignored(Event, frozen=True, tag="ignored"):
    """A message of a known kind that nobody asked for."""

    kind: str


class Break(Event, frozen=True, tag="break"):
    """Something of a subscription is missing: a gap, from its last record to its next one.

    With ``renewed`` it is being subscribed to again, and the gap lasts until ``Resync``.
    """

    subscription: Subscription
    reason: str
    renewed: bool = False


class Resync(Event, frozen=True, tag="resync"):
    """A subscription is in step with the exchange: a book for the first time, or whatever broke again."""

    subscription: Subscription


class Request(Event, frozen=True, tag="request"):
    """Something to ask by HTTP GET; the answer goes to ``Session.answer``, under the same id."""

    id: int
    url: str
    weight: int
    about: Subscription


class Send(Event, frozen=True, tag="send"):
    """A frame to send."""

    frame: str


class Renew(Event, frozen=True, tag="renew"):
    """Subscribe again to what broke, by these frames; whoever drives paces what breaks again and again."""

    subscriptions: tuple[Subscription, ...]
    frames: tuple[str, ...]


class Closing(Event, frozen=True, tag="closing"):
    """The exchange will close this connection: open the next one now."""

    reason: str


class Repeated(Event, frozen=True, tag="repeated"):
    """Records that the exchange sends again, or from before the subscription, as it does after each one.

    Those that are newer than the last one that was recorded fill a hole.
    """

    records: tuple[AnyRecord, ...]


class Malformed(Event, frozen=True, tag="malformed"):
    """A message, or a part of one, that breaks the exchange's documentation; ``about`` what it concerns.

    Empty ``about`` means that nobody knows what it concerned.
    """

    reason: str
    about: tuple[Subscription, ...] = ()


#: What comes of one frame, in order.
type Outputs = Sequence[AnyRecord | Event]


class Poll(msgspec.Struct, frozen=True):
    """Something to ask again and again: each ``period`` seconds, at a cost of ``weight``.

    Attributes:
        exchange_symbol: of which instrument, in the exchange's name: an answer may repeat it.
    """

    subscription: Subscription
    exchange_symbol: str
    url: str
    weight: int
    period: float


class Session(ABC):
    """The state of one connection."""

    @abstractmethod
    def opening(self) -> Sequence[str]:
        """Return the frames to send once the connection is open."""

    @abstractmethod
    def receive(self, frame: bytes, receipt: int) -> Outputs:
        """Return what a frame, received at ``receipt``, means. Never raises for what an exchange may send."""

    def answer(self, request: int, status: int, body: bytes, receipt: int) -> Outputs:
        """Return what the answer to a request means."""
        raise LookupError(f"no request {request} is open")

    def failed(self, request: int, reason: str) -> Outputs:
        """Return what follows from a request that got no answer; whoever drives paces the next one."""
        raise LookupError(f"no request {request} is open")

    def answered_by(self, body: bytes) -> int | None:
        """Return the oldest open request that ``body`` may answer: a recording does not name it."""
        return None

    def tick(self, now: int) -> Outputs:
        """Return what is due at ``now``; called every second."""
        return ()

    def probe(self) -> Sequence[str]:
        """Return the frames that make the exchange say something, sent when it has been silent for long."""
        return ()

    def follow(self, before: "Session") -> None:  # noqa: B027 - most exchanges send all of it again
        """Begin where ``before`` is, a session of the same subscriptions, where that saves requests.

        Called before anything is received, and while ``before`` goes on.
        """

    def renew_books(self, symbols: Collection[str]) -> None:  # noqa: B027 - there may be no books
        """Have a complete book follow the next change of the books of ``symbols``."""


class Exchange(ABC):
    """One exchange, with what a user chose."""

    id: ClassVar[str]
    channels: ClassVar[Mapping[str, Channel]]
    limits: ClassVar[Limits]
    #: The exchange's addresses by name; ``Options.endpoints`` replaces them.
    endpoints: ClassVar[Mapping[str, str]]
    #: Its addresses elsewhere, by the name of the region: what differs from ``endpoints``.
    regions: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    candle_intervals: ClassVar[Sequence[str]] = ()
    #: REST weight of each request of the listing.
    listing_weight: ClassVar[int] = 1
    #: Seconds without any whole message after which a connection is dead: before, ``Session.probe`` makes the
    #: exchange say something. Bytes alone, as of a message that does not end, keep nothing alive.
    silence: ClassVar[float]
    #: Whether a source says that what ``Session.probe`` sends is answered. Else a silence in spite of it ends
    #: a connection half as often each time: what is quiet must not be connected to again and again.
    answers_probes: ClassVar[bool] = True

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()

    def endpoint(self, name: str) -> str:
        """Return an address of the exchange."""
        return self.options.endpoints.get(name, self.endpoints[name])

    @abstractmethod
    def listing(self) -> Sequence[str]:
        """Return the addresses whose answers list the instruments."""

    def lacks(self, address: str, refusal: bytes) -> bool:
        """Return whether a refusal says that what an address of the listing is about does not exist here."""
        return False

    def next_page(self, address: str, answer: bytes) -> str | None:
        """Return the address of what follows an answer of the listing, where it is not all of it."""
        return None

    @abstractmethod
    def instruments(self, answers: Sequence[bytes]) -> Listing:
        """Return the instruments of ``answers``. Raises MalformedError if one is no listing at all."""

    @abstractmethod
    def connections(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[ConnectionPlan]:
        """Return the connections to open, within the exchange's limits.

        What none of them carries is polled (``polls``); what is neither cannot be recorded.
        """

    @abstractmethod
    def session(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Session:
        """Return the state of a new connection that carries ``subscriptions``."""

    @abstractmethod
    def listener(self, channels: Collection[str]) -> Session:
        """Return a session that reads these channels of whatever comes, under the exchange's symbols."""

    def polls(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[Poll]:
        """Return what has to be asked again and again."""
        return ()

    def read_poll(
        self, subscription: Subscription, exchange_symbol: str, body: bytes, receipt: int
    ) -> Outputs:
        """Return what the answer to a poll means; one about another instrument is malformed."""
        raise LookupError(f"{self.id} has no polled channel {subscription.channel}")

    def identity(self, record: AnyRecord) -> object:
        """Return what makes two sightings of a record one; equal for a repetition."""
        return msgspec.structs.astuple(record)[2:3] + msgspec.structs.astuple(record)[4:]
