"""``collector decode``: its arguments, and its files."""

import argparse
import re
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import msgspec

from collector import catalog
from collector.command_line import Parser, writing
from collector.decode.decoder import MAX_LINE_BYTES, Decoder
from collector.exchanges.directory import EXCHANGES
from collector.exchanges.numbers import MalformedError
from collector.exchanges.protocol import Exchange

_DESCRIPTION = """\
Reads messages as one connection to an exchange would, and prints what becomes of each, one JSON object
per line: {"record": ...} as it would be stored, with numbers as text and times in nanoseconds;
{"event": ...}; or {"malformed": reason, "frame": ...}. An input line is

  a frame as it came, or base64:... for a binary one
  {"answer": ID, "body": ...}                   the answer to a request that was printed before
  {"poll": CHANNEL, "symbol": S, "body": ...}   the answer to a poll
"""

_EPILOG = """\
exit status: 0 everything was understood, 2 wrong arguments or files, 65 a line was malformed,
             141 the reader of the output closed the pipe
example: collector decode BINANCE --channels trades messages.jsonl
"""


class InputError(Exception):
    """The command cannot be carried out as it was given; the text is for its user."""


def main(arguments: Sequence[str]) -> int:
    """Carry out the command; return its exit status."""
    reader = parser()
    options, more = reader.parse_known_intermixed_args(arguments)
    if more:
        files = shlex.join([options.file, *more])
        reader.error(f"takes one FILE; join several: `cat {files} | collector decode {options.exchange}`")
    try:
        decoder = _decoder(options)
        _show(decoder, options.file)
    except InputError as error:
        print(f"collector: {error}", file=sys.stderr)
        return 2
    for body in decoder.answers:
        begins = body[:60].decode(errors="replace")
        print(f"collector: --answers: no request asked for {begins}", file=sys.stderr)
    return 65 if decoder.malformed else 0


def parser() -> Parser:
    """Return the command line."""
    parser = Parser(
        prog="collector decode",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("exchange", metavar="EXCHANGE", help="one of " + ", ".join(EXCHANGES))
    parser.add_argument("file", metavar="FILE", nargs="?", help="messages; standard input by default")
    for name, meaning in (
        (
            "listing",
            "REST answer that lists the instruments; without one, symbols are not known (repeatable)",
        ),
        ("answers", "REST answer to the oldest open request of its kind, as a book's snapshot (repeatable)"),
    ):
        parser.add_argument(f"--{name}", metavar="FILE", action="append", default=[], help=meaning)
    parser.add_argument(
        "--channels", metavar="LIST", type=_list, default=[], help="what to read; default: all"
    )
    parser.add_argument(
        "--symbols", metavar="LIST", type=_list, default=[], help="what to show; default: all"
    )
    parser.add_argument(
        "--receipt",
        metavar="SECONDS",
        type=_receipt,
        default=time.time(),
        help="when the messages were received, in seconds since 1970; default: now",
    )
    return parser


def _receipt(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]+)?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time in seconds since 1970, such as 1795891394.68"
        )
    return float(text)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _decoder(options: argparse.Namespace) -> Decoder:
    exchange = _exchange(options.exchange)
    channels = [catalog.canonical_channel(channel) for channel in options.channels]
    if unknown := [channel for channel in channels if channel not in exchange.channels]:
        offered = ", ".join(exchange.channels)
        raise InputError(f"{exchange.id} has no channel {', '.join(unknown)}; it has {offered}")
    if options.symbols and not options.listing:
        raise InputError("--symbols needs --listing: without a listing, symbols are not known")
    try:
        return Decoder(
            exchange(),
            listings=[_contents(path) for path in options.listing],
            answers=[_contents(path) for path in options.answers],
            channels=channels,
            symbols=options.symbols,
            receipt=int(options.receipt * 1e9),
        )
    except MalformedError as error:
        raise InputError(f"--listing: {error}") from error


def _exchange(name: str) -> type[Exchange]:
    if name.upper() in EXCHANGES:
        return EXCHANGES[name.upper()]
    if "." in name or "/" in name:
        raise InputError(
            f"{name} is not an exchange; its name comes first: `collector decode EXCHANGE {name}`"
        )
    hint = f"did you mean {near[0]}? " if (near := catalog.nearest(name, EXCHANGES)) else ""
    raise InputError(f"decode cannot read {name}; {hint}it reads {', '.join(EXCHANGES)}")


def _show(decoder: Decoder, path: str | None) -> None:
    for found in decoder.decode(_lines_of(path)):
        with writing(sys.stdout):
            sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")
    with writing(sys.stdout):
        sys.stdout.buffer.flush()


def _contents(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            body = file.read(MAX_LINE_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    if len(body) > MAX_LINE_BYTES:
        raise InputError(f"cannot read {path}: it has more than {MAX_LINE_BYTES} bytes")
    return body


def _lines_of(path: str | None) -> Iterator[bytes]:
    """Yield the lines of a file, or of standard input, each at most a little longer than is read of one.

    Raises InputError if it cannot be read.
    """
    try:
        with Path(path).open("rb") if path else nullcontext(sys.stdin.buffer) as file:
            while line := file.readline(MAX_LINE_BYTES + 2):
                yield line
                while line and len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)  # the rest of it
    except OSError as error:
        raise InputError(f"cannot read {path or 'standard input'}: {error.strerror}") from error
