"""An exchange that plays a script: over real TLS, on its own host names and ports.

    with ScriptedExchange(Script.read(SCRIPTS / "OKX.jsonl")) as exchange:
        with Collector(folder, **exchange.script.collector, **exchange.environment, ...):
            exchange.wait()
    # an AssertionError with both texts, where something else was sent or asked than the script expects

A script is a file of JSON objects, one a line, read from top to bottom:

{"collector": {"EXCHANGE": "OKX", ...}}   the settings of the collector that it is written for
{"source": "..."}                         where the form of what follows is described; a remark
{"get": URL, "body": ...}                 answers a request; also "status" and "headers". The second line
                                          of an address answers its second request, the last all others
{"connect": URL}                          begins the next connection to this address; of it are:
{"expect": MESSAGE}                       what the client has to send next
{"send": MESSAGE}                         what is sent then: byte for byte as it stands here
{"whenever": MESSAGE, "send": MESSAGE}    an answer that may be asked for at any time: to a ping
{"wait": SECONDS}                         nothing is sent for so long
{"until": "..."}                          nothing is sent until the test calls ``go("...")``
{"stored": true}                          nothing is sent until all records above it are stored
{"close": CODE}                           the connection is closed
{"cut": true}                             the connection is cut: no goodbye, a TCP reset
{"record": {...}}, {"gap": {...}}         what the store has to hold in the end

A message is JSON, or a text: "ping". Messages are equal that say the same; the order of what is in a list
does not count. After its last line a connection stays open and silent; what comes then was not expected.

Times are relative to the ``origin`` of a script, which is when the exchange began to play, in whole seconds:
<ms+1500> is one and a half seconds later, in milliseconds since 1970; <us+1500> the same in microseconds,
<s+1500> in seconds with three digits, <second+2000> in whole ones, <iso+1500> as RFC 3339.
"""

import asyncio
import itertools
import json
import re
import socket
import struct
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, override

import msgspec
from aiohttp import WSMsgType, web
from waiting import PATIENCE
from yarl import URL

from collector.simulator.certificates import server_context
from collector.simulator.proxy import Proxy

SCRIPTS = Path(__file__).parent / "scripts"

_times = re.compile(r"<(ms|us|s|second|iso)([+-][0-9]+)?>")
_PORTS = {"https": 443, "wss": 443}


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a script."""

    collector: dict[str, str] | None = None
    source: str | None = None
    get: str | None = None
    status: int = 200
    headers: dict[str, str] = {}
    body: msgspec.Raw = msgspec.Raw(b"{}")
    connect: str | None = None
    expect: msgspec.Raw = msgspec.Raw()
    send: msgspec.Raw = msgspec.Raw()
    whenever: msgspec.Raw = msgspec.Raw()
    wait: float | None = None
    until: str | None = None
    stored: bool = False
    close: int | None = None
    cut: bool = False
    record: dict[str, Any] | None = None
    gap: dict[str, Any] | None = None


@dataclass
class Step:
    """A line of a connection, where it stands, and how many records stand above it."""

    place: str
    line: Line
    records: int


@dataclass
class Connection:
    """What is played on one connection."""

    address: str
    steps: list[Step] = field(default_factory=list)
    whenever: dict[str, bytes] = field(default_factory=dict)  # answers, by what asks for them


class Script:
    """What an exchange plays, and what has to come of it."""

    def __init__(self, lines: str, origin: int, name: str = "script") -> None:
        self.origin = origin
        self.collector: dict[str, str] = {}
        self.answers: dict[str, list[Line]] = defaultdict(list)  # by address
        self.connections: list[Connection] = []
        self.records: list[dict[str, Any]] = []
        self.gaps: list[dict[str, Any]] = []
        for number, text in enumerate(lines.splitlines(), start=1):
            place = f"{name}:{number}"
            try:
                line = msgspec.json.decode(_times.sub(self._time, text), type=Line)
            except msgspec.DecodeError as error:
                raise ValueError(f"{place}: {error}") from error
            self._add(Step(place, line, len(self.records)))

    @classmethod
    def read(cls, path: Path, origin: int | None = None) -> Self:
        """Read the script of a file; ``origin`` is in seconds since 1970, and now if it is not given."""
        return cls(path.read_text(), int(time.time()) if origin is None else origin, path.name)

    def _add(self, step: Step) -> None:
        line = step.line
        if line.get is not None:
            self.answers[address(line.get)].append(line)
        elif line.connect is not None:
            self.connections.append(Connection(address(line.connect)))
        elif bytes(line.whenever):
            self.connections[-1].whenever[comparable(text_of(line.whenever))] = text_of(line.send)
        elif line.record is not None:
            self.records.append(line.record)
        elif line.gap is not None:
            self.gaps.append(line.gap)
        elif line.collector is not None:
            self.collector |= line.collector
        elif line.source is None:
            self.connections[-1].steps.append(step)

    def _time(self, found: re.Match[str]) -> str:
        seconds, milliseconds = divmod(int(found[2] or 0), 1000)
        seconds += self.origin
        match found[1]:
            case "ms":
                return f"{seconds}{milliseconds:03}"
            case "us":
                return f"{seconds}{milliseconds:03}000"
            case "s":
                return f"{seconds}.{milliseconds:03}"
            case "second":
                return str(seconds)
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z"


def address(url: str) -> str:
    """Return host, port, path and query of an address."""
    parts = URL(url)
    return f"{parts.host}:{parts.port or _PORTS[parts.scheme]}{parts.raw_path_qs}"


def text_of(message: msgspec.Raw) -> bytes:
    """Return a message of a script as it is on the wire."""
    raw = bytes(message)
    return str(msgspec.json.decode(raw)).encode() if raw.startswith(b'"') else raw


def comparable(message: bytes) -> str:
    """Return what a message says: equal for messages that say the same."""
    try:
        return json.dumps(_ordered(json.loads(message)), sort_keys=True)
    except ValueError:
        return message.decode(errors="replace")


def _ordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _ordered(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted((_ordered(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return value


class _MismatchError(Exception):
    """The client did something else than the script says; the text is for the test."""


class _Proxy(Proxy):
    """Leads the script's hosts here, and tells of others that are asked for."""

    faults: list[str]

    @override
    def _refuse(self, status: str, reason: str) -> None:
        self.faults.append(f"the proxy refused a client: {reason}")
        super()._refuse(status, reason)


