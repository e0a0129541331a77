"""The fleet that ``launcher run`` runs in this folder, seen from another process.

A run holds a lock on ``.cryptostore/FLEET/lock`` while it lives, however it ends, and writes into that file
what it runs. Its collectors' status files and logs are next to it.
"""

import contextlib
import fcntl
import heapq
import os
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from collector import health, typed_json
from collector.masking import masked
from launcher import names, secrets
from launcher.engines import EngineError, LogLines
from launcher.names import LABEL_OWNER, SPOOL
from launcher.owner import Claim
from launcher.spec import FleetSpec

_STATE = Path(".cryptostore")
_LOCK = "lock"
#: The owner of the folder, as labels name it, and since when.
_OWNER, _SINCE = "owner.json", "since"
_LOG, _OLDER_LOG = ".log", ".log.1"
_LOOK_EVERY = 0.25  # seconds between two looks for new lines
#: A status probe holds the lock for microseconds; whoever wants to keep it tries this often.
_TRIES, _PAUSE = 10, 0.02
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")


class LocalRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a fleet: the launcher's process, its start (seconds since 1970) and its collectors.

    ``simulated`` says that the simulator is part of the run: the run ends when the simulator does.
    """

    process: int
    started: float
    collectors: tuple[str, ...]
    simulated: bool


def folder(fleet: str) -> Path:
    """Return the folder in which a run of the fleet keeps its spools, its logs and its lock."""
    return _STATE / fleet


@contextlib.contextmanager
def held(state: Path, collectors: Iterable[str], *, simulated: bool) -> Iterator[None]:
    """Hold the state folder. Raises EngineError if another launcher does, or if it is not writable."""
    with contextlib.ExitStack() as stack:
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)  # spools and logs are private
            file = stack.enter_context((state / _LOCK).open("a+"))
            _lock(file)
            file.truncate(0)
            run = LocalRun(
                process=os.getpid(), started=time.time(), collectors=tuple(collectors), simulated=simulated
            )
            file.write(msgspec.json.encode(run).decode())
            file.flush()
        except BlockingIOError:
            raise EngineError(
                f"this fleet is already running here ({state} is in use); stop it first"
            ) from None
        except OSError as error:
            raise EngineError(f"the state folder {state} cannot be used: {error.strerror}") from error
        yield


def take_possession(state: Path, fleet: FleetSpec, *, adopt: bool) -> None:
    """Sign the state folder for the fleet. Raises EngineError if another fleet of that name has it.

    An unsigned one is taken over if all its spools belong to collectors in the fleet's file.
    """
    found = _signature(state)
    claim = _claim(fleet, found)
    if claim is Claim.UNMARKED and not adopt:
        known = {*(spec.name for spec in fleet.collectors), *fleet.left_out}
        ours = {names.container(fleet.name, each) for each in known}
        spools = state / SPOOL
        strange = sorted({each.name for each in spools.iterdir()} - ours) if spools.is_dir() else []
        if strange:
            raise EngineError(
                f"nothing was touched: {state} has spools of collectors that are not in the file"
                f" ({', '.join(strange)}), so it may be of another fleet {fleet.name}; give this fleet"
                " another name (`fleet:`), or take that one over with --adopt"
            )
    if claim in (Claim.FOREIGN, Claim.FORGED) and not adopt:
        raise EngineError(
            f"nothing was touched: {state} belongs to {_whose(fleet, found)}; give this fleet another name"
            " (`fleet:`), or take that one over with --adopt"
        )
    if claim is not Claim.OURS or found[LABEL_OWNER] != fleet.owner.mark:
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        aside = (state / _OWNER).with_suffix(".part")
        aside.write_bytes(msgspec.json.encode(fleet.owner.labels("run", fleet.name) | {_SINCE: since}))
        aside.replace(state / _OWNER)


def of_another(fleet: FleetSpec) -> str:
    """Return whose the state in this folder is if it is another fleet's, else an empty text.

    Raises EngineError if its signature cannot be read.
    """
    found = _signature(folder(fleet.name))
    return _whose(fleet, found) if _claim(fleet, found) in (Claim.FOREIGN, Claim.FORGED) else ""


def _signature(state: Path) -> dict[str, str]:
    path = state / _OWNER
    try:
        return typed_json.decode(path.read_bytes(), dict[str, str]) if path.exists() else {}
    except (OSError, typed_json.DecodeError) as error:
        raise EngineError(f"{path} cannot be read: {error}; remove it if the fleet is yours") from error


def _claim(fleet: FleetSpec, signature: Mapping[str, str]) -> Claim:
    return fleet.owner.claim(signature, "run", fleet.name)


def _whose(fleet: FleetSpec, signature: Mapping[str, str]) -> str:
    maker, since = names.maker(signature), signature.get(_SINCE, "an unknown time")
    return f"another fleet named {fleet.name}, started by {maker or 'an unknown user'}, since {since}"


def _lock(file: IO[str]) -> None:
    for left in reversed(range(_TRIES)):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(_PAUSE)
        else:
            return


def find(fleet: str) -> LocalRun | None:
    """Return the current run of the fleet in this folder; None if there is none."""
    with contextlib.suppress(OSError, typed_json.DecodeError), (folder(fleet) / _LOCK).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return typed_json.decode(file.read(), LocalRun)
    return None


def status(fleet: str, collector: str, run: LocalRun) -> health.Status | None:
    """Return the last status of a collector of the run; None if it has written none yet."""
    try:
        said = health.read(folder(fleet) / SPOOL / names.container(fleet, collector))
    except (OSError, msgspec.DecodeError):
        return None
    return said if said.time >= run.started else None


def logged(fleet: str) -> list[str]:
    """Return the collectors that have a log in this folder, of this run or an earlier one."""
    return sorted(path.name.removesuffix(_LOG) for path in folder(fleet).glob(f"*{_LOG}"))


def last_lines(
    fleet: str, collectors: Sequence[str], wanted: LogLines, hidden: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Return the requested lines of each collector as (collector, line), ordered by time."""
    since = "" if wanted.since is None else _iso(wanted.since)

    def timed(collector: str) -> Iterator[tuple[str, str]]:
        at = ""
        for line in _lines(fleet, collector):
            found = _TIME.search(line[:80])
            at = found[0] if found else at  # lines without a time belong to the line before them
            if at >= since:
                yield at, line

    def stamped(collector: str) -> Iterator[tuple[str, str, str]]:
        for at, line in deque(timed(collector), maxlen=wanted.tail):
            yield at, collector, masked(line, hidden.get(collector, ()))

    merged = heapq.merge(*(stamped(each) for each in collectors), key=lambda each: each[0])
    return ((collector, line) for _, collector, line in merged)


