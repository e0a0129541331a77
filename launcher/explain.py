"""Explains the keys of the fleet file in words."""

from collections.abc import Iterable, Mapping

import msgspec

from collector import catalog
from collector.settings import BACKENDS
from launcher.fleet_keys import (
    COLLECTOR,
    DEFAULTS,
    FILES,
    FLEET,
    KUBERNETES,
    LIMITS,
    NETWORK,
    SETTINGS,
    SIMULATOR,
    STORE,
    Key,
    Keys,
)

#: Keys that contain other keys.
_TABLES: Mapping[str, Keys] = {
    "network": NETWORK,
    "simulator": SIMULATOR,
    "stores": STORE,
    "defaults": DEFAULTS,
    "collectors": COLLECTOR,
    "limits": LIMITS,
    "kubernetes": KUBERNETES,
}
#: What some keys take, if the error for a wrong value does not say so.
_TAKEN = {
    "exchange": ", ".join(catalog.usable()),
    "symbols": "a symbol or pattern, or a list of them; in YAML those that begin with * or ! need quotes",
    "channels": f"one or a list of {', '.join(catalog.CHANNELS)}",
    "backend": ", ".join(BACKENDS),
    "simulator.symbols": "for each exchange, its name with a symbol or a list of symbols",
    **dict.fromkeys(FILES, "the path of a file, relative to the folder of the fleet file"),
}


_ANYWHERE = "in a collector, its store or `defaults`; the first of these that has it wins"


class Explanation(msgspec.Struct, frozen=True):
    """A key with its full name, such as limits.memory, and the places in a file where it is allowed."""

    name: str
    key: Key
    place: str

    @property
    def takes(self) -> str:
        """What values it takes."""
        if self.name in _TABLES and self.name != "network":
            return f"a mapping of {', '.join(_TABLES[self.name])}"
        if self.name in _TAKEN:
            return _TAKEN[self.name]
        try:
            self.key.parse("\0")
        except ValueError as error:
            said = str(error)
            return said.removeprefix("takes ") if said.startswith("takes ") else "a text"
        return "a text"


def explanations() -> dict[str, Explanation]:
    """Return all keys by their full names."""
    return {each.name: each for each in _all()}


def _all() -> Iterable[Explanation]:
    for key in FLEET.values():
        yield Explanation(key.name, key, "at the top")
    for outer in ("network", "simulator"):
        for key in _TABLES[outer].values():
            yield Explanation(f"{outer}.{key.name}", key, f"in `{outer}`")
    for key in COLLECTOR.values():
        yield Explanation(key.name, key, _place(key.name))
    for name in ("path", "manage"):
        yield Explanation(name, STORE[name], "in a store")
    yield Explanation("stores.image", STORE["image"], "in a store")
    for key in LIMITS.values():
        yield Explanation(f"limits.{key.name}", key, "in `limits`, in a collector or `defaults`")
    for key in KUBERNETES.values():
        yield Explanation(f"kubernetes.{key.name}", key, f"in `kubernetes`, {_ANYWHERE}")


def _place(name: str) -> str:
    if name in SETTINGS or name == "kubernetes":
        return _ANYWHERE
    return "in a collector or `defaults`" if name in DEFAULTS else "in a collector"
