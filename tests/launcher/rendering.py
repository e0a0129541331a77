"""Values and fleets that test what is rendered."""

import subprocess

import msgspec
from hypothesis import Phase, settings
from hypothesis import strategies as st

IMAGE = "python:3.13-slim-trixie"
#: For examples that each take a program or a container: a few, and no search for a smaller one.
BRIEFLY = settings(max_examples=4, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))

# What a YAML, shell, env-file or compose parser would like to read in its own way.
ODD = (
    *(
        "yes",
        "no",
        "~",
        "null",
        "0123",
        "0x1F",
        "1e3",
        "22:30",
        "1_000",
        ".inf",
        "2024-01-01",
        "<<",
        "=",
        "#",
    ),
    *(
        "- a",
        "{a: b}",
        "[a]",
        "a: b",
        "a #b",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a`",
        "'a'",
        '"a"',
        "'",
        '"',
    ),
    *("$HOME", "${HOME}", "${HOME:-x}", "$$", "$${HOME}", "$(id)", "{{ a }}", "{% a %}", "{# a #}"),
    *(
        "\\",
        "\\n",
        "a\\",
        " a",
        "a ",
        "\ta",
        "a\t",
        " ",
        "a=b",
        "=a",
        "a\rb",
        "\ufeffa",
        "\x85",
        "\u2028",
        "\x7f",
    ),
    *("\x07", "\x1b[0m", "é", "日本", "😀", "e\u0301", "\u200f", "\uffff"),
)
VALUES = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def with_environment(spec, environment):
    """The fleet reduced to one collector with another environment."""
    (collector, *_) = spec.collectors
    container = msgspec.structs.replace(collector.container, environment=environment)
    collector = msgspec.structs.replace(collector, container=container)
    return msgspec.structs.replace(spec, collectors=(collector,), simulator=None)


def command(*arguments, **options):
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout
