"""Commits one batch in a process that is killed before its n-th change of the file system, then once more.

``python crashing_parquet.py FOLDER`` does so for n = 0, 1, 2, ..., each in FOLDER/n, until a process
outlives its commit, and prints how many did not.
"""

import asyncio
import itertools
import sys
from pathlib import Path

import pandas as pd  # noqa: F401 - pyarrow looks for it at the first conversion: once, not in each process
from crashes import die_before, lives
from every_kind import EVERY_KIND

from collector.batch import Batch, Position
from collector.settings import Settings
from collector.stores.parquet import ParquetStore

NAME = "crashing"
BATCH = Batch("incarnation", 7, EVERY_KIND[:3])
AFTER = Position("owner", "incarnation", BATCH.end)


def settings(folder, symbols="BTC-USD", channels="trades"):
    """Settings whose Parquet dataset is ``folder``."""
    return Settings.read(
        {
            "EXCHANGE": "COINBASE",
            "SYMBOLS": symbols,
            "CHANNELS": channels,
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
