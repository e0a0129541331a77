"""The commands that describe the fleet file. Each returns the exit status."""

import argparse
import os
from collections.abc import Iterator

from collector.catalog import nearest
from collector.printable import printable
from collector.urls import masked
from launcher import fleet as fleets
from launcher.commands import DONE, InputError
from launcher.commands.files import as_input_error
from launcher.console import Console, Table
from launcher.explain import Explanation, explanations
from launcher.schema import text


def completion(options: argparse.Namespace, console: Console) -> int:
    """Print the script with which a shell completes commands and options."""
    import shtab  # noqa: PLC0415 - needed here alone

    from launcher.cli import parser  # noqa: PLC0415 - it imports this module, when a command runs

    console.say(shtab.complete(parser(), options.shell))
    return DONE


def schema(_options: argparse.Namespace, console: Console) -> int:
    """Print the JSON Schema of the fleet file."""
    console.say(text().rstrip())
    return DONE


def explain(options: argparse.Namespace, console: Console) -> int:
    """Explain a key and, given a fleet, where its values come from."""
    explanation = _find(options.key)
    key = explanation.key
    if options.json:
        console.json(_as_json(options, explanation))
        return DONE
    console.say(f"{explanation.name}: {key.meaning}")
    console.say(f"  allowed   {explanation.place}")
    console.say(f"  takes     {explanation.takes}")
    console.say(f"  default   {'none, it is required' if key.required else key.default or 'not set'}")
    if key.variable:
        console.say(f"  variable  {key.variable}")
    if options.file:
        console.say("")
        console.table(_table(options, explanation))
    return DONE


def _as_json(options: argparse.Namespace, explanation: Explanation) -> dict[str, object]:
    key = explanation.key
    about: dict[str, object] = {
        "key": explanation.name,
        "meaning": key.meaning,
        "allowed": explanation.place,
        "takes": explanation.takes,
        "default": key.default,
        "required": key.required,
        "variable": key.variable,
    }
    if options.file:
        origins = _origins(options, explanation)
        about["values"] = [dict(zip(("of", "value", "from"), row, strict=True)) for row in origins]
    return about


def _find(name: str) -> Explanation:
    known = explanations()
    if "/" in name or name.endswith((".yaml", ".yml")):
        usage = f"`launcher explain KEY {name}`, KEY of {', '.join(known)}"
        raise InputError(f"a KEY comes before the file: {usage}")
    # limits.memory may be called memory; if several end alike, as with name, the exact match wins.
    spellings = {each.rpartition(".")[2]: each for each in known} | {each: each for each in known}
    if name.lower() in spellings:
        return known[spellings[name.lower()]]
    near = dict.fromkeys(spellings[each] for each in nearest(name, spellings, 3))
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
    raise InputError(f"a fleet file has no key {name}; {hint}")


def _table(options: argparse.Namespace, explanation: Explanation) -> Table:
    table = Table("FLEET" if explanation.place == "at the top" else "COLLECTOR", "VALUE", "FROM")
    for row in _origins(options, explanation):
        table.add(*row)
    return table


def _origins(options: argparse.Namespace, explanation: Explanation) -> Iterator[tuple[str, str, str]]:
    """Return a table of each value, what it applies to, and where it comes from."""
    key = explanation.key
    try:
        origins = fleets.origins(options.file, os.environ, explanation.name)
    except fleets.FleetError as error:
        raise as_input_error(error) from error
    for origin in origins:
        if origin.place is None or not origin.where:
            yield origin.of, key.default or "", "default"
        else:
            text = origin.text or key.default or ""
            value = "***" if key.secret and origin.text else printable(masked(text))
            yield origin.of, value, f"{origin.where}, {origin.place.file}:{origin.place.line}"
