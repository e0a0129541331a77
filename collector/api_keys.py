"""API keys in a cryptofeed configuration file: ``coinbase: {key_id: ..., key_secret: ...}``.

https://github.com/bmoscon/cryptofeed/blob/master/config.yaml has an example: key_id, key_secret,
key_passphrase.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

#: Most levels of nested lists and mappings.
DEEPEST = 50
_SECRET = re.compile(r"key|secret|pass|token", re.IGNORECASE)


class _UnfitError(Exception):
    """YAML that would take too much to read."""


def read(content: bytes) -> tuple[str, ...]:
    """Return the keys in such a file.

    Raises ValueError if it is not a configuration of cryptofeed; the message quotes nothing of it.
    """
    import yaml  # noqa: PLC0415 - slow; needed only with such a file

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(content, loader))
        configuration = yaml.load(content, loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"is not YAML{line}") from None
    except _UnfitError as error:
        raise ValueError(str(error)) from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError("is not YAML") from None  # PyYAML does not catch the errors of its constructors
    if not isinstance(configuration, dict) or not all(isinstance(key, str) for key in configuration):
        raise ValueError(
            "line 1 does not begin a mapping of names to values, such as `coinbase: {key_id: ...}`"
        )
    return tuple(dict.fromkeys(filter(None, _secrets(configuration))))


def _check_events(events: Iterable[Any]) -> None:
    """Raise _UnfitError if a file's lists and mappings are nested too deeply, or too many when merged."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > DEEPEST:
            raise _UnfitError("is nested too deeply")
        if kind == "ScalarEvent" and event.value == "<<":
            raise _UnfitError("has a merge key, <<; write out what it stands for")


def _secrets(configuration: Any) -> Iterator[str]:
    """Find the values whose names say that they are secret; aliases may be circular."""
    waiting, seen = [("", configuration)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict | list):
            if (name, id(value)) not in seen:
                seen.add((name, id(value)))
                named = value.items() if isinstance(value, dict) else ((name, each) for each in value)
                waiting += reversed([(str(key), each) for key, each in named])
        elif _SECRET.search(name) and value is not None:
            yield str(value)