def _iso(seconds: float) -> str:
    """Return a time in the format of the logs, to be compared as text."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")


def follow(
    fleet: str, collectors: Sequence[str], wanted: LogLines, hidden: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Yield lines as ``last_lines`` returns them, then new ones as they come, until the run ends."""
    files = {each: _Tail(folder(fleet) / f"{each}{_LOG}") for each in collectors}
    yield from last_lines(fleet, collectors, wanted, hidden)
    while True:
        ended = find(fleet) is None
        for collector, file in files.items():  # includes what came just before the end
            for line in file.read():
                yield collector, masked(line, hidden.get(collector, ()))
        if ended:
            return
        time.sleep(_LOOK_EVERY)


def passwords(fleet: FleetSpec) -> dict[str, tuple[str, ...]]:
    """Return what is masked in each collector's log, as far as its files can be read."""
    found = {}
    for spec in fleet.collectors:
        with contextlib.suppress(OSError):
            found[spec.name] = secrets.hidden(
                {each.name: each.content for each in secrets.part(spec).secrets}
            )
    return found


def _lines(fleet: str, collector: str) -> Iterator[str]:
    for end in (_OLDER_LOG, _LOG):
        with (
            contextlib.suppress(FileNotFoundError),
            (folder(fleet) / f"{collector}{end}").open(errors="replace") as file,
        ):
            yield from (line.rstrip("\n") for line in file)


class _Tail:
    """Follows a log file from now on, even when it is rotated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._opened()
        self._rest = b""
        if self._file:
            self._file.seek(0, os.SEEK_END)

    def read(self) -> Iterator[str]:
        """Return the lines since the last call."""
        yield from self._news()
        if self._is_replaced():
            if self._file:
                self._file.close()
            self._file, self._rest = self._opened(), b""
            yield from self._news()

    def _news(self) -> list[str]:
        *lines, self._rest = (self._rest + (self._file.read() if self._file else b"")).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _is_replaced(self) -> bool:
        try:
            there = self._path.stat()
        except OSError:
            return False
        return not self._file or os.fstat(self._file.fileno()).st_ino != there.st_ino

    def _opened(self) -> IO[bytes] | None:
        return self._path.open("rb") if self._path.is_file() else None
