"""Where records end up. One small interface carries the protocol that makes storing exactly-once.

A store keeps one ``Position`` per collector name and commits it together with the data, in one atomic
step, on the condition that the position is still the one expected. No store retries by itself:
the writer decides, because only a fresh look at the position tells whether a lost answer was a commit.
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

#: What a driver, or whoever reads what it returns, may raise of an answer that no such server gives.
UNINTELLIGIBLE = (
    *(TypeError, ValueError, LookupError, AttributeError, AssertionError, BufferError),
    *(OverflowError, MemoryError, RecursionError, struct.error, msgspec.DecodeError),
)
GONE = 15.0  # seconds without a sign of life after which a holder counts as gone


def tell_damage(where: str, what: object) -> None:
    """Say that a position cannot be read, and what becomes of it."""
    _log.warning(
        "%s: the position is damaged and starts over; the spool knows what was acknowledged: %s", where, what
    )


class StoreUnavailableError(Exception):
    """The store cannot be reached or cannot take data now; trying again later may help."""


class StoreRefusedError(Exception):
    """The store will not have us (credentials, another type under our key); somebody must act."""


class NoTablesError(StoreRefusedError):
    """What records go into is not there, and is not ours to make."""


class NothingStoredError(Exception):
    """No collector has stored anything in the store yet, and reading makes nothing."""


class PositionLostError(Exception):
    """The position is not the one expected: another writer is at work, or the store forgot."""


class Store(Protocol):
    """A backend. ``name`` in the calls is the collector's name.

    Attributes:
        batch_records: most records it likes in one commit.
        batch_seconds: how long records may be gathered for one commit.
        fixed_batches: a batch that may have been tried must be tried again with the same bounds.
    """

    batch_records: int
    batch_seconds: float
    fixed_batches: bool

    async def open(self, name: str) -> Position | None:
        """Reconnect and read the position; return None if the store knows no collector of that name.

        Raises StoreUnavailableError or StoreRefusedError.
        """

    async def commit(
        self, name: str, batch: Batch, expected: Position | None, after: Position
    ) -> Sequence[Refusal]:
        """Store what is to be stored of ``batch``, and move the position from ``expected`` to ``after``.

        Returns the records that are refused; all others of the batch would be taken. Then the position has
        not moved, and the batch without them can be stored next: whoever keeps them elsewhere does so before
        that.
        Raises StoreUnavailableError (the outcome is unknown: open again and look), StoreRefusedError
        or PositionLostError.
        """

    def place(self, record: AnyRecord) -> str:
        """Return what the record is stored in, for a person: the table, collection, key or folder."""

    async def note(self, name: str, text: str) -> None:
        """Keep ``text`` as the note of collector ``name``: what it had seen when; see gaps/continuity.py.

        It comes after the commits that it speaks of, and a store that forgets one of these forgets the note.
        Raises StoreUnavailableError or StoreRefusedError.
        """

    async def notes(self) -> Mapping[str, str]:
        """The notes of all collectors of the exchange that share the store, by name. Raises as ``note`` does.

        Those of other exchanges say nothing to a collector, and are many: `notes.beginning` tells them apart.
        """

    async def close(self) -> None:
        """Let go of connections; never raises."""


@runtime_checkable
class FixedStore(Store, Protocol):
    """A store whose batches are fixed: what an unfinished one left is known by its bounds."""

    async def discard(self, name: str, position: Position) -> None:
        """Remove what an unfinished batch after ``position`` left, so that it can be tried in parts.

        Raises StoreUnavailableError or StoreRefusedError.
        """


@runtime_checkable
class ProbedStore(Store, Protocol):
    """A store that says whether it would take records, without taking one."""

    async def probe(self, name: str) -> None:
        """See whether collector ``name`` may do all that a commit takes.

        Raises StoreUnavailableError or StoreRefusedError.
        """


class Holder(msgspec.Struct, frozen=True):
    """Who moved a position last.

    Attributes:
        owner: the position's.
        who: the process, for a person to find it: ``process 7 on host``.
        idle: seconds since its last sign of life, by the store's clock.
    """

    owner: str
    who: str
    idle: float

    @property
    def is_gone(self) -> bool:
        """Whether it has given no sign of life for so long that it does not live any more."""
        return self.idle >= GONE


@runtime_checkable
class SharedStore(Store, Protocol):
    """A store that collectors on different machines reach: two of one name must not both write.

    Every ``commit``, also one of an empty batch, is a sign of life.
    """

    async def holder(self, name: str) -> Holder | None:
        """Return who holds the position of ``name``; None if there is none."""

    async def release(self, name: str, position: Position) -> None:
        """Say that the holder of ``position`` is gone, so that its successor need not wait."""


@runtime_checkable
class ReadableStore(Store, Protocol):
    """A store that tells what is missing in it."""

    async def open_to_read(self) -> None:
        """Connect for ``notes`` and ``gaps``; nothing is created, claimed or changed.

        Raises NothingStoredError, StoreUnavailableError or StoreRefusedError.
        """

    async def gaps(self, exchange: str, symbols: Collection[str]) -> Sequence[StoredGap]:
        """Return the gaps of an exchange's symbols, in no order.

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
    """Return the store that ``settings`` ask for, not yet opened."""
    module, name = _CLASSES[settings.backend].split(".")
    # Each backend's library is imported only where it is used: they are slow to load.
    made: Store = getattr(import_module(f"collector.stores.{module}"), name)(settings)
    return made
