"""What a person sees: tables on standard output, progress and remarks on standard error.

On a terminal it is drawn with rich (imported only then); elsewhere it is plain text, one line per event.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from collector.command_line import writing
from collector.printable import printable, printable_json

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.table import Table as RichTable

_STYLES = {
    "green": ("ready", "unchanged", "healthy", "removed", "running", "started"),
    "yellow": ("starting", "degraded", "restarting", "stopping", "waiting", "absent", "kept", "paused"),
    "red": ("failed", "exited", "unhealthy", "dead"),
}
_STYLE_OF = {state: style for style, states in _STYLES.items() for state in states}

#: The column for remarks, and the fewest characters that make it worth showing.
_DETAIL, _LEAST_DETAIL = "DETAIL", 12
#: The unprintable characters that are kept, because our own texts have several lines.
_LAYOUT = "\n\t"
_GAP = 2  # characters between two columns
_LEAST_NAME = 20  # characters of the first column that are shown, however narrow the terminal is


class Table:
    """Text in columns. Columns whose heading begins with ``>`` are aligned to the right.

    ``spare`` are the columns that a narrow terminal omits, in that order.
    """

    def __init__(self, *columns: str, spare: Sequence[str] = ()) -> None:
        self.right = [column.startswith(">") for column in columns]
        self.columns = [column.removeprefix(">") for column in columns]
        self.spare = spare
        self.rows: list[Sequence[str]] = []

    def add(self, *cells: str) -> None:
        """Add a row."""
        self.rows.append(cells)

    def _shown(self) -> list[list[str]]:
        return [[printable(cell) for cell in row] for row in self.rows]

    def plain(self) -> str:
        """Return the table as aligned text without colours."""
        widths = self._widths()
        return "\n".join(self._plain_line(line, widths) for line in [self.columns, *self._shown()])

    def fitted(self, width: int) -> "Table":
        """Return the table for lines of ``width`` characters.

        First DETAIL is cut, then spare columns are omitted, and finally the first column is cut.
        """
        taken = dict(zip(self.columns, (size + _GAP for size in self._widths()), strict=True))
        detail = taken.pop(_DETAIL, _GAP) - _GAP
        for column in self.spare:
            if sum(taken.values()) + min(detail, _LEAST_DETAIL) <= width:
                break
            del taken[column]
        room = width - sum(taken.values())
        name = max(_LEAST_NAME, taken[self.columns[0]] - _GAP + min(0, room + _GAP))
        shown = [
            place
            for place, column in enumerate(self.columns)
            if column in taken or (column == _DETAIL and room >= len(_DETAIL))
        ]
        table = Table(*(f"{'>' if self.right[place] else ''}{self.columns[place]}" for place in shown))
        for row in self._shown():
            table.add(
                *(
                    _cut(row[place], name if not place else room)
                    if not place or self.columns[place] == _DETAIL
                    else row[place]
                    for place in shown
                )
            )
        return table

    def _widths(self) -> list[int]:
        return [max(map(len, column)) for column in zip(self.columns, *self._shown(), strict=True)]

    def _plain_line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        places = zip(cells, widths, self.right, strict=True)
        return "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in places
        ).rstrip()

    def rich(self, *, wrap: bool) -> "RichTable":
        """Return the table for rich; with ``wrap``, long details get more lines instead of being cut."""
        from rich.table import Table as RichTable  # noqa: PLC0415 - only a terminal needs it
        from rich.text import Text  # noqa: PLC0415

        table = RichTable(box=None, pad_edge=False, header_style="bold")
        for place, column in enumerate(self.columns):
            # Without DETAIL, every column except names and numbers may have more lines.
            yields = column == _DETAIL or (_DETAIL not in self.columns and place and not self.right[place])
            table.add_column(
                column,
                justify="right" if self.right[place] else "left",
                no_wrap=not (wrap and yields),
                overflow="fold" if wrap else "ellipsis",
            )
        for row in self._shown():
            table.add_row(*(Text(cell, style=_STYLE_OF.get(cell, "")) for cell in row))
        return table


class Console:
    """Standard output and standard error, each of them a terminal or not.

    If nobody reads its output, or the terminal is gone, it raises OSError, unless it ``goes_on``.
    """

    def __init__(self, *, color: bool = True, goes_on: bool = False) -> None:
        self._color = color
        self._goes_on = goes_on

    def say(self, text: str) -> None:
        """Print a result on standard output."""
        self._put(sys.stdout, lambda: _write(sys.stdout, text))

    def remark(self, text: str) -> None:
        """Print anything else on standard error."""
        self._put(sys.stderr, lambda: _write(sys.stderr, text))

    def _put(self, file: TextIO, write: Callable[[], None]) -> None:
        try:
            with writing(file):
                write()
        except OSError as error:
            if not self._goes_on:
                raise
            with open(os.devnull, "w") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), file.fileno())
            if not isinstance(error, BrokenPipeError):
                self.remark(f"launcher: {error}; what follows there is not shown")

    def json(self, value: object, *, lines: bool = False) -> None:
        """Print a result as JSON on standard output: one document, or one of several lines (``lines``)."""
        import msgspec  # noqa: PLC0415 - help does without

        text = msgspec.json.encode(value)
        self.say(printable_json((text if lines else msgspec.json.format(text, indent=2)).decode()))

    def table(self, table: Table, *, one_line: bool = False) -> None:
        """Print a table on standard output; on a terminal, ``one_line`` cuts each row to one line."""
        if not sys.stdout.isatty():
            self.say(table.plain())
            return
        console = self._rich(sys.stdout)
        shown = table.fitted(console.width).rich(wrap=False) if one_line else table.rich(wrap=True)
        self._put(sys.stdout, lambda: console.print(shown))

    @property
    def lines(self) -> int | None:
        """Return the height of the terminal that standard output is, in lines; None if it is not one."""
        return self._rich(sys.stdout).height if sys.stdout.isatty() else None

    def live(self, draw: Callable[[], Table]) -> "Live":
        """Return a constantly redrawn table on standard error; it draws nothing unless that is a terminal."""
        return Live(
            self._rich(sys.stderr) if sys.stderr.isatty() else None, draw, partial(self._put, sys.stderr)
        )

    def _rich(self, file: TextIO) -> "RichConsole":
        from rich.console import Console as RichConsole  # noqa: PLC0415 - only a terminal needs it

        return RichConsole(file=file, no_color=True if not self._color else None, highlight=False)


class Live:
    """A table at the bottom of the terminal while the block runs; lines are printed above it."""

    def __init__(
        self,
        console: "RichConsole | None",
        draw: Callable[[], Table],
        put: Callable[[Callable[[], None]], None],
    ) -> None:
        self._console = console
        self._draw = draw
        self._put = put
        self._live: Any = None
        self._lock = threading.Lock()

    @property
    def is_terminal(self) -> bool:
        """Whether the table is visible; if not, lines have to do."""
        return self._console is not None

    def __enter__(self) -> Self:
        if console := self._console:
            from rich.live import Live as RichLive  # noqa: PLC0415 - only a terminal needs it

            self._live = RichLive(
                console=console,
                get_renderable=lambda: self._draw().fitted(console.width).rich(wrap=False),
                refresh_per_second=4,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._put(self._live.stop)

    def line(self, text: str) -> None:
        """Print a line above the table, from any thread."""
        with self._lock:
            if console := self._console:
                self._put(lambda: console.print(printable(text, _LAYOUT), markup=False, soft_wrap=True))
            else:
                self._put(lambda: _write(sys.stderr, text))


def listed(names: Iterable[str], most: int = 5) -> str:
    """Return names for a sentence: the first few, and how many more."""
    names = [*names]
    shown, rest = names[:most], len(names) - most
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _cut(cell: str, room: int) -> str:
    return cell if len(cell) <= room else f"{cell[: room - 1]}…"


def _write(file: TextIO, text: str) -> None:
    file.write(f"{printable(text, _LAYOUT)}\n")
    file.flush()
