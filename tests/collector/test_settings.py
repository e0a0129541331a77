import os
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import cli
from collector.settings import VARIABLES, Retention, Settings, SettingsError

GOOD = {
    "EXCHANGE": "COINBASE",
    "SYMBOLS": "BTC-USD,ETH-USD",
    "CHANNELS": "trades,ticker,l2_book",
    "BACKEND": "REDISSTREAM",
}
COINBASE_OFFERS = "COINBASE offers trades, ticker, l1_book, l2_book, funding, open_interest, index, candles"
BACKENDS = "choose from REDIS, REDISSTREAM, MONGO, POSTGRES, PARQUET, TTY"

# What is changed in GOOD, and the lines that follow the first one of the message.
BAD = {
    "exchange misspelt": (
        {"EXCHANGE": "COINBSE"},
        ["EXCHANGE = 'COINBSE': no such exchange; did you mean COINBASE?"],
    ),
    "channel misspelt": (
        {"CHANNELS": "l2-book"},
        [f"CHANNELS = 'l2-book': no channel 'l2-book'; did you mean l2_book? {COINBASE_OFFERS}"],
    ),
    "channel not offered": (
        {"CHANNELS": "trades,liquidations"},
        [f"CHANNELS = 'trades,liquidations': no channel 'liquidations'; {COINBASE_OFFERS}"],
    ),
    "empty place in a list": (
        {"SYMBOLS": "BTC-USD,,ETH-USD"},
        [
            "SYMBOLS = 'BTC-USD,,ETH-USD': takes one value or a comma-separated list without empty items",
        ],
    ),
    "backend misspelt": (
        {"BACKEND": "REDISTREAM"},
        [f"BACKEND = 'REDISTREAM': no such backend; did you mean REDISSTREAM? {BACKENDS}"],
    ),
    **{
        f"backend {name} of the original cryptostore": (
            {"BACKEND": name},
            [
                f"BACKEND = '{name}': a backend of the original cryptostore, which this one does not have; "
                f"{BACKENDS}"
            ],
        )
        for name in ("TCP", "UDP", "UDS", "INFLUX", "QUEST", "ELASTIC", "ARCTIC", "KAFKA")
    },
    "backend that nobody has": (
        {"BACKEND": "CASSETTE"},
        [f"BACKEND = 'CASSETTE': no such backend; {BACKENDS}"],
    ),
    "blanks between symbols": (
        {"SYMBOLS": "BTC-USD ETH-USD,LTC-USD"},
        [
            "SYMBOLS = 'BTC-USD ETH-USD,LTC-USD': 'BTC-USD ETH-USD' contains a space; "
            "put commas between symbols: BTC-USD,ETH-USD"
        ],
    ),
    "quotes that --env-file keeps": (
        {"EXCHANGE": '"COINBASE"', "SYMBOLS": "'BTC-USD'", "DATABASE": '"0"', "URL": '"redis://canary@db"'},
        [
            f"{shown}: the value has quotes around it; remove them: docker's --env-file keeps them"
            for shown in (
                "EXCHANGE = '\"COINBASE\"'",
                "SYMBOLS = \"'BTC-USD'\"",
                "URL = '***'",
                "DATABASE = '\"0\"'",
            )
        ],
    ),
    "config that does not exist": (
        {"CONFIG": "/nowhere/config.yaml"},
        ["CONFIG = '/nowhere/config.yaml': there is no such file"],
    ),
    "config with a name that no file has": (
        {"CONFIG": "c" * 300},
        [f"CONFIG = '{'c' * 300}': cannot be read: File name too long"],
    ),
    "not a boolean": (
        {"SNAPSHOT_ONLY": "maybe"},
        ["SNAPSHOT_ONLY = 'maybe': takes true or false (also t, f, 1, 0, yes, no)"],
    ),
    "not a number": (
        {"SNAPSHOT_INTERVAL": "often"},
        ["SNAPSHOT_INTERVAL = 'often': takes a whole number from 1 to 1000000000"],
    ),
    "number too small": (
        {"SNAPSHOT_INTERVAL": "0"},
        ["SNAPSHOT_INTERVAL = '0': takes a whole number from 1 to 1000000000"],
    ),
    "negative depth": ({"MAX_DEPTH": "-1"}, ["MAX_DEPTH = '-1': takes a whole number from 0 to 100000"]),
    "port out of range": ({"PORT": "70000"}, ["PORT = '70000': takes a whole number from 1 to 65535"]),
    "redis database by name": (
        {"DATABASE": "market"},
        ["DATABASE = 'market': a Redis database is a number, 0 by default"],
    ),
    "postgres without a database": (
        {"BACKEND": "POSTGRES"},
        ["DATABASE is not set: POSTGRES needs the name of a database"],
    ),
    "candle interval not offered": (
        {"EXCHANGE": "KRAKEN", "CHANNELS": "candles", "CANDLE_INTERVAL": "2m"},
        ["CANDLE_INTERVAL = '2m': KRAKEN offers 1m, 5m, 15m, 30m, 1h, 4h, 1d, 1w, 15d"],
    ),
    "candle interval in the other case": (
        {"EXCHANGE": "OKX", "CHANNELS": "candles", "CANDLE_INTERVAL": "1h"},
        [
            "CANDLE_INTERVAL = '1h': did you mean 1H? OKX offers "
            "1m, 3m, 5m, 15m, 30m, 1H, 2H, 4H, 6H, 12H, 1D, 1W"
        ],
    ),
    "name with a blank": (
        {"NAME": "my collector"},
        [
            "NAME = 'my collector': takes up to 63 letters, digits, '-', '_' and '.', "
            "beginning with a letter or digit",
        ],
    ),
    "size without a number": (
        {"SPOOL_MAX_BYTES": "lots"},
        ["SPOOL_MAX_BYTES = 'lots': takes a size such as 2GiB, 512MB or a number of bytes"],
    ),
    "duration of an unknown unit": (
        {"SPOOL_SYNC": "1 fortnight"},
        [
            "SPOOL_SYNC = '1 fortnight': takes a duration such as 500ms, 10s, 5m, 1h or 7d (a bare number is seconds)"
        ],
    ),
    "log level": ({"LOG_LEVEL": "LOUD"}, ["LOG_LEVEL = 'LOUD': takes one of DEBUG, INFO, WARNING, ERROR"]),
    "log format": ({"LOG_FORMAT": "xml"}, ["LOG_FORMAT = 'xml': takes one of text, json"]),
    "proxy without a scheme": (
        {"HTTPS_PROXY": "proxy:3128"},
        ["HTTPS_PROXY = 'proxy:3128': takes a URL such as http://proxy.example:3128"],
    ),
    "authority that does not exist": (
        {"SSL_CERT_FILE": "/nowhere/ca.pem"},
        ["SSL_CERT_FILE = '/nowhere/ca.pem': there is no such file"],
    ),
    "password file that does not exist": (
        {"PASSWORD_FILE": "/nowhere/secret"},
        ["PASSWORD_FILE = '/nowhere/secret': there is no such file"],
    ),
    "url of another backend": (
        {"URL": "mongodb://canary:canary@db/market"},
        [
            "URL = '***': begins with mongodb://, but BACKEND=REDISSTREAM takes redis://, rediss://, unix://, "
            "redis+sentinel://, rediss+sentinel://",
        ],
    ),
    "url for a backend without one": (
        {"BACKEND": "TTY", "URL": "redis://canary@db"},
        ["URL = '***': begins with redis://, but BACKEND=TTY takes no URL"],
    ),
    "url that is none": (
        {"URL": "canary"},
        [
            "URL = '***': takes a URL that begins with redis://, rediss://, unix://, redis+sentinel://, "
            "rediss+sentinel://, mongodb://, mongodb+srv://, postgresql://, postgres://",
        ],
    ),
    "url with a redis database by name": (
        {"URL": "redis://me:canary@db/market"},
        ["URL = '***': a Redis database is a number, 0 by default"],
    ),
    "url without a host": ({"URL": "redis:///1"}, ["URL = '***': has no host"]),
    "url with a password that is not encoded": (
        {"URL": "redis://me:can/ary@db"},
        [
            "URL = '***': has one of / ? # @ [ ] \\ in its user or password: write %2F, %3F, %23, %40, %5B, %5D, %5C"
        ],
    ),
    "url with a port that is none": (
        {"URL": "redis://canary@db:port/1"},
        ["URL = '***': has no valid host and port: write host:port, or [address]:port for IPv6"],
    ),
    "sentinels without a service": (
        {"URL": "redis+sentinel://db:26379"},
        ["URL = '***': has no service: write redis+sentinel://host:26379,other:26379/SERVICE/0"],
    ),
    "parts that the url says too": (
        {
            "URL": "redis://:canary@db:6380/2",
            "HOST": "db",
            "PORT": "1",
            "DATABASE": "2",
            "PASSWORD": "canary",
        },
        [
            "HOST = 'db': URL says it too; set only one of them",
            "PORT = '1': URL says it too; set only one of them",
            "DATABASE = '2': URL says it too; set only one of them",
            "PASSWORD = '***': URL says it too; set only one of them",
        ],
    ),
    "url of postgres without a database": (
        {"BACKEND": "POSTGRES", "URL": "postgresql://db"},
        ["DATABASE is not set: POSTGRES needs the name of a database"],
    ),
    "retention that is none": (
        {"RETENTION": "some"},
        ["RETENTION = 'some': takes a duration such as 12h or 30d, or a number of records"],
    ),
    "retention in a unit that is none": (
        {"RETENTION": "30days"},
        ["RETENTION = '30days': takes a duration such as 12h or 30d, or a number of records"],
    ),
    "retention where nothing is removed": (
        {"BACKEND": "PARQUET", "RETENTION": "30d"},
        ["RETENTION = '30d': PARQUET keeps everything; only REDIS and REDISSTREAM support it"],
    ),
    "partition of an odd length": (
        {"PARTITION": "fortnight"},
        ["PARTITION = 'fortnight': takes one of none, day, week, month"],
    ),
    "proxy with a password": (
        {"HTTPS_PROXY": "ftp://me:canary@proxy"},
        ["HTTPS_PROXY = 'ftp://***@proxy': takes a URL such as http://proxy.example:3128"],
    ),
    "nothing at all": (
        dict.fromkeys(GOOD, ""),
        [
            "EXCHANGE is not set: the exchange to record: cryptofeed's id, in any case",
            "SYMBOLS is not set: symbols in cryptofeed's naming (BTC-USD), "
            "and patterns: `ALL`, `*-USDT`, `!*-PERP`, `type:spot`",
            "CHANNELS is not set: a channel or a comma-separated list: trades, ticker, l2_book, ...",
            "BACKEND is not set: where records go: REDIS (sorted sets), REDISSTREAM, MONGO, POSTGRES, PARQUET or TTY",
        ],
    ),
    "a typo": (
        {"SYMBOLS": "", "SYMBOL": "BTC-USD"},
        [
            "SYMBOLS is not set: symbols in cryptofeed's naming (BTC-USD), "
            "and patterns: `ALL`, `*-USDT`, `!*-PERP`, `type:spot` (SYMBOL is set: a typo?)",
        ],
    ),
    "patterns that only leave out": (
        {"SYMBOLS": "!*-PERP"},
        ["SYMBOLS = '!*-PERP': only excludes; for everything else write ALL,!*-PERP"],
    ),
    "a type of symbols that there is not": (
        {"SYMBOLS": "type:perpetuals"},
        [
            "SYMBOLS = 'type:perpetuals': 'type:perpetuals' is not a type of symbol; did you mean type:perpetual?"
        ],
    ),
    "a shard that there is not": (
        {"SHARD": "9/8"},
        ["SHARD = '9/8': takes a shard and their number, such as 1/8 to 8/8, 100 at most"],
    ),
    "many at once": (
        {"EXCHANGE": "KRAKN", "PORT": "x", "LOG_LEVEL": "y"},
        [
            "EXCHANGE = 'KRAKN': no such exchange; did you mean KRAKEN?",
            "PORT = 'x': takes a whole number from 1 to 65535",
            "LOG_LEVEL = 'y': takes one of DEBUG, INFO, WARNING, ERROR",
        ],
    ),
}


