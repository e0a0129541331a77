import re
from pathlib import Path

import pytest
import trustme
import yaml
from fleet_texts import BAD_FLEETS, COINBASE, HEAD, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from collector import catalog
from collector.simulator.server import EXCHANGES
from launcher import cli, fleet, fleet_keys
from launcher.engines import containers, services
from launcher.fleet_file import SIMULATED
from launcher.owner import new_id
from launcher.secrets import hidden, part
from launcher.spec import Mount, Network
from launcher.starter import starter


@pytest.fixture
def load(tmp_path):
    def load(text, **environ):
        path = tmp_path / "fleet.yaml"
        path.write_text(text)
        return fleet.load(path, environ)

    return load


@pytest.fixture
def faults(load):
    """What is said about a bad fleet file, each fault without the file's name."""

    def faults(text, **environ):
        with pytest.raises(fleet.FleetError) as caught:
            load(text, **environ)
        return [str(fault).rsplit("fleet.yaml:", 1)[1] for fault in caught.value.faults]

    return faults


@pytest.mark.parametrize("name", sorted(path.stem for path in BAD_FLEETS.glob("*.yaml")))
def test_a_bad_fleet_file_gets_all_its_faults_with_their_places(name, monkeypatch, capsys):
    monkeypatch.chdir(BAD_FLEETS)
    assert cli.main(["validate", f"{name}.yaml"]) == 2
    assert capsys.readouterr() == ("", Path(f"{name}.txt").read_text())


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path):
    with pytest.raises(fleet.FleetError, match=r"none\.yaml: cannot be read: No such file.*`launcher init`"):
        fleet.load(tmp_path / "none.yaml", {})
    with pytest.raises(fleet.FleetError, match="cannot be read: Is a directory"):
        fleet.load(tmp_path, {})


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_or_gives_faults(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(fleet.FleetError):
        fleet.load(path, {})


@settings(deadline=None)
@given(
    st.recursive(
        st.text(max_size=5) | st.none(),
        lambda any_: st.lists(any_) | st.dictionaries(st.text(max_size=5), any_),
    )
)
def test_any_value_of_any_key_is_read_or_gives_faults(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "any-value.yaml"
    keys = ("fleet", "image", "network", "source", "simulator", "stores", "defaults", "collectors")
    for key in keys:
        path.write_text(yaml.safe_dump({"stores": {"r": value}, "collectors": [value], key: value}))
        with pytest.raises(fleet.FleetError):
            fleet.load(path, {})


@pytest.mark.parametrize("path", sorted((ROOT / "deployments").glob("*.yaml")), ids=lambda path: path.stem)
def test_deployments_are_good(path):
    fleet.load(path, {"REDIS_PASSWORD": "secret"})


def test_the_starter_file_is_good(load):
    spec = load(starter(ROOT, new_id()))
    assert [collector.name for collector in spec.collectors] == ["coinbase", "kraken"]


def test_the_page_about_reading_names_the_volume_of_the_starter_file(load):
    page = (ROOT / "docs" / "reading.md").read_text()
    spec = load(starter(Path("crypto"), new_id()))
    volumes = {mount.source for collector in spec.collectors for mount in collector.container.mounts}
    assert set(re.findall(r"--volume (\S+):/data:ro", page)) == {"crypto_data"} < volumes


def test_a_collector_is_made_from_defaults_its_store_and_its_own_settings(load):
    spec = load("""
fleet: desk
stores:
  redis: {backend: redisstream, host: redis, snapshot_interval: 20, max_depth: 20}
defaults: {channels: [trades, l2book], snapshot_interval: 10, max_depth: 10, log_level: debug}
collectors:
  - {exchange: coinbase, symbols: "BTC-USD, ETH-USD", max_depth: 30, log_level: ~}
""")
    (collector,) = spec.collectors
    assert collector.container.name == "desk-coinbase"
    assert collector.container.environment == {
        "EXCHANGE": "COINBASE",
        "SYMBOLS": "BTC-USD,ETH-USD",
        "CHANNELS": "trades,l2_book",
        "BACKEND": "REDISSTREAM",
        "SNAPSHOT_INTERVAL": "20",
        "MAX_DEPTH": "30",
        "HOST": "redis",
        "NAME": "desk-coinbase",
        "SPOOL_DIR": "/spool",
    }
    assert collector.container.mounts == (
        Mount(kind="volume", source="desk-coinbase-spool", target="/spool"),
    )


def test_settings_are_the_text_of_the_file(load):
    """YAML 1.1 would make them 83, False, 1350, True and a date."""
    (collector,) = load(
        HEAD
        + COINBASE
        + "    user: 0123\n    password: 22:30\n    snapshot_only: no\n    restart: no\n"
        + "    candle_interval: 2024-01-01\n"
    ).collectors
    environment = collector.container.environment
    assert environment["USER"] == "0123"
    assert environment["PASSWORD"] == "22:30"
    assert environment["SNAPSHOT_ONLY"] == "no"
    assert environment["CANDLE_INTERVAL"] == "2024-01-01"
    assert collector.container.restart == "no"
    assert collector.secrets == {"PASSWORD"}


@pytest.mark.parametrize("nothing", ["", "~", "null", "''", '"  "', "${NONE:-}"])
def test_empty_is_not_set(load, nothing):
    (collector,) = load(f"{HEAD}{COINBASE}    host: {nothing}\n").collectors
    assert "HOST" not in collector.container.environment


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${SECRET}", "a: b # 'c' \"d\"\n- e"),
        ("'${SECRET}!'", "a: b # 'c' \"d\"\n- e!"),
        ("${NONE:-fallback}", "fallback"),
        ("${EMPTY:-fallback}", "fallback"),
        ("x${NONE:-}y${NULL}", "xynull"),
        ("$${SECRET}", "${SECRET}"),
        ("$SECRET $$", "$SECRET $$"),
        ("$$${SECRET}", "$${SECRET}"),
    ],
)
def test_references_are_replaced_after_parsing(load, text, value):
    (collector,) = load(
        f"{HEAD}{COINBASE}    password: {text}\n", SECRET="a: b # 'c' \"d\"\n- e", EMPTY="", NULL="null"
    ).collectors
    assert collector.container.environment["PASSWORD"] == value


def test_a_reference_between_brackets_gets_a_remedy(faults):
    (fault,) = faults("fleet: desk\nstores:\n  redis: {host: ${HOST}}\n", HOST="redis")
    assert fault.startswith("3:")
    assert fault.endswith('between brackets a reference needs quotes: "${VAR}"')


def test_faults_in_shared_settings_are_reported_once(faults):
    collectors = COINBASE + COINBASE.replace("COINBASE", "KRAKEN")
    assert faults(f"defaults: {{max_depth: deep, channels: [nope]}}\n{HEAD}{collectors}") == [
        "1:23: max_depth 'deep': takes a whole number from 0 to 100000"
    ]
    assert faults(f"{HEAD.replace('redis}', 'redis, database: x}')}{collectors}") == [
        "3:50: database 'x': a Redis database is a number, 0 by default"
    ]


def test_anchors_and_merge_keys(load):
    spec = load("""
fleet: desk
x-redis: &redis {backend: REDIS, host: redis}
x-book: &book {channels: [l2_book], max_depth: 10}
x-symbols: &symbols [BTC-USD, ETH-USD]
stores:
  one: *redis
  two: {<<: *redis, port: 7000}
collectors:
  - <<: [*book, {channels: trades, max_depth: 99, log_level: ERROR}]
    exchange: COINBASE
    symbols: *symbols
    store: one
  - {exchange: KRAKEN, symbols: *symbols, max_depth: 5, store: two, <<: *book}
""")
    first, second = (collector.container.environment for collector in spec.collectors)
    assert (first["CHANNELS"], first["MAX_DEPTH"], first["LOG_LEVEL"]) == ("l2_book", "10", "ERROR")
    assert (second["CHANNELS"], second["MAX_DEPTH"], second["PORT"]) == ("l2_book", "5", "7000")
    assert first["SYMBOLS"] == second["SYMBOLS"] == "BTC-USD,ETH-USD"


def test_limits_and_restart_are_merged_key_by_key(load):
    collectors = COINBASE + "    limits: {memory: 1GiB}\n" + COINBASE.replace("COINBASE", "KRAKEN")
    defaults = "defaults: {limits: {memory: 512MiB, cpus: 0.5}, restart: on-failure:3}\n"
    first, second = (each.container for each in load(defaults + HEAD + collectors).collectors)
    assert (first.memory, first.cpus, first.pids, first.restart) == (2**30, 0.5, 256, "on-failure:3")
    assert (second.memory, second.cpus) == (2**29, 0.5)


