"""What is in a spool."""

from collector.batch import Position
from collector.records import AnyRecord
from collector.spool.spool import Spool


async def spooled(spool: Spool) -> list[AnyRecord]:
    """All records of ``spool``, oldest first."""
    records: list[AnyRecord] = []
    position = (await spool.resume(None)).after
    while batch := await spool.read(position, 1000):
        records += batch.records
        position = Position(spool.owner, batch.incarnation, batch.end)
    return records
