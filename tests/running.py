"""A whole collector inside the test's own process: quick to start, to stop and to kill.

running = Running(tmp_path, EXCHANGE="KRAKEN", ...)
await running.start()
await running.whole()
"""

import asyncio
import contextlib
import shutil

from waiting import eventually

from collector import supervisor
from collector.settings import Settings
from collector.spool.spool import Spool


class Running:
    """One collector's processes, one after the other; ``gaps`` is what they reported."""

    def __init__(self, folder, **variables):
        self.settings = Settings.read({"SPOOL_DIR": str(folder / "spool"), "NAME": "test"} | variables)
        self.home = self.settings.home
        self.gaps = []

    async def start(self):
        self.home.mkdir(parents=True, exist_ok=True)
        settings = self.settings
        self.spool = await Spool.open(
            self.home,
            max_bytes=settings.spool_max_bytes,
            keep=settings.spool_keep,
            sync=settings.spool_sync,
        )
        self.collector = supervisor._Collector(settings, self.spool)
        report = self.collector.feed.gaps.recorder.report

        def remember(gap):
            self.gaps.append(gap)
            report(gap)

        self.collector.feed.gaps.recorder.report = remember
        self.stopping = asyncio.Event()
        self.task = asyncio.create_task(self.collector.run(self.stopping))

    async def stop(self):
        self.stopping.set()
        assert await self.task == supervisor.STOPPED
        await self.spool.close()

    async def kill(self):
        """Nothing is saved from here on, as after SIGKILL."""
        self.task.cancel()
        await asyncio.wait([self.task])
        self.spool._tending.cancel()
        await self.spool.abort()

    async def restart(self, end="stop"):
        await getattr(self, end)()
        await self.start()

    @property
    def pairs(self):
        return {(channel, symbol) for channel in self.settings.channels for symbol in self.settings.symbols}

    async def whole(self):
        """Waits until everything is seen, and no question is open."""
        gaps = self.collector.feed.gaps
        await self.until(lambda: gaps._seen.keys() == self.pairs and not gaps.questions, "everything is seen")

    async def until(self, condition, what):
        await eventually(condition, what, self.task)

    async def more(self, records=30):
        wanted = self.received + records
        await self.until(lambda: self.received >= wanted, f"{wanted} records")

    async def delivered(self):
        """Waits until the store has everything that was received and reported so far."""
        await self.collector.receiver.append()
        end = self.spool.end
        await self.until(lambda: self.spool.acknowledged >= end, "everything is stored")

    async def quiet(self):
        """Waits until nothing more comes, and the store has it."""
        before = -1
        while before != self.received:
            before = self.received
            await asyncio.sleep(0.1)
        await self.delivered()

    @property
    def received(self):
        return self.collector.metrics.received.total()

    def copy_spool(self, to):
        """The spool's folder as it is on disk now."""
        return shutil.copytree(self.home, to)

    def put_back(self, copy):
        shutil.rmtree(self.home)
        shutil.copytree(copy, self.home)

    @contextlib.asynccontextmanager
    async def running(self):
        await self.start()
        try:
            yield self
        finally:
            if not self.task.done():
                self.task.cancel()
                await asyncio.wait([self.task])
                self.spool._tending.cancel()
                with contextlib.suppress(Exception):
                    await self.spool.abort()
