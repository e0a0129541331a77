"""``launcher``: parse the command line, call the command, print.

What a command needs is imported when it runs.
"""

import argparse
import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from collector.command_line import Parser, give_up_output, in_words, leave_unread
from launcher.commands import DEFAULT_FILE, FAILED, FORMATS, INTERRUPTED, WRONG, InputError

_DESCRIPTION = """\
Turns a fleet file, which lists the exchanges to record, into one collector container per exchange.
"""
_EPILOG = """\
examples:
  launcher init                         write a commented fleet.yaml to start from
  launcher run                          try the fleet as local processes, without Docker
  launcher up                           create or update the containers; run it again after every edit
  launcher plan                         show what `up` would do; exit status 2 if it would do anything
  launcher doctor                       check store, credentials, exchange, symbols, disk and clock
  launcher up desk.yaml --wait-timeout 2m
  launcher status                       show how each collector is doing
  launcher logs 'binance*' -f           follow the logs of some of them
  launcher symbols kraken '*-USD'       list an exchange's symbols; see also `exchanges` and `channels`
  launcher down desk.yaml --volumes     remove everything, including the data in its volumes

FILE is fleet.yaml in the working folder by default. If there are several, each overrides those before it,
key by key and collector by collector: `launcher up fleet.yaml production.yaml`. PATTERN selects collectors by
name, with * and ?. An argument that contains a / or ends in .yaml or .yml is a FILE, any other a PATTERN.

exit status: 0 done, 1 something failed, 2 wrong file, pattern or option (for a plan that is 1, and 2 means
that it has changes), 3 doctor found no fault but could not make every check, 130 interrupted,
141 the reader of its output closed the pipe
"""

type _Commands = "argparse._SubParsersAction[Parser]"  # noqa: SLF001 - it has no public name

#: What ``--json`` prints, by command: one document or, from commands that take time, one object per line.
_JSON = {
    "init": "the files that were written, as JSON",
    "validate": "the collectors as JSON",
    "render": "the files that were written, as JSON",
    "run": "what was stored, as JSON, at the end",
    "version": "print JSON",
    "schema": "no effect: the schema is JSON",
    "explain": "print JSON",
    "exchanges": "print JSON",
    "channels": "print JSON",
    "symbols": "print JSON",
    "plan": "the plan as JSON",
    "up": "one JSON object per event, the last with the counts; with --dry-run the plan",
    "doctor": "all findings as JSON",
    "complete": "each channel and symbol of each collector, with its gaps, as JSON",
    "status": "everything that is known, as JSON",
    "logs": "one JSON object per line, with its collector",
    "restart": "one JSON object per event, the last with the counts",
    "down": "one JSON object per event, the last with what was removed and what was kept",
}

#: Commands that change containers; they finish even if nobody reads their output.
_CHANGING = ("up", "restart", "down")
_TIMES = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    _open_closed_streams()
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    wrong = FAILED if _only_plans(words) else WRONG
    try:
        return _run(_read(words))
    except SystemExit as ended:
        sys.exit(wrong if ended.code == WRONG else ended.code)
    except InputError as error:
        _say(error.told)
        return wrong
    except KeyboardInterrupt:
        _say("launcher: interrupted; run the same command again to continue")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        return leave_unread()
    except OSError as error:
        _say(f"launcher: {in_words(error)}")
        give_up_output()
        return FAILED


