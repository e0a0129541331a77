"""MongoDB: unordered inserts under identifiers of ours, then the position.

Collections and documents are those that cryptofeed's backend means to write: ``trades``, ``ticker``,
``book`` (l2_book), ``funding``, ``open_interest``, ``liquidations``, ``candles``; ``l1_book``, ``l3_book``
and ``index`` are our addition. Numbers are strings with every digit, without an exponent. ``timestamp`` and
``receipt_timestamp`` are dates, which MongoDB cuts to milliseconds; beside them ``timestamp_seconds`` and
``receipt_timestamp_seconds`` are doubles that carry the rest. Other times are doubles too. ``bid`` and
``ask`` of a book are BSON documents in binary, ``{price: size}``, of a book by order
``{price: {order id: size}}``; ``delta`` tells a change from a full book. ``sequence`` numbers a collector's
records in the order in which they were received, whatever the clocks say.

A single server has no transactions. So ``_id`` is an ObjectId made from the receipt's second, the
incarnation and the sequence: what was inserted already is refused when it is sent again, and the position
follows when all of a batch is known to be there.
"""

import contextlib
import os
import re
import socket
import threading
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, get_args

import bson
import msgspec
from bson import DatetimeMS, ObjectId
from bson.errors import BSONError
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from msgspec import structs
from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    InvalidName,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
)

from collector.batch import UNKNOWN, Batch, Position, Refusal
from collector.gap_records import StoredGap
from collector.records import AnyRecord, Gap, L2Book, L3Book, Level, Order, channel_of, fields
from collector.settings import Settings
from collector.stores import (
    UNINTELLIGIBLE,
    Holder,
    PositionLostError,
    RightMissingError,
    StoreRefusedError,
    StoreUnavailableError,
    notes,
    tell_damage,
)
from collector.stores.mongo_rights import lacking_rights
from collector.stores.network_errors import unnumbered
from collector.times import SECOND

_POSITIONS = "cryptostore_position"
_NOTES = "cryptostore_note"
CONNECT_SECONDS = 10.0  # to find a server and connect to it
_COMMAND_SECONDS = 20.0
_MAX_DOCUMENT_BYTES = 16 * 2**20

_DUPLICATE_KEY = 11000
_UNAUTHORIZED = 13
#: Only a person can resolve these: not authorised, no such user, an invalid name, a view in our place.
_REFUSING_CODES = (_UNAUTHORIZED, 18, 73, 166, 8000)
#: Errors of a single write that are about the server's state (stopping, electing, full, busy), not about it.
_STATE_CODES = {
    *(6, 7, 24, 50, 89, 91, 112, 134, 146, 189, 262, 9001, 10107),
    *(11600, 11601, 11602, 13435, 13436, 14031),
    16500,  # Cosmos DB: too many requests
}
#: Reasons to refuse a record before it is sent.
_RECORD_ERRORS = (BSONError, ValueError, OverflowError)

_Document = dict[str, Any]


class _Reason(NamedTuple):
    """The reason for which a record is not stored; see Refusal."""

    text: str
    unwritable: bool


class _Held(msgspec.Struct):
    """The document of a position."""

    owner: str
    incarnation: str
    sequence: int
    who: str
    seen: datetime


