"""``collector check --connect``: everything that can fail at a start, tried without starting.

It may run beside the collector that it is to replace: it reads, and leaves nothing behind.
"""

import asyncio
import contextlib
import email.utils
import os
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from shutil import disk_usage
from typing import Any, Literal

import msgspec
from msgspec import structs

from collector import catalog, stores
from collector.feeds import creation, reference
from collector.feeds.malformed import describe
from collector.feeds.network import Network
from collector.gaps import overlap
from collector.gaps.marks import Slot
from collector.settings import BACKENDS, Settings, SettingsError
from collector.spool.database import RESERVE_BYTES
from collector.stores import (
    Holder,
    NoTablesError,
    ProbedStore,
    RightMissingError,
    SharedStore,
    Store,
    StoreRefusedError,
    StoreUnavailableError,
)
from collector.stores import notes as notebook

#: Exit statuses, as in sysexits.h.
FINE, UNAVAILABLE, MISCONFIGURED = 0, 69, 78

#: What is tried of the exchange where it does not answer.
_UNREACHABLE = "exchange"
_PATIENCE = 20.0  # seconds for one thing
_OWNED = "the folder, or volume, must belong to the user that the collector runs as: `chown -R {user} FOLDER`"
_CLOCK = 2.0  # seconds of difference that no exchange's time stamps explain
_READS = 3
_PAUSE = 1.0  # seconds between two looks for a sign of life
_SMALL_FILE = 64 * 1024  # bytes
#: Free bytes, and the free share, of a dataset's disk below which somebody should know of it.
_LITTLE_ROOM, _LITTLE_SHARE = 2**30, 0.05
_LOCAL = ("localhost", "127.0.0.1", "::1")
_IN_A_CONTAINER = Path("/.dockerenv")


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was tried. ``remedy`` says what to do about it.

    ``state`` is fine, warning, fault or, where it could not be tried, skipped.
    """

    what: str
    state: str
    detail: str
    remedy: str = ""
    exit_status: int = FINE

    def __str__(self) -> str:
        line = f"{self.what:9} {self.state:8} {self.detail}"
        return f"{line}\n{'':19}{self.remedy}" if self.remedy else line


def _fine(what: str, detail: str) -> Finding:
    return Finding(what=what, state="fine", detail=detail)


def _warning(what: str, detail: str, remedy: str = "") -> Finding:
    return Finding(what=what, state="warning", detail=detail, remedy=remedy)


def _fault(what: str, detail: str, remedy: str, exit_status: int) -> Finding:
    return Finding(what=what, state="fault", detail=detail, remedy=remedy, exit_status=exit_status)


async def findings(
    settings: Settings, without: Collection[str] = (), replacing: Collection[str] = ()
) -> AsyncIterator[Finding]:
    """Try one thing after the other; each ends within about twenty seconds.

    Args:
        settings: those of the collector.
        without: ``store``, ``exchange`` or both, which are left out.
        replacing: names of collectors that hand over to this one, so that it may ask for what they store.
    """
    yield _fine("settings", f"{settings.name} on {settings.exchange}, {_way(settings)}")
    for warning in settings.warnings:
        yield _warning("settings", warning)
    yield _spool(settings)
    has_store = False
    if "store" not in without:
        store = await _store(settings, replacing)
        has_store = store.state in ("fine", "warning")
        yield store
    if "exchange" not in without:
        symbols, taken = await _symbols(settings)
        yield symbols
        if has_store and taken and (others := await _overlap(settings, taken, replacing)):
            yield others
        if symbols.what != _UNREACHABLE:
            yield await _clock(settings)


def _way(settings: Settings) -> str:
    """Return whose code records the exchange, and in which channels a lost message is noticed."""
    known = catalog.exchanges()[settings.exchange]
    if known.by == "cryptofeed":
        return "through cryptofeed"
    loss = {channel: known.about[channel].loss for channel in settings.channels}
    noticed = [f"{channel} ({how})" for channel, how in loss.items() if how != "nothing"]
    unseen = [channel for channel, how in loss.items() if how == "nothing"]
    parts = [f"a lost message is noticed in {', '.join(noticed)}"] if noticed else []
    parts += (
        [f"{'' if noticed else 'a lost message is '}not noticed in {', '.join(unseen)}"] if unseen else []
    )
    return f"native: {', '.join(parts)}"


def exit_status(found: list[Finding]) -> int:
    """Return the status to end with: that of the gravest finding."""
    return max(finding.exit_status for finding in found)


def _spool(settings: Settings) -> Finding:
    folder = settings.spool_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = disk_usage(folder).free
    except OSError as error:
        return _fault(
            "spool",
            f"{folder} cannot be written to: {error.strerror}",
            _folder_remedy(error),
            UNAVAILABLE,
        )
    if free < RESERVE_BYTES:
        return _fault(
            "spool",
            f"the disk of {folder} has {_mib(free)} free; a collector needs {_mib(RESERVE_BYTES)} to start",
            "free some space there",
            UNAVAILABLE,
        )
    most = settings.spool_max_bytes
    if free < most:
        return _warning(
            "spool",
            f"{folder} has {_gib(free)} free, less than SPOOL_MAX_BYTES = {_gib(most)}",
            "free some space, or lower SPOOL_MAX_BYTES: a full disk drops records earlier than that",
        )
    return _fine("spool", f"{folder} is writable, {_gib(free)} free")


async def _store(settings: Settings, replacing: Collection[str]) -> Finding:
    apart = BACKENDS[settings.backend] is None
    where = settings.backend if apart else f"{settings.backend} at {settings.where}"
    # it looks, and makes no table
    store = stores.create(structs.replace(settings, create_tables=False))
    try:
        async with asyncio.timeout(_PATIENCE):
            return await _opened(store, settings, where, replacing)
    except NoTablesError as error:
        return _fault(
            "store", str(error), "run `collector db init`, as a user who may create tables", MISCONFIGURED
        )
    except RightMissingError as error:
        return _fault("store", f"{where} refuses the collector: {error}", error.remedy, MISCONFIGURED)
    except StoreRefusedError as error:
        why = "cannot be used" if apart else "refuses the collector"
        login = "check USER, PASSWORD or PASSWORD_FILE, DATABASE, and that user's permissions"
        remedy = _folder_remedy(error.__cause__) if apart else login
        return _fault("store", f"{where} {why}: {error}", remedy, MISCONFIGURED)
    except (StoreUnavailableError, TimeoutError) as error:
        why = "cannot be used" if apart else "is not reachable"
        return _fault("store", f"{where} {why}: {error or 'no answer'}", _store_remedy(settings), UNAVAILABLE)
    finally:
        await store.close()


async def _opened(store: Store, settings: Settings, where: str, replacing: Collection[str]) -> Finding:
    """Try a store that may be reached. Raises what ``open`` does."""
    position = None
    known = "sees this collector for the first time"
    try:
        position = await store.open(settings.name)
    except NoTablesError:
        if not settings.create_tables:
            raise
        known = "lacks tables; the collector creates them when it starts"
    if fault := await _no_writes(settings, where):
        return fault
    if position and settings.name not in replacing and (who := await _other(store, settings)):
        detail = f"{who} writes into {where} under the name {settings.name!r} already"
        return _fault("store", detail, "stop it, or give this collector another NAME", UNAVAILABLE)
    if settings.backend == "PARQUET" and (full := _without_room(settings.parquet_dir)):
        return full
    return _fine("store", f"{where} {'knows this collector' if position else known}")


async def _no_writes(settings: Settings, where: str) -> Finding | None:
    """Find that a store that can be reached takes no records."""
    store = stores.create(settings)
    if not isinstance(store, ProbedStore):
        return None
    try:
        await store.probe(settings.name)
    except StoreUnavailableError as error:
        detail, remedy = f"{where} takes no records: {error}", "see what the server says, and its log"
        return _fault("store", detail, remedy, UNAVAILABLE)
    finally:
        await store.close()
    return None


async def _other(store: Store, settings: Settings) -> str:
    """Return which process writes under this collector's name, from another spool; empty where none lives.

    One that gives a sign of life is alive; one that has given none for long is gone.
    """
    if not isinstance(store, SharedStore):
        return ""
    last: Holder | None = None
    while (holder := await store.holder(settings.name)) and not holder.is_gone:
        if holder.owner == _Known(settings.home).owner:
            return ""
        if last and (holder.owner != last.owner or holder.idle < last.idle + _PAUSE / 2):
            return holder.who
        last = holder
        await asyncio.sleep(_PAUSE)
    return ""


def _without_room(folder: Path) -> Finding | None:
    """Find that a folder's disk is full, or nearly: a collector needs some space there for every batch."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_SMALL_FILE))
            file.flush()
        disk = disk_usage(folder)
    except OSError as error:
        detail = f"PARQUET cannot write a file into {folder}: {error.strerror}"
        return _fault("store", detail, "free some space there", UNAVAILABLE)
    if disk.free < RESERVE_BYTES:
        least = f"the files of a batch may take {_mib(RESERVE_BYTES)}"
        detail = f"the disk of {folder} has {_mib(disk.free)} free; {least}"
        return _fault("store", detail, "free some space there", UNAVAILABLE)
    share = disk.free / disk.total
    if disk.free < _LITTLE_ROOM or share < _LITTLE_SHARE:
        size = _gib(disk.free) if disk.free >= 2**30 else _mib(disk.free)
        remedy = (
            "free some space there: once it is full, records wait in the spool until the oldest are dropped"
        )
        return _warning("store", f"the disk of {folder} has {size} free, {share:.0%} of it", remedy)
    return None


