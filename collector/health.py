"""What state a collector is in: written every second to a file, read by the health check and the launcher.

The file, ``status.json`` beside the spool, is the ``Status`` below as JSON. A collector is healthy while it
rewrites the file: a store or an exchange that is away makes it degraded, because a restart would not help.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from collector import typed_json
from collector.printable import printable

STATUS_FILE = "status.json"
STANDBY_FILE = "standby.json"  # what a collector writes that waits for another to release its spool
INTERVAL = 1.0  # seconds between two writings
STALE = 15.0  # seconds without one after which the process counts as stuck
_NAMED = 3  # subscriptions that are named of many, and reasons


class StoreStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The store as the writer sees it; ``state`` is connecting, connected, away or refused."""

    backend: str
    state: str
    since: float
    error: str | None = None


class ConnectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One connection to the exchange; ``state`` is connecting, open or waiting (to connect again)."""

    id: str
    state: str
    since: float
    error: str | None = None


class SubscriptionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How many subscriptions are confirmed, and by name (``trades BTC-USD``) those that are not.

    Attributes:
        acknowledged: those of the pending ones that the exchange acknowledged; no data has come.
        silent: confirmed by an acknowledgement, where there may be no data for long; none has come so far.
        notice: what the exchange said last that names no subscription, while some are pending.
        overlapping: those that are left out because another collector stores them, with the reason.
        overlapping_with: the names of these collectors.
    """

    confirmed: int = 0
    pending: tuple[str, ...] = ()
    refused: dict[str, str] = {}
    acknowledged: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    notice: str | None = None
    overlapping: dict[str, str] = {}
    overlapping_with: tuple[str, ...] = ()

    @property
    def all_overlap(self) -> bool:
        """Whether nothing is stored, because other collectors store all of it."""
        return bool(self.overlapping) and self.confirmed <= len(self.overlapping)

    def __str__(self) -> str:
        """Return what is waited for, in one line: how many, and the first by name."""
        count, acknowledged = len(self.pending), len({*self.pending} & {*self.acknowledged})
        which = "" if acknowledged == count else f"; {acknowledged} of them"
        silent = f"{which} acknowledged, but no data has come" if acknowledged else ""
        said = f" (the exchange says: {self.notice})" if self.notice else ""
        return f"waiting for {count} subscription{'s' * (count != 1)}: {_listed(self.pending)}{silent}{said}"


class ChannelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Records of one channel since the start."""

    received: int
    stored: int


class SpoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for the store (records, bytes), and the records that were dropped or became dead letters.

    Those are counted since the start; ``letters`` are the bytes of all dead letters. ``oldest`` is when the
    oldest record that waits was received; None where there is none, or nobody knows.
    """

    records: int = 0
    bytes: int = 0
    dropped: int = 0
    put_aside: int = 0
    letters: int = 0
    oldest: float | None = None


