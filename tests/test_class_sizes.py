"""A class that keeps fifteen things is two ideas: it is split, by idea."""

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST = 14
#: Plain records, whose fields are those of something outside.
RECORDS = {
    "collector/exchanges/okx/messages.py Row": "what the exchange tells of an instrument",
    "collector/health.py Status": "the status file",
    "collector/settings.py Settings": "the variables of the environment",
    "launcher/engines/__init__.py Observed": "what an engine tells of a container",
    "launcher/spec.py Container": "what an engine is told of a container",
}


@functools.cache
def classes():
    """Every class of both packages, by its file and name."""
    return {
        f"{path.relative_to(ROOT)} {found.name}": found
        for package in ("collector", "launcher")
        for path in sorted((ROOT / package).rglob("*.py"))
        for found in ast.walk(ast.parse(path.read_text()))
        if isinstance(found, ast.ClassDef)
    }


def fields(found):
    """What objects of a class keep: fields of a record, and what any method assigns to ``self``."""
    annotated = (each for each in found.body if isinstance(each, ast.AnnAssign))
    kept = {each.target.id for each in annotated if "ClassVar" not in ast.unparse(each.annotation)}
    for each in ast.walk(found):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store):
            kept |= {each.attr} if ast.unparse(each.value) == "self" else set()
    return kept


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class A:\n x: int\n y: ClassVar[int] = 1", {"x"}),
        (
            "class A:\n def f(self):\n  self.a, self.b = 1, 2\n  self.c: int\n  it.d = 1",
            {"a", "b", "c"},
        ),
        ("class A:\n def f(self):\n  self.a += 1\n  for self.b in self.c: self.d.e = 1", {"a", "b"}),
    ],
)
def test_fields_are_counted(text, expected):
    assert fields(ast.parse(text).body[0]) == expected


def test_no_class_has_fifteen_attributes():
    large = {name for name, found in classes().items() if len(fields(found)) > MOST}
    assert large - RECORDS.keys() == set()


@pytest.mark.parametrize("name", RECORDS)
def test_larger_classes_are_plain_records(name):
    found = classes()[name]
    assert len(fields(found)) > MOST
    assert "msgspec.Struct" in map(ast.unparse, found.bases)
