"""``collector``: the container's program, and small commands about it."""

import argparse
import gc
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import TextIO

import msgspec

from collector import health, logs
from collector.command_line import Parser, give_up_output, in_words, leave_unread, writing
from collector.printable import printable, printable_json
from collector.settings import VARIABLES, Settings, SettingsError, Variable

_DESCRIPTION = """\
Records the market data of one exchange. Without a command it runs until it is stopped. It is configured
by environment variables:
"""

_EPILOG = """\
exit status: 0 stopped by a signal, 1 something in it failed (start it again), 2 wrong command or option,
             69 (check --connect, complete, db init) spool, store or exchange cannot be reached,
             78 wrong settings, or the store refuses them, 141 the reader of its output closed the pipe
example: EXCHANGE=COINBASE SYMBOLS=BTC-USD,ETH-USD CHANNELS=trades,ticker BACKEND=TTY collector
"""

_COMPLETE = """\
Says for each channel and symbol of this collector up to what time the stored data is complete, and which
gaps there are before that, by reason and seconds. It queries only the store, so the collector may be down.

The time before the first record is no gap, but not complete either. A TIME is 2026-11-28, 2026-11-28T08:30
(UTC), or an age: 2h, 7d.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status."""
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except SettingsError as error:
        _say(_explain(error), sys.stderr)
        return 78
    except BrokenPipeError:  # whoever read our output has enough
        return leave_unread()
    except OSError as error:
        _say(f"collector: {in_words(error)}", sys.stderr)
        give_up_output()
        return 1


def _main(given: Sequence[str]) -> int:
    if given[:1] == ["decode"]:
        from collector.decode import cli  # noqa: PLC0415 - no other command needs it

        return cli.main(given[1:])
    command_line = parser()
    options = command_line.parse_args(given)
    only_with_connect = options.command == "check" and (options.json or options.without or options.replacing)
    if only_with_connect and not options.connect:
        command_line.error("check: --json, --without and --replacing are of use with --connect only")
    return _carry_out(options, Settings.read(os.environ))


def _carry_out(options: argparse.Namespace, settings: Settings) -> int:
    match options.command:
        case "check" if options.connect:
            return _preflight(settings, options.without, options.replacing, as_json=options.json)
        case "check":
            for warning in settings.warnings:
                _say(f"collector: warning: {warning}", sys.stderr)
            _say(f"{settings.name}: the settings are valid")
            return 0
        case "health":
            found = health.verdict(settings.home)
            _say(printable_json(msgspec.json.encode(found).decode()) if options.json else found.detail)
            return 0 if (found.ready if options.ready else found.healthy) else 1
        case "complete":
            return _complete(settings, options)
        case "db":
            return _prepare_store(settings)
        case _:
            return _run(settings)


def _say(text: str, file: TextIO | None = None) -> None:
    file = file or sys.stdout
    with writing(file):
        print(printable(text, keep="\n"), file=file, flush=True)


def parser() -> Parser:
    """Return the parser of the command line."""
    width = max(len(variable.name) for variable in VARIABLES)
    variables = "\n".join(f"  {variable.name:{width}}  {_about(variable)}" for variable in VARIABLES)
    parser = Parser(
        prog="collector",
        description=f"{_DESCRIPTION}\n{variables}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_version()
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="record; the default without a command")
    check = commands.add_parser("check", help="check the settings and exit, without connecting to anything")
    check.add_argument(
        "--connect",
        action="store_true",
        help="also check the spool's folder, the store and its credentials, the exchange and its symbols, and"
        " whether another collector stores the same there",
    )
    check.add_argument(
        "--without",
        action="append",
        default=[],
        choices=("store", "exchange"),
        help="with --connect: do not check this, as it cannot be reached yet; repeatable",
    )
    check.add_argument(
        "--replacing",
        action="append",
        default=[],
        metavar="NAME",
        help="with --connect: a collector that hands over to this one, so that both may ask for the same;"
        " repeatable",
    )
    check.add_argument("--json", action="store_true", help="with --connect: one JSON object per finding")
    alive = commands.add_parser("health", help="say whether the collector with these settings is alive")
    alive.add_argument(
        "--ready",
        action="store_true",
        help="also require that its store accepts records and that some have arrived since its start",
    )
    alive.add_argument(
        "--json", action="store_true", help="print JSON, with everything that the collector last reported"
    )
    _add_complete(commands)
    database = commands.add_parser("db", help="prepare the store")
    actions = database.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("init", help="create and update the tables (POSTGRES), and say what was done")
    commands.add_parser("decode", help="show what becomes of an exchange's messages (see decode --help)")
    return parser


