"""A large fleet file read, planned and rendered, against what ``docker compose config`` needs for the result.

Both run as fresh processes, in turns, on 10,000 collectors and on a tenth of them.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from figures import Figure, Spread

HEAD = """\
fleet: large
stores:
  redis: {backend: REDISSTREAM, host: redis}
  files: {backend: PARQUET}
defaults:
  limits: {memory: 512MiB, cpus: 0.5}
collectors:
"""
COLLECTOR = """\
  - name: binance-{number}
    exchange: BINANCE
    symbols: [BTC-USDT, ETH-USDT, S{number}-USDT]
    channels: [trades, ticker, l2_book]
    store: {store}
    snapshot_interval: 500
    allow_overlap: true
    limits:
      memory: 256MiB
"""
OURS = """
import sys
from pathlib import Path
from launcher import fleet, plan, render
spec = fleet.load(Path(sys.argv[1]), {})
assert len(plan.make(spec, [], {}).changing) == len(spec.collectors)
render.write(spec, Path(sys.argv[2]))
"""
#: A process counts the memory of the one that starts it, so that has to be a small one.
MEASURED = """
import resource, subprocess, sys, time
begun = time.perf_counter()
status = subprocess.call(sys.argv[1:])
print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""
ROUNDS, COLLECTORS = 3, 10_000
PEER = "docker compose config -q"
MOST, LINEAR = 0.5, 11.0

#: Seconds and MiB at the most that a process needed.
type Needs = tuple[float, float]


def figures() -> Iterator[Figure]:
    """Time, memory, and how they grow."""
    (ours, theirs), (less, _) = (_measured(count) for count in (COLLECTORS, COLLECTORS // 10))
    for kind, (what, scale) in enumerate((("ms", 1e3), ("MiB", 1.0))):
        mine, others = ([needs[kind] * scale for needs in side] for side in (ours, theirs))
        told = f"launcher: {COLLECTORS:,} collectors validated, planned, rendered, {what}"
        yield Figure.compared(told, mine, PEER, others, most=MOST)
    growth = [large[0] / small[0] for large, small in zip(ours, less, strict=True)]
    yield Figure("launcher: time of 10 x the collectors, x", Spread.of(growth), most=LINEAR)


def _measured(count: int) -> tuple[list[Needs], list[Needs]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fleet, out = folder / "fleet.yaml", folder / "out"
        body = (COLLECTOR.format(number=n, store=("redis", "files")[n % 2]) for n in range(count))
        fleet.write_text(HEAD + "".join(body))
        ours = (sys.executable, "-c", OURS, str(fleet), str(out))
        theirs = ("docker", "compose", "--file", str(out / "compose.yaml"), "config", "--quiet")
        runs = [(_run(ours), _run(theirs)) for _ in range(ROUNDS)]
    mine, others = zip(*runs, strict=True)
    return list(mine), list(others)


def _run(command: tuple[str, ...]) -> Needs:
    measured = (sys.executable, "-S", "-c", MEASURED, *command)
    done = subprocess.run(measured, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{command[0]} failed")
    seconds, kibibytes = done.stdout.split()[-2:]
    return float(seconds), float(kibibytes) / 1024
