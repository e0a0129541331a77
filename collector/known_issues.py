"""Known issues: exchanges that have closed, and what cryptofeed 2.5 records wrongly or not at all.

Nothing here asks an exchange: each entry names its source. ``python -m collector.catalog`` copies the entries
into the table of exchanges, which messages, commands and documents are made from.
"""

from collections.abc import Mapping

import msgspec


class KnownIssue(msgspec.Struct, frozen=True):
    """Why something cannot be recorded: what happened, since when (a date or part of one), and the source."""

    what: str
    since: str
    source: str

    def __str__(self) -> str:
        return f"{self.what} ({self.source})"


def _closed(since: str, source: str) -> KnownIssue:
    return KnownIssue(f"closed since {since}", since, source)


#: Exchanges that have closed; all were checked again on 2026-11-28.
CLOSED: Mapping[str, KnownIssue] = {
    "ASCENDEX": _closed("2026-07", "hummingbot#8376, 2026-07-17; ccxt#29079"),
    "ASCENDEX_FUTURES": _closed("2026-07", "hummingbot#8376, 2026-07-17; ccxt#29079"),
    "BIT.COM": _closed("2026-03-31", "its announcement of 2025-12-27; spot trading ended on 2026-01-31"),
    "BITMEX": _closed("2026-09-23", "bitmex.com/blog/bitmex-closure, 2026-07-23"),
    "DYDX": _closed("2024-10-28", "l2beat.com/scaling/projects/dydx: v3; v4 is another protocol"),
    "EXX": _closed("2022-11", "XChange#4617, 2022-11-21"),
    "OKCOIN": _closed(
        "2025-05", "support.okcoin.com/hc/en-us/articles/34726173120525; ccxt#27026, 2025-10-10"
    ),
    "PROBIT": _closed("2026-02-26", "its announcement; spot trading ended on 2026-01-28; ccxt#27892"),
}

_BITGET = KnownIssue(
    "brings nothing since 2025-11-28: cryptofeed 2.5 speaks version 1 of its API, which has ended",
    "2025-11-28",
    "bitget.com/support/articles/12560603838361; cryptofeed#1102, 2026-04-14",
)
_KRAKEN_FUTURES = KnownIssue(
    "brings nothing since 2024-06: cryptofeed 2.5 does not know its symbols in capitals",
    "2024-06",
    "cryptofeed#1040, 2024-06-05",
)
#: Its spot amounts would be 10^8 too large as well (phemex-api-docs, spot).
_PHEMEX = KnownIssue(
    "brings nothing since 2023-10: cryptofeed 2.5 asks at an address that answers 410, Gone",
    "2023-10",
    "ccxt#19707, 2023-10-27; tardis-node#58, 2025-04-16",
)

#: Channels that bring nothing or wrong values, by exchange; ``*`` is every channel.
BROKEN: Mapping[str, Mapping[str, KnownIssue]] = {
    "BITGET": {"*": _BITGET},
    "KRAKEN_FUTURES": {"*": _KRAKEN_FUTURES},
    "PHEMEX": {"*": _PHEMEX},
}

#: Why public channels of an exchange need API keys, where cryptofeed asks for them.
NEED_KEYS: Mapping[str, KnownIssue] = {
    "DERIBIT": KnownIssue(
        "needs API keys (CONFIG) since 2022-01-15: cryptofeed 2.5 subscribes to raw feeds",
        "2022-01-15",
        "deribit.com/kb/15-january-release; cryptofeed#768",
    ),
    "KUCOIN": KnownIssue(
        "needs API keys (CONFIG) since 2021-06: cryptofeed 2.5 asks for whole books where KUCOIN wants them",
        "2021-06",
        "cryptofeed#509, 2021-06-06; ccxt#9779, 2021-08-08",
    ),
}

#: Exchanges for which no source was found that says whether recording them still works.
NOT_VERIFIED = frozenset({"BEQUANT", "BINANCE_TR", "BLOCKCHAIN", "DELTA", "FMFW", "HITBTC", "HUOBI_DM"})
