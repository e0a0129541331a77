"""Redis, as streams (REDISSTREAM) or sorted sets (REDIS), under cryptofeed's own keys and fields.

One script call stores a batch: it compares the position, adds the records, and advances the position. A
script cannot be rolled back, so it checks the outcome of every single command, stops at the first error, and
advances the position only up to there. Such an error always concerns the server: a record that Redis would
refuse, because a time is not a number, is found before it is sent.

Nothing is added twice, even if a truncated append-only file is replayed with half a batch: the ids in a
stream are made from the records (receipt in ms, then our sequence), and the members of a sorted set contain
the sequence. The client retries nothing, because it cannot know whether a command with a lost answer was
carried out.
"""

import contextlib
import hashlib
import itertools
import logging
import os
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs
from redis import exceptions

from collector.batch import UNKNOWN, Batch, Position, Refusal
from collector.gap_records import StoredGap
from collector.records import AnyRecord, channel_of
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
from collector.stores import redis_layout as layout
from collector.stores.network_errors import in_words
from collector.stores.redis_connection import connect
from collector.stores.redis_retention import Commands, Trimming
from collector.symbol_patterns import is_plain
from collector.times import MILLISECOND

if TYPE_CHECKING:
    from redis.asyncio import Connection

_OLD_NOTES = "cryptostore:notes"  # of all exchanges; written by collectors of the first version
BATCH_RECORDS = 500  # the server answers no other client for the 3 ms that this many take
LATEST = 10**21  # nanoseconds; a later receipt is not a time, and would not fit into a stream's id

#: ARGV[1..3] is the expected position, ARGV[4..6] the next one, ARGV[7] says who we are, ARGV[8] is the
#: batch's first sequence, ARGV[9] all its rows in one array (faster than an array for each), ARGV[10] the
#: forms (streams only), and ARGV[11] the rows' sequences if these have holes. KEYS[1] is the position; rows
#: refer to the other keys by number.
_BEGIN = """
local held = redis.call('HMGET', KEYS[1], 'owner', 'incarnation', 'sequence')
for i = 1, 3 do
  if (held[i] or '') ~= ARGV[i] then return {'lost'} end
end
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= '@KIND@' then return {'kind', KEYS[i], kind} end
end
local rows = cmsgpack.unpack(ARGV[9])
local first = tonumber(ARGV[8])
local pcall, unpack, type = redis.pcall, unpack, type
"""

#: A row is the number of a form, an id, and values; a form is key, exchange, symbol, names of the other
#: fields. If an id is not above the stream's highest, either the record is already stored, or the id is
#: raised. A record that is already stored came with the last batch, so it is among the stream's latest.
_ADD_TO_STREAM = """
local commands, sizes = {}, {}
for number, form in ipairs(cmsgpack.unpack(ARGV[10])) do
  local command = {'XADD', KEYS[form[1]], '', 'exchange', form[2], 'symbol', form[3]}
  for i = 4, #form do
    command[#command + 1] = form[i]
    command[#command + 1] = ''
  end
  commands[number], sizes[number] = command, #command
end

local function same(fields, command)
  if #fields ~= #command - 3 then return false end
  for i = 1, #fields do
    if fields[i] ~= command[i + 3] then return false end
  end
  return true
end

local function there(key, sequence, command)
  local entry = redis.call('XRANGE', key, command[3], command[3])[1]
  if entry and same(entry[2], command) then return true end
  local ending = '-' .. sequence
  for _, entry in ipairs(redis.call('XREVRANGE', key, '+', '-', 'COUNT', @RECENT@)) do
    if string.sub(entry[1], -#ending) == ending and same(entry[2], command) then return true end
  end
  return false
end

local function top_of(key)
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return string.match(info[i + 1], '(%d+)-(%d+)') end
  end
end

local function add_below_top(command)
  local key = command[2]
  local ms, sequence = string.match(command[3], '(%d+)-(%d+)')
  local top, last = top_of(key)
  local not_above = tonumber(sequence) <= tonumber(last)
  if not_above and there(key, sequence, command) then return nil end
  ms = math.max(tonumber(ms), tonumber(top))
  if ms == tonumber(top) and not_above then ms = ms + 1 end
  command[3] = string.format('%d-%s', ms, sequence)
  return redis.pcall(unpack(command))
end

local function add(at)
  local command, size = commands[rows[at]], sizes[rows[at]]
  command[3] = rows[at + 1]
  at = at + 2
  for i = 9, size, 2 do
    command[i] = rows[at]
    at = at + 1
  end
  local outcome = pcall(unpack(command))
  if type(outcome) == 'table' and string.find(outcome.err, 'equal or smaller', 1, true) then
    outcome = add_below_top(command)
  end
  return at, type(outcome) == 'table' and outcome.err or nil
end
"""

