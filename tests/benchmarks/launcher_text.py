"""Reading a large fleet file and rendering it, against what ``docker compose config`` needs for the result.

    python tests/benchmarks/launcher_text.py [COLLECTORS]

Both run as fresh processes, in turns; medians of three. The second line is a tenth of the collectors: what
is linear takes ten times less, start-up aside.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    limits:
      memory: 256MiB
"""
OURS = """
import sys
from pathlib import Path
from launcher import fleet, render
spec = fleet.load(Path(sys.argv[1]), {})
render.write(spec, Path(sys.argv[2]))
"""
ROUNDS = 3


def main(collectors):
    print(f"{'collectors':>10} {'launcher':>18} {'compose config -q':>18} {'ratio':>12}")
    for count in (collectors, collectors // 10):
        with tempfile.TemporaryDirectory() as folder:
            report(count, *measure(count, Path(folder)))


def measure(count, folder):
    fleet = folder / "fleet.yaml"
    body = (COLLECTOR.format(number=n, store=("redis", "files")[n % 2]) for n in range(count))
    fleet.write_text(HEAD + "".join(body))
    ours = (sys.executable, "-c", OURS, fleet, folder / "out")
    theirs = ("docker", "compose", "--file", folder / "out" / "compose.yaml", "config", "--quiet")
    runs = [(run(ours), run(theirs)) for _ in range(ROUNDS)]
    return [tuple(map(statistics.median, zip(*each, strict=True))) for each in zip(*runs, strict=True)]


def run(command):
    """Seconds and MB of memory at the most that a command takes."""
    begun = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[0]} failed")
    return time.perf_counter() - begun, usage.ru_maxrss / 1024


def report(count, ours, theirs):
    columns = (f"{seconds:8.2f} s {memory:4.0f} MB" for seconds, memory in (ours, theirs))
    ratios = f"{ours[0] / theirs[0]:.2f} {ours[1] / theirs[1]:.2f}"
    print(f"{count:>10} {'  '.join(f'{column:>17}' for column in columns)} {ratios:>12}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