def test_files_are_found_from_the_fleet_file_and_mounted_read_only(load, tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "feed.yaml").write_text("log: {}")
    (tmp_path / "password").write_text("secret\n")
    (collector,) = load(
        f"{HEAD}{COINBASE}    config: keys/../keys/feed.yaml\n    password_file: {tmp_path}/password\n"
    ).collectors
    assert collector.container.environment["CONFIG"] == "/run/secrets/config.yaml"
    assert collector.container.environment["PASSWORD_FILE"] == "/run/secrets/password"
    assert collector.container.mounts[1:] == (
        Mount(
            kind="bind",
            source=f"{tmp_path}/keys/feed.yaml",
            target="/run/secrets/config.yaml",
            read_only=True,
        ),
        Mount(kind="bind", source=f"{tmp_path}/password", target="/run/secrets/password", read_only=True),
    )


def test_every_file_of_the_contract_can_be_given(load, tmp_path):
    contents = {
        "url_file": "redis://redis/",
        "https_proxy_file": "http://me:pass@proxy:3128",
        "config": "{}",
        "ssl_cert_file": trustme.CA().cert_pem.bytes().decode(),
    }
    for name in fleet_keys.FILES:
        (tmp_path / name).write_text(contents.get(name, "text"))
        text = HEAD.replace(", host: redis", "") if name == "url_file" else HEAD
        (collector,) = load(f"{text}{COINBASE}    {name}: {name}\n").collectors
        mount = collector.container.mounts[1]
        assert (mount.source, mount.read_only) == (str(tmp_path / name), True)
        assert collector.container.environment[name.upper()] == mount.target


def test_a_store_by_its_url(load):
    spec = load(HEAD.replace("host: redis", "url: 'redis://:s$cret@localhost:7000/3'") + COINBASE)
    (collector,) = spec.collectors
    assert collector.secrets == {"URL"}
    assert collector.container.environment["URL"] == "redis://:s$cret@localhost:7000/3"
    (hint,) = spec.hints
    assert "fleet.yaml:3:32: host localhost" in hint


def test_a_proxy_is_a_secret_where_it_has_credentials(load, tmp_path):
    (tmp_path / "proxy").write_text("http://me:canary@proxy:3128")
    plain, secret, in_file = load(
        HEAD
        + "  - {exchange: COINBASE, symbols: BTC-USD, channels: trades, https_proxy: 'http://proxy:3128'}\n"
        + "  - {exchange: KRAKEN, symbols: BTC-USD, channels: trades, https_proxy: 'http://me:canary@proxy:3128'}\n"
        + "  - {exchange: GEMINI, symbols: BTC-USD, channels: trades, https_proxy_file: proxy}\n"
    ).collectors
    assert part(plain).environment["HTTPS_PROXY"] == "http://proxy:3128"
    for collector in (secret, in_file):
        parted = part(collector)
        assert "HTTPS_PROXY" not in parted.environment
        assert parted.environment["HTTPS_PROXY_FILE"] == "/run/secrets/https_proxy"
        assert [each.content for each in parted.secrets] == [b"http://me:canary@proxy:3128"]
        assert "canary" in hidden({each.name: each.content for each in parted.secrets})


def test_parquet_goes_to_a_volume_or_to_a_folder(load, tmp_path):
    text = HEAD.replace("{backend: REDIS, host: redis}", "{backend: PARQUET}") + COINBASE
    (collector,) = load(text).collectors
    assert collector.container.mounts[1] == Mount(kind="volume", source="desk-data", target="/data")
    assert collector.container.environment["PARQUET_DIR"] == "/data"
    (tmp_path / "records").mkdir(mode=0o700)
    spec = load(text.replace("PARQUET", "PARQUET, path: records"))
    mount = spec.collectors[0].container.mounts[1]
    assert mount == Mount(kind="bind", source=f"{tmp_path}/records", target="/data")
    (hint,) = spec.hints
    assert f"fleet.yaml:3:35: path {tmp_path}/records: containers write there as user 10001" in hint


def test_a_simulator_among_other_containers_gets_a_hint(load):
    text = f"source: simulated\n{HEAD}{COINBASE}"
    assert load(text).hints == load(f"{text}network: shared\n").hints == ()
    (hint,) = load(f"{text}network: {{name: shared, external: true}}\n").hints
    assert "network shared: the simulator answers there to the exchanges' names" in hint
    assert "`docker network connect desk NAME`" in hint
    assert load(f"{HEAD}{COINBASE}network: {{name: shared, external: true}}\n").hints == ()