#: A row is the number of a key, a score, and a member.
_ADD_TO_SORTED_SET = """
local function add(at)
  local outcome = pcall('ZADD', KEYS[rows[at]], rows[at + 1], rows[at + 2])
  return at + 3, type(outcome) == 'table' and outcome.err or nil
end
"""

#: Returns {'done'}, or {'stopped', reason} after storing part of the batch.
_END = """
local stopped, done = nil, ARGV[6]
local at, last, index = 1, #rows, 0
while at <= last do
  local next, err = add(at)
  if err then
    local sequences = cmsgpack.unpack(ARGV[11])
    stopped, done = err, string.format('%d', sequences[index + 1] or first + index)
    break
  end
  at, index = next, index + 1
end
if stopped and done == ARGV[8] then return {'stopped', stopped} end
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], 'owner', ARGV[4], 'incarnation', ARGV[5], 'sequence', done,
           'seen', now[1] .. string.format('.%06d', now[2]), 'who', ARGV[7])
return stopped and {'stopped', stopped} or {'done'}
"""

_RELEASE = """
local held = redis.call('HMGET', KEYS[1], 'owner', 'incarnation', 'sequence')
for i = 1, 3 do
  if held[i] ~= ARGV[i] then return 0 end
end
return redis.call('HSET', KEYS[1], 'seen', '0')
"""

_PAGE = 1000  # entries in one answer

_log = logging.getLogger(__name__)

_pack = msgspec.msgpack.Encoder().encode


