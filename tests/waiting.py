"""Waits for what must happen: in another process, in an engine, in another task.

A wait ends as soon as it has what it waits for; the bound is for a machine ten times slower than usual.
"""

import asyncio
import time

PATIENCE = 120.0  # seconds


def wait_until(condition):
    """Waits until ``condition()`` is true; what it returned."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"it was not so in {PATIENCE} s"
        time.sleep(0.05)
    return found


async def eventually(condition, what="it", task=None):
    """Waits until ``condition()`` is true, for as long as ``task`` runs; what it returned."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        if task and task.done():
            task.result()
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        await asyncio.sleep(0.01)
    return found
