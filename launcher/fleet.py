"""The fleet file, checked, as the containers it asks for.

``collector.settings`` decides what a collector's settings may be: each collector becomes a complete
environment - defaults, then its store, then its own settings - which is read here as the collector will read
it.
"""

import re
from collections import ChainMap, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from collector import catalog, settings
from collector.catalog import nearest
from collector.shards import Shard
from launcher import fleet_file, managed, names, overlap
from launcher.fleet_file import SIMULATED, UNSET, Collector, FleetFile, Given, Store, default_name, text_of
from launcher.fleet_keys import COLLECTOR, FILES, FLEET, SETTINGS
from launcher.names import DATA, SIMULATOR, SPOOL
from launcher.overlap import Recorded
from launcher.owner import NOBODY, Owner, of_file
from launcher.spec import (
    USER,
    CollectorSpec,
    Container,
    FleetSpec,
    HealthCheck,
    Kubernetes,
    Mount,
    Recording,
)
from launcher.swarm import LONGEST_NAME
from launcher.yaml_source import Fault, Items, Node, Scalar, Table

__all__ = ["Fault", "FleetError", "load"]

_SIMULATOR_COMMAND = (
    *("--listen", "0.0.0.0", "--port", "443", "--port", "9443"),  # noqa: S104 - on the fleet's own network
    *("--ca", "/simulator/ca.pem", "--log", "/simulator/log.jsonl"),
    *("--control-listen", "0.0.0.0", "--control-port", "8000"),  # noqa: S104
)
_FILE_NAMES = {"config": "config.yaml", "ssl_cert_file": "ca.pem"}
#: Where a collector's container has the files that the fleet file names, by variable.
_FILE_TARGETS = {
    name.upper(): f"/run/secrets/{_FILE_NAMES.get(name) or name.removesuffix('_file')}" for name in FILES
}
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
_LONGEST_HOST = 63  # characters of a label in DNS
_PROXY = "HTTPS_PROXY"
#: A valid collector, to check a store that none uses.
_ANY_COLLECTOR = {
    "EXCHANGE": "COINBASE",
    "SYMBOLS": "BTC-USD",
    "CHANNELS": "trades",
    "SPOOL_DIR": "/spool",
}
_SECRETS = frozenset(variable.name for variable in settings.VARIABLES if variable.secret)