class RedisStore:
    """A store with one connection; each command is answered before the next one is sent."""

    batch_records = BATCH_RECORDS
    batch_seconds = 0.0
    fixed_batches = False

    def __init__(self, settings: Settings) -> None:
        self._where = f"Redis at {settings.where}"
        self._settings = settings
        self._notes = f"cryptostore:notes:{settings.exchange}"
        self._old_notes: set[str] = set()  # names of collectors that have an old note
        self._streams = settings.backend == "REDISSTREAM"
        self._kind = "stream" if self._streams else "zset"
        add = _ADD_TO_STREAM if self._streams else _ADD_TO_SORTED_SET
        script = (_BEGIN + add + _END).replace("@KIND@", self._kind)
        self._script = script.replace("@RECENT@", str(2 * BATCH_RECORDS))
        self._digest = hashlib.sha1(self._script.encode()).hexdigest()  # noqa: S324 - how Redis names scripts
        self._who = f"process {os.getpid()} on {socket.gethostname()}"
        self._connection: Connection | None = None
        self._warned = False
        self._trimming = (
            Trimming(settings.retention, self._keys(), self._ask, self._where, streams=self._streams)
            if settings.retention
            else None
        )

    async def open(self, name: str) -> Position | None:
        """Reconnect, check that no key has another type, and read the position."""
        await self.open_to_read()
        # First, because a server that denies access answers one command with that, and closes.
        await self._call("SCRIPT", "LOAD", self._script)
        with self._understanding():
            await self._see_that_nothing_is_evicted()
            await self._check_keys(name)
            return await self._read_position(_position_key(name))

    async def open_to_read(self) -> None:
        """Reconnect; see ReadableStore.open_to_read."""
        await self.close()
        try:
            with self._failures():
                self._connection = await connect(self._settings)
        except MemoryError as error:
            raise StoreUnavailableError(
                f"{self._where}: it announces an answer larger than memory"
            ) from error
        except (TypeError, ValueError) as error:
            raise StoreRefusedError(f"{self._where}: {self._settings.masked(str(error))}") from error

    async def gaps(self, exchange: str, symbols: Collection[str]) -> Sequence[StoredGap]:
        """Return the gaps of an exchange's symbols; each symbol has its own key."""
        found = []
        for symbol in symbols:
            key = f"{layout.KEYS['gaps']}-{exchange}-{symbol}"
            read = self._entries if self._streams else self._members
            with self._understanding():
                found += [layout.gap(fields) async for fields in read(key)]
        return found

    async def _entries(self, key: str) -> AsyncIterator[dict[str, str]]:
        start = "-"
        while page := await self._call("XRANGE", key, start, "+", "COUNT", _PAGE):
            for _, fields in page:
                texts = [each.decode() for each in fields]
                yield dict(zip(texts[::2], texts[1::2], strict=True))
            start = f"({page[-1][0].decode()}"

    async def _members(self, key: str) -> AsyncIterator[dict[str, Any]]:
        first = 0
        while page := await self._call("ZRANGE", key, first, first + _PAGE - 1):
            for member in page:
                yield msgspec.json.decode(member, type=dict[str, Any])
            first += len(page)

    async def _read_position(self, key: str) -> Position | None:
        """Read the position; replace it with UNKNOWN if it is damaged."""
        fields = "owner", "incarnation", "sequence", "seen"
        owner, incarnation, sequence, seen = await self._call("HMGET", key, *fields)
        if (owner, incarnation, sequence) == (None, None, None):
            return None
        try:
            float(seen)
            return Position(owner.decode(), incarnation.decode(), int(sequence))
        except (AttributeError, TypeError, ValueError):  # a field is missing, not text, or not a number
            tell_damage(f"{self._where}, key {key}", {"owner": owner, "sequence": sequence, "seen": seen})
            told = [text for pair in structs.asdict(UNKNOWN).items() for text in pair]
            await self._call("HSET", key, *told, "seen", 0)
            return UNKNOWN

    async def _see_that_nothing_is_evicted(self) -> None:
        with contextlib.suppress(StoreRefusedError):  # a right that is optional
            memory = dict(
                line.partition(":")[::2] for line in (await self._call("INFO", "memory")).decode().split()
            )
            policy = memory.get("maxmemory_policy", "")
            if memory.get("maxmemory") != "0" and policy.startswith("allkeys") and not self._warned:
                self._warned = True
                _log.warning(
                    "%s: maxmemory-policy %s may evict records, and the position that makes storing "
                    "exactly-once: set it to noeviction or a volatile one",
                    *(self._where, policy),
                )

    async def _check_keys(self, name: str) -> None:
        expected = dict.fromkeys(self._keys(), self._kind) | {
            _position_key(name): "hash",
            _OLD_NOTES: "hash",
            self._notes: "hash",
        }
        kinds = await self._ask([("TYPE", key) for key in expected])
        for (key, kind), found in zip(expected.items(), kinds, strict=True):
            if found.decode() not in (kind, "none"):
                raise self._wrong_kind(key, found.decode())

    async def probe(self, name: str) -> None:
        """Check whether collector ``name`` may write; see ProbedStore.probe.

        Each command has an invalid argument, so none changes anything: a server checks rights, and whether
        it accepts writes at all, before it checks arguments.
        """
        await self.open_to_read()
        wrong = ("none", "of", "these")
        write, trim = ("XADD", "XTRIM") if self._streams else ("ZADD", "ZREMRANGEBYRANK")
        commands: Commands = [(write, key, *wrong) for key in self._keys()]
        if self._trimming:
            commands += [(trim, key, "none", "of") for key in self._keys()]
            commands += [] if self._streams else [("EVAL", "", "none")]
        commands += [("HSET", key, "a", "pair", "more") for key in (_position_key(name), self._notes)]
        commands += [("EVALSHA", "0" * 40, "0"), ("TIME",)]
        for command in commands:
            await self._send(*command)
        errors = {command: error for command in commands if (error := await self._right_missing())}
        if errors:
            grants = dict.fromkeys(itertools.starmap(_grant, errors.items()))
            user = self._settings.user or "default"
            remedy = f"as an administrator, run `ACL SETUSER {user} {' '.join(grants)}`"
            raise RightMissingError(str(next(iter(errors.values()))), remedy)

    async def _right_missing(self) -> StoreRefusedError | None:
        """Read an error; return it if it is that the user lacks a right."""
        try:
            await self._see_that_arguments_are_wrong()
        except StoreRefusedError as error:
            if isinstance(error.__cause__, exceptions.NoPermissionError):
                return error
            raise
        return None

    async def _see_that_arguments_are_wrong(self) -> None:
        """Read the error. Raises StoreUnavailableError or StoreRefusedError if it is about anything else."""
        try:
            await self._answer()
        except StoreUnavailableError as error:
            cause = error.__cause__
            if not isinstance(cause, exceptions.ResponseError):
                raise
            if (_code(cause) + str(cause)).startswith(_TAKES_NO_WRITES):
                raise

    def _keys(self) -> Iterator[str]:
        for channel in (*self._settings.channels, "gaps"):
            for symbol in filter(is_plain, self._settings.symbols):
                yield f"{layout.KEYS[channel]}-{self._settings.exchange}-{symbol}"

    def _wrong_kind(self, key: str, found: str) -> StoreRefusedError:
        backend = {"stream": "REDISSTREAM", "zset": "REDIS"}
        wrote = f", as BACKEND={backend[found]} makes it" if found in backend else ""
        return StoreRefusedError(
            f"{self._where}: the key {key} is a {found}{wrote}, but BACKEND={self._settings.backend} needs a "
            f"{self._kind}: choose that BACKEND, another DATABASE, or rename the key"
        )

    async def commit(
        self, name: str, batch: Batch, expected: Position | None, after: Position
    ) -> Sequence[Refusal]:
        """Store a batch; see Store.commit.

        If it raises, the beginning of the batch may be stored nevertheless: the position says how much.
        """
        if timeless := _timeless(batch):
            return timeless
        packing = _Packing(batch, streams=self._streams)
        if self._trimming:
            await self._trimming.trim(batch.records)
            self._trimming.keys.update(packing.keys)
        was = (expected.owner, expected.incarnation, expected.sequence) if expected else ("", "", "")
        arguments = (*was, after.owner, after.incarnation, after.sequence, self._who, batch.first)
        answer = await self._call(
            *("EVALSHA", self._digest, 1 + len(packing.keys), _position_key(name), *packing.keys),
            *(*arguments, _pack(packing.rows), _pack(packing.forms)),
            _pack(batch.kept[0] if batch.refused else ()),
        )
        with self._understanding():
            verdict, *details = answer
            if verdict == b"lost":
                raise PositionLostError(
                    f"{self._where}: the position of {name} was changed by another process"
                )
            if verdict == b"kind":
                raise self._wrong_kind(*(each.decode() for each in details))
            if verdict == b"stopped":
                raise self._failure(details[0].decode(), refused=details[0].startswith(b"ERR "))
            if verdict != b"done":
                raise ValueError("the script has no such answer")
        return ()

    def place(self, record: AnyRecord) -> str:
        """Return the record's key."""
        return f"the key {layout.KEYS[channel_of(record)]}-{record.exchange}-{record.symbol}"

    async def note(self, name: str, text: str) -> None:
        """Store a note in a hash that all collectors of the exchange share."""
        await self._call("HSET", self._notes, name, text)
        if name in self._old_notes:
            await self._call("HDEL", _OLD_NOTES, name)
            self._old_notes.discard(name)

    async def notes(self) -> Mapping[str, str]:
        """Return the notes of this exchange; those of others may be large and many, and are not read."""
        with self._understanding():
            old = _texts(await self._call("HGETALL", _OLD_NOTES))
            self._old_notes = set(old)
            of_exchange = notes.of_exchange(self._settings.exchange, old)
            return {**of_exchange, **_texts(await self._call("HGETALL", self._notes))}

    async def holder(self, name: str) -> Holder | None:
        """Return who last moved the position."""
        with self._understanding():
            owner, who, seen = await self._call("HMGET", _position_key(name), "owner", "who", "seen")
            if owner is None:
                return None
            seconds, microseconds = await self._call("TIME")
            idle = int(seconds) + int(microseconds) / 1e6 - float(seen or 0)
            return Holder(owner.decode(), (who or b"an unknown process").decode(), idle)

    async def release(self, name: str, position: Position) -> None:
        """Forget when the holder was last seen, if the position is still the same."""
        arguments = (position.owner, position.incarnation, position.sequence)
        script = await self._call("SCRIPT", "LOAD", _RELEASE)  # a user who may store may lack EVAL
        await self._call("EVALSHA", script, 1, _position_key(name), *arguments)

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection:
            with contextlib.suppress(Exception):
                await connection.disconnect(nowait=True)

    async def _ask(self, commands: Commands) -> list[Any]:
        for command in commands:
            await self._send(*command)
        return [await self._answer() for _ in commands]

    async def _call(self, *command: Any) -> Any:
        await self._send(*command)
        return await self._answer()

    async def _send(self, *command: Any) -> None:
        if not self._connection:
            raise StoreUnavailableError(f"{self._where}: not connected")
        with self._failures():
            await self._connection.send_command(*command)

    async def _answer(self) -> Any:
        if not self._connection:
            raise StoreUnavailableError(f"{self._where}: not connected")
        with self._failures(), self._understanding():
            return await self._connection.read_response()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except exceptions.InvalidResponse as error:
            raise self._unintelligible(error) from error
        except (exceptions.RedisError, OSError) as error:
            raise self._failure(_code(error) + in_words(error)) from error

    @contextlib.contextmanager
    def _understanding(self) -> Iterator[None]:
        """Turn answers that no Redis gives into errors: the port, or a proxy, is something else's."""
        try:
            yield
        except UNINTELLIGIBLE as error:
            raise self._unintelligible(error) from error

    def _unintelligible(self, error: Exception) -> StoreUnavailableError:
        why = self._settings.masked(f"{type(error).__name__}: {error}")
        return StoreUnavailableError(f"{self._where}: its answers are not in the Redis protocol ({why})")

    def _failure(self, text: str, *, refused: bool = False) -> StoreUnavailableError | StoreRefusedError:
        """Return the right exception for an error of the server or the network."""
        text = self._settings.masked(text)
        for beginning, advice in _REFUSING.items():
            if text.upper().removeprefix("ERR ").startswith(beginning):
                return StoreRefusedError(f"{self._where}: {advice} ({text})")
        kind = StoreRefusedError if refused else StoreUnavailableError
        return kind(f"{self._where}: {text}")


