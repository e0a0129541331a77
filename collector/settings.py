"""The environment contract: variables -> Settings. It lives here and nowhere else.

``VARIABLES`` is the contract as data: the docs, ``collector --help`` and the launcher are made from it.
``Settings.read`` turns an environment into typed settings, or raises ``SettingsError`` with all faults at
once. Nothing here touches the network or imports cryptofeed.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from collector import api_keys, catalog, urls
from collector.endpoints import Endpoint
from collector.files import read_bounded
from collector.masking import masked
from collector.printable import LONGEST_ERROR, printable, shortened
from collector.shards import Shard
from collector.store_url import SCHEMES, StoreUrl
from collector.symbol_patterns import Selection, is_plain, spelling, type_by_form
from collector.urls import ProxyUrl, quoted

#: Our backends, with the port that each listens on (None: it has none).
BACKENDS: dict[str, int | None] = {
    "REDIS": 6379,
    "REDISSTREAM": 6379,
    "MONGO": 27017,
    "POSTGRES": 5432,
    "PARQUET": None,
    "TTY": None,
}

#: Backends of the original cryptostore, versions 1 and 2, that do not exist here.
FORMER_BACKENDS = ("TCP", "UDP", "UDS", "INFLUX", "QUEST", "ELASTIC", "ARCTIC", "KAFKA")

TRUE = ("true", "t", "1", "yes")
FALSE = ("false", "f", "0", "no")
SIZES = {"": 1, "b": 1} | {"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
SIZES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
#: Most bytes of a file that a variable names.
LARGEST_FILE = 2**20
#: Bytes: more than any disk has, and small enough for every engine's arithmetic.
LARGEST_SIZE = 2**50
#: Seconds: a hundred years, which date arithmetic can still handle.
SHORTEST_TIME, LONGEST_TIME = 0.001, 36_500 * 86_400.0
MOST_RECORDS = 10**15
TIMES = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Fault(msgspec.Struct, frozen=True):
    """One fault in the environment. ``value`` is what was given, but never a secret."""

    variable: str
    value: str | None
    message: str

    def __str__(self) -> str:
        given = "is not set" if self.value is None else f"= {self.value!r}"
        return printable(f"{self.variable} {given}: {urls.masked(self.message)}")


class SettingsError(Exception):
    """The environment is wrong; ``faults`` lists everything that is."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(map(str, self.faults)))


