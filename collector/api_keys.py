"""The API keys in a configuration file of cryptofeed's: ``coinbase: {key_id: ..., key_secret: ...}``.

https://github.com/bmoscon/cryptofeed/blob/master/config.yaml shows one: key_id, key_secret, key_passphrase.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

#: Lists and mappings within each other.
DEEPEST = 50
_SECRET = re.compile(r"key|secret|pass|token", re.IGNORECASE)


class _UnfitError(Exception):
    """YAML that takes too much to read."""


def read(content: bytes) -> tuple[str, ...]:
    """Return the keys in such a file.

    Raises ValueError if it is no configuration of cryptofeed; the message quotes nothing of it.
    """
    import yaml  # noqa: PLC0415 - only who has such a file waits for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(content, loader))
        configuration = yaml.load(content, loader)  # noqa: S506 - it is a safe one
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"is not YAML{line}") from None
    except _UnfitError as error:
        raise ValueError(str(error)) from None
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ValueError("is not YAML") from None  # PyYAML lets out what its constructors stumble over
    if not isinstance(configuration, dict) or not all(isinstance(key, str) for key in configuration):
        raise ValueError(
            "line 1 does not begin a mapping of names to values, such as `coinbase: {key_id: ...}`"
        )
    return tuple(dict.fromkeys(filter(None, _secrets(configuration))))


def _check_events(events: Iterable[Any]) -> None:
    """Raise _UnfitError if a file's lists and mappings would be too deep, or too many when merged."""
    depth = 0
    for event in events:
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > DEEPEST:
            raise _UnfitError("is nested too deeply")
        if kind == "ScalarEvent" and event.value == "<<":
            raise _UnfitError("has a merge key, <<; write out what it stands for")


def _secrets(configuration: Any) -> Iterator[str]:
    """Find the values whose name says that they are secret; an alias may lead back to what holds it."""
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