class MongoStore:
    """One client, which does not retry by itself."""

    batch_records = 1000  # the server's cost of a command hardly depends on its size
    batch_seconds = 0.0
    fixed_batches = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._where = settings.where
        self._who = f"process {os.getpid()} on {socket.gethostname()}"
        self._client: AsyncIOMotorClient[_Document] | None = None

    async def open(self, name: str) -> Position | None:
        """Reconnect and read the position; see Store.open."""
        await self.close()
        with self._failures():
            self._client = AsyncIOMotorClient(**_options(self._settings))
            return await self._read_position(name)

    async def open_to_read(self) -> None:
        """Reconnect; see ReadableStore.open_to_read."""
        await self.close()
        with self._failures():
            self._client = AsyncIOMotorClient(**_options(self._settings))

    async def gaps(self, exchange: str, symbols: Collection[str]) -> Sequence[StoredGap]:
        """Return the gaps of an exchange's symbols."""
        asked = {"exchange": exchange, "symbol": {"$in": list(symbols)}}
        with self._failures():
            return [_gap(each) async for each in self._collection(COLLECTIONS[Gap]).find(asked)]

    async def _read_position(self, name: str) -> Position | None:
        """Return the position; one that is damaged starts over."""
        positions = self._collection(_POSITIONS)
        found = await positions.find_one({"_id": name})
        if found is None:
            return None
        try:
            held = msgspec.convert(found, _Held)
        except msgspec.ValidationError as error:
            tell_damage(f"{self._where}, collection {_POSITIONS}, _id {name}", error)
            nobody = _Held(**structs.asdict(UNKNOWN), who="nobody", seen=datetime.fromtimestamp(0, UTC))
            await positions.replace_one({"_id": name}, structs.asdict(nobody))
            return UNKNOWN
        return Position(held.owner, held.incarnation, held.sequence)

    async def commit(
        self, name: str, batch: Batch, expected: Position | None, after: Position
    ) -> Sequence[Refusal]:
        """Insert the batch's documents, then move the position; see Store.commit."""
        collections, reasons = _documents(batch)
        with self._failures():
            await self._check(name, expected)
            for collection, documents in collections.items():
                reasons |= await _insert(self._collection(collection), documents)
            if not reasons:
                await self._move(name, expected, after)
        return [
            Refusal(sequence, batch.records[sequence - batch.first], reason, unwritable)
            for sequence, (reason, unwritable) in sorted(reasons.items())
        ]

    def place(self, record: AnyRecord) -> str:
        """Return the record's collection."""
        return f"the collection {COLLECTIONS[type(record)]}"

    async def probe(self, name: str) -> None:
        """See whether the user has the rights that storing needs; see ProbedStore.probe."""
        del name  # the same rights for all
        await self.open_to_read()
        channels = (*self._settings.channels, "gaps")
        needed = [(of, action) for of in (_POSITIONS, _NOTES) for action in ("find", "insert", "update")]
        needed += [(of, "insert") for kind, of in COLLECTIONS.items() if channel_of(kind) in channels]
        with self._failures():
            database = self._collection(_POSITIONS).database
            try:
                told = await database.command("connectionStatus", showPrivileges=True)
            except OperationFailure:  # a server of another make, which does not know that
                return
            if lacking := lacking_rights(told["authInfo"], database.name, needed):
                what, remedy = lacking
                raise RightMissingError(f"{self._where}: the user lacks a right: {what}", remedy)

    async def note(self, name: str, text: str) -> None:
        """Store a note, as a document of its own."""
        with self._failures():
            await self._collection(_NOTES).update_one({"_id": name}, {"$set": {"note": text}}, upsert=True)

    async def notes(self) -> Mapping[str, str]:
        """Return the notes of this exchange; the server selects them, so that no others are sent."""
        ours, any_ = (
            {"$regex": f"^{re.escape(text)}"}
            for text in (notes.beginning(self._settings.exchange), notes.BEGINNING)
        )
        of_exchange = {"$or": [{"note": ours}, {"note": {"$not": any_}}]}  # and those that are damaged
        with self._failures():
            return {
                each["_id"]: str(each.get("note"))
                async for each in self._collection(_NOTES).find(of_exchange)
            }

    async def holder(self, name: str) -> Holder | None:
        """Return who last moved the position."""
        with self._failures():
            positions = self._collection(_POSITIONS)
            found = await positions.find_one({"_id": name})
            if not found:
                return None
            now = (await positions.database.command("hello"))["localTime"]
            held = msgspec.convert(found, _Held)
            return Holder(held.owner, held.who, (now - held.seen).total_seconds())

    async def release(self, name: str, position: Position) -> None:
        """Clear the holder's last sign of life, if it is still the holder."""
        with self._failures():
            await self._collection(_POSITIONS).update_one(
                {"_id": name, **structs.asdict(position)}, {"$set": {"seen": datetime.fromtimestamp(0, UTC)}}
            )

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            # Closing contacts the server, which may hang: nothing waits for it, not even the interpreter.
            threading.Thread(target=client.close, daemon=True).start()

    async def _check(self, name: str, expected: Position | None) -> None:
        """Raise PositionLostError, before anything is inserted, if the position is another's now."""
        known = structs.asdict(expected) if expected else {}
        found = await self._collection(_POSITIONS).find_one({"_id": name, **known})
        if (found is None) != (expected is None):
            raise self._lost(name)

    async def _move(self, name: str, expected: Position | None, after: Position) -> None:
        known = {"owner": {"$exists": False}} if expected is None else structs.asdict(expected)
        moved = structs.asdict(after) | {"who": self._who}
        try:
            result = await self._collection(_POSITIONS).update_one(
                {"_id": name, **known},
                {"$set": moved, "$currentDate": {"seen": True}},
                upsert=expected is None,
            )
        except DuplicateKeyError:
            pass
        else:
            if result.matched_count or result.upserted_id is not None:
                return
        raise self._lost(name)

    def _lost(self, name: str) -> PositionLostError:
        return PositionLostError(f"{self._where}: the position of {name} was changed by another process")

    def _collection(self, name: str) -> AsyncIOMotorCollection[_Document]:
        if self._client is None:
            raise StoreUnavailableError(f"{self._where}: not connected")
        return self._client[self._settings.database or ""][name]

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except OperationFailure as error:
            kind = StoreRefusedError if error.code in _REFUSING_CODES else StoreUnavailableError
            what = _what(error)
            if error.code == _UNAUTHORIZED:
                what = f"the user lacks a right ({what})"
            raise self._failure(kind, what) from error
        except (
            ConfigurationError,
            InvalidName,
            InvalidOperation,
            ValueError,
            TypeError,
            msgspec.ValidationError,
        ) as error:
            raise self._failure(StoreRefusedError, str(error)) from error
        except (*UNINTELLIGIBLE, BSONError) as error:
            why = f"it does not answer like MongoDB ({type(error).__name__}: {error})"
            raise self._failure(StoreUnavailableError, why) from error
        except (PyMongoError, OSError) as error:
            # what follows is the driver's view of the whole deployment
            what = str(error).partition(" (configured")[0].partition(", Timeout:")[0]
            raise self._failure(
                StoreUnavailableError, unnumbered(what.removeprefix(f"{self._where}: "))
            ) from error

    def _failure(self, kind: type[Exception], what: str) -> Exception:
        return kind(f"{self._where}: {self._settings.masked(what)}")


