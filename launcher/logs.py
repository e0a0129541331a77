"""The logs of many containers as one, ordered by time, with ``***`` for every password."""

import heapq
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from collector.masking import masked
from launcher.engines import EngineError, LogLines, Observed
from launcher.engines.docker import DockerEngine

_RESTART_WAIT = 1.0  # seconds between checks of a container that is about to be restarted


def last(
    engine: DockerEngine, containers: Sequence[Observed], wanted: LogLines, parallel: int
) -> Iterator[tuple[str, str]]:
    """Return the requested lines of each container as (collector, line), ordered by time."""

    def stamped(container: Observed) -> list[tuple[str, str, str]]:
        hidden = engine.passwords(container.id)
        return [
            (at, container.collector, masked(line, hidden)) for at, line in engine.log(container.id, wanted)
        ]

    with ThreadPoolExecutor(parallel) as pool:
        logs = list(pool.map(stamped, containers))
    return ((collector, line) for _, collector, line in heapq.merge(*logs))


def follow(
    engine: DockerEngine, containers: Sequence[Observed], wanted: LogLines
) -> Iterator[tuple[str, str]]:
    """Yield lines as (collector, line) as they come, until every container has stopped for good."""
    lines: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
    for container in containers:
        threading.Thread(target=_follow, args=(engine, container, wanted, lines), daemon=True).start()
    running = len(containers)
    while running:
        if item := lines.get():
            yield item
        else:
            running -= 1


def _follow(
    engine: DockerEngine,
    container: Observed,
    wanted: LogLines,
    lines: "queue.SimpleQueue[tuple[str, str] | None]",
) -> None:
    seen = ""
    try:
        hidden = engine.passwords(container.id)
        while True:
            for at, line in engine.follow(container.id, wanted):
                if at > seen:  # after a restart, the engine repeats earlier lines
                    seen = at
                    lines.put((container.collector, masked(line, hidden)))
            wanted = LogLines(since=time.time() - 60)
            time.sleep(_RESTART_WAIT)
            if engine.condition(container.id).state not in ("running", "restarting"):
                return
    except EngineError as error:
        lines.put((container.collector, f"-- {error}"))
    finally:
        lines.put(None)
