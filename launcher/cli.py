"""``launcher``: the commands. Parse, call, print; what a command needs is imported when it runs."""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn, override

from collector.command_line import Parser, give_up_output, leave_unread
from launcher.commands import DEFAULT_FILE, FAILED, INTERRUPTED, WRONG, InputError

_DESCRIPTION = """\
Turns a fleet file, which lists the exchanges to record, into one collector container per exchange.
"""
_EPILOG = """\
examples:
  launcher init                         write a commented fleet.yaml to start from
  launcher run                          try it: the fleet as local processes, without Docker
  launcher up                           make the containers as fleet.yaml says; again after every edit
  launcher plan                         what would `up` do? Exit status 2 if it would do something
  launcher doctor                       can it run here? Store, credentials, exchange, symbols, disk, clock
  launcher up desk.yaml --wait-timeout 2m
  launcher status                       how each collector is doing
  launcher logs 'binance*' -f           follow the logs of some of them
  launcher symbols kraken '*-USD'       what an exchange lists now; `exchanges` and `channels` likewise
  launcher down desk.yaml --volumes     remove it all, what is stored in its volumes too

FILE is fleet.yaml in the working folder by default. Of several files, each overrides those before it, key by
key and collector by collector: `launcher up fleet.yaml production.yaml`. PATTERN selects collectors by name,
with * and ?. An argument that contains a / or ends in .yaml or .yml is a FILE, any other a PATTERN.

exit status: 0 done, 1 something failed, 2 wrong file, pattern or option (of a plan that is 1, and 2 says
that it has changes), 3 doctor found no fault but could not make every check, 130 interrupted,
141 cut short because nobody read on
"""

type _Commands = "argparse._SubParsersAction[_Parser]"  # noqa: SLF001 - it has no public name

#: What ``--json`` prints, by command: one document or, of what takes its time, one object per line.
_JSON = {
    "init": "the files that were written, as JSON",
    "validate": "the collectors as JSON",
    "render": "the files that were written, as JSON",
    "run": "what was stored, as JSON, at the end",
    "version": "the same as JSON",
    "schema": "the same: it is JSON",
    "explain": "the same as JSON",
    "exchanges": "the same as JSON",
    "channels": "the same as JSON",
    "symbols": "the same as JSON",
    "plan": "the plan as JSON",
    "up": "each event as a line of JSON, the counts in the last; with --dry-run the plan",
    "doctor": "all findings as JSON",
    "complete": "each channel and symbol of each collector, with its gaps, as JSON",
    "status": "everything that is known, as JSON",
    "logs": "each line as an object of JSON, with its collector",
    "restart": "each event as a line of JSON, the counts in the last",
    "down": "each event as a line of JSON, what is gone and what is kept in the last",
}

#: What changes containers: it is not cut short because nobody reads what it says.
_CHANGING = ("up", "restart", "down")
_TIMES = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    _open_closed_streams()
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    wrong = FAILED if _only_plans(words) else WRONG
    try:
        options = _read(words)
    except SystemExit as ended:
        sys.exit(wrong if ended.code == WRONG else ended.code)
    try:
        return _run(options)
    except InputError as error:
        _say(str(error))
        return wrong
    except KeyboardInterrupt:
        _say("interrupted; the same command again goes on from here")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has enough
        return leave_unread()
    except OSError as error:
        _say(f"launcher: {error.filename or 'error'}: {error.strerror or error}")
        give_up_output()
        return FAILED


