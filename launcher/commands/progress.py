"""What a rollout tells while it is on its way, and what went wrong when it is over."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from launcher.console import Console, Live, Table
from launcher.rollout import Event, Rollout


class Progress:
    """Shows the last event of each collector; without a terminal each event is a line.

    ``as_json`` makes each a line of JSON on standard output instead.
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
        """Says that no more is begun."""
        self._live.line("stopping...")

    def tell(self, event: Event) -> None:
        """Hears an event."""
        self._events[event.collector] = event
        if self._json:
            self._json(msgspec.structs.replace(event, status=None), lines=True)
        elif not self._live.is_terminal and event.state != "unchanged":
            self._live.line(
                f"{event.collector}: {event.state}" + (f" ({event.detail})" if event.detail else "")
            )

    def _table(self) -> Table:
        table = Table("COLLECTOR", "STATE", "DETAIL")
        for event in list(self._events.values()):
            table.add(event.collector, event.state, event.detail)
        return table


#: Ctrl-C, whoever ends us, and a terminal that goes.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def interrupt(heard: Callable[[], None]) -> Iterator[threading.Event]:
    """A signal in the block sets the event and interrupts nothing; ``heard`` is called. A second one does.

    One that whoever started us wants ignored (nohup) stays so.
    """
    stop = threading.Event()
    telling = threading.Thread(target=heard)  # the thread that is interrupted may be writing a line
    before = {each: handler for each in _SIGNALS if (handler := signal.getsignal(each)) != signal.SIG_IGN}

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    def handle(*_: object) -> None:
        restore()
        stop.set()
        telling.start()

    for each in before:
        signal.signal(each, handle)
    try:
        yield stop
    finally:
        restore()
        if stop.is_set():
            telling.join()


def failed_of(rollout: Rollout) -> list[Event]:
    """The outcomes that are failures."""
    return [event for event in rollout.outcome.values() if event.state == "failed"]


def explain(failed: Iterable[Event], console: Console) -> None:
    """Says what failed and why, with the last lines of each culprit's log."""
    for event in failed:
        console.remark(f"\n{event.collector} failed: {event.detail}")
        for line in event.log:
            console.remark(f"  | {line}")
