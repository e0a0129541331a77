"""Reference data: which symbols the exchange lists. Asked for in a thread, within time limits, for ever."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable

from collector import catalog
from collector.feeds.backoff import Backoff
from collector.feeds.malformed import describe
from collector.feeds.supervised import Memory
from collector.settings import Fault, SettingsError

LOG = logging.getLogger(__name__)

#: Seconds for one attempt as a whole, however slowly the answer trickles in.
ATTEMPT = 60.0


async def retried[T](what: str, attempt: Callable[[], T], backoff: Backoff | None = None) -> T:
    """What ``attempt`` returns, called in a thread again and again while it fails; SettingsError ends it."""
    backoff = backoff or Backoff(shortest=1.0)
    while True:
        try:
            async with asyncio.timeout(ATTEMPT):
                return await in_thread(attempt)
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001 - also of an answer that cannot be read: it may be better tomorrow
            pause = backoff.pause()
            LOG.warning("no %s: %s; again in %.1f s", what, describe(error), pause)
            await asyncio.sleep(pause)


async def in_thread[T](work: Callable[[], T]) -> T:
    """``work`` in a thread that does not keep the process from ending, as those of an executor do."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            outcome: tuple[T | None, Exception | None] = work(), None
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            outcome = None, error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, daemon=True, name="reference data").start()
    return await future


def check_symbols(exchange: str, asked: Iterable[str], listed: Iterable[str], memory: Memory) -> list[str]:
    """The symbols of ``asked`` that can be subscribed to.

    Raises SettingsError, with the closest ones, for symbols that the exchange does not list. One that it
    listed at an earlier start is reported and left out instead, unless nothing is left.
    """
    known = set(listed)
    there = [symbol for symbol in asked if symbol in known]
    missing = [symbol for symbol in asked if symbol not in known]
    gone = [symbol for symbol in missing if memory.recall(_mark(exchange, symbol))]
    faults = [
        Fault("SYMBOLS", symbol, _no_such_symbol(exchange, symbol, known))
        for symbol in missing
        if symbol not in gone
    ]
    if not faults and not there:
        faults = [Fault("SYMBOLS", ",".join(gone), f"{exchange} does not list any of them any more")]
    if faults:
        raise SettingsError(faults)
    for symbol in gone:
        LOG.error("%s does not list %s any more: left out, the others go on", exchange, symbol)
    for symbol in there:
        if not memory.recall(_mark(exchange, symbol)):
            memory.mark(_mark(exchange, symbol), "yes")
    return there


def _mark(exchange: str, symbol: str) -> str:
    return f"listed {exchange} {symbol}"


def _no_such_symbol(exchange: str, symbol: str, listed: Iterable[str]) -> str:
    near = catalog.nearest(symbol, sorted(listed), 3)
    if symbol.upper() in near:
        near = [symbol.upper()]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{exchange} lists no such symbol{hint}"
