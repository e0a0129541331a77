"""The collector, which appends to the file DELAYS, for every record, the seconds from receipt to commit."""

import os
import sys
import time
from array import array
from pathlib import Path

from collector import cli, stores
from collector.times import SECOND

create = stores.create
file = Path(os.environ["DELAYS"]).open("ab", buffering=0)  # noqa: SIM115 - as long as the process lives


def observed(settings):
    """The store, whose commits are looked at."""
    store = create(settings)
    commit = store.commit

    async def note(name, batch, expected, after):
        refusals = await commit(name, batch, expected, after)
        now = time.time_ns()
        file.write(array("d", [(now - it.receipt_timestamp) / SECOND for it in batch.records]).tobytes())
        return refusals

    store.commit = note
    return store


stores.create = observed
sys.exit(cli.main([]))
