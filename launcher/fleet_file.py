"""The fleet file as typed models.

``read`` turns the tree of yaml_source.py into a ``FleetFile``, and reports every unknown key and every value
that is wrong by itself. fleet.py checks how keys relate (a store that does not exist, a channel that the
exchange does not offer).
"""

import os
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec

from collector.catalog import nearest
from collector.files import read_bounded
from collector.urls import quoted
from launcher.explain import explanations
from launcher.fleet_keys import (
    COLLECTOR,
    DEFAULTS,
    FILES,
    FLEET,
    KUBERNETES,
    LIMITS,
    LISTS,
    NETWORK,
    OURS,
    SETTINGS,
    SIMULATOR,
    STORE,
    Key,
    Keys,
)
from launcher.spec import Network
from launcher.yaml_source import Entry, Fault, Items, Node, Scalar, Table, merge
from launcher.yaml_source import read as read_yaml

#: The exchanges that the simulator imitates, with the host names that it answers for.
SIMULATED = {
    "COINBASE": ("api.coinbase.com", "advanced-trade-ws.coinbase.com"),
    "KRAKEN": ("api.kraken.com", "ws.kraken.com"),
    "BINANCE": ("api.binance.com", "stream.binance.com"),
    "BINANCE_FUTURES": ("fapi.binance.com", "fstream.binance.com"),
}
_WRITE_ONE = "`launcher init` writes one to start from"
_NUL = "the character NUL is not allowed in an environment variable"
_MOUNTABLE = re.compile(r"[^:\x00-\x1f\x7f]+")

#: In place of a missing value.
UNSET = Scalar("", 0, 0, None)

type Given = dict[str, Node]  # the settings by variable, each with its place


