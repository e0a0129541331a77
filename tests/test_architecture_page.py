"""The modules and steps that docs/architecture.md names exist."""

import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
STEPS = re.findall(r"(?m)^\| (\d+) \| `([a-z_/]+)\.py`: `([\w.]+)`", PAGE)


@pytest.mark.parametrize(("path", "name"), [(path, name) for _, path, name in STEPS])
def test_each_step_of_a_gap_exists(path, name):
    module = import_module(f"collector.{path.replace('/', '.')}")
    assert callable(attrgetter(name)(module))


def test_the_page_counts_its_steps_correctly():
    assert [int(number) for number, *_ in STEPS] == [*range(1, 19)]
    assert len({path for _, path, _ in STEPS}) == 11
    assert "eighteen steps in eleven modules" in PAGE


def test_the_modules_exist():
    modules = re.findall(r"`([a-z_]+(?:/|(?:/[a-z_]+)?\.py))`", PAGE)
    assert len(modules) > 20
    assert all((ROOT / "collector" / module).exists() for module in modules)