class Retention(msgspec.Struct, frozen=True):
    """What is kept of a key: the records of the last ``seconds``, or ``records`` of them; one is None."""

    seconds: float | None
    records: int | None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One collector's settings. Durations are in seconds, sizes in bytes.

    With ``url``, ``host`` and ``port`` are those of its first server (``host`` may be a socket's path);
    ``database``, ``user`` and ``password`` are set whether they came by URL or separately. ``symbols`` may be
    patterns; ``selection`` evaluates them. ``endpoint`` has addresses that replace the exchange's own, by
    name. ``api_keys`` are those in the file ``config``. ``warnings`` says what is allowed but probably a
    mistake.
    """

    exchange: str
    symbols: tuple[str, ...]
    selection: Selection
    symbols_refresh: float
    shard: Shard | None
    requests_shared_by: int
    channels: tuple[str, ...]
    backend: str
    config: Path | None
    api_keys: tuple[str, ...]
    endpoint: Mapping[str, str]
    snapshot_only: bool
    snapshot_interval: int
    max_depth: int
    candle_interval: str
    url: StoreUrl | None
    host: str
    port: int | None
    database: str | None
    user: str | None
    password: str | None
    create_tables: bool
    partition: str
    retention: Retention | None
    parquet_dir: Path
    name: str
    allow_overlap: bool
    spool_dir: Path
    spool_max_bytes: int
    spool_keep: float
    spool_sync: float
    report_interval: float
    log_level: str
    log_format: str
    https_proxy: str | None
    ssl_cert_file: Path | None
    warnings: tuple[str, ...]

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """Return the settings that ``environment`` asks for. Raises SettingsError with all faults."""
        return _Reader(environment).settings()

    @property
    def home(self) -> Path:
        """The folder for this collector's spool and status, below SPOOL_DIR."""
        return self.spool_dir / self.name

    def takes(self, symbol: str) -> bool:
        """Return whether a symbol, selected or not, belongs to this shard."""
        return self.shard is None or self.shard.takes(symbol)

    def wants(self, symbol: str) -> bool:
        """Return whether a symbol is this collector's, judging by its form; the exchange may not list it."""
        return self.takes(symbol) and self.selection.wants(symbol, type_by_form(symbol))

    def records(self, pair: tuple[str, str]) -> bool:
        """Return whether a channel of a symbol is this collector's to record."""
        channel, symbol = pair
        return channel in self.channels and self.wants(symbol)

    @property
    def where(self) -> str:
        """The store's place, for messages: host and port, or a path."""
        return self.url.where if self.url else f"{self.host}:{self.port}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no text may show."""
        proxy = ProxyUrl.parse(self.https_proxy).password if self.https_proxy else None
        url = self.url.text if self.url else None
        return tuple(secret for secret in (url, self.password, proxy, *self.api_keys) if secret)

    def masked(self, text: str) -> str:
        """Return ``text``, such as a library's error, without secrets, and not too long."""
        shown = printable(masked(text, self.secrets))
        return shortened(shown, LONGEST_ERROR, of=len(text))

    def __repr__(self) -> str:
        return f"Settings({self.name})"  # a dump of all fields would reveal secrets


class Whole(msgspec.Struct, frozen=True):
    """Reads a whole number within bounds."""

    least: int
    most: int

    def __call__(self, text: str) -> int:
        """Return the number. Raises ValueError."""
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not self.least <= int(text) <= self.most:
            raise ValueError(f"takes a whole number from {self.least} to {self.most}")
        return int(text)


class OneOf(msgspec.Struct, frozen=True):
    """Reads one of a few words, in any case."""

    values: tuple[str, ...]

    def __call__(self, text: str) -> str:
        """Return the word in its own case. Raises ValueError."""
        for value in self.values:
            if text.lower() == value.lower():
                return value
        near = catalog.nearest(text, self.values)
        raise ValueError(
            f"takes one of {', '.join(self.values)}{f'; did you mean {near[0]}?' if near else ''}"
        )


class Matching(msgspec.Struct, frozen=True):
    """Reads text that a pattern matches as a whole; ``taken`` describes in words what does."""

    pattern: str
    taken: str

    def __call__(self, text: str) -> str:
        """Return the text. Raises ValueError."""
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"takes {self.taken}")
        return text


def boolean(text: str) -> bool:
    """Read a yes or no. Raises ValueError."""
    if text.lower() in TRUE:
        return True
    if text.lower() in FALSE:
        return False
    raise ValueError("takes true or false (also t, f, 1, 0, yes, no)")


def size(text: str) -> int:
    """Read a size; bytes. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+)\s*([a-z]*)", text.lower())
    if not match or match[2] not in SIZES:
        raise ValueError("takes a size such as 2GiB, 512MB or a number of bytes")
    if not 0 < float(match[1]) * SIZES[match[2]] <= LARGEST_SIZE:
        raise ValueError("takes a size from 1 byte to 1024TiB")
    return int(match[1].lstrip("0")) * SIZES[match[2]]


def duration(text: str) -> float:
    """Read a duration; seconds. Raises ValueError."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", text.lower())
    if not match or match[2] not in TIMES:
        raise ValueError("takes a duration such as 500ms, 10s, 5m, 1h or 7d (a bare number is seconds)")
    if not SHORTEST_TIME <= float(match[1]) * TIMES[match[2]] <= LONGEST_TIME:
        raise ValueError("takes a duration from 1ms to 36500d")
    return float(match[1]) * TIMES[match[2]]


def retention(text: str) -> Retention:
    """Read how much is kept: a duration, or a count. Raises ValueError."""
    if re.fullmatch(r"[0-9]+", text):
        if not 0 < float(text) <= MOST_RECORDS:
            raise ValueError("takes a number of records from 1 to 10^15, or a duration such as 12h or 30d")
        return Retention(seconds=None, records=int(text.lstrip("0")))
    unit = text.lstrip("0123456789.").strip().lower()
    if not unit or unit == text.lower() or unit not in TIMES:
        raise ValueError("takes a duration such as 12h or 30d, or a number of records")
    return Retention(seconds=duration(text), records=None)


def listed(text: str) -> tuple[str, ...]:
    """Read a comma-separated list. Raises ValueError."""
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise ValueError("takes one value or a comma-separated list without empty items")
    return tuple(dict.fromkeys(items))