class Limits(msgspec.Struct, frozen=True):
    """What a container may use; ``memory`` is in bytes, None means not given."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


class Store(msgspec.Struct, frozen=True):
    """A store: its settings and, for PARQUET, the host's folder if one is given.

    ``keys`` is the whole mapping as written in the file; ``image`` is that of a server that runs with the
    fleet (``manage``). ``kubernetes`` has what is set in that mapping, by key.
    """

    place: Node
    settings: Given
    path: Scalar | None = None
    keys: Mapping[str, Node] = {}
    manage: bool = False
    image: str | None = None
    kubernetes: Mapping[str, Any] = {}


class Collector(msgspec.Struct, frozen=True):
    """A collector, or the defaults of all; ``keys`` is the whole mapping as written in the file.

    ``shards`` is how many containers share its symbols; None is one that has them all. A collector with
    ``profiles`` exists only if one of them is active. ``kubernetes`` has what is set in that mapping, by key.
    """

    place: Node
    settings: Given
    name: Scalar | None = None
    store: Scalar | None = None
    limits: Limits = Limits()
    restart: str | None = None
    shards: int | None = None
    profiles: tuple[str, ...] = ()
    keys: Mapping[str, Node] = {}
    kubernetes: Mapping[str, Any] = {}


class FleetFile(msgspec.Struct, frozen=True, kw_only=True):
    """A whole fleet file; ``keys`` is all of it as written.

    ``simulator`` has the options of its command line; ``id`` is empty if the file has none.
    """

    name: str
    id: str
    image: str
    network: Network
    engine: str
    parallelism: int | None
    simulated: bool
    simulator: tuple[str, ...]
    stores: dict[str, Store]
    defaults: Collector
    collectors: tuple[Collector, ...]
    keys: Mapping[str, Node]


def read(paths: Sequence[Path], environ: Mapping[str, str], faults: list[Fault]) -> FleetFile | None:
    """Return the files at ``paths``, each overriding those before it; None if nothing in them makes sense.

    Faults are added to ``faults``.
    """
    roots = [_root(path, environ, faults) for path in paths]
    tables = [root for root in roots if root is not None]
    if len(tables) < len(paths):
        return None
    try:
        return _Reader(faults).fleet(reduce(_overlay, tables))
    except RecursionError:  # aliases of aliases
        faults.append(Fault(str(paths[0]), 1, 1, "lists and mappings are nested too deeply"))
        return None


def _remedy(path: Path) -> str:
    """Return what to do about a file that does not exist."""
    if path.suffix in (".yaml", ".yml"):
        return _WRITE_ONE
    return f"collectors are selected with --only: `--only '{path}'`"


def _root(path: Path, environ: Mapping[str, str], faults: list[Fault]) -> Node | None:
    try:
        text = read_bounded(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        good = error.object[: error.start]
        line, column = good.count(b"\n") + 1, len(good.rpartition(b"\n")[2].decode()) + 1
        faults.append(Fault(str(path), line, column, f"is not UTF-8 text: {error.reason}"))
        return None
    except OSError as error:
        remedy = f"; {_remedy(path)}" if isinstance(error, FileNotFoundError) else ""
        faults.append(Fault(str(path), 0, 0, f"cannot be read: {error.strerror}{remedy}"))
        return None
    before = len(faults)
    root = read_yaml(text, str(path), environ, faults)
    if root is None and len(faults) == before:
        faults.append(Fault(str(path), 1, 1, f"the file is empty; {_WRITE_ONE}"))
    return root


def _overlay(base: Node, over: Node) -> Node:
    """Return a file merged over another one: key by key, and the collectors by their names."""
    merged = merge(base, over)
    if not isinstance(base, Table) or not isinstance(over, Table) or not isinstance(merged, Table):
        return over
    if "collectors" not in base.entries or "collectors" not in over.entries:
        return merged
    (_, below), (key, above) = base.entries["collectors"], over.entries["collectors"]
    if not isinstance(below, Items) or not isinstance(above, Items):
        return merged
    collectors: dict[str | int, Node] = {}
    for number, item in enumerate(below.items):
        identity = _identity(item, number)  # a second one of that name is kept, and reported
        collectors[number if identity in collectors else identity] = item
    unmatched = dict(collectors)
    for number, item in enumerate(above.items, len(below.items)):
        identity = _identity(item, number)
        if identity in unmatched:
            collectors[identity] = merge(unmatched.pop(identity), item)
        else:
            collectors[number] = item
    items = Items(above.file, above.line, above.column, tuple(collectors.values()))
    entries = {**merged.entries, "collectors": Entry(key, items)}
    return Table(merged.file, merged.line, merged.column, entries)


def _identity(collector: Node, number: int) -> str | int:
    """Return what identifies a collector across files: its name, or ``number`` if it has none."""
    if isinstance(collector, Table):
        for key in ("name", "exchange"):
            entry = collector.entries.get(key)
            if entry and isinstance(entry.value, Scalar) and entry.value.text:
                return default_name(entry.value.text)
    return number


def default_name(exchange: str) -> str:
    """Return the name of a collector that is given none: its exchange's, made valid for a container."""
    return exchange.strip().lower().replace("_", "-").replace(".", "-")


def _instead(name: str, known: Keys) -> str:
    """Return what to write instead of a key that is not in this mapping, or where it belongs."""
    if name in known:
        return f"did you mean {name}?"
    keys = explanations()
    outer, _, inner = name.partition(".")
    if inner and outer in known and name in keys:
        return f"write `{outer}: {{{inner}: ...}}`"
    close = nearest(name, known, cutoff=0.8)
    if places := [each.place.partition(";")[0] for each in keys.values() if each.key.name == name]:
        it = f"did you mean {close[0]}? {name} itself" if close else "it"
        return f"{it} belongs {' or '.join(places)}"
    if near := close or nearest(name, known):
        return f"did you mean {near[0]}?"
    if near := nearest(name, [each.key.name for each in keys.values()], cutoff=0.8):
        return f"did you mean {next(full for full, each in keys.items() if each.key.name == near[0])}?"
    own = [each for each in known if each not in SETTINGS]
    return f"there are {', '.join(own)}" + (" and the settings in README.md" if len(own) < len(known) else "")