def collector(environment, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "collector", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def explained(name):
    """What is said of a bad environment."""
    lines = BAD[name][1]
    head = f"collector: {len(lines)} fault{'s' if len(lines) > 1 else ''} in the environment"
    return [head, *(f"  {line}" for line in lines)]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_environment_is_explained(name, monkeypatch, capsys):
    for variable in os.environ:
        monkeypatch.delenv(variable)
    for variable, value in (GOOD | BAD[name][0]).items():
        monkeypatch.setenv(variable, value)
    assert cli.main(["check"]) == 78
    told = capsys.readouterr()
    assert told.err.splitlines() == explained(name)
    assert told.out == ""


def test_a_collector_does_not_start_in_a_bad_environment():
    ended = collector(GOOD | BAD["many at once"][0])
    assert ended.stderr.splitlines() == explained("many at once")
    assert ended.returncode == 78
    assert ended.stdout == ""


def test_a_secret_is_not_shown(tmp_path):
    (tmp_path / "secret").write_text("canary-in-a-file\n")
    ended = collector(GOOD | {"PASSWORD": "canary", "PASSWORD_FILE": str(tmp_path / "secret"), "PORT": "0"})
    assert ended.returncode == 78
    assert "PASSWORD_FILE" in ended.stderr
    assert "canary" not in ended.stderr.replace(str(tmp_path), "")


def test_quotes_around_a_password_are_kept_with_a_warning():
    settings = Settings.read(GOOD | {"PASSWORD": '"canary"'})
    assert settings.password == '"canary"'
    assert settings.warnings == (
        "PASSWORD has quotes around its value, which count; "
        "if not meant, remove them: docker's --env-file keeps them",
    )
    assert not Settings.read(GOOD | {"PASSWORD": "canary", "USER": "me"}).warnings


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        ({"SPOOLDIR": "/x"}, "SPOOLDIR is not a variable of the collector; did you mean SPOOL_DIR?"),
        ({"log-level": "DEBUG"}, "log-level is not a variable of the collector; did you mean LOG_LEVEL?"),
        ({"RETENTON": "1h"}, "RETENTON is not a variable of the collector; did you mean RETENTION?"),
        (
            {"RETENTION": "30"},
            "RETENTION = 30 keeps 30 records of each key; 30d keeps those of 30 days",
        ),
        (
            {"SYMBOLS": "btc/usd"},
            "SYMBOLS: 'btc/usd' is not in cryptofeed's naming; did you mean BTC-USD?",
        ),
        ({"SYMBOLS": "btc-usd"}, "SYMBOLS: 'btc-usd' is not in cryptofeed's naming; did you mean BTC-USD?"),
        (
            {"SPOOL_MAX_BYTES": "1"},
            "SPOOL_MAX_BYTES = 1 has room for little more than the records in transit: while the store is unreachable, "
            "records are dropped almost at once",
        ),
    ],
)
def test_settings_that_are_probably_mistakes_are_warned_about(changed, warning):
    assert Settings.read(GOOD | changed).warnings == (warning,)


