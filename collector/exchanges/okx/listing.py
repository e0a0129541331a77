"""The list of OKX's instruments."""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from collector.exchanges.instruments import Instrument, Kind, Statuses, contract_date, name
from collector.exchanges.numbers import MalformedError, number, number_or_none
from collector.exchanges.okx import messages
from collector.exchanges.times import milliseconds

#: okx.com/docs-v5, Get instruments (state), as of 2026-06-15: ``rebase`` (cannot be traded meanwhile) and
#: ``post_only`` are of perpetuals, ``settling`` of event contracts. What has expired is not listed any more
#: by that page; ``expired`` is of clients, and not verified.
_STATUSES = Statuses(
    listed=frozenset({"live", "suspend", "rebase", "post_only"}),
    others=frozenset({"preopen", "test", "settling", "expired"}),
)
_KINDS: Mapping[str, Kind] = {"SPOT": "spot", "SWAP": "perpetual", "FUTURES": "future", "OPTION": "option"}


def instrument(raw: msgspec.Raw) -> Instrument | None:
    """Return the instrument of a row; None for one that is not traded. Raises what ``UNREADABLE`` lists."""
    row = messages.row(raw)
    kind = _KINDS.get(row.inst_type)
    if kind is None:
        raise MalformedError(f"an instrument of the unknown type {row.inst_type!r}")
    if not row.inst_id:
        raise MalformedError("an instrument without a name")
    if not _STATUSES.are_listed(row.state):
        return None
    parts = row.inst_id.split("-")
    if len(parts) != {"spot": 2, "perpetual": 3, "future": 3, "option": 5}[kind]:
        raise MalformedError(f"the name {row.inst_id!r} has another number of parts than that of a {kind}")
    base, quote = (row.base_ccy, row.quote_ccy) if kind == "spot" else (parts[0], parts[1])
    expiry = contract_date(parts[2]) if kind in ("future", "option") else ""
    strike, right = (parts[3], {"C": "call", "P": "put"}.get(parts[4], "")) if kind == "option" else ("", "")
    return Instrument(
        symbol=name(kind, base, quote, expiry=expiry, strike=strike, right=right),
        exchange_symbol=row.inst_id,
        kind=kind,
        base=base,
        quote=quote,
        tick=row.tick_sz,
        lot=row.lot_sz,
        contract_size=None if kind == "spot" else _contract_size(row),
        contract_unit=row.ct_val_ccy or None,
        settlement=row.settle_ccy or None,
        expiry=milliseconds(row.exp_time) if row.exp_time and expiry else None,
        strike=number_or_none(row.stk),
        index=row.uly or None,
    )


def _contract_size(row: messages.Row) -> str:
    if not row.ct_val:
        raise MalformedError("a contract without its size")
    size = Decimal(number(row.ct_val)) * Decimal(number(row.ct_mult or "1"))
    return number(format(size.normalize(), "f"))