def symbols(text: str) -> tuple[str, ...]:
    """Read a list of symbols and patterns. Raises ValueError."""
    items = tuple(dict.fromkeys(spelling(item) for item in listed(text)))
    for item in items:
        if re.search(r"\s", item):
            raise ValueError(
                f"{item!r} contains a space; put commas between symbols: {','.join(item.split())}"
            )
    Selection.parse(items)
    return items


def host(text: str) -> str:
    """Read the name or address of a machine, or the path of a socket. Raises ValueError."""
    if not text.startswith("/") and re.search(r"[/\\@\s]", text):
        raise ValueError("takes a host name or address; a whole URL goes into URL")
    if re.fullmatch(r"[^:/,]+:[0-9]+", text):
        raise ValueError("takes a host name or address; its port goes into PORT")
    if not text.isprintable():
        raise ValueError("takes a host name or address, without control characters")
    return text


def proxy(text: str) -> str:
    """Read the URL of a proxy. Raises ValueError."""
    return ProxyUrl.parse(text).text


def endpoint(text: str) -> Endpoint:
    """Read a region's name, or addresses by name. Raises ValueError."""
    return Endpoint.parse(text)


def existing_file(text: str) -> Path:
    """Read the path of an existing file. Raises ValueError."""
    path = Path(text)
    try:
        there = path.is_file()
    except OSError as error:  # no access to a folder, a name that is too long
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if not there:
        raise ValueError("is not a regular file" if path.exists() else "there is no such file")
    return path


def _read_api_keys(path: Path) -> tuple[str, ...]:
    return api_keys.read(read_bounded(path, LARGEST_FILE))


def check_authorities(path: Path) -> None:
    """Raise ValueError if a file contains no certificates."""
    import ssl  # noqa: PLC0415 - slow; needed only with such a file

    try:
        read_bounded(path, LARGEST_FILE)
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise ValueError("holds no certificates (PEM: -----BEGIN CERTIFICATE-----)") from None


def exchange(text: str) -> str:
    """Read an exchange's name. Raises ValueError."""
    name = text.upper()
    known = catalog.exchanges().get(name)
    if known and known.issue:
        raise ValueError(f"{known.issue}; choose from {', '.join(catalog.usable())}")
    if known:
        return name
    near = catalog.nearest(name, catalog.exchanges())
    hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(catalog.usable())}"
    raise ValueError(f"no such exchange; {hint}")


def backend(text: str) -> str:
    """Read a backend's name. Raises ValueError."""
    name = text.upper()
    if name in BACKENDS:
        return name
    there = f"choose from {', '.join(BACKENDS)}"
    if name in FORMER_BACKENDS:
        raise ValueError(f"a backend of the original cryptostore, which this one does not have; {there}")
    near = catalog.nearest(name, BACKENDS)
    raise ValueError(f"no such backend; {f'did you mean {near[0]}? ' if near else ''}{there}")


class Variable(msgspec.Struct, frozen=True):
    """One variable of the contract: how its text is read, its default (as text) and what it means."""

    name: str
    parse: Callable[[str], Any]
    meaning: str
    default: str | None = None
    required: bool = False
    secret: bool = False


