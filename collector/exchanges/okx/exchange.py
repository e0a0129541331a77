"""OKX, version 5 of its websocket protocol.

A subscription is an argument, a channel with an instrument, an index, or a type of instruments; messages
repeat it. Streams are on two paths: candles and single trades on ``business``, others on ``public``. Books
are chained: each update names the one before it (their checksum is 0 since June 2026); they begin with the
snapshot of their stream, or with one by REST where the stream has none. Right after a subscription the
exchange repeats the last trades: those older than the subscription are marked as repeated.

Amounts of contracts are numbers of contracts; ``Instrument.contract_size`` has the size of one.

Sources, read 2026-11-28: okx.com/docs-v5 (Order Book Trading, Public Data; WebSocket: connect, subscribe,
notification), okx.com/help "order-book-channels-checksum-field-deprecation"; docs-v5/log_en (of 2026-02-12)
and GET / Order book, 2026-11-29; messages of 2021 to 2026.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import batched, chain
from typing import ClassVar, override

from collector.exchanges.instruments import Instrument, Listing, read_listing
from collector.exchanges.limits import Limits
from collector.exchanges.numbers import UNREADABLE, MalformedError
from collector.exchanges.okx import messages
from collector.exchanges.okx.listing import instrument
from collector.exchanges.okx.messages import Argument
from collector.exchanges.okx.session import OkxSession
from collector.exchanges.okx.streams import INTERVALS
from collector.exchanges.protocol import Channel, ConnectionPlan, Detection, Exchange, Options, Subscription

_ARGUMENTS_PER_CONNECTION = 200
_DOCS = "okx.com/docs-v5"
_BEST = "Order book channel (bbo-tbt)"
_OPEN = "Open interest channel"  # what does not change is not sent

_FAMILY = "&instFamily="
#: How codes begin: 50001, "Service temporarily unavailable"; 51000, "Parameter instFamily error".
_FAILED, _NOT_HERE = "50", "51"
#: Families of options; nothing lists them. ``_UM`` is settled in dollars: messages and public clients have
#: BTC-USD_UM-260626-61000-C of 2026-06, ETH-USD_UM-260925-2600-P and SOL-USD_UM-260918-94-P of 2026-09.
_OPTIONS = ("BTC-USD", "ETH-USD", "BTC-USD_UM", "ETH-USD_UM", "SOL-USD_UM")
_NOT_OFFERED = frozenset({("funding", "spot"), ("funding", "option"), ("open_interest", "spot")})


def _channel(
    records: str, source: str, loss: Detection = "nothing", *, flows: bool = True, quiet: float | None = 600.0
) -> Channel:
    return Channel(
        records=records,
        loss=loss,
        flows=flows,
        quiet=quiet,
        with_trades=source == _BEST,
        with_market=source == _OPEN,
        source=f"{_DOCS}: {source}, 2026-11-28",
    )


class Okx(Exchange):
    """OKX: spot, perpetuals, futures and options."""

    id = "OKX"
    channels: ClassVar[Mapping[str, Channel]] = {
        "trades": _channel("single trades", "All trades channel", "ids", flows=False, quiet=None),
        "ticker": _channel("the best prices, every 10 ms at most", _BEST),
        "l1_book": _channel("the best prices with their sizes, every 10 ms at most", _BEST),
        "l2_book": _channel(
            "changes of a tenth of a second, of the 400 best levels per side; "
            "from a snapshot by REST where the stream has none (not verified)",
            "Order book channel (books)",
            "chain",
        ),
        "funding": _channel("the rate of the next settlement, every 30 to 90 s", "Funding rate channel"),
        "open_interest": _channel("open contracts, every 3 s at most", _OPEN),
        "liquidations": _channel(
            "at most one liquidation per instrument and second, of perpetuals and futures; the order's side",
            "Liquidation orders channel",
            flows=False,
            quiet=None,
        ),
        "index": _channel(
            "the index that an instrument follows, each tenth of a second at most", "Index tickers channel"
        ),
        "candles": _channel("closed candles; days begin at 16:00 UTC", "Candlesticks channel", quiet=60.0),
    }
    limits = Limits(
        subscriptions=_ARGUMENTS_PER_CONNECTION,
        frame_bytes=64_000,
        frames_per_second=1.0,
        operations=(480, 3600.0),
        connections=(3, 1.0),
        weight=(10, 1.0),
        source=f"{_DOCS}: WebSocket, Connect and Subscribe; Get instruments, 2026-11-28",
    )
    endpoints: ClassVar[Mapping[str, str]] = {
        "websocket": "wss://ws.okx.com:443/ws/v5",
        "rest": "https://www.okx.com/api/v5",
    }
    #: Hosts of ccxt 4.5.37 (myokx, okxus). 8443 is off since 2026-10-31 (notice of 2026-09-30): clients of
    #: October 2026 have 443 for both; ``eea`` was reached there in September, of ``us`` nobody says so.
    regions: ClassVar[Mapping[str, Mapping[str, str]]] = {
        region: {
            "websocket": f"wss://ws{region}.okx.com:443/ws/v5",
            "rest": f"https://{region}.okx.com/api/v5",
        }
        for region in ("eea", "us")
    }
    candle_intervals = tuple(INTERVALS)
    silence = 30.0  # a ping after 20 s is answered

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options)
        depth = self.options.storing.max_depth
        self._names = {
            "trades": "trades-all",
            "ticker": "bbo-tbt",
            "l1_book": "bbo-tbt",
            "l2_book": "books5" if 0 < depth <= 5 else "books",
            "funding": "funding-rate",
            "open_interest": "open-interest",
            "liquidations": "liquidation-orders",
            "index": "index-tickers",
            "candles": f"candle{self.options.candle_interval}",
        }

    @override
    def listing(self) -> Sequence[str]:
        address = self.endpoint("rest") + "/public/instruments?instType="
        options = [f"OPTION{_FAMILY}{family}" for family in _OPTIONS]
        return [address + of_type for of_type in ("SPOT", "SWAP", "FUTURES", *options)]

    @override
    def lacks(self, address: str, refusal: bytes) -> bool:
        # a server in between answers something else
        with suppress(*UNREADABLE):
            return _FAMILY in address and messages.error(refusal).code.startswith(_NOT_HERE)
        return False

    @override
    def instruments(self, answers: Sequence[bytes]) -> Listing:
        try:
            lists = [messages.answer(body) for body in answers]
        except UNREADABLE as error:
            raise MalformedError(f"no listing of {self.id}: {error}") from error
        if failed := [it.code for it in lists if it.code and it.code.startswith(_FAILED) and not it.data]:
            raise MalformedError(f"no listing of {self.id}: it answers with code {failed[0]}")
        rows = [row for it in lists for row in it.data]
        return read_listing(rows, instrument)

    @override
    def connections(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> Sequence[ConnectionPlan]:
        paths: dict[str, list[Sequence[Subscription]]] = defaultdict(list)
        for argument, carried in self.arguments(subscriptions, instruments).items():
            business = argument.channel == "trades-all" or argument.channel.startswith("candle")
            paths["business" if business else "public"].append(carried)
        return [
            ConnectionPlan(f"{self.endpoint('websocket')}/{path}", tuple(chain.from_iterable(some)))
            for path, arguments in paths.items()
            for some in batched(arguments, _ARGUMENTS_PER_CONNECTION)
        ]

    @override
    def session(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> OkxSession:
        return OkxSession(self, self.arguments(subscriptions, instruments), instruments)

    @override
    def listener(self, channels: Collection[str]) -> OkxSession:
        return OkxSession(self, {}, {}, listening_to=channels)

    def arguments(
        self, subscriptions: Sequence[Subscription], instruments: Mapping[str, Instrument]
    ) -> dict[Argument, list[Subscription]]:
        """Return the arguments that carry the subscriptions."""
        carried: dict[Argument, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            if argument := self._argument(subscription.channel, instruments[subscription.symbol]):
                carried[argument].append(subscription)
        return carried

    def snapshot(self, exchange_symbol: str) -> str:
        """Return the address of a book's snapshot: of as many levels as its stream has.

        ``source=0`` is what the announcement asks with (docs-v5/log_en, 2026-02-12); GET / Order book does
        not have it. That one allows 40 requests in 2 s, apart from those of the listing, as read 2026-11-29.
        """
        return f"{self.endpoint('rest')}/market/books?instId={exchange_symbol}&sz=400&source=0"

    def channels_of(self, theirs: str) -> Iterator[str]:
        """Yield our channels that a channel of the exchange's carries, whatever was chosen."""
        for ours, of_ours in self._names.items():
            known = {"l2_book": ("books", "books5")}.get(ours, (of_ours,))
            if theirs in known or (ours == "candles" and re.fullmatch(r"candle[0-9]+[mHDW]", theirs)):
                yield ours

    def _argument(self, channel: str, instrument: Instrument) -> Argument | None:
        theirs = self._names.get(channel)
        if theirs is None:
            return None
        if channel == "liquidations":
            # those of MARGIN and OPTION have neither a side nor a price, by the documentation
            of_type = {"perpetual": "SWAP", "future": "FUTURES"}.get(instrument.kind)
            return Argument(theirs, inst_type=of_type) if of_type else None
        if channel == "index":
            return Argument(theirs, instrument.index) if instrument.index else None
        if (channel, instrument.kind) in _NOT_OFFERED:
            return None
        return Argument(theirs, instrument.exchange_symbol)