def _read(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; words may come before and after options, which argparse does not accept."""
    reader = parser()
    if not [word for word in words if word != "--no-color"]:
        reader.print_help(sys.stderr)
        reader.exit(WRONG)
    options, rest = reader.parse_known_args(words)
    if rest and "words" not in options:
        instead = f"; {options.instead}" if "instead" in options else ""
        options.parser.error(f"unexpected argument {' '.join(rest)}{instead}")
    if rest:
        options.words = [*options.words, *rest]
    options.typed = words
    return options


def _only_plans(words: Sequence[str]) -> bool:
    """Return whether exit status 2 means that a plan has changes, and so nothing else."""
    command = next((word for word in words if not word.startswith("-")), None)
    is_dry = any(word.startswith("--d") and "--dry-run".startswith(word) for word in words)  # --dry is enough
    return command == "plan" or (command == "up" and is_dry)


def _open_closed_streams() -> None:
    """Open closed standard streams on the null device: whoever closed one does not want its output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def _run(options: argparse.Namespace) -> int:
    # Imported here, so that help and faults in options do not wait for it.
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


def parser() -> Parser:
    """Return the parser of the whole command line."""
    top = Parser(
        prog="launcher",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_version()
    top.add_argument(
        "--no-color",
        action="store_true",
        help="no colours; NO_COLOR=1 does the same. Headings stay bold, but for TERM=dumb",
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True, title="commands")
    _add_file_commands(commands)
    _add_reference_commands(commands)
    _add_exchange_commands(commands)
    _add_container_commands(commands)
    return top


def _add(commands: _Commands, module: str, name: str, about: str) -> Parser:
    command = commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    command.set_defaults(module=module, function=name, parser=command)
    command.add_argument("--no-color", action="store_true", default=argparse.SUPPRESS, help="no colours")
    if name in _JSON:
        command.add_argument("--json", action="store_true", help=_JSON[name])
    return command


def _add_file_commands(commands: _Commands) -> None:
    add = partial(_add, commands, "files")
    init = add("init", "write a commented fleet file to start from; an existing file is left alone")
    init.add_argument(
        "file",
        nargs="?",
        type=Path,
        default=Path(DEFAULT_FILE),
        metavar="FILE",
        help=f"the fleet file [{DEFAULT_FILE}]",
    )
    _file(add("validate", "check a fleet file and report everything that is wrong with it"))
    _add_render(add("render", "write the fleet as files for docker compose, a swarm, Kubernetes or systemd"))
    run = add("run", "run the fleet as local processes until Ctrl-C, then say what was stored")
    _file(run)
    run.add_argument(
        "--for",
        type=_seconds,
        metavar="TIME",
        dest="seconds",
        help="stop this long (20s, 5m) after all are ready",
    )
    _adopt(run)
    add("version", "print the version")


def _add_render(render: argparse.ArgumentParser) -> None:
    _file(render)
    render.add_argument(
        "--format",
        choices=FORMATS,
        default="compose",
        help="compose: a compose file and an env file for each collector; swarm: a stack file; "
        "kubernetes: manifests with a kustomization; quadlet: units for systemd and Podman [compose]",
    )
    render.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("rendered"),
        help="the folder to write to [rendered]",
    )


def _add_reference_commands(commands: _Commands) -> None:
    add = partial(_add, commands, "reference")
    completion = add("completion", "print a script that lets the shell complete commands and options")
    completion.add_argument(
        "shell", choices=("bash", "zsh", "tcsh"), metavar="SHELL", help="bash, zsh or tcsh"
    )
    add("schema", "print the JSON Schema of the fleet file, for editors")
    explain = add("explain", "say what a key of the fleet file means and where its values come from")
    explain.add_argument("key", metavar="KEY", help="the key, such as max_depth or limits.memory")
    explain.add_argument(
        "file",
        nargs="*",
        default=[],
        type=Path,
        metavar="FILE",
        help="also show each collector's value and where it comes from; if there are several files, each "
        "overrides those before it",
    )


def _add_exchange_commands(commands: _Commands) -> None:
    add = partial(_add, commands, "exchanges")
    exchanges = add("exchanges", "list the exchanges and their channels")
    exchanges.set_defaults(instead="`launcher channels EXCHANGE` shows one")
    channels = add("channels", "list an exchange's channels, candle intervals and limits")
    symbols = add("symbols", "ask an exchange for its symbols: types, steps, contract sizes, expiries")
    for command in (channels, symbols):
        command.add_argument("exchange", metavar="EXCHANGE", help="the exchange, in any case")
    symbols.add_argument(
        "patterns",
        nargs="*",
        default=[],
        metavar="PATTERN",
        help="only symbols that these select, as in a fleet file: '*-USDT' '!*-PERP' type:spot",
    )
    symbols.add_argument(
        "--endpoint",
        default="",
        metavar="ENDPOINT",
        help="ask at another address, as with `endpoint` in a fleet file: eea, or rest=https://host",
    )


def _add_container_commands(commands: _Commands) -> None:
    plan, up = _add_convergence(commands)
    doctor = _add(
        commands,
        "doctor",
        "doctor",
        "check everything that the fleet needs, from where it will run, and say how to fix each fault",
    )
    _file(doctor)
    add = partial(_add, commands, "containers")
    status = add("status", "show how each collector is doing")
    _selection(status)
    status.add_argument(
        "--all", action="store_true", help="show every collector, even if they do not fit on the terminal"
    )
    status.add_argument(
        "--exit-code",
        action="store_true",
        help="exit with 1 unless every collector is ready and has lost nothing",
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
        help="lines of each collector: a number, or all [100; with --since all]",
    )
    restart = add("restart", "restart the containers as they are")
    _selection(restart)
    _waiting(restart)
    down = add("down", "stop and remove the containers, and the network that `up` created")
    _selection(down)
    down.add_argument(
        "--volumes",
        action="store_true",
        help="remove the volumes too: spools with records not stored yet, Parquet files and managed stores",
    )
    down.add_argument(
        "--yes",
        action="store_true",
        help="do not ask: with --volumes, remove data that exists nowhere else; with --fleet or --adopt, "
        "remove what may belong to somebody else",
    )
    for command in (plan, up, restart, down):
        _adopt(command)
    for command in (plan, up, doctor, complete, status, logs, restart):
        command.add_argument(
            "--parallel", type=_count, default=16, metavar="N", help="containers to work on at a time [16]"
        )
    down.add_argument(
        "--parallel", type=_count, metavar="N", help="containers to work on at a time [all; over ssh 16]"
    )


def _add_convergence(commands: _Commands) -> tuple[Parser, Parser]:
    add = partial(_add, commands, "converge")
    plan = add("plan", "show what `up` would do to each collector, key by key; change nothing")
    plan.set_defaults(function="show_plan")
    up = add("up", "make the containers match the file; those that already do are not touched")
    up.add_argument("--dry-run", action="store_true", help="only show what would happen, as `plan` does")
    up.add_argument(
        "--plan",
        type=Path,
        metavar="PLAN",
        help="carry out what `plan --out PLAN` wrote, and nothing if `up` would do something else by now",
    )
    plan.add_argument("--out", type=Path, metavar="PLAN", help="write the plan to a file, for `up --plan`")
    plan.add_argument(
        "--resolve",
        action="store_true",
        help="also ask the exchanges which symbols each collector would record",
    )
    up.set_defaults(out=None, resolve=False)
    for command in (plan, up):
        _file(command)
        command.add_argument(
            "--keep-orphans",
            action="store_true",
            help="keep containers of collectors that are no longer in the file",
        )
    up.add_argument(
        "--parallelism",
        type=_count,
        metavar="N",
        help="collectors to replace at a time [the file's `parallelism`, else 4]",
    )
    up.add_argument(
        "--no-check",
        action="store_true",
        help="do not try a new configuration before stopping the old container",
    )
    up.add_argument(
        "--yes",
        action="store_true",
        help="do not ask before removing a collector that is no longer in the file",
    )
    _waiting(up)
    return plan, up


def _add_complete(commands: _Commands) -> Parser:
    complete = _add(
        commands,
        "complete",
        "complete",
        "show up to what time the stored data is complete, and what is missing, by reason and seconds",
    )
    complete.epilog = (
        "Only the stores are queried, so collectors may be down. The time before the first record is no gap. "
        "A TIME is 2026-11-28, 2026-11-28T08:30 (UTC), or an age: 2h, 7d."
    )
    _file(complete)
    for name, meaning in (
        ("since", "leave out what was missing before then [all that the stores know]"),
        ("until", "leave out what was missing after then, and report what is not stored up to then"),
    ):
        complete.add_argument(f"--{name}", type=_moment, metavar="TIME", help=meaning)
    complete.add_argument(
        "--exit-code", action="store_true", help="exit with 1 if anything is missing or not stored yet"
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
        help=f"the fleet file [{DEFAULT_FILE}]; if there are several, each overrides those before it",
    )
    _only(command)
    command.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="NAME",
        help="include collectors that have this among their `profiles`; repeatable",
    )