VARIABLES: tuple[Variable, ...] = (
    Variable("EXCHANGE", exchange, "the exchange to record: cryptofeed's id, in any case", required=True),
    Variable(
        "SYMBOLS",
        symbols,
        "symbols in cryptofeed's naming (BTC-USD), and patterns: `ALL`, `*-USDT`, `!*-PERP`, `type:spot`",
        required=True,
    ),
    Variable(
        "SYMBOLS_REFRESH",
        duration,
        "how often to read the exchange's list of symbols, to add new ones and drop delisted ones",
        "1h",
    ),
    Variable(
        "SHARD",
        Shard.parse,
        "the collector's share of the symbols: 3/8 is the third of eight shares; all by default",
    ),
    Variable(
        "REQUESTS_SHARED_BY",
        Whole(1, 1000),
        "how many collectors of the exchange share an internet address, and so its request limit",
        "1",
    ),
    Variable(
        "CHANNELS", listed, "a channel or a comma-separated list: trades, ticker, l2_book, ...", required=True
    ),
    Variable(
        "ENDPOINT",
        endpoint,
        "addresses to use instead of the exchange's default: a region that it has (`eea`), or "
        "`websocket=wss://HOST:PORT,rest=https://HOST`",
    ),
    Variable(
        "BACKEND",
        backend,
        "where records go: REDIS (sorted sets), REDISSTREAM, MONGO, POSTGRES, PARQUET or TTY",
        required=True,
    ),
    Variable("CONFIG", existing_file, "path of a cryptofeed configuration file (API keys)"),
    Variable(
        "SNAPSHOT_ONLY", boolean, "order books: store a complete book at every update, never deltas", "false"
    ),
    Variable(
        "SNAPSHOT_INTERVAL",
        Whole(1, 10**9),
        "order books: store a complete book after this many deltas of a symbol",
        "1000",
    ),
    Variable(
        "MAX_DEPTH",
        Whole(0, 10**5),
        "order books: levels kept per side; 0 keeps all that the exchange sends",
        "0",
    ),
    Variable("CANDLE_INTERVAL", str, "length of a candle; one that the exchange offers", "1m"),
    Variable(
        "URL",
        StoreUrl.parse,
        "the backend as one URL, instead of HOST and PORT: redis://, rediss://, unix://, redis+sentinel://, "
        "mongodb://, mongodb+srv://, postgresql://",
        secret=True,
    ),
    Variable("URL_FILE", existing_file, "file that holds the URL, instead of URL"),
    Variable("HOST", host, "host of the backend", "localhost"),
    Variable("PORT", Whole(1, 65535), "port of the backend; its usual port by default"),
    Variable(
        "DATABASE",
        str,
        "database of the backend: required for MONGO and POSTGRES; a number for REDIS and REDISSTREAM",
    ),
    Variable("USER", str, "user of the backend; without PASSWORD or PASSWORD_FILE, only POSTGRES uses it"),
    Variable("USER_FILE", existing_file, "file that holds the user, instead of USER"),
    Variable("PASSWORD", str, "password of the backend", secret=True),
    Variable("PASSWORD_FILE", existing_file, "file that holds the password, instead of PASSWORD"),
    Variable(
        "CREATE_TABLES",
        boolean,
        "POSTGRES: create and update the tables at start; if false, `collector db init` does it",
        "true",
    ),
    Variable(
        "PARTITION",
        OneOf(("none", "day", "week", "month")),
        "POSTGRES: partition new tables by day, week or month of receipt; with TimescaleDB, chunks",
        "none",
    ),
    Variable(
        "RETENTION",
        retention,
        "REDIS and REDISSTREAM: how long records are kept (30d), or how many per key (1000000)",
    ),
    Variable("PARQUET_DIR", Path, "PARQUET: folder of the dataset", "data"),
    Variable(
        "NAME",
        Matching(
            r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
            "up to 63 letters, digits, '-', '_' and '.', beginning with a letter or digit",
        ),
        "the collector's name in the store; derived from exchange, channels and symbols by default",
    ),
    Variable(
        "ALLOW_OVERLAP",
        boolean,
        "also record what another collector records into the same store; it is then stored twice",
        "false",
    ),
    Variable("SPOOL_DIR", Path, "folder of the spool, on a disk that outlives the container", "spool"),
    Variable(
        "SPOOL_MAX_BYTES",
        size,
        "limit of undelivered records on disk; beyond it the oldest are dropped",
        "2GiB",
    ),
    Variable(
        "SPOOL_KEEP",
        duration,
        "how long delivered records are kept, to resend what the store may lose",
        "60s",
    ),
    Variable("SPOOL_SYNC", duration, "how much a power failure may cost at most", "1s"),
    Variable(
        "REPORT_INTERVAL",
        duration,
        "time between log lines that say what was received and stored",
        "60s",
    ),
    Variable(
        "LOG_LEVEL", OneOf(("DEBUG", "INFO", "WARNING", "ERROR")), "lowest severity that is logged", "INFO"
    ),
    Variable("LOG_FORMAT", OneOf(("text", "json")), "format of the log lines on standard error", "text"),
    Variable(
        "HTTPS_PROXY",
        proxy,
        "proxy for every connection to the exchange",
    ),
    Variable(
        "HTTPS_PROXY_FILE",
        existing_file,
        "file that holds the proxy's URL, instead of HTTPS_PROXY, so that a password stays out of sight",
    ),
    Variable(
        "SSL_CERT_FILE", existing_file, "certificate authorities to trust instead of the system's (PEM)"
    ),
)


