"""What is known not to work: closed exchanges, and what cryptofeed 2.5 records wrongly or not at all.

Nobody asks an exchange here: each entry names who says so. ``python -m collector.catalog`` puts them into the
table of exchanges, from which messages, commands and documents speak.
"""

from collections.abc import Mapping

import msgspec


class Trouble(msgspec.Struct, frozen=True):
    """Why something cannot be recorded: what happened, since when (a date or a part of one), who says so."""

    what: str
    since: str
    source: str

    def __str__(self) -> str:
        return f"{self.what} ({self.source})"


def _closed(since: str, source: str) -> Trouble:
    return Trouble(f"closed since {since}", since, source)


#: Exchanges that have closed.
CLOSED: Mapping[str, Trouble] = {
    "ASCENDEX": _closed("2026-07", "ccxt#29079; hummingbot, 2026-07-17"),
    "ASCENDEX_FUTURES": _closed("2026-07", "ccxt#29079; hummingbot, 2026-07-17"),
    "BIT.COM": _closed("2026-03-31", "the exchange's announcement of December 2025"),
    "BITMEX": _closed("2026-09-23", "bitmex.com/blog/bitmex-closure, 2026-07-23"),
    "DYDX": _closed("2024-10-28", "dYdX v3; v4 is another protocol"),
    "EXX": _closed("2022-11", "XChange#4617"),
    "OKCOIN": _closed("2025-05", "ccxt#27026"),
    "PROBIT": _closed("2026", "ccxt#27892"),
}

_ADDRESS = "cryptofeed 2.5 asks at an address that the exchange has given up"
_BITGET = Trouble(f"brings nothing since 2025-11-28: {_ADDRESS}", "2025-11-28", "bitget.com API v1, sunset")
_KRAKEN_FUTURES = Trouble(
    "brings nothing since 2024: cryptofeed 2.5 does not know symbols in capitals",
    "2024",
    "docs.kraken.com, futures",
)
_PHEMEX = Trouble(
    "is recorded wrongly: cryptofeed 2.5 asks a host that moved, and has amounts of spot 10^8 too large",
    "2025-04",
    "phemex-api-docs, spot",
)

#: Channels that bring nothing or wrong values, by exchange; ``*`` is every channel.
BROKEN: Mapping[str, Mapping[str, Trouble]] = {
    "BITGET": {"*": _BITGET},
    "KRAKEN_FUTURES": {"*": _KRAKEN_FUTURES},
    "PHEMEX": {"candles": _PHEMEX, "l2_book": _PHEMEX, "trades": _PHEMEX},
}

#: Exchanges of which nothing was found that says whether what is recorded of them still works.
NOT_VERIFIED = frozenset({"BEQUANT", "BINANCE_TR", "BLOCKCHAIN", "DELTA", "FMFW", "HITBTC", "HUOBI_DM"})
