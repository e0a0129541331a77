"""The data dictionary of docs/stores.md, from what is found in real stores and from the texts below.

python dictionary.py      rewrites it (with tests/ and this folder on PYTHONPATH)
"""

import asyncio
import json
import tempfile
from pathlib import Path

import asyncpg
import pyarrow.parquet as pq
import pymongo
from conformance import HARNESSES, Pipeline
from every_kind import EVERY_KIND

from collector.stores.parquet_columns import TEXT

DOCUMENT = Path(__file__).parents[3] / "docs" / "stores.md"
BEGIN, END = "<!-- dictionary: written by tests/collector/stores/dictionary.py -->\n", "<!-- end -->\n"

_HEAD = "| name | type | unit | source |\n| --- | --- | --- | --- |\n"
_PRICE, _AMOUNT = "quote currency", "base currency, or contracts"
_SENT = "the exchange"
_OURS = "the collector"
#: Unit and source of a field, by its name, or by table and name where tables differ.
FIELDS = {
    "id": ("none", "the exchange; none if it sends none"),
    "_id": ("none", "the collector: second of the receipt, incarnation, sequence"),
    "sequence": ("count", "the collector: numbers its records in the order of arrival"),
    "timestamp": ("time, UTC", "the exchange's time of the event; the receipt if it sends none"),
    "receipt_timestamp": ("time, UTC", "the collector's clock when the message arrived"),
    "timestamp_seconds": ("seconds since 1970, UTC", "`timestamp`, to the microsecond"),
    "receipt_timestamp_seconds": ("seconds since 1970, UTC", "`receipt_timestamp`, to the microsecond"),
    "exchange": ("cryptofeed's id", _OURS),
    "symbol": ("cryptofeed's naming", _SENT),
    "date": ("day, UTC", "the receipt's"),
    "side": ("buy or sell", "the exchange: the taker's side"),
    "liquidations.side": ("buy or sell", "the exchange: the side of the forced order"),
    "amount": (_AMOUNT, _SENT),
    "quantity": (_AMOUNT, _SENT),
    "price": (_PRICE, _SENT),
    "trade_id": ("none", "the exchange; none if it sends none"),
    "type": ("limit, market, ...", "the exchange; none if it sends none"),
    "order_type": ("limit, market, ...", "the exchange; none if it sends none"),
    "bid": (_PRICE, "the exchange: the best bid"),
    "ask": (_PRICE, "the exchange: the best ask"),
    "bid_price": (_PRICE, "the exchange: the best bid"),
    "bid_size": (_AMOUNT, _SENT),
    "ask_price": (_PRICE, "the exchange: the best ask"),
    "ask_size": (_AMOUNT, _SENT),
    "book.bid": ("price and size per level", "the exchange; in a delta, size 0 removes the level"),
    "book.ask": ("price and size per level", "the exchange; in a delta, size 0 removes the level"),
    "l3_book.bid": ("order, price and size", "the exchange; in a delta, size 0 removes the order"),
    "l3_book.ask": ("order, price and size", "the exchange; in a delta, size 0 removes the order"),
    "book": ("price and size per level", "the exchange: the whole book; a record has either this or `delta`"),
    "delta": ("price and size per level", "the exchange: what changed; size 0 removes the level"),
    "flag.delta": ("yes or no", "the collector: yes for changes, no for a whole book"),
    "data": ("price and size per level", "the exchange: `snapshot` is a whole book, `delta` what changed"),
    "mark_price": (_PRICE, _SENT),
    "rate": ("fraction per funding period", _SENT),
    "next_funding_time": ("time, UTC", _SENT),
    "predicted_rate": ("fraction per funding period", _SENT),
    "open_interest": ("contracts, or base currency", _SENT),
    "status": ("filled, unfilled, ...", "the exchange; none if it sends none"),
    "start": ("time, UTC", "the exchange: when the candle begins"),
    "stop": ("time, UTC", "the exchange: when the candle ends"),
    "candle_start": ("time, UTC", "the exchange: when the candle begins"),
    "candle_stop": ("time, UTC", "the exchange: when the candle ends"),
    "interval": ("1m, 1h, ...", _SENT),
    "trades": ("count", "the exchange; none if it sends none"),
    "open": (_PRICE, _SENT),
    "close": (_PRICE, _SENT),
    "high": (_PRICE, _SENT),
    "low": (_PRICE, _SENT),
    "volume": (_AMOUNT, _SENT),
    "closed": ("yes or no", "the exchange; none if it does not say"),
    "missed": ("channel", "the collector: the channel whose records are missing"),
    "gaps.start": ("time, UTC", "the collector: everything before was seen"),
    "gaps.end": ("time, UTC", "the collector: everything after is seen again"),
    "gaps.timestamp": ("time, UTC", "the collector: `end`"),
    "gaps.receipt_timestamp": ("time, UTC", "the collector's clock when it recorded the gap"),
    "reason": ("word", "the collector; see Gaps"),
    "count": ("records", "the collector: how many are missing; none if unknown"),
    "name": ("NAME", _OURS),
    "owner": ("random id", "the collector: the spool that the records come from"),
    "incarnation": ("random id", "the collector: one opening of that spool"),
    "position.sequence": ("count", "the collector: the next record to store"),
    "who": ("process and host", "the collector that stored last"),
    "seen": ("time", "the store's clock: last sign of life"),
    "note": ("JSON", "the collector: what it records and up to when it has seen it"),
}
#: Identifiers that are ours, not the exchange's.
OUR_IDS = ("count", "the store: in the order in which it stored them")