#: Quotes may be meant in a password or in a name in a database; around other values they are a mistake.
_MAY_HAVE_QUOTES = ("PASSWORD", "USER")
_REMOVE_QUOTES = "remove them: docker's --env-file keeps them"


#: A count of records this small was probably meant as days.
_LIKELY_DAYS = 3650
#: Bytes: what waits for a healthy store may take this much.
_SMALL_SPOOL = 2**20
#: Names of variables this long do not resemble each other by chance.
_LONG_NAME = 8
#: Variables that resemble ours and are read by libraries.
_OTHER_PROGRAMS = {"https_proxy", "HTTP_PROXY", "http_proxy"}


def _differ_by_one(one: str, other: str) -> bool:
    """Return whether two texts differ by one letter: missing, added or replaced."""
    shorter, longer = sorted((one, other), key=len)
    if len(longer) - len(shorter) > 1:
        return False
    same = next(
        (place for place, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter)
    )
    return longer[same + 1 :] == shorter[same + (len(longer) == len(shorter)) :]


def _is_in_other_naming(symbol: str) -> bool:
    """Return whether a symbol is written as in other programs: BTC/USD, BTC_USD, btc-usd."""
    return is_plain(symbol) and (
        bool(re.search("[/_]", symbol)) or symbol != symbol.upper() == symbol.swapcase()
    )


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] == text[-1] and text[0] in "'\""


