"""Pages name tests that exist: the README's table of the promise above all."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
README = ROOT / "README.md"
PAGES = [README, *ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def named_in(page):
    return {*re.findall(r"`(test_\w+)`", page.read_text())}


def test_each_test_that_a_page_names_exists():
    there = {
        name
        for path in TESTS.rglob("test_*.py")
        for name in re.findall(r"def (test_\w+)\(", path.read_text())
    }
    assert len(named_in(README)) > 30
    assert not {page.name: missing for page in PAGES if (missing := named_in(page) - there)}