class _Reader:
    """Walks the tree. A wrong value is reported, and read as None or as a faulty scalar."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults

    def fleet(self, root: Node) -> FleetFile | None:
        keys = self._table(root, "a fleet file", FLEET, ignored=r"x-.*")
        if keys is None:
            return None
        name = self._text(keys, FLEET["fleet"])
        if _missing(keys.get("fleet")):
            self._fault(keys.get("fleet") or root, "fleet is not set; the name of the fleet")
        if "collectors" not in keys:
            self._fault(root, "collectors is not set; a list with at least one collector")
        return FleetFile(
            name=name or "fleet",
            id=self._text(keys, FLEET["id"]) or "",
            image=self._text(keys, FLEET["image"]) or "cryptostore:latest",
            network=self._network(keys, name or "fleet"),
            engine=self._text(keys, FLEET["engine"]) or "docker",
            parallelism=self._text(keys, FLEET["parallelism"]),
            simulated=self._text(keys, FLEET["source"]) == "simulated",
            simulator=self._simulator(_given(keys, "simulator")),
            stores=self._stores(_given(keys, "stores")),
            defaults=self._defaults(_given(keys, "defaults")),
            collectors=self._collectors(keys.get("collectors")),
            keys=keys,
        )

    def _network(self, keys: dict[str, Node], default: str) -> Network:
        node = keys.get("network")
        if not isinstance(node, Table):
            return Network(name=self._text(keys, FLEET["network"]) or default)
        inner = self._table(node, "network", NETWORK) or {}
        external = self._text(inner, NETWORK["external"]) or False
        if external and "name" not in inner:
            self._fault(node, "name is not set; an external network is joined by its name")
        return Network(name=self._text(inner, NETWORK["name"]) or default, external=external)

    def _simulator(self, node: Node | None) -> tuple[str, ...]:
        keys = self._table(node, "simulator", SIMULATOR) or {}
        options: list[str] = []
        for key in ("rate", "seed", "messages", "duration"):
            value = self._text(keys, SIMULATOR[key])
            options += () if value is None else (f"--{key}", f"{value:.12g}")
        for exchange, listed in self._named(_given(keys, "symbols"), "symbols"):
            name = (exchange.text or "").upper()
            text = self._list(listed, f"symbols of {name}")
            if name not in SIMULATED:
                self._fault(exchange, f"symbols: the simulator only offers {', '.join(SIMULATED)}")
            options += ("--symbols", f"{name}={text}") if text else ()
        return tuple(options)

    def _stores(self, node: Node | None) -> dict[str, Store]:
        return {key.text: self._store(value, key) for key, value in self._named(node, "stores") if key.text}

    def _store(self, node: Node, key: Scalar) -> Store:
        keys = self._table(node, "a store", STORE)
        if keys is None:
            return Store(key, {"BACKEND": _faulty(node)})
        settings = self._settings(keys)
        backend = settings.get("BACKEND")
        if backend is None:
            self._fault(key, f"store {key.text}: backend is not set; {SETTINGS['backend'].meaning}")
            settings["BACKEND"] = _faulty(node)
        path = self._scalar(keys, "path")
        if path and path.text and isinstance(backend, Scalar) and (backend.text or "").upper() != "PARQUET":
            self._fault(path, "path: only a PARQUET store has one")
        manage, image = self._text(keys, STORE["manage"]) or False, self._text(keys, STORE["image"])
        if image and not manage:
            self._fault(keys["image"], "image: only a store with `manage: true` has one")
        return Store(
            key,
            settings,
            self._absolute(path, "path") if path and path.text else None,
            keys,
            manage=manage,
            image=image,
            kubernetes=self._kubernetes(_given(keys, "kubernetes")),
        )

    def _defaults(self, node: Node | None) -> Collector:
        keys = self._table(node, "defaults", DEFAULTS)
        return self._collector(node or UNSET, keys or {})

    def _collectors(self, node: Node | None) -> tuple[Collector, ...]:
        if node is None:
            return ()
        if not isinstance(node, Items) or not node.items:
            self._unexpected(node, "collectors", "a list (`- exchange: ...`) with at least one collector")
            return ()
        pairs = ((item, self._table(item, "a collector", COLLECTOR)) for item in node.items)
        return tuple(self._collector(item, keys) for item, keys in pairs if keys is not None)

    def _collector(self, node: Node, keys: dict[str, Node]) -> Collector:
        return Collector(
            node,
            self._settings(keys),
            self._name(keys),
            self._scalar(keys, "store"),
            self._limits(_given(keys, "limits")),
            self._text(keys, DEFAULTS["restart"]),
            self._text(keys, COLLECTOR["shards"]),
            self._listed(keys, COLLECTOR["profiles"]) or (),
            keys,
            self._kubernetes(_given(keys, "kubernetes")),
        )

    def _listed(self, keys: dict[str, Node], key: Key) -> Any:
        """Return what a list, or text with commas, is read as; None if it is not set or wrong."""
        node = _given(keys, key.name)
        text = self._list(node, key.name) if node else None
        if node is None or not text:
            return None
        return self._parsed(Scalar(node.file, node.line, node.column, text), key)[1]

    def _kubernetes(self, node: Node | None) -> dict[str, Any]:
        keys = self._table(node, "kubernetes", KUBERNETES) or {}
        found = {
            name: self._listed(keys, key) if name in LISTS else self._text(keys, key)
            for name, key in KUBERNETES.items()
        }
        return {name: value for name, value in found.items() if value is not None}

    def _limits(self, node: Node | None) -> Limits:
        if node is None:
            return Limits()
        keys = self._table(node, "limits", LIMITS) or {}
        return Limits(*(self._text(keys, LIMITS[name]) for name in Limits.__struct_fields__))

    def _settings(self, keys: dict[str, Node]) -> Given:
        found = (SETTINGS[name] for name in keys if name in SETTINGS)
        return {key.variable: self._setting(key, keys) for key in found if key.variable}

    def _setting(self, key: Key, keys: dict[str, Node]) -> Node:
        node = keys[key.name]
        if key.name in LISTS and not isinstance(node, Scalar):
            return node if self._list(node, key.name) is not None else _faulty(node)
        scalar = self._scalar(keys, key.name)
        if scalar is None or not scalar.text:
            return scalar or _faulty(node)
        if key.name in FILES:
            scalar = self._absolute(scalar, key.name)
        return self._parsed(scalar, key)[0]

    def _list(self, node: Node, key: str) -> str | None:
        """Return a list, or text with commas, as text with commas."""
        if isinstance(node, Scalar):
            return node.text
        items = node.items if isinstance(node, Items) else ()
        if not items:
            self._unexpected(node, key, "a list of texts, or one text with commas")
            return None
        good = True
        for item in items:
            if isinstance(item, Scalar) and item.text and "\0" not in item.text:
                continue
            good = False
            if not isinstance(item, Scalar) or not (item.faulty or item.text):
                self._fault(item, f"{key}: each item of the list has to be text")
            elif item.text:
                self._fault(item, f"{key} {item.text!r}: {_NUL}")
        return text_of(node) if good else None

    def _absolute(self, scalar: Scalar, key: str) -> Scalar:
        """Return the path in ``scalar``, which is relative to the folder of its file."""
        folder = Path(scalar.file).absolute().parent
        path = os.path.abspath(folder / os.path.expanduser(scalar.text or ""))  # noqa: PTH100, PTH111 - "../"
        if not _MOUNTABLE.fullmatch(path):
            self._fault(
                scalar, f"{key} {scalar.text!r}: Docker mounts no path with a colon or a control character"
            )
            return _faulty(scalar)
        return Scalar(scalar.file, scalar.line, scalar.column, path)

    def _table(self, node: Node | None, what: str, known: Keys, ignored: str = "") -> dict[str, Node] | None:
        """Return the values of a mapping by key. A misspelt key counts as the right one, marked faulty."""
        if node is None:
            return {}
        if not isinstance(node, Table):
            self._unexpected(node, what, "a mapping (`key: value` lines)")
            return None
        values = {}
        for name, (key, value) in node.entries.items():
            if name in known:
                values[name] = value
            elif not re.fullmatch(ignored, name):
                near = self._unknown(key, name, what, known)
                if near and near not in node.entries:
                    values[near] = _faulty(key)
        return values

    def _unknown(self, key: Scalar, name: str, what: str, known: Keys) -> str | None:
        if name.upper() in OURS:
            self._fault(key, f"{what} has no key {name}: {OURS[name.upper()]}")
            return None
        self._fault(key, f"{what} has no key {quoted(name)}; {_instead(name.lower(), known)}")
        return next(iter(nearest(name, known)), None)

    def _named(self, node: Node | None, what: str) -> list[tuple[Scalar, Node]]:
        """Return the entries of a mapping whose keys are names chosen by the user."""
        if isinstance(node, Table):
            return [(key, value) for key, value in node.entries.values()]
        if node is not None:
            self._unexpected(node, what, "a mapping (`name: ...` lines)")
        return []

    def _scalar(self, keys: dict[str, Node], key: str) -> Scalar | None:
        node = keys.get(key)
        if isinstance(node, Scalar) or node is None:
            return node
        self._unexpected(node, key, "one value")
        return _faulty(node)

    def _name(self, keys: dict[str, Node]) -> Scalar | None:
        scalar = self._scalar(keys, "name")
        if scalar is None or not scalar.text:
            return scalar
        scalar, name = self._parsed(scalar, COLLECTOR["name"])
        return scalar if scalar.faulty else Scalar(scalar.file, scalar.line, scalar.column, name)

    def _text(self, keys: dict[str, Node], key: Key) -> Any:
        """Return what a value is read as; None if it is not set or wrong."""
        scalar = self._scalar(keys, key.name)
        return self._parsed(scalar, key)[1] if scalar and scalar.text else None

    def _parsed(self, scalar: Scalar, key: Key) -> tuple[Scalar, Any]:
        text = (scalar.text or "").strip()
        try:
            return scalar, key.parse(_without_nul(text)) if text else None
        except ValueError as error:
            self._fault(scalar, f"{key.name} {'***' if key.secret else repr(quoted(text))}: {error}")
            return _faulty(scalar), None

    def _unexpected(self, node: Node, what: str, expected: str) -> None:
        if not (isinstance(node, Scalar) and node.faulty):
            self._fault(node, f"{what} takes {expected}, not {_kind(node)}")

    def _fault(self, node: Node, message: str) -> None:
        self.faults.append(Fault(node.file, node.line, node.column, message))


def text_of(node: Node) -> str | None:
    """Return the text of a setting, a list joined by commas; None if it is not set or faulty."""
    if isinstance(node, Items):
        return ",".join(item.text or "" for item in node.items if isinstance(item, Scalar))
    return node.text if isinstance(node, Scalar) else None


def _given(keys: Mapping[str, Node], key: str) -> Node | None:
    """Return a value; None if the key is missing or empty."""
    node = keys.get(key)
    return None if isinstance(node, Scalar) and node.text is None else node


def _missing(node: Node | None) -> bool:
    return node is None or (isinstance(node, Scalar) and not node.faulty and not (node.text or "").strip())


def _faulty(node: Node) -> Scalar:
    return Scalar(node.file, node.line, node.column, None, faulty=True)


def _kind(node: Node) -> str:
    match node:
        case Table():
            return "a mapping"
        case Items(items=()):
            return "an empty list"
        case Items():
            return "a list"
        case Scalar(text=None) | Scalar(text=""):
            return "nothing"
        case _:
            return "a text"


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError(_NUL)
    return text
