"""The list of KRAKEN's pairs."""

import msgspec

from collector.exchanges.instruments import Instrument, Statuses, name
from collector.exchanges.kraken import messages
from collector.exchanges.numbers import MalformedError, number

#: docs.kraken.com, REST get-tradable-asset-pairs, of 2026-06 has the four of ``listed`` and ``cancel_only``,
#: in which pairs stay that are not traded any more (ccxt#22341); unified-fix/sl, read 2026-11-29, the others
#: but for ``work_in_progress``, which clients of the instrument channel have: not verified.
_STATUSES = Statuses(
    listed=frozenset({"online", "post_only", "limit_only", "reduce_only"}),
    others=frozenset({"cancel_only", "delisted", "hidden", "maintenance", "work_in_progress"}),
)


def instrument(raw: msgspec.Raw) -> Instrument | None:
    """Return the instrument of a row; None for one that is not traded. Raises what ``UNREADABLE`` lists."""
    pair = messages.pair(raw)
    if not _STATUSES.are_listed(pair.status):
        return None
    base, slash, quote = pair.wsname.replace("XBT", "BTC").replace("XDG", "DOGE").partition("/")
    if not slash:
        raise MalformedError(f"no name of the form BTC/USD: {pair.wsname!r}")
    return Instrument(
        symbol=name("spot", base, quote),
        exchange_symbol=f"{base}/{quote}",  # as version 2 of the protocol has it
        kind="spot",
        base=base,
        quote=quote,
        tick=pair.tick_size,
        lot=None if pair.lot_decimals is None else number(f"1e-{pair.lot_decimals}"),
    )
