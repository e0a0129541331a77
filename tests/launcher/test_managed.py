"""Stores that run with the fleet, as far as the fleet file alone tells of them."""

import pytest
import yaml

from launcher import cli, fleet
from launcher.managed import with_passwords

FLEET = """
fleet: desk
stores:
  fast: {backend: REDIS, manage: true, image: "valkey/valkey:8.0.2"}
  market: {backend: MONGO, manage: true, user: me, database: books}
  theirs: {backend: POSTGRES, host: elsewhere, user: me, password: theirs, database: books}
defaults: {channels: [trades], symbols: [BTC-USD]}
collectors:
  - {exchange: COINBASE, store: fast, shards: 2}
  - {exchange: KRAKEN, store: market}
  - {exchange: BITSTAMP, store: theirs}
"""


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "fleet.yaml"
    path.write_text(FLEET)
    return path


def test_collectors_are_pointed_to_their_managed_store(path):
    spec = fleet.load(path, {})
    environments = {each.name: each.container.environment for each in spec.collectors}
    assert {environments[f"coinbase-{number}"]["HOST"] for number in (1, 2)} == {"desk-fast"}
    assert "USER" not in environments["coinbase-1"]
    told = environments["kraken"]
    assert (told["HOST"], told["USER"], told["DATABASE"]) == ("desk-market", "me", "books")
    assert environments["bitstamp"]["HOST"] == "elsewhere"
    assert [store.container.image for store in spec.stores] == ["valkey/valkey:8.0.2", "mongo:8.0.6"]


def test_another_password_is_the_same_configuration(path):
    without = fleet.load(path, {})
    one, two = (with_passwords(without, {"fast": text, "market": text}) for text in ("one", "two"))
    hashes = [[each.config_hash for each in (*spec.stores, *spec.collectors)] for spec in (without, one, two)]
    assert hashes[0] == hashes[1] == hashes[2]
    given = {each.name: each.container.environment.get("PASSWORD") for each in one.collectors}
    assert given == {"coinbase-1": "one", "coinbase-2": "one", "kraken": "one", "bitstamp": "theirs"}


def test_a_server_name_too_long_for_dns_is_refused(path):
    path.write_text(FLEET.replace("fleet: desk", f"fleet: {'d' * 58}"))
    with pytest.raises(fleet.FleetError, match=r"store market: .* has up to 63 characters"):
        fleet.load(path, {})


def test_a_compose_file_has_a_managed_store_as_a_service(path):
    assert cli.main(["render"]) == 0
    services = yaml.safe_load((path.parent / "rendered" / "compose.yaml").read_text())["services"]
    assert services["kraken"]["depends_on"] == {"market": {"condition": "service_healthy"}}
    assert "depends_on" not in services["bitstamp"]
    secrets = path.parent / "rendered" / "secrets"
    password = (secrets / "market.mongo_initdb_root_password").read_text()
    assert len(password) >= 32
    assert (secrets / "kraken.password").read_text() == password
    assert (secrets / "fast.password").read_text() not in ("", password)
    assert password not in (path.parent / "rendered" / "compose.yaml").read_text()


@pytest.mark.parametrize("form", ["swarm", "kubernetes", "quadlet"])
def test_formats_without_managed_stores_say_what_to_do(path, form, capsys):
    assert cli.main(["render", "--format", form]) == 2
    faults = capsys.readouterr().err.splitlines()
    assert [fault.split(": ")[:2] for fault in faults] == [
        ["launcher", "store fast"],
        ["launcher", "store market"],
    ]
    assert all("its `host` and `password_file` instead of `manage`" in fault for fault in faults)
    assert not (path.parent / "rendered").exists()


def test_local_processes_have_no_servers(path, capsys):
    assert cli.main(["run"]) == 2
    assert (
        "a store with `manage: true` (fast, market) needs Docker; use `launcher up`"
        in capsys.readouterr().err
    )
