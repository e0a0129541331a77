"""The interface of all stores, whose protocol stores each record exactly once.

A store keeps one ``Position`` per collector name and commits it together with the data, in one atomic
step, on the condition that the position is still the one expected. No store retries by itself: the writer
decides, because only re-reading the position shows whether a commit whose answer was lost took place.
"""

import logging
import struct
from collections.abc import Collection, Mapping, Sequence
from importlib import import_module
from typing import Protocol, runtime_checkable

import msgspec

from collector.batch import Batch, Position, Refusal
from collector.gap_records import StoredGap
from collector.records import AnyRecord
from collector.settings import Settings

_log = logging.getLogger(__name__)

#: What a driver, or the code that reads its results, may raise for an answer that no such server gives.
UNINTELLIGIBLE = (
    *(TypeError, ValueError, LookupError, AttributeError, AssertionError, BufferError),
    *(OverflowError, MemoryError, RecursionError, struct.error, msgspec.DecodeError),
)
GONE = 15.0  # seconds without a sign of life after which a holder counts as gone


def tell_damage(where: str, what: object) -> None:
    """Log that a position cannot be read and starts over."""
    _log.warning(
        "%s: the position is damaged and starts over; the spool knows what was acknowledged: %s", where, what
    )


class StoreUnavailableError(Exception):
    """The store cannot be reached or cannot take data now; trying again later may help."""


class StoreRefusedError(Exception):
    """The store refuses the collector (credentials, another type under our key); a person must act."""


class RightMissingError(StoreRefusedError):
    """The store's user lacks a right that the collector needs; ``remedy`` says how it is granted."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class NoTablesError(StoreRefusedError):
    """The tables are missing, and the collector may not create them."""


class NothingStoredError(Exception):
    """No collector has stored anything in the store yet, and reading creates nothing."""


class PositionLostError(Exception):
    """The position is not the one expected: another writer is active, or the store forgot."""


class Store(Protocol):
    """A backend. ``name`` in the calls is the collector's name.

    Attributes:
        batch_records: the most records in one commit.
        batch_seconds: how long records may be gathered for one commit.
        fixed_batches: whether a batch that may have been tried must be retried with the same bounds.
    """

    batch_records: int
    batch_seconds: float
    fixed_batches: bool

    async def open(self, name: str) -> Position | None:
        """Reconnect and return the position; None if the store has no collector of that name.

        Raises StoreUnavailableError or StoreRefusedError.
        """

    async def commit(
        self, name: str, batch: Batch, expected: Position | None, after: Position
    ) -> Sequence[Refusal]:
        """Store the records that ``batch`` keeps, and move the position from ``expected`` to ``after``.

        Returns the records that are refused; the store would accept all others of the batch. In that case the
        position has not moved: the caller keeps the refused ones elsewhere, then commits the batch without
        them.
        Raises StoreUnavailableError (the outcome is unknown: open again and compare the position),
        StoreRefusedError or PositionLostError.
        """

    def place(self, record: AnyRecord) -> str:
        """Return where the record is stored, for messages: the table, collection, key or folder."""

    async def note(self, name: str, text: str) -> None:
        """Store ``text`` as the note of collector ``name``: until when it has seen what (gaps/continuity.py).

        It is written after the commits that it describes, and a store that forgets one of these forgets the
        note too. Raises StoreUnavailableError or StoreRefusedError.
        """

    async def notes(self) -> Mapping[str, str]:
        """Return the notes of all collectors of this exchange in the store, by name. Raises as ``note`` does.

        Those of other exchanges are of no use and may be many: `notes.beginning` distinguishes them.
        """

    async def close(self) -> None:
        """Close the connections; never raises."""


@runtime_checkable
class FixedStore(Store, Protocol):
    """A store whose batches are fixed: the bounds of an unfinished one identify what it left behind."""

    async def discard(self, name: str, position: Position) -> None:
        """Remove what an unfinished batch that begins at ``position`` left, so that it can be tried in parts.

        Raises StoreUnavailableError or StoreRefusedError.
        """


@runtime_checkable
class ProbedStore(Store, Protocol):
    """A store that can say whether it would accept records, without storing one."""

    async def probe(self, name: str) -> None:
        """Reconnect, and check that collector ``name`` may do everything that a commit needs.

        Raises StoreUnavailableError or StoreRefusedError; RightMissingError if the user lacks a right.
        """


class Holder(msgspec.Struct, frozen=True):
    """The process that last moved a position.

    Attributes:
        owner: the owner in the position.
        who: the process, for messages: ``process 7 on host``.
        idle: seconds since its last sign of life, by the store's clock.
    """

    owner: str
    who: str
    idle: float

    @property
    def is_gone(self) -> bool:
        """Whether its last sign of life is so long ago that it counts as gone."""
        return self.idle >= GONE


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that collectors on different machines can reach: two with one name must not both write.

    Every ``commit``, even of an empty batch, is a sign of life.
    """

    async def holder(self, name: str) -> Holder | None:
        """Return who holds the position of ``name``; None if there is none."""

    async def release(self, name: str, position: Position) -> None:
        """Record that the holder of ``position`` is gone, so that its successor need not wait."""


@runtime_checkable
class ReadableStore(Store, Protocol):
    """A store that can be read to find out what is missing in it."""

    async def open_to_read(self) -> None:
        """Connect for ``notes`` and ``gaps``; nothing is created, claimed or changed.

        Raises NothingStoredError, StoreUnavailableError or StoreRefusedError.
        """

    async def gaps(self, exchange: str, symbols: Collection[str]) -> Sequence[StoredGap]:
        """Return the gaps of an exchange's symbols, in no particular order.

        Raises StoreUnavailableError or StoreRefusedError.
        """


_CLASSES = {
    "REDIS": "redis.RedisStore",
    "REDISSTREAM": "redis.RedisStore",
    "MONGO": "mongo.MongoStore",
    "POSTGRES": "postgres.PostgresStore",
    "PARQUET": "parquet.ParquetStore",
    "TTY": "terminal.TerminalStore",
}


def create(settings: Settings) -> Store:
    """Return the store that ``settings`` name, not yet opened."""
    module, name = _CLASSES[settings.backend].split(".")
    # Import only the chosen backend's library: they are slow to load.
    made: Store = getattr(import_module(f"collector.stores.{module}"), name)(settings)
    return made
