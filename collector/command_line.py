"""What the command lines of the programs share: our words for argparse's, suggestions, and ``--version``."""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, NoReturn, override

#: What other programs call a choice.
ALSO_CALLED = {
    "docker-compose": "compose",
    "k8s": "kubernetes",
    "kube": "kubernetes",
    "stack": "swarm",
    "systemd": "quadlet",
    "podman": "quadlet",
}

#: What argparse says, and how we say it. An option is called by the last of its names.
_OPTION = r"argument (?:-[a-z]/)?(--?[a-z-]+)"
_IN_OUR_WORDS = {
    r"the following arguments are required: (.+)": r"\1 is missing; {help}",
    r"unrecognized arguments: (.+)": r"unexpected argument \1; {help}",
    rf"{_OPTION}: expected one argument": r"\1 needs a value; {help}",
    rf"{_OPTION}: ignored explicit argument (.+)": r"\1 takes no value, and got \2",
    r"ambiguous option: (\S+) could match (.+)": r"\1 may mean any of \2; write it out",
    r"argument (.+)": r"\1",
}

#: A shell's status for a program whose output pipe was closed. Not 0, since an exit status may be an answer.
UNREAD = 141


class StreamError(OSError):
    """A standard stream cannot be written; the text says which one, and why."""


@contextlib.contextmanager
def writing(file: IO[Any]) -> Iterator[None]:
    """Name the stream in an error of writing to it, but leave BrokenPipeError: nobody reads on."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        name = "standard output" if file is sys.stdout else "standard error"
        raise StreamError(f"{name} cannot be written: {error.strerror}") from error


def in_words(error: OSError) -> str:
    """Return the error as a command tells it."""
    if isinstance(error, StreamError):
        return str(error)
    return f"{error.filename or 'error'}: {error.strerror or error}"


def leave_unread() -> int:
    """Give up standard output, whose reader has gone; return the exit status."""
    give_up_output()
    return UNREAD


def give_up_output() -> None:
    """Drop output that cannot be written, because Python would try again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line, and what a misspelt word was meant to be."""

    def add_version(self) -> None:
        """Add ``--version``."""
        self.add_argument("--version", action=_Version, help="print the version and exit")

    @override
    def error(self, message: str) -> NoReturn:
        from collector.printable import printable  # noqa: PLC0415 - help does without

        self.print_usage(sys.stderr)
        self.exit(2, printable(f"{self.prog}: error: {self._in_our_words(message)}\n", keep="\n"))

    def _in_our_words(self, message: str) -> str:
        for theirs, ours in _IN_OUR_WORDS.items():
            if found := re.fullmatch(theirs, message, re.DOTALL):
                return found.expand(ours.replace("{help}", f"`{self.prog} --help` explains"))
        return message

    @override
    def _print_message(self, message: str, file: IO[str] | None = None) -> None:  # type: ignore[override]
        """Print help or usage at once: argparse says nothing where that fails."""
        file = file or sys.stderr
        with writing(file):
            file.write(message or "")
            file.flush()

    @override
    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if action.nargs == argparse.PARSER:
            raise argparse.ArgumentError(None, f"unknown command {value}; {_hint(value, action.choices)}")
        raise argparse.ArgumentError(action, f"invalid choice {value!r}; {_hint(value, action.choices)}")

    @override
    def parse_known_args(  # type: ignore[override]  # argparse's are overloads that say the same
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = sys.argv[1:] if args is None else args
        return self._without_unknown(*super().parse_known_args(_with_negative_values(words), namespace))

    @override
    def parse_known_intermixed_args(  # type: ignore[override]  # since Python 3.13 it does without the one above
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        return self._without_unknown(*super().parse_known_intermixed_args(args, namespace))

    def _without_unknown(
        self, known: argparse.Namespace, rest: list[str]
    ) -> tuple[argparse.Namespace, list[str]]:
        for word in rest[: rest.index("--")] if "--" in rest else rest:
            if word.startswith("-") and word != "-":
                self.refuse(known, word)
        return known, rest

    def refuse(self, known: argparse.Namespace, option: str) -> None:  # noqa: ARG002 - for those that override it
        """Exit because of an unknown option; ``known`` is what was understood."""
        # Without the dashes, which all options have in common.
        options = {known.lstrip("-"): known for known in self._option_string_actions}
        near = _nearest(option.partition("=")[0].lstrip("-"), options)
        hint = f"did you mean {options[near]}?" if near else f"`{self.prog} --help` lists them"
        self.error(f"unknown option {option}; {hint}")


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    @override
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from collector.version import described  # noqa: PLC0415 - asks git

        with writing(sys.stdout):
            sys.stdout.write(f"{parser.prog} {described()}\n")
            sys.stdout.flush()
        parser.exit()


def _with_negative_values(words: Sequence[str]) -> list[str]:
    """Return the words with ``--for -5s`` as ``--for=-5s``, because argparse reads -5s as an option."""
    joined: list[str] = []
    for place, word in enumerate(words):
        if word == "--":
            return [*joined, *words[place:]]
        before = joined[-1] if joined else ""
        if re.match("-[0-9]", word) and before.startswith("--") and "=" not in before:
            joined[-1] = f"{before}={word}"
        else:
            joined.append(word)
    return joined


def _hint(value: str, choices: Iterable[Any]) -> str:
    names = [*map(str, choices)]
    also = ALSO_CALLED.get(value.lower())
    near = also if also in names else _nearest(value, names)
    return f"did you mean {near}?" if near else f"choose from {', '.join(names)}"


def _nearest(text: str, possible: Iterable[str]) -> str | None:
    from collector.catalog import nearest  # noqa: PLC0415 - help does without

    return next(iter(nearest(text, possible)), None)