def _only(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="PATTERN",
        help="only collectors whose names match, with * and ?; !PATTERN excludes; others stay as they are; "
        "repeatable",
    )


def _selection(command: argparse.ArgumentParser) -> None:
    command.usage = "%(prog)s [options] [FILE ... | --fleet NAME] [PATTERN ...]"
    command.add_argument(
        "words",
        nargs="*",
        metavar="FILE, PATTERN",
        help=f"the fleet file [{DEFAULT_FILE}], and patterns of collectors' names [all]",
    )
    command.add_argument(
        "--fleet", type=_fleet, metavar="NAME", help="the fleet's name, if its file is not at hand"
    )
    _only(command)


def _adopt(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--adopt",
        action="store_true",
        help="take over what belongs to another fleet of this name, or by its labels to nobody",
    )


def _waiting(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--wait-timeout",
        type=_seconds,
        default=60.0,
        metavar="TIME",
        help="how long a collector may take to become ready; 0 does not wait [60s]",
    )


def _fleet(text: str) -> str:
    from launcher.fleet_keys import FLEET  # noqa: PLC0415 - help does without

    try:
        FLEET["fleet"].parse(text)
    except ValueError as error:
        file = f"; give a file without --fleet: {text}" if "/" in text or "." in text else ""
        raise argparse.ArgumentTypeError(f"{text!r} is no fleet's name: it {error}{file}") from None
    return text


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smh]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 20s, 5m or 1h")
    return float(match[1]) * _TIMES[match[2]]


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 9999")
    return int(text)


def _lines(text: str) -> int | None:
    if text == "all":
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of lines nor 'all'")
    return int(text)