def _options(settings: Settings) -> _Document:
    """Return the driver's options. The URL's apply, except those that exactly-once storage depends on.

    Raises ValueError if the URL asks for unacknowledged writes.
    """
    told = {name.lower(): value for name, value in settings.url.options.items()} if settings.url else {}
    if not (told.get("w") or "1").strip("+-0"):
        raise ValueError("w=0 in the URL would hide whether a record is stored; write w=majority")
    defaults = {
        "appname": "cryptostore",
        "w": "majority",
        "journal": True,
        "serverSelectionTimeoutMS": int(CONNECT_SECONDS * 1000),
        "connectTimeoutMS": int(CONNECT_SECONDS * 1000),
        "socketTimeoutMS": int(_COMMAND_SECONDS * 1000),
    }
    options = {name: value for name, value in defaults.items() if name.lower() not in told}
    given = {"username": settings.user, "password": settings.password}
    options |= {name: value for name, value in given.items() if value is not None}
    options |= {"retryWrites": False, "retryReads": False, "readPreference": "primary"}
    if settings.url:
        return options | {"host": settings.url.text}
    return options | {"host": settings.host, "port": settings.port}


def _what(error: OperationFailure) -> str:
    """Return the server's message; the driver's text repeats the documents."""
    details = error.details or {}
    for told in (details, *details.get("writeErrors", ()), *details.get("writeConcernErrors", ())):
        if "errmsg" in told:
            return str(told["errmsg"])
    return str(error)


def _documents(batch: Batch) -> tuple[dict[str, dict[int, _Document]], dict[int, _Reason]]:
    """Return the batch's documents by collection and sequence, and why other records cannot become any."""
    collections: dict[str, dict[int, _Document]] = defaultdict(dict)
    reasons: dict[int, _Reason] = {}
    incarnation = zlib.crc32(batch.incarnation.encode()).to_bytes(4)
    for sequence, record in zip(*batch.kept, strict=True):
        try:
            document = _document(record)
            second = record.receipt_timestamp // SECOND % 2**32
            document["sequence"] = sequence
            document["_id"] = ObjectId(second.to_bytes(4) + incarnation + (sequence % 2**32).to_bytes(4))
        except _RECORD_ERRORS as error:
            reasons[sequence] = _Reason(str(error), unwritable=True)
        else:
            collections[COLLECTIONS[type(record)]][sequence] = document
    return collections, reasons


