"""The launcher on an engine, against ``docker compose`` on the file that it renders, in turns.

The collectors do nothing, so that what is measured is the way to them: cold ``up``, ``up`` of what is there
already, ``down``. Neither waits for health. On SIGTERM they take a second, as one that stores what it has: it
counts how many are stopped at a time. Each side has the engine to itself: what another fleet's containers
cost would be counted on one side alone.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from figures import Figure

IMAGE = "cryptostore-idle:bench"
DOCKERFILE = b"""\
FROM python:3.13-slim-trixie
RUN install -d -o 10001 -g 10001 /spool /data
USER 10001:10001
ENTRYPOINT ["sh", "-c", "trap 'sleep 1; exit' TERM; sleep infinity & wait", "collector"]
"""
FEW, MANY = 40, 200
ROUNDS = {FEW: 9, MANY: 1}  # the engine takes a tenth longer for one than for the next
UNCHANGED_ROUNDS = 5
PEER = "docker compose"
#: The most that ours may take of theirs.
HELP_GOAL = 2.0
GOALS = {
    ("up, unchanged", FEW): 2.0,
    ("up, unchanged", MANY): 1.0,
    ("up, cold", FEW): 1.0,
    ("down", FEW): 1.0,
}
FLEET = """\
fleet: {name}
image: {image}
stores: {{redis: {{backend: REDISSTREAM, host: redis}}}}
defaults: {{channels: [trades, ticker], limits: {{memory: 64MiB, cpus: 0.5}}}}
collectors:
"""
COLLECTOR = "  - {{name: c{number}, exchange: BINANCE, symbols: [A{number}-USDT, S{number}-USDT]}}\n"
#: What compose and the launcher say of a network that the engine has lost count of.
LOST_COUNT = ("has active endpoints", "lost count of what is on it")
LAUNCHER = str(Path(sys.executable).with_name("launcher"))


class Side(NamedTuple):
    """The commands of one of the two."""

    up: tuple[str | Path, ...]
    down: tuple[str | Path, ...]  # volumes too: what is measured is the same on both sides


def sides(folder: Path, collectors: int) -> tuple[Side, Side]:
    """The same fleet twice: one for the launcher, one, rendered, for compose."""
    ours, theirs = (folder / f"{kind}.yaml" for kind in ("ours", "theirs"))
    body = "".join(COLLECTOR.format(number=number) for number in range(collectors))
    for file in (ours, theirs):
        file.write_text(FLEET.format(name=f"bench-{file.stem}-{os.getpid()}", image=IMAGE) + body)
    run(LAUNCHER, "render", theirs, "--output", folder / "out")
    compose = ("docker", "compose", "--file", folder / "out" / "compose.yaml")
    return (
        Side((LAUNCHER, "up", ours, "--wait-timeout", "0"), (LAUNCHER, "down", ours, "--volumes", "--yes")),
        Side((*compose, "up", "--detach"), (*compose, "down", "--volumes")),
    )


def figures() -> Iterator[Figure]:
    """Help, then 40 collectors, then 200."""
    helps = [(run(LAUNCHER, "--help"), run("docker", "compose", "--help")) for _ in range(UNCHANGED_ROUNDS)]
    yield compared("launcher --help, ms", helps, HELP_GOAL)
    command = ["docker", "build", "--quiet", "--tag", IMAGE, "-"]
    subprocess.run(command, input=DOCKERFILE, check=True, capture_output=True)
    for size in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            yield from _of(size, sides(Path(folder), size))


def _of(size: int, both: tuple[Side, Side]) -> Iterator[Figure]:
    times: dict[str, tuple[list[float], list[float]]] = {
        what: ([], []) for what in ("up, cold", "up, unchanged", "down")
    }
    for number in range(ROUNDS[size]):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            up, down = both[which]
            times["up, cold"][which].append(run(*up))
            if number == 0:
                times["up, unchanged"][which].extend(run(*up) for _ in range(UNCHANGED_ROUNDS))
            times["down"][which].append(run(*down))
    for what, each in times.items():
        pairs = zip(*each, strict=True)
        yield compared(f"launcher: {size} collectors {what}, ms", pairs, GOALS.get((what, size)))


def compared(what: str, times: Iterable[tuple[float, float]], most: float | None) -> Figure:
    ours, theirs = ([each * 1e3 for each in side] for side in zip(*times, strict=True))
    return Figure.compared(what, ours, PEER, theirs, most=most)


def run(*command: str | Path) -> float:
    """Seconds that a command takes.

    A busy engine may lose count of a network's endpoints, and then neither side can remove that network.
    """
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode and not any(words in done.stderr for words in LOST_COUNT):
        sys.exit(f"{' '.join(map(str, command))} failed: {done.stderr}")
    return seconds