@pytest.mark.parametrize(
    "changed",
    [
        {"HTTP_PROXY": "x", "https_proxy": "x", "HOSTNAME": "x", "USERNAME": "x", "SSL_CERT_DIR": "/etc"},
        {"SPOOLDIR": "/x", "SPOOL_DIR": "/y"},
        {"RETENTION": "100000"},
        {"RETENTION": "30d"},
        {"SYMBOLS": "kBONK-USD,*-usd,type:spot,1INCH-USD"},
    ],
)
def test_settings_that_may_be_intended_are_not_warned_about(changed):
    assert not Settings.read(GOOD | changed).warnings


def test_defaults():
    settings = Settings.read(GOOD)
    assert (settings.host, settings.port, settings.snapshot_interval) == ("localhost", 6379, 1000)
    assert settings.candle_interval == "1m"
    assert not settings.snapshot_only


def test_spaces_and_case_are_forgiven():
    settings = Settings.read(
        {
            "EXCHANGE": " coinbase ",
            "SYMBOLS": "BTC-USD , ETH-USD",
            "CHANNELS": "L2BOOK, trades",
            "BACKEND": "redis",
            "SNAPSHOT_ONLY": "T",
        }
    )
    assert settings.exchange == "COINBASE"
    assert settings.symbols == ("BTC-USD", "ETH-USD")
    assert settings.channels == ("l2_book", "trades")
    assert settings.backend == "REDIS"
    assert settings.snapshot_only


