"""The threads that a spool's disk work happens on, never the event loop's."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any

from collector.spool.database import SpoolFile
from collector.spool.schema import SpoolError


class DiskThreads:
    """One thread for all work on the database but syncing, which has another: an fsync holds up no append.

    Attributes:
        failure: what broke the database; None while it is well.
    """

    def __init__(self, file: SpoolFile) -> None:
        self.failure: Exception | None = None
        self._file = file
        self._working, self._syncing = _DiskThread("spool"), _DiskThread("sync")

    async def work[**P, T](self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Return what ``work`` returns. Raises SpoolError where the database broke."""
        return await self._on(self._working, partial(work, *arguments, **named))

    async def sync(self) -> bool:
        """Sync, and return whether the log is to be shortened. Raises SpoolError where the database broke."""
        return await self._on(self._syncing, self._file.sync)

    def see_that_it_is_well(self) -> None:
        """Raise SpoolError where the database broke."""
        if self.failure:
            raise SpoolError(f"the spool {self._file.path} failed: {self.failure}") from self.failure

    async def end(self) -> None:
        """Close the database, as a crash would, and end the threads."""
        await asyncio.to_thread(self._syncing.end)
        await self.work(self._file.let_go)
        self._working.end()

    async def _on[T](self, thread: "_DiskThread", work: Callable[[], T]) -> T:
        try:
            return await thread.run(work)
        except (sqlite3.Error, OSError) as error:
            self.failure = error
            self._file.suspect(error)
            raise SpoolError(f"the spool {self._file.path} failed: {error}") from error


class _DiskThread:
    """A thread that does one piece of work after the other: there and back in half of an executor's time."""

    def __init__(self, name: str) -> None:
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def run[T](self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns, or raise what it raises; it is done even if nobody waits any more."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._waiting.put(partial(_carry_out, work, outcome, loop))
        try:
            return await outcome
        finally:
            del outcome  # an error that this frame holds would hold this frame, and whatever failed with it

    def end(self) -> None:
        """Return when all work is done and the thread has ended."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while task := self._waiting.get():
            task()
            del task  # what it holds may be large


def _carry_out(
    work: Callable[[], Any], outcome: asyncio.Future[Any], loop: asyncio.AbstractEventLoop
) -> None:
    try:
        settle = partial(outcome.set_result, work())
    except BaseException as error:  # noqa: BLE001 - whatever it is, who waits gets it
        settle = partial(outcome.set_exception, error)
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(_settle, outcome, settle)
    del outcome, settle  # as in DiskThread.run


def _settle(outcome: asyncio.Future[Any], settle: Callable[[], None]) -> None:
    if not outcome.done():
        settle()
