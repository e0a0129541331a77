import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from launcher import cli, fleet, fleet_keys
from launcher.explain import explanations

BASE = """
fleet: desk
image: mine:1
network: {name: databases, external: true}
stores:
  one: {backend: REDIS, host: redis, password: s3cret, url: ~}
  two: {backend: REDIS, url: "redis://:s3cret@other/", max_depth: 20}
defaults:
  channels: trades
  max_depth: 10
  limits: {memory: 1GiB}
x-common: &common {log_level: DEBUG}
collectors:
  - {<<: *common, exchange: COINBASE, symbols: BTC-USD, store: one}
  - exchange: KRAKEN
    symbols: BTC-USD
    store: two
    https_proxy: http://me:s3cret@proxy:3128
"""
OVER = """
collectors:
  - name: coinbase
    max_depth: 30
    limits: {memory: 2GiB}
"""


@pytest.fixture
def explain(tmp_path, monkeypatch, capsys):
    """What is printed of a key, and the rows of values."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "over.yaml").write_text(OVER)

    def explain(key, *files):
        assert cli.main(["explain", key, *files]) == 0
        about, _, rows = capsys.readouterr().out.partition("\n\n")
        return about, [line.split(maxsplit=2) for line in rows.splitlines()[1:]]

    return explain


#: Settings that may stand in three places, with values of theirs.
ANYWHERE = {
    "max_depth": ["10", "20", "~"],
    "user": ["one", "two", "~"],
    "database": ["1", "2", "~"],
    "port": ["6380", "~"],
    "host": ["here", "there", "~"],
    "snapshot_only": ["yes", "~"],
}
SETTINGS = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(values) for key, values in ANYWHERE.items()}
)


@settings(
    max_examples=2 * settings.default.max_examples,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(SETTINGS, SETTINGS, SETTINGS, st.sampled_from(["REDIS", "POSTGRES"]), st.booleans())
def test_explain_shows_what_the_container_gets(tmp_path, defaults, store, own, backend, manage):
    path = tmp_path / "fleet.yaml"
    store = {"backend": backend, **({"manage": "true"} if manage else {}), **store}
    own = {"exchange": "KRAKEN", "symbols": "BTC-USD", "channels": "trades", **own}
    texts = [
        "{" + ", ".join(f"{key}: {value}" for key, value in each.items()) + "}"
        for each in (defaults, store, own)
    ]
    path.write_text("fleet: lab\ndefaults: {}\nstores: {{main: {}}}\ncollectors: [{}]\n".format(*texts))
    try:
        environment = fleet.load(path, {}).collectors[0].container.environment
    except fleet.FleetError:
        assume(False)
    for key in (*ANYWHERE, "exchange", "channels", "backend"):
        (origin,) = fleet.origins(path, {}, key)
        assert (origin.text or None) == environment.get(key.upper()), key
        assert origin.text is None or origin.place


def test_a_managed_stores_host_is_explained_as_made_by_the_launcher(tmp_path, monkeypatch, capsys):
    (tmp_path / "fleet.yaml").write_text(
        "fleet: lab\nstores: {redis: {backend: REDIS, manage: true}}\n"
        "collectors: [{exchange: KRAKEN, symbols: BTC-USD, channels: trades}]\n"
    )
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", "host", "fleet.yaml"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.split(maxsplit=2) == ["kraken", "lab-redis", "store redis, which is managed, fleet.yaml:2"]
    assert cli.main(["explain", "password", "fleet.yaml"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["kraken", "***"]


def test_a_key_is_explained(explain):
    about, rows = explain("MAX_DEPTH")
    assert about.splitlines() == [
        "max_depth: order books: levels kept per side; 0 keeps all that the exchange sends",
        "  allowed   in a collector, its store or `defaults`; the first of these that has it wins",
        "  takes     a whole number from 0 to 100000",
        "  default   0",
        "  variable  MAX_DEPTH",
    ]
    assert rows == []


def test_every_key_says_what_it_takes():
    known = explanations()
    tables = (
        fleet_keys.FLEET,
        fleet_keys.NETWORK,
        fleet_keys.SIMULATOR,
        fleet_keys.LIMITS,
        fleet_keys.STORE,
        fleet_keys.COLLECTOR,
        fleet_keys.KUBERNETES,
    )
    assert {name.rpartition(".")[2] for name in known} == {name for table in tables for name in table}
    for each in known.values():
        assert each.takes
        assert "\0" not in each.takes
        assert "no such" not in each.takes


@pytest.mark.parametrize(
    ("key", "files", "rows"),
    [
        (
            "max_depth",
            ["base.yaml", "over.yaml"],
            [["coinbase", "30", "collector, over.yaml:4"], ["kraken", "20", "store two, base.yaml:7"]],
        ),
        (
            "memory",
            ["base.yaml", "over.yaml"],
            [["coinbase", "2GiB", "collector, over.yaml:5"], ["kraken", "1GiB", "defaults, base.yaml:11"]],
        ),
        (
            "log_level",
            ["base.yaml"],
            [["coinbase", "DEBUG", "collector, base.yaml:12"], ["kraken", "INFO", "default"]],
        ),
        ("image", ["base.yaml"], [["desk", "mine:1", "fleet, base.yaml:3"]]),
        ("network.external", ["base.yaml"], [["desk", "true", "fleet, base.yaml:4"]]),
        ("password", ["base.yaml"], [["coinbase", "***", "store one, base.yaml:6"], ["kraken", "default"]]),
    ],
)
def test_where_a_value_comes_from(explain, key, files, rows):
    assert explain(key, *files)[1] == rows


def test_no_secret_is_shown(explain):
    for key in explanations():
        about, rows = explain(key, "base.yaml")
        assert "s3cret" not in f"{about}{rows}"


def test_an_unknown_key_gets_the_nearest(capsys):
    assert cli.main(["explain", "memroy"]) == 2
    assert "a fleet file has no key memroy; did you mean limits.memory?" in capsys.readouterr().err


def test_explain_with_only_a_file_asks_for_a_key(capsys):
    assert cli.main(["explain", "g.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "launcher: a KEY comes before the file: `launcher explain KEY g.yaml`, KEY of fleet, "
    )


def test_explain_reports_the_faults_of_a_bad_file(tmp_path, capsys):
    (tmp_path / "fleet.yaml").write_text("fleet: desk\n")
    assert cli.main(["explain", "image", str(tmp_path / "fleet.yaml")]) == 2
    assert "fleet.yaml:1:1: collectors is not set" in capsys.readouterr().err


def test_shards_take_their_values_from_one_place(tmp_path, explain):
    (tmp_path / "shards.yaml").write_text(
        "collectors: [{exchange: KRAKEN, symbols: '*-USD', store: two, shards: 3, max_depth: 5}]"
    )
    assert explain("max_depth", "base.yaml", "shards.yaml")[1] == [
        ["coinbase", "10", "defaults, base.yaml:10"],
        ["kraken", "5", "collector, shards.yaml:1"],
    ]