def test_the_user_of_a_login_shell_is_not_a_credential():
    assert Settings.read(GOOD | {"USER": "root"}).user is None
    assert Settings.read(GOOD | {"USER": "root", "PASSWORD": "x"}).user == "root"
    assert Settings.read(GOOD | {"USER": "root", "BACKEND": "POSTGRES", "DATABASE": "d"}).user == "root"


def test_a_password_file_may_end_with_a_newline(tmp_path):
    (tmp_path / "secret").write_text("p ass\n")
    assert Settings.read(GOOD | {"PASSWORD_FILE": str(tmp_path / "secret")}).password == "p ass"


def postgres(**changes):
    return Settings.read(GOOD | {"BACKEND": "POSTGRES"} | changes)


def test_a_url_sets_what_its_parts_would():
    settings = postgres(URL="postgresql://me:p%40ss@db:5433/market?sslmode=require")
    told = settings.host, settings.port, settings.user, settings.password, settings.database
    assert told == ("db", 5433, "me", "p@ss", "market")
    assert settings.where == "db:5433"


@pytest.mark.parametrize(
    ("backend", "url", "where", "database"),
    [
        ("REDIS", "redis://db", "db", None),
        ("REDIS", "rediss://[::1]:6390/2?ssl_ca_certs=/ca.pem", "[::1]:6390", "2"),
        ("REDIS", "unix://me:pass@/run/redis.sock?db=3", "/run/redis.sock", "3"),
        ("REDIS", "redis+sentinel://one:1,two:2/main/4", "one:1,two:2", "4"),
        ("MONGO", "mongodb://one:1,two:2/market?replicaSet=rs", "one:1,two:2", "market"),
        ("MONGO", "mongodb+srv://cluster.example/market", "cluster.example", "market"),
        ("POSTGRES", "postgresql:///market?host=/run/postgresql", "/run/postgresql", "market"),
        ("POSTGRES", "postgres://one:1,two:2/market", "one:1,two:2", "market"),
    ],
)
def test_every_kind_of_url(backend, url, where, database):
    settings = Settings.read(GOOD | {"BACKEND": backend, "URL": url})
    assert (settings.where, settings.database) == (where, database)


