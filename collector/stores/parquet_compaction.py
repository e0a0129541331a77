"""Merges the small files of closed days, so that readers never see both the old and the new, or neither.

The merged file is made in a separate folder, beside links to the files that are not merged; then the two
folders are exchanged in one step. A file may be merged once its collector's position is beyond it: until
then, its name is what keeps its batch from being written again. Collectors that share a dataset take turns.

A reader that has listed a day just before that must list it again, because the listed files are gone.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event, Lock

import pyarrow as pa
import pyarrow.parquet as pq

#: Rows of one row group, which is what is in memory at a time; fewer of large ones, such as whole books.
_ROWS, _BYTES = 100_000, 32 * 2**20
_MERGED = re.compile(r"merged-[0-9a-f]{16}\.parquet")
_SMALL = re.compile(r"(?P<name>.+)-[^-]+-(?P<first>\d{12,})-(?P<end>\d{12,})\.parquet")
#: In the folder with the merged file, until the other folder is removed: the names of the merged files.
_MARKER = ".merged"

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2

_log = logging.getLogger(__name__)


class Compaction:
    """Compacts folders of one dataset; runs once, on its own thread.

    Args:
        root: folder of the dataset.
        position: the sequence up to which a collector's files are acknowledged; None if unknown.
        publishing: held by this process while it adds a file to the dataset.
    """

    def __init__(self, root: Path, position: Callable[[str], int | None], publishing: Lock) -> None:
        self._root, self._position, self._publishing = root, position, publishing
        self._staging = root / "_compaction"
        self._stopped = Event()

    def stop(self) -> None:
        """Ask ``run`` to return soon; the folder that it is compacting is left as it was."""
        self._stopped.set()

    def run(self, folders: Iterable[Path]) -> None:
        """Compact each of these folders of closed days. Blocks, also while another collector compacts.

        Errors are logged, not raised: the files are usable as they are.
        """
        try:
            with self._turn():
                self._finish_what_was_interrupted()
                for folder in folders:
                    self._compact(folder)
        except (OSError, ValueError, pa.ArrowException) as error:
            _log.warning("small files in %s were not merged: %s", self._root, error)
        except _StoppedError:
            pass

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        self._staging.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._staging / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            while not _locked(lock):
                if self._stopped.wait(1.0):
                    raise _StoppedError
            yield
        finally:
            os.close(lock)

    def _finish_what_was_interrupted(self) -> None:
        for staged in self._staging.glob("**/channel=*/exchange=*/symbol=*/date=*"):
            self._put_away(staged, self._root / staged.relative_to(self._staging))

    def _compact(self, folder: Path) -> None:
        small = sorted(filter(self._may_be_merged, folder.glob("*.parquet")), key=_order)
        if len(small) < 2:
            return
        staged = self._staging / folder.relative_to(self._root)
        staged.mkdir(parents=True)
        try:
            self._stage(small, staged)
        except Exception:
            shutil.rmtree(staged)  # a full disk needs the space
            raise
        with self._publishing:
            for file in set(folder.glob("*.parquet")) - set(small):
                (staged / file.name).hardlink_to(file)
            sync(staged)
            _exchange(staged, folder)
        sync(folder.parent)
        sync(staged.parent)
        self._put_away(staged, folder)
        _log.info("merged %d files in %s", len(small), folder)

    def _stage(self, small: list[Path], staged: Path) -> None:
        names = "\n".join(file.name for file in small).encode()
        with (staged / _MARKER).open("wb") as marker:
            marker.write(names)
            marker.flush()
            os.fsync(marker.fileno())  # if a power failure emptied it, the merged files would count as added
        self._merge(small, staged / f"merged-{hashlib.sha256(names).hexdigest()[:16]}.parquet")

    def _may_be_merged(self, file: Path) -> bool:
        match = _SMALL.fullmatch(file.name)
        if not match:
            return bool(_MERGED.fullmatch(file.name))
        position = self._position(match["name"])
        return position is not None and int(match["end"]) <= position

    def _merge(self, small: list[Path], merged: Path) -> None:
        with merged.open("wb") as file:
            with pq.ParquetWriter(file, pq.read_schema(small[0]), compression="zstd") as writer:
                for table in self._row_groups(small):
                    writer.write_table(table)
            file.flush()
            os.fsync(file.fileno())

    def _row_groups(self, small: list[Path]) -> Iterator[pa.Table]:
        gathered: list[pa.Table] = []
        rows = size = 0
        for table in self._tables(small):
            gathered.append(table)
            rows, size = rows + table.num_rows, size + table.nbytes
            if rows >= _ROWS or size >= _BYTES:
                yield pa.concat_tables(gathered)
                gathered, rows, size = [], 0, 0
        if gathered:
            yield pa.concat_tables(gathered)

    def _tables(self, small: list[Path]) -> Iterator[pa.Table]:
        """Yield the row groups of the files, one at a time: a file that was merged before may be large."""
        for path in small:
            with pq.ParquetFile(path) as file:
                for number in range(file.num_row_groups):
                    if self._stopped.is_set():
                        raise _StoppedError
                    yield file.read_row_group(number)

    def _put_away(self, staged: Path, folder: Path) -> None:
        """Remove the separate folder, which is incomplete or contains the merged files.

        A collector on another machine may have added a file at the moment of the exchange: it is kept.
        """
        marker = folder / _MARKER
        if not (staged / _MARKER).exists() and marker.exists():
            merged = set(marker.read_text().split("\n"))
            for file in staged.glob("*.parquet"):
                if file.name not in merged and not (folder / file.name).exists():
                    (folder / file.name).hardlink_to(file)
            sync(folder)
            marker.unlink()
        shutil.rmtree(staged)


class _StoppedError(Exception):
    """``stop`` was called."""


def sync(folder: Path) -> None:
    """Sync a folder, so that what was created in it or moved into it survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _order(file: Path) -> tuple[str, int]:
    """Return the sort key: files merged earlier first, then each collector's files in their order."""
    match = _SMALL.fullmatch(file.name)
    return (match["name"], int(match["first"])) if match else ("", 0)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _exchange(one: Path, other: Path) -> None:
    """Exchange two folders in one step, by a Linux system call that Python lacks."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, "this system cannot swap two folders")
    paths = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
