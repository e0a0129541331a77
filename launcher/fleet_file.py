"""The fleet file as typed models.

``read`` turns the tree of yaml_source.py into a ``FleetFile`` and notes every key that is unknown and every
value that is wrong by itself. What keys mean together (a store that does not exist, a channel that the
exchange does not offer) is fleet.py's business.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from collector.catalog import nearest
from collector.settings import VARIABLES
from launcher.spec import Network
from launcher.yaml_source import Fault, Items, Node, Scalar, Table
from launcher.yaml_source import read as read_yaml

_CONTRACT = {variable.name: variable for variable in VARIABLES}
#: Variables that the launcher sets by itself, with the key to use instead.
_OURS = {
    "NAME": "`name` on a collector names it",
    "SPOOL_DIR": "each collector gets a volume for its spool",
    "PARQUET_DIR": "`path` on a PARQUET store says where",
}
#: Every contract setting that a fleet file may hold: its key -> its variable.
SETTINGS = {name.lower(): name for name in _CONTRACT if name not in _OURS}
#: The exchanges that the simulator speaks, with the host names that it answers for.
SIMULATED = {
    "COINBASE": ("api.coinbase.com", "advanced-trade-ws.coinbase.com"),
    "KRAKEN": ("api.kraken.com", "ws.kraken.com"),
    "BINANCE": ("api.binance.com", "stream.binance.com"),
}
#: Settings that may be written as YAML lists.
_LISTS = ("SYMBOLS", "CHANNELS")
#: Settings that name a file, relative to the fleet file's folder.
FILES = ("CONFIG", "PASSWORD_FILE", "SSL_CERT_FILE")

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]*")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_DOCKERS_OWN = ("bridge", "host", "none")
_MOUNTABLE = re.compile(r"[^:\x00-\x1f\x7f]+")
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(:[1-9][0-9]*)?")
_STORE_KEYS = (*SETTINGS, "path")
_DEFAULTS_KEYS = (*SETTINGS, "store", "limits", "restart")
_COLLECTOR_KEYS = (*_DEFAULTS_KEYS, "name")
_FLEET_KEYS = ("fleet", "image", "network", "source", "simulator", "stores", "defaults", "collectors")

type Given = dict[str, Node]  # the settings by variable, each with its place


class Limits(msgspec.Struct, frozen=True):
    """What a container may use; ``memory`` is in bytes, None is not given."""

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


class Store(msgspec.Struct, frozen=True):
    """A store: the settings it brings, and the host's folder where a PARQUET store says one."""

    place: Node
    settings: Given
    path: Scalar | None = None


class Collector(msgspec.Struct, frozen=True):
    """A collector as the file has it, or the defaults of all."""

    place: Node
    settings: Given
    name: Scalar | None = None
    store: Scalar | None = None
    limits: Limits = Limits()
    restart: str | None = None


class FleetFile(msgspec.Struct, frozen=True, kw_only=True):
    """A whole fleet file. ``simulator`` holds the options of its command line."""

    name: str
    image: str
    network: Network
    simulated: bool
    simulator: tuple[str, ...]
    stores: dict[str, Store]
    defaults: Collector
    collectors: tuple[Collector, ...]