def test_settings_may_complete_a_url(tmp_path):
    (tmp_path / "password").write_text("pass\n")
    settings = postgres(
        URL="postgresql://me@db", DATABASE="market", PASSWORD_FILE=str(tmp_path / "password"), USER="root"
    )
    assert (settings.user, settings.password, settings.database) == ("me", "pass", "market")


def test_url_and_user_from_files(tmp_path):
    (tmp_path / "url").write_text("redis://db:6380/1\n")
    (tmp_path / "user").write_text("me\n")
    files = {"URL_FILE": str(tmp_path / "url"), "USER_FILE": str(tmp_path / "user"), "USER": "root"}
    settings = Settings.read(GOOD | files)
    assert (settings.where, settings.user) == ("db:6380", "me")


def test_a_proxy_from_a_file(tmp_path):
    file = tmp_path / "proxy"
    file.write_text("http://me:canary@proxy:3128\n")
    given = GOOD | {"HTTPS_PROXY_FILE": str(file)}
    assert Settings.read(given).https_proxy == "http://me:canary@proxy:3128"
    with pytest.raises(SettingsError, match="HTTPS_PROXY is set too; set only one of them"):
        Settings.read(given | {"HTTPS_PROXY": "http://proxy:3128"})
    file.write_text("me:canary@proxy")
    with pytest.raises(SettingsError, match="takes a URL such as") as caught:
        Settings.read(given)
    assert "canary" not in str(caught.value)


def test_a_file_with_a_bad_url_is_named_but_not_quoted(tmp_path):
    (tmp_path / "url").write_text("canary")
    ended = collector(GOOD | {"URL_FILE": str(tmp_path / "url")})
    assert ended.returncode == 78
    assert f"URL_FILE = '{tmp_path / 'url'}': cannot be read: takes a URL" in ended.stderr
    assert "canary" not in ended.stderr


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach postgresql://me:ca%2Fnary@db/market?sslmode=no",
        "password ca/nary, quoted ca%2Fnary",
        "mongodb://other:ca/nary@one,two: no",
        "redis+sentinel://one/x?sentinel_password=ca/nary",
    ],
)
def test_errors_are_masked(text):
    settings = postgres(URL="postgresql://me:ca%2Fnary@db/market?sslmode=no")
    assert "nary" not in settings.masked(text)
    assert "nary" not in repr(settings)


