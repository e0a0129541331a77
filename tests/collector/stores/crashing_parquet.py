"""Commits one batch in a process that is killed before its n-th change of the file system, then once more.

``python crashing_parquet.py FOLDER`` does so for n = 0, 1, 2, ..., each in FOLDER/n, until a process
outlives its commit, and prints how many did not.
"""

import asyncio
import itertools
import os
import signal
import sys
from pathlib import Path

from every_kind import EVERY_KIND

from collector.settings import Settings
from collector.stores import Batch, Position
from collector.stores.parquet import ParquetStore

NAME = "crashing"
BATCH = Batch("incarnation", 7, EVERY_KIND[:3])
AFTER = Position("owner", "incarnation", BATCH.end)


def settings(folder):
    """Settings whose Parquet dataset is ``folder``."""
    return Settings.read(
        {
            "EXCHANGE": "COINBASE",
            "SYMBOLS": "BTC-USD",
            "CHANNELS": "trades",
            "BACKEND": "PARQUET",
            "PARQUET_DIR": str(folder),
        }
    )


async def commit(folder):
    """What the writer does: look at the position, and commit what it does not cover."""
    store = ParquetStore(settings(folder))
    position = await store.open(NAME)
    if position != AFTER:
        await store.commit(NAME, BATCH, position, AFTER)


def die_before(change):
    """From now on, the process is killed when it is about to change the file system for that time."""
    changes = itertools.count()

    def fatal(operation):
        def wrapped(*args, **kwargs):
            if next(changes) == change:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return wrapped

    for name in ("fsync", "mkdir", "replace", "rmdir", "unlink"):
        setattr(os, name, fatal(getattr(os, name)))


def lives(work):
    """Runs ``work`` in a process of its own; whether it was not killed."""
    child = os.fork()
    if not child:
        work()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("the commit failed")
    return os.WIFEXITED(status)


def survives(folder, change):
    """Whether a commit that is to die before that change outlives it; it is then tried again."""

    def first_try():
        die_before(change)
        asyncio.run(commit(folder))

    lived = lives(first_try)
    lives(lambda: asyncio.run(commit(folder)))
    return lived


if __name__ == "__main__":
    root = Path(sys.argv[1])
    sys.stdout.write(str(next(n for n in itertools.count() if survives(root / str(n), n))))
