"""The threads that do a spool's disk work, so that the event loop never blocks on it."""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from collector.spool.database import SpoolFile
from collector.spool.schema import SpoolError


class DiskThreads:
    """One thread for syncing, and one for all other work on the database: an fsync delays no append.

    Attributes:
        failure: the error that broke the database; None while it works.
    """

    def __init__(self, file: SpoolFile) -> None:
        self.failure: Exception | None = None
        self._file = file
        self._working = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._syncing = ThreadPoolExecutor(1, thread_name_prefix="sync")

    async def work[**P, T](self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run ``work`` and return its result. Raises SpoolError if the database broke."""
        return await self._on(self._working, partial(work, *arguments, **named))

    async def sync(self) -> bool:
        """Sync, and return whether the log should be shortened. Raises SpoolError if the database broke."""
        return await self._on(self._syncing, self._file.sync)

    def see_that_it_is_well(self) -> None:
        """Raise SpoolError if the database broke."""
        if self.failure:
            raise SpoolError(f"the spool {self._file.path} failed: {self.failure}") from self.failure

    async def end(self) -> None:
        """Close the database without a clean stop, as a crash would, and end the threads."""
        await asyncio.to_thread(self._syncing.shutdown)
        await self.work(self._file.close)
        self._working.shutdown()

    async def _on[T](self, thread: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        except (sqlite3.Error, OSError) as error:
            self.failure = error
            self._file.suspect(error)
            raise SpoolError(f"the spool {self._file.path} failed: {error}") from error
