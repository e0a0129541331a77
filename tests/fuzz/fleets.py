"""Fleet files: taken and rendered so that every value stays where it belongs, or faults with their places."""

import os
import re
import tempfile
from pathlib import Path
from random import Random

import yaml
from fuzz import mutation
from msgspec.structs import replace

from launcher.fleet import FleetError, load
from launcher.render import FORMATS, RenderError
from launcher.spec import CollectorSpec, FleetSpec

ROOT = Path(__file__).parents[2]
NO_UTF8 = os.fsdecode(b"\xff\xfe")
#: Part of every password below; no fault repeats it.
SECRET = "hunter2"
ENVIRONMENT = {"REDIS_PASSWORD": SECRET, "X": "x'\"\n: y", "BAD": NO_UTF8}
SOUND = [path.read_bytes() for path in sorted((ROOT / "deployments").glob("*.yaml"))]
SOUND += [
    b"""\
fleet: desk
x-a: &a {exchange: COINBASE, symbols: [BTC-USD, ETH-USD], channels: [trades, l2_book]}
stores:
  r: {backend: REDISSTREAM, url: "redis://u:hunter2@h:6379/0"}
  p: {backend: POSTGRES, host: h, database: d, user: u, password: hunter2}
collectors:
  - {<<: *a, store: r, https_proxy: "http://me:hunter2@proxy:3128", retention: 7d}
  - {<<: *a, exchange: KRAKEN, channels: [candles], store: p, limits: {memory: 512MiB, cpus: 1}, user: me}
  - {exchange: BINANCE, symbols: "*-USDT", channels: trades, store: r, shards: 2, snapshot_interval: 10}
""",
    b"""\
fleet: desk
image: "registry/x:1"
network: {name: n, external: true}
stores: {m: {backend: MONGO, host: m, database: d}, q: {backend: PARQUET, path: data}}
collectors:
  - {exchange: OKX, symbols: [BTC-USDT-PERP], channels: [funding], store: m, log_level: DEBUG}
  - {exchange: BYBIT, symbols: [BTC-USDT], channels: [l2_book], store: q, max_depth: 10, profiles: [x]}
""",
]
WRONG = [path.read_bytes() for path in sorted((ROOT / "tests/launcher/bad_fleets").glob("*.yaml"))]
PIECES = [
    *(b"*a", b"&a ", b"&a [*a, *a]", b"<<: *a\n", b"<<: [*a, *a]", b"!!int ''", b"!!binary x", b"!x ", b"? "),
    *(b"${X}", b"${BAD}", b"${", b"${X:-", b"$${", b"}", b"{", b"[" * 3000, b"- " * 3000, b"{a: " * 1500),
    *(b"9" * 5000, b"-1", b"1e999", b".inf", b"9" * 20 + b"d", b"9" * 400 + b"GiB", b"0x10", b"~", b"\0"),
    *(b"\x1b[2J", b"\xff", b"\xe2\x80\xa8", b'"\\ud800"', b"'", b'"', b"\t", b"\r\n", b"|\n", b"---\n"),
    *(b"%YAML 1.1\n---\n", b"...\n", b"http://u:p'q@proxy:99999", b"redis://u:s/@h/0", b"://", b"@", b"ALL"),
    *(b"a" * 30000, b":" * 3000, b"!ALL", b"limits: {memory: 1TiB}\n", b"shards: 9999\n", b"manage: true\n"),
    *(b"simulator: {rate: 1}\n", b"x-a: {b: c}\n", b'"a\\nb: c"', b'"\\n[Service]\\nExecStart=x"'),
    *(b"'{{ x }}'", b"'%i %% \\x0a'", b'"a\\", PrivilegedX=\\"b"', b"' a'", b"'a '", b"'#'", b"'- b'"),
    b"$(id)",
]
PIECES += sorted(
    {word for seed in SOUND + WRONG for word in seed.replace(b":", b" ").split() if word.isalnum()}
)
_UNIT_LINE = re.compile(r"(\[(Unit|Container|Service|Install|Network|Volume)\]|[A-Z][A-Za-z]*=.*|#.*|)")