@pytest.mark.parametrize("host", ["", "host: localhost", "host: 127.0.0.1"])
def test_localhost_in_a_container_gets_a_hint(load, host):
    spec = load(f"{HEAD.replace('host: redis', host)}{COINBASE}")
    (hint,) = spec.hints
    assert "in a container that is the container itself" in hint
    assert "fleet.yaml:3:" in hint


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("", Network(name="desk")),
        ("network: shared\n", Network(name="shared")),
        ("network: {name: databases, external: true}\n", Network(name="databases", external=True)),
    ],
)
def test_network(load, network, expected):
    spec = load(network + HEAD + COINBASE)
    assert spec.network == expected
    assert spec.collectors[0].container.network == expected.name


def test_a_simulated_fleet_has_a_simulator_that_its_collectors_trust(load):
    options = "{rate: 5, seed: 7, duration: 1m, symbols: {kraken: BTC-USD}}"
    spec = load(f"source: simulated\nsimulator: {options}\n{HEAD}{COINBASE}")
    assert spec.simulator is not None
    assert spec.simulator.container.name == "desk-simulator"
    assert "ws.kraken.com" in spec.simulator.container.aliases
    assert spec.simulator_options == (
        *("--rate", "5", "--seed", "7", "--duration", "60"),
        *("--symbols", "KRAKEN=BTC-USD"),
    )
    assert spec.simulator.container.command[-8:] == spec.simulator_options
    collector = spec.collectors[0].container
    assert collector.environment["SSL_CERT_FILE"] == "/simulator/ca.pem"
    assert (
        Mount(kind="volume", source="desk-simulator", target="/simulator", read_only=True) in collector.mounts
    )


def test_every_exchange_has_a_default_name(load):
    for exchange in catalog.usable():
        offered = catalog.exchanges()[exchange]
        free = next(channel for channel in offered.channels if channel not in offered.keys)
        text = COINBASE.replace("COINBASE", exchange).replace("trades", free)
        assert load(HEAD + text).collectors[0].name.replace("-", "") == exchange.lower().replace(
            "_", ""
        ).replace(".", "")


def test_warnings_of_the_catalogue_are_hints(load, tmp_path):
    (tmp_path / "keys.yaml").write_text("coinbase: {key_id: a}\n")
    spec = load(
        HEAD + "  - {exchange: HITBTC, symbols: BTC-USD, channels: trades}\n"
        "  - {exchange: KRAKEN, symbols: BTC-USD, channels: trades, config: keys.yaml}\n"
    )
    hitbtc, kraken = map(str, spec.hints)
    assert "HITBTC: nobody has been able to verify" in hitbtc
    assert "CONFIG is not used: KRAKEN is recorded without cryptofeed and keys; leave it out" in kraken


def test_every_simulated_exchange_can_be_in_a_fleet():
    for name, hosts in SIMULATED.items():
        assert {*hosts} == EXCHANGES[name].websocket_hosts | EXCHANGES[name].rest_hosts
    assert SIMULATED.keys() == EXCHANGES.keys()


def test_the_order_of_keys_changes_nothing(load):
    one = load("fleet: desk\nstores: {r: {host: a, backend: REDIS}}\ncollectors:\n" + COINBASE)
    two = load(
        "collectors:\n  - channels: [trades]\n    symbols: [BTC-USD]\n    exchange: COINBASE\n"
        "stores: {r: {backend: REDIS, host: a}}\nfleet: desk\n"
    )
    assert _without_places(one) == _without_places(two)
    assert list(one.collectors[0].container.environment) == list(two.collectors[0].container.environment)
    assert one.collectors[0].config_hash == two.collectors[0].config_hash


def _without_places(fleet):
    collectors = tuple(structs.replace(each, recording=None) for each in fleet.collectors)
    return structs.replace(fleet, collectors=collectors)


@pytest.fixture
def files(tmp_path):
    """Writes fleet files; their paths in order."""

    def files(**texts):
        paths = []
        for name, text in texts.items():
            paths.append(tmp_path / f"{name}.yaml")
            paths[-1].parent.mkdir(exist_ok=True)
            paths[-1].write_text(text)
        return paths

    return files