def describe(backend, table, columns, column):
    """One row of a dictionary."""
    types, stem = columns[column], column.removesuffix(TEXT)
    base = table.partition("-")[0].removeprefix("v2/channel=").partition("/")[0]
    book = base in ("book", "l2_book", "l3_book")
    if "position" in table and column == "sequence":
        unit, source = FIELDS["position.sequence"]
    elif "note" in table or column.startswith("{"):
        unit, source = FIELDS["name" if column in ("_id", "name") else "note"]
    elif "position" in table and column == "_id":
        unit, source = FIELDS["name"]
    elif column == "id" and backend == "POSTGRES":
        unit, source = OUR_IDS
    elif column == "delta" and types == {"bool"}:
        unit, source = FIELDS["flag.delta"]
    else:
        place = "l3_book" if base == "l3_book" else "book" if book else base
        unit, source = FIELDS.get(f"{place}.{stem}") or FIELDS[stem]
    if column.endswith(TEXT):
        source = f"{source}; every digit: **this is the record**"
    elif f"{column}{TEXT}" in columns:
        source = f"the double nearest to `{column}{TEXT}`, for calculations"
    if unit.startswith("time") and types & {"text", "number", "double"}:
        unit = "seconds since 1970, UTC"
    return f"| `{column}` | {_joined(types)} | {unit} | {source} |\n"


def _joined(types):
    told = sorted(types - {"null"}) or ["null"]
    return " or ".join(told) + (", or null" if "null" in types and told != ["null"] else "")


def render(backend, found):
    """A store's part of the dictionary."""
    parts = [f"### {backend}\n\n"]
    for table, columns in found.items():
        rows = "".join(describe(backend, table, columns, column) for column in columns)
        parts.append(f"#### `{table}`\n\n{_HEAD}{rows}\n")
    return "".join(parts)


async def found_in(harness):
    """What a real store holds after one record of every kind: types by column by table."""
    with harness.server() as server, tempfile.TemporaryDirectory() as folder:
        async with Pipeline(harness.settings(server, folder)) as pipeline:
            await pipeline.send(EVERY_KIND)
            await pipeline.delivered()
            await pipeline.writer._store.note(pipeline.settings.name, "{}")
        look = {"POSTGRES": _postgres, "MONGO": _mongo, "PARQUET": _parquet}.get(harness.backend, _redis)
        found = await look(server)
    return dict(sorted(found.items(), key=lambda item: (_ours(item[0]), item[0])))


def _ours(table):
    """Whether it holds no records; these come last."""
    return table.startswith(("cryptostore", "_positions"))


async def _postgres(server):
    connection = await asyncpg.connect(server.url)
    rows = await connection.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns"
        " WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
    )
    await connection.close()
    found = {}
    for table, column, kind in rows:
        found.setdefault(table, {})[column] = {kind}
    return found


async def _mongo(server):
    names = {
        "str": "text",
        "float": "double",
        "int": "integer",
        "Int64": "integer",
        "bytes": "BSON",
        "NoneType": "null",
    }
    names |= {"datetime": "date", "ObjectId": "ObjectId", "bool": "bool"}
    found = {}
    with pymongo.MongoClient(server.url) as client:
        for name in client["postgres"].list_collection_names():
            for document in client["postgres"][name].find():
                for field, value in document.items():
                    types = found.setdefault(name, {}).setdefault(field, set())
                    types.add(names[type(value).__name__])
    return found


async def _redis(server):
    found = {}
    with server.client(decode_responses=True) as client:
        for key in sorted(client.scan_iter()):
            kind = client.type(key)
            if kind == "stream":
                entries = [fields for _, fields in client.xrange(key)]
            elif kind == "zset":
                entries = [json.loads(member) for member in client.zrange(key, 0, -1)]
            else:
                entries = [client.hgetall(key)]
            for entry in entries:
                for field, value in entry.items():
                    columns = found.setdefault(_pattern(key), {})
                    columns.setdefault(_pattern(field), set()).add(_json_type(value))
    return found


def _json_type(value):
    if isinstance(value, bool):
        return "bool"
    return {str: "text", dict: "object", int: "number", float: "number", type(None): "null"}[type(value)]


async def _parquet(server):
    found = {}
    for file in sorted(server.data.rglob("*.parquet")):
        schema = pq.read_schema(file)
        columns = {name: {str(kind)} for name, kind in zip(schema.names, schema.types, strict=True)}
        version, channel, *parts, _ = file.relative_to(server.data).parts
        columns |= {part.partition("=")[0]: {"folder"} for part in parts}
        found[f"{version}/{channel}/..."] = columns
    for file in (server.data / "_positions").glob("*.json"):
        position = json.loads(file.read_text())
        found["_positions/{NAME}.json"] = {name: {_json_type(value)} for name, value in position.items()}
    found["_positions/{NAME}.note"] = {"{all of it}": {"text"}}
    return found


def _pattern(key):
    return (
        key.replace("notes:COINBASE", "notes:{exchange}")
        .replace("COINBASE-BTC-USD", "{exchange}-{symbol}")
        .replace("conformance", "{NAME}")
    )


def sections():
    """The document in three: what comes before the dictionary, the dictionary, what comes after."""
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    dictionary, _, after = rest.partition(END)
    return before + BEGIN, dictionary, END + after


async def _write():
    before, _, after = sections()
    parts = [render(harness.backend, await found_in(harness)) for harness in HARNESSES]
    DOCUMENT.write_text(before + "\n" + "".join(parts) + after)


if __name__ == "__main__":
    asyncio.run(_write())
