"""Whatever a message becomes fits into the spool and every store, and stays where it belongs."""

from collections import defaultdict
from collections.abc import Iterable

import bson
import msgspec

from collector import records as codec
from collector.batch import Batch
from collector.exchanges.quotes import stored
from collector.records import AnyRecord
from collector.stores import mongo, parquet_columns
from collector.stores import redis_layout as layout
from collector.stores.postgres_tables import TABLES


def check(found: Iterable[AnyRecord]) -> None:
    """See that the records can be kept, and that none of their texts is taken for something else."""
    records = [stored(record) for record in found]
    assert codec.decode(codec.encode(records)) == records
    for record, (_, inside, *times) in zip(records, layout.members(records), strict=True):
        member = f'{{"symbol":{layout.quoted(record.symbol)},{inside},"times":[{",".join(times)}]}}'
        assert msgspec.json.decode(member, type=dict)["symbol"] == record.symbol
    assert all(isinstance(text, str) for _, texts in layout.entries(records) for text in texts)
    _, reasons = mongo._documents(Batch("i", 0, records))
    assert not reasons, reasons
    assert all(bson.encode(mongo._document(record)) for record in records)
    by_kind = defaultdict(list)
    for record in records:
        by_kind[type(record)].append(record)
    for kind, some in by_kind.items():
        rows = TABLES[kind].text(some).split(b"\n")
        assert [row.count(b"\t") + 1 for row in rows[:-1]] == [len(TABLES[kind].columns)] * len(some)
        assert parquet_columns.table(kind, range(len(some)), some).num_rows == len(some)