def _folder_remedy(cause: BaseException | None) -> str:
    if isinstance(cause, NotADirectoryError | FileExistsError):
        return "there is a file where the folder should be: move it away, or choose another folder"
    return _OWNED.format(user=os.geteuid())


def _store_remedy(settings: Settings) -> str:
    if BACKENDS[settings.backend] is None:
        return _OWNED.format(user=os.geteuid())
    if settings.host in _LOCAL and _IN_A_CONTAINER.exists():
        return (
            f"in a container {settings.host} is the container itself: name the store's container, in a"
            " network that the collector joins too, or its machine's address"
        )
    return (
        f"is it running, is HOST = {settings.host} the right name from here, is there a firewall in between?"
    )


async def _overlap(settings: Settings, symbols: list[str], replacing: Collection[str]) -> Finding | None:
    """Find what other collectors store into the same store."""
    store = stores.create(structs.replace(settings, create_tables=False))
    if settings.allow_overlap or not isinstance(store, SharedStore):
        return None
    try:
        async with asyncio.timeout(_PATIENCE):
            await store.open(settings.name)
            notes = {
                name: notebook.decode(name, text)
                for name, text in (await store.notes()).items()
                if name not in replacing
            }
            found = await overlap.holders(settings, symbols, notes, store.holder)
    except NoTablesError:
        return None
    except (StoreRefusedError, StoreUnavailableError, TimeoutError) as error:
        detail = f"cannot read from the store what other collectors store: {error or 'no answer'}"
        return Finding(what="overlap", state="skipped", detail=detail)
    finally:
        await store.close()
    if not found:
        return None
    detail = "; ".join(
        f"collector {name} ({who}) stores {overlap.named(keys)}" for name, (who, keys) in found.items()
    )
    remedy = (
        "stop the other collector, ask for other symbols or channels, or set ALLOW_OVERLAP=true to store both"
    )
    return _fault("overlap", f"{detail} into this store already", remedy, MISCONFIGURED)


