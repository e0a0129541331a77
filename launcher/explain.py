"""What a key of the fleet file means, in words."""

from collections.abc import Iterable, Mapping

import msgspec

from collector import catalog
from collector.settings import BACKENDS
from launcher.keys import (
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

#: Keys that hold others.
_TABLES: Mapping[str, Keys] = {
    "network": NETWORK,
    "simulator": SIMULATOR,
    "stores": STORE,
    "defaults": DEFAULTS,
    "collectors": COLLECTOR,
    "limits": LIMITS,
    "kubernetes": KUBERNETES,
}
#: What some keys take, where reading a wrong value does not say so.
_TAKEN = {
    "exchange": ", ".join(catalog.usable()),
    "symbols": "one or a list of symbols and patterns; in YAML those that begin with * or ! need quotes",
    "channels": f"one or a list of {', '.join(catalog.CHANNELS)}",
    "backend": ", ".join(BACKENDS),
    "simulator.symbols": "the name of an exchange, and one or a list of symbols, for each",
    **dict.fromkeys(FILES, "the path of a file, from the folder of the fleet file on"),
}


_ANYWHERE = "at a collector, its store or in defaults; the first of these that has it counts"


class Explanation(msgspec.Struct, frozen=True):
    """A key with its whole name, such as limits.memory, and where in a file it stands."""

    name: str
    key: Key
    stands: str

    @property
    def takes(self) -> str:
        """What its values may be."""
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
    """All keys by their whole names."""
    return {each.name: each for each in _all()}


def _all() -> Iterable[Explanation]:
    for key in FLEET.values():
        yield Explanation(key.name, key, "at the top")
    for outer in ("network", "simulator"):
        for key in _TABLES[outer].values():
            yield Explanation(f"{outer}.{key.name}", key, f"in `{outer}`")
    for key in COLLECTOR.values():
        yield Explanation(key.name, key, _stands(key.name))
    for name in ("path", "manage"):
        yield Explanation(name, STORE[name], "at a store")
    yield Explanation("stores.image", STORE["image"], "at a store")
    for key in LIMITS.values():
        yield Explanation(f"limits.{key.name}", key, "in `limits`, at a collector or in defaults")
    for key in KUBERNETES.values():
        yield Explanation(f"kubernetes.{key.name}", key, f"in `kubernetes`, {_ANYWHERE}")


def _stands(name: str) -> str:
    if name in SETTINGS or name == "kubernetes":
        return _ANYWHERE
    return "at a collector or in defaults" if name in DEFAULTS else "at a collector"
