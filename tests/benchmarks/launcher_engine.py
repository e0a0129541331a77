"""The launcher on an engine, against ``docker compose`` on the file that it renders, in turns.

    python tests/benchmarks/launcher_engine.py [COLLECTORS ...]

The collectors do nothing, so that what is measured is the way to them: cold ``up``, ``up`` of what is there
already, ``down``. Neither waits for health. Medians of five (``up`` unchanged, help), else of two.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

IMAGE = "cryptostore-idle:bench"
DOCKERFILE = b"""\
FROM python:3.13-slim-trixie
RUN install -d -o 10001 -g 10001 /spool /data
USER 10001:10001
ENTRYPOINT ["sleep", "infinity"]
"""
#: The most that ours may take of theirs.
GOALS = {
    ("help", 0): 2.0,
    ("up, unchanged", 40): 2.0,
    ("up, unchanged", 200): 1.0,
    ("up, cold", 40): 1.0,
    ("down", 40): 1.0,
}
FLEET = """\
fleet: {name}
image: {image}
stores: {{redis: {{backend: REDISSTREAM, host: redis}}}}
defaults: {{channels: [trades, ticker], limits: {{memory: 64MiB, cpus: 0.5}}}}
collectors:
"""
COLLECTOR = "  - {{name: c{number}, exchange: BINANCE, symbols: [BTC-USDT, S{number}-USDT]}}\n"
LAUNCHER = str(Path(sys.executable).with_name("launcher"))


class Pair:
    """The same fleet twice: one for the launcher, one, rendered, for compose."""

    def __init__(self, folder, collectors):
        self.names = {kind: f"bench-{kind}-{os.getpid()}" for kind in ("ours", "theirs")}
        for kind, name in self.names.items():
            body = "".join(COLLECTOR.format(number=number) for number in range(collectors))
            (folder / f"{kind}.yaml").write_text(FLEET.format(name=name, image=IMAGE) + body)
        self.ours, self.theirs = folder / "ours.yaml", folder / "out" / "compose.yaml"
        run(LAUNCHER, "render", folder / "theirs.yaml", "--output", folder / "out")

    def up(self):
        return (
            run(LAUNCHER, "up", self.ours, "--wait-timeout", "0"),
            run("docker", "compose", "--file", self.theirs, "up", "--detach"),
        )

    def down(self):
        """Everything goes, volumes too: what is measured is the same on both sides."""
        return (
            run(LAUNCHER, "down", self.ours, "--volumes", "--yes"),
            run("docker", "compose", "--file", self.theirs, "down", "--volumes"),
        )


def main(sizes):
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", IMAGE, "-"], input=DOCKERFILE, check=True, capture_output=True
    )
    say(f"{'':>16} {'collectors':>10} {'launcher':>9} {'compose':>9} {'ratio':>6} {'goal':>5}")
    helps = [(run(LAUNCHER, "--help"), run("docker", "compose", "--help")) for _ in range(5)]
    report("help", 0, helps)
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            measure(size, Path(folder))


def measure(size, folder):
    pair = Pair(folder, size)
    rounds = 2 if size <= 40 else 1
    cold, down = [], []
    for number in range(rounds):
        cold.append(pair.up())
        if not number:
            unchanged = [pair.up() for _ in range(5)]
        down.append(pair.down())
    report("up, cold", size, cold)
    report("up, unchanged", size, unchanged)
    report("down", size, down)


def run(*command):
    """Seconds that a command takes.

    A busy engine may lose count of a network's endpoints, and then neither side can remove that network.
    """
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    seconds = time.perf_counter() - begun
    if done.returncode and "has active endpoints" not in done.stderr:
        sys.exit(f"{' '.join(map(str, command))} failed: {done.stderr}")
    return seconds


def report(what, size, pairs):
    ours, theirs = (statistics.median(each) for each in zip(*pairs, strict=True))
    goal = GOALS.get((what, size))
    told = f"{goal:.1f}" if goal else ""
    say(f"{what:>16} {size or '':>10} {ours:7.2f} s {theirs:7.2f} s {ours / theirs:6.2f} {told:>5}")


def say(line):
    print(line, flush=True)


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [40, 200])
