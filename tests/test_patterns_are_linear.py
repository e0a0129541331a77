"""No regular expression of ours takes much longer than its text is long, whatever is in the text.

Each that the code holds is found by reading the code, and tried with texts made of its own characters.
"""

import ast
import importlib
import itertools
import re
import warnings
from pathlib import Path

import pytest
from linear import grows_with_its_square

import collector
import launcher
from collector import catalog, command_line
from collector.settings import VARIABLES, Matching
from collector.symbol_patterns import matches
from launcher import fleet_keys
from launcher.engines import ssh

ROOT = Path(collector.__file__).parent.parent
FUNCTIONS = {"fullmatch", "match", "search", "sub", "split", "findall", "finditer", "subn"}
#: What is no constant where it is used, and where it is tried instead.
VARYING = {
    "collector/command_line.py": ["theirs"],  # _IN_OUR_WORDS, below
    "collector/settings.py": ["self.pattern"],  # Matching: those of the tables, below
    "collector/masking.py": ["_VALUE.replace('{0}', re.escape(secret))"],  # test_masking tries it
    "launcher/fleet_file.py": ["ignored"],  # x-.*
    "launcher/commands/progress.py": [r"f'\\b{re.escape(event.collector)}\\b'"],  # a name, as it is
    "launcher/engines/ssh.py": ["pattern"],  # _REMEDIES, below
}


def sources():
    """The path and the text of each file of ours that uses a regular expression."""
    for package in (collector, launcher):
        for path in sorted(Path(package.__file__).parent.rglob("*.py")):
            text = path.read_text()
            # The simulator meets nothing that is hostile.
            if "simulator" not in path.parts and re.search(r"\bre\.\w+\(", text):
                yield path, text


def in_the_code():
    """Each pattern that the code holds: its file, itself, whether it is tried at the start of texts alone."""
    for path, text in sources():
        nodes, names = [*ast.walk(ast.parse(text))], {}
        for node in nodes:
            if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call):
                target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                names[node.value] = ast.unparse(target)
        for node in nodes:
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and ast.unparse(called.value) == "re":
                uses = {called.attr}
                if node in names:
                    uses = set(re.findall(rf"\b{names[node]}\.(\w+)\(", text)) or {"search"}
                if uses & FUNCTIONS:
                    yield str(path.relative_to(ROOT)), node.args[0], uses <= {"fullmatch", "match"}


def tried():
    """The patterns, each once, by whether they are tried at the start of a text alone."""
    found = {}
    for name, argument, anchored in in_the_code():
        if isinstance(argument, ast.Constant):
            found[argument.value, anchored] = name
        elif ast.unparse(argument) not in VARYING.get(name, []):
            module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
            found[eval(ast.unparse(argument), vars(module)), anchored] = name
    tables = [each.parse for each in VARIABLES] + [
        key.parse
        for table in (
            fleet_keys.FLEET,
            fleet_keys.NETWORK,
            fleet_keys.SIMULATOR,
            fleet_keys.LIMITS,
            fleet_keys.COLLECTOR,
            fleet_keys.STORE,
        )
        for key in table.values()
    ]
    for parse in tables:
        if isinstance(parse, Matching):
            found[parse.pattern, True] = "tables"
    return [(pattern, anchored, name) for (pattern, anchored), name in found.items()]


def signs(pattern):
    """A few characters that the pattern tells apart: its literals, and one of each class that it names."""
    plain = re.sub(r"\\[wdsSWDbA-Z.]|\(\?P?<?[=!:a-z]*>?|[\[\]{}()*+?|^$]", "", pattern)
    classes = {r"\w": "a", r"\d": "0", r"\s": " ", r"\S": "a", "a-z": "a", "0-9": "0", ".": "a"}
    named = [sign for text, sign in classes.items() if text in pattern]
    return list(dict.fromkeys([*named, *plain, "a", "\n"]))[:9]


def hostile(pattern):
    """Texts that repeat one or two of its characters after what it begins with, and an end that fails."""
    literals = re.findall(r"[A-Za-z:/$@{-]+", re.sub(r"\[[^]]*\]|\\.|\(\?P<\w+>", "", pattern))
    pumps = [*signs(pattern), *map("".join, itertools.permutations(signs(pattern), 2)), *literals]
    for begin, pump, end in itertools.product(dict.fromkeys(["", "".join(literals)]), pumps, ["\0", ""]):
        yield lambda size, b=begin, p=pump, e=end: b + p * (size // len(p)) + e


def test_every_pattern_takes_linear_time(subtests):
    patterns = tried()
    assert len(patterns) > 25
    for pattern, anchored, name in patterns:
        with subtests.test(name, pattern=pattern), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = pattern if isinstance(pattern, re.Pattern) else re.compile(pattern)
            work = compiled.fullmatch if anchored else compiled.search
            for text in hostile(compiled.pattern):
                assert not grows_with_its_square(work, text), text(20)


@pytest.mark.parametrize("pattern", [*ssh._REMEDIES, *command_line._IN_OUR_WORDS])
def test_patterns_for_what_other_programs_say_take_linear_time(pattern):
    for text in hostile(pattern):
        assert not grows_with_its_square(re.compile(pattern, re.DOTALL).search, text), text(20)


@pytest.mark.parametrize(("pattern", "size"), [(r"[^\s/@]*:[^\s/]*@", 90), (r"(?<=://)[^\s]*(?=@)", 1500)])
def test_the_check_itself_finds_a_cube_and_a_square(pattern, size):
    search = re.compile(pattern).search
    assert any(grows_with_its_square(search, text, size) for text in hostile(pattern))


@pytest.mark.parametrize("repeated", ["*a", "?*", "[a]*", "[!a]*", "*", "[", "!", "type:"])
def test_selecting_symbols_takes_linear_time(repeated):
    def text(size):
        return repeated * (size // len(repeated)) + "b"

    assert not grows_with_its_square(lambda item: matches(item, "a" * 60, "spot"), text, size=500)
    assert not grows_with_its_square(lambda symbol: matches("*a*a*a*a*b", symbol, "spot"), text)


def test_finding_names_near_a_long_text_is_fast():
    def text(size):
        return "ab" * (size // 2)

    assert not grows_with_its_square(lambda long: catalog.nearest(long, [f"{long}x", "ab"]), text)
    assert catalog.nearest("a" * 5000, ["a" * 5000]) == []
    assert catalog.nearest("kraken", ["KRAKEN", "BINANCE"]) == ["KRAKEN"]