class Leftover(msgspec.Struct, frozen=True):
    """What only the spool of a collector that has ended holds: records, and bytes of dead letters."""

    records: int = 0
    letters: int = 0

    def __bool__(self) -> bool:
        return bool(self.records or self.letters)

    def __str__(self) -> str:
        records = f"{self.records:,} records that are not stored" if self.records else ""
        letters = f"{self.letters:,} bytes of dead letters" if self.letters else ""
        return " and ".join(filter(None, [records, letters]))


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one collector; times are float seconds since 1970, UTC.

    ``unseen`` are the seconds from the last that an earlier process saw to when this one saw all; 0: nothing
    was missed; None: that is not known yet. ``gaps_today`` counts the gap records since midnight, UTC, also
    those before a restart; None: not counted.
    """

    version: int = 1
    name: str
    exchange: str
    started: float
    time: float
    state: str  # starting, ready, degraded, stopping, stopped, failed
    detail: str
    store: StoreStatus
    connections: tuple[ConnectionStatus, ...] = ()
    subscriptions: SubscriptionStatus = SubscriptionStatus()
    channels: dict[str, ChannelStatus] = {}
    spool: SpoolStatus = SpoolStatus()
    unseen: float | None = None
    gaps_today: int | None = None
    last_received: float | None = None
    last_stored: float | None = None

    @property
    def leftover(self) -> Leftover | None:
        """What the collector left in its spool when it ended; None if it did not end in order."""
        ended = self.state in ("stopped", "failed")
        return Leftover(self.spool.records, self.spool.letters) if ended else None


class Standby(msgspec.Struct, frozen=True, kw_only=True):
    """Since when (float seconds since 1970, UTC) a collector has been ready to take over."""

    time: float


def judge(  # noqa: PLR0911 - the gravest first
    store: StoreStatus,
    subscriptions: SubscriptionStatus,
    *,
    was_ready: bool,
    idle: str | None = None,
    failure: str | None = None,
) -> tuple[str, str]:
    """Return the state (starting, ready or degraded) and one line that says why.

    ``idle`` is the reason where there is nothing to subscribe to, ``failure`` why the reference data could
    not be read.
    """
    if refused := subscriptions.refused:
        return "degraded", f"the exchange refused {len(refused)}: {by_reason(refused)}"
    if store.state == "refused":
        return "degraded", f"the store refuses the collector: {store.error}"
    if left_out := subscriptions.overlapping:
        return "degraded", f"left out {len(left_out)} of the subscriptions: {by_reason(left_out)}"
    pending = "degraded" if was_ready else "starting"
    if store.state != "connected":
        return pending, f"store {store.state}" + (f": {store.error}" if store.error else "")
    if subscriptions.pending:
        return pending, str(subscriptions)
    if subscriptions.confirmed or idle:
        count = subscriptions.confirmed
        silent = f" ({len(subscriptions.silent)} acknowledged, without data so far)"
        confirmed = f"{count} subscription{'' if count == 1 else 's'}{silent if subscriptions.silent else ''}"
        return "ready", f"{idle or confirmed}, store connected"
    return pending, f"{failure}; trying again" if failure else "reading the exchange's reference data"


def by_reason(reasons: Mapping[str, str]) -> str:
    """Return the names of what has each reason, with it: the first few of many names, and of many reasons."""
    grouped: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        grouped.setdefault(reason, []).append(name)
    told = [f"{_listed(names)}: {reason}" for reason, names in grouped.items()]
    rest = sum(map(len, [*grouped.values()][_NAMED:]))
    return "; ".join([*told[:_NAMED], *([f"and {rest} more, for other reasons"] if rest else [])])


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def write(folder: Path, status: Status | Standby) -> None:
    """Replace the status file in one step; a full disk must not cost more than the file."""
    path = folder / (STATUS_FILE if isinstance(status, Status) else STANDBY_FILE)
    aside = path.with_suffix(".part")
    aside.write_bytes(msgspec.json.encode(status))
    aside.replace(path)


def read(folder: Path) -> Status:
    """Return the last status. Raises OSError or msgspec.DecodeError."""
    return typed_json.decode((folder / STATUS_FILE).read_bytes(), Status)


def is_ready(status: Status) -> bool:
    """Return whether the store takes records, and the exchange has sent some since the start.

    An exchange that is away later changes nothing; a store that is away or refuses does.
    """
    if status.store.state != "connected":
        return False
    return status.state == "ready" or (status.state == "degraded" and status.last_received is not None)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How the collector of a folder is: ``healthy`` (alive), ``ready``, and one line that says why.

    ``status`` is the last that it said of itself; None if there is nothing that can be read.
    """

    healthy: bool
    ready: bool
    detail: str
    status: Status | None = None


def verdict(folder: Path, now: float | None = None) -> Verdict:
    """Return how the collector of ``folder`` is."""
    try:
        status = read(folder)
    except FileNotFoundError:
        where = f"{folder / STATUS_FILE} does not exist"
        return _unknown(printable(f"no status: {where}; did the collector start with this SPOOL_DIR?"))
    except (OSError, msgspec.DecodeError) as error:
        return _unknown(f"no status: {error}")
    said = f"{status.state}: {status.detail}"
    age = (time.time() if now is None else now) - status.time
    if age > STALE:
        stuck = printable(f"stuck: no sign of life for {age:.0f} s (was {said})")
        return Verdict(healthy=False, ready=False, detail=stuck, status=status)
    stored = (
        "nothing stored yet"
        if status.last_stored is None
        else f"stored {status.time - status.last_stored:.0f} s ago"
    )
    return Verdict(
        healthy=status.state != "failed",
        ready=is_ready(status),
        detail=printable(f"{said}; {stored}"),
        status=status,
    )


def _unknown(why: str) -> Verdict:
    return Verdict(healthy=False, ready=False, detail=why)


def check(folder: Path, now: float | None = None, *, ready: bool = False) -> tuple[bool, str]:
    """Return whether the collector of ``folder`` is alive, or ``ready``, and one line for a person."""
    found = verdict(folder, now)
    return found.ready if ready else found.healthy, found.detail
