"""The commands that say what a fleet file may hold. Each returns the exit status."""

import argparse

from launcher.commands import DONE
from launcher.console import Console
from launcher.schema import text


def schema(_options: argparse.Namespace, console: Console) -> int:
    """Prints the JSON Schema of the fleet file."""
    console.say(text().rstrip())
    return DONE
