"""README's table of the promise names tests that there are."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_each_test_named_in_the_readme_exists():
    named = set(re.findall(r"`(test_\w+)`", (TESTS.parent / "README.md").read_text()))
    there = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    assert len(named) > 30
    assert not named - there
