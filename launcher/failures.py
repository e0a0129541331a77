"""Why a container does not start or get ready, and what to do about it."""

from collections.abc import Mapping
from typing import NamedTuple

from collector.health import Status, by_reason
from launcher.engines import Condition

#: The remedy if only the log can tell.
_SEE_LOG = "the last lines of its log say why"
_MEANINGS = {
    78: ("wrong settings", "fix what {log} says"),
    137: ("killed, or out of memory", "raise `limits.memory`, if it is limited; `launcher doctor` tries it"),
}


class Cause(NamedTuple):
    """What is wrong, and what to do about it."""

    detail: str
    remedy: str = ""


def of_death(condition: Condition) -> Cause:
    """Return why a container is not running."""
    if condition.error:
        return Cause(condition.error)
    if condition.state == "running":
        times = "once" if condition.restarts == 1 else f"{condition.restarts} times"
        return Cause(f"exited, and was restarted {times}", _SEE_LOG)
    ending = _of_ending(condition.exit_code, "its log", _SEE_LOG)
    return ending._replace(detail=f"{condition.state}: {ending.detail}")


def of_rest(condition: Condition, collector: str) -> Cause:
    """Return the same where nobody waits for the container, so that its log is not shown beside it."""
    if condition.error:
        return Cause(condition.error)
    if condition.state == "created":
        return Cause("it was never started")
    if condition.state == "paused":
        return Cause("somebody paused it, and it records nothing")
    if not condition.exit_code:  # in order, as somebody wanted
        return Cause("ended with status 0")
    log = f"`launcher logs {collector}`"
    return _of_ending(condition.exit_code, log, f"{log} says why")


def _of_ending(exit_code: int, log: str, otherwise: str) -> Cause:
    meaning, remedy = _MEANINGS.get(exit_code, ("", otherwise))
    told = f" ({meaning})" if meaning else ""
    return Cause(f"ended with status {exit_code}{told}", remedy.format(log=log))


def of_status(status: Status) -> Cause | None:
    """Return what prevents a collector from getting ready until somebody intervenes."""
    if status.state == "failed":
        return Cause(status.detail)
    if refused := status.subscriptions.refused:
        remedy = f"`launcher symbols {status.exchange}` lists what the exchange has now"
        return Cause(f"refused by the exchange: {by_reason(refused)}", remedy)
    if status.store.state == "refused":
        remedy = "check the store's `user`, `password` and `database`"
        if "the user lacks a right" in (status.store.error or ""):
            remedy = "`launcher doctor` names the right, and how to grant it"
        return Cause(f"refused by the store: {status.store.error}", remedy)
    return None


def of_delay(seconds: float, detail: str, status: Status | None) -> Cause:
    """Return why a container did not get ready in time.

    Args:
        seconds: how long it was waited for.
        detail: what it was itself waiting for.
        status: its last status; None if it has written none, or does not write any.
    """
    if status and status.subscriptions.overlapping:
        left_out, remedy = of_overlap(status.subscriptions.overlapping)
        return Cause(f"not ready after {seconds:g} s: {left_out}", remedy)
    if status is None:
        remedy = f"{_SEE_LOG}; --wait-timeout waits longer"
    elif status.store.state != "connected":
        remedy = "`launcher doctor` tries the store from where the collector runs"
    else:
        remedy = "`launcher doctor` tries the exchange from where it runs; --wait-timeout waits longer"
    return Cause(f"not ready after {seconds:g} s: {detail}", remedy)


def of_ill_health(seconds: float, detail: str, collector: str) -> Cause:
    """Return why a container that the engine calls unhealthy is not ready in time; see ``of_delay``."""
    remedy = f"{_SEE_LOG}; `launcher restart {collector}` starts it again"
    return Cause(f"unhealthy, and not ready after {seconds:g} s: {detail}", remedy)


def of_overlap(overlapping: Mapping[str, str]) -> Cause:
    """Return what a collector leaves out, and who stores it.

    ``overlapping`` has the reason by channel and symbol.
    """
    return Cause(
        f"left out {len(overlapping):,} of its subscriptions: {by_reason(overlapping)}",
        "stop the other collector, leave these symbols out of one of the two, or set `allow_overlap: true` to"
        " store them twice",
    )
