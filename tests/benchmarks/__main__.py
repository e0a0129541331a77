"""How fast it is: the collector beside cryptofeed, the launcher beside docker compose.

``make bench``, or ``python -m benchmarks`` in tests/. Peer and ours are measured in turns, in the same run;
before a figure of the collector is given, it is checked that what was sent is stored. docs/performance.md
explains the figures. About twenty minutes on two quiet cores.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import launcher_engine
import launcher_text
from destinations import DESTINATIONS
from figures import BACKLOG_LIVE, BACKLOG_RECORDS, HIGH_RECORDS, PEERLESS_RECORDS, Bench, Figure
from recording import record

ROUNDS, RECORDS = 5, 25_000
PACED_RECORDS, PACED_RATE = 10_000, 5_000
PARTS = ("cost", "paced", "latency", "start", "memory", "backlog", "steps", "launcher")


def main() -> None:
    options = parser().parse_args()
    os.nice(5)
    figures, steps = [], {}
    print(line("figure", "ours", "peer", "theirs", "ratio", "goal", ""))
    if {*options.only} - {"launcher"}:
        with ExitStack() as stack:
            bench = recorded(stack, options)
            figures += told(of_collector(bench, options))
            steps = bench.steps() if "steps" in options.only else {}
    if "launcher" in options.only:
        figures += told(launcher_engine.figures())
        figures += told(launcher_text.figures())
    for step, took in steps.items():
        print(f"{step:54} {took:5.1f} us a record")
    if missed := sum(figure.met is False for figure in figures):
        print(f"Goals missed: {missed}. docs/performance.md has the measured reasons.")
    if options.json:
        result = {"figures": [as_json(figure) for figure in figures], "steps": steps}
        options.json.write_text(json.dumps(result, indent=1))


def recorded(stack: ExitStack, options: argparse.Namespace) -> Bench:
    """What measures the collector, with what the exchange sends in all rounds."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
    most = options.rounds * max(options.records, PEERLESS_RECORDS)
    recording = record(max(most, 2 * HIGH_RECORDS, BACKLOG_RECORDS + BACKLOG_LIVE) + 20_000)
    return Bench(folder, recording, options.stores)


def of_collector(bench: Bench, options: argparse.Namespace) -> Iterator[Figure]:
    parts = {
        "cost": lambda: bench.cost(options.rounds, options.records),
        "paced": lambda: bench.cost(options.rounds, PACED_RECORDS, PACED_RATE),
        "latency": bench.latency,
        "start": bench.start,
        "memory": bench.memory,
        "backlog": bench.backlog,
    }
    for part in options.only:
        if part in parts:
            yield from parts[part]()


def told(figures: Iterator[Figure]) -> Iterator[Figure]:
    """Prints the table while it grows."""
    for figure in figures:
        met = {True: "met", False: "missed", None: ""}[figure.met]
        theirs, ratio = figure.theirs or "", f"{figure.ratio.median:.2f}" if figure.ratio else ""
        print(line(figure.what, figure.ours, figure.peer, theirs, ratio, figure.goal, met), flush=True)
        yield figure


def line(*cells: object) -> str:
    widths = (54, 24, 16, 24, 6, 8, 6)
    return " ".join(f"{cell!s:{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def as_json(figure: Figure) -> dict[str, object]:
    spreads = {"ours": figure.ours, "theirs": figure.theirs, "ratio": figure.ratio}
    return (
        figure._asdict()
        | {name: spread._asdict() for name, spread in spreads.items() if spread}
        | {"met": figure.met}
    )


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only", nargs="+", default=PARTS, choices=PARTS, metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help="of every comparison; default: %(default)s"
    )
    parser.add_argument(
        "--records", type=int, default=RECORDS, help="a slice at full speed; default: %(default)s"
    )
    parser.add_argument(
        "--stores", nargs="+", default=list(DESTINATIONS), choices=DESTINATIONS, metavar="STORE"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


if __name__ == "__main__":
    main()
