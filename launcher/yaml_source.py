"""A YAML file as a tree of texts that know their places.

Scalars stay the text of the file, because YAML 1.1 reads ``0123`` as 83, ``no`` as False and ``22:30`` as
1350; only an empty plain value, ``~`` or ``null`` means "not set". Anchors, aliases and merge keys work,
``${VAR}`` is replaced after parsing so that no value can break the YAML, and everything that is wrong is
collected with its line and column.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import yaml

from collector.printable import printable
from collector.urls import masked

#: libyaml if it is available: ten times as fast, same events.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = ("", "~", "null", "Null", "NULL")
_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-[^}]*)?\}|\$\{[^}]*\}?")


class Fault(msgspec.Struct, frozen=True, order=True):
    """One fault in a file; lines and columns count from 1, and line 0 is the file as a whole."""

    file: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return printable(f"{place}: {masked(self.message)}")


class Scalar(msgspec.Struct, frozen=True, gc=False):
    """A text; ``faulty`` if it could not be determined, which has been reported."""

    file: str
    line: int
    column: int
    text: str | None
    faulty: bool = False


class Items(msgspec.Struct, frozen=True):
    """A list."""

    file: str
    line: int
    column: int
    items: tuple["Node", ...]


class Table(msgspec.Struct, frozen=True):
    """A mapping; its merge keys are already resolved."""

    file: str
    line: int
    column: int
    entries: "dict[str, Entry]"


type Node = Scalar | Items | Table


class Entry(NamedTuple):
    """A key of a table and its value."""

    key: Scalar
    value: Node


def read(text: str, file: str, environ: Mapping[str, str], faults: list[Fault]) -> Node | None:
    """Return the tree of the one document in ``text``; None if the YAML is broken or empty.

    ``environ`` has the values for ``${VAR}``; faults are added to ``faults``.
    """
    return _Composer(text, file, environ, faults).document()


def merge(base: Node, over: Node) -> Node:
    """Return ``over`` merged over ``base``: mappings key by key, anything else as a whole."""
    return _merge(base, over, {})


def _merge(base: Node, over: Node, known: dict[tuple[int, int], Node]) -> Node:
    """Merge each pair once only, because with aliases a tree can be far larger than its file."""
    if not isinstance(base, Table) or not isinstance(over, Table):
        return over
    pair = id(base), id(over)
    if pair not in known:
        entries = dict(base.entries)
        for name, entry in over.entries.items():
            below = base.entries.get(name)
            entries[name] = Entry(
                entry.key, _merge(below.value, entry.value, known) if below else entry.value
            )
        known[pair] = Table(base.file, base.line, base.column, entries)
    return known[pair]


class _StopError(Exception):
    """The rest of the file makes no sense; the fault has been reported."""


class _Composer:
    """Turns libyaml's events into nodes."""

    def __init__(self, text: str, file: str, environ: Mapping[str, str], faults: list[Fault]) -> None:
        self.text = text
        self.file = file
        self.environ = environ
        self.faults = faults
        self.anchors: dict[str, Node] = {}
        self.events: Iterator[Any] = yaml.parse(text, Loader=LOADER)

    def document(self) -> Node | None:
        try:
            return self._document()
        except yaml.YAMLError as error:
            self._broken(error)
        except RecursionError:
            self._fault(self.file, 1, 1, "lists and mappings are nested too deeply")
        except _StopError:
            pass
        return None

    def _document(self) -> Node | None:
        root: Node | None = None
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._fault_at(event, "a second document begins here; a fleet file holds one")
                    raise _StopError
                root = self._node(next(self.events))
        return root

    def _node(self, event: Any) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            remedy = "; text that begins with ! needs quotes" if event.tag.startswith("!") else ""
            self._fault_at(event, f"tags are not used in a fleet file{remedy}")
            if isinstance(event, yaml.ScalarEvent):
                return Scalar(*self._place(event), None, faulty=True)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._items(event)
        else:
            node = self._table(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self.anchors:
            problem = "this alias has no complete anchor of its name before it"  # which may be a password
            self._fault_at(event, f"{problem}; text that begins with * needs quotes")
            return Scalar(*self._place(event), None, faulty=True)
        return self.anchors[event.anchor]

    def _scalar(self, event: Any) -> Scalar:
        place = self._place(event)
        text = event.value
        if event.implicit[0] and text in _NULL:
            return Scalar(*place, None)
        if "${" not in text:
            return Scalar(*place, text)
        try:
            return Scalar(*place, _REFERENCE.sub(self._expand, text))
        except ValueError as error:
            self._fault(*place, str(error))
            return Scalar(*place, None, faulty=True)

    def _expand(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match["name"], match["default"]
        if name is None:
            raise ValueError("${ begins neither ${VAR} nor ${VAR:-default}; write $${ for a plain ${")
        value = self.environ.get(name)
        if default is not None:
            value = value or default[2:]
        if value is None:
            raise ValueError(f"the environment variable {name} is not set; ${{{name}:-...}} gives a default")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"the environment variable {name} is not UTF-8 text") from None
        return value

    def _items(self, start: Any) -> Items:
        items = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._node(event))
        return Items(*self._place(start), tuple(items))

    def _table(self, start: Any) -> Table:
        entries: dict[str, Entry] = {}
        merged: list[Table] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event)
            value = self._node(next(self.events))
            if key.text == "<<":
                merged += self._merged(value)
            elif key.text in entries:
                first = entries[key.text].key
                self._fault(
                    key.file,
                    key.line,
                    key.column,
                    f"duplicate key {key.text}; line {first.line} has it already",
                )
            elif key.text is not None:
                entries[key.text] = Entry(key, value)
        for table in merged:
            for name, entry in table.entries.items():
                entries.setdefault(name, entry)
        return Table(*self._place(start), entries)

    def _key(self, event: Any) -> Scalar:
        """Return a key's text unchanged: nothing is replaced in it, and ``no`` or ``1`` are names."""
        if isinstance(event, yaml.ScalarEvent) and event.value and event.tag is None:
            return Scalar(*self._place(event), event.value)
        self._fault_at(event, "a key has to be a plain text")
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event)
        return Scalar(*self._place(event), None, faulty=True)

    def _merged(self, value: Node) -> list[Table]:
        tables = value.items if isinstance(value, Items) else (value,)
        for table in tables:
            if not isinstance(table, Table) and not (isinstance(table, Scalar) and table.faulty):
                self._fault(table.file, table.line, table.column, "<< takes a mapping, or a list of mappings")
        return [table for table in tables if isinstance(table, Table)]

    def _broken(self, error: yaml.YAMLError) -> None:
        if isinstance(error, yaml.reader.ReaderError):
            before = self.text.encode()[: error.position].decode()
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
            self._fault(
                self.file, line, column, f"the character {chr(error.character)!r} is not allowed in YAML"
            )
        elif isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark):
            context = f" {error.context}" if error.context else ""
            since = f" (which begins in line {error.context_mark.line + 1})" if error.context_mark else ""
            problem = f"broken YAML{context}{since}: {error.problem}{self._remedy(error.context, mark)}"
            self._fault(self.file, mark.line + 1, mark.column + 1, problem)
        else:
            self._fault(self.file, 0, 0, f"broken YAML: {error}")

    def _remedy(self, context: str | None, mark: yaml.Mark) -> str:
        lines, column = self.text.splitlines(), mark.column
        text = lines[mark.line] if mark.line < len(lines) else ""
        if context == "while scanning a tag":
            return "; text that begins with ! needs quotes"
        if text[column : column + 1] == "\t":
            return "; YAML is indented with spaces, not tabs"
        if "*" in text[column - 1 : column + 1]:
            return "; text that begins with * needs quotes"
        if text[column - 1 : column + 1] == "${":
            return '; between brackets a reference needs quotes: "${VAR}"'
        return ""

    def _fault_at(self, event: Any, message: str) -> None:
        self._fault(*self._place(event), message)

    def _fault(self, file: str, line: int, column: int, message: str) -> None:
        self.faults.append(Fault(file, line, column, message))

    def _place(self, event: Any) -> tuple[str, int, int]:
        mark = event.start_mark
        return self.file, mark.line + 1, mark.column + 1
