"""Compacts in a process that is killed before its n-th change of the file system.

``python crashing_compaction.py FOLDER [power]`` copies the dataset FOLDER/dataset to FOLDER/0, FOLDER/1, ...
and does so in each, until a process outlives its work, and prints how many did not. With ``power``, it is the
power that fails: the files that were not synced are there, but empty.
"""

import itertools
import os
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


def survives(root, change, *, power):
    """Whether the work outlives that change."""
    synced = root.with_name("synced")

    def work():
        fsync = os.fsync

        def noted(descriptor):
            fsync(descriptor)
            with synced.open("a") as file:
                file.write(f"{os.fstat(descriptor).st_ino}\n")

        os.fsync = noted
        die_before(change, _exchange=parquet_compaction)
        compact(root)

    shutil.copytree(root.with_name("dataset"), root)
    synced.write_text("".join(f"{file.stat().st_ino}\n" for file in root.rglob("*")))
    lived = lives(work)
    if power:
        kept = {int(line) for line in synced.read_text().split()}
        for file in root.rglob("*"):
            if file.is_file() and file.stat().st_ino not in kept:
                os.truncate(file, 0)
    return lived


if __name__ == "__main__":
    folder, power = Path(sys.argv[1]), "power" in sys.argv[2:]
    sys.stdout.write(str(next(n for n in itertools.count() if survives(folder / str(n), n, power=power))))
