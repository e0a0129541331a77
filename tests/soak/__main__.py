"""The long test of the promise: ``make soak``, or ``python -m soak`` in tests/.

First random inputs of every kind, for half an hour: what is not borne is kept. Then, for every store:
restarts, resets of its connections and SIGKILLs, with SIGKILLs and restarts of the collector and drops by the
exchange in between; then the store is away for minutes at a high rate. Afterwards what the simulated exchange
sent is compared with what is stored, record by record. Exit status 1: an input was not borne, or something is
lost, or stored twice, or not what was sent.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "collector" / "stores"))
sys.path.insert(0, str(Path(__file__).parent))

from fuzz import long as fuzz
from parts import Missing
from places import PLACES
from report import tables
from trials import TRIALS

FUZZ = "fuzz"


def main() -> int:
    options = parser().parse_args()
    outcomes = [outcome for path in options.merge for outcome in json.loads(path.read_text())]
    borne = True
    if options.logs:
        options.logs.mkdir(parents=True, exist_ok=True)
    if not options.merge:
        if FUZZ in options.trials:
            seed = random.SystemRandom().randrange(2**32) if options.fuzz_seed is None else options.fuzz_seed
            borne = fuzz.run(options.fuzz_minutes, seed, options.logs or Path(tempfile.gettempdir()))
        for store in options.stores:
            for name in (each for each in options.trials if each != FUZZ):
                try:
                    outcomes.append(run(store, name, options).as_dict())
                except Missing as missing:
                    parser().exit(2, f"soak: {missing}\n")
                tell(outcomes, options)
    print(tables(outcomes))
    return 0 if borne and all(outcome["good"] for outcome in outcomes) else 1


def run(store: str, name: str, options):
    with tempfile.TemporaryDirectory(prefix="soak-", dir=options.folder) as folder:
        print(f"{time.strftime('%H:%M:%S')} {store}: {name}", file=sys.stderr)
        trial = TRIALS[name](PLACES[store](), options, Path(folder))
        try:
            return trial.run()
        except AssertionError as error:  # the other stores have their trials all the same
            trial.outcome.troubles.append(str(error))
            return trial.outcome


def tell(outcomes: list[dict], options) -> None:
    if options.json:
        options.json.write_text(json.dumps(outcomes, indent=1))


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", nargs="*", default=list(PLACES), choices=PLACES)
    parser.add_argument("--trials", nargs="*", default=[FUZZ, *TRIALS], choices=[FUZZ, *TRIALS])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also writes the outcomes there")
    parser.add_argument(
        "--merge",
        type=Path,
        nargs="*",
        default=[],
        metavar="FILE",
        help="runs nothing: prints what is in these",
    )
    parser.add_argument(
        "--folder", type=Path, help="where spools and logs are; 2 GB for an absence of 10 minutes"
    )
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="where the collectors' logs are left")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the faults")
    faults = parser.add_argument_group("faults")
    faults.add_argument("--restarts", type=int, default=20, help="of the store")
    faults.add_argument("--resets", type=int, default=200, help="of the store's connections")
    faults.add_argument("--kills", type=int, default=50, help="of the store")
    faults.add_argument("--collector-kills", type=int, default=20)
    faults.add_argument("--collector-restarts", type=int, default=10)
    faults.add_argument("--drops", type=int, default=20, help="by the exchange")
    faults.add_argument("--fault-rate", type=float, default=400, help="records per second meanwhile")
    fuzzing = parser.add_argument_group("fuzz")
    fuzzing.add_argument("--fuzz-minutes", type=float, default=30)
    fuzzing.add_argument("--fuzz-seed", type=int, help="of the inputs; another one each time by default")
    absence = parser.add_argument_group("absence")
    absence.add_argument("--minutes-away", type=float, default=10)
    absence.add_argument("--rate", type=float, default=5000, help="records per second")
    absence.add_argument(
        "--drain-minutes",
        type=float,
        default=10,
        help="after these the exchange pauses, to let it come to an end",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
