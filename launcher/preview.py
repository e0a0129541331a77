"""A plan for its readers: as text, and as the JSON that `up --plan` is checked against."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from launcher.engines import Change
from launcher.plan import Action, Kind, Obstacle, Plan

_SIGNS = {
    Kind.CREATE: "+",
    Kind.UPDATE: "~",
    Kind.RECREATE: "±",
    Kind.START: ">",
    Kind.REMOVE: "-",
    Kind.CONFLICT: "!",
}
_COUNTED = {
    Kind.CREATE: "to create",
    Kind.UPDATE: "to update",
    Kind.RECREATE: "to recreate",
    Kind.START: "to start",
    Kind.REMOVE: "to remove",
    Kind.CONFLICT: "in the way",
    Kind.KEEP: "kept",
    Kind.UNCHANGED: "unchanged",
}
_LONG = 60  # characters of a value that are shown
#: Why a key that changed needs a new container.
_FIXED = "needs a new container"
_VERSION = 1


def lines(plan: Plan, obstacles: Iterable[Obstacle] = ()) -> Iterator[str]:
    """Yield the obstacles, what would happen (actions, keys that change), and the totals."""
    yield from (f"! {obstacle}" for obstacle in obstacles)
    width = max((len(action.collector) for action in plan.changing), default=0)
    for action in plan.changing:
        yield f"{_SIGNS[action.kind]} {action.collector:{width}}  {action.kind}: {action.reason}"
        yield from (f"    {_told(change)}" for change in action.changes)
    yield f"fleet {plan.fleet.name}: {counted(plan)}"


def counted(plan: Plan) -> str:
    """Return the totals: ``1 to create, 2 unchanged``."""
    counts = {kind: len(plan.of(kind)) for kind in _COUNTED}
    return (
        ", ".join(f"{count} {_COUNTED[kind]}" for kind, count in counts.items() if count) or "no collectors"
    )


def document(plan: Plan, obstacles: Iterable[Obstacle] = ()) -> dict[str, Any]:
    """Return the plan as a JSON document, without any secret."""
    return {
        "version": _VERSION,
        "fleet": plan.fleet.name,
        "actions": [_action(action) for action in plan.actions],
        "obstacles": [msgspec.to_builtins(obstacle) for obstacle in obstacles],
    }


def moved(saved: Any, plan: Plan) -> list[str]:
    """Return what has changed since the document ``saved`` was made, one sentence each.

    Raises ValueError if ``saved`` is not a plan of this fleet.
    """
    now = document(plan)
    today = {_identity(action): action for action in now["actions"]}
    try:
        if (saved["version"], saved["fleet"]) != (now["version"], now["fleet"]):
            raise ValueError(f"is a plan of fleet {saved['fleet']}, version {saved['version']}")
        then = {_identity(action): action for action in saved["actions"]}
        return [
            f"{key[0]}: planned was {_kind(then.get(key))}, now it is {_kind(today.get(key))}"
            for key in dict.fromkeys([*then, *today])
            if then.get(key) != today.get(key)
        ]
    except (KeyError, TypeError) as error:
        raise ValueError("is not a plan written by `launcher plan --out`") from error


def _action(action: Action) -> dict[str, Any]:
    return {
        "collector": action.collector,
        "action": str(action.kind),
        "reason": action.reason,
        "config_hash": action.spec.config_hash if action.spec else None,
        "container": action.container.id if action.container else None,
        "changes": [msgspec.to_builtins(change) for change in action.changes],
    }


def _identity(action: dict[str, Any]) -> tuple[str, str | None]:
    """Return what identifies an action: a collector's container and leftovers of it have one each."""
    return action["collector"], None if action["config_hash"] else action["container"]


def _kind(action: dict[str, Any] | None) -> str:
    return f"{action['action']} ({action['reason']})" if action else "nothing"


def _told(change: Change) -> str:
    how = "in place" if change.in_place else _FIXED
    if (change.old, change.new) == ("***", "***"):
        return f"{change.key}: *** -> *** (changed; {how})"
    return f"{change.key}: {_short(change.old)} -> {_short(change.new)} ({how})"


def _short(value: str | None) -> str:
    if value is None:
        return "not set"
    return value if len(value) <= _LONG else f"{value[: _LONG - 3]}..."