def test_a_file_overrides_another_key_by_key(files):
    base = """
fleet: desk
image: cryptostore:1
stores: {redis: {backend: REDIS, host: redis, port: 7000}}
defaults: {channels: [trades, ticker], max_depth: 10, limits: {memory: 1GiB, cpus: 0.5}}
collectors:
  - {exchange: COINBASE, symbols: [BTC-USD, ETH-USD], log_level: DEBUG}
  - {exchange: BINANCE_FUTURES, symbols: BTC-USDT-PERP}
  - {exchange: KRAKEN, name: candles, symbols: BTC-USD, channels: candles}
"""
    over = """
image: cryptostore:2
stores: {redis: {host: other}, files: {backend: PARQUET}}
defaults: {store: redis, channels: trades, limits: {memory: 2GiB}}
collectors:
  - {exchange: BITSTAMP, symbols: BTC-USD}
  - {exchange: Coinbase, symbols: BTC-USD, log_level: ~}
  - {name: candles, store: files}
  - {name: binance-futures, restart: no}
"""
    spec = fleet.load(files(base=base, over=over), {})
    assert [each.name for each in spec.collectors] == ["coinbase", "binance-futures", "candles", "bitstamp"]
    coinbase, futures, candles, bitstamp = (each.container for each in spec.collectors)
    assert {each.container.image for each in spec.collectors} == {"cryptostore:2"}
    assert coinbase.environment["SYMBOLS"] == "BTC-USD"
    assert coinbase.environment["CHANNELS"] == "trades"
    assert "LOG_LEVEL" not in coinbase.environment
    assert (coinbase.environment["HOST"], coinbase.environment["PORT"]) == ("other", "7000")
    assert (coinbase.memory, coinbase.cpus) == (2 * 2**30, 0.5)
    assert (futures.restart, coinbase.restart) == ("no", "unless-stopped")
    assert (candles.environment["BACKEND"], candles.environment["CHANNELS"]) == ("PARQUET", "candles")
    assert bitstamp.environment["MAX_DEPTH"] == "10"


@pytest.mark.parametrize(
    "host", ["redis://:hunter2@redis", "me:hunter2@redis", "redis:6379", "a b", "http:/redis"]
)
def test_a_host_is_not_a_url_and_its_password_is_not_shown(faults, host):
    (fault,) = faults(HEAD.replace("host: redis", f'host: "{host}"') + COINBASE)
    assert "takes a host name or address" in fault
    assert "hunter2" not in fault


def test_a_duplicate_collector_name_in_an_overriding_file_is_a_fault(files):
    paths = files(base=HEAD + COINBASE + COINBASE, over="collectors: [{exchange: KRAKEN, symbols: BTC-USD}]")
    with pytest.raises(fleet.FleetError, match="a second collector coinbase"):
        fleet.load(paths, {})


def test_each_fault_names_its_own_file(files):
    base = HEAD + COINBASE
    paths = files(
        base=base + "    max_depth: deep\n",
        over="collectors:\n  - {exchange: COINBASE, port: x}\n  - {exchange: coinbase, symbols: A}\n",
        last="stores: {redis: {prot: 1}}\n",
    )
    with pytest.raises(fleet.FleetError) as caught:
        fleet.load(paths, {})
    folder = paths[0].parent
    assert [str(fault).removeprefix(f"{folder}/") for fault in caught.value.faults] == [
        "base.yaml:8:16: max_depth 'deep': takes a whole number from 0 to 100000",
        "last.yaml:1:18: a store has no key prot; did you mean port?",
        "over.yaml:2:32: port 'x': takes a whole number from 1 to 65535",
        "over.yaml:3:5: channels is not set; "
        "a channel or a comma-separated list: trades, ticker, l2_book, ...",
        f"over.yaml:3:16: a second collector coinbase ({folder}/base.yaml:5 has the first); give it a `name`",
    ]


def test_a_path_is_relative_to_its_own_file(files, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "keys.yaml").write_text("{}")
    (tmp_path / "deep" / "password").write_text("secret")
    (base,) = files(base=HEAD + COINBASE + "    config: keys.yaml\n")
    over = tmp_path / "deep" / "over.yaml"
    over.write_text("collectors: [{exchange: COINBASE, password_file: password}]")
    (collector,) = fleet.load([base, over], {}).collectors
    assert [mount.source for mount in collector.container.mounts[1:]] == [
        f"{tmp_path}/keys.yaml",
        f"{tmp_path}/deep/password",
    ]


