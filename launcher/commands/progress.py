"""Show the progress of a rollout and, when it has ended, what went wrong."""

import contextlib
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from launcher.console import Console, Live, Table, listed
from launcher.rollout import Event, Rollout


class Progress:
    """Shows the last event of each collector; without a terminal, every event as a line.

    With ``as_json``, every event is a line of JSON on standard output instead.
    """

    def __init__(self, console: Console, *, as_json: bool = False) -> None:
        self._json = console.json if as_json else None
        self._events: dict[str, Event] = {}
        self._live: Live = console.live(self._table)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def stopping(self) -> None:
        """Say that nothing more is begun."""
        self._live.line("stopping...")

    def tell(self, event: Event) -> None:
        """Show an event."""
        self._events[event.collector] = event
        if self._json:
            self._json(msgspec.structs.replace(event, status=None), lines=True)
        elif not self._live.is_terminal and event.state not in ("unchanged", "left"):
            # Why one failed is reported once, at the end, together with those that have the same cause.
            detail = f" ({event.detail})" if event.detail and event.state != "failed" else ""
            self._live.line(f"{event.collector}: {event.state}{detail}")

    def _table(self) -> Table:
        table = Table("COLLECTOR", "STATE", "DETAIL")
        for event in list(self._events.values()):
            table.add(event.collector, event.state, event.detail)
        return table


#: Ctrl-C, a request to terminate, and a closed terminal.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interrupt(heard: Callable[[], None]) -> Iterator[threading.Event]:
    """Let a first signal within the block set the event instead of interrupting; a second one interrupts.

    ``heard`` is called at the first signal. A signal that is ignored already (nohup) stays ignored.
    """
    stop = threading.Event()

    def tell() -> None:
        stop.set()
        heard()

    # The interrupted thread may be writing a line, or hold the event's lock as it begins to wait.
    telling = threading.Thread(target=tell)
    before = {each: handler for each in _SIGNALS if (handler := signal.getsignal(each)) != signal.SIG_IGN}

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    def handle(*_: object) -> None:
        restore()
        telling.start()

    for each in before:
        signal.signal(each, handle)
    try:
        yield stop
    finally:
        restore()
        if telling.ident:
            telling.join()


def failed_of(rollout: Rollout) -> list[Event]:
    """Return the outcomes that are failures."""
    return [event for event in rollout.outcome.values() if event.state == "failed"]


def explain(failed: Iterable[Event], console: Console) -> None:
    """Report what failed and why: each cause once, with its remedy and the last lines of a log."""
    for alike in by_cause(failed):
        first = alike[0]
        who = first.collector
        if len(alike) > 1:
            who = f"{len(alike)} collectors ({listed(event.collector for event in alike)})"
        console.remark(f"\n{who} failed: {first.detail}")
        if first.remedy:
            console.remark(f"  {first.remedy}")
        if len(alike) > 1 and first.log:
            console.remark(f"  the log of {first.collector}:")
        for line in first.log:
            console.remark(f"  | {line}")


def by_cause(failed: Iterable[Event]) -> list[list[Event]]:
    """Group failures that differ only in the names of their collectors.

    If a collector's status says what is wrong, its log does not matter.
    """
    causes: dict[tuple[str, ...], list[Event]] = {}
    for event in failed:
        log = () if event.status else (re.sub(r"[0-9]+", "0", line) for line in event.log)
        own = re.compile(rf"\b{re.escape(event.collector)}\b")
        cause = tuple(own.sub("it", text) for text in (event.detail, event.remedy, *log))
        causes.setdefault(cause, []).append(event)
    return [*causes.values()]