#: Beginnings of errors of a server that accepts no writes at the moment.
_TAKES_NO_WRITES = ("OOM ", "READONLY ", "MISCONF ", "NOREPLICAS ", "MASTERDOWN ", "CLUSTERDOWN ")

#: Beginnings of errors that only a person can resolve, and their meaning; the client removes ERR from some.
_REFUSING = {
    "WRONGPASS": "USER or PASSWORD is wrong",
    "NOAUTH": "it wants a password: set PASSWORD",
    "AUTHENTICATION REQUIRED": "it wants a password: set PASSWORD",
    "INVALID USERNAME": "USER or PASSWORD is wrong",
    "INVALID PASSWORD": "PASSWORD is wrong",
    "AUTH ": "it knows no password: unset PASSWORD",
    "DENIED": "it is in protected mode: give it a password, and set PASSWORD",
    "NOPERM": "the user lacks a right",
    "THE USER EXECUTING THE SCRIPT": "the user lacks a right",
    "ACL FAILURE IN SCRIPT": "the user lacks a right",
    "WRONGTYPE": "a key has another type",
    "DB INDEX": "there is no such DATABASE",
    "UNKNOWN COMMAND": "it lacks a command",
}


def _texts(answer: Sequence[bytes]) -> dict[str, str]:
    """Return the hash in a server's answer."""
    pairs = [each.decode(errors="replace") for each in answer]
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


