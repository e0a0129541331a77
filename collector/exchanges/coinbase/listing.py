"""COINBASE's list of products."""

from typing import Literal

import msgspec

from collector.exchanges.coinbase import messages
from collector.exchanges.instruments import Instrument, contract_date, name
from collector.exchanges.numbers import MalformedError, number
from collector.exchanges.times import rfc3339


def instrument(raw: msgspec.Raw) -> Instrument | None:
    """Return the instrument of a row; None if it is not traded. Raises the errors in ``UNREADABLE``."""
    row = messages.product(raw)
    if row.alias or row.disabled or row.status == "delisted":
        return None
    if row.type == "FUTURE":
        return _contract(row)
    if row.type != "SPOT":
        raise MalformedError(f"a product of the unknown type {row.type!r}")
    return Instrument(
        symbol=name("spot", row.base, row.quote),
        exchange_symbol=row.id,
        kind="spot",
        base=row.base,
        quote=row.quote,
        tick=row.tick,
        lot=row.lot,
    )


def _contract(row: messages.Product) -> Instrument:
    """Return a contract under its code, since several share currency and expiry: BIP-USD-30Z20."""
    future = row.future
    if future is None:
        raise MalformedError("a contract without its details")
    perpetual = future.expires == "PERPETUAL"
    expiry = None if perpetual or not future.expiry else rfc3339(future.expiry)
    date = "" if perpetual or not future.expiry else contract_date(future.expiry[2:10].replace("-", ""))
    kind: Literal["perpetual", "future"] = "perpetual" if perpetual else "future"
    return Instrument(
        symbol=name(kind, future.code, row.quote, expiry=date),
        exchange_symbol=row.id,
        kind=kind,
        base=future.unit,
        quote=row.quote,
        tick=row.tick,
        lot=row.lot,
        contract_size=number(future.size),
        contract_unit=future.unit,
        settlement=row.quote,
        expiry=expiry,
    )