def read(path: Path, environ: Mapping[str, str], faults: list[Fault]) -> FleetFile | None:
    """The file at ``path``; None where nothing in it makes sense. ``faults`` gets all that is wrong."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        faults.append(Fault(str(path), 0, 0, f"is not UTF-8 text: {error.reason} at byte {error.start}"))
        return None
    except OSError as error:
        faults.append(Fault(str(path), 0, 0, f"cannot be read: {error.strerror}"))
        return None
    root = read_yaml(text, str(path), environ, faults)
    if root is None:
        if not faults:
            faults.append(
                Fault(str(path), 1, 1, "the file is empty; `launcher init` writes one to begin with")
            )
        return None
    return _Reader(path, faults).fleet(root)


class _Reader:
    """Walks the tree. A value that is wrong is noted and comes back as None, or as a faulty scalar."""

    def __init__(self, path: Path, faults: list[Fault]) -> None:
        self.file = str(path)
        self.folder = path.absolute().parent
        self.faults = faults

    def fleet(self, root: Node) -> FleetFile | None:
        keys = self._table(root, "a fleet file", _FLEET_KEYS, ignored=r"x-.*")
        if keys is None:
            return None
        name = self._text(keys, "fleet", _label)
        if "fleet" not in keys:
            self._fault(root, "fleet is not set; it is required: the name of the fleet")
        if "collectors" not in keys:
            self._fault(root, "collectors is not set; it is required: a list with at least one collector")
        return FleetFile(
            name=name or "fleet",
            image=self._text(keys, "image", _image) or "cryptostore:latest",
            network=self._network(keys, name or "fleet"),
            simulated=self._text(keys, "source", _source) == "simulated",
            simulator=self._simulator(_given(keys, "simulator")),
            stores=self._stores(_given(keys, "stores")),
            defaults=self._defaults(_given(keys, "defaults")),
            collectors=self._collectors(keys.get("collectors")),
        )

    def _network(self, keys: dict[str, Node], default: str) -> Network:
        node = keys.get("network")
        if not isinstance(node, Table):
            return Network(name=self._text(keys, "network", _network) or default)
        inner = self._table(node, "network", ("name", "external")) or {}
        external = self._text(inner, "external", _CONTRACT["SNAPSHOT_ONLY"].parse) or False
        if external and "name" not in inner:
            self._fault(node, "name is not set; an external network is joined by its name")
        return Network(name=self._text(inner, "name", _network) or default, external=external)

    def _simulator(self, node: Node | None) -> tuple[str, ...]:
        keys = self._table(node, "simulator", ("rate", "seed", "messages", "duration", "symbols")) or {}
        options: list[str] = []
        for key, parse in (("rate", _amount), ("seed", _whole), ("messages", _count)):
            value = self._text(keys, key, parse)
            options += () if value is None else (f"--{key}", f"{value:g}" if key == "rate" else str(value))
        duration = self._text(keys, "duration", _CONTRACT["SPOOL_KEEP"].parse)
        options += () if duration is None else ("--duration", f"{duration:g}")
        for exchange, listed in self._named(_given(keys, "symbols"), "symbols"):
            name = (exchange.text or "").upper()
            text = self._list(listed, f"symbols of {name}")
            if name not in SIMULATED:
                self._fault(exchange, f"symbols: the simulator speaks {', '.join(SIMULATED)} only")
            options += ("--symbols", f"{name}={text}") if text else ()
        return tuple(options)

    def _stores(self, node: Node | None) -> dict[str, Store]:
        return {key.text: self._store(value, key) for key, value in self._named(node, "stores") if key.text}

    def _store(self, node: Node, key: Scalar) -> Store:
        keys = self._table(node, "a store", _STORE_KEYS)
        if keys is None:
            return Store(key, {"BACKEND": _faulty(node)})
        settings = self._settings(keys)
        backend = settings.get("BACKEND")
        if backend is None:
            self._fault(
                key, f"store {key.text}: backend is not set; it is required: {_CONTRACT['BACKEND'].meaning}"
            )
            settings["BACKEND"] = _faulty(node)
        path = self._scalar(keys, "path")
        if path and path.text and isinstance(backend, Scalar) and (backend.text or "").upper() != "PARQUET":
            self._fault(path, "path: only a PARQUET store has one")
        return Store(key, settings, self._absolute(path, "path") if path and path.text else None)

    def _defaults(self, node: Node | None) -> Collector:
        keys = self._table(node, "defaults", _DEFAULTS_KEYS)
        return self._collector(node or Scalar(1, 1, None), keys or {})

    def _collectors(self, node: Node | None) -> tuple[Collector, ...]:
        if node is None:
            return ()
        if not isinstance(node, Items) or not node.items:
            self._unexpected(node, "collectors", "a list (`- exchange: ...`) with at least one collector")
            return ()
        pairs = ((item, self._table(item, "a collector", _COLLECTOR_KEYS)) for item in node.items)
        return tuple(self._collector(item, keys) for item, keys in pairs if keys is not None)

    def _collector(self, node: Node, keys: dict[str, Node]) -> Collector:
        return Collector(
            node,
            self._settings(keys),
            self._name(keys),
            self._scalar(keys, "store"),
            self._limits(_given(keys, "limits")),
            self._text(keys, "restart", _restart),
        )

    def _limits(self, node: Node | None) -> Limits:
        if node is None:
            return Limits()
        keys = self._table(node, "limits", Limits.__struct_fields__) or {}
        return Limits(
            # A size is a size: read as the contract reads one.
            memory=self._text(keys, "memory", _CONTRACT["SPOOL_MAX_BYTES"].parse),
            cpus=self._text(keys, "cpus", _cpus),
            pids=self._text(keys, "pids", _count),
        )

    def _settings(self, keys: dict[str, Node]) -> Given:
        return {SETTINGS[key]: self._setting(SETTINGS[key], keys, key) for key in keys if key in SETTINGS}

    def _setting(self, name: str, keys: dict[str, Node], key: str) -> Node:
        node = keys[key]
        if name in _LISTS and not isinstance(node, Scalar):
            return node if self._list(node, key) is not None else _faulty(node)
        scalar = self._scalar(keys, key)
        if scalar is None or not scalar.text:
            return scalar or _faulty(node)
        if name in FILES:
            scalar = self._absolute(scalar, key)
        secret = _CONTRACT[name].secret
        return self._parsed(scalar, key, _CONTRACT[name].parse, secret=secret)[0]

    def _list(self, node: Node, key: str) -> str | None:
        """A list, or a text with commas, as the text with commas."""
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
            if not (isinstance(item, Scalar) and item.faulty):
                self._fault(item, f"{key}: each item of the list has to be a text")
        return text_of(node) if good else None

    def _absolute(self, scalar: Scalar, key: str) -> Scalar:
        """The path in ``scalar``, which is relative to the fleet file's folder."""
        path = os.path.abspath(self.folder / os.path.expanduser(scalar.text or ""))  # noqa: PTH100, PTH111 - "../"
        if not _MOUNTABLE.fullmatch(path):
            self._fault(
                scalar, f"{key} {scalar.text!r}: Docker mounts no path with a colon or a control character"
            )
            return _faulty(scalar)
        return Scalar(scalar.line, scalar.column, path)

    def _table(
        self, node: Node | None, what: str, known: Iterable[str], ignored: str = ""
    ) -> dict[str, Node] | None:
        """The values of a mapping by key. A misspelt key counts as its faulty right spelling."""
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

    def _unknown(self, key: Scalar, name: str, what: str, known: Iterable[str]) -> str | None:
        if name.upper() in _OURS:
            self._fault(key, f"{what} has no key {name}: {_OURS[name.upper()]}")
            return None
        near = nearest(name, known)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        self._fault(key, f"{what} has no key {name}; {hint}")
        return near[0] if near else None

    def _named(self, node: Node | None, what: str) -> list[tuple[Scalar, Node]]:
        """The entries of a mapping whose keys are the user's own names."""
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
        scalar, name = self._parsed(scalar, "name", _label)
        return scalar if scalar.faulty else Scalar(scalar.line, scalar.column, name)

    def _text(self, keys: dict[str, Node], key: str, parse: Callable[[str], Any]) -> Any:
        """What ``parse`` makes of a value; None where it is not set or wrong."""
        scalar = self._scalar(keys, key)
        return self._parsed(scalar, key, parse)[1] if scalar and scalar.text else None

    def _parsed(
        self, scalar: Scalar, key: str, parse: Callable[[str], Any], *, secret: bool = False
    ) -> tuple[Scalar, Any]:
        text = (scalar.text or "").strip()
        try:
            return scalar, parse(_without_nul(text)) if text else None
        except ValueError as error:
            self._fault(scalar, f"{key} {'***' if secret else repr(text)}: {error}")
            return _faulty(scalar), None

    def _unexpected(self, node: Node, what: str, expected: str) -> None:
        if not (isinstance(node, Scalar) and node.faulty):
            self._fault(node, f"{what} takes {expected}, not {_kind(node)}")

    def _fault(self, node: Node, message: str) -> None:
        self.faults.append(Fault(self.file, node.line, node.column, message))