def _grant(command: tuple[str, ...], error: StoreRefusedError) -> str:
    """Return the ACL rule that lets a user do what the server refused: use the command, or its key."""
    name, *arguments = command
    return f"+{name.lower()}" if "command" in str(error).lower() else f"~{arguments[0]}"


def _position_key(name: str) -> str:
    return f"cryptostore:position:{name}"


class _Packing:
    """A batch in the form that the script takes.

    Attributes:
        keys: the items of KEYS after the position.
        rows, forms: see the scripts.
    """

    def __init__(self, batch: Batch, *, streams: bool) -> None:
        self.keys: list[str] = []
        self.rows: list[int | str] = []
        self.forms: list[list[int | str]] = []
        if streams:
            self._add_entries(batch)
        else:
            self._add_members(batch)

    def _add_entries(self, batch: Batch) -> None:
        numbers: dict[tuple[object, ...], int] = {}
        rows = self.rows
        sequences, records = batch.kept
        for sequence, record, (shape, texts) in zip(sequences, records, layout.entries(records), strict=True):
            form = shape, record.exchange, record.symbol
            number = numbers.get(form)
            if number is None:
                number = numbers[form] = self._new_form(shape, record)
            rows += number, f"{record.receipt_timestamp // MILLISECOND}-{sequence}"
            rows += texts

    def _add_members(self, batch: Batch) -> None:
        """Add members; as in cryptofeed, the score of a book is its receipt, of others their timestamp."""
        begun: dict[tuple[object, ...], tuple[int, str]] = {}
        rows = self.rows
        sequences, records = batch.kept
        for sequence, record, (shape, inside, timestamp, receipt) in zip(
            sequences, records, layout.members(records), strict=True
        ):
            form = shape, record.exchange, record.symbol
            known = begun.get(form)
            if known is None:
                exchange, symbol = layout.quoted(record.exchange), layout.quoted(record.symbol)
                beginning = f'{{"exchange":{exchange},"symbol":{symbol},'
                known = begun[form] = self._number(shape, record), beginning
            key, beginning = known
            score = receipt if isinstance(record, layout.BOOKS) else timestamp
            times = f'"timestamp":{timestamp},"receipt_timestamp":{receipt}'
            member = f'{beginning}{inside},{times},"sequence":{sequence}}}'
            rows += key, score, member

    def _new_form(self, shape: layout.Shape, record: AnyRecord) -> int:
        names = (*shape.fields, "timestamp", "receipt_timestamp")
        self.forms.append([self._number(shape, record), record.exchange, record.symbol, *names])
        return len(self.forms)

    def _number(self, shape: layout.Shape, record: AnyRecord) -> int:
        """Return the index in KEYS of the key that a record is stored under; KEYS[1] is the position."""
        key = f"{shape.key}-{record.exchange}-{record.symbol}"
        if key not in self.keys:
            self.keys.append(key)
        return self.keys.index(key) + 2


def _timeless(batch: Batch) -> list[Refusal]:
    """Refuse records whose times cannot be an id in a stream or a score in a sorted set."""
    return [
        Refusal(sequence, record, f"no time: {_times(record)}", unwritable=True)
        for sequence, record in zip(*batch.kept, strict=True)
        if not (0 <= record.receipt_timestamp < LATEST and -LATEST < record.timestamp < LATEST)
    ]


def _times(record: AnyRecord) -> str:
    return f"receipt_timestamp {record.receipt_timestamp}, timestamp {record.timestamp}"


_CODES: dict[type[Exception], str] = {
    exceptions.NoPermissionError: "NOPERM ",
    exceptions.OutOfMemoryError: "OOM ",
    exceptions.ReadOnlyError: "READONLY ",
    exceptions.BusyLoadingError: "LOADING ",
}


def _code(error: Exception) -> str:
    """Restore the code that redis-py removes from the texts of errors that it has a type for."""
    return _CODES.get(type(error), "")
