"""Compacts in a process that is killed before its n-th change of the file system.

``python crashing_compaction.py FOLDER`` copies the dataset FOLDER/dataset to FOLDER/0, FOLDER/1, ... and does
so in each, until a process outlives its work, and prints how many did not.
"""

import itertools
import shutil
import sys
from pathlib import Path
from threading import Lock

from crashes import die_before, lives

from collector.stores import parquet_compaction
from collector.stores.parquet_compaction import Compaction


def compact(root):
    """Compacts every day of a dataset; every file is acknowledged."""
    folders = sorted(root.glob("v2/channel=*/exchange=*/symbol=*/date=*"))
    Compaction(root, lambda name: 10**9, Lock()).run(folders)


def survives(root, change):
    """Whether the work outlives that change."""

    def work():
        die_before(change, _exchange=parquet_compaction)
        compact(root)

    shutil.copytree(root.with_name("dataset"), root)
    return lives(work)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    sys.stdout.write(str(next(n for n in itertools.count() if survives(folder / str(n), n))))
