"""What an exchange lists: instruments under cryptofeed's names, and the rows that could not be read."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec
from msgspec import structs

from collector.exchanges.numbers import UNREADABLE, MalformedError, traded

type Kind = Literal["spot", "perpetual", "future", "option"]

#: What SYMBOLS could not ask for: it separates symbols there, or makes a pattern.
_unfit = re.compile(r"[\s,*?\[\]!/\\'\"=%]").search
_LONGEST_NAME = 64  # characters
#: Letters of the months in the names of contracts, January first.
_MONTHS = "FGHJKMNQUVXZ"
_ROW_LENGTH = 120  # characters of a row that are shown


class Instrument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One instrument.

    Attributes:
        symbol: cryptofeed's name of it: BTC-USDT, BTC-USDT-PERP, BTC-USD-26Z25, BTC-USD-50000-26Z25-call.
        exchange_symbol: the exchange's own name.
        tick, lot: the steps of a price and of an amount.
        contract_size: of a contract, in ``contract_unit``; None if amounts are in the base currency.
        settlement: the currency in which profit and loss are paid.
        expiry: nanoseconds since 1970, UTC.
        market: the exchange's name of its part in which it is traded, where it has several.
        index: the exchange's name of the index that it follows, where it is subscribed to by that.
    """

    symbol: str
    exchange_symbol: str
    kind: Kind
    base: str
    quote: str
    tick: str | None = None
    lot: str | None = None
    contract_size: str | None = None
    contract_unit: str | None = None
    settlement: str | None = None
    expiry: int | None = None
    strike: str | None = None
    index: str | None = None
    market: str | None = None


class Unread(msgspec.Struct, frozen=True):
    """A row of a listing that could not be read: its beginning, and why."""

    row: str
    reason: str


class Statuses(msgspec.Struct, frozen=True):
    """The words with which an exchange says whether an instrument is traded.

    Attributes:
        listed: of what is traded, or will be again soon.
        others: of what is not yet, or no longer.
    """

    listed: frozenset[str]
    others: frozenset[str]

    def are_listed(self, status: str) -> bool:
        """Return whether an instrument of this status is listed. Raises MalformedError for an unknown one."""
        if status not in self.listed and status not in self.others:
            raise MalformedError(f"the unknown status {status!r}")
        return status in self.listed


class Listing(msgspec.Struct, frozen=True):
    """What an exchange lists: instruments by cryptofeed's name."""

    instruments: Mapping[str, Instrument]
    unread: tuple[Unread, ...] = ()


def name(kind: Kind, base: str, quote: str, *, expiry: str = "", strike: str = "", right: str = "") -> str:
    """Return cryptofeed's name of an instrument; ``expiry`` is a ``contract_date``. Raises MalformedError."""
    if not base or not quote or "-" in base + quote:
        raise MalformedError(f"base currency {base!r} and quote currency {quote!r} make no name")
    pair = base if base == quote else f"{base}-{quote}"
    parts = {"spot": (), "perpetual": ("PERP",), "future": (expiry,), "option": (strike, expiry, right)}[kind]
    if not all(parts):
        raise MalformedError(f"a {kind} without its expiry, strike or right")
    symbol = "-".join((pair, *parts))
    if not symbol.isprintable() or _unfit(symbol) or len(symbol) > _LONGEST_NAME:
        raise MalformedError(f"{symbol[:_LONGEST_NAME]!r} is not a symbol's name")
    return symbol


def contract_date(date: str) -> str:
    """Return the date of a contract as names have it, 26Z25 of ``261225``. Raises MalformedError."""
    if len(date) != 6 or not date.isdecimal() or not 1 <= int(date[2:4]) <= 12:
        raise MalformedError(f"{date!r} is not a date of the form YYMMDD")
    return date[:2] + _MONTHS[int(date[2:4]) - 1] + date[4:]


def read_listing(rows: Iterable[msgspec.Raw], read: Callable[[msgspec.Raw], Instrument | None]) -> Listing:
    """Read a listing row by row: a row that cannot be read costs itself alone.

    ``read`` returns None for what is not traded, and raises what ``UNREADABLE`` lists. Two instruments under
    one name are both left out: nobody could tell which of them is recorded. An instrument that several rows
    tell of is one.
    """
    found: dict[str, list[tuple[Instrument, msgspec.Raw]]] = defaultdict(list)
    unread = []
    for row in rows:
        try:
            instrument = read(row)
            instrument = instrument and _checked(instrument)
        except UNREADABLE as error:
            unread.append(_unread(row, str(error)))
        else:
            if instrument:
                found[instrument.symbol].append((instrument, row))
    instruments = {}
    for symbol, same in found.items():
        count = len({instrument.exchange_symbol for instrument, _ in same})
        if count == 1:
            instruments[symbol] = same[0][0]
        else:
            unread += [_unread(row, f"{count} instruments would be {symbol}") for _, row in same]
    return Listing(instruments, tuple(unread))


def _checked(it: Instrument) -> Instrument:
    """Return an instrument without the steps that are none. Raises MalformedError where more is wrong."""
    if not it.exchange_symbol:
        raise MalformedError("an instrument without the exchange's own name of it")
    if it.contract_size is not None and _step(it.contract_size) is None:
        raise MalformedError(f"a contract of the size {it.contract_size!r}")
    tick, lot = _step(it.tick), _step(it.lot)
    return it if (tick, lot) == (it.tick, it.lot) else structs.replace(it, tick=tick, lot=lot)


def _step(text: str | None) -> str | None:
    """Return a number above zero; None for anything else, without which an instrument can be recorded."""
    try:
        return traded(text) if text else None
    except MalformedError:
        return None


def _unread(row: msgspec.Raw, reason: str) -> Unread:
    return Unread(bytes(row)[:_ROW_LENGTH].decode(errors="replace"), reason)


def check_symbol(named: str, expected: str) -> None:
    """Check that a message is of its stream's symbol, if it names one. Raises MalformedError."""
    if named != expected and named:
        raise MalformedError(f"a message of {named[:64]!r} on a stream of {expected!r}")
