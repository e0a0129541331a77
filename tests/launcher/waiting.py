"""Waits for what an engine does in its own time."""

import time


def wait_for(look, good, seconds=30):
    """The first of what ``look`` returns that is good."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for found in look():
            if good(found):
                return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {look()}")