KEYS = """
log: {filename: feedhandler.log, level: WARNING}
uvloop: true
gemini: {key_id: canary-1, key_secret: null, account_name: test}
deribit: {key_id: 8007, key_secret: canary/2==, key_passphrase: ""}
okx: {sub: [{api_token: canary 3}, {api_token: canary4}, {key_id: canary4}]}
"""


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("coinbase:\n  key_id: canary\n key_secret: canary", "is not YAML in line 3"),
        ("coinbase: *canary", "is not YAML in line 1"),
        ("canary \x00", "is not YAML"),
        ("when: 2020-13-45", "is not YAML"),
        ("[" * 5000, "is nested too deeply"),
        ("- canary", "line 1 does not begin a mapping of names to values, such as `coinbase: {key_id: ...}`"),
        ("", "line 1 does not begin a mapping of names to values, such as `coinbase: {key_id: ...}`"),
        (
            "1: canary",
            "line 1 does not begin a mapping of names to values, such as `coinbase: {key_id: ...}`",
        ),
    ],
)
def test_an_invalid_configuration_is_a_fault_of_its_variable(tmp_path, content, fault):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(SettingsError) as raised:
        Settings.read(GOOD | {"CONFIG": str(path)})
    assert str(raised.value) == f"CONFIG = '{path}': {fault}"


def test_api_keys_in_a_configuration_are_masked_everywhere(tmp_path):
    (tmp_path / "config.yaml").write_text(KEYS)
    settings = Settings.read(GOOD | {"CONFIG": str(tmp_path / "config.yaml")})
    assert settings.config
    assert settings.api_keys == ("canary-1", "8007", "canary/2==", "canary 3", "canary4")
    text = 'headers {"X-KEY": canary-1, "sign": canary/2==, canary%2F2%3D%3D}: canary 3 "8007" of test, null'
    shown = settings.masked(text)
    assert not re.search("canary|8007", shown)
    assert "of test, null" in shown


@pytest.mark.parametrize("content", ["", "not a certificate"])
def test_a_file_without_certificates_is_a_fault(tmp_path, content):
    (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(SettingsError, match=r"^SSL_CERT_FILE = .*: holds no certificates \(PEM"):
        Settings.read(GOOD | {"SSL_CERT_FILE": str(tmp_path / "ca.pem")})


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file_of_a_password_is_a_fault(tmp_path, content):
    (tmp_path / "secret").write_text(content)
    with pytest.raises(SettingsError, match=r"^PASSWORD_FILE = .*: cannot be read: it is empty$"):
        Settings.read(GOOD | {"PASSWORD_FILE": str(tmp_path / "secret")})


def test_sizes_go_up_to_terabytes():
    assert Settings.read(GOOD | {"SPOOL_MAX_BYTES": "2TB"}).spool_max_bytes == 2 * 10**12
    assert Settings.read(GOOD | {"SPOOL_MAX_BYTES": "1 TiB"}).spool_max_bytes == 2**40


def test_retention_is_a_time_or_a_count():
    assert Settings.read(GOOD).retention is None
    assert Settings.read(GOOD | {"RETENTION": "2d"}).retention == Retention(172800.0, None)
    assert Settings.read(GOOD | {"RETENTION": "5000"}).retention == Retention(None, 5000)


def test_the_default_name_tells_collectors_of_one_exchange_apart():
    name = Settings.read(GOOD).name
    assert name.startswith("coinbase-")
    assert Settings.read(GOOD | {"CHANNELS": "l2_book,ticker,trades"}).name == name
    assert Settings.read(GOOD | {"SYMBOLS": "BTC-USD"}).name != name
    assert Settings.read(GOOD | {"SHARD": "3/8"}).name == f"{name}-3of8"
    assert Settings.read(GOOD | {"CHANNELS": "trades"}).name != name


@given(st.dictionaries(st.sampled_from([each.name for each in VARIABLES]), st.text(max_size=20)))
def test_any_environment_gives_settings_or_faults(environment):
    try:
        settings = Settings.read(environment)
    except SettingsError as error:
        assert error.faults
        assert all(str(fault) for fault in error.faults)
    else:
        assert settings.name


def test_help_names_every_variable():
    ended = collector(dict(os.environ), "--help")
    assert ended.returncode == 0
    assert all(variable.name in ended.stdout for variable in VARIABLES)


def test_check_makes_no_connection_and_says_so():
    ended = collector(GOOD, "check")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "the settings are valid" in ended.stdout
