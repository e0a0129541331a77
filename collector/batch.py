"""What passes from a spool to a store: batches of records, and positions, how far a store has got."""

from collections.abc import Iterable, Sequence

import msgspec

from collector.records import AnyRecord


class Position(msgspec.Struct, frozen=True):
    """How far a store has got with one collector's records.

    Attributes:
        owner: identity of the spool that the records come from.
        incarnation: the run of that spool under which the last stored record was written.
        sequence: of the next record to store; with the incarnation it never names two records.
    """

    owner: str
    incarnation: str
    sequence: int


#: A position that belongs to no spool. It replaces one that cannot be read, so that the spool decides.
UNKNOWN = Position("unknown", "unknown", 0)


class Refusal(msgspec.Struct, frozen=True):
    """A record that was not stored, and why.

    Attributes:
        sequence: the record's.
        record: what was refused.
        reason: in the words of what refused it.
        unwritable: no store of this kind could hold it, which was found before it was sent. Otherwise the
            store refused it, which may be the store's fault: writer.py decides that.
    """

    sequence: int
    record: AnyRecord
    reason: str
    unwritable: bool = False


class Batch(msgspec.Struct, frozen=True):
    """Consecutive records of one incarnation; ``records[i]`` has the sequence ``first + i``.

    ``refused`` are sequences of records that the store refused, and that must not be stored.
    """

    incarnation: str
    first: int
    records: Sequence[AnyRecord]
    refused: frozenset[int] = frozenset()

    @property
    def end(self) -> int:
        """The sequence after the last record."""
        return self.first + len(self.records)

    @property
    def kept(self) -> tuple[Sequence[int], Sequence[AnyRecord]]:
        """What is to be stored: sequences and their records."""
        sequences: Sequence[int] = range(self.first, self.end)
        if not self.refused:
            return sequences, self.records
        sequences = [sequence for sequence in sequences if sequence not in self.refused]
        return sequences, [self.records[sequence - self.first] for sequence in sequences]

    def without(self, refusals: Iterable[Refusal]) -> "Batch":
        """Return the batch without these."""
        refused = self.refused.union(refusal.sequence for refusal in refusals)
        return Batch(self.incarnation, self.first, self.records, refused)

    def before(self, sequence: int) -> "Batch":
        """Return the part of the batch that comes before ``sequence``."""
        return Batch(self.incarnation, self.first, self.records[: sequence - self.first], self.refused)
