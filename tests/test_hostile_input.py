"""Whatever is in a fleet file or in the environment: a fault with its place, soon, and never a traceback.

These are inputs that once were not borne; the folder fuzz draws others.
"""

import contextlib
import os
import stat
import time

import pytest

from collector import files
from collector.settings import LARGEST_FILE, VARIABLES, Settings, SettingsError
from launcher import cli
from launcher.fleet import load
from launcher.render import FORMATS
from launcher.yaml_source import read as read_yaml

SECONDS = 2.0  # of CPU, for one input; the longest takes a tenth of that
NO_UTF8 = os.fsdecode(b"\xff\xfe")


def in_time(work):
    began = time.thread_time()
    result = work()
    assert time.thread_time() - began < SECONDS
    return result


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def faults(capsys, *arguments):
    """What is said of a wrong file; it is said within seconds, and the exit status is that of wrong input."""
    status = in_time(lambda: cli.main(list(map(str, arguments))))
    assert status == 2
    return capsys.readouterr().err


def test_aliases_that_double_are_merged_once(fleet, capsys):
    def doubled(value):
        pairs = (f"x-{n}: &a{n} {{l: *a{n - 1}, r: *a{n - 1}}}" for n in range(1, 40))
        return "\n".join([f"x-0: &a0 {{k: {value}}}", *pairs, "fleet: desk", "collectors: [*a39]"])

    said = faults(capsys, "validate", fleet("a.yaml", doubled(1)), fleet("b.yaml", doubled(2)))
    assert "a collector has no key l" in said


def test_aliases_of_aliases_of_aliases_are_nested_too_deeply(fleet, capsys):
    links = ["&a0 {k: 1}", *(f"&a{n} {{k: *a{n - 1}}}" for n in range(1, 2000))]
    chain = f"x-a: [{', '.join(links)}]\nx-b: *a1999\nfleet: desk\ncollectors: []\n"
    said = faults(capsys, "validate", fleet("a.yaml", chain), fleet("b.yaml", chain))
    assert "a.yaml:1:1: lists and mappings are nested too deeply" in said


def test_a_variable_that_is_not_text_is_a_fault_at_its_reference(fleet, capsys, monkeypatch):
    monkeypatch.setenv("BAD", NO_UTF8)
    said = faults(capsys, "validate", fleet("a.yaml", 'fleet: desk\ncollectors: [{exchange: "${BAD}"}]'))
    assert "a.yaml:2:25: the environment variable BAD is not UTF-8 text" in said
    with pytest.raises(SettingsError, match=r"SYMBOLS = .*: it is not UTF-8 text"):
        Settings.read({"SYMBOLS": NO_UTF8})
    with pytest.raises(SettingsError) as found:
        Settings.read({"CHANNELS": f"u:{SECRET}@h"})
    assert SECRET not in str(found.value)
    candles = {"EXCHANGE": "COINBASE", "CHANNELS": "candles", "CANDLE_INTERVAL": NO_UTF8}
    with pytest.raises(SettingsError, match=r"CANDLE_INTERVAL = .*: it is not UTF-8 text"):
        Settings.read(candles)


FLEET = """
fleet: desk
stores: {r: {backend: REDISSTREAM, host: redis}}
collectors: [{exchange: COINBASE, symbols: BTC-USD, channels: trades, %s}]
"""


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("https_proxy: 'http://proxy:99999'", "has no valid host and port"),
        (
            f"spool_max_bytes: {'9' * 400}",
            "takes a size from 1 byte to 1024TiB",
        ),
        (f"retention: {'9' * 20}d", "takes a duration from 1ms to 36500d"),
        (f"retention: {'9' * 20}", "takes a number of records from 1 to 10^15"),
        (f"spool_keep: {'9' * 20}d", "from 1ms to 36500d"),
        (f"database: {'9' * 5000}", "a Redis database is a number"),
        (f"max_depth: {'9' * 5000}", "takes a whole number from 0 to 100000"),
        (f"limits: {{memory: {'9' * 400}}}", "takes a size"),
    ],
)
def test_numbers_too_large_to_compute_with_are_faults(setting, says, fleet, capsys):
    assert says in faults(capsys, "render", "--format", "kubernetes", fleet("a.yaml", FLEET % setting))


@pytest.mark.parametrize(
    "content", ['a: !!int ""', "a: !!float ''", "a: !!timestamp x", "a: &a {<<: [*a]}", "[" * 5000]
)
def test_a_configuration_is_a_fault_whatever_it_holds(content, tmp_path):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(SettingsError, match=r"CONFIG = .*(is not YAML|has a merge key|is nested too deeply)"):
        in_time(lambda: Settings.read({"CONFIG": str(tmp_path / "config.yaml")}))


def test_aliases_of_a_configuration_may_be_circular_doubling_or_many(tmp_path):
    doubled = "".join(f"d{n}: &d{n} [*d{n - 1}, *d{n - 1}]\n" for n in range(1, 60))
    chain = "".join(f"c{n}: &c{n} {{k: *c{n - 1}}}\n" for n in range(1, 3000))
    text = f"a: &a {{key_secret: hunter2, again: *a}}\nd0: &d0 {{x: 1}}\n{doubled}c0: &c0 {{x: 1}}\n{chain}"
    (tmp_path / "config.yaml").write_text(text)
    variables = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "TTY"}
    settings = in_time(lambda: Settings.read(variables | {"CONFIG": str(tmp_path / "config.yaml")}))
    assert "hunter2" in settings.secrets