def test_symbol_patterns_are_passed_unchanged(load):
    patterns = ["ALL", "*-USDT", "!*-PERP", "type:spot", "BTC-USD", "[BE]T?-*"]
    (collector,) = load(
        HEAD + COINBASE.replace("[BTC-USD]", "[" + ", ".join(f'"{each}"' for each in patterns) + "]")
    ).collectors
    assert collector.container.environment["SYMBOLS"] == ",".join(patterns)
    assert (
        load(HEAD + COINBASE.replace("[BTC-USD]", "ALL")).collectors[0].container.environment["SYMBOLS"]
        == "ALL"
    )


def test_parallelism_of_updates(load):
    assert load(HEAD + COINBASE).parallelism == 4
    assert load("parallelism: 9\n" + HEAD + COINBASE).parallelism == 9


def test_shards_are_containers_that_differ_in_name_and_share_alone(load):
    spec = load(HEAD + "- {exchange: BINANCE, symbols: '*-USDT', channels: trades, shards: 3}\n")
    assert [collector.name for collector in spec.collectors] == ["binance-1", "binance-2", "binance-3"]
    containers = [collector.container for collector in spec.collectors]
    assert [each.environment["SHARD"] for each in containers] == ["1/3", "2/3", "3/3"]
    assert [each.environment["NAME"] for each in containers] == [each.name for each in containers]
    assert [each.mounts[0].source for each in containers] == [f"{each.name}-spool" for each in containers]
    own = ("NAME", "SHARD")
    same = [{key: text for key, text in each.environment.items() if key not in own} for each in containers]
    assert same[0] == same[1] == same[2]
    assert list(containers[0].environment)[:3] == ["EXCHANGE", "SYMBOLS", "SHARD"]


def found(spec):
    """The container of a collector, as the engine shows it."""
    body = containers.request(containers.apart(spec))
    networks = body["NetworkingConfig"]["EndpointsConfig"]
    return {"Config": body, "HostConfig": body["HostConfig"], "NetworkSettings": {"Networks": networks}}


def binance(*names, given="", shards=1):
    each = "- {{exchange: BINANCE, symbols: '{}-*', channels: trades, name: {}, shards: {}{}}}\n"
    return HEAD + "".join(each.format(name.upper(), name, shards, given) for name in names)


def test_collectors_of_one_exchange_share_the_requests_that_it_allows(load):
    text = binance("a", "b", shards=2)
    specs = load(text + "- {exchange: KRAKEN, symbols: BTC-USD, channels: trades}\n").collectors
    told = [containers.variables(found(spec)["Config"]).get("REQUESTS_SHARED_BY") for spec in specs]
    assert told == ["4", "4", "4", "4", None]


def test_collectors_of_exchanges_with_one_limit_share_it(load):
    text = HEAD + "".join(
        f"- {{exchange: {exchange}, symbols: ALL, channels: trades, shards: {shards}}}\n"
        for exchange, shards in (("BINANCE_FUTURES", 2), ("binance_delivery", 1), ("BINANCE", 1))
    )
    specs = load(text).collectors
    told = [containers.variables(found(spec)["Config"]).get("REQUESTS_SHARED_BY") for spec in specs]
    assert told == ["3", "3", "3", None]


def test_no_collector_is_replaced_because_another_shares_its_limit(load):
    before, after = (load(binance(*names)).collectors[0] for names in ("a", "ab"))
    assert before.config_hash == after.config_hash
    for old, new in ((before, after), (after, before)):
        assert containers.changes(containers.apart(new), {}, found(old), {}) == ()
        wanted, was = (services.request(containers.apart(each), "n", {}) for each in (new, old))
        assert services.changes(new, wanted, was, {}) == ()


def test_the_number_that_share_a_limit_can_be_set(load):
    said = load(binance("a", "b", given=", requests_shared_by: 7")).collectors[0]
    assert said.container.environment["REQUESTS_SHARED_BY"] == "7"
    assert not said.counted
    counted = load(binance("a", "b")).collectors[0]
    (change,) = containers.changes(containers.apart(said), {}, found(counted), {})
    assert (change.key, change.old, change.new) == ("REQUESTS_SHARED_BY", "2", "7")


def test_the_name_of_a_shard_is_taken(faults):
    listed = "{exchange: BINANCE, symbols: ALL, channels: trades, "
    assert faults(HEAD + f"- {listed} shards: 3}}\n- {listed} name: binance-2}}\n") == [
        "6:62: a second collector binance-2 (line 5 has the first); give it a `name`"
    ]
