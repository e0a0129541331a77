"""Reference data: which symbols the exchange lists, asked for again and again; what SYMBOLS select of it."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping

from collector import catalog
from collector.feeds.backoff import Backoff
from collector.feeds.http import retry_after
from collector.feeds.malformed import describe
from collector.gaps import marks
from collector.gaps.marks import Listed, Marks, Slot
from collector.settings import Fault, Settings, SettingsError
from collector.symbol_patterns import TYPE, is_plain, selected

LOG = logging.getLogger(__name__)

#: Seconds for one attempt as a whole, however slowly the answer trickles in.
ATTEMPT = 60.0


async def retried[T](
    what: str,
    attempt: Callable[[], Awaitable[T]],
    backoff: Backoff | None = None,
    *,
    note: Callable[[str | None], None] = lambda _: None,
    patience: float | None = ATTEMPT,
) -> T:
    """Return what ``attempt`` returns, called again and again while it fails; SettingsError ends it.

    An attempt may take ``patience`` seconds. ``note`` gets what the last attempt failed with, and None once
    one has succeeded.
    """
    backoff = backoff or Backoff(shortest=1.0)
    while True:
        try:
            async with asyncio.timeout(patience):
                result = await attempt()
        except SettingsError:
            raise
        except Exception as error:  # noqa: BLE001 - also of an answer that cannot be read: it may be better tomorrow
            pause = max(backoff.pause(), retry_after(error))
            failure = f"no {what}: {describe(error)}"
            note(failure)
            LOG.warning("%s; again in %.1f s", failure, pause)
            await asyncio.sleep(pause)
        else:
            note(None)
            return result


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


def select(settings: Settings, listed: Mapping[str, str], known: Container[Slot[Listed]] = ()) -> list[str]:
    """The symbols to subscribe to: what SYMBOLS select of those ``listed`` with their types, and SHARD takes.

    There may be none, where other shards take them all. Raises SettingsError, with what is near, for a symbol
    or pattern that selects nothing. One that is ``known`` to have selected something at an earlier start is
    reported and left out instead, unless nothing is left.
    """
    exchange, selection = settings.exchange, settings.selection
    empty = [item for item in selection.included if not selected(item, listed)]
    gone = [item for item in empty if marks.listed(exchange, item) in known]
    faults = [
        Fault("SYMBOLS", item, _nothing_like(exchange, item, listed)) for item in empty if item not in gone
    ]
    if not faults and not selection.select(listed):
        faults = [Fault("SYMBOLS", ",".join(settings.symbols), _nothing_left(exchange, gone))]
    if faults:
        raise SettingsError(faults)
    for item in gone:
        LOG.error("%s no longer lists %s: left out; the others continue", exchange, item)
    for item in selection.excluded:
        if not selected(item, listed):
            LOG.warning("SYMBOLS: !%s excludes nothing that %s lists", item, exchange)
    return wanted(settings, listed)


def remember(settings: Settings, listed: Mapping[str, str], known: Marks) -> None:
    """Remember what selects something of the symbols listed: where that ends, it has been delisted."""
    for item in settings.selection.included:
        place = marks.listed(settings.exchange, item)
        if place not in known and selected(item, listed):
            known.put(place, Listed())


def wanted(settings: Settings, listed: Mapping[str, str]) -> list[str]:
    """Return what SYMBOLS select of the symbols listed, and SHARD takes."""
    return [symbol for symbol in settings.selection.select(listed) if settings.takes(symbol)]


def _nothing_left(exchange: str, gone: Iterable[str]) -> str:
    return f"{exchange} no longer lists any of them" if gone else "nothing is left of what it selects"


def _nothing_like(exchange: str, item: str, listed: Mapping[str, str]) -> str:
    if item.startswith(TYPE):
        return f"{exchange} lists none; it has {', '.join(sorted({*listed.values()} - {''}))}"
    near = catalog.nearest(item, sorted(listed), 3)
    if item.upper() in near or selected(item.upper(), listed):
        near = [item.upper()]
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{exchange} lists {'no such symbol' if is_plain(item) else 'no symbols like that'}{hint}"
