"""The list of BYBIT's instruments."""

from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec

from collector.exchanges.bybit import messages
from collector.exchanges.instruments import Instrument, Kind, Statuses, contract_date, name
from collector.exchanges.numbers import MalformedError, number_or_none
from collector.exchanges.times import milliseconds
from collector.times import SECOND

_KINDS: Mapping[str | None, tuple[Kind, str]] = {
    None: ("spot", "spot"),
    "LinearPerpetual": ("perpetual", "linear"),
    "LinearFutures": ("future", "linear"),
    "InversePerpetual": ("perpetual", "inverse"),
    "InverseFutures": ("future", "inverse"),
    "Option": ("option", "option"),
}
#: bybit-exchange.github.io/docs/v5/enum (status), as clients of 2026 have it.
_STATUSES = Statuses(
    listed=frozenset({"Trading"}), others=frozenset({"PreLaunch", "Settling", "Delivering", "Closed"})
)
#: From this phase on a contract of the pre-market has books and trades, as any other; its candles begin one
#: phase earlier (bybit-exchange.github.io/docs/v5/enum, curAuctionPhase, 2026-11-29).
_TRADED_PHASE = "ContinuousTrading"


def instrument(raw: msgspec.Raw) -> Instrument | None:
    """Return the instrument of a row; None for one that is not traded. Raises what ``UNREADABLE`` lists."""
    row = messages.row(raw)
    if not _STATUSES.are_listed(row.status) and not _is_traded_before_its_listing(row):
        return None
    known: tuple[Kind, str] | None = (
        ("option", "option") if row.options_type else _KINDS.get(row.contract_type)
    )
    if known is None:
        raise MalformedError(f"a contract of the unknown type {row.contract_type!r}")
    kind, market = known
    if market == "spot" and row.lot_size_filter.qty_step:
        raise MalformedError("a contract without its type")
    dated = kind in ("future", "option")
    parts = row.symbol.split("-")
    if kind == "option" and len(parts) < 4:
        raise MalformedError(f"the name {row.symbol!r} is not an option's")
    strike, right = (parts[2], row.options_type or "") if kind == "option" else ("", "")
    expiry = milliseconds(row.delivery_time) if dated else None
    return Instrument(
        symbol=name(
            kind,
            row.base_coin,
            row.quote_coin,
            expiry=_date(expiry) if expiry else "",
            strike=strike,
            right=right.lower(),
        ),
        exchange_symbol=row.symbol,
        kind=kind,
        base=row.base_coin,
        quote=row.quote_coin,
        tick=row.price_filter.tick_size,
        lot=row.lot_size_filter.qty_step or row.lot_size_filter.base_precision,
        contract_size="1" if market == "inverse" else None,
        contract_unit=row.quote_coin if market == "inverse" else None,
        settlement=row.settle_coin,
        expiry=expiry,
        strike=number_or_none(strike),
        market=market,
    )


def _is_traded_before_its_listing(row: messages.Row) -> bool:
    info = row.pre_listing_info
    return row.status == "PreLaunch" and info is not None and info.cur_auction_phase == _TRADED_PHASE


def _date(time: int) -> str:
    return contract_date(datetime.fromtimestamp(time // SECOND, UTC).strftime("%y%m%d"))
