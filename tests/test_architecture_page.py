"""The rooms and stays that docs/architecture.md tells of are there."""

import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
STAYS = re.findall(r"(?m)^\| (\d+) \| `([a-z_/]+)\.py`: `([\w.]+)`", PAGE)


@pytest.mark.parametrize(("path", "name"), [(path, name) for _, path, name in STAYS])
def test_each_stay_of_a_gap_is_there(path, name):
    module = import_module(f"collector.{path.replace('/', '.')}")
    assert callable(attrgetter(name)(module))


def test_the_stays_are_as_many_as_the_page_says():
    assert [int(number) for number, *_ in STAYS] == [*range(1, 19)]
    assert len({path for _, path, _ in STAYS}) == 11
    assert "Eighteen stays in eleven rooms" in PAGE


def test_the_rooms_are_there():
    rooms = re.findall(r"`([a-z_]+(?:/|(?:/[a-z_]+)?\.py))`", PAGE)
    assert len(rooms) > 20
    assert all((ROOT / "collector" / room).exists() for room in rooms)