def _add_complete(commands: "argparse._SubParsersAction[Parser]") -> None:
    complete = commands.add_parser(
        "complete",
        help="say up to what time the stored data is complete, and what is missing",
        description=_COMPLETE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, meaning in (
        ("since", "leave out what was missing before then [all that the store knows]"),
        ("until", "leave out what was missing after then, and report what is not stored up to then"),
    ):
        complete.add_argument(f"--{name}", type=_moment, metavar="TIME", help=meaning)
    complete.add_argument(
        "--exit-code", action="store_true", help="exit with 1 if anything is missing or not stored yet"
    )
    complete.add_argument("--json", action="store_true", help="one JSON object per channel and symbol")


def _moment(text: str) -> float:
    from collector import completeness_table  # noqa: PLC0415 - the health check does without

    try:
        return completeness_table.moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _about(variable: Variable) -> str:
    if variable.required:
        return f"{variable.meaning} (required)"
    return variable.meaning + (f" [{variable.default}]" if variable.default else "")


def _explain(error: SettingsError) -> str:
    count = len(error.faults)
    head = f"collector: {count} fault{'s' if count > 1 else ''} in the environment"
    return "\n".join([head, *(f"  {fault}" for fault in error.faults)])


def _preflight(settings: Settings, without: Sequence[str], replacing: Sequence[str], *, as_json: bool) -> int:
    import asyncio  # noqa: PLC0415 - the health check does without

    from collector import preflight  # noqa: PLC0415 - takes a while

    logs.configure(settings.log_level, settings.log_format, settings.secrets)

    async def tell() -> int:
        found = []
        async for finding in preflight.findings(settings, without, replacing):
            found.append(finding)
            _say(json.dumps(preflight.encode(finding)) if as_json else str(finding))
        return preflight.exit_status(found)

    return asyncio.run(tell())


def _complete(settings: Settings, options: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - the health check does without

    from collector import completeness, completeness_table  # noqa: PLC0415 - likewise
    from collector.stores import StoreRefusedError, StoreUnavailableError  # noqa: PLC0415 - other commands do without

    if settings.backend == "TTY":
        _say("collector: BACKEND = TTY keeps no records, so nothing can be said about them", sys.stderr)
        return 78
    try:
        completeness_table.check_order(options.since, options.until)
    except ValueError as error:
        _say(f"collector: {error}", sys.stderr)
        return 2
    logs.configure("WARNING", settings.log_format, settings.secrets)
    interval = completeness.Interval(options.since, options.until)
    try:
        rows, damaged = asyncio.run(completeness.look(settings, interval))
    except (StoreRefusedError, StoreUnavailableError) as error:
        _say(f"collector: {error}", sys.stderr)
        return 78 if isinstance(error, StoreRefusedError) else 69
    for what in damaged:
        _say(f"collector: warning: {what} is damaged and was ignored", sys.stderr)
    if all(row.until is None for row in rows):
        _say(
            f"collector: warning: no collector has noted in {_place(settings)} yet that it stored any of"
            " these; one that has just started does so soon",
            sys.stderr,
        )
    found = [completeness.encode(row) for row in rows]
    if found or not options.json:
        _say("\n".join(map(json.dumps, found)) if options.json else completeness_table.table(found))
    return 1 if options.exit_code and not (rows and all(row.is_complete for row in rows)) else 0


def _place(settings: Settings) -> str:
    """Return where records go, as a person names it."""
    if settings.backend == "PARQUET":
        return str(settings.parquet_dir)
    database = f"database {settings.database} of " if settings.database else ""
    return f"{database}{settings.backend} at {settings.where}"


def _prepare_store(settings: Settings) -> int:
    import asyncio  # noqa: PLC0415 - the health check does without

    # asyncpg comes with it, and may be lacking where only other stores are used.
    from collector.stores import RightMissingError, StoreRefusedError, StoreUnavailableError  # noqa: PLC0415
    from collector.stores.postgres import PostgresStore  # noqa: PLC0415

    if settings.backend != "POSTGRES":
        _say(f"{settings.backend} needs no preparation")
        return 0
    logs.configure("WARNING", settings.log_format, settings.secrets)
    try:
        done = asyncio.run(PostgresStore(settings).initialise())
    except RightMissingError as error:
        _say(f"collector: {error}; {error.remedy}", sys.stderr)
        return 78
    except (StoreRefusedError, StoreUnavailableError) as error:
        _say(f"collector: {error}", sys.stderr)
        return 78 if isinstance(error, StoreRefusedError) else 69
    _say("\n".join(done or ["everything exists already"]))
    return 0


def _run(settings: Settings) -> int:
    # Importing cryptofeed takes a second: only the command that records does it.
    import uvloop  # noqa: PLC0415

    from collector.supervisor import collect  # noqa: PLC0415

    logs.configure(settings.log_level, settings.log_format, settings.secrets)
    for warning in settings.warnings:
        logging.getLogger(__name__).warning("%s", warning)
    # Records form no cycles. Searching them, and everything that was imported, for cycles is a tenth of the
    # work under load, and causes pauses.
    gc.freeze()
    gc.set_threshold(200_000)
    status = uvloop.run(collect(settings))
    # A driver's thread may still wait for a server that does not answer; nothing depends on it any more.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(status)