class _Stored:
    """How many records are stored, as the test tells."""

    def __init__(self) -> None:
        self._records = 0
        self._changed = asyncio.Condition()

    async def reach(self, records: int) -> None:
        async with self._changed:
            self._records = records
            self._changed.notify_all()

    async def wait_for(self, records: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._records >= records)


class ScriptedExchange:
    """Plays a script, in a thread of its own.

    Attributes:
        asked: what was asked for by HTTP, with the times (``time.monotonic``).
        faults: what was not as the script says.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, float]] = []
        self.faults: list[str] = []
        self._directory = tempfile.TemporaryDirectory(prefix="scripted-")
        self.ca = Path(self._directory.name) / "ca.pem"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted exchange")
        self._left = dict(enumerate(script.connections))  # neither begun nor begun with
        self._playing: dict[int, str] = {}  # where each connection is that has not come to its end
        self._answered: dict[str, int] = defaultdict(int)
        self._numbers = itertools.count(1)
        self._signals: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._stored = _Stored()

    def __enter__(self) -> Self:
        self._thread.start()
        self.proxy = f"http://127.0.0.1:{self._call(self._listen())}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._directory.cleanup()
        if error is None:
            assert not self.report(), self.report()
        elif self.report():
            error.add_note(self.report())

    @property
    def environment(self) -> Mapping[str, str]:
        """What leads a client to this exchange, and lets it trust it."""
        return {
            "HTTPS_PROXY": self.proxy,
            "https_proxy": self.proxy,
            "SSL_CERT_FILE": str(self.ca),
            "REQUESTS_CA_BUNDLE": str(self.ca),
        }

    @property
    def unplayed(self) -> list[str]:
        """What of the script has not been played."""
        never = [f"{each.address}: was never connected to" for each in self._left.values()]
        return [*self._playing.values(), *never]

    def stored(self, records: int) -> None:
        """Play on where the script waits for so many records to be stored."""
        asyncio.run_coroutine_threadsafe(self._stored.reach(records), self._loop)

    def go(self, signal: str) -> None:
        """Play on where the script waits for this signal."""
        self._loop.call_soon_threadsafe(self._signals[signal].set)

    def wait(self) -> None:
        """Wait until everything is played; AssertionError as soon as something is not as the script says."""
        end = time.monotonic() + PATIENCE
        while self.unplayed and not self.faults and time.monotonic() < end:
            time.sleep(0.01)
        assert not self.report(), self.report()

    def report(self) -> str:
        """Return what was not as the script says; an empty text if all was."""
        said = [*self.faults, *(f"not played: {place}" for place in self.unplayed)]
        return "\n".join(["not as in the script:", *said]) if said else ""

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _listen(self) -> int:
        addresses = [*self.script.answers, *(each.address for each in self.script.connections)]
        places = {tuple(each.partition("/")[0].rsplit(":", 1)) for each in addresses}
        hosts = [(host, int(port)) for host, port in places]
        context = server_context([host for host, _ in hosts], self.ca)
        self._server = web.Server(self._handle, access_log=None)

        def proxy() -> Proxy:
            made = _Proxy(hosts, self._server, context)
            made.faults = self.faults
            return made

        self._listener = await self._loop.create_server(proxy, "127.0.0.1", 0)
        return int(self._listener.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        self._listener.close()
        await self._server.shutdown(0.1)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = address(f"https://{request.host}{request.raw_path}")
        if "upgrade" in request.headers.get("Connection", "").lower():
            return await self._websocket(request, asked)
        self.asked.append((asked, time.monotonic()))
        answers = self.script.answers.get(asked, [])
        if request.method != "GET" or not answers:
            self.faults.append(f"{request.method} {asked} is not in the script")
            return web.Response(status=404, text="not in the script\n")
        line = answers[min(self._answered[asked], len(answers) - 1)]
        self._answered[asked] += 1
        headers = {"Content-Type": "application/json"} | line.headers
        return web.Response(status=line.status, headers=headers, body=text_of(line.body))

    async def _websocket(self, request: web.BaseRequest, asked: str) -> web.StreamResponse:
        number = next((number for number, each in self._left.items() if each.address == asked), None)
        if number is None:
            self.faults.append(f"a connection to {asked} is not in the script, or one more than are in it")
            return web.Response(status=503, text="not in the script\n")
        played = _Played(
            self._left[number], web.WebSocketResponse(compress=False), self._signals, self._stored
        )
        self._playing[number] = f"{asked}: was only begun"
        del self._left[number]
        await played.websocket.prepare(request)
        try:
            played.begin()
            for step in played.script.steps:
                self._playing[number] = f"{step.place}, {asked}"
                await played.play(step, request)
            del self._playing[number]
            await played.nothing_more()
        except _MismatchError as mismatch:
            self.faults.append(str(mismatch))
        finally:
            played.end()
        return played.websocket


class _Played:
    """One connection as it is played."""

    def __init__(
        self,
        script: Connection,
        websocket: web.WebSocketResponse,
        signals: Mapping[str, asyncio.Event],
        stored: _Stored,
    ) -> None:
        self.websocket = websocket
        self.script = script
        self._signals = signals
        self._stored = stored
        self._received: asyncio.Queue[bytes | None] = asyncio.Queue()  # None: the client has gone
        self._reading: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._reading = asyncio.ensure_future(self._read())

    async def play(self, step: Step, request: web.BaseRequest) -> None:
        line = step.line
        if bytes(line.expect):
            await self._expect(step.place, text_of(line.expect))
        elif bytes(line.send):
            await self._send(step.place, text_of(line.send))
        elif line.wait is not None:
            await asyncio.sleep(line.wait)
        elif line.until is not None:
            await self._signals[line.until].wait()
        elif line.stored:
            await self._stored.wait_for(step.records)
        elif line.close is not None:
            await self.websocket.close(code=line.close)
        elif line.cut and request.transport:
            raw = request.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.transport.abort()

    async def nothing_more(self) -> None:
        """Stay open until the client goes, which has nothing more to say."""
        if text := await self._received.get():
            raise _MismatchError(
                f"{self.script.address}: nothing more was expected, but came:\n  {_shown(text)}"
            )

    def end(self) -> None:
        if self._reading:
            self._reading.cancel()

    async def _expect(self, place: str, expected: bytes) -> None:
        try:
            text = await asyncio.wait_for(self._received.get(), PATIENCE)
        except TimeoutError:
            text = None
        if text is None or comparable(text) != comparable(expected):
            came = "nothing" if text is None else _shown(text)
            raise _MismatchError(
                f"{place}, {self.script.address}: expected\n  {_shown(expected)}\ncame\n  {came}"
            )

    async def _send(self, place: str, text: bytes) -> None:
        try:
            await self.websocket.send_str(text.decode())
        except ConnectionError as error:
            raise _MismatchError(f"{place}: the client had gone: {error}") from error

    async def _read(self) -> None:
        async for message in self.websocket:
            if message.type is not WSMsgType.TEXT:
                continue
            text = message.data.encode()
            if answer := self.script.whenever.get(comparable(text)):
                await self.websocket.send_str(answer.decode())
            else:
                self._received.put_nowait(text)
        self._received.put_nowait(None)


def _shown(text: bytes) -> str:
    return text.decode(errors="replace")