async def _symbols(settings: Settings) -> tuple[Finding, list[str]]:
    """Try the list of symbols; return also those that this collector takes of it."""
    exchange = settings.exchange
    access = creation.access(settings)
    try:
        async with asyncio.timeout(_PATIENCE):
            listed = await access.listed()
            there = reference.select(settings, listed.types, _Known(settings.home))
            if there:  # builds what a start would build
                await access.connections(listed, there, settings.channels)
    except SettingsError as error:
        return _no_symbols(
            "symbols",
            "; ".join(map(str, error.faults)),
            f"{exchange} lists {len(listed.types):,} symbols; write them as cryptofeed does (BTC-USD)",
            MISCONFIGURED,
        )
    except Exception as error:  # noqa: BLE001 - also of an answer that cannot be read
        return _no_symbols(
            _UNREACHABLE,
            f"{exchange} does not return its symbols: {describe(error)}",
            "can this network reach the exchange (DNS, firewall, HTTPS_PROXY, its own restrictions)?",
            UNAVAILABLE,
        )
    finally:
        await access.close()
    return _fine("symbols", f"{len(there)} of {exchange}'s {len(listed.types):,}"), there


def _no_symbols(what: str, detail: str, remedy: str, exit_status: int) -> tuple[Finding, list[str]]:
    return _fault(what, detail, remedy, exit_status), []