def _is_unicode(text: str) -> bool:
    """Return whether it is text, rather than bytes of the environment that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Reader:
    """Reads one environment and collects its faults."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.given = {
            variable.name: environment[variable.name].strip()
            for variable in VARIABLES
            if environment.get(variable.name, "").strip()
        }
        self.environment = environment
        self.faults: list[Fault] = []

    def settings(self) -> Settings:
        values = {variable.name: self._value(variable) for variable in VARIABLES}
        values["CHANNELS"] = self._channels(values["EXCHANGE"], values["CHANNELS"])
        self._check_candles(values)
        self._resolve_endpoint(values)
        values["API_KEYS"] = self._content(values, "CONFIG", _read_api_keys) or ()
        self._content(values, "SSL_CERT_FILE", check_authorities)
        for name in ("URL", "USER", "PASSWORD", "HTTPS_PROXY"):
            self._from_file(values, name)
        self._check_keys(values)
        self._check_url(values)
        self._check_database(values)
        self._check_retention(values)
        self._check_user(values)
        if self.faults:
            raise SettingsError(self.faults)
        values["PORT"] = values["PORT"] or BACKENDS[values["BACKEND"]]
        values["NAME"] = values["NAME"] or _default_name(
            values["EXCHANGE"], values["CHANNELS"], values["SYMBOLS"], values["SHARD"]
        )
        values["SELECTION"] = Selection.parse(values["SYMBOLS"])
        values["WARNINGS"] = tuple(self._warnings(values))
        return Settings(**{name.lower(): value for name, value in values.items()})

    def _value(self, variable: Variable) -> Any:
        text = self.given.get(variable.name, variable.default)
        if text is None:
            if variable.required:
                self._missing(variable)
            return None
        if not _is_unicode(text):
            self._fault(variable.name, "it is not UTF-8 text")
            return None
        if _is_quoted(text) and variable.name not in _MAY_HAVE_QUOTES:
            self._fault(variable.name, f"the value has quotes around it; {_REMOVE_QUOTES}")
            return None
        try:
            return variable.parse(text)
        except ValueError as error:
            self._fault(variable.name, str(error))
            return None

    def _warnings(self, values: Mapping[str, Any]) -> Iterator[str]:
        exchange = values["EXCHANGE"]
        known = catalog.exchanges()[exchange]
        if values["CONFIG"] and known.by == "cryptostore":
            yield f"CONFIG is not used: {exchange} is recorded without cryptofeed and keys; leave it out"
        if not known.verified:
            yield f"{exchange}: nobody has been able to verify that recording it still works"
        for name in _MAY_HAVE_QUOTES:
            if _is_quoted(self.given.get(name, "")):
                yield f"{name} has quotes around its value, which count; if not meant, {_REMOVE_QUOTES}"
        for symbol in filter(_is_in_other_naming, values["SYMBOLS"]):
            meant = re.sub("[/_]", "-", symbol).upper()
            yield f"SYMBOLS: {quoted(symbol)!r} is not in cryptofeed's naming; did you mean {meant}?"
        kept = values["RETENTION"]
        if kept and kept.records and kept.records <= _LIKELY_DAYS:
            yield (
                f"RETENTION = {kept.records} keeps {kept.records} records of each key;"
                f" {kept.records}d keeps those of {kept.records} days"
            )
        if values["SPOOL_MAX_BYTES"] < _SMALL_SPOOL:
            yield (
                f"SPOOL_MAX_BYTES = {self.given['SPOOL_MAX_BYTES']} has room for little more than the records"
                " in transit: while the store is unreachable, records are dropped almost at once"
            )
        yield from self._misspelt()

    def _misspelt(self) -> Iterator[str]:
        """Yield a warning for each variable that resembles one of ours and is not read."""
        folded = {variable.name.replace("_", ""): variable.name for variable in VARIABLES}
        known = {variable.name for variable in VARIABLES}
        for name in sorted(self.environment.keys() - known - _OTHER_PROGRAMS):
            meant = folded.get(re.sub("[^A-Z0-9]", "", name.upper()))
            if meant is None and len(name) >= _LONG_NAME:
                meant = next((each for each in known if _differ_by_one(name.upper(), each)), None)
            if meant and meant not in self.given:
                yield f"{printable(name)} is not a variable of the collector; did you mean {meant}?"

    def _missing(self, variable: Variable) -> None:
        known = {each.name for each in VARIABLES}
        near = catalog.nearest(variable.name, [name for name in self.environment if name not in known])
        hint = f" ({near[0]} is set: a typo?)" if near else ""
        self.faults.append(Fault(variable.name, None, f"{variable.meaning}{hint}"))

    def _fault(self, name: str, message: str) -> None:
        secret = any(variable.secret for variable in VARIABLES if variable.name == name)
        value = self.given.get(name)
        self.faults.append(Fault(name, "***" if secret and value else value and quoted(value), message))

    def _channels(self, exchange: str | None, asked: tuple[str, ...] | None) -> tuple[str, ...]:
        offered = catalog.exchanges()[exchange].channels if exchange else catalog.CHANNELS
        broken = catalog.exchanges()[exchange].broken if exchange else {}
        channels = tuple(dict.fromkeys(catalog.canonical_channel(channel) for channel in asked or ()))
        for channel in channels:
            if channel in offered:
                continue
            if channel in broken:
                self._fault("CHANNELS", f"{exchange}'s {channel} {broken[channel]}; leave it out")
                continue
            near = catalog.nearest(channel, offered)
            hint = f"did you mean {near[0]}? " if near else ""
            of = f"{exchange} offers" if exchange else "choose from"
            self._fault("CHANNELS", f"no channel {quoted(channel)!r}; {hint}{of} {', '.join(offered)}")
        return channels

    def _check_keys(self, values: dict[str, Any]) -> None:
        exchange = values["EXCHANGE"]
        if not exchange or "CONFIG" in self.given:
            return
        for channel, issue in catalog.exchanges()[exchange].keys.items():
            if channel in values["CHANNELS"]:
                self._fault("CHANNELS", f"{exchange}'s {channel} {issue}")

    def _check_candles(self, values: dict[str, Any]) -> None:
        exchange, interval = values["EXCHANGE"], values["CANDLE_INTERVAL"]
        if not exchange or interval is None or "candles" not in values["CHANNELS"]:
            return
        offered = catalog.exchanges()[exchange].candle_intervals
        if offered and interval not in offered:
            near = catalog.nearest(interval, offered)
            hint = f"did you mean {near[0]}? " if near else ""
            self._fault("CANDLE_INTERVAL", f"{hint}{exchange} offers {', '.join(offered)}")

    def _resolve_endpoint(self, values: dict[str, Any]) -> None:
        """Replace what is asked for by addresses; none means the exchange's own."""
        exchange, asked = values["EXCHANGE"], values["ENDPOINT"]
        values["ENDPOINT"] = {}
        if exchange and asked:
            try:
                values["ENDPOINT"] = asked.of(exchange)
            except ValueError as error:
                self._fault("ENDPOINT", str(error))

    def _content[T](self, values: dict[str, Any], name: str, read: Callable[[Path], T]) -> T | None:
        """Return what is read from the file that a variable names; None if there is none, or a fault."""
        if path := values[name]:
            try:
                return read(path)
            except OSError as error:
                self._fault(name, f"cannot be read: {error.strerror}")
            except ValueError as error:
                self._fault(name, str(error))
        return None

    def _check_database(self, values: dict[str, Any]) -> None:
        backend, database, url = values["BACKEND"], values["DATABASE"], values["URL"]
        if backend in ("REDIS", "REDISSTREAM") and database and not re.fullmatch(r"[0-9]{1,9}", database):
            given = self._given("URL") if url and url.database else "DATABASE"
            self._fault(given, "a Redis database is a number, 0 by default")
        if backend in ("MONGO", "POSTGRES") and not database:
            self._fault("DATABASE", f"{backend} needs the name of a database")

    def _check_retention(self, values: dict[str, Any]) -> None:
        backend = values["BACKEND"]
        if backend and values["RETENTION"] and backend not in ("REDIS", "REDISSTREAM"):
            self._fault("RETENTION", f"{backend} keeps everything; only REDIS and REDISSTREAM support it")

    def _from_file(self, values: dict[str, Any], name: str) -> None:
        """Return the value in ``{name}_FILE``. It wins over USER, which a login shell sets."""
        path = values.pop(f"{name}_FILE")
        if path is None:
            return
        if name in self.given and name != "USER":
            self._fault(f"{name}_FILE", f"{name} is set too; set only one of them")
            return
        try:
            variable = next(each for each in VARIABLES if each.name == name)
            text = read_bounded(path, LARGEST_FILE).decode().strip("\r\n")
            if not text.strip():
                raise ValueError("it is empty")  # noqa: TRY301 - reported like any other fault of the file
            values[name] = variable.parse(text)
        except UnicodeDecodeError:
            self._fault(f"{name}_FILE", "its content is not text")
        except OSError as error:
            self._fault(f"{name}_FILE", f"cannot be read: {error.strerror}")
        except ValueError as error:
            self._fault(f"{name}_FILE", f"cannot be read: {error}")

    def _given(self, name: str) -> str:
        """Return the variable that is set: the one of that name, or its file's."""
        return name if name in self.given else f"{name}_FILE"

    def _check_url(self, values: dict[str, Any]) -> None:
        """Take settings from the URL; they must not be set a second time."""
        url, backend = values["URL"], values["BACKEND"]
        if url is None:
            return
        given = self._given("URL")
        if backend and url.scheme not in SCHEMES.get(backend, ()):
            takes = ", ".join(f"{scheme}://" for scheme in SCHEMES.get(backend, ())) or "no URL"
            self._fault(given, f"begins with {url.scheme}://, but BACKEND={backend} takes {takes}")
            return
        if url.user or (url.password and backend != "POSTGRES" and "USER_FILE" not in self.given):
            values["USER"] = url.user  # a login shell's is ignored
        told = {"HOST": True, "PORT": True, "DATABASE": url.database, "PASSWORD": url.password}
        for name, says in told.items():
            said = next((each for each in (name, f"{name}_FILE") if each in self.given), None)
            if says and said:
                self._fault(said, f"{given} says it too; set only one of them")
        values["HOST"], values["PORT"] = url.hosts[0]
        values["DATABASE"] = url.database or values["DATABASE"]
        values["PASSWORD"] = url.password or values["PASSWORD"]

    def _check_user(self, values: dict[str, Any]) -> None:
        url = values["URL"]
        ours = (url and url.user) or "USER_FILE" in self.given
        if not ours and not values["PASSWORD"] and values["BACKEND"] != "POSTGRES":
            values["USER"] = None  # a login shell sets USER too


def _default_name(
    exchange: str, channels: tuple[str, ...], symbols: tuple[str, ...], shard: Shard | None
) -> str:
    """Return a name that depends on exchange, channels, symbols and shard, but not on the order of lists."""
    subscription = "|".join([*sorted(channels), "", *sorted(symbols)])
    digest = hashlib.sha256(subscription.encode()).hexdigest()[:8]
    name = f"{exchange.lower().replace('.', '')}-{digest}"
    return f"{name}-{shard.number}of{shard.count}" if shard else name