def _document(record: AnyRecord) -> _Document:
    document = fields(record)
    for name in ("timestamp", "receipt_timestamp"):
        seconds = document[name]
        document[name] = DatetimeMS(round(seconds * 1e6) // 1000)
        document[f"{name}_seconds"] = seconds
    if isinstance(record, L2Book):
        document |= {"bid": _levels(record.bid), "ask": _levels(record.ask)}
    elif isinstance(record, L3Book):
        document |= {"bid": _orders(record.bid), "ask": _orders(record.ask)}
    return document


def _gap(document: _Document) -> StoredGap:
    """Return the gap that a document was made of. Raises msgspec.ValidationError if it is not one."""
    return msgspec.convert({name: document.get(name) for name in StoredGap.__struct_fields__}, StoredGap)


def _levels(levels: Iterable[Level]) -> bytes:
    return bson.encode(dict(levels))


def _orders(orders: Iterable[Order]) -> bytes:
    prices: dict[str, dict[str, str]] = defaultdict(dict)
    for order_id, price, size in orders:
        prices[price][order_id] = size
    return bson.encode(prices)


COLLECTIONS: dict[type[AnyRecord], str] = {
    record_type: "book" if record_type is L2Book else channel_of(record_type)
    for record_type in get_args(AnyRecord)
}


async def _insert(
    collection: AsyncIOMotorCollection[_Document], documents: dict[int, _Document]
) -> dict[int, _Reason]:
    """Insert the documents that are not there yet; return why some, by sequence, were refused."""
    try:
        await collection.insert_many(documents.values(), ordered=False)
    except BulkWriteError as error:
        failed = await _failed(collection, error.details["writeErrors"])
        if error.details["writeConcernErrors"] or any(write["code"] in _STATE_CODES for write in failed):
            raise
        sequences = list(documents)
        reasons = {sequences[write["index"]]: _Reason(write["errmsg"], unwritable=False) for write in failed}
        if len(reasons) in (0, len(documents)):
            return reasons
        # It took some: those that it takes now were refused by what somebody has corrected in the meantime.
        return await _insert(collection, {sequence: documents[sequence] for sequence in reasons})
    except _RECORD_ERRORS:
        reasons = _unfit(documents)
        if not reasons:
            raise
        fit = {sequence: documents[sequence] for sequence in documents.keys() - reasons.keys()}
        return reasons | (await _insert(collection, fit) if fit else {})
    return {}


async def _failed(
    collection: AsyncIOMotorCollection[_Document], writes: Sequence[_Document]
) -> list[_Document]:
    """Return the writes that failed for a reason other than that their ``_id`` exists already."""
    nameless = [write["op"] for write in writes if _is_duplicate(write) and "keyPattern" not in write]
    there = await _there(collection, nameless) if nameless else set()
    return [
        write
        for write in writes
        if not (
            _is_duplicate(write) and (write["op"]["_id"] in there or write.get("keyPattern") == {"_id": 1})
        )
    ]


async def _there(collection: AsyncIOMotorCollection[_Document], documents: Sequence[_Document]) -> set[Any]:
    """Return the ids of the documents that exist, if the server does not say which key is a duplicate.

    FerretDB reads the whole collection to find some of it. If no other index is unique, the duplicate key is
    the id; inserting them again covers an index that was dropped a moment ago.
    """
    ids = {document["_id"] for document in documents}
    indexes = await collection.index_information()
    if any(index.get("unique") for name, index in indexes.items() if name != "_id_"):
        return {each["_id"] async for each in collection.find({"_id": {"$in": list(ids)}}, {"_id": 1})}
    try:
        await collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        return ids - {
            write["op"]["_id"] for write in error.details["writeErrors"] if not _is_duplicate(write)
        }
    return ids


def _is_duplicate(write: _Document) -> bool:
    return bool(write["code"] == _DUPLICATE_KEY)


def _unfit(documents: dict[int, _Document]) -> dict[int, _Reason]:
    """Return why some documents, by sequence, cannot be sent."""
    reasons = {}
    for sequence, document in documents.items():
        try:
            size = len(bson.encode(document))
        except _RECORD_ERRORS as error:
            reasons[sequence] = _Reason(str(error), unwritable=True)
        else:
            if size > _MAX_DOCUMENT_BYTES:
                text = f"a document of {size} bytes; MongoDB takes {_MAX_DOCUMENT_BYTES}"
                reasons[sequence] = _Reason(text, unwritable=True)
    return reasons
