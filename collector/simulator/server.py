"""The simulator as a whole: exchanges over TLS by host name, the proxy, the control API, one clean end.

The control API is plain HTTP with JSON:

    GET    /log      what was written, as JSON lines (see ``collector.simulator.log``)
    GET    /status   paused, open connections, records per exchange and channel, active faults
    POST   /pause    stop the markets; answers when everything queued is written. Heartbeats,
                     subscriptions and their snapshots continue, so that nobody takes the exchange for dead
    POST   /resume   start the markets again
    GET    /faults   the active faults
    POST   /faults   add one (see ``collector.simulator.faults``); returns the connections struck at once
    DELETE /faults   remove all; quiet connections are reset
    POST   /listing  list and delist symbols: {"exchange": "KRAKEN", "list": ["A-USD"], "delist": ["B-USD"]}
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from aiohttp import WSMsgType, web

from collector.simulator.binance import Binance
from collector.simulator.binance_futures import BinanceFutures
from collector.simulator.certificates import server_context
from collector.simulator.coinbase import Coinbase
from collector.simulator.exchange import Connection, Exchange, Session, encode, spawn
from collector.simulator.faults import NESTED, Fault, Faults
from collector.simulator.instruments import Name, default_symbols
from collector.simulator.kraken import Kraken
from collector.simulator.log import Log
from collector.simulator.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LOG = logging.getLogger(__name__)

EXCHANGES: Mapping[Name, type[Exchange]] = {
    "COINBASE": Coinbase,
    "KRAKEN": Kraken,
    "BINANCE": Binance,
    "BINANCE_FUTURES": BinanceFutures,
}
LONGEST_PAUSE = 10.0  # seconds that a pause waits for clients that do not read
TRICKLE_SECONDS = 10.0
ANNOUNCED = 30.0  # seconds from a closing's announcement to the closing
TRICKLE_PIECES = 40


@dataclass(frozen=True)
class Options:
    """How a simulator runs; the meaning of each is in ``--help``."""

    ca: Path
    seed: int = 1
    rate: float = 10.0
    messages: int | None = None
    duration: float | None = None
    symbols: Mapping[Name, Sequence[str]] = field(default_factory=dict)
    log: Path | None = None
    listen: str = "127.0.0.1"
    ports: Sequence[int] = ()
    aliases: Mapping[str, Name] = field(default_factory=dict)
    proxy_port: int | None = None
    control_listen: str = "127.0.0.1"
    control_port: int = 0


class _Listing(msgspec.Struct):
    """What an exchange lists from now on, and what no more."""

    exchange: str
    list: tuple[str, ...] = ()
    delist: tuple[str, ...] = ()


class Simulator:
    """Everything that runs in one process."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._log = Log(options.log)
        self._faults = Faults()
        self._going = asyncio.Event()
        self._going.set()
        self._ended = asyncio.Event()
        self._numbers = itertools.count(1)
        self._exchanges = [
            kind(
                [kind.instrument(symbol) for symbol in options.symbols.get(name) or default_symbols(name)],
                seed=options.seed,
                rate=options.rate,
                updates=options.messages,
                log=self._log,
                faults=self._faults,
            )
            for name, kind in EXCHANGES.items()
        ]
        self._hosts = {
            host: exchange
            for exchange in self._exchanges
            for host in (*exchange.websocket_hosts, *exchange.rest_hosts)
        }
        by_name = {exchange.name: exchange for exchange in self._exchanges}
        self._hosts |= {host: by_name[name] for host, name in options.aliases.items()}

    async def run(self) -> None:
        """Serve until a signal or the duration's end; ``OSError`` when an address cannot be listened on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._ended.set)
        context = server_context(self._hosts, self._options.ca)
        server = web.Server(self._handle, access_log=None)
        control = web.Server(self._control, access_log=None)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._log.close)
            stack.push_async_callback(control.shutdown, 1)
            stack.push_async_callback(server.shutdown, 1)
            listeners = [
                await loop.create_server(server, self._options.listen, port, ssl=context)
                for port in self._options.ports
            ]
            if self._options.proxy_port is not None:
                addresses = [
                    (host, port) for host, exchange in self._hosts.items() for port in exchange.ports
                ]
                listeners.append(
                    await loop.create_server(
                        lambda: Proxy(addresses, server, context),
                        self._options.listen,
                        self._options.proxy_port,
                    )
                )
            listeners.append(
                await loop.create_server(control, self._options.control_listen, self._options.control_port)
            )
            for listener in listeners:
                stack.callback(listener.close)
            self._announce(listeners)
            await self._serve()

    def _announce(self, listeners: Sequence[asyncio.Server]) -> None:
        """The line on standard output that says where everything is."""
        ports = [listener.sockets[0].getsockname()[1] for listener in listeners]
        exchange_ports = ports[: len(self._options.ports)]
        proxy = None if self._options.proxy_port is None else f"http://127.0.0.1:{ports[-2]}"
        ready = {
            "ready": True,
            "ports": exchange_ports,
            "proxy": proxy,
            "control": f"http://127.0.0.1:{ports[-1]}",
            "ca": str(self._options.ca.absolute()),
        }
        print(json.dumps(ready), flush=True)  # noqa: T201 - what callers wait for
        LOG.info("ready: ports %s, proxy %s, control %s", exchange_ports, proxy, ready["control"])

    async def _serve(self) -> None:
        """Run the exchanges until the end; a loop of theirs that dies ends everything with its error."""
        tasks = [asyncio.ensure_future(exchange.run(self._going)) for exchange in self._exchanges]
        tasks += [asyncio.ensure_future(exchange.beat()) for exchange in self._exchanges]
        ended = asyncio.ensure_future(self._end())
        try:
            await asyncio.wait(
                [*tasks, ended], timeout=self._options.duration, return_when=asyncio.FIRST_COMPLETED
            )
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in (*tasks, ended):
                task.cancel()
            LOG.info("ending: closing %d connections", len(self._connections()))
            await asyncio.gather(*(connection.close(1001, "shutdown") for connection in self._connections()))

    async def _end(self) -> None:
        await self._ended.wait()

    def _connections(self) -> list[Connection]:
        return [session.connection for session in self._sessions()]

    def _sessions(self) -> list[Session]:
        return [session for exchange in self._exchanges for session in exchange.sessions]

    # The exchanges

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        host = (request.host or "").partition(":")[0].lower()
        exchange = self._hosts.get(host)
        if exchange is None:
            return web.Response(
                status=421, text=f"{host} is not simulated; these are: {', '.join(self._hosts)}\n"
            )
        if host not in exchange.rest_hosts and "upgrade" in request.headers.get("Connection", "").lower():
            return await self._websocket(exchange, request)
        return await self._rest(exchange, request)

    async def _websocket(self, exchange: Exchange, request: web.BaseRequest) -> web.StreamResponse:
        if fault := self._faults.take("refuse_connection", exchange.name):
            self._log.event("fault", exchange.name, None, fault="refuse_connection", status=fault.status)
            return web.Response(status=fault.status, text="refused\n")
        websocket = web.WebSocketResponse(timeout=2, compress=False)
        await websocket.prepare(request)
        number = next(self._numbers)
        transport = request.transport
        if transport is None:
            return websocket
        connection = Connection(
            number, exchange.name, websocket, transport, log=self._log, faults=self._faults
        )
        connection.quiet = self._faults.take("deaf", exchange.name, number) is not None
        session = exchange.open(connection, request)
        self._log.event("open", exchange.name, number, deaf=connection.quiet)
        exchange.sessions.append(session)
        writer = asyncio.ensure_future(connection.write())
        try:
            session.greet()
            await self._listen(session, websocket)
        finally:
            exchange.sessions.remove(session)
            writer.cancel()
            self._log.event(
                "closed",
                exchange.name,
                number,
                reason=connection.reason or "client",
                records=connection.records,
            )
        return websocket

    @staticmethod
    async def _listen(session: Session, websocket: web.WebSocketResponse) -> None:
        """Let the session answer what the client says, until one of the two ends the connection."""
        while True:
            try:
                message = await websocket.receive(None if session.connection.quiet else session.patience())
            except TimeoutError:
                await session.connection.close(1008, "no subscription")
                return
            if message.type is WSMsgType.TEXT:
                session.receive(message.data)
            elif message.type is not WSMsgType.BINARY:
                return

    async def _rest(self, exchange: Exchange, request: web.BaseRequest) -> web.StreamResponse:
        if self._faults.take("deaf_reference", exchange.name):
            self._log.event("fault", exchange.name, None, fault="deaf_reference", path=request.path)
            await asyncio.sleep(3600)
        if fault := self._faults.take("refuse_reference", exchange.name):
            self._log.event("fault", exchange.name, None, fault="refuse_reference", status=fault.status)
            return web.Response(
                status=fault.status, headers={"Retry-After": str(fault.retry_after)}, text="try again later\n"
            )
        if self._faults.take("nested_reference", exchange.name):
            self._log.event("fault", exchange.name, None, fault="nested_reference")
            return web.Response(body=NESTED, content_type="application/json")
        answer = exchange.rest(request)
        body = encode(answer.body)
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": "application/json"})
        response.content_length = len(body)
        await response.prepare(request)
        if fault := self._faults.take("trickle", exchange.name):
            self._log.event("fault", exchange.name, None, fault="trickle")
            size = len(body) // TRICKLE_PIECES + 1
            for start in range(0, len(body), size):
                await response.write(body[start : start + size])
                await asyncio.sleep((fault.seconds or TRICKLE_SECONDS) / TRICKLE_PIECES)
        else:
            await response.write(body)
        await response.write_eof()
        for record in answer.records:
            self._log.record(exchange.name, None, record)
        self._log.flush()
        return response

    # The control API

    async def _control(self, request: web.BaseRequest) -> web.StreamResponse:  # noqa: PLR0911 - one for each
        match request.method, request.path:
            case "GET", "/log":
                return await self._send_log(request)
            case "GET", "/status":
                return _json(self._status())
            case "POST", "/pause":
                return _json(await self._pause())
            case "POST", "/resume":
                self._going.set()
                return _json({"paused": False})
            case "GET", "/faults":
                return _json(self._faults.standing())
            case "POST", "/faults":
                return await self._add_fault(request)
            case "POST", "/listing":
                return await self._change_listing(request)
            case "DELETE", "/faults":
                self._clear_faults()
                return _json({"standing": 0})
        return _json({"error": f"no {request.method} {request.path}", "possible": _possible()}, 404)

    async def _send_log(self, request: web.BaseRequest) -> web.StreamResponse:
        self._log.flush()
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        for chunk in self._log.read():
            await response.write(chunk)
        await response.write_eof()
        return response

    def _status(self) -> dict[str, object]:
        return {
            "paused": not self._going.is_set(),
            "connections": [
                {
                    "connection": session.connection.number,
                    "exchange": session.exchange.name,
                    "opened": session.connection.opened,
                    "records": session.connection.records,
                    "quiet": session.connection.quiet,
                    "subscriptions": session.subscriptions(),
                }
                for session in self._sessions()
            ],
            "records": self._log.counts,
            "faults": self._faults.standing(),
        }

    async def _pause(self) -> dict[str, object]:
        self._going.clear()
        end = time.monotonic() + LONGEST_PAUSE
        while (  # noqa: ASYNC110 - a wait of milliseconds, in tests
            writing := [c.number for c in self._connections() if c.unwritten > 0]
        ) and time.monotonic() < end:
            await asyncio.sleep(0.005)
        return {"paused": True, "still_writing": writing}

    async def _add_fault(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            fault = msgspec.json.decode(await request.read(), type=Fault)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            fields = {f.name: _accepts(f.type) for f in msgspec.structs.fields(Fault)}
            return _json({"error": str(error), "fields": fields}, 400)
        if not fault.at_once:
            self._faults.add(fault)
            asked = msgspec.to_builtins(fault)
            self._log.event("fault", fault.exchange, fault.connection, fault=fault.fault, asked=asked)
            return _json({"standing": True})
        struck = [
            session
            for session in self._sessions()
            if not session.connection.quiet
            and fault.matches(session.connection.exchange, session.connection.number)
        ]
        for session in struck:
            self._strike(fault, session)
        return _json({"standing": False, "connections": [session.connection.number for session in struck]})

    async def _change_listing(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            change = msgspec.json.decode(await request.read(), type=_Listing)
            exchange = next(each for each in self._exchanges if each.name == change.exchange)
            for symbol in change.list:
                exchange.enlist(exchange.instrument(symbol))
            for symbol in change.delist:
                exchange.delist(symbol)
        except (msgspec.DecodeError, StopIteration, KeyError, ValueError) as error:
            return _json({"error": repr(error)}, 400)
        return _json({"listed": list(exchange.markets)})

    def _strike(self, fault: Fault, session: Session) -> None:
        connection = session.connection
        self._log.event("fault", connection.exchange, connection.number, fault=fault.fault)
        match fault.fault:
            case "reset":
                connection.reset()
            case "close":
                spawn(connection.close(fault.code, "close"))
            case "announce":
                session.announce()
                spawn(_close_after(fault.seconds or ANNOUNCED, connection, fault.code))
            case _:
                connection.quiet = True
                if fault.seconds:
                    asyncio.get_running_loop().call_later(fault.seconds, connection.reset, "quiet")

    def _clear_faults(self) -> None:
        self._faults.clear()
        for connection in self._connections():
            if connection.quiet:
                connection.reset("quiet")


async def _close_after(seconds: float, connection: Connection, code: int) -> None:
    await asyncio.sleep(seconds)
    await connection.close(code, "close")


def _possible() -> list[str]:
    return [
        "GET /log",
        "GET /status",
        "POST /pause",
        "POST /resume",
        "GET /faults",
        "POST /faults",
        "DELETE /faults",
        "POST /listing",
    ]


def _accepts(kind: object) -> str:
    return str(kind).replace("typing.", "").replace("Literal", "one of ").replace(" | None", ", or left out")


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=encode(body), status=status, content_type="application/json")