def text_of(node: Node) -> str | None:
    """The text of a setting: lists are joined by commas; None where it is not set or faulty."""
    if isinstance(node, Items):
        return ",".join(item.text or "" for item in node.items if isinstance(item, Scalar))
    return node.text if isinstance(node, Scalar) else None


def _given(keys: Mapping[str, Node], key: str) -> Node | None:
    """A value; None where the key is missing or has nothing after it."""
    node = keys.get(key)
    return None if isinstance(node, Scalar) and node.text is None else node


def _faulty(node: Node) -> Scalar:
    return Scalar(node.line, node.column, None, faulty=True)


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
        raise ValueError("no environment can hold the character NUL")
    return text


def _label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise ValueError("takes up to 63 lower-case letters, digits and '-', with no '-' at either end")
    return text


def _image(text: str) -> str:
    if not _IMAGE.fullmatch(text):
        raise ValueError("takes an image such as cryptostore:latest")
    return text


def _network(text: str) -> str:
    if text in _DOCKERS_OWN:
        raise ValueError("Docker's own networks give containers no names; leave it out, or name another one")
    if not _NETWORK.fullmatch(text):
        raise ValueError(
            "takes a network's name, or {name: ..., external: true} for one that is there already"
        )
    return text


def _source(text: str) -> str:
    if text not in ("live", "simulated"):
        near = nearest(text, ("live", "simulated"))
        raise ValueError(f"takes live or simulated{f'; did you mean {near[0]}?' if near else ''}")
    return text


def _restart(text: str) -> str:
    if not _RESTART.fullmatch(text):
        raise ValueError("takes unless-stopped, always, on-failure, on-failure:3 or no")
    return text


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise ValueError("takes a whole number")
    return int(text)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise ValueError("takes a whole number of at least 1")
    return int(text)


def _amount(text: str) -> float:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ValueError("takes a number of 0 or more")
    return float(text)


def _cpus(text: str) -> float:
    cpus = _amount(text)
    if not math.isfinite(cpus) or cpus < 0.01:
        raise ValueError("takes a number of processors such as 0.5, at least 0.01")
    return cpus
