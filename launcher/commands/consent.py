"""Consent before something is removed: from a person at a terminal, or by an option."""

import argparse
import shlex
import sys

from launcher.commands import InputError
from launcher.console import Console


def ask(question: str, options: argparse.Namespace, console: Console) -> bool | None:
    """Return the answer, which `--yes` gives beforehand; None if there is no terminal to ask at."""
    if options.yes:
        return True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    console.remark(f"{question} Type yes:")
    return sys.stdin.readline().strip() == "yes"


def require(what: str, options: argparse.Namespace, console: Console, *, otherwise: str = "") -> None:
    """Raise InputError unless the user agrees to ``what``, such as "removes collector kraken".

    ``otherwise`` says how to avoid it.
    """
    hint = f" ({otherwise})" if otherwise else ""
    answer = ask(f"this {what}{hint}. Continue?", options, console)
    if answer is None:
        command = shlex.join(["launcher", *options.typed, "--yes"])
        raise InputError(
            f"nothing was touched: this {what}{hint}, and there is no terminal to ask on; to do it:\n"
            f"  {command}"
        )
    if not answer:
        raise InputError("nothing was touched")
