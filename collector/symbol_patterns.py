"""How SYMBOLS selects from an exchange's symbols: plain symbols, and patterns.

- ``BTC-USD`` is that symbol.
- ``ALL`` is every symbol.
- ``*-USDT`` is every symbol of that form: ``*`` stands for anything, ``?`` for any one character, ``[ab]``
  for one of these. Upper and lower case differ, as they do in symbols.
- ``type:spot`` is every symbol of that type; TYPES has them all.
- ``!`` before any of these excludes what it would select, wherever in the list it is.

So a symbol is selected if an item of the list selects it and none excludes it. A list that only excludes is
refused, rather than taken to mean everything else: thousands of subscriptions should be asked for explicitly.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import msgspec

from collector.catalog import nearest

ALL = "ALL"
TYPE = "type:"
#: cryptofeed's types of symbols.
TYPES = ("spot", "perpetual", "futures", "option", "fx", "currency", "index", "option_combo", "future_combo")

_GLOB = re.compile(r"[*?\[]")


class Selection(msgspec.Struct, frozen=True):
    """The symbols and patterns that select, and those that exclude, without their ``!``."""

    included: tuple[str, ...]
    excluded: tuple[str, ...] = ()

    @classmethod
    def parse(cls, items: Iterable[str]) -> "Selection":
        """Return the selection that ``items`` make. Raises ValueError."""
        spelt = [spelling(item) for item in items]
        included = tuple(item for item in spelt if not item.startswith("!"))
        excluded = tuple(item[1:] for item in spelt if item.startswith("!"))
        if not included:
            raise ValueError(f"only excludes; for everything else write {ALL},{','.join(spelt)}")
        if ALL in excluded:
            raise ValueError(f"!{ALL} excludes everything")
        return cls(included, excluded)

    def wants(self, symbol: str, kind: str) -> bool:
        """Return whether a symbol of the type ``kind`` is selected."""
        return any(matches(item, symbol, kind) for item in self.included) and not any(
            matches(item, symbol, kind) for item in self.excluded
        )

    def select(self, listed: Mapping[str, str]) -> list[str]:
        """Return those of the symbols ``listed``, each with its type, that are selected.

        They come in the order of the list's items, and those of a pattern by name.
        """
        out = {symbol for item in self.excluded for symbol in selected(item, listed)}
        found = (symbol for item in self.included for symbol in selected(item, listed))
        return [symbol for symbol in dict.fromkeys(found) if symbol not in out]


def selected(item: str, listed: Mapping[str, str]) -> list[str]:
    """Return what one symbol or pattern, without ``!``, selects from ``listed``, symbols with their types."""
    if is_plain(item):
        return [item] if item in listed else []
    return sorted(symbol for symbol, kind in listed.items() if matches(item, symbol, kind))


def spelling(item: str) -> str:
    """Return a symbol or pattern in its canonical spelling. Raises ValueError."""
    sign, rest = ("!", item[1:].strip()) if item.startswith("!") else ("", item)
    if not rest or rest.startswith("!"):
        raise ValueError(f"{item!r} excludes nothing; write !BTC-USD or !*-PERP")
    if rest.upper() == ALL:
        return sign + ALL
    if rest.lower().startswith(TYPE):
        return sign + TYPE + _type(rest[len(TYPE) :].strip().lower())
    return sign + rest


def _type(text: str) -> str:
    if text in TYPES:
        return text
    near = nearest(text, TYPES)
    hint = f"did you mean {TYPE}{near[0]}?" if near else f"choose from {', '.join(TYPES)}"
    raise ValueError(f"{TYPE + text!r} is not a type of symbol; {hint}")


def is_plain(item: str) -> bool:
    """Return whether it is a symbol rather than a pattern."""
    return item != ALL and not item.startswith(TYPE) and not _GLOB.search(item)


def matches(item: str, symbol: str, kind: str) -> bool:
    """Return whether a symbol or pattern, without ``!``, selects ``symbol`` of the type ``kind``."""
    if is_plain(item):
        return symbol == item
    if item.startswith(TYPE):
        return kind == item[len(TYPE) :]
    return item == ALL or fnmatchcase(symbol, item)


def type_by_form(symbol: str) -> str:
    """Return the type of a symbol as cryptofeed writes it, from its form: BTC-USD-PERP is a perpetual."""
    parts = symbol.split("-")
    if parts[-1] == "PERP":
        return "perpetual"
    if parts[-1] == "FX":
        return "fx"
    return {1: "currency", 2: "spot", 3: "futures", 5: "option"}.get(len(parts), "")