def _read(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; words may stand before and behind options, which argparse does not take."""
    reader = parser()
    if not [word for word in words if word != "--no-color"]:
        reader.print_help(sys.stderr)
        reader.exit(WRONG)
    options, rest = reader.parse_known_args(words)
    if rest and "words" not in options:
        options.parser.error(f"unexpected argument {' '.join(rest)}")
    if rest:
        options.words = [*options.words, *rest]
    options.typed = words
    return options


def _only_plans(words: Sequence[str]) -> bool:
    """Return whether exit status 2 says that a plan has changes, and so nothing else."""
    command = next((word for word in words if not word.startswith("-")), None)
    is_dry = any(word.startswith("--d") and "--dry-run".startswith(word) for word in words)  # --dry will do
    return command == "plan" or (command == "up" and is_dry)


def _open_closed_streams() -> None:
    """Whoever starts us with a closed standard stream wants to see nothing of it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _run(options: argparse.Namespace) -> int:
    # Help and faults in options come before this, and need none of it.
    from launcher.console import Console  # noqa: PLC0415
    from launcher.engines import EngineError  # noqa: PLC0415

    module = importlib.import_module(f"launcher.commands.{options.module}")
    command: Callable[[argparse.Namespace, Console], int] = getattr(module, options.function)
    try:
        goes_on = options.function in _CHANGING
        return command(options, Console(color=not options.no_color, goes_on=goes_on))
    except EngineError as error:
        _say(f"launcher: {error}")
        return FAILED


def _say(text: str) -> None:
    from collector.printable import printable  # noqa: PLC0415 - help does without

    sys.stderr.write(f"{printable(text, keep='\n')}\n")


class _Parser(Parser):
    @override
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        _say(f"{self.prog}: error: {message}")
        self.exit(WRONG)


def parser() -> _Parser:
    """The whole command line."""
    top = _Parser(
        prog="launcher",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_version()
    top.add_argument("--no-color", action="store_true", help="no colours; NO_COLOR=1 does the same")
    commands = top.add_subparsers(metavar="COMMAND", required=True, title="commands")
    _add_file_commands(commands)
    _add_reference_commands(commands)
    _add_exchange_commands(commands)
    _add_container_commands(commands)
    return top


def _add(commands: _Commands, module: str, name: str, about: str) -> _Parser:
    command = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    command.set_defaults(module=module, function=name, parser=command)
    command.add_argument("--no-color", action="store_true", default=argparse.SUPPRESS, help="no colours")
    if name in _JSON:
        command.add_argument("--json", action="store_true", help=_JSON[name])
    return command


def _add_file_commands(commands: _Commands) -> None:
    add = partial(_add, commands, "files")
    init = add("init", "write a commented fleet file to start from; one that exists is left alone")
    init.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=Path(DEFAULT_FILE),
        metavar="FILE",
        help=f"the fleet file [{DEFAULT_FILE}]",
    )
    _file(add("validate", "check a fleet file and say everything that is wrong with it"))
    _add_render(add("render", "write the fleet as files for docker compose, a swarm, Kubernetes or systemd"))
    run = add("run", "run the fleet as local processes until Ctrl-C, then say what was stored")
    _file(run)
    run.add_argument(
        "--for", type=_seconds, metavar="TIME", dest="seconds", help="end 20s, 5m, ... after all are ready"
    )
    _adopt(run)
    add("version", "print the version")


def _add_render(render: argparse.ArgumentParser) -> None:
    _file(render)
    render.add_argument(
        "--format",
        choices=("compose", "swarm", "kubernetes", "quadlet"),
        default="compose",
        help="compose: a compose file, and an env file for each collector; swarm: a stack file; "
        "kubernetes: manifests with a kustomization; quadlet: units for systemd and Podman [compose]",
    )
    render.add_argument(
        "--output", type=Path, metavar="DIR", default=Path("rendered"), help="the folder [rendered]"
    )


def _add_reference_commands(commands: _Commands) -> None:
    add = partial(_add, commands, "reference")
    completion = add("completion", "print the script with which a shell completes commands and options")
    completion.add_argument(
        "shell", choices=("bash", "zsh", "tcsh"), metavar="SHELL", help="bash, zsh or tcsh"
    )
    add("schema", "print the JSON Schema of the fleet file, for editors")
    explain = add("explain", "say what a key of the fleet file means, and where its values come from")
    explain.add_argument("key", metavar="KEY", help="the key, such as max_depth or limits.memory")
    explain.add_argument(
        "file",
        nargs="*",
        default=[],
        type=Path,
        metavar="FILE",
        help="shows each collector's value, and where it comes from; of several files, each overrides those "
        "before it",
    )


def _add_exchange_commands(commands: _Commands) -> None:
    add = partial(_add, commands, "exchanges")
    add("exchanges", "list the exchanges and their channels")
    channels = add("channels", "list an exchange's channels, with the intervals of its candles")
    symbols = add("symbols", "ask an exchange what it lists now: types, steps, contract sizes, expiries")
    for command in (channels, symbols):
        command.add_argument("exchange", metavar="EXCHANGE", help="the exchange, in any case")
    symbols.add_argument(
        "patterns",
        nargs="*",
        default=[],
        metavar="PATTERN",
        help="only what these select, as `symbols` of a fleet file: '*-USDT' '!*-PERP' type:spot",
    )
    symbols.add_argument(
        "--endpoint",
        default="",
        metavar="ENDPOINT",
        help="ask at another address, as `endpoint` of a fleet file: eea, or rest=https://host",
    )


def _add_container_commands(commands: _Commands) -> None:
    plan, up = _add_convergence(commands)
    doctor = _add(
        commands,
        "doctor",
        "doctor",
        "try everything the fleet needs, from where it will run; each fault with its remedy",
    )
    _file(doctor)
    add = partial(_add, commands, "containers")
    status = add("status", "show how each collector is doing")
    _selection(status)
    status.add_argument(
        "--all", action="store_true", help="every collector, also where the terminal has fewer lines"
    )
    status.add_argument(
        "--exit-code",
        action="store_true",
        help="exit status 1 unless every collector is ready and has lost nothing",
    )
    complete = _add_complete(commands)
    logs = add("logs", "show the collectors' logs")
    _selection(logs)
    logs.add_argument("-f", "--follow", action="store_true", help="keep printing new lines")
    logs.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="only lines from then on: an age (10m, 2h), 2026-11-28 or 2026-11-28T08:30 (UTC)",
    )
    logs.add_argument(
        "-n",
        "--tail",
        type=_lines,
        default=argparse.SUPPRESS,
        metavar="N",
        help="this many lines of each, or all [100; with --since all]",
    )
    restart = add("restart", "restart containers as they are")
    _selection(restart)
    _waiting(restart)
    down = add("down", "stop and remove the containers, and the network that `up` made")
    _selection(down)
    down.add_argument(
        "--volumes",
        action="store_true",
        help="remove the volumes too: spools with what is not stored yet, and Parquet data kept in a volume",
    )
    down.add_argument(
        "--yes",
        action="store_true",
        help="do not ask: with --volumes, remove also those with data that nobody else has; with --fleet or "
        "--adopt, remove what may be another's",
    )
    for command in (plan, up, restart, down):
        _adopt(command)
    for command in (plan, up, doctor, complete, status, logs, restart):
        command.add_argument(
            "--parallel", type=_count, default=16, metavar="N", help="containers at a time [16]"
        )
    down.add_argument("--parallel", type=_count, metavar="N", help="containers at a time [all; over ssh 16]")