async def _clock(settings: Settings) -> Finding:
    """Compare the clock with that of the exchange's web server, which tells whole seconds."""
    host = creation.access(settings).host
    try:
        async with asyncio.timeout(_PATIENCE):
            ahead = await reference.in_thread(lambda: _ahead(f"https://{host}/", Network(settings)))
    except Exception as error:  # noqa: BLE001 - an unknown time is no fault
        detail = f"cannot read the time of {host}: {describe(error)}"
        return Finding(what="clock", state="skipped", detail=detail)
    if abs(ahead) > _CLOCK:
        return _warning(
            "clock",
            f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {host}",
            "set the machine's clock (chrony, systemd-timesyncd): receipt times are taken from it",
        )
    return _fine("clock", f"within {_CLOCK:.0f} s of {host}")


def _ahead(url: str, network: Network) -> float:
    asked = time.time()
    import requests  # noqa: PLC0415 - of no use to who records without cryptofeed, and slow to load

    answer = requests.head(url, timeout=_PATIENCE / 2, **network.options)
    middle = (asked + time.time()) / 2
    told = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
    # It told a whole second, so the true time lies in the second after that.
    return min(middle - told, 0.0) or max(middle - told - 1.0, 0.0)


class _Known:
    """What the collector has in its spool: who owns it, and its marks.

    A collector that runs lets nobody else into its database, so the file is read as it lies there: what was
    remembered in the last second may not be in it yet.
    """

    def __init__(self, home: Path) -> None:
        self._address = f"{(home.absolute() / 'spool.db').as_uri()}?mode=ro&immutable=1"

    def __contains__(self, place: object) -> bool:
        return isinstance(place, Slot) and bool(self._value("marks", place.name))

    @property
    def owner(self) -> str:
        """Return the spool's owner; empty where there is no spool yet."""
        return str(self._value("meta", "owner") or "")

    def _value(self, table: Literal["marks", "meta"], key: str) -> Any:
        for _ in range(_READS):  # what changes meanwhile may look broken
            with (
                contextlib.suppress(sqlite3.Error),
                contextlib.closing(sqlite3.connect(self._address, uri=True)) as db,
            ):
                row = db.execute(f"SELECT value FROM {table} WHERE key = ?", [key]).fetchone()  # noqa: S608 - one of two
                return row and row[0]
        return None


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def encode(found: Finding) -> dict[str, Any]:
    """A finding as JSON takes it."""
    return {"what": found.what, "state": found.state, "detail": found.detail, "remedy": found.remedy}
