"""The launcher on an engine, against ``docker compose`` on the file that it renders, in turns.

The collectors do nothing, so that what is measured is the way to them: cold ``up``, ``up`` of what is there
already, ``down``. Neither waits for health. On SIGTERM they take a second, as one that stores what it has: it
counts how many are stopped at a time.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from figures import Figure

IMAGE = "cryptostore-idle:bench"
DOCKERFILE = b"""\
FROM python:3.13-slim-trixie
RUN install -d -o 10001 -g 10001 /spool /data
USER 10001:10001
ENTRYPOINT ["sh", "-c", "trap 'sleep 1; exit' TERM; sleep infinity & wait", "collector"]
"""
FEW, MANY = 40, 200
ROUNDS = {FEW: 3, MANY: 1}  # of what takes the engine long
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

#: Seconds of ours and of theirs.
type Times = tuple[float, float]


class Pair:
    """The same fleet twice: one for the launcher, one, rendered, for compose."""

    def __init__(self, folder: Path, collectors: int) -> None:
        for kind in ("ours", "theirs"):
            body = "".join(COLLECTOR.format(number=number) for number in range(collectors))
            head = FLEET.format(name=f"bench-{kind}-{os.getpid()}", image=IMAGE)
            (folder / f"{kind}.yaml").write_text(head + body)
        self.ours, self.theirs = folder / "ours.yaml", folder / "out" / "compose.yaml"
        run(LAUNCHER, "render", folder / "theirs.yaml", "--output", folder / "out")

    def up(self) -> Times:
        return (
            run(LAUNCHER, "up", self.ours, "--wait-timeout", "0"),
            run("docker", "compose", "--file", self.theirs, "up", "--detach"),
        )

    def down(self) -> Times:
        """Everything goes, volumes too: what is measured is the same on both sides."""
        return (
            run(LAUNCHER, "down", self.ours, "--volumes", "--yes"),
            run("docker", "compose", "--file", self.theirs, "down", "--volumes"),
        )


def figures() -> Iterator[Figure]:
    """Help, then 40 collectors, then 200."""
    helps = [(run(LAUNCHER, "--help"), run("docker", "compose", "--help")) for _ in range(UNCHANGED_ROUNDS)]
    yield compared("launcher --help, ms", helps, HELP_GOAL)
    command = ["docker", "build", "--quiet", "--tag", IMAGE, "-"]
    subprocess.run(command, input=DOCKERFILE, check=True, capture_output=True)
    for size in (FEW, MANY):
        with tempfile.TemporaryDirectory() as folder:
            yield from _of(size, Pair(Path(folder), size))


def _of(size: int, pair: Pair) -> Iterator[Figure]:
    times: dict[str, list[Times]] = {"up, cold": [], "up, unchanged": [], "down": []}
    for _ in range(ROUNDS[size]):
        times["up, cold"].append(pair.up())
        if not times["up, unchanged"]:
            times["up, unchanged"] = [pair.up() for _ in range(UNCHANGED_ROUNDS)]
        times["down"].append(pair.down())
    for what, each in times.items():
        yield compared(f"launcher: {size} collectors {what}, ms", each, GOALS.get((what, size)))


def compared(what: str, times: Iterable[Times], most: float | None) -> Figure:
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