def test_an_endless_or_blocking_file_is_a_fault(fleet, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    os.mkfifo(tmp_path / "pipe")
    assert "pipe: cannot be read: it does not end within" in faults(capsys, "validate", tmp_path / "pipe")
    assert "/dev/zero: cannot be read: it has more than 8,388,608 bytes" in faults(
        capsys, "validate", "/dev/zero"
    )
    for name in ("CONFIG", "PASSWORD_FILE", "SSL_CERT_FILE", "URL_FILE"):
        for path in ("/dev/zero", str(tmp_path / "pipe")):
            with pytest.raises(SettingsError, match=f"{name} = '{path}': is not a regular file"):
                Settings.read({name: path})
        (tmp_path / "large").write_bytes(bytes(LARGEST_FILE + 1))
        with pytest.raises(SettingsError, match=f"{name} = .* it has more than 1,048,576 bytes"):
            Settings.read({name: str(tmp_path / "large")})


def test_a_fleet_file_may_come_through_a_pipe(fleet, capsys):
    reading, writing = os.pipe()
    os.write(writing, (FLEET % "max_depth: 1").encode())
    os.close(writing)
    assert stat.S_ISFIFO(os.fstat(reading).st_mode)
    assert cli.main(["validate", f"/dev/fd/{reading}"]) == 0
    os.close(reading)


@pytest.mark.parametrize("name", [each.name for each in VARIABLES])
@pytest.mark.parametrize("sign", [":", "://", "@", ":@", "'", "[", "a"])
def test_a_long_value_is_judged_soon(name, sign):
    with contextlib.suppress(SettingsError):
        in_time(lambda: Settings.read({name: sign * (3000 // len(sign))}))


@pytest.mark.parametrize("sign", ["\u202e", "\x1b", "\x7f", "\u2028"])
def test_a_host_has_no_control_characters(sign):
    with pytest.raises(SettingsError, match=r"HOST = .*(has a control character|host name)"):
        Settings.read({"HOST": f"db{sign}x"})


SECRET = "hunter2"


@pytest.mark.parametrize(
    "line",
    [
        f"stores: {{db: {{backend: POSTGRES, postgresql://u:{SECRET}@h/d}}}}",
        f"stores: {{'postgresql://u:{SECRET}@h/d': {{backend: POSTGRES}}}}",
        f"stores: {{db: {{backend: REDIS, password: *{SECRET}}}}}",
        f"stores: {{db: {{backend: REDIS, password: !{SECRET} x}}}}",
        f"stores: {{db: {{backend: REDIS, password: '${{{SECRET}-x}}'}}}}",
        f"stores: {{db: {{backend: REDIS, password: ['{SECRET}']}}}}",
        f"stores: {{db: {{backend: REDIS, password: {{a: '{SECRET}'}}}}}}",
        f"stores: {{db: {{backend: REDIS, url: 'http://u:{SECRET}@h'}}}}",
        f"stores: {{db: {{backend: REDIS, host: 'u:{SECRET}@h'}}}}",
        f"stores: {{db: {{backend: REDIS, https_proxy: 'ftp://u:{SECRET}@h'}}}}",
        f"stores: {{db: {{backend: REDIS, https_proxy: 'http://u:{SECRET}'}}}}",
        f"stores: {{db: {{backend: REDIS, https_proxy: 'http://u:{SECRET} x@h'}}}}",
        f"stores: {{db: {{backend: REDIS, pasword: '{SECRET}'}}}}",
        f"stores: {{db: {{backend: REDIS, 'u:{SECRET}@h': x}}}}",
        f"stores: 'redis://u:{SECRET}@h'",
        f"store: 'redis://u:{SECRET}@h'",
        f"fleet: 'redis://u:{SECRET}@h'",
        f"image: 'u:{SECRET}@h'",
    ],
)
def test_no_fault_quotes_what_may_be_a_secret(line, fleet, capsys):
    rest = FLEET.partition("collectors")[2] % f"store: 'redis://u:{SECRET}@h'"
    said = faults(capsys, "validate", fleet("a.yaml", f"{line}\ncollectors{rest}"))
    assert "a.yaml:1:" in said
    assert SECRET not in said


@pytest.mark.parametrize("form", FORMATS)
def test_a_proxy_password_is_secret_whatever_its_characters(form, fleet, capsys):
    password = f"a'{SECRET}\"b"
    path = fleet("a.yaml", FLEET % f"https_proxy: 'http://me:{password.replace("'", "''")}@proxy:3128'")
    contents = FORMATS[form](load([path], {}))
    secret = [name for name, text in contents.items() if SECRET in str(text)]
    assert all("secrets/" in name or name.endswith(".env") for name in secret), secret  # for `docker run`
    assert cli.main(["explain", "https_proxy", str(path)]) == 0
    assert "http://***@proxy:3128" in capsys.readouterr().out


def test_the_tree_of_a_file_keeps_no_broken_text():
    noted = []
    assert read_yaml('a: "\\ud800"', "f", {}, noted) is None or noted