class FleetError(Exception):
    """The fleet file is wrong; ``faults`` lists everything that is, as ``fleet.yaml:12:5: message``."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(sorted(set(faults)))
        super().__init__("\n".join(map(str, self.faults)))


def load(paths: Path | Sequence[Path], environ: Mapping[str, str]) -> FleetSpec:
    """Return the fleet in one or several files, each overriding those before it. Raises FleetError.

    ``environ`` has the values for ``${VAR}``.
    """
    return _build(paths, environ)[1]


def _build(paths: Path | Sequence[Path], environ: Mapping[str, str]) -> "tuple[_Builder, FleetSpec]":
    faults: list[Fault] = []
    paths = [paths] if isinstance(paths, Path) else paths
    file = fleet_file.read(paths, environ, faults)
    if file is None:
        raise FleetError(faults)
    builder = _Builder(file, faults, of_file(paths[0], file.id))
    fleet = builder.fleet()
    if faults:
        raise FleetError(faults)
    return builder, fleet


class Layer(msgspec.Struct, frozen=True):
    """A place where values of a collector are set: its settings by variable, and all of it by key.

    ``where`` is collector, store or defaults, with the store's name.
    """

    where: str
    settings: Mapping[str, Node]
    keys: Mapping[str, Node]


class Origin(msgspec.Struct, frozen=True):
    """Where a value comes from: whose value it is, its text, and its layer and place.

    ``where`` and ``place`` are None if nothing is set.
    """

    of: str
    text: str | None
    where: str | None
    place: Node | None


def origins(paths: Path | Sequence[Path], environ: Mapping[str, str], key: str) -> list[Origin]:
    """Return where each collector gets the value of a key, such as ``limits.memory``, from.

    A key of the whole fleet has one origin. Raises FleetError.
    """
    builder, fleet = _build(paths, environ)
    outer, _, inner = key.partition(".")
    if outer == "stores" and inner:
        of_stores = {
            name: [layer for layer in layers if layer.where.startswith("store ")]
            for name, layers in builder.layers.items()
        }
        return [_origin(name, inner, layers) for name, layers in of_stores.items()]
    if outer in FLEET:
        return [_origin(fleet.name, key, [Layer("fleet", {}, builder.file.keys)])]
    return [_origin(name, key, layers) for name, layers in builder.layers.items()]


def _origin(of: str, key: str, layers: Iterable[Layer]) -> Origin:
    """Return the first layer that has the key; a setting that is empty in a layer is not set there."""
    setting = SETTINGS.get(key)
    for layer in layers:
        if setting and setting.variable:
            node = layer.settings.get(setting.variable)
        else:
            node = _found(layer.keys, key)
        if node and (setting or text_of(node)):
            return Origin(of, text_of(node), layer.where, node)
    return Origin(of, None, None, None)


def _found(keys: Mapping[str, Node], key: str) -> Node | None:
    outer, _, inner = key.partition(".")
    node = keys.get(outer)
    if not inner:
        return node
    return node.entries[inner].value if isinstance(node, Table) and inner in node.entries else None


class _Builder:
    """Checks the relations between the keys of a file, and makes the spec.

    Attributes:
        layers: what each collector of the file is made from, nearest first.
    """

    def __init__(self, file: FleetFile, faults: list[Fault], owner: Owner = NOBODY) -> None:
        self.file = file
        self.owner = owner
        self.faults = faults
        self.hints: dict[Fault, None] = {}
        self.layers: dict[str, list[Layer]] = {}
        self.names: dict[str, Collector] = {}
        self.managed: dict[str, CollectorSpec] = {}
        self.recorded: list[tuple[Recorded, Node]] = []
        self.containers: dict[str, list[int]] = defaultdict(list)  # the number of each collector, by exchange
        for collector in file.collectors:
            given = ChainMap(dict(collector.settings), dict(file.defaults.settings))
            self.containers[_exchange_of(given)].append(collector.shards or 1)

    def fleet(self) -> FleetSpec:
        self._check_data_volume()
        for name, store in self.file.stores.items():
            self._manage(name, store)
        collectors = tuple(spec for collector in self.file.collectors for spec in self._shared(collector))
        self._check_store_names()
        self._check_unused_stores()
        self._check_overlaps()
        if self.file.engine == "swarm":
            self._check_swarm()
        return FleetSpec(
            name=self.file.name,
            owner=self.owner,
            network=self.file.network,
            collectors=collectors,
            stores=tuple(self.managed.values()),
            simulator=self._simulator() if self.file.simulated else None,
            simulator_options=self.file.simulator,
            engine=self.file.engine,
            parallelism=self.file.parallelism or 4,
            hints=tuple(map(str, self.hints)),
        )

    def _layers(self, collector: Collector, store: Store | None, server: CollectorSpec | None) -> list[Layer]:
        """Return what a collector is made from, nearest first."""
        layers = [Layer("collector", collector.settings, collector.keys)]
        if store:
            layers.append(Layer(f"store {self._name_of(store)}", store.settings, store.keys))
        layers.append(Layer("defaults", self.file.defaults.settings, self.file.defaults.keys))
        return self._led_to(server, store, layers, collector) if server and store else layers

    def _shared(self, collector: Collector) -> list[CollectorSpec]:
        """Return a collector as its container or, with shards, as theirs."""
        store = self._store(collector)
        server = self.managed.get(self._name_of(store))
        layers = self._layers(collector, store, server)
        given = _given(layers)
        name = self._name(collector, given)
        self.layers[name] = layers
        shares = _shares(name, collector.shards)
        last, share = shares[-1]  # shards differ only in name and share, and the last name is the longest
        environment = self._environment(given, last, share)
        read = self._check(environment, given, collector, store)
        recording = self._recording(read, given, collector, store, name) if read else None
        return [
            msgspec.structs.replace(
                self._collector(each, environment | self._identity(each, share), store, collector, server),
                recording=recording,
            )
            for each, share in shares
        ]

    def _identity(self, name: str, share: str | None) -> dict[str, str]:
        return {"NAME": names.container(self.file.name, name)} | ({"SHARD": share} if share else {})

    def _sharing(self, exchange: str) -> int:
        """Return how many containers share an exchange's limits, if several collectors do.

        Some exchanges share theirs with another. Shards of one collector know of each other.
        """
        exchange = exchange.strip().upper()
        known = catalog.exchanges().get(exchange)
        others = known.limits.weight_with if known and known.limits else ()
        alike = [count for each in (exchange, *others) for count in self.containers.get(each, ())]
        return sum(alike) if len(alike) > 1 else 1

    def _volume(self, role: str, of: str = "", *, target: str, read_only: bool = False) -> Mount:
        """Return the mount of a volume of the fleet; with an `id`, its name can belong to no other fleet."""
        volume = names.Volume(fleet=self.file.name, role=role, of=of)
        source = volume.name(distinct=bool(self.file.id))
        return Mount(kind="volume", source=source, target=target, read_only=read_only)

    def _collector(
        self,
        name: str,
        environment: dict[str, str],
        store: Store | None,
        collector: Collector,
        server: CollectorSpec | None,
    ) -> CollectorSpec:
        mounts = [self._volume(SPOOL, name, target="/spool")]
        if environment.get("BACKEND", "").upper() == "PARQUET":
            mounts.append(self._data(store))
            environment["PARQUET_DIR"] = "/data"
        for variable, target in _FILE_TARGETS.items():
            if variable in environment:
                mounts.append(Mount(kind="bind", source=environment[variable], target=target, read_only=True))
                environment[variable] = target
        if self.file.simulated:
            mounts.append(self._simulator_volume(read_only=True))
            environment["SSL_CERT_FILE"] = "/simulator/ca.pem"
        if server:
            environment["PASSWORD"] = ""  # its value is known only on the engine
        container = self._container(name, environment, mounts, collector)
        return CollectorSpec(
            fleet=self.file.name,
            name=name,
            container=container,
            kubernetes=self._kubernetes(store, collector, container),
            secrets=_secrets(environment),
            profiles=collector.profiles,
            sharing=self._sharing(environment.get("EXCHANGE", "")),
            store=server.name if server else "",
            owner=self.owner,
        )

    def _container(
        self, name: str, environment: dict[str, str], mounts: list[Mount], collector: Collector
    ) -> Container:
        own, common = collector.limits, self.file.defaults.limits
        return Container(
            name=names.container(self.file.name, name),
            image=self.file.image,
            network=self.file.network.name,
            environment=environment,
            mounts=tuple(mounts),
            memory=own.memory or common.memory,
            cpus=own.cpus or common.cpus,
            pids=own.pids or common.pids or 256,
            restart=collector.restart or self.file.defaults.restart or "unless-stopped",
        )

    def _kubernetes(self, store: Store | None, collector: Collector, container: Container) -> Kubernetes:
        """Return what only a cluster uses, and report a request that exceeds its limit."""
        layers = self._kubernetes_layers(collector, store)
        kubernetes = _merged(layers)
        for key, most, limit in (
            ("request_memory", container.memory, "limits.memory"),
            ("request_cpus", container.cpus, "limits.cpus"),
        ):
            place = next((layer for layer in layers if key in layer.kubernetes), None)
            if place and most and place.kubernetes[key] > most:
                node = _found(place.keys, f"kubernetes.{key}") or place.place
                said = f"{key} {text_of(node)!r}: is more than {limit}"
                self._fault(node, f"{said}; lower one or raise the other")
        if not kubernetes.secret:
            for place in (layer for layer in layers if "secret_keys" in layer.kubernetes):
                node = _found(place.keys, "kubernetes.secret_keys") or place.place
                self._fault(node, "secret_keys: `secret` is not set; the Secret that holds them")
        return kubernetes

    def _kubernetes_layers(self, collector: Collector, store: Store | None) -> "list[Collector | Store]":
        return [collector, *([store] if store else []), self.file.defaults]

    def _secret_of_url(self, collector: Collector, store: Store | None) -> str:
        """Return the existing Secret that holds the URL in a cluster; empty if there is none."""
        kubernetes = _merged(self._kubernetes_layers(collector, store))
        return kubernetes.secret if "url" in kubernetes.secret_keys else ""

    def _environment(self, given: Mapping[str, Node], name: str, share: str | None) -> dict[str, str]:
        """Return the variables that are set, in the order of the contract."""
        ours = self._identity(name, share) | {"SPOOL_DIR": "/spool"}
        environment = {}
        for variable in settings.VARIABLES:
            text = ours.get(variable.name) or (
                text_of(given[variable.name]) if variable.name in given else None
            )
            if text and text.strip():
                environment[variable.name] = text
        return environment

    def _check(
        self,
        environment: dict[str, str],
        given: Mapping[str, Node],
        collector: Collector,
        store: Store | None,
    ) -> settings.Settings | None:
        """Read the environment as the collector will, and report each fault at the place of its value."""
        try:
            read = settings.Settings.read(environment)
        except settings.SettingsError as error:
            for fault in error.faults:
                self._note(fault, given, collector)
            return None
        environment["EXCHANGE"], environment["BACKEND"] = read.exchange, read.backend
        environment["SYMBOLS"], environment["CHANNELS"] = ",".join(read.symbols), ",".join(read.channels)
        self._check_source(read.exchange, given)
        for warning in read.warnings:
            variable = re.match("[A-Z_]*", warning)
            self._hint(given.get(variable[0] if variable else "", given["EXCHANGE"]), warning)
        place = given.get("URL") or given.get("HOST") or (store.place if store else collector.place)
        is_local = settings.BACKENDS[read.backend] and read.host in _LOCAL_HOSTS
        if is_local and not self._secret_of_url(collector, store):
            self._hint(
                place,
                f"host {read.host}: in a container that is the container itself; name the store's "
                "container (in a network that the fleet joins) or the address of its machine",
            )
        return read

    def _recording(
        self,
        read: settings.Settings,
        given: Mapping[str, Node],
        collector: Collector,
        store: Store | None,
        name: str,
    ) -> Recording | None:
        """Return where a collector's records go, and remember which symbols it names."""
        symbols = given["SYMBOLS"] if "SYMBOLS" in collector.settings else collector.place
        folder = (store.path.text or "") if store and store.path else ""
        recording = overlap.recording(read, folder, collector=name, at=_place(symbols))
        if recording:
            if secret := self._secret_of_url(collector, store):
                recording = msgspec.structs.replace(recording, into=(*recording.into, secret))
            named = overlap.pairs(recording, overlap.named(read.symbols))
            profiles = frozenset(collector.profiles or [""])
            self.recorded.append((Recorded(recording, named, profiles), symbols))
        return recording

    def _check_overlaps(self) -> None:
        """Report symbols that several collectors name for one store."""
        recorded = [each for each, _ in self.recorded]
        for indices, common in overlap.overlaps(recorded).items():
            symbol = repr(common[0][1])
            nodes = [self.recorded[index][1] for index in indices]
            items = [_quoted_item(node, symbol) or node for node in nodes]
            *others, _ = [
                msgspec.structs.replace(recorded[index].by, at=_place(item))
                for index, item in zip(indices, items, strict=True)
            ]
            self._fault(items[-1], overlap.told(common, others))

    def _note(self, fault: settings.Fault, given: Mapping[str, Node], collector: Collector) -> None:
        key = fault.variable.lower()
        node = collector.name or given.get("EXCHANGE") if key == "name" else given.get(fault.variable)
        if isinstance(node, Scalar) and node.faulty:
            return
        if fault.value is None:
            self._fault(node or collector.place, f"{key} is not set; {fault.message}")
        else:
            item = _quoted_item(node, fault.message)
            given_text = "" if item else f" {fault.value!r}"
            self._fault(item or node or collector.place, f"{key}{given_text}: {fault.message}")

    def _check_source(self, exchange: str, given: Mapping[str, Node]) -> None:
        if not self.file.simulated:
            return
        if exchange not in SIMULATED:
            speaks = ", ".join(SIMULATED)
            self._fault(given["EXCHANGE"], f"exchange {exchange}: the simulator only offers {speaks}")
        for variable in (_PROXY, f"{_PROXY}_FILE", "SSL_CERT_FILE", "ENDPOINT"):
            if text_of(given.get(variable, UNSET)):
                self._fault(
                    given[variable], f"{variable.lower()}: the simulator brings its own; use source: live"
                )

    def _store(self, collector: Collector) -> Store | None:
        """Return the store that a collector names, or the only one; report a store that does not exist."""
        stores = self.file.stores
        wanted = collector.store or self.file.defaults.store
        if wanted is None or wanted.text is None:
            if wanted is None or not wanted.faulty:
                if len(stores) == 1:
                    return next(iter(stores.values()))
                if not stores:
                    return None
                self._fault(collector.place, f"store is not set; choose from {', '.join(stores)}")
        elif wanted.text in stores:
            return stores[wanted.text]
        else:
            near = nearest(wanted.text, stores)
            there = f"there are {', '.join(stores)}" if stores else "the file has no stores"
            hint = f"did you mean {near[0]}?" if near else there
            self._fault(wanted, f"no store {wanted.text}; {hint}")
        return Store(collector.place, {"BACKEND": Scalar("", 0, 0, None, faulty=True)})

    def _name(self, collector: Collector, given: Mapping[str, Node]) -> str:
        """Return the collector's name, and report it if another collector has it."""
        place = collector.name or given.get("EXCHANGE") or collector.place
        exchange = text_of(given.get("EXCHANGE", UNSET)) or ""
        name = (collector.name.text if collector.name else None) or default_name(exchange)
        if not name or (collector.name and collector.name.faulty):
            return "collector"  # its name or exchange is missing or wrong, which is reported
        for each in dict.fromkeys([name, *(each for each, _ in _shares(name, collector.shards))]):
            self._take(each, collector, place)
        return name

    def _take(self, name: str, collector: Collector, place: Node) -> None:
        if name == SIMULATOR:
            self._fault(place, f"name {name}: the simulator has that name; choose another")
        elif name in self.names:
            first = self.names[name].place
            where = f"line {first.line}" if first.file == place.file else f"{first.file}:{first.line}"
            self._fault(place, f"a second collector {name} ({where} has the first); give it a `name`")
        self.names.setdefault(name, collector)

    def _name_of(self, store: Store | None) -> str:
        return next((name for name, each in self.file.stores.items() if each is store), "")

    def _manage(self, name: str, store: Store) -> None:
        """Add a store that runs with the fleet."""
        backend = (text_of(store.settings["BACKEND"]) or "").upper()
        if not store.manage or backend not in settings.BACKENDS:
            return
        if backend not in managed.BACKENDS:
            self._fault(store.keys["manage"], f"manage: a {backend} store has no server; leave it out")
            return
        try:
            COLLECTOR["name"].parse(name)
        except ValueError as error:
            self._fault(store.place, f"store {name}: with `manage: true` its name {error}")
            return
        host = names.container(self.file.name, name)
        if len(host) > _LONGEST_HOST:
            self._fault(
                store.place,
                f"store {name}: with `manage: true` its server is found as {host},"
                f" and the name of a host has up to {_LONGEST_HOST} characters",
            )
        self._check_led(name, store.settings, managed.BACKENDS[backend])
        made = managed.store(
            self.file.name,
            name,
            managed.BACKENDS[backend],
            network=self.file.network.name,
            image=store.image,
            login=self._login(store),
            distinct=bool(self.file.id),
        )
        self.managed[name] = msgspec.structs.replace(made, owner=self.owner)

    def _login(self, store: Store) -> dict[str, str]:
        """Return the user and the database of a managed store's server."""
        given = self.file.defaults.settings | store.settings
        names = {key: text_of(given.get(key.upper(), UNSET)) for key in ("user", "database")}
        return {key: (name or "").strip() or managed.NAME for key, name in names.items()}

    def _led_to(
        self, server: CollectorSpec, store: Store, layers: Sequence[Layer], collector: Collector
    ) -> list[Layer]:
        """Return a collector's layers on top of one that points it to a managed store."""
        given = _given(layers)
        self._check_led(server.name, given, server.server)
        for variable in ("USER", "DATABASE") if managed.SERVERS[server.server].has_user else ():
            if text_of(collector.settings.get(variable, UNSET)):
                self._fault(
                    collector.settings[variable],
                    f"{variable.lower()}: store {server.name} has `manage: true`; set it there",
                )
        backend = collector.settings.get("BACKEND", UNSET)
        if (text := (text_of(backend) or "").upper()) and managed.BACKENDS.get(text) != server.server:
            self._fault(backend, f"backend {text}: store {server.name}, which is managed, is {server.server}")
            return list(layers)
        told = managed.settings(server, self._login(store)) | {"PASSWORD": "created by `up`"}
        place = store.place
        made: Given = {
            variable: Scalar(place.file, place.line, place.column, text)
            for variable, text in told.items()
            if variable in managed.SET_BY_US or not text_of(given.get(variable, UNSET))
        }
        below = [
            Layer(
                layer.where,
                {name: node for name, node in layer.settings.items() if name not in managed.SET_BY_US},
                layer.keys,
            )
            for layer in layers
        ]
        return [Layer(f"store {server.name}, which is managed", made, {}), *below]

    def _check_led(self, name: str, given: Mapping[str, Node], server: str) -> None:
        """Report settings of a managed store that only the launcher can set."""
        user = () if managed.SERVERS[server].has_user else ("USER",)
        for variable in (*managed.SET_BY_US, *user):
            if text_of(given.get(variable, UNSET)):
                self._fault(
                    given[variable],
                    f"{variable.lower()}: the launcher sets it, because store {name} has `manage: true`; "
                    "leave one of them out",
                )

    def _check_store_names(self) -> None:
        for name in self.managed:
            if name == SIMULATOR:
                self._fault(
                    self.file.stores[name].place, f"store {name}: the simulator has that name; choose another"
                )
            elif name in self.names:
                self._fault(
                    self.file.stores[name].place,
                    f"store {name}: a collector has that name, too; rename one of them",
                )

    def _check_unused_stores(self) -> None:
        """Report faults of stores that no collector uses yet; the others are checked with their collectors.

        Settings that such a store lacks may be set by a collector later.
        """
        used = {layer.where for layers in self.layers.values() for layer in layers}
        for name, store in self.file.stores.items():
            if f"store {name}" in used or not text_of(store.settings["BACKEND"]):
                continue
            given = ChainMap(dict(store.settings), dict(self.file.defaults.settings))
            texts = {variable: text for variable, node in given.items() if (text := text_of(node))}
            try:
                settings.Settings.read(_ANY_COLLECTOR | texts)
            except settings.SettingsError as error:
                for fault in error.faults:
                    if fault.value is not None and fault.variable in store.settings:
                        self._note(fault, given, Collector(store.place, store.settings))

    def _data(self, store: Store | None) -> Mount:
        if not store or not store.path or not store.path.text:
            return self._volume(DATA, target="/data")
        if not _writable(Path(store.path.text)):
            self._hint(
                store.path,
                f"path {store.path.text}: containers write there as user {USER}; "
                f"`mkdir -p` it and make it theirs with `chown -R {USER}`",
            )
        return Mount(kind="bind", source=store.path.text, target="/data")

    def _check_data_volume(self) -> None:
        without = [
            store.place
            for store in self.file.stores.values()
            if (text_of(store.settings["BACKEND"]) or "").upper() == "PARQUET" and not store.path
        ]
        for place in without[1:]:
            self._fault(
                place, f"this store would be mixed with the one in line {without[0].line}; give it a `path`"
            )

    def _check_swarm(self) -> None:
        if self.file.simulated:
            self._fault(self.file.keys["source"], "source simulated: it is for one machine, not for a swarm")
        for name in self.managed:
            self._fault(
                self.file.stores[name].keys["manage"],
                f"manage: store {name} would run on one machine, not in a swarm; name a `host` instead",
            )
        for name, collector in self.names.items():
            full = names.container(self.file.name, name)
            if len(full) > LONGEST_NAME:
                self._fault(
                    collector.name or collector.place,
                    f"name {full}: a swarm takes up to {LONGEST_NAME} characters",
                )

    def _simulator(self) -> CollectorSpec:
        if self.file.network.external:
            self._hint(
                self.file.keys["network"],
                f"network {self.file.network.name}: the simulator answers there to the exchanges' names, so"
                " other containers on it reach the simulator instead of the exchanges; leave `network`"
                f" out and add your database to the fleet's (`docker network connect {self.file.name} NAME`)",
            )
        container = Container(
            name=names.container(self.file.name, SIMULATOR),
            image=self.file.image,
            network=self.file.network.name,
            entrypoint=("python", "-m", "collector.simulator"),
            command=_SIMULATOR_COMMAND + self.file.simulator,
            environment={},
            mounts=(self._simulator_volume(read_only=False),),
            aliases=tuple(host for hosts in SIMULATED.values() for host in hosts),
            health=HealthCheck(
                command=("test", "-s", "/simulator/ca.pem"), interval=1, timeout=5, start_period=30, retries=3
            ),
            # A container that ends after a set time must not be restarted.
            restart="no" if "--duration" in self.file.simulator else "unless-stopped",
        )
        return CollectorSpec(fleet=self.file.name, name=SIMULATOR, container=container, owner=self.owner)

    def _simulator_volume(self, *, read_only: bool) -> Mount:
        return self._volume(SIMULATOR, target="/simulator", read_only=read_only)

    def _fault(self, node: Node, message: str) -> None:
        self.faults.append(Fault(node.file, node.line, node.column, message))

    def _hint(self, node: Node, message: str) -> None:
        self.hints[Fault(node.file, node.line, node.column, message)] = None


