"""``doctor``: can this fleet run here? Faults with remedies, and whatever could not be tried."""

import argparse
from collections.abc import Iterable, Sequence

from launcher.commands import DONE, FAILED, INCOMPLETE
from launcher.commands.diagnosis import FAULT, FINE, SKIPPED, Finding, findings
from launcher.commands.files import load
from launcher.console import Console, listed

type _Cause = tuple[str, str, str, str]


def doctor(options: argparse.Namespace, console: Console) -> int:
    """Try all that the fleet needs, and say what is wrong and what to do about it."""
    fleet = load(options, console, hints=False)
    found = []
    for finding in findings(fleet, options.parallel):
        found.append(finding)
        if finding.state == FINE and not options.json:
            _show([finding], console)
    if options.json:
        console.json(found)
    else:
        for alike in _by_cause(each for each in found if each.state not in (FINE, SKIPPED)):
            _show(alike, console)
        _show_skipped(found, console)
        console.say(f"fleet {fleet.name}: {_verdict(found)}")
    if any(finding.state == FAULT for finding in found):
        return FAILED
    return INCOMPLETE if any(finding.state == SKIPPED for finding in found) else DONE


def _by_cause(found: Iterable[Finding]) -> list[list[Finding]]:
    """Group findings that differ only in whose they are."""
    causes: dict[_Cause, list[Finding]] = {}
    for each in found:
        causes.setdefault((each.what, each.state, each.detail, each.remedy), []).append(each)
    return [*causes.values()]


def _show(alike: Sequence[Finding], console: Console) -> None:
    """Print findings of one cause."""
    first = alike[0]
    whose = first.collector or "-" if len(alike) == 1 else f"{len(alike)} collectors"
    of = "" if len(alike) == 1 else f" ({_whose(alike)})"
    console.say(f"{whose:16} {first.what:9} {first.state:8} {first.detail}{of}")
    if first.remedy:
        console.say(f"{'':36}{first.remedy}")


def _show_skipped(found: Iterable[Finding], console: Console) -> None:
    """Print what could not be tried, a line for each reason."""
    skipped = [each for each in found if each.state == SKIPPED]
    if not skipped:
        return
    console.say(f"{_checks(len(skipped))} could not be made:")
    by_reason: dict[str, list[Finding]] = {}
    for each in skipped:
        by_reason.setdefault(each.detail, []).append(each)
    for reason, alike in by_reason.items():
        what = ", ".join(dict.fromkeys(each.what for each in alike))
        console.say(f"  {what} of {_whose(alike)}: {reason}")


def _whose(alike: Iterable[Finding]) -> str:
    return listed(dict.fromkeys(each.collector or "the machine" for each in alike))


def _verdict(found: Sequence[Finding]) -> str:
    faults = sum(each.state == FAULT for each in found)
    skipped = sum(each.state == SKIPPED for each in found)
    if faults:
        rest = f"; {_checks(skipped)} could not be made" if skipped else ""
        return f"{faults} fault{'s' * (faults > 1)}{rest}"
    if skipped:
        return f"no fault was found, but {_checks(skipped)} could not be made"
    return "ready to start"


def _checks(count: int) -> str:
    return f"{count} check{'s' * (count != 1)}"
