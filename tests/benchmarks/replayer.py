"""An exchange that only repeats a recording, over real TLS and websockets, in a process of its own.

    with Replayer(recording_file) as replayer:
        subprocess.Popen(..., env=replayer.environment)
        replayer.wait_for_client()
        replayer.send(10_000)              # as fast as the client reads
        replayer.send(10_000, rate=1_000)  # messages a second

Nothing is computed while it sends: each frame is there as bytes and becomes one TLS record, as it does where
an exchange sends one message at a time.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from aiohttp import web
from recording import Recording

from collector.simulator.certificates import server_context
from collector.simulator.proxy import Proxy

HOSTS = [("api.binance.com", 443), ("stream.binance.com", 9443)]
BURST = 64  # frames in one write to the socket
MOST_UNSENT = 2**18  # bytes
TICK = 0.001  # seconds
PATIENCE = 60.0  # seconds


class Replayer:
    """The process, seen from outside. ``sent`` counts the messages that were sent."""

    def __init__(self, recording: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="replayer-")
        self._ca = Path(self._folder.name) / "ca.pem"
        self._command = [sys.executable, __file__, str(recording), str(self._ca)]
        self.sent = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._proxy = f"http://127.0.0.1:{self._answer('port')}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client here, and lets it trust what it finds."""
        return {
            "HTTPS_PROXY": self._proxy,
            "https_proxy": self._proxy,
            "SSL_CERT_FILE": str(self._ca),
            "REQUESTS_CA_BUNDLE": str(self._ca),
        }

    def wait_for_client(self) -> None:
        """Returns when a websocket is open."""
        self._answer("client")

    def send(self, count: int, rate: float = 0.0) -> None:
        """Begins to send the next ``count`` messages; ``rate`` a second, or as fast as the client reads."""
        print(json.dumps({"first": self.sent, "count": count, "rate": rate}), file=self._process.stdin)
        self.sent += count

    def wait_until_sent(self) -> None:
        """Returns when everything of a ``send`` has been given to the network."""
        self._answer("sent")

    def _answer(self, key: str) -> int:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the replayer has ended")
        return json.loads(line)[key]


class _Exchange:
    """The process, seen from inside: one websocket, which must stay up."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._frames = recording.frames
        self._client: asyncio.Transport | None = None

    async def run(self, ca: Path) -> None:
        context = server_context((host for host, _ in HOSTS), ca)
        server = web.Server(self._handle, access_log=None)
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: Proxy(HOSTS, server, context), "127.0.0.1", 0)
        _tell(port=listener.sockets[0].getsockname()[1])
        commands = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        async for line in commands:
            await self._send(**json.loads(line))
            _tell(sent=True)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(body=self._recording.rest[request.path_qs], content_type="application/json")
        if self._client:
            print("the client has connected again: this is no measurement", file=sys.stderr, flush=True)
            os._exit(1)
        websocket = web.WebSocketResponse(compress=False)
        await websocket.prepare(request)
        self._client = request.transport
        _tell(client=True)
        if "@trade" in request.query["streams"]:
            self._frames = self._recording.singles
        async for message in websocket:  # a client subscribes, or asks whether we are still there
            await websocket.send_json({"result": None, "id": json.loads(message.data)["id"]})
        return websocket

    async def _send(self, first: int, count: int, rate: float) -> None:
        frames = self._frames[first : first + count]
        assert len(frames) == count, "the recording is too short"
        begun = time.monotonic()
        at = 0
        while at < count:
            due = min(count, int((time.monotonic() - begun) * rate) + 1) if rate else count
            burst = frames[at : min(due, at + BURST)]
            self._client.writelines(burst)
            at += len(burst)
            if rate and at == due:
                await asyncio.sleep(begun + at / rate - time.monotonic())
            while self._client.get_write_buffer_size() > MOST_UNSENT:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(TICK)


def _tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(_Exchange(Recording.load(Path(sys.argv[1]))).run(Path(sys.argv[2])))
