"""``python -m collector.simulator``: the command line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

from collector.command_line import Parser
from collector.simulator import faults, server
from collector.simulator.server import EXCHANGES, Options, Simulator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collector.simulator.instruments import Name

    type _Group = argparse._ArgumentGroup  # noqa: SLF001 - it has no public name

DESCRIPTION = """\
Simulates COINBASE (Advanced Trade), KRAKEN, BINANCE and BINANCE_FUTURES: it speaks their REST and
websocket protocols over TLS, under their host names, with a market generated from a seed, and logs every
record that it wrote.

Point local processes to it through its proxy:
  python -m collector.simulator --proxy-port 0 --ca ca.pem
  {"ready": true, "ports": [], "proxy": "http://127.0.0.1:PORT", "control": "http://...", "ca": "..."}
  HTTPS_PROXY=http://127.0.0.1:PORT SSL_CERT_FILE=ca.pem REQUESTS_CA_BUNDLE=ca.pem collector
In containers, give it the exchanges' host names as network aliases and their ports:
  python -m collector.simulator --listen 0.0.0.0 --port 443 --port 9443 --ca /shared/ca.pem
"""

_SPOT, _PERPETUAL = re.compile("[^-]+-[^-]+"), re.compile("[^-]+-[^-]+-PERP")

HOSTS = "\n".join(
    f"  {name}: {', '.join(sorted((*kind.websocket_hosts, *kind.rest_hosts)))}; "
    f"ports {', '.join(str(port) for port in sorted(kind.ports))}"
    for name, kind in EXCHANGES.items()
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the simulator; returns the exit status."""
    options = _options(_parser().parse_args(arguments))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_run(options))
    except OSError as error:
        sys.stderr.write(f"simulator: {error}\n")
        return 1
    return 0


async def _run(options: Options) -> None:
    await Simulator(options).run()


def _options(given: argparse.Namespace) -> Options:
    return Options(
        ca=given.ca,
        seed=given.seed,
        rate=given.rate,
        messages=given.messages,
        duration=given.duration,
        symbols=dict(given.symbols),
        log=given.log,
        listen=given.listen,
        ports=given.port,
        aliases=dict(given.alias),
        proxy_port=given.proxy_port,
        control_listen=given.control_listen,
        control_port=given.control_port,
    )


def _parser() -> Parser:
    parser = Parser(
        prog="python -m collector.simulator",
        description=DESCRIPTION,
        epilog=f"host names:\n{HOSTS}\n\ncontrol:\n{server.__doc__}\nfaults:\n{faults.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_market(parser.add_argument_group("the market"))
    _add_running(parser.add_argument_group("running"))
    _add_addresses(parser.add_argument_group("addresses (port 0: a free one)"))
    return parser


def _add_market(market: _Group) -> None:
    market.add_argument(
        "--seed",
        type=_whole,
        default=1,
        help="the same seed produces the same trades and book changes in the same order; only times differ. "
        "Default: 1",
    )
    market.add_argument(
        "--rate",
        type=_amount,
        default=10.0,
        metavar="N",
        help="updates per second of each subscribed symbol on each channel: a quote, a book change, a "
        "message with one or more trades. 0: as fast as clients read. Default: 10",
    )
    market.add_argument(
        "--messages",
        type=_positive,
        metavar="N",
        help="stop each symbol's market after N updates (snapshots not counted); connections stay",
    )
    market.add_argument(
        "--symbols",
        type=_symbols,
        action="append",
        default=[],
        metavar="EXCHANGE=A-B,C-D",
        help="what an exchange lists, in cryptofeed's spelling; repeatable. Default: a dozen each",
    )


def _add_running(running: _Group) -> None:
    running.add_argument(
        "--duration", type=_amount, metavar="SECONDS", help="stop after this time; default: at a signal"
    )
    running.add_argument(
        "--log", type=Path, metavar="FILE", help="append the log to this file; default: a temporary one"
    )
    running.add_argument(
        "--ca",
        type=Path,
        default=Path("simulator-ca.pem"),
        metavar="FILE",
        help="where the certificate authority made at start is written (PEM, readable by all). "
        "Default: simulator-ca.pem",
    )


def _add_addresses(where: _Group) -> None:
    where.add_argument(
        "--listen", default="127.0.0.1", metavar="ADDRESS", help="for exchanges and proxy. Default: 127.0.0.1"
    )
    where.add_argument(
        "--port",
        type=_port,
        action="append",
        default=[],
        help="serve the exchanges directly on this port; repeatable",
    )
    where.add_argument(
        "--alias",
        type=_alias,
        action="append",
        default=[],
        metavar="HOST=EXCHANGE",
        help="answer as this exchange for another host name too, for collectors with ENDPOINT; repeatable",
    )
    where.add_argument(
        "--proxy-port", type=_port, metavar="PORT", help="serve an HTTP proxy (CONNECT) on this port"
    )
    where.add_argument("--control-listen", default="127.0.0.1", metavar="ADDRESS", help="Default: 127.0.0.1")
    where.add_argument("--control-port", type=_port, default=0, metavar="PORT", help="Default: 0")


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of 0 or more")
    return amount


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    number = _whole(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _port(text: str) -> int:
    port = _whole(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: 0 to 65535")
    return port


def _exchange(text: str) -> Name:
    name = text.upper()
    if name not in EXCHANGES:
        raise argparse.ArgumentTypeError(f"{text!r} is not simulated; these are: {', '.join(EXCHANGES)}")
    return cast("Name", name)


def _alias(text: str) -> tuple[str, Name]:
    host, separator, exchange = text.partition("=")
    if not separator or not re.fullmatch(r"[A-Za-z0-9.-]+", host):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST=EXCHANGE, as in localhost=KRAKEN")
    return host.lower(), _exchange(exchange)


def _symbols(text: str) -> tuple[Name, list[str]]:
    exchange, _, listed = text.partition("=")
    symbols = [symbol.strip().upper() for symbol in listed.split(",") if symbol.strip()]
    name = _exchange(exchange)
    perpetuals = name == "BINANCE_FUTURES"
    form = _PERPETUAL if perpetuals else _SPOT
    if not symbols or not all(map(form.fullmatch, symbols)):
        example = "BTC-USDT-PERP" if perpetuals else "BTC-USD"
        raise argparse.ArgumentTypeError(f"{text!r}: symbols look like {example}, as in {name}={example}")
    return name, symbols