class Fleets:
    """One or two fleet files, the second over the first, that are loaded and rendered for everything."""

    name, share = "fleets", 0.15

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")

    def draw(self, draw: Random) -> object:
        return [self._text(draw) for _ in range(draw.choice((1, 1, 1, 1, 2)))]

    def _text(self, draw: Random) -> bytes:
        text = bytearray(draw.choice(draw.choice([SOUND, SOUND, SOUND, WRONG])))
        if draw.random() < 0.5:
            return mutation.of_bytes(bytes(text), draw, PIECES)
        for _ in range(draw.choice((1, 1, 2))):  # another value
            values = [
                found.span() for found in re.finditer(rb"(?<=: )[^,\n{}\[\]]+|(?<=- )[^,\n{}\[\]:]+", text)
            ]
            if values:
                start, end = draw.choice(values)
                text[start:end] = draw.choice(PIECES)
        return bytes(text)

    def attempt(self, case: list[bytes]) -> bool:
        folder = Path(self._folder.name)
        paths = [folder / name for name, _ in zip(("fleet.yaml", "over.yaml"), case, strict=False)]
        for path, text in zip(paths, case, strict=True):
            path.write_bytes(text)
        try:
            fleet = load(paths, ENVIRONMENT)
        except FleetError as error:
            assert error.faults
            assert f"{SECRET}@" not in str(error)
            for line in str(error).split("\n"):
                assert line.isprintable(), line
                assert any(line.startswith(f"{path}") for path in paths), line
            return False
        for form, render in FORMATS.items():
            try:
                contents = render(fleet)
            except RenderError as error:
                assert SECRET not in str(error)
            else:
                check(form, contents, fleet)
        return True


def check(form: str, contents, fleet: FleetSpec) -> None:
    """See that what is rendered says what the fleet says, and nothing else."""
    everybody = [*fleet.collectors, *fleet.stores, *([fleet.simulator] if fleet.simulator else [])]
    named = {each.name: each for each in everybody}
    openly = SECRET in f"{fleet.name} {fleet.network} {[*map(_without_secrets, everybody)]}"
    for name, content in contents.items():
        assert "/" not in name.removeprefix("secrets/"), name
        if name.startswith("secrets/"):
            continue
        text = content.decode() if isinstance(content, bytes) else content
        if name.endswith(".env"):
            lines = dict(line.partition("=")[::2] for line in text.split("\n") if line and line[0] != "#")
            sharing = lines.get("REQUESTS_SHARED_BY", "1")  # counted where the file does not say it
            assert sharing.isdecimal(), name
            said = {"REQUESTS_SHARED_BY": sharing} | named[name[:-4]].container.environment
            assert lines.items() <= said.items(), name
            continue
        if name != "secrets.yaml":
            assert openly or SECRET not in text, name
        if form == "quadlet":
            for line in text.split("\n"):
                assert _UNIT_LINE.fullmatch(line.rstrip("\\")) or line.startswith("  "), line
        elif name.endswith(".yaml"):
            _check_yaml(form, list(yaml.load_all(text, yaml.CSafeLoader)), named)


def _without_secrets(spec: CollectorSpec) -> CollectorSpec:
    """Return ``spec`` without its secrets: what a file says elsewhere, in the name of a database, is none."""
    environment = {
        name: value for name, value in spec.container.environment.items() if name not in spec.secrets
    }
    return replace(spec, container=replace(spec.container, environment=environment))


def _check_yaml(form: str, documents: list, named) -> None:
    if form == "kubernetes":
        assert all(isinstance(each, dict) for each in documents if each is not None)
        return
    (document,) = documents
    assert set(document["services"]) <= set(named)
    for name, service in document["services"].items():
        environment = service.get("environment") or {}
        for variable, value in named[name].container.environment.items():
            if variable in environment and variable not in named[name].secrets:
                assert environment[variable].replace("$$", "$") == value, variable