def _add_convergence(commands: _Commands) -> tuple[_Parser, _Parser]:
    add = partial(_add, commands, "converge")
    plan = add("plan", "show what `up` would do to each collector, key by key; nothing is touched")
    plan.set_defaults(function="show_plan")
    up = add("up", "make the containers what the file says; those that are so already are not touched")
    up.add_argument("--dry-run", action="store_true", help="only show what would happen, as `plan` does")
    up.add_argument(
        "--plan", type=Path, metavar="PLAN", help="only if it would still do what `plan --out PLAN` wrote"
    )
    plan.add_argument("--out", type=Path, metavar="PLAN", help="write it to a file, for `up --plan`")
    plan.add_argument(
        "--resolve",
        action="store_true",
        help="also ask the exchanges what each collector would take of what they list now",
    )
    up.set_defaults(out=None, resolve=False)
    for command in (plan, up):
        _file(command)
        command.add_argument(
            "--keep-orphans",
            action="store_true",
            help="keep containers of collectors no longer in the file",
        )
    up.add_argument(
        "--parallelism",
        type=_count,
        metavar="N",
        help="collectors replaced at a time [the file's `parallelism`, else 4]",
    )
    up.add_argument(
        "--no-check",
        action="store_true",
        help="do not try a new configuration before the container of the old one stops",
    )
    up.add_argument(
        "--yes", action="store_true", help="do not ask before a collector that left the file is removed"
    )
    _waiting(up)
    return plan, up


def _add_complete(commands: _Commands) -> _Parser:
    complete = _add(
        commands,
        "complete",
        "complete",
        "show up to when what is stored is complete, and what is missing, by reason and seconds",
    )
    complete.epilog = (
        "The stores alone are asked, so collectors may be down. What was before the first record is no gap. "
        "A TIME is 2026-11-28, 2026-11-28T08:30 (UTC), or an age: 2h, 7d."
    )
    _file(complete)
    for name, meaning in (
        ("since", "leave out what was missing before [all that the stores know]"),
        ("until", "leave out what was missing after, and say what is not stored up to then"),
    ):
        complete.add_argument(f"--{name}", type=_moment, metavar="TIME", help=meaning)
    complete.add_argument(
        "--exit-code", action="store_true", help="exit status 1 if anything is missing, or not stored yet"
    )
    return complete


def _moment(text: str) -> float:
    from collector.completeness_table import moment  # noqa: PLC0415 - help does without

    try:
        return moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _file(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "file",
        nargs="*",
        type=Path,
        default=[Path(DEFAULT_FILE)],
        metavar="FILE",
        help=f"the fleet file [{DEFAULT_FILE}]; of several, each overrides those before it",
    )
    _only(command)
    command.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="NAME",
        help="also collectors that have this among their `profiles`; may be given several times",
    )


def _only(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only collectors whose names match, with * and ?, or with ! before it those that do not; "
        "others are left as they are; may be given several times",
    )


def _selection(command: argparse.ArgumentParser) -> None:
    command.usage = "%(prog)s [options] [FILE ... | --fleet NAME] [PATTERN ...]"
    command.add_argument(
        "words",
        nargs="*",
        metavar="FILE, PATTERN",
        help=f"the fleet file [{DEFAULT_FILE}], and patterns of collectors' names [all]",
    )
    command.add_argument("--fleet", metavar="NAME", help="the fleet by its name, if its file is not at hand")
    _only(command)


def _adopt(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--adopt",
        action="store_true",
        help="take over what is of another fleet of this name, or of nobody by its labels",
    )


def _waiting(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--wait-timeout",
        type=_seconds,
        default=60.0,
        metavar="TIME",
        help="how long a collector may take until it is ready; 0 does not wait [60s]",
    )


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 20s, 5m or 1h")
    return float(match[1]) * _TIMES[match[2]]


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to 9999")
    return int(text)


def _lines(text: str) -> int | None:
    if text == "all":
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of lines, and not 'all'")
    return int(text)
