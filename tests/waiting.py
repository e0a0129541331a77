"""Waits for what must happen: in another process, in an engine, in another task.

A wait ends as soon as it has what it waits for; the bound is for a machine ten times slower than usual.
What is waited for is looked at a third of the time at most: looking must not keep it from happening.
"""

import asyncio
import time

PATIENCE = 120.0  # seconds


def wait_until(condition):
    """Waits until ``condition()`` is true; what it returned."""
    end = time.monotonic() + PATIENCE
    while True:
        looked = time.monotonic()
        if found := condition():
            return found
        assert looked < end, f"it was not so in {PATIENCE} s"
        time.sleep(pause(looked, 0.05))


async def eventually(condition, what="it", task=None):
    """Waits until ``condition()`` is true, for as long as ``task`` runs; what it returned."""
    end = time.monotonic() + PATIENCE
    while True:
        looked = time.monotonic()
        if found := condition():
            return found
        if task and task.done():
            task.result()
        assert looked < end, f"not within {PATIENCE} s: {what}"
        await asyncio.sleep(pause(looked, 0.01))


def pause(looked, least):
    """How long to wait after a look that began at ``looked``: twice as long as it took."""
    return max(least, 2 * (time.monotonic() - looked))
