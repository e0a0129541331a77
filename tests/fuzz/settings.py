"""What a collector is started with: environments, and files that they name."""

import os
import re
import tempfile
from pathlib import Path
from random import Random

from fuzz import mutation

from collector.settings import VARIABLES, Settings, SettingsError

SECRET = "hunter2"
NO_UTF8 = os.fsdecode(b"\xff\xfe")
WORDS = f"""
x -1 1e999 0 ٣ ² 0.0000001s 1m 1h 30d 2GiB 1/2 true day json ALL !ALL * ! [ type:x 'x' a,,b BTC-USD trades
candles COINBASE KRAKEN REDIS MONGO POSTGRES PARQUET redis://u:p@h/0 mongodb://u:p@h/d?w=0 postgresql://@/
redis://[::1 unix:// redis+sentinel://h/ http://u:p'q@h:1 http://h:99999 /dev/zero /dev/null / /nowhere
redis://u:{SECRET}@h/0 postgresql://u:{SECRET}@h:x/d http://u:{SECRET}@h:0 u:{SECRET}@h mongodb://u:{SECRET}:@h
redis://:{SECRET}@h/0 http://u:{SECRET}
"""
VALUES = [
    *(*WORDS.split(), "", " ", "9" * 5000, "9" * 20 + "d", "http://h:" + "9" * 5000, ":" * 3000, "a" * 30000),
]
VALUES += [NO_UTF8, "\x1b[2J", "\u2028", "a\nb", "\u202e", "a\x7fb"]
SOUND = {
    "EXCHANGE": ["KRAKEN", "okx", "BITMEX"],
    "SYMBOLS": ["ETH-USD", "BTC-USD, ETH-USD", "*-USD,!X*", "type:spot", "ALL"],
    "CHANNELS": ["l2_book", "ticker,candles", "l2book"],
    "BACKEND": ["REDISSTREAM", "PARQUET", "TTY", "POSTGRES", "MONGO"],
    "URL": [
        f"redis://u:{SECRET}@h/0",
        f"rediss://:{SECRET}@[::1]:6380/1",
        f"unix:///run/r?password={SECRET}",
    ],
    "SHARD": ["1/2", "3/8"],
    "HOST": ["db", "::1", "db.example"],
    "PORT": ["1", "65535"],
    "DATABASE": ["3", "d"],
    "SNAPSHOT_ONLY": ["yes", "T", "0"],
    "NAME": ["a", "a.b-c_d"],
    "RETENTION": ["30d", "1000000"],
    "HTTPS_PROXY": [f"http://u:{SECRET}@proxy:3128", "http://[::1]:1"],
    "ENDPOINT": ["eea", "websocket=wss://stream.example:9443", "rest=https://[::1]/v3"],
    "LOG_FORMAT": ["json"],
    "SPOOL_MAX_BYTES": ["1GiB", "1"],
    "SYMBOLS_REFRESH": ["5m"],
}
BASE = {"EXCHANGE": "COINBASE", "SYMBOLS": "BTC-USD", "CHANNELS": "trades", "BACKEND": "REDIS"}
NAMES = [variable.name for variable in VARIABLES]


class Environments:
    """A sound environment, with one to five variables that are not as they were."""

    name, share = "environments", 0.15

    def draw(self, draw: Random) -> object:
        changed = {name: draw.choice(SOUND[name]) for name in draw.sample(list(SOUND), draw.randint(0, 4))}
        for _ in range(draw.choice((0, 1, 1, 2, 4))):
            value = draw.choice(VALUES)
            if draw.random() < 0.2:
                value = mutation.of_bytes(value[:200].encode(errors="surrogateescape"), draw)[:3000].decode(
                    errors="surrogateescape"
                )
            changed[draw.choice(NAMES)] = value.replace("\0", "")  # which no environment can have
        if draw.random() < 0.2:
            changed["PASSWORD"] = SECRET
        return BASE | changed

    def attempt(self, case: dict[str, str]) -> bool:
        try:
            settings = Settings.read(case)
        except SettingsError as error:
            assert error.faults
            for fault in error.faults:
                assert str(fault).isprintable(), fault
                if _hides(fault.variable, case):
                    assert SECRET not in str(fault), fault
            return False
        assert settings.name
        assert settings.where.isprintable()
        assert SECRET not in settings.where
        assert SECRET not in settings.masked(f"no {settings.url.text if settings.url else ''}")
        return True


def _hides(variable: str, environment: dict[str, str]) -> bool:
    """Return whether every secret in a variable can be told to be one: it stands before an @."""
    value = environment.get(variable, "")
    others = re.sub(rf":{SECRET}\S*@", "", value)
    return variable == "PASSWORD" or (others != value and SECRET not in others)


CONFIGURATIONS = [
    f"coinbase:\n  key_id: abc\n  key_secret: '{SECRET}'\n".encode(),
    f"log: {{level: WARNING}}\nbinance: &b {{key_id: a, key_secret: {SECRET}}}\nkraken: *b\n".encode(),
    f"bitmex: {{key_id: !!str 12, key_secret: |\n  {SECRET}\n  , key_passphrase: '{SECRET}'}}\n".encode(),
]
PIECES = [
    *(b'!!int ""', b"!!float x", b"!!timestamp x", b"&a {<<: [*a]}", b"[" * 3000, b"{a: " * 1500, b"*a"),
    b"<<: ",
    *(b"!!python/object/apply:os.system [id]", b"!!binary x", b"? ", b"- ", b"\0", b"\xff", b"\t"),
    b"9" * 5000,
    *(b"2026-99-99", b"0x", b".inf", b"~", b"---\n", b"...\n", b"%YAML 9\n", b"'", b'"', b'"\\ud800"'),
    b": ",
    *(b"!!set {a, b}", b"!!omap [a: b]", b"!!pairs [a: b]", b"a: a: a", b"x" * 30_000, b"12:30:45"),
    b"1_000",
]


class Configurations:
    """The file that CONFIG names: YAML with an exchange's keys."""

    name, share = "configurations", 0.05

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fuzz-")

    def draw(self, draw: Random) -> object:
        return mutation.of_bytes(draw.choice(CONFIGURATIONS), draw, PIECES)

    def attempt(self, case: bytes) -> bool:
        path = Path(self._folder.name) / "config.yaml"
        path.write_bytes(case)
        try:
            Settings.read(BASE | {"CONFIG": str(path)})
        except SettingsError as error:
            for fault in error.faults:
                assert str(fault).isprintable(), fault
                assert SECRET not in str(fault), fault
            return False
        return True