def _merged(layers: Iterable[Collector | Store]) -> Kubernetes:
    """Return what only a cluster uses; the nearest layer wins."""
    return Kubernetes(**ChainMap(*(dict(layer.kubernetes) for layer in layers)))


def _given(layers: Iterable[Layer]) -> Mapping[str, Node]:
    """Return the effective settings by variable."""
    return ChainMap(*(dict(layer.settings) for layer in layers))


def _exchange_of(given: Mapping[str, Node]) -> str:
    return (text_of(given.get("EXCHANGE", UNSET)) or "").strip().upper()


def _secrets(environment: Mapping[str, str]) -> frozenset[str]:
    """Return the variables that are never shown; a proxy's URL is one if it has credentials."""
    proxy = environment.get(_PROXY, "")
    return _SECRETS.intersection(environment) | ({_PROXY} if "@" in proxy else set())


def _shares(name: str, shards: int | None) -> list[tuple[str, str | None]]:
    """Return the names of a collector's containers, each with its share of the symbols."""
    if shards is None:
        return [(name, None)]
    return [(f"{name}-{number}", str(Shard(number, shards))) for number in range(1, shards + 1)]


def _place(node: Node) -> str:
    return f"{node.file}:{node.line}:{node.column}"


def _quoted_item(node: Node | None, message: str) -> Node | None:
    """Return the item of a list that a message quotes, because of its place."""
    for item in node.items if isinstance(node, Items) else ():
        if isinstance(item, Scalar) and item.text and repr(item.text.lower()) in message.lower():
            return item
    return None


def _writable(folder: Path) -> bool:
    """Return whether the image's user can write to a folder of this machine."""
    try:
        stat = folder.stat()
    except OSError:
        return False
    return bool(stat.st_mode & 0o002) or (stat.st_uid == USER and bool(stat.st_mode & 0o200))
